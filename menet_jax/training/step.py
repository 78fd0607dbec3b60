"""The training step as a plain function, and mapped over devices; `model.inference` has the evaluation step."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from menet_jax.model.inference import Maps, Params, map_evaluation
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.losses import cross_entropy, metric_loss
from menet_jax.runtime.devices import DEVICES, put_everywhere, share
from menet_jax.training.config import Config, LossConfig
from menet_jax.training.network import background_region, network
from menet_jax.training.optimizer import make_optimizer

SMALL = 2**16
"""Entries up to which a tensor is small: copying so many costs nothing beside a training step."""


class TrainState(struct.PyTreeNode):
    """The state that a training step reads and writes."""

    step: jax.Array | np.ndarray
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    rng: jax.Array | np.ndarray
    """Key data of the run's random stream; carried for stochastic layers or losses, which the paper has none of."""

    @property
    def variables(self) -> dict[str, Params]:
        """The variables that the network is applied with."""
        return {"params": self.params, "batch_stats": self.batch_stats}


class Batch(NamedTuple):
    """Images and labels as they come from the host."""

    images: UInt8[Array | np.ndarray, "*b h w 3"]
    labels: Bool[Array | np.ndarray, "*b h w"]


class LossTerms(NamedTuple):
    """The terms of Eq. 4, each without its weight; scalars, means over the batch."""

    metric_loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]


class Metrics(NamedTuple):
    """Metrics of a step; scalars, over the global batch."""

    loss: Float[Array, ""]
    metric_loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    parameter_norm: Float[Array, ""]
    """After the step."""


def create_state(config: Config) -> TrainState:
    """A fresh state on the host: the same to the last bit for the same seed and network, on every platform.

    Nothing is compiled; `initial_variables` says what it depends on. The optimizer begins with zeros.
    """
    variables = initial_variables(network(config), config.seed)
    optimizer = jax.eval_shape(make_optimizer(config.optimizer).init, variables["params"])
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), optimizer)
    key = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    return TrainState(np.zeros((), np.int32), variables["params"], variables["batch_stats"], zeros, key)


def total_loss(
    net: nn.Module, config: LossConfig, params: Params, batch_stats: Params, batch: Batch
) -> tuple[Float[Array, ""], tuple[Params, LossTerms]]:
    """Eq. 4, mean over the batch, `w_metric · mean ℓ_metric + w_ce · mean ℓ_ce`, w the config's weights; with the new
    batch statistics and the terms.

    On several devices it is of this one's share: `train_step` takes the mean over all.
    """
    outputs, updates = net.apply(
        {"params": params, "batch_stats": batch_stats},
        batch.images.astype(jnp.float32),
        train=True,
        mutable=["batch_stats"],
    )
    labels = jnp.asarray(batch.labels)
    metric = jnp.zeros(())
    if outputs.features is not None:
        of_image = partial(metric_loss, squared=config.squared, mining=config.mining, stop_centres=config.stop_centres)
        metric = jnp.mean(jax.vmap(of_image)(outputs.features, labels))
    entropy = jnp.mean(jax.vmap(cross_entropy)(outputs.logits, labels))
    loss = config.metric * metric + config.cross_entropy * entropy
    return loss, (updates["batch_stats"], LossTerms(metric, entropy))


def train_step(
    net: nn.Module, optimizer: optax.GradientTransformation, config: LossConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """One step on this device's share of the batch; runs under a map over the axis `net.axis_name`."""
    value_and_grad = jax.value_and_grad(total_loss, argnums=2, has_aux=True)
    (loss, (batch_stats, terms)), grads = value_and_grad(net, config, state.params, state.batch_stats, batch)
    if net.axis_name is not None:
        loss, terms, grads = lax.pmean((loss, terms, grads), net.axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = Metrics(loss, **terms._asdict(), gradient_norm=norm(grads), parameter_norm=norm(params))
    return state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state), metrics


def norm(tree: Any) -> Float[Array, ""]:
    """√(Σ x²) over all entries of all tensors.

    Small ones are put together first, because a reduction for every shape takes longer to compile than to run.
    """
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size <= SMALL]
    large = [leaf for leaf in leaves if leaf.size > SMALL]
    together = [jnp.concatenate(small)] if small else []
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in [*together, *large]), start=jnp.zeros(())))


class Mapped(NamedTuple):
    """The steps mapped over this process's devices, all of which hold the same state and variables."""

    train: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    """Takes this process's share of the global batch; donates the state it is given."""
    evaluate: Callable[[Mapping[str, Params], UInt8[np.ndarray, "b h w 3"]], Maps]
    """Takes this process's images; no other process need take part."""
    replicate: Callable[[Any], Any]
    """A tree of arrays → the same on every device, see `put_everywhere`."""


def mapped_train_step(config: Config, devices: Sequence[jax.Device]) -> Any:
    """`train_step` under `pmap`: batches carry a leading device axis, and all devices hold the same state.

    It donates the state it is given. A state with a device axis would be reshaped tensor by tensor on its way in and
    out, which takes a tenth of the time to compile.
    """
    several = jax.process_count() > 1
    # The mean over a single device is not computed: it would take longer to compile.
    axis = DEVICES if several or len(devices) > 1 else None
    step = partial(train_step, network(config, axis), make_optimizer(config.optimizer), config.loss)
    used = None if several else devices
    return jax.pmap(step, axis_name=DEVICES, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=used)


def map_over_devices(config: Config, devices: Sequence[jax.Device]) -> Mapped:
    """Map the steps by `pmap` over this process's devices and, with several processes, those of all of them.

    Batch statistics, losses and gradients are those of the global batch, on any number of devices. So a step depends on
    it by the rounding of float32 alone, which many steps at a high learning rate let grow.
    """
    n, train = len(devices), mapped_train_step(config, devices)

    def train_shares(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train(state, jax.tree.map(partial(share, n=n), batch))

    evaluate = map_evaluation(network(config), background_region(config.loss), devices)
    # Arrays of the host would have the step traced and compiled for them, and again for its own results.
    return Mapped(train_shares, evaluate, partial(put_everywhere, devices=devices))


def first_replica(tree: Any) -> Any:
    """A host copy of what all devices hold the same of."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data), tree)


def check_batch(batch_size: int, devices: int) -> None:
    """Raise ValueError unless the global batch divides by the devices, naming the nearest sizes that do."""
    if batch_size % devices:
        below = batch_size // devices * devices
        sizes = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ValueError(f"--batch-size {batch_size} does not divide by {devices} devices; try {sizes}")

"""One training step and one evaluation step as plain functions, and the one place that maps them over devices."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from menet_jax.model.initialisation import initial_variables
from menet_jax.model.losses import cross_entropy, metric_loss
from menet_jax.model.menet import MENet, Outputs
from menet_jax.model.saliency import Region, border, border_background, metric_map, probability_map
from menet_jax.training.config import Config, LossConfig, OptimizerConfig

DEVICES = "devices"  # name of the mapped axis

SMALL = 2**16
"""Entries up to which a tensor is small: copying so many costs nothing beside a training step."""

Params = dict[str, Any]


class TrainState(struct.PyTreeNode):
    """Everything that a training step reads and writes."""

    step: jax.Array | np.ndarray
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    rng: jax.Array | np.ndarray
    """Key data of the run's random stream; carried for stochastic layers or losses, which the paper has none of."""


class Batch(NamedTuple):
    """Images and labels as they come from the host."""

    images: UInt8[Array | np.ndarray, "*b h w 3"]
    labels: Bool[Array | np.ndarray, "*b h w"]


class Metrics(NamedTuple):
    """What a step says of itself; scalars, over the global batch."""

    loss: Float[Array, "*d"]
    metric_loss: Float[Array, "*d"]
    cross_entropy: Float[Array, "*d"]
    gradient_norm: Float[Array, "*d"]
    parameter_norm: Float[Array, "*d"]
    """After the step."""


class Maps(NamedTuple):
    """Saliency maps in [0, 1] (Section III-C)."""

    metric: Float[Array | np.ndarray, "*b h w"]
    probability: Float[Array | np.ndarray, "*b h w"]


def network(config: Config, axis_name: str | None = None) -> MENet:
    """The network of a configuration."""
    return MENet(config.model.width, config.model.multi_scale, jnp.dtype(config.model.precision), axis_name)


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """Step (from 0) → learning rate: a linear warm-up, and a tenth from every drop on (Section IV-B)."""

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        passed = jnp.sum(now >= jnp.array(config.drops, jnp.float32), dtype=jnp.float32)
        warm = jnp.minimum((now + 1.0) / config.warmup, 1.0) if config.warmup else 1.0
        return config.learning_rate * warm * 0.1**passed

    return rate


def _where(kind: Callable[[Any], bool]) -> Callable[[Params], Any]:
    """Params → a tree of booleans, true where `kind` holds of the path."""
    return lambda params: flax.traverse_util.path_aware_map(lambda path, _: kind(path), params)


def _is_kernel(path: tuple[str, ...]) -> bool:
    return path[-1] == "kernel"


def _is_conv_bias(path: tuple[str, ...]) -> bool:
    return path[-1] == "bias" and "norm" not in path[-2]


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """SGD as in Caffe: `v ← μ·v + η·(g + decay·w)`, `w ← w − v`.

    Weight decay acts on convolution weights alone; convolution biases learn at `bias_rate · η`. The learning rate
    is inside the momentum buffer, as in Caffe: after a drop, past steps keep the size they had.
    """
    rate = learning_rate(config)
    return optax.chain(
        optax.masked(optax.add_decayed_weights(config.weight_decay), _where(_is_kernel)),
        optax.masked(optax.scale(config.bias_rate), _where(_is_conv_bias)),
        optax.scale_by_learning_rate(rate),
        optax.trace(config.momentum),
    )


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
    net: MENet, config: LossConfig, params: Params, batch_stats: Params, batch: Batch
) -> tuple[Float[Array, ""], tuple[Params, Float[Array, ""], Float[Array, ""]]]:
    """Eq. 4, mean over the batch; with the new batch statistics, the metric loss and the cross entropy."""
    outputs, updates = net.apply(
        {"params": params, "batch_stats": batch_stats},
        batch.images.astype(jnp.float32),
        train=True,
        mutable=["batch_stats"],
    )
    labels = jnp.asarray(batch.labels)
    of_image = partial(metric_loss, squared=config.squared, mining=config.mining, stop_centres=config.stop_centres)
    metric = jnp.mean(jax.vmap(of_image)(outputs.features, labels))
    entropy = jnp.mean(jax.vmap(cross_entropy)(outputs.logits, labels))
    loss = config.metric * metric + config.cross_entropy * entropy
    return loss, (updates["batch_stats"], metric, entropy)


def train_step(
    net: MENet, optimizer: optax.GradientTransformation, config: LossConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """One step on this device's share of the batch; runs under a map over the axis `net.axis_name`."""
    value_and_grad = jax.value_and_grad(total_loss, argnums=2, has_aux=True)
    (loss, aux), grads = value_and_grad(net, config, state.params, state.batch_stats, batch)
    batch_stats, metric, entropy = aux
    if net.axis_name is not None:
        loss, metric, entropy, grads = lax.pmean((loss, metric, entropy, grads), net.axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = Metrics(loss, metric, entropy, norm(grads), norm(params))
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


def background_region(config: LossConfig) -> Region:
    """From where the metric map of a network trained with this loss measures: logits that no loss trained say nothing
    of where background is.
    """
    return border_background if config.cross_entropy else border


def eval_step(
    net: MENet,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> Maps:
    """Both saliency maps of every image."""
    return outputs_and_maps(net, variables, images, region)[1]


def outputs_and_maps(
    net: MENet,
    variables: Mapping[str, Params],
    images: UInt8[Array, "b h w 3"],
    region: Region = border_background,
) -> tuple[Outputs, Maps]:
    """All that the network says of every image, and both saliency maps."""
    outputs: Any = net.apply(variables, images.astype(jnp.float32))
    metric = jax.vmap(partial(metric_map, region=region))(outputs.features, outputs.logits)
    return outputs, Maps(metric, probability_map(outputs.logits))


class Mapped(NamedTuple):
    """The steps mapped over this process's devices; states and variables carry a leading device axis."""

    train: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    """Takes this process's share of the global batch; donates the state it is given."""
    evaluate: Callable[[Mapping[str, Params], UInt8[np.ndarray, "b h w 3"]], Maps]
    """Takes this process's images; no other process need take part."""
    replicate: Callable[[Any], Any]
    """One tree → the same on every device."""


def mapped_train_step(config: Config, devices: Sequence[jax.Device]) -> Any:
    """`train_step` under `pmap`: states and batches carry a leading device axis; donates the state it is given."""
    step = partial(train_step, network(config, DEVICES), make_optimizer(config.optimizer), config.loss)
    everywhere = None if jax.process_count() > 1 else devices
    return jax.pmap(step, axis_name=DEVICES, donate_argnums=0, devices=everywhere)


def mapped_eval_step(config: Config, devices: Sequence[jax.Device]) -> Any:
    """`eval_step` under `pmap`: variables and images carry a leading device axis."""
    to_maps = partial(eval_step, network(config), region=background_region(config.loss))
    return jax.pmap(to_maps, devices=devices)


def map_over_devices(config: Config, devices: Sequence[jax.Device]) -> Mapped:
    """Map the steps by `pmap` over this process's devices and, with several processes, those of all of them.

    The result does not depend on the number of devices: batch statistics, losses and gradients are those of the
    global batch.
    """
    n = len(devices)
    train, evaluate = mapped_train_step(config, devices), mapped_eval_step(config, devices)

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(n, -1, *x.shape[1:])

    def train_split(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        result: tuple[TrainState, Metrics] = train(state, jax.tree.map(split, batch))
        return result

    def evaluate_split(variables: Mapping[str, Params], images: np.ndarray) -> Maps:
        maps = evaluate(variables, split(images))
        return Maps(*(np.asarray(m).reshape(-1, *m.shape[2:]) for m in maps))

    def replicate(tree: Any) -> Any:
        return jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), tree)

    return Mapped(train_split, evaluate_split, replicate)


def first_replica(tree: Any) -> Any:
    """A host copy of what every device holds the same of."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data).reshape(x.shape[1:]), tree)


def check_batch(batch_size: int, devices: int) -> None:
    """Raise ValueError unless the global batch divides by the devices, naming the nearest sizes that do."""
    if batch_size % devices:
        below = batch_size // devices * devices
        sizes = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ValueError(f"--batch-size {batch_size} does not divide by {devices} devices; try {sizes}")

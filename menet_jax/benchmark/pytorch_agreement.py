"""How far the network and the same one in PyTorch agree."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from menet_jax.benchmark.pytorch_network import TorchMENet, maps, total_loss
from menet_jax.model.inference import outputs_and_maps
from menet_jax.model.menet import MENet
from menet_jax.model.pytorch.names import to_state_dict
from menet_jax.training.config import LossConfig
from menet_jax.training.step import Batch
from menet_jax.training.step import total_loss as our_total_loss

MOMENTUM = 0.9
"""Share of the running statistics that a step keeps."""

Arrays = dict[str, np.ndarray]


def ours(net: MENet, variables: Mapping[str, Any], batch: Batch, compiler: Mapping[str, Any]) -> Arrays:
    """Outputs, maps, losses and gradients by the authors' names, in float32 or float64; arrays channels last.

    `compiler` are options of XLA's.
    """

    @partial(jax.jit, compiler_options=dict(compiler))
    def compute(variables: Any, batch: Batch) -> Any:
        params, statistics = variables["params"], variables["batch_stats"]
        evaluated = outputs_and_maps(net, variables, jnp.asarray(batch.images))
        images = batch.images.astype(jnp.float32)
        trained, _ = net.apply(variables, images, train=True, mutable=["batch_stats"])
        value_and_grad = jax.value_and_grad(our_total_loss, argnums=2, has_aux=True)
        (loss, (_, terms)), grads = value_and_grad(net, LossConfig(), params, statistics, batch)
        losses = {"total": loss, "metric": terms.metric_loss, "cross entropy": terms.cross_entropy}
        return evaluated, trained, losses, grads

    (outputs, saliency), trained, losses, grads = compute(variables, batch)
    found = {f"output {name}": value for name, value in outputs._asdict().items()}
    found |= {f"map {name}": value for name, value in saliency._asdict().items()}
    found |= {f"training output {name}": value for name, value in trained._asdict().items()}
    found |= {f"loss {name}": value for name, value in losses.items()}
    named = to_state_dict({"params": grads, "batch_stats": variables["batch_stats"]})
    found |= {f"gradient {name}": value for name, value in named.items() if "running" not in name}
    return {name: np.asarray(value) for name, value in found.items()}


def theirs(network: TorchMENet, batch: Batch) -> Arrays:
    """The same of the PyTorch network, in the type of its parameters; its statistics move by one step."""
    dtype = next(network.parameters()).dtype
    images = torch.from_numpy(np.asarray(batch.images)).permute(0, 3, 1, 2).to(dtype)
    labels = torch.from_numpy(np.asarray(batch.labels))
    with torch.inference_mode():
        outputs = network.eval()(images)
        saliency = dict(zip(("metric", "probability"), maps(outputs), strict=True))
    trained = network.train()(images)
    losses = dict(zip(("total", "metric", "cross entropy"), total_loss(trained, labels), strict=True))
    network.zero_grad()
    losses["total"].backward()
    found = {f"output {name}": value.permute(0, 2, 3, 1) for name, value in outputs._asdict().items()}
    found |= {f"map {name}": value for name, value in saliency.items()}
    found |= {f"training output {name}": value.permute(0, 2, 3, 1) for name, value in trained._asdict().items()}
    found |= {f"loss {name}": value for name, value in losses.items()}
    found |= {f"gradient {name}": value.grad for name, value in network.named_parameters()}
    return {name: value.detach().numpy() for name, value in found.items()}


def settled(net: MENet, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """The variables with the statistics of the batch as the running ones, as a trained network has them."""
    images = jnp.asarray(batch.images, jnp.float32)
    update = jax.jit(partial(net.apply, train=True, mutable=["batch_stats"]))
    moved = update({**variables, "batch_stats": jax.tree.map(np.zeros_like, variables["batch_stats"])}, images)[1]
    statistics = jax.tree.map(lambda share: share / (1 - MOMENTUM), moved["batch_stats"])
    return jax.device_get({"params": variables["params"], "batch_stats": statistics})


def both(
    width: int, variables: Mapping[str, Any], batch: Batch, precision: str, **compiler: Any
) -> tuple[Arrays, Arrays]:
    """Ours and PyTorch's, of the same variables, in float32 or float64; `compiler` are options of XLA's."""
    # Training casts images to float32, which a network in float64 takes only where types may be promoted.
    with jax.enable_x64(precision == "float64"), jax.numpy_dtype_promotion("standard"):
        cast = jax.tree.map(lambda leaf: np.asarray(leaf, precision), dict(variables))
        own = ours(MENet(width, dtype=jnp.dtype(precision)), cast, batch, compiler)
    network = TorchMENet(width).to(getattr(torch, precision))
    network.load_state_dict({name: torch.tensor(value) for name, value in to_state_dict(cast).items()})
    return own, theirs(network, batch)


def differences(own: Arrays, other: Arrays) -> dict[str, float]:
    """The largest difference relative to the largest value, by name; for gradients, norms in their place."""
    gradients = [name for name in own if name.startswith("gradient")]
    found = {name: _largest(own[name] - other[name]) / _largest(own[name]) for name in own if name not in gradients}
    apart = [_norm([own[name] - other[name]]) for name in gradients]
    whole = _norm([own[name] for name in gradients])
    return found | {
        f"gradient, {len(gradients)} parameters": _norm([np.array(apart)]) / whole,
        "gradient, worst of these": max(apart) / whole,
    }


def _largest(x: np.ndarray | np.floating) -> float:
    return float(np.max(np.abs(x)))


def _norm(arrays: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))

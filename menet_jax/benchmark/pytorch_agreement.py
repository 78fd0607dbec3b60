"""How far the network and its PyTorch twin agree."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from menet_jax.authors import to_state_dict
from menet_jax.benchmark.pytorch_twin import Twin, maps, total_loss
from menet_jax.config import LossConfig
from menet_jax.model import MENet
from menet_jax.training import Batch, outputs_and_maps
from menet_jax.training import total_loss as our_total_loss

Arrays = dict[str, np.ndarray]


def ours(net: MENet, variables: Mapping[str, Any], batch: Batch, compiler: Mapping[str, Any] | None = None) -> Arrays:
    """Outputs, maps, losses and gradients by the authors' names; arrays channels last.

    Args:
        net: computes in float32 or float64.
        variables: of it.
        batch: images and labels.
        compiler: options of it.
    """

    @partial(jax.jit, compiler_options=dict(compiler or {}))
    def compute(variables: Any, batch: Batch) -> Any:
        params, statistics = variables["params"], variables["batch_stats"]
        evaluated = outputs_and_maps(net, variables, batch.images)
        images = batch.images.astype(jnp.float32)
        trained, _ = net.apply(variables, images, train=True, mutable=["batch_stats"])
        value_and_grad = jax.value_and_grad(our_total_loss, argnums=2, has_aux=True)
        (loss, (_, metric, entropy)), grads = value_and_grad(net, LossConfig(), params, statistics, batch)
        return evaluated, trained, {"total": loss, "metric": metric, "cross entropy": entropy}, grads

    (outputs, saliency), trained, losses, grads = compute(variables, batch)
    found = {f"output {name}": value for name, value in outputs._asdict().items()}
    found |= {f"map {name}": value for name, value in saliency._asdict().items()}
    found |= {f"training output {name}": value for name, value in trained._asdict().items()}
    found |= {f"loss {name}": value for name, value in losses.items()}
    named = to_state_dict({"params": grads, "batch_stats": variables["batch_stats"]})
    found |= {f"gradient {name}": value for name, value in named.items() if "running" not in name}
    return {name: np.asarray(value) for name, value in found.items()}


def theirs(twin: Twin, batch: Batch) -> Arrays:
    """The same of the twin, which computes in what its parameters are; its statistics move by one step."""
    dtype = next(twin.parameters()).dtype
    images = torch.from_numpy(np.asarray(batch.images)).permute(0, 3, 1, 2).to(dtype)
    labels = torch.from_numpy(np.asarray(batch.labels))
    with torch.inference_mode():
        outputs = twin.eval()(images)
        saliency = dict(zip(("metric", "probability"), maps(outputs), strict=True))
    trained = twin.train()(images)
    losses = dict(zip(("total", "metric", "cross entropy"), total_loss(trained, labels), strict=True))
    twin.zero_grad()
    losses["total"].backward()
    found = {f"output {name}": value.permute(0, 2, 3, 1) for name, value in outputs._asdict().items()}
    found |= {f"map {name}": value for name, value in saliency.items()}
    found |= {f"training output {name}": value.permute(0, 2, 3, 1) for name, value in trained._asdict().items()}
    found |= {f"loss {name}": value for name, value in losses.items()}
    found |= {f"gradient {name}": value.grad for name, value in twin.named_parameters()}
    return {name: value.detach().numpy() for name, value in found.items()}


def settled(net: MENet, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
    """The variables with the statistics of the batch as the running ones, as a trained network has them."""
    images = jnp.asarray(batch.images, jnp.float32)
    update = jax.jit(partial(net.apply, train=True, mutable=["batch_stats"]))
    before, after = variables["batch_stats"], update(variables, images)[1]["batch_stats"]
    momentum = 0.9
    statistics = jax.tree.map(lambda old, new: (new - momentum * old) / (1 - momentum), before, after)
    return {"params": variables["params"], "batch_stats": statistics}


def difference(own: np.ndarray, other: np.ndarray) -> float:
    """`max |own − other| / max |own|`."""
    return float(np.max(np.abs(own - other)) / max(np.max(np.abs(own)), np.finfo(own.dtype).tiny))


def summary(own: Arrays, other: Arrays) -> list[str]:
    """How far both agree, a line each; of gradients the whole, and the parameter that differs most."""
    plain = [name for name in own if not name.startswith("gradient")]
    lines = [f"  {name:28} {difference(own[name], other[name]):8.1e}" for name in plain]
    names = [name for name in own if name.startswith("gradient")]
    squared = {name: float(np.sum((own[name] - other[name]) ** 2.0)) for name in names}
    norm = float(np.sqrt(sum(np.sum(own[name] ** 2.0) for name in names)))
    worst = max(squared, key=lambda name: squared[name])
    lines += [
        f"  {'gradient, all parameters':28} {np.sqrt(sum(squared.values())) / norm:8.1e}",
        f"  {'gradient, worst of these':28} {np.sqrt(squared[worst]) / norm:8.1e} ({worst.removeprefix('gradient ')})",
    ]
    return lines

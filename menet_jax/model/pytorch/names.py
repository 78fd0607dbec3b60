"""The authors' PyTorch names and layouts, and ours.

Their tensors are named after the attributes of their module (`stack6.0.m1.2.weight`), ours after the paper's
stages. In a pre-activation layer their `.0` is the BatchNorm and `.2` the convolution; in the stem and the heads
`.0` is the convolution and `.1` the BatchNorm.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from menet_jax.model.initialisation import structure
from menet_jax.model.menet import DEPTH, MENet

_PARALLEL = "module."
_COUNTER = ".num_batches_tracked"

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def _layers() -> Iterator[tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
    """Yield (their convolution, our convolution, their BatchNorm, our BatchNorm) for every layer."""

    def pre(theirs: str, *ours: str) -> tuple[str, tuple[str, ...], str, tuple[str, ...]]:
        return f"{theirs}.2", (*ours, "conv"), f"{theirs}.0", (*ours, "norm")

    def block(theirs: str, ours: str, *, shortcut: bool) -> Iterator[Any]:
        yield pre(f"{theirs}.m1", ours, "main1")
        yield pre(f"{theirs}.m2", ours, "main2")
        if shortcut:
            yield pre(f"{theirs}.mm", ours, "shortcut")

    yield "stack1.0.0", ("stem_conv",), "stack1.0.1", ("stem_norm",)
    for j in (1, 2):
        yield from block(f"stack1.{j}", f"encoder0_residual{j}", shortcut=False)
    for k in range(1, DEPTH + 1):
        yield from block(f"scale{k}.0", f"encoder{k}_down", shortcut=True)
        yield from block(f"scale{k}.1", f"encoder{k}_residual", shortcut=False)
    yield pre("scale5_5.0", "bottleneck_down")
    yield pre("scale5_5.1", "bottleneck_up")
    for k in range(DEPTH):
        yield from block(f"stack{10 - k}.0", f"decoder{k}_up", shortcut=True)
        yield from block(f"stack{10 - k}.1", f"decoder{k}_residual", shortcut=False)

    yield pre("data_f", "scale_image")
    for k in range(DEPTH + 1):
        yield pre(f"scale{k}_m", f"scale_encoder{k}")
    for k in range(DEPTH):
        yield pre(f"scale{k}_u", f"scale_decoder{k}")
    yield pre("scale5_u", "scale_bottleneck")

    yield "metric.0.0", ("features_conv",), "metric.0.1", ("features_norm",)
    yield "sal.0", ("logits_conv",), "sal.1", ("logits_norm",)


def _is_transposed(ours: tuple[str, ...]) -> bool:
    return ours[0] == "bottleneck_up" or (ours[0].endswith("_up") and ours[1] in ("main1", "shortcut"))


def _names() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (their tensor, the path of ours), all 421 of them."""
    for their_conv, our_conv, their_norm, our_norm in _layers():
        for tensor, (collection, leaf) in _BATCH_NORM.items():
            yield f"{their_norm}.{tensor}", (collection, *our_norm, leaf)
        yield f"{their_conv}.weight", ("params", *our_conv, "kernel")
        if not _is_transposed(our_conv):
            yield f"{their_conv}.bias", ("params", *our_conv, "bias")


def _to_ours(path: tuple[str, ...], tensor: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel" or tensor.ndim != 4:
        return tensor
    if _is_transposed(path[1:-1]):  # (in, out, kh, kw), and PyTorch flips what it slides over the output
        return tensor.transpose(2, 3, 0, 1)[::-1, ::-1]
    return tensor.transpose(2, 3, 1, 0)


def _to_theirs(path: tuple[str, ...], tensor: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return tensor
    if _is_transposed(path[1:-1]):
        return tensor[::-1, ::-1].transpose(2, 3, 0, 1)
    return tensor.transpose(3, 2, 0, 1)


def _expected(width: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path and shape of every variable of a network of this width."""
    shapes, _ = structure(MENet(width))
    return {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(shapes).items()}


def from_state_dict(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Turn the authors' tensors, in PyTorch's names and layouts, into variables for `MENet(width).apply`; the width is
    the stem's.

    PyTorch's `num_batches_tracked` counters, which no computation reads, may be present and are left out. So may
    `module.` before every name, which `DataParallel` puts there.

    Returns:
        `{"params": …, "batch_stats": …}` as nested dicts of NumPy arrays, float32.

    Raises:
        ValueError: a tensor is missing, unknown, misshapen or not of floating-point numbers; each is named.
    """
    prefix = _PARALLEL if all(name.startswith(_PARALLEL) for name in state_dict) else ""
    tensors = {
        name.removeprefix(prefix): np.asarray(tensor)
        for name, tensor in state_dict.items()
        if not name.endswith(_COUNTER)
    }
    names = dict(_names())
    problems = [f"missing: {name}" for name in names if name not in tensors]
    problems += [f"unknown: {name}" for name in tensors if name not in names]
    problems += [
        f"not floating-point: {name} is {tensor.dtype}"
        for name, tensor in tensors.items()
        if not jnp.issubdtype(tensor.dtype, jnp.floating)
    ]
    stem = tensors.get("stack1.0.0.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[0]:
        expected = _expected(stem.shape[0])
        for name, path in names.items():
            if name not in tensors:
                continue
            want = _to_theirs(path, np.broadcast_to(0, expected[path])).shape
            if tensors[name].shape != want:
                problems.append(
                    f"misshapen: {name} is {tensors[name].shape}, should be {want} at width {stem.shape[0]}"
                )
    elif stem is not None:
        problems.append(f"misshapen: stack1.0.0.weight is {stem.shape}, should be (width, 3, 3, 3)")
    if problems:
        raise ValueError("\n  ".join(["not a state dict of the authors' MEnet:", *problems]))
    with np.errstate(over="ignore"):  # `check_values` finds what is infinite
        ours = {path: np.ascontiguousarray(_to_ours(path, tensors[name]), np.float32) for name, path in names.items()}
    return flax.traverse_util.unflatten_dict(ours)


def to_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `from_state_dict`, exact to the bit.

    Raises:
        ValueError: the variables are not those of `MENet(width, multi_scale=True)`; the difference is named.
    """
    ours = {path: np.asarray(leaf) for path, leaf in flax.traverse_util.flatten_dict(dict(variables)).items()}
    names = dict(_names())
    missing = ["/".join(path) for path in names.values() if path not in ours]
    extra = ["/".join(path) for path in ours if path not in set(names.values())]
    if missing or extra:
        raise ValueError(f"not the variables of a multi-scale MENet: missing {missing}, unknown {extra}")
    return {name: np.ascontiguousarray(_to_theirs(path, ours[path])) for name, path in names.items()}


def check_values(state_dict: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if a tensor holds what no trained network does, as one of a damaged file may; it is named."""
    for name, tensor in state_dict.items():
        if name.endswith(_COUNTER):
            continue
        with np.errstate(over="ignore"):
            finite = np.isfinite(tensor.astype(np.float32)).all()
        if not finite:
            raise ValueError(f"{name} holds values that are not finite, or not in float32")
        if name.endswith(".running_var") and (tensor < 0).any():
            raise ValueError(f"{name} holds negative values, and is a variance")

"""The variables that a network starts to train from, drawn on the host."""

import hashlib
import math
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map
from jaxtyping import Float32

from menet_jax.model.layers import ConvTranspose
from menet_jax.model.menet import SMALLEST_SIDE

CONSTANTS = {"bias": 0.0, "mean": 0.0, "scale": 1.0, "var": 1.0}
"""Initial values of what is not drawn, by name."""


def initial_variables(net: nn.Module, seed: int) -> dict[str, Any]:
    """`params` and `batch_stats` of a network, float32 on the host, for a seed, 0 ≤ seed < 2⁶⁴.

    They are distributed as by `net.init`: kernels uniform on ±√(3 / fan-in), all else constant.

    The same to the last bit for the same seed and network, on every platform and with every version of JAX, Flax and
    NumPy: each kernel has a random stream of its own, named by the seed and the kernel's path and nothing else.
    Nothing is compiled: the compiler would take ten times as long for `net.init` as drawing takes here.
    """
    shapes, transposed = structure(net)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1] in CONSTANTS:
            return np.full(leaf.shape, CONSTANTS[path[-1]], np.float32)
        height, width, inputs, outputs = leaf.shape
        # Caffe takes a transposed kernel's fan-in over its outputs; see `model.layers`.
        fan_in = height * width * (outputs if path[1:-1] in transposed else inputs)
        return _uniform(leaf.shape, math.sqrt(3 / fan_in), seed, "/".join(path))

    return dict(path_aware_map(draw, shapes))


@cache
def structure(net: nn.Module) -> tuple[dict[str, Any], set[tuple[str, ...]]]:
    """The shapes of a network's variables, and the paths of its transposed convolutions; nothing is computed."""
    transposed = set[tuple[str, ...]]()

    def note(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, ConvTranspose):
            transposed.add(context.module.path)
        return method(*args, **kwargs)

    def init(image: jax.Array) -> Any:  # not `net.init`, which JAX would not run again where it knows the shapes
        return net.init(jax.random.key(0), image)

    with nn.intercept_methods(note):
        image = jax.ShapeDtypeStruct((1, SMALLEST_SIDE, SMALLEST_SIDE, 3), jnp.float32)
        return jax.eval_shape(init, image), transposed


def _uniform(shape: tuple[int, ...], bound: float, seed: int, path: str) -> Float32[np.ndarray, "..."]:
    """Uniform on [−bound, bound): multiples of bound · 2⁻²³, by the top 24 bits of each half of Philox's raw words.

    NumPy keeps raw words fixed for ever, and promises no such thing of `Generator`'s methods (NEP 19).
    """
    stream = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8])
    bits, size = np.random.Philox(key=np.array([stream, seed], np.uint64)), math.prod(shape)
    halves = bits.random_raw(-(-size // 2)).astype("<u8", copy=False).view("<i4")[:size]
    return ((halves >> 8).astype(np.float32) * np.float32(bound * 2.0**-23)).reshape(shape)

"""The three maps of `convolution` as XLA computes them by itself."""

from functools import partial
from typing import Any

import jax
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def forward(x: jax.Array, k: jax.Array, *, stride: int, padding: int, flipped: bool) -> jax.Array:
    """The convolution."""
    k = flip(k) if flipped else k
    return lax.conv_general_dilated(x, k, (stride, stride), [(padding, padding)] * 2, dimension_numbers=DIMENSIONS)


def input_gradient(
    y: jax.Array, k: jax.Array, *, stride: int, padding: int, flipped: bool, sides: tuple[int, int]
) -> jax.Array:
    """Its transpose in x."""
    convolve = partial(forward, k=k, stride=stride, padding=padding, flipped=flipped)
    x = jax.ShapeDtypeStruct((y.shape[0], *sides, k.shape[3 if flipped else 2]), y.dtype)
    return jax.linear_transpose(convolve, x)(y)[0]


def kernel_gradient(
    x: jax.Array, y: jax.Array, *, stride: int, padding: int, flipped: bool, sides: tuple[int, int]
) -> jax.Array:
    """Its transpose in k."""
    convolve = partial(forward, x, stride=stride, padding=padding, flipped=False)
    k = jax.linear_transpose(convolve, jax.ShapeDtypeStruct((*sides, x.shape[3], y.shape[3]), x.dtype))(y)[0]
    return flip(k) if flipped else k


def flip(k: jax.Array) -> jax.Array:
    """A kernel as a transposed convolution has it, from that of the convolution that it transposes, and back: turned by
    180°, inputs and outputs exchanged.
    """
    return k[::-1, ::-1].swapaxes(2, 3)


def out_sides(x: Any, k: Any, stride: int, padding: int) -> tuple[int, int]:
    """Height and width of the convolution of anything shaped like maps by anything shaped like a kernel."""
    h, w = ((n + 2 * padding - size) // stride + 1 for n, size in zip(x.shape[1:3], k.shape[:2], strict=True))
    return h, w

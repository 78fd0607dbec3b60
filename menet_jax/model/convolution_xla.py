"""The three maps of `convolution` as XLA computes them by itself."""

import jax
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def forward(x: jax.Array, k: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """The convolution."""
    return lax.conv_general_dilated(x, k, (stride, stride), [(padding, padding)] * 2, dimension_numbers=DIMENSIONS)


def input_gradient(y: jax.Array, k: jax.Array, *, stride: int, padding: int, sides: tuple[int, int]) -> jax.Array:
    """Its transpose in x."""
    x = jax.ShapeDtypeStruct((y.shape[0], *sides, k.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: forward(x, k, stride=stride, padding=padding), x)(y)[0]


def kernel_gradient(x: jax.Array, y: jax.Array, *, stride: int, padding: int, sides: tuple[int, int]) -> jax.Array:
    """Its transpose in k."""
    k = jax.ShapeDtypeStruct((*sides, x.shape[3], y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: forward(x, k, stride=stride, padding=padding), k)(y)[0]

"""Pooling without XLA's window operations, whose gradients are slow on a CPU and have no second derivatives."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """The largest of every 2×2 block; where several are, they share its gradient.

    By comparing two and two: the gradient of `jnp.max` divides by how many equal the largest, which may be none where
    the compiler rounds them differently from it.
    """
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(blocks[:, :, 0], blocks[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def local_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of the 3×3 pixels around each, where the border's are repeated outwards."""

    def along(x: jax.Array, axis: int) -> jax.Array:
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1)
        wide, n = jnp.pad(x, pad, mode="edge"), x.shape[axis]
        return sum((lax.slice_in_dim(wide, k, k + n, axis=axis) for k in range(3)), start=jnp.zeros_like(x)) / 3

    return along(along(x, 1), 2)

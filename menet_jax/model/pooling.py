"""Pooling without XLA's window operations, whose gradients are slow on a CPU and have no second derivatives."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """The largest of every 2×2 block; where several are, they share its gradient.

    By comparing two and two: the gradient of `jnp.max` divides by how many equal the largest, which may be none where
    the compiler computes them twice and rounds them differently.
    """
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c)
    rows = larger(blocks[:, :, 0], blocks[:, :, 1])
    return larger(rows[:, :, :, 0], rows[:, :, :, 1])


@jax.custom_jvp
def larger(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The larger of two, element by element; of equals, each has half of the gradient.

    `jnp.maximum`, whose derivative compares both with the result: a GPU's compiler may round neither as it was, and no
    gradient comes through (github.com/jax-ml/jax/issues/40564). This one compares the two with each other.
    """
    return jnp.maximum(a, b)


@larger.defjvp
def _larger_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (a, b), (da, db) = primals, tangents
    share = jnp.where(a > b, 1.0, jnp.where(a < b, 0.0, 0.5)).astype(a.dtype)
    return larger(a, b), share * da + (1 - share) * db


def local_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of the 3×3 pixels around each, where the border's are repeated outwards."""

    def along(x: jax.Array, axis: int) -> jax.Array:
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1)
        wide, n = jnp.pad(x, pad, mode="edge"), x.shape[axis]
        return sum((lax.slice_in_dim(wide, k, k + n, axis=axis) for k in range(3)), start=jnp.zeros_like(x)) / 3

    return along(along(x, 1), 2)

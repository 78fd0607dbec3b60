"""Enlarging by repetition (Section IV-C, Eq. 14)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def enlarge(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b {factor}*h {factor}*w c"]:
    """Repeat every pixel `factor` × `factor` times (Eq. 14). A broadcast, so that its gradient is a plain sum."""
    b, h, w, c = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return blocks.reshape(b, h * factor, w * factor, c)


def side_by_side(maps: Sequence[Float[Array, "b _ _ _"]]) -> Float[Array, "b h w c"]:
    """Maps from fine to coarse, as channels at the size of the first. Coarse ones are enlarged together."""
    together = maps[-1]
    for finer in maps[-2::-1]:
        together = jnp.concatenate([finer, enlarge(together, finer.shape[1] // together.shape[1])], axis=-1)
    return together

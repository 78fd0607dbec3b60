"""Enlarging by repetition (Section IV-C, Eq. 14)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def enlarge(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b {factor}*h {factor}*w c"]:
    """Repeat every pixel `factor` × `factor` times (Eq. 14). A broadcast, so that its gradient is a plain sum."""
    b, h, w, c = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return blocks.reshape(b, h * factor, w * factor, c)

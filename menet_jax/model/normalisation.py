"""Batch normalisation (Section IV-B), with the derivative of its training mode as one rule.

Differentiated operation by operation it takes half as many programs more to compile, and more passes over memory.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from menet_jax.model.parameters import parameter

EPSILON = 1e-5
"""Added to the variance; as in the authors' code."""

MOMENTUM = 0.9
"""Share of the running statistics that stays at each step."""


class BatchNorm(nn.Module):
    """`y = scale · (x − mean) / √(var + ε) + bias` for each channel.

    In training mean and variance are the batch's, over all devices, and the running ones follow them; else they are
    the running ones. Statistics are float32 whatever the network computes in (float64 of one that computes in that).
    The variance is the mean of (x − mean)²: E[x²] − E[x]² would lose digits where a channel varies little around a
    large mean.

    Args:
        use_running_average: False in training.
        dtype: of the result.
        axis_name: the mapped axis over which the batch's statistics are synchronised.
    """

    use_running_average: bool
    dtype: DTypeLike
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = parameter(self, "scale", nn.initializers.ones, channels)
        bias = parameter(self, "bias", nn.initializers.zeros, channels)
        exact = jnp.float64 in (x.dtype, jnp.dtype(self.dtype))  # an image is float32 whatever the network computes in
        x = x.astype(jnp.float64 if exact else jnp.float32)
        running = running_mean.value, running_var.value
        if self.use_running_average:
            y = normalise_by(x, scale, bias, *running)
        else:
            initializing = self.is_initializing()  # then there is no mapped axis, and nothing to follow
            y, mean, var = normalise(x, scale, bias, *running, None if initializing else self.axis_name)
            if not initializing:
                running_mean.value, running_var.value = mean, var
        return y.astype(self.dtype)


Statistics = Float[Array, " c"]


# Layers of one shape are traced, differentiated and lowered once.


@jax.jit
def normalise_by(
    x: Float[Array, "b h w c"], scale: Statistics, bias: Statistics, mean: Statistics, var: Statistics
) -> Float[Array, "b h w c"]:
    """`scale · (x − mean) / √(var + ε) + bias`."""
    return (x - _wide(mean)) * _wide(scale * lax.rsqrt(var + EPSILON)) + _wide(bias)


@partial(jax.jit, static_argnames="axis_name")
def normalise(
    x: Float[Array, "b h w c"],
    scale: Statistics,
    bias: Statistics,
    running_mean: Statistics,
    running_var: Statistics,
    axis_name: str | None,
) -> tuple[Float[Array, "b h w c"], Statistics, Statistics]:
    """`scale · (x − mean) / √(var + ε) + bias` by the mean and the variance over all but the channels; and the running
    ones after them.
    """
    y, mean, var = _normalise(x, scale, bias, axis_name)
    return (
        y,
        MOMENTUM * running_mean + (1 - MOMENTUM) * mean,
        MOMENTUM * running_var + (1 - MOMENTUM) * var,
    )


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = _mean(x, axis_name)
    var = _mean(jnp.square(x - _wide(mean)), axis_name)
    return normalise_by(x, scale, bias, mean, var), mean, var


@_normalise.defjvp
def _normalise_jvp(
    axis_name: str | None, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    (x, scale, _), (dx, dscale, dbias) = primals, tangents
    y, mean, var = _normalise(*primals, axis_name)
    centred, inverse = x - _wide(mean), lax.rsqrt(var + EPSILON)
    dmean, half_dvar = _mean(dx, axis_name), _mean(centred * dx, axis_name)  # Σ (x − mean) · dmean = 0
    factor, dfactor = scale * inverse, dscale * inverse - scale * inverse**3 * half_dvar
    # All that is constant over a channel is one sum: transposed, it is one sum over the pixels.
    dy = dx * _wide(factor) + centred * _wide(dfactor) + _wide(dbias - factor * dmean)
    return (y, mean, var), (dy, dmean, 2 * half_dvar)


def _mean(x: jax.Array, axis_name: str | None) -> jax.Array:
    mean = jnp.mean(x, (0, 1, 2))
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def _wide(statistics: jax.Array) -> jax.Array:
    return statistics.reshape(1, 1, 1, -1)

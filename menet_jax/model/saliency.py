"""Saliency maps from the network's outputs (Section III-C, Eq. 5). Every map is in [0, 1]."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from menet_jax.model.losses import inverse_norm, weighted_sums

BORDER = 20  # pixels: the width of the band in which the authors' code looks for background

Region = Callable[[Float[Array, "h w"]], Bool[Array, "h w"]]


@jax.jit
def probability_map(logits: Float[Array, "*shape 2"]) -> Float[Array, "*shape"]:
    """Cross-entropy map: `softmax(logits)[salient]`, the probability that a pixel is salient. Of two classes that is
    the logistic function of the difference of their logits.

    >>> import jax.numpy as jnp
    >>> from menet_jax import probability_map
    >>> probability_map(jnp.array([[[0.0, 0.0]]])).tolist()
    [[0.5]]
    """
    return jax.nn.sigmoid(logits[..., 1] - logits[..., 0])


def border_band(height: int, width: int) -> Bool[Array, "h w"]:
    """The pixels less than `BORDER` from an edge of the image."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    nearest = jnp.minimum(jnp.minimum(rows, height - 1 - rows), jnp.minimum(columns, width - 1 - columns))
    return nearest < BORDER


def border_background(probability: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Background region as in the authors' code: the band's pixels that cross entropy calls background
    (probability < ½); all such pixels of the image if the band has none; the band itself if the image has none.
    """
    band = border_band(*probability.shape)
    background = probability < 0.5
    within_band = band & background
    anywhere = jnp.where(jnp.any(background), background, band)
    return jnp.where(jnp.any(within_band), within_band, anywhere)


def all_background(probability: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Background region as in the paper: all pixels that cross entropy calls background (probability < ½); the
    border band if there are none.
    """
    background = probability < 0.5
    return jnp.where(jnp.any(background), background, border_band(*probability.shape))


def border(probability: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Background region without cross entropy: the whole border band, whatever the probability.

    Eq. 5 takes the background region from the cross-entropy branch. In a network trained with the metric loss alone
    that branch is as it was drawn at random, and so would be the region; what the authors' code assumes besides, that
    background is at the border, is all there is to go by. The paper has no such network in its tables.
    """
    return border_band(*probability.shape)


def min_max_normalise(x: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Min–max normalisation to [0, 1]; a constant map becomes 0, NaN stays NaN.

    On a GPU quotients are not rounded correctly, and x may be computed twice and rounded differently. So what is the
    highest is 1, whatever its quotient, and what rounding puts beyond 0 or 1 is 0 or 1.
    """
    low, high = _lowest(x), -_lowest(-x)
    spread = high > low
    share = (x - low) / jnp.where(spread, high - low, 1.0)
    share = jnp.where((share < 0) | (high <= low), 0.0, share)
    return jnp.where((share > 1) | (spread & (x >= high)), 1.0, share)


@jax.custom_jvp
def _lowest(x: Float[Array, "h w"]) -> Float[Array, ""]:
    """`jnp.min(x)`, whose derivative divides by how many equal it: none, where x is computed twice and rounded
    differently. This one's is that of the first of the lowest.
    """
    return jnp.min(x)


@_lowest.defjvp
def _lowest_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    return _lowest(x), jnp.ravel(dx)[jnp.argmin(jnp.ravel(x))]


@partial(jax.jit, static_argnames="region")
def metric_map(
    features: Float[Array, "h w c"], logits: Float[Array, "h w 2"], region: Region = border_background
) -> Float[Array, "h w"]:
    """Metric map (Eq. 5) of one image: `S_i = ‖f̂_i − E[f̂ | background]‖²`, min–max normalised.

    Args:
        features: network features, not normalised.
        logits: network logits, whose probabilities say where background is.
        region: probability map → background region; `border_background` (the authors' code, made deterministic:
            all pixels rather than 100 random ones), `all_background` (the paper), or `border` (for logits that were
            not trained).

    >>> import jax.numpy as jnp
    >>> from menet_jax import metric_map
    >>> salient = jnp.zeros((64, 64), bool).at[30:34, 30:34].set(True)
    >>> logits = jnp.where(salient[..., None], jnp.array([0.0, 9.0]), jnp.array([9.0, 0.0]))
    >>> saliency = metric_map(logits, logits)
    >>> float(saliency[32, 32]), float(saliency[0, 0])
    (1.0, 0.0)
    """
    inverse = inverse_norm(features)
    background = region(probability_map(logits)).astype(inverse.dtype)
    expected = weighted_sums(features, (background * inverse)[..., None])[0] / jnp.maximum(jnp.sum(background), 1.0)
    difference = features * inverse[..., None] - expected[None, None]
    return min_max_normalise(jnp.sum(difference * difference, axis=-1))

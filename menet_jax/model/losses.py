"""The losses (Section III-B): class-centre metric loss and cross entropy. Their weighted sum, Eq. 4, is
`training.step.total_loss`.

Functions take one image, or any leading dimensions where they say so; batches go through `jax.vmap`. Labels are
0 = background, 1 = salient. Losses are float32 whatever the network computes in.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

Labels = Integer[Array, "h w"] | Bool[Array, "h w"]


def safe_norm(x: Float[Array, "*shape c"]) -> Float[Array, "*shape"]:
    """Euclidean norm along the last axis, whose gradient at 0 is 0 instead of NaN."""
    # `optax.safe_norm` has the same values and gradients, but its gradient took twice as long: 10.4 against 5.4 ms for
    # 16 channels at 224².
    squared = jnp.sum(x * x, axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def inverse_norm(features: Float[Array, "*shape c"]) -> Float[Array, "*shape"]:
    """`1 / ‖f‖₂`, and 0 for a zero vector (whose gradient is zero)."""
    # Scaling by the largest coordinate first keeps ‖f‖² from under- and overflowing.
    largest = lax.stop_gradient(jnp.max(jnp.abs(features), axis=-1))
    scale = jnp.where(largest > 0, 1 / jnp.where(largest > 0, largest, 1.0), 0.0)
    norm = safe_norm(features * scale[..., None])
    return jnp.where(norm > 0, scale / jnp.where(norm > 0, norm, 1.0), 0.0)


def unit_features(features: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
    """`f̂ = f / ‖f‖₂`, where a zero vector stays zero (and has gradient zero)."""
    return features * inverse_norm(features)[..., None]


class Centres(NamedTuple):
    """Mean unit feature of each class; zero for a class with no pixels."""

    salient: Float[Array, " c"]
    background: Float[Array, " c"]


def weighted_sums(features: Float[Array, "h w c"], weights: Float[Array, "h w k"]) -> Float[Array, "k c"]:
    """`Σ_i w_i · f_i` for each of k sets of weights, as one product of matrices."""
    of_pixels, flat = (each.reshape(-1, each.shape[-1]) for each in (weights, features))
    return jnp.einsum("pk,pc->kc", of_pixels, flat, precision=lax.Precision.HIGHEST)


def class_centres(unit: Float[Array, "h w c"], labels: Labels) -> Centres:
    """`c_s` and `c_b`: the means of f̂ over the salient and over the background pixels of one image."""
    salient = labels.astype(bool)
    of_class = jnp.stack([salient, ~salient], axis=-1).astype(unit.dtype)
    pixels = jnp.maximum(jnp.sum(of_class, axis=(0, 1)), 1.0)
    return Centres(*(weighted_sums(unit, of_class) / pixels[:, None]))


def class_centre_loss(
    unit: Float[Array, "h w c"], labels: Labels, centres: Centres, *, squared: bool = True
) -> Float[Array, "h w"]:
    """Per-pixel class-centre metric loss (Eq. 3) of one image.

    `ℓ_i = ‖f̂_i − c_same(i)‖² − ‖f̂_i − c_other(i)‖²`, in [−4, 4]; with `squared=False` the Euclidean distances that
    the paper names, in [−2, 2]. (The authors' code squares.) Of the squares ‖f̂_i‖² cancels, and what is computed is
    `2 · f̂_i · (c_other − c_same) + ‖c_same‖² − ‖c_other‖²`.

    Args:
        unit: unit features f̂.
        labels: class of each pixel.
        centres: the class centres; `class_centres(unit, labels)`, or that under `stop_gradient`.
        squared: squared or plain Euclidean distance.
    """
    salient, background = centres
    if squared:
        between = background - salient
        along = jnp.einsum("pc,c->p", unit.reshape(-1, unit.shape[-1]), between, precision=lax.Precision.HIGHEST)
        squares = jnp.sum(salient * salient) - jnp.sum(background * background)
        nearer = 2 * along.reshape(labels.shape) + squares
    else:
        nearer = safe_norm(unit - salient[None, None]) - safe_norm(unit - background[None, None])
    return jnp.where(labels.astype(bool), nearer, -nearer)


def nth_largest(values: Float[Array, "*shape"], n: Integer[Array, ""]) -> Float[Array, ""]:
    """The n-th largest of the values, n from 1, exactly; of values without NaN.

    Bit by bit, from the highest: the largest number that at least n values reach. Counting 32 times takes a third of
    the time of sorting an image's pixels.
    """
    bits = jnp.finfo(values.dtype).bits
    unsigned = jnp.dtype(f"uint{bits}")
    sign = jnp.array(1 << (bits - 1), unsigned)
    raw = lax.bitcast_convert_type(values, unsigned)
    # As unsigned integers, positive floats are in order, and negative ones in reverse.
    ordered = jnp.where(raw >= sign, ~raw, raw | sign)

    def decide(i: ArrayLike, found: Array) -> Array:  # i is a number where JAX is told not to compile
        tried = found | (sign >> jnp.asarray(i, unsigned))
        return jnp.where(jnp.sum(ordered >= tried) >= n, tried, found)

    nth = lax.fori_loop(0, bits, decide, jnp.zeros((), unsigned))
    return lax.bitcast_convert_type(jnp.where(nth >= sign, nth ^ sign, ~nth), values.dtype)


def hard_negatives(loss: Float[Array, "h w"], labels: Labels) -> Bool[Array, "h w"]:
    """Which pixels of one image hard negative mining keeps (Section IV-B: ratio of kept classes 1).

    With n = min(#salient, #background): every pixel of the smaller class and the n pixels of the larger one with
    the highest loss. Ties go to the earlier pixel, so that exactly n are kept; none when a class is missing.
    """
    salient = labels.astype(bool)
    n_salient = jnp.sum(salient)
    n = jnp.minimum(n_salient, salient.size - n_salient)
    larger = salient == (n_salient > salient.size - n_salient)
    candidates = jnp.where(larger, loss, -jnp.inf)
    threshold = nth_largest(candidates, jnp.maximum(n, 1))
    above = candidates > threshold
    tied = larger & (candidates == threshold)
    rank_of_tie = jnp.cumsum(tied.ravel()).reshape(tied.shape)
    kept = above | (tied & (rank_of_tie <= n - jnp.sum(above)))
    return (kept | ~larger) & (n > 0)


@partial(jax.jit, static_argnames=("squared", "mining", "stop_centres"))
def metric_loss(
    features: Float[Array, "h w c"],
    labels: Labels,
    *,
    squared: bool = True,
    mining: bool = True,
    stop_centres: bool = True,
) -> Float[Array, ""]:
    """Class-centre metric loss (Eq. 3) of one image: the mean of ℓ over the pixels kept by mining.

    In [−4, 4], with `squared=False` in [−2, 2]; 0 for an image with one class missing. The gradient is that of this
    number, by automatic differentiation: the authors' code instead passes `(c_other − c_same) / (16·H·W)`
    straight through the normalisation, which weighs the metric loss against cross entropy 16 times less, and by the
    share of kept pixels on top.

    Args:
        features: network features f, not normalised.
        labels: class of each pixel.
        squared: squared distances as in the code, or Euclidean ones as in the paper.
        mining: hard negative mining; without it the mean goes over all pixels.
        stop_centres: treat the class centres as constants in the gradient, as the code does.

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import metric_loss
    >>> labels = jnp.array([[True, False], [False, False]])
    >>> apart = jnp.where(labels[..., None], jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    >>> float(metric_loss(apart, labels))  # 0 to its own centre, ‖(1, 0) − (0, 1)‖² = 2 to the other
    -2.0
    >>> jax.grad(metric_loss)(apart, labels).shape
    (2, 2, 2)
    """
    unit = unit_features(features)
    centres = class_centres(unit, labels)
    if stop_centres:
        centres = lax.stop_gradient(centres)
    loss = class_centre_loss(unit, labels, centres, squared=squared)
    n_salient = jnp.sum(labels.astype(bool))
    both = (n_salient > 0) & (n_salient < labels.size)
    kept = hard_negatives(lax.stop_gradient(loss), labels) if mining else jnp.broadcast_to(both, labels.shape)
    total = jnp.sum(jnp.where(kept, loss, 0.0))
    return total / jnp.maximum(jnp.sum(kept, dtype=total.dtype), 1.0)


@jax.jit
def cross_entropy(logits: Float[Array, "h w 2"], labels: Labels) -> Float[Array, ""]:
    """Cross entropy (Eq. 1) of one image: `−log softmax(logits)[label]`, mean over pixels, in [0, ∞).

    >>> import jax.numpy as jnp
    >>> from menet_jax import cross_entropy
    >>> round(float(cross_entropy(jnp.zeros((2, 2, 2)), jnp.ones((2, 2), bool))), 4)  # −log ½
    0.6931
    """
    # Of two classes that is softplus(logit of the other − logit of the label): one map, and no scatter as its gradient.
    margin = logits[..., 1] - logits[..., 0]
    return jnp.mean(jax.nn.softplus(jnp.where(labels.astype(bool), -margin, margin)))


@partial(jax.jit, static_argnames="squared")
def pairwise_metric_loss(
    features: Float[Array, "h w c"], labels: Labels, *, squared: bool = False
) -> Float[Array, "h w"]:
    """Per-pixel pairwise metric loss (Eq. 2): mean distance to all pixels of the same class (oneself included)
    minus mean distance to all of the other class: `mean_{j: same} d(f̂_i, f̂_j) − mean_{j: other} d(f̂_i, f̂_j)`, with d
    the Euclidean distance that Eq. 2 has, in [−2, 2], or its square, in [−4, 4].

    A reference to test against, not to train with: time and memory grow with the number of pixels squared. With
    squared distances it exceeds the class-centre loss by `v_same − v_other`, where `v` is the mean squared
    distance of a class's unit features to their centre.
    """
    unit = unit_features(features).reshape(-1, features.shape[-1])
    salient = labels.astype(bool).ravel()
    difference = unit[:, None] - unit[None]
    distance = jnp.sum(difference**2, axis=-1) if squared else safe_norm(difference)
    same = (salient[:, None] == salient[None]).astype(distance.dtype)

    def mean(weights: jax.Array) -> jax.Array:
        return jnp.sum(distance * weights, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1.0)

    return (mean(same) - mean(1.0 - same)).reshape(labels.shape)

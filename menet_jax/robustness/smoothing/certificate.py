"""SegCertify: classes of pixels that no small change of the image can change, with a stated confidence.

Let g(x) say of every pixel whether it is salient. The smoothed classifier gives a pixel the class that g gives it most
often when Gaussian noise of standard deviation σ is added to the image. If that class has a probability above τ ≥ ½,
the pixel keeps it under every change of the image of length ‖Δ‖₂ < R = σ Φ⁻¹(τ). The probability is not known; a
binomial test of n noisy images rejects that it is τ or less, and a correction for testing all pixels at once bounds the
probability that any one of an image's certificates is wrong by α. A pixel whose test does not reject is abstained from.

Source: Fischer, Baader, Vechev, "Scalable Certified Segmentation via Randomized Smoothing", ICML 2021, Algorithm 2;
Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, for the radius.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Float64, Int
from scipy.special import bdtrc, ndtri

from menet_jax.robustness.jacobian.image_function import as_tree, check_image, evaluate, exact
from menet_jax.runtime.devices import on_device

Classifier = Callable[[jax.Array], jax.Array]
"""Image (H, W, 3), float → which pixels are salient, bool of any shape; or several such maps as a pytree."""

Correction = Callable[[np.ndarray, float], np.ndarray]
"""p-values and α → which hypotheses are rejected."""

BATCH = 8
"""Noisy images computed at once, unless told otherwise."""


class Certificate(NamedTuple):
    """What is certified of one image.

    Attributes:
        salient: the smoothed classifier's class of each pixel, as far as the samples tell.
        certified: whether the pixel keeps it within the radius; elsewhere it is abstained from.
    """

    salient: Bool[np.ndarray, "*map"]
    certified: Bool[np.ndarray, "*map"]


def radius(sigma: float, threshold: float) -> float:
    """R = σ Φ⁻¹(τ), in gray levels: how long a change may be, in L2 over all values of the image.

    Raises:
        ValueError: σ is not positive, or τ not at least ½ and below 1.

    >>> round(radius(20.0, 0.75), 2)
    13.49
    """
    if not 0 < sigma < float("inf"):
        raise ValueError(f"the noise's standard deviation must be positive, got {sigma}")
    if not 0.5 <= threshold < 1:
        raise ValueError(f"the probability to exceed is at least 0.5 and below 1, got {threshold}")
    return float(sigma * ndtri(threshold))


def fewest_samples(pixels: int, threshold: float, risk: float) -> int:
    """How many samples it takes to certify any pixel of so many: from fewer, both corrections abstain everywhere.

    All n samples must agree, and then the p-value is τⁿ, which must be at most α / m.

    Args:
        pixels: m, those that are tested together.
        threshold, risk: as `certify`.

    >>> fewest_samples(224 * 224, 0.75, 0.001)
    62
    """
    return math.ceil((math.log(risk) - math.log(pixels)) / math.log(threshold))


def sample_counts(
    classifier: Classifier,
    image: Float[Array | np.ndarray, "h w 3"],
    sigma: float,
    samples: int,
    key: jax.Array,
    *,
    batch: int = BATCH,
) -> Int[np.ndarray, "*map"]:
    """How often each pixel is called salient, of so many noisy images; noise is drawn where the network is computed.

    Noisy values may leave 0…255: the certificate needs noise that is Gaussian. Sample i depends on the key and i alone.

    Args:
        classifier: what is smoothed.
        image: range 0…255.
        sigma: standard deviation of the noise, in gray levels.
        samples: how many.
        key: of the noise.
        batch: images computed at once.

    Raises:
        TypeError, ValueError: the image is not (H, W, 3), float and finite, or a setting is not positive.
    """
    _check(image, sigma, samples, batch)
    f, x, noise = as_tree(classifier), on_device(image), image.dtype.type(sigma)
    shape = evaluate.eval_shape(f, x).shape
    never = _Decided(np.zeros(shape, bool), np.array([samples + 1]), np.array([0]))
    counts, _ = _counts(f, x, noise, np.int32(samples), key, batch, never)
    return np.asarray(counts)


def curtailed_counts(
    classifier: Classifier,
    image: Float[Array | np.ndarray, "h w 3"],
    sigma: float,
    samples: int,
    key: jax.Array,
    salient: Bool[np.ndarray, "*map"],
    *,
    pixels: int,
    thresholds: Sequence[float],
    risk: float,
) -> tuple[Int[np.ndarray, "*map"], int]:
    """As `sample_counts`, but it stops once no pixel's certificate can change any more; also, how many were drawn.

    A pixel is decided once it has so many hits that Bonferroni's correction certifies it, or so few that no correction
    would, whatever the samples that are left say. Those are counted as misses. So `certify` gives what all samples
    would have given, by either correction, and the statistics are those of a test of fixed length.

    Args:
        classifier, image, sigma, samples, key: as `sample_counts`.
        salient: each pixel's class, as guessed from other samples.
        pixels: how many are tested together: those of one map.
        thresholds: every τ that `certify` will be asked for.
        risk: α.

    Raises:
        TypeError, ValueError: as `sample_counts`, and as `certify`.
    """
    _check(image, sigma, samples, BATCH)
    p_values = [_p_values(samples, threshold, risk) for threshold in thresholds]
    certain = np.array([np.sum(of_hits > risk / pixels) for of_hits in p_values])
    never = samples + 1
    possible = np.array([np.sum(of_hits > risk) if of_hits[-1] <= risk / pixels else never for of_hits in p_values])
    noise = image.dtype.type(sigma)
    stop = _Decided(salient, certain, possible)
    counts, drawn = _counts(as_tree(classifier), on_device(image), noise, np.int32(samples), key, BATCH, stop)
    return np.where(salient, counts, counts + samples - drawn), int(drawn)


def certify(
    guess: Int[np.ndarray, "*map"],
    guesses: int,
    counts: Int[np.ndarray, "*map"],
    samples: int,
    threshold: float,
    risk: float,
    correction: Correction,
) -> Certificate:
    """The certificate of an image (Algorithm 2), within `radius(σ, threshold)`.

    Args:
        guess: of `sample_counts`, which tells each pixel's class. Its samples must be others than those of `counts`.
        guesses: their number.
        counts: of `sample_counts`, on which the tests are made.
        samples: their number n.
        threshold: τ, the probability to exceed.
        risk: α, the largest probability that any pixel of the image is certified wrongly.
        correction: `holm` or `bonferroni`.

    Raises:
        ValueError: τ is not at least ½ and below 1, or α not between 0 and 1.
    """
    of_hits, salient = _p_values(samples, threshold, risk), guessed(guess, guesses)
    hits = np.where(salient, counts, samples - counts)
    return Certificate(salient, correction(of_hits[hits], risk))


def guessed(guess: Int[np.ndarray, "*map"], guesses: int) -> Bool[np.ndarray, "*map"]:
    """The class that most of the samples give."""
    return 2 * guess > guesses


def bonferroni(p_values: Float64[np.ndarray, "*map"], risk: float) -> Bool[np.ndarray, "*map"]:
    """Rejects a hypothesis of m where p ≤ α / m: the probability of any false rejection is at most α.

    >>> bonferroni(np.array([0.01, 0.02, 0.04]), 0.05).tolist()
    [True, False, False]
    """
    return p_values <= risk / p_values.size


def holm(p_values: Float64[np.ndarray, "*map"], risk: float) -> Bool[np.ndarray, "*map"]:
    """Holm's step-down test: the k-th smallest of m p-values must be at most α / (m + 1 − k), and so all below it.

    Rejects whatever Bonferroni's does, and often more, at the same α.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm(np.array([0.01, 0.02, 0.06]), 0.05).tolist()
    [True, True, False]
    """
    order = np.argsort(p_values, axis=None)
    passes = p_values.ravel()[order] <= risk / np.arange(p_values.size, 0, -1)
    rejected = np.zeros(p_values.size, bool)
    rejected[order] = np.logical_and.accumulate(passes)
    return rejected.reshape(p_values.shape)


class _Decided(struct.PyTreeNode):
    """Whether samples that are left can still change what is certified.

    Attributes:
        salient: each pixel's class.
        certain: for each threshold, hits that suffice.
        possible: for each threshold, hits that are needed at least.
    """

    salient: Bool[Array | np.ndarray, "*map"]
    certain: Int[Array | np.ndarray, " thresholds"]
    possible: Int[Array | np.ndarray, " thresholds"]

    def __call__(self, counts: jax.Array, drawn: jax.Array, samples: jax.Array) -> jax.Array:
        hits = jnp.where(self.salient, counts, drawn - counts)

        def at(certain: jax.Array, possible: jax.Array) -> jax.Array:
            return jnp.all((hits >= certain) | (hits + samples - drawn < possible))

        return jnp.all(jax.vmap(at)(jnp.asarray(self.certain), jnp.asarray(self.possible)))


@partial(jax.jit, static_argnames="batch")
@exact
def _counts(
    classifier: Classifier,
    image: jax.Array,
    sigma: jax.Array,
    samples: jax.Array,
    key: jax.Array,
    batch: int,
    decided: _Decided,
) -> tuple[jax.Array, jax.Array]:
    def noisy(index: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, index), image.shape, image.dtype)
        return image + sigma * noise

    def add(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        counts, drawn = state
        indices = drawn + jnp.arange(batch)
        salient = jax.vmap(lambda index: classifier(noisy(index)))(indices)
        used = (indices < samples).reshape(-1, *[1] * (salient.ndim - 1))
        return counts + jnp.sum(salient & used, axis=0, dtype=jnp.int32), jnp.minimum(drawn + batch, samples)

    def wanted(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        counts, drawn = state
        return (drawn < samples) & ~decided(counts, drawn, samples)

    return jax.lax.while_loop(wanted, add, (jnp.zeros(decided.salient.shape, jnp.int32), jnp.int32(0)))


def _p_values(samples: int, threshold: float, risk: float) -> Float64[np.ndarray, " hits"]:
    """P(Bin(n, τ) ≥ k) for k = 0 … n: the p-value at k hits of the hypothesis that the class has probability τ or less.

    Raises:
        ValueError: τ is not at least ½ and below 1, or α not between 0 and 1.
    """
    radius(1.0, threshold)
    if not 0 < risk < 1:
        raise ValueError(f"the risk is a probability between 0 and 1, got {risk}")
    of_hits: Float64[np.ndarray, " hits"] = bdtrc(np.arange(samples + 1) - 1.0, samples, threshold)
    return of_hits


def _check(image: jax.Array | np.ndarray, sigma: float, samples: int, batch: int) -> None:
    if samples < 1 or batch < 1:
        raise ValueError(f"want at least one sample and a batch of at least one, got {samples} and {batch}")
    if not 0 < sigma < float("inf"):
        raise ValueError(f"the noise's standard deviation must be positive, got {sigma}")
    check_image(image)

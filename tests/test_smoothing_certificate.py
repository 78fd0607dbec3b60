"""Certificates by randomised smoothing, against classifiers whose radius is known, and simulated coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtr

from menet_jax.robustness.smoothing.certificate import (
    Certificate,
    Classifier,
    Correction,
    bonferroni,
    certify,
    curtailed_counts,
    fewest_samples,
    guessed,
    holm,
    radius,
    sample_counts,
)

SIGMA, THRESHOLD, RISK = 20.0, 0.75, 0.01
CORRECTIONS = pytest.mark.parametrize("correction", [holm, bonferroni])


def linear(weights: np.ndarray, offsets: np.ndarray) -> Classifier:
    """Pixel p is salient where w_p · x > b_p."""

    def classify(w: jax.Array, b: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.tensordot(w, image, 3) > b

    return jax.tree_util.Partial(classify, jnp.asarray(weights), jnp.asarray(offsets))


def certificate(classifier: Classifier, image: np.ndarray, samples: int, correction: Correction) -> Certificate:
    keys = jax.random.split(jax.random.key(0))
    guess = sample_counts(classifier, image, SIGMA, 20, keys[0])
    counts = sample_counts(classifier, image, SIGMA, samples, keys[1])
    return certify(guess, 20, counts, samples, THRESHOLD, RISK, correction)


@CORRECTIONS
def test_of_linear_classifiers_only_pixels_far_enough_from_the_boundary_are_certified(correction: Correction) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (4, 4, 3)).astype(np.float32)
    weights = rng.normal(size=(200, 4, 4, 3)).astype(np.float32)
    lengths = np.linalg.norm(weights.reshape(200, -1), axis=1)
    distances = rng.uniform(-3 * SIGMA, 3 * SIGMA, 200).astype(np.float32)  # to the boundary: the true radius
    offsets = np.tensordot(weights, image, 3) - distances * lengths
    found = certificate(linear(weights, offsets), image, 1000, correction)
    far = np.abs(distances) >= radius(SIGMA, THRESHOLD)
    assert not np.any(found.certified & ~far)
    assert np.mean(found.certified[np.abs(distances) > 1.6 * radius(SIGMA, THRESHOLD)]) == 1
    np.testing.assert_array_equal(found.salient[found.certified], distances[found.certified] > 0)


def test_counts_are_those_of_the_normal_distribution() -> None:
    margins = np.linspace(-2, 2, 9, dtype=np.float32)  # in standard deviations
    image = np.full((1, 1, 3), 100, np.float32)
    weights = np.zeros((9, 1, 1, 3), np.float32)
    weights[..., 1] = 1
    counts = sample_counts(linear(weights, 100 - margins * SIGMA), image, SIGMA, 4000, jax.random.key(3))
    expected = ndtr(margins)
    assert np.all(np.abs(counts / 4000 - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_is_certified_everywhere(value: bool) -> None:
    found = certificate(lambda image: jnp.full((5, 6), value), np.zeros((2, 2, 3), np.float32), 100, holm)
    assert found.certified.all() and np.all(found.salient == value)


def test_too_few_samples_certify_nothing() -> None:
    found = certificate(lambda image: jnp.ones((5, 6), bool), np.zeros((2, 2, 3), np.float32), 10, holm)
    assert not found.certified.any()  # 0.75 ** 10 is no small probability


@CORRECTIONS
@pytest.mark.parametrize("pixels", [1, 40])
def test_at_the_edge_wrong_certificates_are_as_rare_as_stated(correction: Correction, pixels: int) -> None:
    """All hypotheses true, at their edge: in 4,000 experiments no more are wrong than α says, within 4 σ."""
    rng, risk, wrong = np.random.default_rng(1), 0.05, 0
    for _ in range(4000):
        counts = rng.binomial(100, THRESHOLD, pixels)
        wrong += bool(certify(np.full(pixels, 9), 9, counts, 100, THRESHOLD, risk, correction).certified.any())
    assert 0 < wrong < 4000 * risk + 4 * np.sqrt(4000 * risk * (1 - risk))


def test_a_wrong_guess_is_not_certified() -> None:
    found = certify(np.array([9]), 9, np.array([20]), 100, THRESHOLD, RISK, holm)  # salient in 20 of 100
    assert found.salient.all() and not found.certified.any()


@given(hnp.arrays(float, st.integers(1, 30), elements=st.floats(0, 1)), st.floats(0.001, 0.999))
def test_holm_by_its_definition(p_values: np.ndarray, risk: float) -> None:
    rejected = np.zeros(len(p_values), bool)
    while not rejected.all():
        smallest = np.flatnonzero(~rejected)[np.argmin(p_values[~rejected])]
        if p_values[smallest] > risk / np.sum(~rejected):
            break
        rejected[smallest] = True
    np.testing.assert_array_equal(holm(p_values, risk), rejected)
    assert np.all(holm(p_values, risk) | ~bonferroni(p_values, risk))


def test_neither_the_batch_nor_how_many_follow_matters() -> None:
    def brighter(image: jax.Array) -> jax.Array:
        return image.mean(-1) > 100

    image, key = np.full((6, 5, 3), 100, np.float32), jax.random.key(1)
    whole = sample_counts(brighter, image, SIGMA, 13, key, batch=13)
    np.testing.assert_array_equal(whole, sample_counts(brighter, image, SIGMA, 13, key, batch=4))
    more = sample_counts(brighter, image, SIGMA, 14, key, batch=3) - whole
    assert set(np.unique(more)) <= {0, 1}


@pytest.mark.parametrize(("seed", "narrow"), [(0, False), (1, False), (2, True)])
def test_stopping_early_certifies_what_all_samples_would(seed: int, narrow: bool) -> None:
    """Of linear classifiers, far from their boundaries or just where it is hard to tell."""
    rng, samples, thresholds = np.random.default_rng(seed), 400, (0.6, 0.75)
    image = rng.uniform(0, 255, (4, 4, 3)).astype(np.float32)
    weights = rng.normal(size=(60, 4, 4, 3)).astype(np.float32)
    lengths = np.linalg.norm(weights.reshape(60, -1), axis=1)
    near = radius(SIGMA, 0.75) * rng.uniform(0.1, 1.7, 60) if narrow else np.zeros(60)
    distances = np.where(rng.uniform(size=60) < 0.5, 4 * SIGMA, near) * rng.choice([-1, 1], 60)
    classifier = linear(weights, np.tensordot(weights, image, 3) - distances.astype(np.float32) * lengths)
    keys = jax.random.split(jax.random.key(seed))
    guess = sample_counts(classifier, image, SIGMA, 20, keys[0])
    whole = sample_counts(classifier, image, SIGMA, samples, keys[1])
    counts, drawn = curtailed_counts(
        classifier, image, SIGMA, samples, keys[1], guessed(guess, 20), pixels=60, thresholds=thresholds, risk=RISK
    )
    assert (drawn == samples) == narrow and drawn > samples / 2
    for threshold in thresholds:
        for correction in (holm, bonferroni):
            early = certify(guess, 20, counts, samples, threshold, RISK, correction)
            late = certify(guess, 20, whole, samples, threshold, RISK, correction)
            np.testing.assert_array_equal(early.certified, late.certified)
            assert early.certified.any() and not early.certified.all()


@pytest.mark.parametrize("samples", [10, 27])  # of which 0.75 ** n is above the risk, and above a 30th of it
def test_certificates_that_no_sample_could_give_are_not_drawn_for(samples: int) -> None:
    image, key = np.zeros((2, 2, 3), np.float32), jax.random.key(0)
    counts, drawn = curtailed_counts(
        lambda image: jnp.ones((5, 6), bool),
        *(image, SIGMA, samples, key, np.ones((5, 6), bool)),
        pixels=30,
        thresholds=(THRESHOLD,),
        risk=RISK,
    )
    assert drawn == 0 and not counts.any()


@CORRECTIONS
@pytest.mark.parametrize(("pixels", "threshold", "risk"), [(1, 0.5, 0.3), (30, 0.75, 0.01), (50_176, 0.9, 0.001)])
def test_fewer_samples_certify_nothing(correction: Correction, pixels: int, threshold: float, risk: float) -> None:
    fewest = fewest_samples(pixels, threshold, risk)
    guess = np.ones(pixels, int)
    for samples, certified in ((fewest, True), (fewest - 1, False)):
        counts = np.full(pixels, samples)  # all agree
        found = certify(guess, 1, counts, samples, threshold, risk, correction)
        assert np.all(found.certified == certified)


@pytest.mark.parametrize(("sigma", "threshold"), [(0.0, 0.75), (20.0, 0.4), (20.0, 1.0), (float("nan"), 0.75)])
def test_impossible_radii(sigma: float, threshold: float) -> None:
    with pytest.raises(ValueError, match=r"must be positive|at least"):
        radius(sigma, threshold)


def test_impossible_settings() -> None:
    image = np.zeros((2, 2, 3), np.float32)
    for samples, sigma in ((0, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match=r"at least one sample|must be positive"):
            sample_counts(lambda image: image > 0, image, sigma, samples, jax.random.key(0))
    with pytest.raises(ValueError, match="the risk is a probability"):
        certify(np.array([1]), 1, np.array([1]), 1, 0.75, 0.0, holm)

"""Error directions (Eq. 12) and the gradient statistics of Table III."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jacobian_cases import IMAGE, SmallNet, matrix, small_image, small_variables

from menet_jax.images.distortions import add_noise, compress_jpeg, random_quality
from menet_jax.robustness.jacobian.directions import directional_ratios
from menet_jax.robustness.jacobian.image_function import logit_margin, network_map, probability
from menet_jax.robustness.jacobian.norms import exact_jacobian
from menet_jax.robustness.jacobian.sensitivity import (
    GradientStatistics,
    constant_gradient_statistics,
    mean_statistics,
    salient_gradient_statistics,
)

PHOTO = np.random.default_rng(1).integers(0, 256, IMAGE, np.uint8)
A = matrix(np.geomspace(1, 1e-2, 21))


def awgn(image: np.ndarray, draw: int) -> np.ndarray:
    return add_noise(image, 20.0, name="photo", seed=draw)


def jpeg(image: np.ndarray, draw: int) -> np.ndarray:
    return compress_jpeg(image, random_quality("photo", draw))


# --- directions


@pytest.mark.parametrize("distortion", [awgn, jpeg])
def test_ratios_of_a_linear_map_are_those_of_its_matrix(distortion: Callable[[np.ndarray, int], np.ndarray]) -> None:
    ratios = directional_ratios(A, PHOTO, distortion, draws=6)
    deltas = [distortion(PHOTO, draw).astype(float).ravel() - PHOTO.ravel() for draw in range(6)]
    expected = [np.linalg.norm(np.asarray(A.a, np.float64) @ delta) / np.linalg.norm(delta) for delta in deltas]
    np.testing.assert_allclose(ratios.infinitesimal.values, expected, rtol=1e-5)
    np.testing.assert_allclose(ratios.finite.values, expected, rtol=1e-4)
    np.testing.assert_allclose(ratios.distances, np.linalg.norm(deltas, axis=1), rtol=1e-6)
    assert ratios.finite.mean == pytest.approx(np.mean(expected), rel=1e-4)
    assert ratios.finite.standard_error == pytest.approx(np.std(expected, ddof=1) / np.sqrt(6), rel=1e-2)
    assert ratios.zero_directions == 0


def test_the_infinitesimal_ratio_is_the_limit_of_the_finite_one() -> None:
    f, x = network_map(SmallNet(), small_variables(0), probability), small_image(2)
    directions = np.random.default_rng(0).standard_normal((4, *x.shape)).astype(np.float32)
    jacobian = np.asarray(exact_jacobian(f, x), np.float64).reshape(64, -1)
    apart = []
    for length in (1000.0, 1e-2):

        def shift(image: np.ndarray, draw: int, length: float = length) -> np.ndarray:
            return image + np.float32(length) * directions[draw]

        ratios = directional_ratios(f, x, shift, draws=4)
        expected = [np.linalg.norm(jacobian @ d.ravel()) / np.linalg.norm(d) for d in directions]
        np.testing.assert_allclose(ratios.infinitesimal.values, expected, rtol=1e-2)
        apart.append(np.abs(ratios.finite.values / ratios.infinitesimal.values - 1).max())
    assert apart[1] < 0.03
    assert apart[0] > 0.3


def test_draws_that_change_nothing_are_counted_and_left_out() -> None:
    ratios = directional_ratios(A, PHOTO, lambda image, draw: awgn(image, draw) if draw % 3 else image, draws=7)
    assert ratios.zero_directions == 3
    assert len(ratios.finite.values) == len(ratios.infinitesimal.values) == len(ratios.distances) == 4
    assert np.isfinite(ratios.finite.mean)


def test_one_direction_has_no_standard_error() -> None:
    ratios = directional_ratios(A, PHOTO, lambda image, _: compress_jpeg(image, 20), draws=1)
    assert ratios.finite.standard_error is None
    assert ratios.infinitesimal.standard_error is None


@pytest.mark.parametrize(
    ("distortion", "message"),
    [
        (lambda image, _: add_noise(image, 0.0, name="", seed=0), "none of the 3 draws of the distortion changed the"),
        (lambda image, _: compress_jpeg(np.full_like(image, 128), 90) + image - 128, "none of the 3 draws"),
        (lambda image, _: image[:2], r"made an image of shape \(2, 5, 3\) of one of \(4, 5, 3\)"),
        (lambda image, _: image * np.float32(np.nan), "the distorted image of draw 0 has values that are not finite"),
    ],
)
def test_distortions_without_a_direction(distortion: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        directional_ratios(A, PHOTO, distortion, draws=3)


def test_jpeg_of_a_flat_image_has_no_direction() -> None:
    with pytest.raises(ValueError, match="there is no direction"):
        directional_ratios(A, np.full_like(PHOTO, 128), jpeg, draws=3)


# --- Table III


def test_statistics_of_the_gradient() -> None:
    """Against the gradient of the subsampled softmax, taken through the whole Jacobian of the logit margin."""
    f, x = network_map(SmallNet(), small_variables(4), logit_margin), small_image(4)
    salient = 1 / (1 + np.exp(-np.asarray(f(jnp.asarray(x)), np.float64)))
    weight = np.zeros((8, 8))
    weight[::2, ::2] = (salient * (1 - salient))[::2, ::2]
    gradient = np.abs(np.tensordot(weight, np.asarray(exact_jacobian(f, x), np.float64), 2))
    found = salient_gradient_statistics(f, x)
    expected = (gradient.max(), gradient.min(), np.median(gradient), gradient.mean(), gradient.var())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    assert constant_gradient_statistics(f, x).max < 1e-5 * found.max


def test_statistics_are_averaged_one_by_one() -> None:
    first, second = (GradientStatistics(*map(float, each)) for each in ((4, 0, 1, 2, 3), (6, 1, 1, 2, 5)))
    assert mean_statistics([first, second]) == (5, 0.5, 1, 2, 4)
    with pytest.raises(ValueError, match="no images"):
        mean_statistics([])

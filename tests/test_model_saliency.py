"""Saliency maps: hand-worked values, the background regions, a plain-loop oracle and hostile inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inexact_device import inexact

from menet_jax.model.saliency import (
    BORDER,
    Region,
    all_background,
    border_background,
    border_band,
    metric_map,
    min_max_normalise,
    probability_map,
)
from menet_jax.training.config import LossConfig
from menet_jax.training.network import background_region

HEIGHT, WIDTH = 45, 52  # 5 x 12 pixels lie inside the border band
each_region = pytest.mark.parametrize("region", [border_background, all_background])


def draw(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((height, width, 16), np.float32)
    return jnp.asarray(features), jnp.asarray(3 * generator.standard_normal((height, width, 2), np.float32))


def logits_of(probability: np.ndarray) -> jax.Array:
    """Logits whose softmax is this."""
    return jnp.log(jnp.stack([jnp.asarray(1 - probability), jnp.asarray(probability)], axis=-1))


def oracle(features: np.ndarray, logits: np.ndarray, border_only: bool) -> np.ndarray:
    """The metric map, pixel by pixel."""
    height, width = logits.shape[:2]
    unit = np.zeros(features.shape)
    band, background = [], []
    for i, j in np.ndindex(height, width):
        norm = np.sqrt(np.sum(features[i, j].astype(np.float64) ** 2))
        unit[i, j] = features[i, j] / norm if norm else 0
        if i < 20 or j < 20 or i >= height - 20 or j >= width - 20:
            band.append((i, j))
        if logits[i, j, 1] < logits[i, j, 0]:
            background.append((i, j))
    region = [pixel for pixel in band if pixel in set(background)] if border_only else background
    expected = np.mean([unit[pixel] for pixel in region or background or band], axis=0)
    distance = np.sum((unit - expected) ** 2, axis=-1)
    return (distance - distance.min()) / (distance.max() - distance.min())


def test_probability_map_by_hand() -> None:
    logits = jnp.array([[[0, 0], [np.log(3), 0], [0, np.log(3)], [5, 5]]], jnp.float32)
    np.testing.assert_allclose(probability_map(logits), [[0.5, 0.25, 0.75, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(probability_map(jnp.array([[[1e4, -1e4], [-1e4, 1e4]]])), [[0, 1]])


def test_probability_map_of_a_batch() -> None:
    logits = jnp.stack([draw(0)[1], draw(1)[1]])
    np.testing.assert_allclose(probability_map(logits), jax.vmap(probability_map)(logits), rtol=1e-6)


def test_the_border_band_is_20_pixels_wide() -> None:
    assert BORDER == 20
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[20:-20, 20:-20] = False
    np.testing.assert_array_equal(border_band(HEIGHT, WIDTH), expected)
    assert np.sum(~expected) == 5 * 12


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 7)])
def test_the_band_of_a_small_image_is_all_of_it(height: int, width: int) -> None:
    assert border_band(height, width).all()
    assert not border_band(41, 41)[20, 20]


def test_border_background_and_its_fallbacks() -> None:
    band = np.asarray(border_band(HEIGHT, WIDTH))
    random = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH)).astype(np.float32)
    # the band's background pixels
    np.testing.assert_array_equal(border_background(jnp.asarray(random)), band & (random < 0.5))
    # one pixel of the band is enough, whatever lies inside
    one = np.where(band, 0.9, 0.1).astype(np.float32)
    one[0, 7] = 0.49
    np.testing.assert_array_equal(np.argwhere(border_background(jnp.asarray(one))), [[0, 7]])
    # none in the band: all background pixels
    inside = np.where(band, 0.9, random).astype(np.float32)
    np.testing.assert_array_equal(border_background(jnp.asarray(inside)), ~band & (random < 0.5))
    # none at all (exactly one half is not background): the band
    np.testing.assert_array_equal(border_background(jnp.full((HEIGHT, WIDTH), 0.5)), band)


def test_all_background_and_its_fallback() -> None:
    random = jnp.asarray(np.random.default_rng(1).uniform(size=(HEIGHT, WIDTH)).astype(np.float32))
    np.testing.assert_array_equal(all_background(random), random < 0.5)
    np.testing.assert_array_equal(all_background(jnp.full((HEIGHT, WIDTH), 0.5)), border_band(HEIGHT, WIDTH))


def test_a_constant_map_has_no_gradient() -> None:
    assert not np.any(jax.jacrev(min_max_normalise)(jnp.full((2, 3), 7.0)))


def test_min_max_normalise_by_hand() -> None:
    np.testing.assert_array_equal(min_max_normalise(jnp.array([[2.0, 4.0], [3.0, 6.0]])), [[0, 0.5], [0.25, 1]])
    np.testing.assert_array_equal(min_max_normalise(jnp.full((2, 3), 7.0)), 0)


def test_metric_map_by_hand() -> None:
    """Background (1, 0), twice, and (0, 1): mean (2, 1)/3. Distances² 2/9, 2/9, 8/9, and 26/9 at (-1, 0)."""
    features = jnp.array([[[5, 0], [0.1, 0]], [[0, 3], [-2, 0]]], jnp.float32)
    logits = logits_of(np.array([[0.1, 0.2], [0.3, 0.8]], np.float32))
    for region in (border_background, all_background):
        np.testing.assert_allclose(metric_map(features, logits, region), [[0.0, 0.0], [0.25, 1.0]], atol=1e-6)


def test_a_region_is_a_function_of_the_probabilities() -> None:
    """With the salient pixel alone for background, the map turns round."""
    features = jnp.array([[[5, 0], [0.1, 0]], [[0, 3], [-2, 0]]], jnp.float32)
    logits = logits_of(np.array([[0.1, 0.2], [0.3, 0.8]], np.float32))
    turned = metric_map(features, logits, lambda probability: probability > 0.5)
    np.testing.assert_allclose(turned, [[1.0, 1.0], [0.5, 0.0]], atol=1e-6)


def test_the_region_matters() -> None:
    features, logits = draw(2)
    features = features.at[20:-20, 20:-20, 0].add(5)
    border, everywhere = (metric_map(features, logits, region) for region in (border_background, all_background))
    assert jnp.max(jnp.abs(border - everywhere)) > 0.01
    np.testing.assert_array_equal(metric_map(features, logits), border)


@each_region
@pytest.mark.parametrize("shift", [0, 50, -50], ids=["some", "all salient", "all background"])
def test_equals_plain_loops(region: Region, shift: int) -> None:
    features, logits = draw(3)
    features = features.at[0, :5].set(0)
    logits = logits.at[..., 1].add(shift)
    expected = oracle(np.asarray(features), np.asarray(logits), region is border_background)
    np.testing.assert_allclose(metric_map(features, logits, region), expected, atol=5e-6)


def test_equals_plain_loops_with_background_only_inside() -> None:
    features, logits = draw(4)
    logits = logits.at[..., 1].add(jnp.where(border_band(HEIGHT, WIDTH), 50, 0).astype(jnp.float32))
    expected = oracle(np.asarray(features), np.asarray(logits), True)
    np.testing.assert_allclose(metric_map(features, logits), expected, atol=5e-6)


@each_region
def test_eager_jit_and_vmap_agree(region: Region) -> None:
    images = [draw(seed) for seed in range(3)]

    def of_region(features: jax.Array, logits: jax.Array) -> jax.Array:
        return metric_map(features, logits, region)

    with jax.disable_jit():
        eager = jnp.stack([of_region(*image) for image in images])
    jitted = jax.jit(of_region)
    np.testing.assert_allclose(jnp.stack([jitted(*image) for image in images]), eager, atol=2e-6)
    features, logits = (jnp.stack([image[i] for image in images]) for i in (0, 1))
    np.testing.assert_allclose(jax.jit(jax.vmap(of_region))(features, logits), eager, atol=2e-6)


@each_region
def test_hostile_inputs_give_maps_in_range(region: Region) -> None:
    features, logits = draw(5, 7, 9)
    some_zero = features.at[::2].set(0)
    kinds = [
        features,
        some_zero,
        0 * features,
        features * 1e30,
        features * 1e-30,
        features.at[3, 3].mul(1e30),
    ]
    beliefs = [logits, logits * 1e4, logits.at[..., 1].set(1e4), logits.at[..., 0].set(1e4), 0 * logits]
    pairs = [(f, z) for f in kinds for z in beliefs]
    stacked = [jnp.stack([pair[i] for pair in pairs]) for i in (0, 1)]
    maps = jax.jit(jax.vmap(lambda f, z: metric_map(f, z, region)))(*stacked)
    assert maps.dtype == jnp.float32
    assert jnp.all((maps >= 0) & (maps <= 1))
    varied = jnp.max(stacked[0], axis=(1, 2, 3)) > 0
    np.testing.assert_array_equal(jnp.min(maps, axis=(1, 2)), 0)
    np.testing.assert_array_equal(jnp.max(maps, axis=(1, 2)), varied)


@pytest.mark.parametrize(("height", "width"), [(7, 9), (45, 53), (64, 64)])
def test_constant_features_give_an_empty_map(height: int, width: int) -> None:
    vector = jnp.asarray(np.random.default_rng(6).standard_normal(16, np.float32))
    features = jnp.broadcast_to(vector, (height, width, 16))
    np.testing.assert_array_equal(jax.jit(metric_map)(features, draw(7, height, width)[1]), 0)


scaled_map = jax.jit(metric_map)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(exponent=st.floats(-20, 20))
def test_the_length_of_features_does_not_matter(exponent: float) -> None:
    features, logits = draw(8, 7, 9)
    scaled = features * np.float32(10**exponent)
    np.testing.assert_allclose(scaled_map(scaled, logits), scaled_map(features, logits), atol=5e-6)
    lengths = jnp.asarray(10 ** np.random.default_rng(9).uniform(-3, 3, (7, 9, 1)).astype(np.float32))
    np.testing.assert_allclose(scaled_map(features * lengths, logits), scaled_map(features, logits), atol=5e-6)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_the_gradient_of_a_map_is_one_over_the_length_of_features(scale: float) -> None:
    features, logits = draw(8, 7, 9)
    weights = jnp.asarray(np.random.default_rng(0).standard_normal((7, 9), np.float32))
    gradient = jax.jit(jax.grad(lambda f: jnp.sum(weights * metric_map(f, logits))))
    expected = gradient(features)
    found = gradient(features * np.float32(scale)) * np.float32(scale)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_without_cross_entropy_background_is_the_border() -> None:
    """Logits that nothing trained change nothing: the metric map measures from the whole border band."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 70, 4)).astype(np.float32)
    logits = [rng.normal(size=(60, 70, 2)).astype(np.float32) for _ in range(2)]
    region = background_region(LossConfig(metric=1.0, cross_entropy=0.0))
    first, second = (metric_map(jnp.asarray(features), jnp.asarray(each), region) for each in logits)
    np.testing.assert_array_equal(first, second)

    exact = features.astype(np.float64)
    unit = exact / np.linalg.norm(exact, axis=-1, keepdims=True)
    inside = np.zeros((60, 70), bool)
    inside[20:-20, 20:-20] = True
    distance = np.sum((unit - unit[~inside].mean(axis=0)) ** 2, axis=-1)
    np.testing.assert_allclose(first, (distance - distance.min()) / np.ptp(distance), atol=1e-5)


@pytest.mark.parametrize("metric", [0.0, 1.0])
def test_with_cross_entropy_it_says_where_background_is(metric: float) -> None:
    assert background_region(LossConfig(metric=metric, cross_entropy=0.5)) is border_background


each_rounding = pytest.mark.parametrize(
    ("quotients", "again"), [(0, 0), (2, 0), (-2, 0), (0, 1), (0, -1), (2, 1), (-2, -1), (2, -1)]
)


@each_rounding
def test_a_map_spans_0_to_1_on_a_device_that_rounds_otherwise(quotients: int, again: int) -> None:
    values = jnp.asarray(np.random.default_rng(0).uniform(1, 4, (8, 9)), jnp.float32)
    found = inexact(min_max_normalise, values, quotients=quotients, again=again)
    assert 0 <= found.min() < 1e-6
    assert found.max() <= 1
    if again >= 0:  # else the highest seems higher than any
        assert found.max() == 1  # what is thresholded at 1 is not empty
    by_hand = np.asarray(values)
    np.testing.assert_allclose(found, (by_hand - by_hand.min()) / np.ptp(by_hand), atol=1e-6)
    constant = inexact(min_max_normalise, jnp.full((3, 3), 7.0), quotients=quotients, again=again)
    assert 0 <= constant.min() <= constant.max() <= (0 if not again else 1)


@each_rounding
def test_the_gradient_of_a_map_is_its_gradient_on_a_device_that_rounds_otherwise(quotients: int, again: int) -> None:
    values = jnp.asarray(np.random.default_rng(0).uniform(1, 4, (8, 9)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((8, 9)), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(weights * min_max_normalise(x)))
    exact = np.ravel(np.asarray(values, np.float64))
    low, high = exact.argmin(), exact.argmax()
    share = (exact - exact.min()) / np.ptp(exact)
    by_hand = np.ravel(np.asarray(weights, np.float64)) / np.ptp(exact)
    inner = np.delete(by_hand, [low, high]), np.delete(share, [low, high])
    by_hand[low], by_hand[high] = -np.sum(inner[0] * (1 - inner[1])), -np.sum(inner[0] * inner[1])
    found = inexact(gradient, values, quotients=quotients, again=again)
    np.testing.assert_allclose(np.ravel(found), by_hand, rtol=1e-4)

"""Losses: golden values, hand-worked ones, a plain-loop oracle, mining and transformations."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from loss_cases import random_image

from menet_jax.model.losses import (
    Centres,
    class_centre_loss,
    class_centres,
    cross_entropy,
    hard_negatives,
    metric_loss,
    nth_largest,
    pairwise_metric_loss,
    unit_features,
)

Golden = dict[str, jax.Array]

each_distance = pytest.mark.parametrize("squared", [True, False], ids=["squared", "euclidean"])


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(Path(__file__).parent / "data" / "metric_loss.npz") as arrays:
        return {name: jnp.asarray(array) for name, array in arrays.items()}


# --- a plain-loop oracle


def oracle_unit(features: np.ndarray) -> np.ndarray:
    unit = np.zeros(features.shape)
    for i in np.ndindex(*features.shape[:2]):
        norm = np.sqrt(np.sum(features[i].astype(np.float64) ** 2))
        if norm > 0:
            unit[i] = features[i] / norm
    return unit


def oracle_loss(features: np.ndarray, labels: np.ndarray, squared: bool) -> np.ndarray:
    unit = oracle_unit(features)
    centre = {c: unit[labels == c].mean(axis=0) for c in (0, 1)}
    loss = np.zeros(labels.shape)
    for i in np.ndindex(*labels.shape):
        same, other = (np.sum((unit[i] - centre[c]) ** 2) for c in (int(labels[i]), 1 - int(labels[i])))
        loss[i] = same - other if squared else np.sqrt(same) - np.sqrt(other)
    return loss


def oracle_mining(loss: np.ndarray, labels: np.ndarray) -> np.ndarray:
    flat, kept = loss.ravel(), np.zeros(loss.size, bool)
    classes = [np.flatnonzero(labels.ravel() == c) for c in (0, 1)]
    n = min(map(len, classes))
    for members in classes:
        kept[sorted(members, key=lambda i: -flat[i])[:n]] = True  # sorting is stable: ties go to the earlier pixel
    return kept.reshape(loss.shape)


# --- golden values of the authors' code


def test_golden_centres_and_loss_of_every_pixel(golden: Golden) -> None:
    unit = unit_features(golden["features"])
    centres = jax.vmap(class_centres)(unit, golden["labels"])
    np.testing.assert_allclose(centres.salient, golden["salient_center"], atol=1e-6)
    np.testing.assert_allclose(centres.background, golden["background_center"], atol=1e-6)
    loss = jax.vmap(class_centre_loss)(unit, golden["labels"], centres)
    np.testing.assert_allclose(loss, golden["per_pixel_metric_loss"], atol=2e-6)
    np.testing.assert_allclose(jnp.mean(loss) + 4, golden["metric_loss_plus_4"], atol=1e-6)


def test_golden_masks(golden: Golden) -> None:
    kept = np.asarray(jax.vmap(hard_negatives)(golden["per_pixel_metric_loss"], golden["labels"]))
    labels = np.asarray(golden["labels"])
    np.testing.assert_array_equal(kept & (labels == 1), golden["salient_mask"] == 1)
    np.testing.assert_array_equal(kept & (labels == 0), golden["background_mask"] == 1)
    n = np.minimum((labels == 1).sum((1, 2)), (labels == 0).sum((1, 2)))
    np.testing.assert_array_equal((kept & (labels == 1)).sum((1, 2)), n)
    np.testing.assert_array_equal((kept & (labels == 0)).sum((1, 2)), n)


def test_golden_cross_entropy(golden: Golden) -> None:
    loss = jax.vmap(cross_entropy)(golden["logits"], golden["labels"])
    np.testing.assert_allclose(jnp.mean(loss) / 2, golden["cross_entropy_halved"], rtol=1e-6)
    gradient = jax.vmap(jax.grad(cross_entropy))(golden["logits"], golden["labels"])
    pixels = golden["labels"][0].size
    np.testing.assert_allclose(gradient, golden["cross_entropy_gradient"] / pixels, atol=1e-6 / pixels)


def test_golden_gradient_with_respect_to_unit_features(golden: Golden) -> None:
    """Honest autodiff gives 2·(c_other - c_same) over the number of kept pixels, where kept."""

    def mined_mean(unit: jax.Array, labels: jax.Array) -> jax.Array:
        loss = class_centre_loss(unit, labels, lax.stop_gradient(class_centres(unit, labels)))
        kept = hard_negatives(loss, labels)
        return jnp.sum(jnp.where(kept, loss, 0.0)) / jnp.maximum(jnp.sum(kept, dtype=jnp.float32), 1.0)

    unit = unit_features(golden["features"])
    gradient = jax.vmap(jax.grad(mined_mean))(unit, golden["labels"])
    count = np.asarray(golden["salient_mask"] + golden["background_mask"]).sum((1, 2), dtype=np.int32)
    assert (count > 0).tolist() == [True, True, False, True]
    scale = 2 / np.maximum(count, 1).astype(np.float32)[:, None, None, None]
    np.testing.assert_allclose(gradient, golden["metric_gradient_direction"] * scale, atol=1e-6)


def test_golden_gradient_with_respect_to_features(golden: Golden) -> None:
    """The same, carried through the normalisation by hand: (I - uuᵀ)/‖f‖."""
    gradient = jax.vmap(jax.grad(metric_loss))(golden["features"], golden["labels"])
    features = np.asarray(golden["features"], np.float64)
    norm = np.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / norm
    count = np.asarray(golden["salient_mask"] + golden["background_mask"]).sum((1, 2), dtype=np.int32)
    direction = 2 * np.asarray(golden["metric_gradient_direction"], np.float64)
    direction /= np.maximum(count, 1)[:, None, None, None]
    expected = (direction - unit * np.sum(unit * direction, axis=-1, keepdims=True)) / norm
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


# --- by hand

# One salient pixel at (1, 0), three background pixels at (0, 1), (0, 1) and (-1, 0), none of unit length:
# c_s = (1, 0), c_b = (-1, 2)/3.
FEATURES = jnp.array([[[2, 0], [0, 3]], [[0, 0.5], [-7, 0]]], jnp.float32)
LABELS = jnp.array([[1, 0], [0, 0]])


def test_centres_and_loss_by_hand() -> None:
    unit = unit_features(FEATURES)
    np.testing.assert_allclose(unit, [[[1, 0], [0, 1]], [[0, 1], [-1, 0]]], atol=1e-7)
    centres = class_centres(unit, LABELS)
    np.testing.assert_allclose(centres.salient, [1, 0], atol=1e-7)
    np.testing.assert_allclose(centres.background, [-1 / 3, 2 / 3], atol=1e-7)
    squared = class_centre_loss(unit, LABELS, centres)
    # 0 - (16 + 4)/9;  (1 + 1)/9 - 2, twice;  (4 + 4)/9 - 4
    np.testing.assert_allclose(squared, [[-20 / 9, -16 / 9], [-16 / 9, -28 / 9]], atol=1e-6)
    euclidean = class_centre_loss(unit, LABELS, centres, squared=False)
    tie = np.sqrt(2) / 3 - np.sqrt(2)
    np.testing.assert_allclose(euclidean, [[-np.sqrt(20) / 3, tie], [tie, np.sqrt(8) / 3 - 2]], atol=1e-6)


def test_metric_loss_by_hand() -> None:
    # mining keeps the salient pixel and one of the two tied background ones
    kept = hard_negatives(jnp.array([[-20 / 9, -16 / 9], [-16 / 9, -28 / 9]]), LABELS)
    np.testing.assert_array_equal(kept, [[True, True], [False, False]])
    np.testing.assert_allclose(metric_loss(FEATURES, LABELS), (-20 / 9 - 16 / 9) / 2, rtol=1e-6)
    np.testing.assert_allclose(metric_loss(FEATURES, LABELS, mining=False), -80 / 9 / 4, rtol=1e-6)


def test_pairwise_by_hand() -> None:
    loss = pairwise_metric_loss(FEATURES, LABELS, squared=True)
    # same: 0; (0 + 0 + 2)/3, twice; (2 + 2 + 0)/3.  other: (2 + 2 + 4)/3; 2, twice; 4
    np.testing.assert_allclose(loss, [[-8 / 3, 2 / 3 - 2], [2 / 3 - 2, 4 / 3 - 4]], atol=1e-6)
    root = np.sqrt(2)
    euclidean = pairwise_metric_loss(FEATURES, LABELS)
    expected = [[-(2 * root + 2) / 3, root / 3 - root], [root / 3 - root, 2 * root / 3 - 2]]
    np.testing.assert_allclose(euclidean, expected, atol=1e-6)


def test_cross_entropy_by_hand() -> None:
    logits = jnp.array([[[0, 0], [np.log(3), 0]]], jnp.float32)
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([[0, 1]])), np.log(2 * 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([[1, 0]])), np.log(2 * 4 / 3) / 2, rtol=1e-6)


def test_extremes_of_the_range_are_reached() -> None:
    """l is -4 when the classes are opposite points, and +4 when measured to each other's centre."""
    features = jnp.array([[[1, 0], [-1, 0]]], jnp.float32)
    right, wrong = jnp.array([[1, 0]]), jnp.array([[0, 1]])
    centres = class_centres(features, right)
    for squared, extreme in ((True, 4), (False, 2)):
        np.testing.assert_array_equal(class_centre_loss(features, right, centres, squared=squared), -extreme)
        np.testing.assert_array_equal(class_centre_loss(features, wrong, centres, squared=squared), extreme)


# --- against the oracle


@each_distance
@pytest.mark.parametrize("salient", [1, 15, 21])
def test_equals_plain_loops(squared: bool, salient: int) -> None:
    features, labels = random_image(salient, salient=salient)
    features = features.at[0, 0].set(0)
    unit = unit_features(features)
    expected = oracle_loss(np.asarray(features), np.asarray(labels), squared)
    loss = class_centre_loss(unit, labels, class_centres(unit, labels), squared=squared)
    np.testing.assert_allclose(loss, expected, atol=2e-6)
    kept = oracle_mining(expected, np.asarray(labels))
    np.testing.assert_array_equal(hard_negatives(loss, labels), kept)
    for mining, mask in ((True, kept), (False, np.ones_like(kept))):
        value = metric_loss(features, labels, squared=squared, mining=mining)
        np.testing.assert_allclose(value, expected[mask].mean(), atol=2e-6)


def test_labels_may_be_any_integers_or_booleans() -> None:
    features, labels = random_image(0)
    expected = metric_loss(features, labels), cross_entropy(features[..., :2], labels)
    for dtype in (jnp.bool, jnp.uint8, jnp.int8, jnp.int32):
        same = labels.astype(dtype)
        assert (metric_loss(features, same), cross_entropy(features[..., :2], same)) == expected


# --- hard negative mining


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    values=st.lists(st.floats(allow_nan=False, width=32), min_size=6, max_size=6)
    | st.permutations([-2.0, -1, -0.0, 0, 1, 1]),
    n=st.integers(1, 6),
)
def test_nth_largest_is_the_sorted_ones(values: list[float], n: int) -> None:
    array = np.array(values, np.float32).reshape(2, 3)
    array[np.abs(array) < np.finfo(np.float32).tiny] *= 0  # XLA flushes what is smaller to zero
    found = float(_nth_largest(jnp.asarray(array), jnp.asarray(n)))
    assert found == np.sort(array, axis=None)[-n]


def test_nth_largest_in_float64() -> None:
    values = np.random.default_rng(0).standard_normal(99)
    with jax.enable_x64(True):
        assert all(float(nth_largest(jnp.asarray(values), jnp.asarray(n))) == np.sort(values)[-n] for n in (1, 50, 99))


mine = jax.jit(hard_negatives)
_nth_largest = jax.jit(nth_largest)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    loss=st.lists(st.integers(-2, 2), min_size=12, max_size=12),
    labels=st.lists(st.integers(0, 1), min_size=12, max_size=12),
)
def test_mining_keeps_exactly_n_of_each_class(loss: list[int], labels: list[int]) -> None:
    losses, classes = np.array(loss, np.float32).reshape(3, 4), np.array(labels).reshape(3, 4)
    kept = np.asarray(mine(jnp.asarray(losses), jnp.asarray(classes)))
    n = min(sum(labels), 12 - sum(labels))
    assert (np.sum(kept & (classes == 1)), np.sum(kept & (classes == 0))) == (n, n)
    np.testing.assert_array_equal(kept, oracle_mining(losses, classes))
    for c in (0, 1):  # nothing left out is harder than anything kept
        inside, outside = losses[kept & (classes == c)], losses[~kept & (classes == c)]
        assert not inside.size or not outside.size or outside.max() <= inside.min()


@pytest.mark.parametrize("salient", [0, 1, 5, 6, 7, 12])
def test_mining_breaks_ties_of_a_constant_loss_by_order(salient: int) -> None:
    labels = jnp.arange(12).reshape(3, 4) < salient
    kept = np.asarray(mine(jnp.zeros((3, 4)), labels)).ravel()
    n = min(salient, 12 - salient)
    np.testing.assert_array_equal(np.flatnonzero(kept), [*range(n), *range(salient, salient + n)])


# --- Eq. 2 and Eq. 3


@pytest.mark.parametrize("salient", [9, 15])
def test_pairwise_exceeds_class_centre_loss_by_the_difference_of_variances(salient: int) -> None:
    """Squared: mean_j ‖u_i - u_j‖² = ‖u_i - c‖² + v with v = 1 - ‖c‖² for unit features."""
    features, labels = random_image(1, salient=salient)
    unit = unit_features(features)
    centres = class_centres(unit, labels)
    v_salient, v_background = (1 - jnp.sum(c * c) for c in centres)
    difference = pairwise_metric_loss(features, labels, squared=True) - class_centre_loss(unit, labels, centres)
    expected = np.where(labels == 1, v_salient - v_background, v_background - v_salient)
    np.testing.assert_allclose(difference, expected, atol=2e-6)
    balanced = 2 * salient == labels.size
    assert (abs(float(jnp.sum(difference))) < 1e-4) == balanced


@each_distance
def test_pairwise_equals_class_centre_loss_when_classes_are_points(squared: bool) -> None:
    generator = np.random.default_rng(2)
    labels = random_image(2)[1]
    points = generator.standard_normal((2, 16), np.float32)
    lengths = generator.uniform(0.5, 2, (*labels.shape, 1)).astype(np.float32)
    features = jnp.asarray(points[np.asarray(labels)] * lengths)
    unit = unit_features(features)
    loss = class_centre_loss(unit, labels, class_centres(unit, labels), squared=squared)
    np.testing.assert_allclose(pairwise_metric_loss(features, labels, squared=squared), loss, atol=2e-6)


def test_euclidean_pairwise_bounds_class_centre_loss_when_one_class_is_a_point() -> None:
    """mean_j ‖u_i - u_j‖ ≥ ‖u_i - c‖ (Jensen), with equality for a class that is one point: so the pairwise
    loss is the larger in the other class, and the smaller in the point's own.
    """
    features, labels = random_image(3)
    features = jnp.where(labels[..., None] == 0, jnp.eye(16)[0][None, None], features)
    unit = unit_features(features)
    loss = class_centre_loss(unit, labels, class_centres(unit, labels), squared=False)
    excess = np.asarray(pairwise_metric_loss(features, labels) - loss)
    assert excess[labels == 1].min() > 0.01
    assert excess[labels == 0].max() < -0.01


# --- transformations


def centre_loss_of(features: jax.Array, labels: jax.Array) -> jax.Array:
    unit = unit_features(features)
    return class_centre_loss(unit, labels, class_centres(unit, labels))


@pytest.mark.parametrize(
    "function",
    [
        centre_loss_of,
        pairwise_metric_loss,
        metric_loss,
        jax.grad(metric_loss),
        lambda f, y: hard_negatives(f[..., 0], y),
        lambda f, y: cross_entropy(f[..., :2], y),
    ],
    ids=["class_centre_loss", "pairwise", "metric_loss", "its gradient", "hard_negatives", "cross_entropy"],
)
def test_eager_jit_and_vmap_agree(function: Callable[[jax.Array, jax.Array], jax.Array]) -> None:
    images = [random_image(seed, salient=salient) for seed, salient in enumerate((0, 4, 28))]
    features, labels = (jnp.stack([image[i] for image in images]) for i in (0, 1))
    with jax.disable_jit():
        eager = jnp.stack([function(f, y) for f, y in zip(features, labels, strict=True)])
    batched = jax.jit(jax.vmap(function))
    np.testing.assert_allclose(batched(features, labels), eager, atol=2e-6)
    jitted = jax.jit(function)
    one_by_one = jnp.stack([jitted(f, y) for f, y in zip(features, labels, strict=True)])
    np.testing.assert_allclose(one_by_one, eager, atol=2e-6)


def test_centres_of_a_missing_class_are_zero() -> None:
    features, labels = random_image(10, salient=30)
    centres = class_centres(unit_features(features), labels)
    assert isinstance(centres, Centres)
    np.testing.assert_array_equal(centres.background, 0)
    assert jnp.max(jnp.abs(centres.salient)) > 0


@pytest.mark.parametrize("loss", [metric_loss, lambda f, y: cross_entropy(f[..., :2], y)])
def test_gradients_scatter_nothing(loss: Callable[[jax.Array, jax.Array], jax.Array]) -> None:
    assert "scatter" not in str(jax.make_jaxpr(jax.grad(loss))(*random_image(11)))

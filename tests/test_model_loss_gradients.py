"""Losses: gradients against numerical ones, and both finite at hostile inputs."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_cases import Image, each_option, random_image

from menet_jax.model.losses import (
    class_centre_loss,
    class_centres,
    cross_entropy,
    hard_negatives,
    metric_loss,
    safe_norm,
    unit_features,
)

# --- gradients

# Distance and mining; all four settings in one function, whose four values check_grads weighs at random.
SETTINGS = [{"squared": squared, "mining": mining} for squared, mining in product((True, False), repeat=2)]

check = partial(check_grads, order=1, modes=["rev"], atol=1e-7, rtol=1e-7, eps=1e-6)


def test_full_gradient_is_the_numerical_one() -> None:
    features, labels = random_image(4, 3, 4, 5)
    with jax.enable_x64(True):

        @jax.jit
        def losses(x: jax.Array) -> jax.Array:
            return jnp.stack([metric_loss(x, labels, **setting, stop_centres=False) for setting in SETTINGS])

        check(losses, (features.astype(jnp.float64),))


def test_stopped_gradient_is_the_numerical_one_with_centres_held() -> None:
    features, labels = random_image(5, 3, 4, 5)
    with jax.enable_x64(True):
        x = features.astype(jnp.float64)
        centres = class_centres(unit_features(x), labels)

        def held(x: jax.Array, squared: bool, mining: bool) -> jax.Array:
            loss = class_centre_loss(unit_features(x), labels, centres, squared=squared)
            return jnp.mean(loss, where=hard_negatives(loss, labels) if mining else None)

        functions = [
            lambda x: jnp.stack([held(x, **setting) for setting in SETTINGS]),
            lambda x: jnp.stack([metric_loss(x, labels, **setting) for setting in SETTINGS]),
            lambda x: jnp.stack([metric_loss(x, labels, **setting, stop_centres=False) for setting in SETTINGS]),
        ]
        check(jax.jit(functions[0]), (x,))
        constant, stopped, full = (jax.jit(jax.jacrev(function))(x) for function in functions)
        np.testing.assert_allclose(stopped, constant, atol=1e-12)
        assert jnp.all(jnp.max(jnp.abs(full - stopped), axis=(1, 2, 3)) > 1e-3)


def test_cross_entropy_gradient_is_the_numerical_one() -> None:
    features, labels = random_image(6, 3, 4, 5)
    with jax.enable_x64(True):
        check(jax.jit(lambda x: cross_entropy(x, labels)), (features[..., :2].astype(jnp.float64),))


# --- hostile inputs


def hostile_images() -> Image:
    """Every kind of features with every kind of labels."""
    normal, mixed = map(np.asarray, random_image(8))
    some_zero = normal.copy()
    some_zero[::2] = 0
    uneven = normal * np.logspace(-30, 30, 16, dtype=np.float32)
    kinds = [normal, some_zero, 0 * normal, 0 * normal + 1, normal * 1e30, normal * 1e-30, uneven]
    kinds += [normal * np.float32(1e-42)]  # subnormal numbers
    single = np.zeros_like(mixed)
    single[0, 0] = 1
    classes = [mixed, 0 * mixed, 0 * mixed + 1, single, 1 - single]
    pairs = list(product(kinds, classes))
    return jnp.asarray(np.stack([f for f, _ in pairs])), jnp.asarray(np.stack([y for _, y in pairs]))


@each_option
def test_metric_loss_and_gradient_stay_finite(options: dict[str, bool]) -> None:
    features, labels = hostile_images()
    graded = jax.value_and_grad(lambda f, y: metric_loss(f, y, **options))
    values, gradients = jax.jit(jax.vmap(graded))(features, labels)
    assert values.dtype == gradients.dtype == jnp.float32
    assert jnp.all(jnp.abs(values) <= (4.0 if options["squared"] else 2.0))
    assert jnp.all(jnp.isfinite(gradients))
    one_class = labels.min((1, 2)) == labels.max((1, 2))
    np.testing.assert_array_equal(values[one_class], 0)
    np.testing.assert_array_equal(gradients[one_class], 0)
    zero = np.all(features == 0, axis=(1, 2, 3))
    np.testing.assert_array_equal(values[zero], 0)
    np.testing.assert_array_equal(gradients[zero], 0)


@pytest.mark.parametrize("scale", [1e30, 1e-30, 3.0])
def test_metric_loss_does_not_depend_on_the_length_of_features(scale: float) -> None:
    features, labels = random_image(9)
    scaled = metric_loss(features * np.float32(scale), labels)
    np.testing.assert_allclose(scaled, metric_loss(features, labels), rtol=1e-5)


def test_unit_features_are_of_length_one_or_zero() -> None:
    features, _ = hostile_images()
    norms = np.linalg.norm(unit_features(features), axis=-1)
    assert np.all(np.isclose(norms, 1, atol=1e-6) | (norms == 0))
    normal = np.abs(features).max(axis=-1) >= np.finfo(np.float32).tiny
    np.testing.assert_array_equal(norms > 0, normal)
    np.testing.assert_array_equal(unit_features(jnp.zeros((2, 16))), 0)


graded_cross_entropy = jax.jit(jax.value_and_grad(cross_entropy))


@pytest.mark.parametrize("labels", [[[0, 0]], [[1, 1]], [[0, 1]], [[1, 0]]])
@pytest.mark.parametrize("logits", [[-1e4, 1e4], [1e4, -1e4], [1e4, 1e4], [0.0, 0.0]])
def test_cross_entropy_stays_finite(labels: list[list[int]], logits: list[float]) -> None:
    x = jnp.broadcast_to(jnp.array(logits, jnp.float32), (1, 2, 2))
    value, gradient = graded_cross_entropy(x, jnp.array(labels))
    assert jnp.isfinite(value)
    assert jnp.all(jnp.isfinite(gradient))
    wrong = np.mean([max(logits) - logits[label] for label in labels[0]])
    np.testing.assert_allclose(value, wrong + (np.log(2) if logits[0] == logits[1] else 0), rtol=1e-6, atol=1e-3)


def test_safe_norm_is_smooth_at_zero() -> None:
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(safe_norm(x), [5, 0])
    np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(safe_norm(x)))(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)

"""The certified bound: sound for random networks, statistics and images, for MENet, and its norms against the SVD."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jacobian_cases import (
    IMAGE,
    SMALL_IMAGE,
    Matrix,
    SmallNet,
    check_norms,
    small_image,
    small_variables,
)

from menet_jax.model.menet import MENet
from menet_jax.robustness.jacobian.bounds import (
    PAPER_SOFTMAX,
    TIGHT_SOFTMAX,
    bound_norms,
    bounding_map,
    nonnegative_norms,
    rounding_margin,
)
from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    Output,
    evaluate,
    features,
    logit_margin,
    metric,
    network_map,
    pooled,
    probability,
)

jacobian_at = jax.jit(lambda f, x: jax.jacrev(f)(x))


def rows(jacobian: Any) -> np.ndarray:
    return np.asarray(jacobian, np.float64).reshape(-1, int(np.prod(SMALL_IMAGE)))


# --- soundness


@pytest.mark.parametrize("output", [probability, features])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31), strength=st.sampled_from([1e-2, 1.0, 60.0]))
def test_no_jacobian_and_no_finite_difference_exceeds_the_bound(output: Output, seed: int, strength: float) -> None:
    f = network_map(SmallNet(), small_variables(seed), output)
    x = small_image(seed)
    bound = rows(jacobian_at(bounding_map(f), jnp.zeros(SMALL_IMAGE)))
    assert (bound >= 0).all()
    jacobian = rows(jacobian_at(f, jnp.asarray(x)))
    assume(jacobian.any())  # where every ReLU of a network is closed, nothing is shown
    assert (np.abs(jacobian) <= bound * (1 + 1e-4) + 1e-7 * bound.max()).all()

    delta = strength * np.random.default_rng(seed).standard_normal(SMALL_IMAGE).astype(np.float32)
    moved = x + delta
    before, after = (np.asarray(evaluate(f, jnp.asarray(image)), np.float64).ravel() for image in (x, moved))
    rounding = 1e-5 * max(1, np.abs(before).max())
    assert (np.abs(after - before) <= bound @ np.abs(moved.astype(np.float64) - x).ravel() + rounding).all()


def test_the_bound_is_reached_where_all_weights_have_one_sign() -> None:
    """With positive weights and biases every ReLU passes and every path adds up: J is J̄ but for the slope of tanh."""
    variables = jax.tree.map(np.abs, small_variables(3))
    for name in ("logits_norm", "features_norm"):
        variables["batch_stats"][name]["mean"] *= 0
    stats = variables["batch_stats"]
    variables["batch_stats"] = jax.tree.map_with_path(lambda path, a: a * (path[-1].key == "var"), stats)
    net = SmallNet(tanh=lambda x: x)
    f = network_map(net, variables, features)
    bound = rows(jacobian_at(bounding_map(f), jnp.zeros(SMALL_IMAGE)))
    np.testing.assert_allclose(rows(jacobian_at(f, jnp.ones(SMALL_IMAGE))), bound, rtol=1e-5)


def test_softmax_factors() -> None:
    f = network_map(SmallNet(), small_variables(0), probability)
    tight, paper = (bounding_map(f, softmax=factor) for factor in (TIGHT_SOFTMAX, PAPER_SOFTMAX))
    v = jnp.ones(SMALL_IMAGE)
    np.testing.assert_allclose(paper(v), 4 * tight(v), rtol=1e-6)
    margin = bounding_map(network_map(SmallNet(), small_variables(0), logit_margin))
    np.testing.assert_allclose(paper(v), margin(v), rtol=1e-6)


# --- norms


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31), empty=st.integers(0, 30), scale=st.sampled_from([1e-12, 1.0, 1e12, 1e30]))
def test_norms_of_nonnegative_matrices(seed: int, empty: int, scale: float) -> None:
    """Sparse ones, with columns of zeros (pixels without influence) and at the ends of float32's range."""
    rng = np.random.default_rng(seed)
    a = rng.random((21, 60)) * (rng.random((21, 60)) < 0.3)
    a[:, rng.permutation(60)[:empty]] = 0
    a = (scale * a).astype(np.float32)
    norms = nonnegative_norms(Matrix(jnp.asarray(a)), IMAGE[:2], 1e-5, tolerance=1e-3, max_iterations=200)
    check_norms(norms, a.astype(np.float64), tolerance=2e-3 if norms.iterations < 200 else 1)


def test_a_reducible_matrix_is_bounded_too() -> None:
    """Two separate blocks: power iteration leaves the weaker one, whose elements sink, but its ratio stays below."""
    a = np.zeros((21, 60), np.float32)
    a[:10, :30], a[10:, 30:] = 1, 0.5
    norms = nonnegative_norms(Matrix(jnp.asarray(a)), IMAGE[:2], 0.0)
    check_norms(norms, a.astype(np.float64), tolerance=2e-2)


def test_a_wide_margin_does_not_keep_it_from_stopping() -> None:
    a = np.ones((21, 60), np.float32)
    norms = nonnegative_norms(Matrix(jnp.asarray(a)), IMAGE[:2], 0.05, tolerance=1e-3)
    assert norms.iterations == 1
    assert norms.two == pytest.approx(np.linalg.norm(a) / 0.95, rel=1e-5)


def test_negative_elements_are_noticed() -> None:
    a = np.ones((21, 60), np.float32)
    a[3] = -1
    with pytest.raises(ValueError, match="has negative elements"):
        nonnegative_norms(Matrix(jnp.asarray(a)), IMAGE[:2], 0.0)


def test_no_influence_at_all() -> None:
    norms = nonnegative_norms(Matrix(jnp.zeros((21, 60))), IMAGE[:2], 0.0)
    assert norms == (0, 0, 0, 0, 0, 0, 0, 0)


def test_norms_beyond_float32() -> None:
    """Products of 1e24 and 1e24: vectors are scaled down; and of more than any scale allows: said."""

    def twice(a: jax.Array, image: jax.Array) -> jax.Array:
        return (a * (a * jnp.sum(image))).reshape(1)

    def gain(a: float) -> ImageMap:
        return jax.tree_util.Partial(twice, jnp.float32(a))

    norms = nonnegative_norms(gain(1e24), IMAGE[:2], 0.0)
    assert norms.infinity == pytest.approx(60e48, rel=1e-5)
    assert norms.two == pytest.approx(np.sqrt(60) * 1e48, rel=1e-5)
    with pytest.raises(OverflowError, match=r"beyond float32, even for vectors scaled by 2\^-100"):
        nonnegative_norms(gain(3e38), IMAGE[:2], 0.0)


def test_rounding_margin() -> None:
    """Covers what float32 loses against float64; some hundred thousand roundings at the paper's width."""
    variables = small_variables(1)
    f = network_map(SmallNet(), variables, logit_margin)
    margin = rounding_margin(f, SMALL_IMAGE[:2])
    single = np.asarray(evaluate(bounding_map(f), jnp.ones(SMALL_IMAGE)), np.float64)
    with jax.enable_x64(True):
        double = network_map(SmallNet(dtype=jnp.float64), jax.tree.map(np.float64, variables), logit_margin)
        exact = np.asarray(evaluate(bounding_map(double), jnp.ones(SMALL_IMAGE, jnp.float64)))
    error = np.abs(single / exact - 1).max()
    assert 0 < error < margin < 1e-3

    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(MENet().init, jax.random.key(0), images)
    wide = rounding_margin(network_map_unchecked(shapes), (224, 224))
    assert 0.005 < wide < 0.05


def network_map_unchecked(variables: Any) -> Any:
    return network_map(SmallNet(), small_variables(0)).replace(variables=variables)


# --- refusals


def constant(image: jax.Array) -> jax.Array:
    return image


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda net: net(metric), ValueError, r"the metric map has no bound .* magnifies changes by 1/‖f‖"),
        (lambda net: pooled(net(metric), 2), ValueError, "the metric map has no bound"),
        (lambda net: net(lambda outputs: outputs.logits), ValueError, "do not know how to bound the output"),
        (lambda net: constant, TypeError, "only maps of a network can be bounded"),
        (lambda net: pooled(constant, 2), TypeError, "only maps of a network can be bounded"),
    ],
)
def test_what_has_no_bound_is_refused(
    make: Callable[[Callable[[Output], ImageMap]], Any], kind: type[Exception], message: str
) -> None:
    f = make(partial(network_map, SmallNet(), small_variables(0)))
    with pytest.raises(kind, match=message):
        bounding_map(f)


def test_bad_settings() -> None:
    f = network_map(SmallNet(), small_variables(0))
    with pytest.raises(ValueError, match=r"factor of 0\.2 bounds nothing"):
        bounding_map(f, softmax=0.2)
    for bad in ({"tolerance": 0.0}, {"max_iterations": 0}):
        with pytest.raises(ValueError, match="cannot bound with"):
            bound_norms(f, SMALL_IMAGE[:2], **bad)
    f.variables["params"]["stem_conv"]["gamma"] = jnp.ones(2)
    with pytest.raises(ValueError, match="do not know how to bound the variable params/stem_conv/gamma"):
        bounding_map(f)

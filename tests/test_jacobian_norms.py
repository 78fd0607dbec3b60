"""Jacobian norms against the full singular value decomposition of J, sensitivity and bad input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jacobian_cases import IMAGE, MAP, Matrix, SmallNet, as_matrix, matrix, small_image, small_variables

from menet_jax.robustness.jacobian import spectral
from menet_jax.robustness.jacobian.image_function import NetworkMap, linearise, logit_margin, network_map, pooled
from menet_jax.robustness.jacobian.norms import exact_jacobian, frobenius_norm, summarise
from menet_jax.robustness.jacobian.sensitivity import input_sensitivity, output_sensitivity
from menet_jax.robustness.jacobian.spectral import SpectralNorm, lanczos, power_iteration

X = np.random.default_rng(0).uniform(0, 255, IMAGE).astype(np.float32)
SPECTRA = {
    "separate": np.geomspace(1, 1e-3, 21),
    "clustered": 1 - 5e-3 * np.arange(21),
    "a triple": [2, 2, 2, 1],
    "rank 1": [3e-4],
    "all equal": np.ones(21),
    "tiny": 1e-12 * np.geomspace(1, 0.1, 21),
    "huge": 1e15 * np.geomspace(1, 0.1, 21),
}
each_method = pytest.mark.parametrize("method", [power_iteration, lanczos])
Method = Callable[..., SpectralNorm]


def small_map(seed: int) -> NetworkMap:
    return network_map(SmallNet(), small_variables(seed), logit_margin)


CASES: dict[str, tuple[Any, np.ndarray]] = {
    **{name: (matrix(values), X) for name, values in SPECTRA.items()},
    **{f"network {seed}": (small_map(seed), small_image(seed)) for seed in range(2)},
    "pooled network": (pooled(small_map(5), 4), small_image(5)),
}
each_case = pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)


# --- exact


def test_exact_jacobian_of_a_matrix_is_the_matrix() -> None:
    f = matrix(SPECTRA["separate"])
    jacobian = exact_jacobian(f, X)
    assert jacobian.shape == (*MAP, *IMAGE)
    np.testing.assert_array_equal(as_matrix(jacobian), f.a)


@each_case
def test_products_are_those_of_the_matrix(f: Any, x: np.ndarray) -> None:
    matrix, jacobian, rng = as_matrix(exact_jacobian(f, x)), linearise(f, x), np.random.default_rng(0)
    v, u = rng.standard_normal(x.shape), rng.standard_normal(jacobian.value.shape)
    for product, expected in ((jacobian.jvp(v), matrix @ v.ravel()), (jacobian.vjp(u), u.ravel() @ matrix)):
        np.testing.assert_allclose(np.ravel(product), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def aligned(array: np.ndarray) -> np.ndarray:
    """The array where a device of the CPU could take it as it is."""
    room = np.zeros(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    found = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[:] = array
    return found


def test_what_the_caller_writes_to_its_arrays_later_changes_nothing() -> None:
    x = aligned(small_image(0))
    variables = jax.tree.map(aligned, small_variables(0))
    f = network_map(SmallNet(), variables)
    jacobian = linearise(f, x)
    u = np.ones(jacobian.value.shape, np.float32)
    before = np.array(f(jnp.asarray(small_image(0)))), np.array(jacobian.vjp(u))
    for array in (x, *jax.tree.leaves(variables)):
        array[:] = 7
    after = f(jnp.asarray(small_image(0))), jacobian.vjp(u)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_exact_jacobian_says_how_much_memory_it_would_take() -> None:
    f = small_map(0)
    with pytest.raises(MemoryError, match=r"64 values by 192 takes 0\.0469 MiB, over the limit of 0\.0381 MiB\. Pool"):
        exact_jacobian(f, small_image(0), memory_limit=40_000)
    with pytest.raises(MemoryError, match=r"takes 0\.0469 MiB, and .* MiB to compute, over the limit of 0\.0486 MiB"):
        exact_jacobian(f, small_image(0), memory_limit=51_000)
    with pytest.raises(MemoryError, match=r"50176 values by 150528 takes 28\.1 GiB, over the limit of 1 GiB"):
        exact_jacobian(lambda x: jnp.sum(x, axis=-1), np.zeros((224, 224, 3), np.float32))


# --- Hutchinson


@pytest.mark.parametrize("name", ["separate", "rank 1", "network 1"])
def test_the_estimated_frobenius_norm_is_within_3_standard_errors(name: str) -> None:
    f, x = CASES[name]
    exact = float(np.linalg.norm(as_matrix(exact_jacobian(f, x))))
    within = 0
    for seed in range(100):
        estimate = frobenius_norm(f, x, jax.random.key(seed), relative_error=0.05)
        assert estimate.converged
        assert estimate.standard_error <= 0.05 * estimate.value
        within += abs(estimate.value - exact) <= 3 * estimate.standard_error + 1e-6 * exact
    assert within >= 95


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    f, x = CASES["separate"]
    estimates = [frobenius_norm(f, x, jax.random.key(s), relative_error=1e-9, max_samples=128) for s in range(100)]
    spread = np.std([estimate.value for estimate in estimates])
    assert np.mean([estimate.standard_error for estimate in estimates]) == pytest.approx(spread, rel=0.2)
    assert all(estimate.samples == 128 and not estimate.converged for estimate in estimates)


def test_more_samples_are_taken_for_a_smaller_error() -> None:
    f, x = CASES["rank 1"]
    key = jax.random.key(0)
    rough, fine = (frobenius_norm(f, x, key, relative_error=error) for error in (0.2, 0.04))
    assert rough.samples == 64
    assert fine.samples > 200
    assert fine.converged
    assert not frobenius_norm(f, x, key, relative_error=0.01, max_samples=100).converged


# --- spectral norm


@each_method
@each_case
def test_spectral_norm(method: Method, f: Any, x: np.ndarray) -> None:
    left, values, right = np.linalg.svd(as_matrix(exact_jacobian(f, x)), full_matrices=False)
    limit = {"max_iterations": 5000} if method is power_iteration else {}
    found = method(f, x, jax.random.key(1), **limit)
    assert found.converged
    assert found.residual <= 1e-5
    assert found.value == pytest.approx(values[0], rel=1e-4)
    assert found.upper >= values[0] * (1 - 1e-5)
    near = values > values[0] * (1 - 1e-2)  # the vectors lie in the space of the largest values
    for vector, basis in ((found.right, right[near]), (found.left, left[:, near].T)):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(basis @ vector.ravel()) == pytest.approx(1, abs=1e-3)
    assert found.right.shape == x.shape


@each_method
def test_no_convergence_is_claimed_falsely(method: Method) -> None:
    """Two values a thousandth apart, others near: from every start the result is right, or said not to be."""
    f = matrix([1, 0.999, 0.998, *np.linspace(0.99, 0.5, 18)])
    claims = 0
    for seed in range(20):
        found = method(f, X, jax.random.key(seed), max_iterations=100 if method is power_iteration else 12)
        claims += found.converged
        assert not found.converged or found.value == pytest.approx(1, rel=1e-4)
        assert found.value <= 1 + 1e-5
        assert found.upper >= 1 - 1e-5
    assert claims < 20


@each_method
def test_stopping_early_is_said(method: Method) -> None:
    found = method(CASES["clustered"][0], X, jax.random.key(0), max_iterations=3)
    assert found.iterations == 3
    assert not found.converged
    assert 1e-4 < found.residual < 0.1
    assert found.value < 1


@each_method
def test_a_constant_map_has_norm_zero(method: Method) -> None:
    found = method(Matrix(jnp.zeros((21, 60))), X, jax.random.key(0))
    assert (found.value, found.residual, found.converged) == (0, 0, True)
    assert frobenius_norm(Matrix(jnp.zeros((21, 60))), X, jax.random.key(0)) == (0, 0, 64, True)


# --- sensitivity


@pytest.mark.parametrize("name", ["separate", "network 1"])
def test_sensitivity_maps(name: str) -> None:
    f, x = CASES[name]
    squares, key = np.asarray(exact_jacobian(f, x), np.float64) ** 2, jax.random.key(0)
    columns = input_sensitivity(f, x, key, samples=512)
    rows = output_sensitivity(f, x, key, samples=512)
    over_map, over_image = tuple(range(squares.ndim - 3)), (-3, -2, -1)
    exact_columns, exact_rows = np.sqrt(squares.sum((*over_map, -1))), np.sqrt(squares.sum(over_image))
    for estimate, truth in ((columns, exact_columns), (rows, exact_rows)):
        assert estimate.values.shape == truth.shape
        off = np.abs(estimate.values - truth) - 1e-6 * truth.max()
        assert np.mean(off <= 3 * estimate.standard_error) > 0.97
        assert np.median(estimate.standard_error / truth) < 0.05


# --- datasets


def test_summary_of_a_data_set() -> None:
    summary = summarise([1.0, 2.0, 3.0, 6.0])
    assert summary.mean == 3
    assert summary.standard_error == pytest.approx(np.sqrt(14 / 3 / 4))
    assert (summary.quantiles[0], summary.quantiles[0.5], summary.quantiles[1]) == (1, 2.5, 6)
    np.testing.assert_array_equal(summary.values, [1, 2, 3, 6])


def test_one_image_has_no_standard_error() -> None:
    summary = summarise([7.0])
    assert (summary.mean, summary.standard_error) == (7, None)
    assert set(summary.quantiles.values()) == {7}


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "at least one"), ([1.0, np.nan, np.inf], r"2 of 3 values are not finite, the first is number 1")],
)
def test_data_sets_that_have_no_summary(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(values)


def test_memory_grows_with_the_iterations_that_are_needed() -> None:
    image = np.zeros((400, 400, 3), np.float32)  # of as many iterations there would be 900 GB
    assert lanczos(lambda x: x[..., 0], image, KEY, max_iterations=image.size).converged


def test_more_iterations_than_there_was_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = partial(lanczos, matrix(SPECTRA["separate"]), X, KEY, tolerance=1e-12)
    expected = found()
    monkeypatch.setattr(spectral, "ROOM", 1)
    assert found().value == pytest.approx(expected.value, rel=1e-6) and expected.iterations > 4


# --- programs


def test_another_image_and_other_weights_compile_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lanczos(small_map(0), small_image(0), jax.random.key(0))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        lanczos(small_map(1), small_image(1), jax.random.key(1))
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


# --- bad input


KEY = jax.random.key(0)
PRODUCTS: list[Callable[[Any, Any], Any]] = [
    exact_jacobian,
    lambda f, x: frobenius_norm(f, x, KEY),
    lambda f, x: power_iteration(f, x, KEY),
    lambda f, x: lanczos(f, x, KEY),
    lambda f, x: input_sensitivity(f, x, KEY),
    lambda f, x: output_sensitivity(f, x, KEY),
]

NAN = np.where(np.arange(60).reshape(IMAGE) == 7, np.nan, X).astype(np.float32)
BAD = {
    "not finite": (matrix([1]), NAN, ValueError, "the image has 1 values that are not finite"),
    "infinite": (matrix([1]), np.float32(np.inf) * X, ValueError, "the image has 60 values that are not finite"),
    "integers": (matrix([1]), X.astype(np.uint8), TypeError, "want a float image.* this one is uint8"),
    "no image": (matrix([1]), X[0], ValueError, r"want an image of \(height, width, 3\), got shape \(5, 3\)"),
    "empty image": (matrix([1]), X[:0], ValueError, r"got shape \(0, 5, 3\)"),
    "two maps": (lambda x: (x, x), X, TypeError, "want a function that returns one array"),
    "integer map": (lambda x: jnp.argmax(x, axis=-1), X, TypeError, "only maps of a float type .* this one is int32"),
    "empty map": (lambda x: x[:0], X, ValueError, "the function's map is empty"),
    "cells": (pooled(lambda x: x, 3), X, ValueError, r"cannot pool a map of shape \(4, 5, 3\) onto 3×3 cells"),
}


@pytest.mark.parametrize(("f", "x", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_input(f: Any, x: Any, kind: type[Exception], message: str) -> None:
    for product in [*PRODUCTS, linearise]:
        with pytest.raises(kind, match=message):
            product(f, x)


def test_a_jacobian_that_is_not_finite_is_refused() -> None:
    for product in PRODUCTS:
        with pytest.raises(ValueError, match="the Jacobian at this image is not finite"):
            product(root_above_x, X)


def root_above_x(image: jax.Array) -> jax.Array:
    return jnp.sqrt(image - jnp.asarray(X))


def test_networks_with_values_that_are_not_finite_are_refused() -> None:
    variables = small_variables(0)
    variables["params"]["up"]["main1"]["conv"]["kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"not finite, in \['params'\]\['up'\]\['main1'\]\['conv'\]\['kernel'\]$"):
        network_map(SmallNet(), variables)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, key: frobenius_norm(f, X, key, relative_error=0.0),
        lambda f, key: frobenius_norm(f, X, key, max_samples=0),
        lambda f, key: power_iteration(f, X, key, tolerance=0.0),
        lambda f, key: lanczos(f, X, key, max_iterations=0),
        lambda f, key: input_sensitivity(f, X, key, samples=1),
        lambda f, key: pooled(f, 0),
    ],
)
def test_settings_that_mean_nothing_are_refused(call: Callable[[Any, jax.Array], Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|positive"):
        call(matrix([1]), jax.random.key(0))

"""The Jacobian analysis of MENet at width 1 with the authors' weights. One file, because compiling takes long."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jacobian_cases import as_matrix, authors_variables, check_norms, waves

from menet_jax.model.menet import MENet
from menet_jax.robustness.jacobian.bounds import bound_norms, bounding_map
from menet_jax.robustness.jacobian.image_function import Pooled, linearise, network_map, pooled, pull_back
from menet_jax.robustness.jacobian.norms import exact_jacobian
from menet_jax.robustness.jacobian.sensitivity import constant_gradient_statistics, salient_gradient_statistics
from menet_jax.robustness.jacobian.spectral import lanczos, power_iteration

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def menet() -> Pooled:
    return pooled(network_map(MENet(width=1), authors_variables()), 2)


@pytest.fixture(scope="module")
def menet_jacobian(menet: Pooled) -> np.ndarray:
    return as_matrix(exact_jacobian(menet, waves()))


def test_norms_of_menet(menet: Pooled, menet_jacobian: np.ndarray) -> None:
    values = np.linalg.svd(menet_jacobian, compute_uv=False)
    found = lanczos(menet, waves(), KEY)
    assert found.converged
    assert found.value == pytest.approx(values[0], rel=1e-4)
    assert found.upper == pytest.approx(values[0], rel=1e-4)
    # The values lie close together: power iteration needs hundreds of steps, and says so.
    found = power_iteration(menet, waves(), KEY, max_iterations=15)
    assert not found.converged
    assert values[-1] < found.value < values[0]
    assert np.abs(values / found.value - 1).min() < found.residual < 0.1


def test_gradient_of_menet_is_the_authors(menet: Pooled) -> None:
    """The sum over the map is that of the cells' means times their pixels."""
    with np.load("tests/data/menet_width1.npz") as arrays:
        golden = arrays["grad_salient_sum_224"][0]
    gradient = np.asarray(linearise(menet, waves()).vjp(np.full((2, 2), 112**2)))[::16, ::16]
    assert np.linalg.norm(gradient - golden) < 1e-3 * np.linalg.norm(golden)


def test_menet_is_below_its_bound(menet: Pooled, menet_jacobian: np.ndarray) -> None:
    bounding, x = bounding_map(menet), jnp.asarray(waves())
    cells = jnp.eye(4).reshape(4, 2, 2)
    bound = as_matrix([pull_back(bounding, x, cell) for cell in cells])
    assert np.abs(menet_jacobian).max(axis=1).min() > 1e-8
    assert (np.abs(menet_jacobian) <= bound).all()
    delta = np.random.default_rng(0).normal(0, 20, waves().shape).astype(np.float32)
    change = np.abs(linearise(menet, waves() + delta).value - linearise(menet, waves()).value)
    assert change.max() > 1e-4
    assert (change.ravel() <= bound @ np.abs(delta).ravel()).all()
    check_norms(bound_norms(menet, (224, 224), max_iterations=3), bound, tolerance=1)


def test_table_iii_is_rounding_and_the_salient_channel_is_not() -> None:
    """On the authors' network: the gradient of the two channels' sum, a constant, and that of one of them."""
    f = network_map(MENet(width=1), authors_variables())
    constant = constant_gradient_statistics(f, waves())
    salient = salient_gradient_statistics(f, waves())
    assert constant.max < 1e-6
    assert salient.max > 1e-4
    assert salient.mean > 1e4 * constant.mean
    assert salient.min <= salient.median <= salient.max
    assert 0 < salient.variance < salient.max**2

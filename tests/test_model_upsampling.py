"""Enlarging, against NumPy's repetition and plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import gathers_or_scatters

from menet_jax.model.upsampling import enlarge, side_by_side

shapes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))


@settings(deadline=None, max_examples=8, derandomize=True)
@given(shape=shapes, factor=st.integers(1, 5))
def test_enlarge_repeats(shape: tuple[int, int, int, int], factor: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    enlarged = enlarge(jnp.asarray(x), factor)
    np.testing.assert_array_equal(enlarged, np.repeat(np.repeat(x, factor, axis=1), factor, axis=2))


def test_gradient_of_enlarge_sums_over_blocks_without_indexing() -> None:
    x = jnp.zeros((1, 2, 3, 2))
    weights = np.random.default_rng(0).standard_normal((1, 8, 12, 2), np.float32)
    gradient = jax.grad(lambda x: jnp.sum(enlarge(x, 4) * weights))(x)
    np.testing.assert_allclose(gradient, weights.reshape(1, 2, 4, 3, 4, 2).sum((2, 4)), rtol=1e-5, atol=1e-5)
    assert not gathers_or_scatters(lambda x: enlarge(x, 4), x)


def test_maps_side_by_side_are_each_enlarged_to_the_first() -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 2), (8, 1), (4, 1), (4, 3), (1, 2)]  # side, channels
    maps = [jnp.asarray(rng.standard_normal((2, n, 2 * n, c), np.float32)) for n, c in sizes]
    expected = np.concatenate([enlarge(each, 8 // each.shape[1]) for each in maps], axis=-1)
    np.testing.assert_array_equal(side_by_side(maps), expected)
    np.testing.assert_array_equal(side_by_side(maps[:1]), maps[0])

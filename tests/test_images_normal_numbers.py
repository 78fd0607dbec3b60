"""Normal numbers from raw words, against the standard library."""

from statistics import NormalDist

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from menet_jax.images.normal_numbers import log, normals, uniforms


def test_normals_against_the_standard_library() -> None:
    cells = [0, 1, 2**30, 2**45, 2**46, 2**46 + 2**45, 2**50, 2**51 - 1, 2**51, 2**52 - 2**46, 2**52 - 1]
    words = np.array(cells, np.uint64) << np.uint64(12)
    exact = [NormalDist().inv_cdf((cell + 0.5) / 2**52) for cell in cells]
    np.testing.assert_allclose(normals(words), exact, rtol=2e-9, atol=1e-15)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200))
def test_normals_are_finite_symmetric_and_right(drawn: list[int]) -> None:
    words = np.array(drawn, np.uint64)
    found = normals(words)
    np.testing.assert_array_equal(normals(~words), -found)
    exact = [NormalDist().inv_cdf(float(p)) if p != 0.5 else 0 for p in uniforms(words)]
    np.testing.assert_allclose(found, exact, rtol=2e-9, atol=1e-15)


def test_logarithm() -> None:
    x = np.concatenate([np.geomspace(2.0**-53, 0.025, 1000), 2.0 ** -np.arange(6, 54)])
    np.testing.assert_allclose(log(x), np.log(x), rtol=1e-14)

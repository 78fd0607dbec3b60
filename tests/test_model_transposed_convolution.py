"""Transposed convolutions and their gradients, against JAX's own, Flax's and plain loops."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from tracing import gathers_or_scatters

from menet_jax.model.convolution import convolve_transposed
from menet_jax.model.phases import conv_transpose_2x2, conv_transpose_4x4, depth_to_space

Function = Callable[[jax.Array, jax.Array], jax.Array]

# function, kernel size, stride, padding as PyTorch and Caffe count it
CASES: list[tuple[Function, int, int, int]] = [
    (partial(convolve_transposed, stride=2, padding=0), 2, 2, 0),
    (partial(convolve_transposed, stride=2, padding=1), 4, 2, 1),
    (partial(convolve_transposed, stride=1, padding=0), 7, 1, 0),
    (conv_transpose_2x2, 2, 2, 0),
    (conv_transpose_4x4, 4, 2, 1),
]
each_case = pytest.mark.parametrize(
    ("function", "size", "stride", "padding"), CASES, ids=["2x2", "4x4", "7x7", "2x2 by phases", "4x4 by phases"]
)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def draw(shape: tuple[int, int, int, int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    b, h, w, i, o = shape
    generator = np.random.default_rng(abs(hash((shape, size))))
    x = generator.standard_normal((b, h, w, i), np.float32)
    return x, generator.standard_normal((size, size, i, o), np.float32)


def with_gradients(function: Function, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The output, and the gradients of a sum of it with distinct weights."""

    def weighted(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = function(x, kernel)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

    graded = jax.value_and_grad(weighted, argnums=(0, 1), has_aux=True)
    (_, y), (dx, dkernel) = jax.jit(graded, compiler_options={"xla_backend_optimization_level": 0})(x, kernel)
    return y, dx, dkernel


@each_case
@settings(deadline=None, max_examples=5, derandomize=True)
@given(shape=shapes)
def test_equals_lax_conv_transpose_in_values_and_gradients(
    function: Function, size: int, stride: int, padding: int, shape: tuple[int, int, int, int, int]
) -> None:
    x, kernel = map(jax.device_put, draw(shape, size))
    edge = size - 1 - padding

    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_transpose(x, kernel, (stride, stride), [(edge, edge), (edge, edge)])

    for ours, theirs in zip(with_gradients(function, x, kernel), with_gradients(reference, x, kernel), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@each_case
def test_equals_flax_conv_transpose(function: Function, size: int, stride: int, padding: int) -> None:
    x, kernel = map(jax.device_put, draw((2, 3, 4, 3, 2), size))
    layer = nn.ConvTranspose(2, (size, size), (stride, stride), "SAME" if padding else "VALID", use_bias=False)
    theirs = jnp.asarray(layer.apply({"params": {"kernel": kernel}}, x))
    np.testing.assert_allclose(function(x, kernel), theirs, rtol=1e-4, atol=1e-5)


@each_case
@pytest.mark.parametrize("side", [1, 3])
def test_equals_a_plain_loop(function: Function, size: int, stride: int, padding: int, side: int) -> None:
    """Every input pixel adds its (flipped) kernel to the output, `stride` apart, less the padding."""
    x, kernel = draw((1, side, side + (side > 1), 2, 3), size)
    height, width = ((n - 1) * stride + size for n in x.shape[1:3])
    expected = np.zeros((1, height, width, 3), np.float32)
    for p in range(x.shape[1]):
        for q in range(x.shape[2]):
            for a in range(size):
                for b in range(size):
                    expected[0, p * stride + a, q * stride + b] += x[0, p, q] @ kernel[size - 1 - a, size - 1 - b]
    expected = expected[:, padding : height - padding, padding : width - padding]
    np.testing.assert_allclose(function(jnp.asarray(x), jnp.asarray(kernel)), expected, rtol=1e-4, atol=1e-5)


@each_case
@pytest.mark.parametrize("side", [1, 3])
def test_needs_no_indexing(function: Function, size: int, stride: int, padding: int, side: int) -> None:
    x, kernel = jnp.ones((1, side, side, 2)), jnp.ones((size, size, 2, 2))
    assert not gathers_or_scatters(function, x, kernel)


@each_case
def test_keeps_half_precision(function: Function, size: int, stride: int, padding: int) -> None:
    x, kernel = map(jax.device_put, draw((1, 2, 3, 2, 2), size))
    half = function(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), function(x, kernel), rtol=0.05, atol=0.1)


def test_the_detectors_detect() -> None:
    x = jnp.ones((1, 3, 3, 2))
    assert gathers_or_scatters(lambda x: x[:, jnp.array([0, 0, 1])], x)
    assert gathers_or_scatters(jax.jit(lambda x: x[:, jnp.array([0, 0, 1])]), x)


def test_depth_to_space_by_hand() -> None:
    # one pixel, two channels: the phases are (0,0), (0,1), (1,0), (1,1)
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(depth_to_space(x)[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


def test_transposed_2x2_by_hand() -> None:
    x = jnp.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(convolve_transposed(x, kernel, 2)[0, ..., 0], [[4, 3, 40, 30], [2, 1, 20, 10]])

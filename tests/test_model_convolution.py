"""Convolutions and their derivatives, against JAX's own, Flax's and plain loops."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from tracing import gathers_or_scatters

from menet_jax.model import convolution_cpu, convolution_xla
from menet_jax.model.convolution import conv_general_dilated, convolve, convolve_transposed
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
    x, kernel = map(jnp.asarray, draw(shape, size))
    edge = size - 1 - padding

    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_transpose(x, kernel, (stride, stride), [(edge, edge), (edge, edge)])

    for ours, theirs in zip(with_gradients(function, x, kernel), with_gradients(reference, x, kernel), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@each_case
def test_equals_flax_conv_transpose(function: Function, size: int, stride: int, padding: int) -> None:
    x, kernel = map(jnp.asarray, draw((2, 3, 4, 3, 2), size))
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
    x, kernel = map(jnp.asarray, draw((1, 2, 3, 2, 2), size))
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


# --- the three maps of a convolution, and all that differentiates them

CONVOLUTIONS = [  # kernel size, stride, padding, image side, inputs, outputs: what the network has, in small
    (3, 1, 1, 8, 4, 4),  # few channels: eight columns at once
    (3, 1, 1, 16, 4, 8),  # several groups of four
    (3, 1, 1, 6, 13, 16),  # more than eight and less than sixteen
    (3, 1, 1, 5, 20, 20),  # a gradient by the kernel in blocks, once they pay
    (3, 2, 1, 8, 3, 5),
    (1, 2, 0, 8, 3, 5),
    (2, 2, 0, 8, 3, 40),
    (4, 2, 1, 8, 3, 5),
    (7, 1, 0, 7, 3, 2),  # one output pixel
    (7, 1, 0, 9, 3, 2),
]
each_convolution = pytest.mark.parametrize(
    "case", CONVOLUTIONS, ids=lambda c: f"{c[0]}x{c[0]} stride {c[1]}, {c[3]}x{c[3]}x{c[4]} to {c[5]}"
)
Case = tuple[int, int, int, int, int, int]


@pytest.fixture(scope="module", params=[False, True], ids=["as chosen", "as large ones"])
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small cases are computed as large ones are: kernel gradients in blocks, and input gradients with the kernel as it
    is in memory.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(convolution_cpu, "WORTH_BLOCKS", 0)
            patch.setattr(convolution_cpu, "WORTH_COLUMNS", 0)
            patch.setattr(convolution_cpu, "WORTH_NO_COPY", 0)
            patch.setattr(convolution_cpu, "ROWS", 2)
            patch.setattr(convolution_cpu, "FEW_PIXELS", 0)
            jax.clear_caches()
        yield
    if request.param:
        jax.clear_caches()


def operands(case: Case, dtype: type = np.float32) -> tuple[jax.Array, jax.Array]:
    size, _, _, side, i, o = case
    generator = np.random.default_rng(sum(case))
    draws = generator.standard_normal((2, side, side, i)), generator.standard_normal((size, size, i, o)) / size
    return jnp.asarray(draws[0], dtype), jnp.asarray(draws[1], dtype)


def both(case: Case) -> tuple[Function, Function]:
    """A smooth scalar of our convolution and of XLA's, which has derivatives of all orders by both operands."""
    _, stride, padding, *_ = case

    def of(convolution: Function) -> Function:
        return lambda x, k: jnp.sum(jnp.sin(convolution(x, k)) * jnp.cos(convolution(x, k)[..., :1]))

    def xla(x: jax.Array, k: jax.Array) -> jax.Array:
        pads = [(padding, padding)] * 2
        return lax.conv_general_dilated(x, k, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return of(lambda x, k: convolve(x, k, stride, padding)), of(xla)


@each_convolution
@pytest.mark.usefixtures("sizes")
def test_first_and_second_derivatives_are_those_of_the_plain_convolution(case: Case) -> None:
    x, k = operands(case)
    dx, dk = np.cos(x), np.sin(k)

    def everything(f: Function) -> Callable[..., Any]:
        gradient = jax.grad(f, (0, 1))

        def derivatives(x: jax.Array, k: jax.Array, dx: jax.Array, dk: jax.Array) -> Any:
            value, push = jax.jvp(f, (x, k), (dx, dk))
            forward_over_reverse = jax.jvp(gradient, (x, k), (dx, dk))[1]
            reverse_over_forward = jax.grad(lambda x, k: jax.jvp(f, (x, k), (dx, dk))[1], (0, 1))(x, k)
            return value, push, gradient(x, k), forward_over_reverse, reverse_over_forward

        return jax.jit(derivatives)

    ours, xlas = (jax.tree.leaves(everything(f)(x, k, dx, dk)) for f in both(case))
    for our, its in zip(ours, xlas, strict=True):
        np.testing.assert_allclose(our, its, rtol=2e-4, atol=2e-4 * np.abs(np.asarray(its)).max())


@each_convolution
def test_jacobians_by_columns_and_by_rows_are_those_of_the_plain_convolution(case: Case) -> None:
    """`jacfwd` and `jacrev` map over derivatives, by an operand and by both."""
    x, k = operands(case)
    x, k = x[:1, :, :, :2], k[:, :, :2, :2]
    _, stride, padding, *_ = case

    def pooled(convolution: Function) -> Function:
        return lambda x, k: jnp.sum(jnp.tanh(convolution(x, k)), (1, 2))

    ours = pooled(lambda x, k: convolve(x, k, stride, padding))
    pads = [(padding, padding)] * 2
    xlas = pooled(
        lambda x, k: lax.conv_general_dilated(x, k, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
    for jacobian in (jax.jacfwd, jax.jacrev):
        for our, its in zip(*(jax.jit(jacobian(f, (0, 1)))(x, k) for f in (ours, xlas)), strict=True):
            np.testing.assert_allclose(our, its, rtol=1e-4, atol=1e-5)


@each_convolution
def test_gradients_agree_with_finite_differences_in_float64(case: Case) -> None:
    """First and second derivatives along drawn directions u and v, by forward and by reverse mode and both of both; u
    in the image, in the kernel, and in both.
    """
    with jax.enable_x64(True):
        at, ours = operands(case, np.float64), both(case)[0]
        rng = np.random.default_rng(0)
        drawn, v = (tuple(rng.standard_normal(each.shape) / each.size**0.5 for each in at) for _ in range(2))

        def inner(gradient: Iterable[jax.Array], direction: Iterable[Any]) -> jax.Array:
            return sum((jnp.sum(g * d) for g, d in zip(gradient, direction, strict=True)), start=jnp.zeros(()))

        def moved(x: Iterable[jax.Array], step: float, direction: Iterable[Any]) -> list[jax.Array]:
            return [each + step * d for each, d in zip(x, direction, strict=True)]

        def forward(u: Any, *x: jax.Array) -> jax.Array:
            return jax.jvp(ours, x, u)[1]

        def reverse(u: Any, *x: jax.Array) -> jax.Array:
            return inner(jax.grad(ours, (0, 1))(*x), u)

        def difference(u: Any, *x: jax.Array) -> jax.Array:
            return (ours(*moved(x, 1e-4, u)) - ours(*moved(x, -1e-4, u))) / 2e-4

        @jax.jit
        def derivatives(u: Any, *x: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
            along = [partial(first, u) for first in (forward, reverse)]
            second = [jax.jvp(first, x, v)[1] for first in along]
            second += [inner(jax.grad(first, (0, 1))(*x), v) for first in along]
            return [first(*x) for first in along], second

        @jax.jit
        def differences(u: Any, *x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return difference(u, *x), (difference(u, *moved(x, 1e-3, v)) - difference(u, *moved(x, -1e-3, v))) / 2e-3

        none = [np.zeros_like(each) for each in drawn]
        for u in (drawn, (drawn[0], none[1]), (none[0], drawn[1])):
            (of_first, of_second), (first, second) = derivatives(u, *at), differences(u, *at)
            np.testing.assert_allclose(of_first, first, rtol=1e-5)
            np.testing.assert_allclose(of_second, second, rtol=1e-4)


def test_mapping_over_kernels_and_over_both() -> None:
    x, k = operands((3, 1, 1, 6, 3, 4))
    images, kernels = jnp.stack([x, 2 * x, -x]), jnp.stack([k, k + 1, k - 1])
    f = partial(convolve, stride=1, padding=1)
    for axes in ((0, None), (None, 0), (0, 0)):
        mapped = jax.vmap(f, axes)(images if axes[0] == 0 else x, kernels if axes[1] == 0 else k)
        rows = [f(images[n] if axes[0] == 0 else x, kernels[n] if axes[1] == 0 else k) for n in range(3)]
        np.testing.assert_allclose(mapped, jnp.stack(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_one_convolution_for_each_map(platform: str) -> None:
    x, k = operands((3, 1, 1, 8, 4, 4))
    step = jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(convolve(x, k, 1, 1) ** 2), (0, 1)))
    text = step.trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_precision_where_it_is_called_is_that_of_the_program(platform: str) -> None:
    """Of its derivatives too, and of a map over both operands; and none of others, for the setting ends there."""

    def both_ways(x: jax.Array, k: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            y = convolve(x, k, 1, 1)
            return jnp.sum(y**2) + jnp.sum(convolve_transposed(y, k.swapaxes(2, 3), 1, 1))

    x, k = operands((3, 1, 1, 8, 4, 4))
    step = jax.jit(jax.vmap(jax.value_and_grad(both_ways, (0, 1))))
    text = step.trace(x[None], k[None]).lower(lowering_platforms=(platform,)).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(lines) == 6 and all(line.count("HIGHEST") == 2 for line in lines)
    plain = jax.jit(lambda x, k: convolve(x, k, 1, 1)).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert "HIGHEST" not in plain


def test_uneven_strides_and_paddings_are_refused() -> None:
    x, k = operands((3, 1, 1, 8, 4, 4))
    for strides, padding in (((1, 2), [(1, 1), (1, 1)]), ((1, 1), [(0, 1), (0, 1)])):
        with pytest.raises(ValueError, match="want the same along both axes"):
            conv_general_dilated(x, k, strides, padding)


def assert_sums_of(dtype: type, found: jax.Array, expected: jax.Array) -> None:
    """Sums of half precision are taken in float32."""
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-2
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize(("height", "width"), [(6, 24), (24, 6), (7, 16), (5, 9)])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_kernel_gradients_of_oblong_maps(height: int, width: int, dtype: type, sizes: None) -> None:
    """By columns, in blocks or by XLA, as the width divides."""
    generator = np.random.default_rng(height)
    x, y = (jnp.asarray(generator.standard_normal((2, height, width, channels)), dtype) for channels in (5, 4))

    def convolve(k: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        return lax.conv_general_dilated(
            wide, k, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )

    [expected] = jax.jit(lambda y: jax.vjp(convolve, jnp.zeros((3, 3, 5, 4)))[1](y))(y.astype(jnp.float32))
    found = jax.jit(partial(convolution_cpu.kernel_gradient, stride=1, padding=1, sides=(3, 3)))(x, y)
    assert_sums_of(dtype, found, expected)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (4, 2), (3, 1)])
def test_kernel_gradients_of_few_pixels_take_no_loop(
    size: int, stride: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over blocks would carry sums that are larger than the maps."""
    monkeypatch.setattr(convolution_cpu, "WORTH_BLOCKS", 0)
    monkeypatch.setattr(convolution_cpu, "FEW_PIXELS", 3 * 8 * 8)
    generator = np.random.default_rng(size)
    side = 8 // stride
    x = jnp.asarray(generator.standard_normal((3, 8, 8, 17)), dtype)
    y = jnp.asarray(generator.standard_normal((3, side, side, 18)), dtype)
    of_cpu, of_xla = (
        jax.jit(partial(each.kernel_gradient, stride=stride, padding=1, sides=(size, size)))
        for each in (convolution_cpu, convolution_xla)
    )
    assert "scan" not in str(of_cpu.trace(x, y).jaxpr)
    found, expected = of_cpu(x, y), of_xla(x.astype(jnp.float32), y.astype(jnp.float32))
    assert_sums_of(dtype, found, expected)


def test_input_gradients_by_large_kernels_leave_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transposed or flipped copy is made of them."""
    y, k = jnp.ones((2, 4, 4, 24)), jnp.ones((3, 3, 16, 24))
    for worth, copied in ((0, False), (10**6, True)):
        monkeypatch.setattr(convolution_cpu, "WORTH_NO_COPY", worth)
        gradient = jax.jit(partial(convolution_cpu.input_gradient, stride=1, padding=1, sides=(4, 4)))
        text = gradient.lower(y, k).as_text()
        assert ("reverse" in text, "3x3x24x16" in text) == (copied, copied)

"""The three maps of a convolution, and all that differentiates them, against XLA's own."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from menet_jax.model import convolution_cpu, convolution_xla
from menet_jax.model.convolution import convolve, convolve_transposed
from menet_jax.runtime.devices import on_device

Function = Callable[[jax.Array, jax.Array], jax.Array]

CONVOLUTIONS = [  # kernel size, stride, padding, image side, inputs, outputs: what the network has, in small
    (3, 1, 1, 8, 4, 4),  # few channels: eight columns at once
    (3, 1, 1, 16, 4, 8),  # several groups of four
    (3, 1, 1, 6, 13, 16),  # more than eight and less than sixteen
    (3, 1, 1, 5, 20, 20),
    (3, 1, 2, 6, 5, 1),  # one channel, as the scale maps have
    (3, 1, 1, 6, 16, 2),  # of so many that taps become planes
    (3, 1, 1, 6, 1, 4),
    (5, 1, 1, 8, 3, 8),
    (3, 2, 1, 8, 3, 5),
    (1, 2, 0, 8, 3, 5),
    (2, 2, 0, 8, 3, 40),
    (4, 2, 1, 8, 3, 5),
    (7, 1, 0, 7, 3, 2),  # one output pixel
    (7, 1, 0, 9, 3, 2),
    (3, 3, 1, 3, 4, 5),  # one output pixel, of a map with edges
]
each_convolution = pytest.mark.parametrize(
    "case", CONVOLUTIONS, ids=lambda c: f"{c[0]}x{c[0]} stride {c[1]}, {c[3]}x{c[3]}x{c[4]} to {c[5]}"
)
Case = tuple[int, int, int, int, int, int]


@pytest.fixture(scope="module", params=[False, True], ids=["as chosen", "as large ones"])
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small cases are computed as large ones are: kernel gradients in blocks, and large kernels left as they are in
    memory.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(convolution_cpu, "WORTH_BLOCKS", 0)
            patch.setattr(convolution_cpu, "WORTH_SHIFTS", 0)
            patch.setattr(convolution_cpu, "WORTH_NO_COPY", 0)
            patch.setattr(convolution_cpu, "OUTWEIGHS", 0)
            patch.setattr(convolution_cpu, "ROWS", 2)
            patch.setattr(convolution_cpu, "FEW_PIXELS", 0)
            jax.clear_caches()
        yield
    if request.param:
        jax.clear_caches()


def operands(case: Case, dtype: type = np.float32) -> tuple[jax.Array, jax.Array]:
    size, _, _, side, i, o = case
    generator = np.random.default_rng(sum(case))
    x, k = generator.standard_normal((2, side, side, i)), generator.standard_normal((size, size, i, o)) / size
    return on_device(x.astype(dtype)), on_device(k.astype(dtype))


def scalar(convolution: Function) -> Function:
    """A smooth function of a convolution, which has derivatives of all orders by both operands."""

    def summed(x: jax.Array, k: jax.Array) -> jax.Array:
        y = convolution(x, k)
        return jnp.sum(jnp.sin(y) * jnp.cos(y[..., :1]))

    return summed


def plain(
    x: jax.Array, k: jax.Array, stride: int = 1, padding: int = 0, precision: lax.PrecisionLike = None
) -> jax.Array:
    """The convolution by JAX itself."""
    pads, dimensions = [(padding, padding)] * 2, ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, k, (stride, stride), pads, dimension_numbers=dimensions, precision=precision)


def both(case: Case) -> tuple[Function, Function]:
    """`scalar` of our convolution and of XLA's."""
    _, stride, padding, *_ = case
    ours, xlas = (scalar(partial(each, stride=stride, padding=padding)) for each in (convolve, plain))
    return ours, xlas


def both_transposed(case: Case) -> tuple[Function, Function]:
    """`scalar` of our transposed convolution and of XLA's."""
    size, stride, padding, *_ = case
    pads = [(size - 1 - padding, size - 1 - padding)] * 2
    ours = scalar(lambda x, k: convolve_transposed(x, k, stride, padding))
    return ours, scalar(lambda x, k: lax.conv_transpose(x, k, (stride, stride), pads))


TRANSPOSED = [
    (7, 1, 0, 1, 3, 5),
    (4, 2, 1, 4, 3, 5),
    (4, 2, 1, 4, 17, 20),
    (2, 2, 0, 4, 3, 40),
    (3, 1, 1, 8, 4, 4),
    (3, 1, 0, 5, 20, 20),
    (3, 1, 0, 5, 2, 3),
    (1, 1, 0, 5, 2, 8),
]
every_convolution = pytest.mark.parametrize(
    ("pair", "case"),
    [(both, case) for case in CONVOLUTIONS] + [(both_transposed, case) for case in TRANSPOSED],
    ids=lambda c: (
        f"{c[0]}x{c[0]} stride {c[1]}, {c[3]}x{c[3]}x{c[4]} to {c[5]}" if isinstance(c, tuple) else c.__name__
    ),
)


def derivatives(f: Function, case: Case) -> list[jax.Array]:
    """First and second derivatives by forward and reverse mode and both of both, along given directions."""
    x, k = operands(case)

    @jax.jit
    def at(x: tuple[jax.Array, jax.Array], directions: tuple[jax.Array, jax.Array]) -> Any:
        forward = jax.value_and_grad(lambda *x: jax.jvp(f, x, directions)[::-1], (0, 1), has_aux=True)
        (push, value), reverse_over_forward = forward(*x)
        pulled, forward_over_reverse = jax.jvp(jax.grad(f, (0, 1)), x, directions)
        return value, push, pulled, forward_over_reverse, reverse_over_forward

    return jax.tree.leaves(at((x, k), (jnp.cos(x), jnp.sin(k))))


@cache
def plain_derivatives(pair: Callable[[Case], tuple[Function, Function]], case: Case) -> list[jax.Array]:
    """Of XLA's convolution, for which no case is large."""
    return derivatives(pair(case)[1], case)


@every_convolution
@pytest.mark.usefixtures("sizes")
def test_first_and_second_derivatives_are_those_of_the_plain_convolution(
    pair: Callable[[Case], tuple[Function, Function]], case: Case
) -> None:
    for our, its in zip(derivatives(pair(case)[0], case), plain_derivatives(pair, case), strict=True):
        np.testing.assert_allclose(our, its, rtol=2e-4, atol=2e-4 * np.abs(np.asarray(its)).max())


@each_convolution
def test_jacobians_by_columns_and_by_rows_are_those_of_the_plain_convolution(case: Case) -> None:
    """`jacfwd` and `jacrev` map over derivatives, by an operand and by both."""
    x, k = map(np.asarray, operands(case))
    x, k = x[:1, :, :, :2], k[:, :, :2, :2]
    _, stride, padding, *_ = case

    def pooled(convolution: Function) -> Function:
        return lambda x, k: jnp.sum(jnp.tanh(convolution(x, k)), (1, 2))

    ours, xlas = (pooled(partial(each, stride=stride, padding=padding)) for each in (convolve, plain))

    def jacobians(f: Function) -> list[jax.Array]:
        both = jax.jit(lambda x, k: [jacobian(f, (0, 1))(x, k) for jacobian in (jax.jacfwd, jax.jacrev)])
        return jax.tree.leaves(both(x, k))

    for our, its in zip(*map(jacobians, (ours, xlas)), strict=True):
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
            firsts, second = zip(*(jax.jvp(first, x, v) for first in along), strict=True)
            return list(firsts), [*second, *(inner(jax.grad(first, (0, 1))(*x), v) for first in along)]

        @jax.jit
        def differences(u: Any, *x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return difference(u, *x), (difference(u, *moved(x, 1e-3, v)) - difference(u, *moved(x, -1e-3, v))) / 2e-3

        none = [np.zeros_like(each) for each in drawn]
        for u in (drawn, (drawn[0], none[1]), (none[0], drawn[1])):
            (of_first, of_second), (first, second) = derivatives(u, *at), differences(u, *at)
            np.testing.assert_allclose(of_first, first, rtol=1e-5)
            np.testing.assert_allclose(of_second, second, rtol=1e-4)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("sides", [(3, 2), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_may_be_oblong(stride: int, sides: tuple[int, int]) -> None:
    generator = np.random.default_rng(stride)
    x, k = (on_device(generator.standard_normal(shape).astype(np.float32)) for shape in ((2, 5, 7, 3), (*sides, 3, 4)))
    functions = [scalar(partial(each, stride=stride, padding=1)) for each in (convolve, plain)]
    for our, its in zip(*(jax.jit(jax.grad(f, (0, 1)))(x, k) for f in functions), strict=True):
        np.testing.assert_allclose(our, its, rtol=1e-4, atol=1e-4)


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


def test_operands_that_do_not_fit_are_refused() -> None:
    """Where shapes are not checked before, as they are in tests."""
    x, k = operands((3, 1, 1, 8, 4, 5))
    forward, transposed = inspect.unwrap(convolve), inspect.unwrap(convolve_transposed)
    for maps, kernel in ((x, k[:, :, 1:]), (x, k.swapaxes(2, 3)), (x.astype(jnp.bfloat16), k)):
        for convolution in (forward, transposed):
            with pytest.raises(TypeError, match="their channels or types do not fit"):
                convolution(maps, kernel)


def assert_sums_of(dtype: type, found: jax.Array, expected: jax.Array) -> None:
    """Sums of half precision are taken in float32."""
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-2
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize(("height", "width"), [(6, 24), (24, 6), (7, 16), (5, 9)])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_kernel_gradients_of_oblong_maps(height: int, width: int, dtype: type, sizes: None) -> None:
    """By columns, in blocks or by XLA, as the width divides."""
    generator = np.random.default_rng(height)
    x, y = (on_device(generator.standard_normal((2, height, width, channels)).astype(dtype)) for channels in (5, 4))

    by_kernel = partial(plain, x.astype(jnp.float32), padding=1, precision="highest")
    [expected] = jax.jit(lambda y: jax.vjp(by_kernel, jnp.zeros((3, 3, 5, 4)))[1](y))(y.astype(jnp.float32))
    found = jax.jit(partial(convolution_cpu.kernel_gradient, stride=1, padding=1, flipped=False, sides=(3, 3)))(x, y)
    assert_sums_of(dtype, found, expected)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (4, 2), (3, 1)])
def test_kernel_gradients_of_few_pixels_take_no_loop(
    size: int, stride: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over blocks would carry sums that are larger than the maps."""
    monkeypatch.setattr(convolution_cpu, "WORTH_BLOCKS", 0)
    monkeypatch.setattr(convolution_cpu, "WORTH_SHIFTS", 0)
    monkeypatch.setattr(convolution_cpu, "FEW_PIXELS", 3 * 8 * 8)
    generator = np.random.default_rng(size)
    side = 8 // stride
    x = on_device(generator.standard_normal((3, 8, 8, 17)).astype(dtype))
    y = on_device(generator.standard_normal((3, side, side, 18)).astype(dtype))
    of_cpu, of_xla = (
        jax.jit(partial(each.kernel_gradient, stride=stride, padding=1, flipped=False, sides=(size, size)))
        for each in (convolution_cpu, convolution_xla)
    )
    assert "scan" not in str(of_cpu.trace(x, y).jaxpr)
    found, expected = of_cpu(x, y), of_xla(x.astype(jnp.float32), y.astype(jnp.float32))
    assert_sums_of(dtype, found, expected)


@pytest.mark.parametrize("flipped", [False, True], ids=["convolution", "transposed convolution"])
@pytest.mark.parametrize("stride", [1, 2])
def test_large_kernels_are_left_as_they_are(stride: int, flipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No flipped or transposed copy is made of them, nor of a gradient by one with a stride."""
    x, y = jnp.ones((1, 4 * stride, 4 * stride, 24)), jnp.ones((1, 4, 4, 20))
    k = jnp.ones((3, 3, 20, 24) if flipped else (3, 3, 24, 20))
    how: dict[str, Any] = {"stride": stride, "padding": 1, "flipped": flipped}
    maps: list[tuple[Callable[..., jax.Array], tuple[jax.Array, jax.Array]]] = [
        (partial(convolution_cpu.input_gradient, sides=(4 * stride, 4 * stride), **how), (y, k)),
        *([(partial(convolution_cpu.kernel_gradient, sides=(3, 3), **how), (x, y))] if stride > 1 else []),
        *([(partial(convolution_cpu.forward, **how), (x, k))] if flipped else []),
    ]
    for worth, copied in ((0, False), (10**9, True)):
        monkeypatch.setattr(convolution_cpu, "WORTH_NO_COPY", worth)
        monkeypatch.setattr(convolution_cpu, "WORTH_BLOCKS", worth)
        monkeypatch.setattr(convolution_cpu, "OUTWEIGHS", 1)
        texts = [jax.jit(partial(each)).lower(*operands).as_text() for each, operands in maps]
        turned = ["stablehlo.reverse" in text or "stablehlo.transpose" in text for text in texts]
        of_input = copied and stride == 1 and not flipped
        of_kernel = [copied and flipped] if stride > 1 else []
        assert turned == [of_input, *of_kernel, *([copied] if flipped else [])]

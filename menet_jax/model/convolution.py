"""The network's convolutions, as JAX primitives whose way of computing is chosen where a program is lowered.

A convolution is the trilinear form `T(x, k, y) = Σ y · conv(x, k)` read as a map of two of its three arguments:

    forward          (x, k) → y      the convolution itself
    input_gradient   (y, k) → x      its transpose in x, a transposed convolution
    kernel_gradient  (x, y) → k      its transpose in k

Each map is bilinear and its derivatives are the other two, so forward mode, reverse mode and all their compositions
are exact and stay among the three. Every platform but the CPU lowers them to XLA's own convolution; the CPU, where XLA
is far slower with few channels and at some gradients, to what `convolution_cpu` builds of it.

What they are lowered to is traced later than the function that calls them. So each keeps the precision of products that
holds where it is called (`jax.default_matmul_precision`), and its derivatives have it too. A CPU knows only one.

Arrays are channels-last, kernels (kh, kw, in, out) as in `flax.linen.Conv`; stride and padding are the same along both
axes and on both sides. The kernel of a transposed convolution is `flipped`: turned by 180°, inputs and outputs
exchanged, against that of the convolution which it transposes. All three maps take it, or give it, as it is.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from menet_jax.model import convolution_cpu, convolution_xla

Sides = tuple[int, int]
Shape = tuple[Any, ...]  # of which a batch may be symbolic


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], stride: int = 1, padding: int = 0
) -> Float[Array, "b h2 w2 o"]:
    """`y[p, q] = Σ_{a, c} x[stride·p + a − padding, stride·q + c − padding] · kernel[a, c]`, zero outside of x."""
    return _forward.bind(x, kernel, stride=stride, padding=padding, flipped=False, precision=_precision())


def convolve_transposed(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], stride: int = 1, padding: int = 0
) -> Float[Array, "b h2 w2 o"]:
    """The transpose of a convolution of this stride and padding, as in PyTorch and Caffe; equals
    `jax.lax.conv_transpose` on the same kernel. The output is `(n − 1)·stride + size − 2·padding` large.
    """
    sides = tuple((n - 1) * stride + k - 2 * padding for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    return _input_gradient.bind(
        x, kernel, stride=stride, padding=padding, flipped=True, sides=sides, precision=_precision()
    )


def _precision() -> str | None:
    settings: Any = jax.config
    precision: str | None = settings.jax_default_matmul_precision
    return precision


def _precisely(convolution: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The convolution, of operands and parameters among which is the precision of products."""

    def convolve_at(*operands: jax.Array, precision: str | None, **params: Any) -> jax.Array:
        with jax.default_matmul_precision(precision):
            return convolution(*operands, **params)

    return convolve_at


def _primitive(
    name: str,
    of_xla: Callable[..., jax.Array],
    cpu: Callable[..., jax.Array],
    shape_of: Callable[..., Shape],
) -> Primitive:
    """A primitive that XLA's own convolution computes, and on the CPU, `cpu`."""
    primitive, xla = Primitive(name), _precisely(of_xla)

    @cache
    def compiled(**params: Any) -> Callable[..., jax.Array]:
        return jax.jit(partial(primitive.bind, **params))

    @cache  # what one program has traced serves the next
    def traced(**params: Any) -> Callable[..., jax.Array]:
        return jax.jit(partial(cpu, **params))

    def on_cpu(*operands: jax.Array, precision: str | None, **params: Any) -> jax.Array:
        return traced(**params)(*operands)

    def abstract(*operands: Any, **params: Any) -> Any:
        return operands[0].update(shape=shape_of(*operands, **params), weak_type=False)

    primitive.def_impl(lambda *operands, **params: compiled(**params)(*operands))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = partial(_batch, primitive, xla)
    return primitive


def _batch(
    primitive: Primitive, xla: Callable[..., jax.Array], operands: Any, axes: Any, **params: Any
) -> tuple[jax.Array, int]:
    """`vmap`: an axis of the first operand alone joins its batch; for anything else there is XLA's convolution."""
    first, second = operands
    if axes[1] is None and primitive is not _kernel_gradient:
        x = jnp.moveaxis(first, axes[0], 0)
        out = primitive.bind(x.reshape(-1, *x.shape[2:]), second, **params)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0
    return jax.vmap(partial(xla, **params), axes)(first, second), 0


def _forward_shape(x: Any, k: Any, *, stride: int, padding: int, flipped: bool, **_: Any) -> Shape:
    inputs, outputs = _channels(k, flipped)
    _check_operands(x, k, inputs)
    return x.shape[0], *convolution_xla.out_sides(x, k, stride, padding), outputs


def _input_gradient_shape(y: Any, k: Any, *, sides: Sides, flipped: bool, **_: Any) -> Shape:
    inputs, outputs = _channels(k, flipped)
    _check_operands(y, k, outputs)
    return y.shape[0], *sides, inputs


def _kernel_gradient_shape(x: Any, y: Any, *, sides: Sides, flipped: bool, **_: Any) -> Shape:
    return *sides, *((y.shape[3], x.shape[3]) if flipped else (x.shape[3], y.shape[3]))


def _channels(k: Any, flipped: bool) -> tuple[int, int]:
    """Inputs and outputs of the convolution whose kernel this is, flipped or not."""
    return (k.shape[3], k.shape[2]) if flipped else (k.shape[2], k.shape[3])


def _check_operands(maps: Any, kernel: Any, channels: int) -> None:
    if maps.shape[3] != channels or maps.dtype != kernel.dtype:
        raise TypeError(f"a convolution of {maps} by {kernel}: their channels or types do not fit")


_forward = _primitive("conv2d", convolution_xla.forward, convolution_cpu.forward, _forward_shape)
_input_gradient = _primitive(
    "conv2d_input_gradient", convolution_xla.input_gradient, convolution_cpu.input_gradient, _input_gradient_shape
)
_kernel_gradient = _primitive(
    "conv2d_kernel_gradient", convolution_xla.kernel_gradient, convolution_cpu.kernel_gradient, _kernel_gradient_shape
)


def _sides(shaped: Any) -> Sides:
    return shaped.shape[1], shaped.shape[2]


def _kernel_sides(kernel: Any) -> Sides:
    return kernel.shape[0], kernel.shape[1]


# Each rule: the cotangent of the result and the operand that is known → the cotangent of the other.
ad.defbilinear(
    _forward,
    lambda y, x, k, **p: _input_gradient.bind(y, k, sides=_sides(x.aval), **p),
    lambda y, x, k, **p: _kernel_gradient.bind(x, y, sides=_kernel_sides(k.aval), **p),
)
ad.defbilinear(
    _input_gradient,
    lambda x, y, k, *, sides, **p: _forward.bind(x, k, **p),
    lambda x, y, k, *, sides, **p: _kernel_gradient.bind(x, y, sides=_kernel_sides(k.aval), **p),
)
ad.defbilinear(
    _kernel_gradient,
    lambda k, x, y, *, sides, **p: _input_gradient.bind(y, k, sides=_sides(x.aval), **p),
    lambda k, x, y, *, sides, **p: _forward.bind(x, k, **p),
)

"""How a CPU computes the three maps of `convolution`: the same sums, in shapes that XLA's libraries are fast at."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from menet_jax.model.phases import conv_transpose_4x4

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

LANES = 32
"""Output channels from which on XLA's fast convolution is used well (measured on AVX2 and AVX-512)."""

FEW = 3
"""Input channels up to which a convolution is fastest written out: those of an image."""

WORTH_BLOCKS = 10**8
"""Multiplications from which on a gradient by a kernel is computed in blocks, if XLA's own way is slow."""

ROWS = 28
"""Rows of a block that stays in the cache; divides the sides of all feature maps of a 224² image, or they it."""


def forward(x: jax.Array, k: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """The convolution; of few channels, several columns at once."""
    if x.shape[1:3] == k.shape[:2] and padding == 0:  # one output pixel: a matrix product
        return (x.reshape(x.shape[0], -1) @ k.reshape(-1, k.shape[3]))[:, None, None]
    if x.shape[3] <= FEW and k.shape[0] <= 3 and stride == 1:
        return _tap_by_tap(x, k, padding)
    if 8 < x.shape[3] < 16:  # reads twice as fast by 16 channels as by 13
        more = 16 - x.shape[3]
        x, k = jnp.pad(x, ((0, 0),) * 3 + ((0, more),)), jnp.pad(k, ((0, 0),) * 2 + ((0, more), (0, 0)))
    columns = _columns(_out_side(x.shape[2], k.shape[1], stride, padding), k.shape[3])
    y = lax.conv_general_dilated(
        x,
        _banded(k, stride, columns),
        (stride, stride * columns),
        [(padding, padding)] * 2,
        dimension_numbers=_DIMENSIONS,
    )
    return y.reshape(*y.shape[:2], -1, k.shape[3])


def input_gradient(y: jax.Array, k: jax.Array, *, stride: int, padding: int, sides: tuple[int, int]) -> jax.Array:
    """The transpose in x: with stride 1, the convolution by the flipped kernel."""
    if y.shape[1:3] == (1, 1) and sides == k.shape[:2]:  # of one output pixel: a matrix product for every tap
        x = jnp.einsum("tbo,tio->tbi", _at_every_tap(y, sides), k.reshape(-1, *k.shape[2:]))
        return x.swapaxes(0, 1).reshape(y.shape[0], *sides, k.shape[2])
    if stride == 1:
        return forward(y, k[::-1, ::-1].swapaxes(2, 3), stride=1, padding=k.shape[0] - 1 - padding)
    if (*k.shape[:2], stride, padding) == (4, 4, 2, 1) and sides == (2 * y.shape[1], 2 * y.shape[2]):
        return conv_transpose_4x4(y, k[::-1, ::-1].swapaxes(2, 3))
    like = jax.ShapeDtypeStruct((y.shape[0], *sides, k.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _convolution(x, k, stride, padding), like)(y)[0]


def kernel_gradient(x: jax.Array, y: jax.Array, *, stride: int, padding: int, sides: tuple[int, int]) -> jax.Array:
    """The transpose in k: `k[a, c] = Σ x[stride·p + a − padding, stride·q + c − padding]ᵀ · y[p, q]`.

    XLA's own way is fast with stride 1 and few or many channels. Else it is summed over blocks of rows, which stay in
    the cache while they meet every tap of the kernel, each a matrix product; where that is worth a longer compilation.
    """
    if y.shape[1:3] == (1, 1) and x.shape[1:3] == sides:
        taps = x.reshape(x.shape[0], -1, x.shape[3]).swapaxes(0, 1)
        return jnp.einsum("tbi,tbo->tio", taps, _at_every_tap(y, sides)).reshape(*sides, x.shape[3], y.shape[3])
    fewest, products = min(x.shape[3], y.shape[3]), y.size * x.shape[3] * sides[0] * sides[1]
    if products > WORTH_BLOCKS and (stride > 1 or 16 < fewest < 64):
        return _kernel_gradient_in_blocks(x, y, stride, padding, sides)
    k = jax.ShapeDtypeStruct((*sides, x.shape[3], y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _convolution(x, k, stride, padding), k)(y)[0]


def _kernel_gradient_in_blocks(
    x: jax.Array, y: jax.Array, stride: int, padding: int, sides: tuple[int, int]
) -> jax.Array:
    batch, height, width = y.shape[:3]
    rows = next(n for n in range(min(ROWS, height), 0, -1) if height % n == 0)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    x_block = (1, stride * (rows - 1) + sides[0], *x.shape[2:])

    def add_block(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        image, row = block // (height // rows), block % (height // rows) * rows
        xs = lax.dynamic_slice(x, (image, stride * row, 0, 0), x_block)[0]
        ys = lax.dynamic_slice(y, (image, row, 0, 0), (1, rows, *y.shape[2:]))[0]
        below, right = stride * (rows - 1) + 1, stride * (width - 1) + 1
        taps = [
            jnp.einsum("hwi,hwo->io", xs[a : a + below : stride, c : c + right : stride], ys)
            for a in range(sides[0])
            for c in range(sides[1])
        ]
        return total + jnp.stack(taps), None

    zeros = jnp.zeros((sides[0] * sides[1], x.shape[3], y.shape[3]), x.dtype)
    total, _ = lax.scan(add_block, zeros, jnp.arange(batch * height // rows))
    return total.reshape(*sides, *total.shape[1:])


def _tap_by_tap(x: jax.Array, k: jax.Array, padding: int) -> jax.Array:
    """The sum that defines a convolution, which XLA makes one pass of."""
    height, width = (_out_side(n, size, 1, padding) for n, size in zip(x.shape[1:3], k.shape[:2], strict=True))
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    taps = [
        x[:, a : a + height, c : c + width, i, None] * k[a, c, i][None, None, None]
        for a, c, i in np.ndindex(*k.shape[:3])
    ]
    return sum(taps[1:], start=taps[0])


def _at_every_tap(y: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """(b, 1, 1, o) → (kh·kw, b, o), which XLA does not see through: it would make one product of all taps' products,
    and for that a transposed copy of the kernel, the largest of the network.
    """
    return lax.optimization_barrier(jnp.broadcast_to(y[:, 0, 0], (sides[0] * sides[1], y.shape[0], y.shape[3])))


def _convolution(x: jax.Array, k: jax.Array, stride: int, padding: int) -> jax.Array:
    return lax.conv_general_dilated(x, k, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_DIMENSIONS)


def _out_side(n: int, size: int, stride: int, padding: int) -> int:
    return (n + 2 * padding - size) // stride + 1


def _columns(width: int, channels: int) -> int:
    """How many neighbouring output pixels to compute as channels of one: at most eight, and `LANES` channels."""
    most = min(8, max(1, LANES // channels))
    return next(n for n in range(most, 0, -1) if width % n == 0)


def _banded(k: jax.Array, stride: int, columns: int) -> jax.Array:
    """The kernel of `columns` neighbouring output pixels, side by side as channels, each `stride` further right."""
    last = stride * (columns - 1)
    shifted = [jnp.pad(k, ((0, 0), (at, last - at), (0, 0), (0, 0))) for at in range(0, last + 1, stride)]
    return jnp.concatenate(shifted, axis=-1)

"""The three maps of `convolution` on a CPU: the same sums, in shapes that XLA's libraries are fast at."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from menet_jax.model import convolution_xla
from menet_jax.model.convolution_xla import flip, out_sides
from menet_jax.model.phases import conv_transpose_2x2, conv_transpose_4x4

LANES = 32
"""Smallest number of output channels for which XLA's fast convolution is used well (measured on AVX2 and AVX-512)."""

REGISTER = 16
"""Numbers in a register of AVX-512, or in two of AVX2."""

WORTH_SHIFTS = 10**7
"""Multiplications from which on a gradient by a kernel of few channels is computed in blocks."""

WORTH_BLOCKS = 10**8
"""Multiplications from which on one with a stride is, whose products, one for every tap, take longer to compile."""

MANY = 64
"""Channels of which XLA's own gradient by a kernel is fast."""

FEW = 2
"""Output channels that a plane for every tap gives, both them and the gradient by their kernel."""

WORTH_NO_COPY = 10**6
"""Entries of a kernel from which on one may be left in the order that it has in memory."""

OUTWEIGHS = 32
"""How many times larger than the maps of one image such a kernel is at least, for another order to take longer than
what it is for (measured with five images).
"""

ROWS = 14
"""Rows of a block that stays in the cache; divides the sides of all feature maps of a 224² image, or they it."""

FEW_PIXELS = 8 * ROWS**2
"""Pixels of all images together up to which they are one block: of small maps the sums are larger than what is summed,
and a loop would carry them from image to image.
"""

BY_PHASES: dict[tuple[int, ...], Callable[[jax.Array, jax.Array], jax.Array]] = {
    (4, 4, 2, 1): conv_transpose_4x4,
    (2, 2, 2, 0): conv_transpose_2x2,
}
"""By kernel, stride and padding: transposed convolutions to twice the size that are one for all phases."""


def forward(x: jax.Array, k: jax.Array, *, stride: int, padding: int, flipped: bool) -> jax.Array:
    """The convolution; to few channels, several columns at once, or by planes."""
    if x.shape[1:3] == k.shape[:2] and padding == 0:  # one output pixel
        return _to_one_pixel(x, k, flipped)[:, None, None]
    if flipped and _outweighs(k, x):
        return _by_taps(x, k, stride, padding)
    k = flip(k) if flipped else k
    if k.shape[:2] == (1, 1) and padding == 0:  # of the other pixels nothing need be computed
        x, stride = x[:, ::stride, ::stride], 1
    if stride == 1 and padding >= 0 and x.shape[3] == 1:
        return _of_one(x, k, padding)
    if stride == 1 and padding >= 0 and k.shape[3] <= FEW and x.shape[3] >= REGISTER:
        return _to_few(x, k, padding)
    if REGISTER // 2 < x.shape[3] < REGISTER:  # reads twice as fast by 16 channels as by 13
        more = REGISTER - x.shape[3]
        x, k = _pad(x, {3: (0, more)}), _pad(k, {2: (0, more)})
    columns = _columns(out_sides(x, k, stride, padding)[1], k.shape[3])
    y = lax.conv_general_dilated(
        x,
        _banded(k, stride, columns),
        (stride, stride * columns),
        [(padding, padding)] * 2,
        dimension_numbers=convolution_xla.DIMENSIONS,
    )
    return y.reshape(*y.shape[:2], -1, k.shape[3])


def input_gradient(
    y: jax.Array, k: jax.Array, *, stride: int, padding: int, flipped: bool, sides: tuple[int, int]
) -> jax.Array:
    """The transpose in x: with stride 1, the convolution by the flipped kernel; with 4×4 or 2×2 and stride 2, one
    convolution for all phases of the output; with other strides, and by large kernels, matrix products.
    """
    if y.shape[1:3] == (1, 1) and sides == k.shape[:2] and padding == 0:
        return _from_one_pixel(y, k, flipped).swapaxes(0, 1).reshape(y.shape[0], *sides, -1)
    if not _outweighs(k, y):
        if stride == 1 and k.shape[0] == k.shape[1]:
            return forward(y, k, stride=1, padding=k.shape[0] - 1 - padding, flipped=not flipped)
        by_phases = BY_PHASES.get((*k.shape[:2], stride, padding))
        if by_phases and sides == (2 * y.shape[1], 2 * y.shape[2]):
            return by_phases(y, k if flipped else flip(k))
    return _by_taps_transposed(y, k, stride, padding, flipped, sides)


def kernel_gradient(
    x: jax.Array, y: jax.Array, *, stride: int, padding: int, flipped: bool, sides: tuple[int, int]
) -> jax.Array:
    """The transpose in k: `k[a, c] = Σ x[stride·p + a − padding, stride·q + c − padding]ᵀ · y[p, q]`.

    XLA's own way is fast with stride 1 and many channels. Of kernels that meet every pixel once it is a matrix product
    of patches. Else it is summed over blocks of rows, which stay in the cache while their shifted copies meet in matrix
    products, where that is worth a longer compilation.
    """
    if y.shape[1:3] == (1, 1) and x.shape[1:3] == sides and padding == 0:
        at_taps = _at_every_tap(y, sides[0] * sides[1])
        pair = (at_taps, _pixels(x)[::-1]) if flipped else (_pixels(x), at_taps)
        k = jnp.einsum("tbi,tbo->tio", *pair)
        return k.reshape(*sides, *k.shape[1:])
    if sides == (1, 1) and padding == 0:  # the other pixels meet nothing
        x, stride = x[:, ::stride, ::stride], 1
    products = y.size * x.shape[3] * sides[0] * sides[1]
    if sides == (stride, stride) and padding == 0 and x.shape[1:3] == (stride * y.shape[1], stride * y.shape[2]):
        of_patches = partial(_products_of_patches, side=stride)
        by_blocks = products > WORTH_BLOCKS
        sums = _over_blocks(of_patches, x, y, stride=stride, x_more=stride - 1) if by_blocks else of_patches(x, y)
        k = sums.reshape(*sides, *sums.shape[1:]).astype(x.dtype)
        return flip(k) if flipped else k
    plain = stride == 1 and padding < min(sides)
    if plain and y.shape[3] <= FEW and sides[0] == sides[1]:
        k = _by_planes(x, y, padding, sides)
        return k if flipped else flip(k)
    if plain and products > WORTH_SHIFTS and min(x.shape[3], y.shape[3]) < MANY:
        k = _by_shifts(x, y, padding, sides)
        return flip(k) if flipped else k
    if stride > 1 and products > WORTH_BLOCKS:
        products_of_taps = partial(_products_of_taps, stride=stride, sides=sides, flipped=flipped)
        sums = _over_blocks(products_of_taps, _padded(x, padding), y, stride=stride, x_more=sides[0] - 1)
        return sums.reshape(*sides, *sums.shape[1:]).astype(x.dtype)
    return convolution_xla.kernel_gradient(x, y, stride=stride, padding=padding, flipped=flipped, sides=sides)


def _outweighs(k: jax.Array, maps: jax.Array) -> bool:
    """Whether a kernel had better stay as it is in memory; by one image, for a program may take any number of them."""
    return k.size > max(WORTH_NO_COPY, OUTWEIGHS * math.prod(maps.shape[1:]))


def _over_blocks(
    products: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    y: jax.Array,
    *,
    stride: int = 1,
    x_more: int = 0,
    y_more: int = 0,
) -> jax.Array:
    """Σ over blocks of rows of y, with those of x that they meet: products(x block, y block). A block has so many more
    rows of x, or of y, than it takes steps. Few pixels are one block.
    """
    batch, height = y.shape[0], y.shape[1] - y_more
    if batch * height * y.shape[2] <= FEW_PIXELS:
        return products(x, y)
    rows = next(n for n in range(min(ROWS, height), 0, -1) if height % n == 0)
    x_block, y_block = (1, stride * (rows - 1) + 1 + x_more, *x.shape[2:]), (1, rows + y_more, *y.shape[2:])

    def add_block(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        block, total = state
        # Not `//` and `%`, which every slice would have with their corrections for negative numbers.
        image, row = lax.div(block, of_image), lax.rem(block, of_image) * rows
        xs = lax.dynamic_slice(x, (image, stride * row, 0, 0), x_block, allow_negative_indices=False)
        ys = lax.dynamic_slice(y, (image, row, 0, 0), y_block, allow_negative_indices=False)
        return block + 1, total + products(xs, ys)

    of_one = jax.eval_shape(products, *(jax.ShapeDtypeStruct(each, x.dtype) for each in (x_block, y_block)))
    of_image, nothing = jnp.asarray(height // rows), jnp.zeros(of_one.shape, of_one.dtype)
    blocks = batch * of_image
    # Not `lax.scan`, which has more to compile: what counts the blocks, and what takes from that.
    return lax.while_loop(lambda state: state[0] < blocks, add_block, (jnp.zeros_like(blocks), nothing))[1]


def _sum_of_products(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """`jnp.einsum`, summed in float32 at least."""
    return jnp.einsum(subscripts, a, b, preferred_element_type=_wide(a))


def _wide(x: jax.Array) -> DTypeLike:
    """The type to sum in."""
    return jnp.float32 if x.dtype.itemsize < 4 else x.dtype


def _products_of_taps(xs: jax.Array, ys: jax.Array, *, stride: int, sides: tuple[int, int], flipped: bool) -> jax.Array:
    """A matrix product for every tap: (kh·kw, i, o), or flipped, (kh·kw, o, i)."""
    at_taps = _at_taps(xs, ys.shape[1:3], stride, sides)
    pairs = [(ys, at_tap) for at_tap in at_taps[::-1]] if flipped else [(at_tap, ys) for at_tap in at_taps]
    return jnp.stack([_sum_of_products("bhwi,bhwo->io", *pair) for pair in pairs])


def _products_of_patches(xs: jax.Array, ys: jax.Array, *, side: int) -> jax.Array:
    """The same for a kernel as large as its stride, which meets every pixel once, in one product: (kh·kw, i, o)."""
    b, h, w, o = ys.shape
    patches = xs.reshape(b, h, side, w, side * xs.shape[3])
    return _sum_of_products("bhawn,bhwo->ano", patches, ys).reshape(side * side, xs.shape[3], o)


def _at_taps(x: jax.Array, out_sides: tuple[int, ...], stride: int, sides: tuple[int, ...]) -> list[jax.Array]:
    """The pixels of the padded x that each tap of a kernel meets, in the order of the taps."""
    below, right = (stride * (n - 1) + 1 for n in out_sides)
    return [x[:, a : a + below : stride, c : c + right : stride] for a, c in np.ndindex(*sides)]


def _by_planes(x: jax.Array, y: jax.Array, padding: int, sides: tuple[int, int]) -> jax.Array:
    """The flipped gradient by a square kernel, one product for every block: of y's few channels, as each tap meets
    them, with x as it is.
    """

    def product(ys: jax.Array, xs: jax.Array) -> jax.Array:
        (height, width), (h, w) = sides, xs.shape[1:3]
        # In two steps, for XLA puts only few parts together without writing each of them first.
        rows = jnp.stack([ys[:, a : a + h] for a in range(height)])
        planes = jnp.stack([rows[:, :, :, c : c + w] for c in range(width)], 1)
        return _sum_of_products("acbhwo,bhwi->acoi", planes, xs)

    more = sides[0] - 1
    return _over_blocks(product, _padded(y, more - padding), x, x_more=more).astype(x.dtype)


def _by_shifts(x: jax.Array, y: jax.Array, padding: int, sides: tuple[int, int]) -> jax.Array:
    """The gradient by a kernel, one product for every block: of x, shifted by the kernel's columns, with y, shifted by
    its rows. One row more is computed where it fills the registers.
    """
    (height, width), i, o = sides, x.shape[3], y.shape[3]
    shifts = height + 1 if height * o % REGISTER and (height + 1) * o % REGISTER == 0 else height
    x = _pad(x, {2: (padding, padding)})
    y = _pad(y, {1: (shifts - 1 - padding, height - 1 - padding)})

    def product(xs: jax.Array, ys: jax.Array) -> jax.Array:
        planes, starts = jnp.moveaxis(xs, 3, 0), range(shifts)[::-1]
        columns = jnp.stack([planes[..., c : c + ys.shape[2]] for c in range(width)])
        rows = jnp.stack([ys[:, start : start + xs.shape[1]] for start in starts], axis=3)
        return _sum_of_products("cp,pa->ca", columns.reshape(width * i, -1), rows.reshape(-1, shifts * o))

    sums = _over_blocks(product, x, y, y_more=shifts - 1).reshape(width, i, shifts, o)
    return sums[:, :, :height].transpose(2, 0, 1, 3).astype(x.dtype)


def _of_one(x: jax.Array, k: jax.Array, padding: int) -> jax.Array:
    """The convolution of one channel as a sum over the taps."""
    sides = out_sides(x, k, 1, padding)
    at_taps = _at_taps(_padded(x, padding).astype(_wide(x)), sides, 1, k.shape[:2])
    terms = [at_tap * of_tap for at_tap, of_tap in zip(at_taps, _taps(k)[:, None, None].astype(_wide(k)), strict=True)]
    # Else it would be computed anew in everything that reads it.
    return lax.optimization_barrier(sum(terms[1:], start=terms[0]).astype(x.dtype))


def _to_few(x: jax.Array, k: jax.Array, padding: int) -> jax.Array:
    """The convolution to few channels: one matrix product of all taps with all pixels, and a sum over the taps where
    they belong.
    """
    kh, kw, i, o = k.shape
    products = _sum_of_products("ti,pi->tp", k.swapaxes(2, 3).reshape(-1, i), x.reshape(-1, i))
    planes = products.reshape(kh, kw, o, *x.shape[:3])
    planes = _pad(planes, {4: (padding, padding), 5: (padding, padding)})
    h, w = out_sides(x, k, 1, padding)
    terms = [planes[:, c, ..., c : c + w] for c in range(kw)]
    columns = sum(terms[1:], start=terms[0])
    rows = jnp.stack([columns[a, :, :, a : a + h] for a in range(kh)])
    # What reads a sum would compute it anew for every pixel that it enlarges one to; a product is written out.
    return jnp.einsum("a,aobhw->bhwo", jnp.ones(kh, rows.dtype), rows).astype(x.dtype)


def _by_taps(x: jax.Array, k: jax.Array, stride: int, padding: int) -> jax.Array:
    """The convolution by a flipped kernel as a matrix product for every tap. The kernel stays as it is in memory."""
    at_taps = _at_taps(_padded(x, padding), out_sides(x, k, stride, padding), stride, k.shape[:2])
    taps = [
        _sum_of_products("bhwi,oi->bhwo", at_tap, of_tap)
        for at_tap, of_tap in zip(at_taps, list(_taps(k))[::-1], strict=True)
    ]
    return sum(taps[1:], start=taps[0]).astype(x.dtype)


def _by_taps_transposed(
    y: jax.Array, k: jax.Array, stride: int, padding: int, flipped: bool, sides: tuple[int, int]
) -> jax.Array:
    """The transpose in x as matrix products, each of which is added where its tap belongs. The kernel stays as it is in
    memory: what is not flipped takes one product for all taps.
    """
    b, h, w, o = y.shape
    if flipped:
        products = [_sum_of_products("bhwo,oi->bhwi", y, of_tap) for of_tap in list(_taps(k))[::-1]]
    else:
        of_taps = _sum_of_products("po,no->pn", y.reshape(-1, o), k.reshape(-1, o)).reshape(b, h, w, -1, k.shape[2])
        products = [of_taps[:, :, :, n] for n in range(of_taps.shape[3])]

    def placed(product: jax.Array, a: int, c: int) -> jax.Array:
        """One tap's part of x: `part[stride·p + a − padding, stride·q + c − padding] = product[p, q]`, else zero."""
        starts = zip((a - padding, c - padding), (h, w), sides, strict=True)
        edges = [(start, side - start - stride * (n - 1) - 1, stride - 1) for start, n, side in starts]
        return lax.pad(product, np.zeros((), product.dtype), [(0, 0, 0), *edges, (0, 0, 0)])

    parts = [placed(product, *at) for product, at in zip(products, np.ndindex(*k.shape[:2]), strict=True)]
    return sum(parts[1:], start=parts[0]).astype(y.dtype)


def _to_one_pixel(x: jax.Array, k: jax.Array, flipped: bool) -> jax.Array:
    """The convolution of maps as large as the kernel: (b, o). Sums over a kernel's last axis have it on their left,
    where it is read in the order of memory.
    """
    if flipped:
        return jnp.einsum("toi,tbi->tob", _taps(k), _pixels(x)[::-1]).sum(0).T
    return x.reshape(x.shape[0], -1) @ k.reshape(-1, k.shape[3])


def _from_one_pixel(y: jax.Array, k: jax.Array, flipped: bool) -> jax.Array:
    """Its transpose in x: (kh·kw, b, i)."""
    if flipped:
        return jnp.einsum("tbo,toi->tbi", _at_every_tap(y, k.shape[0] * k.shape[1]), _taps(k))[::-1]
    taps = jnp.einsum("no,bo->nb", k.reshape(-1, k.shape[3]), y[:, 0, 0])
    return taps.reshape(-1, k.shape[2], y.shape[0]).swapaxes(1, 2)


def _pad(x: jax.Array, edges: dict[int, tuple[int, int]]) -> jax.Array:
    """Zeros before and after along some axes; `jnp.pad` takes five times as long to trace."""
    every = [(*edges.get(axis, (0, 0)), 0) for axis in range(x.ndim)]
    return lax.pad(x, np.zeros((), x.dtype), every)


def _padded(x: jax.Array, padding: int) -> jax.Array:
    return _pad(x, {1: (padding, padding), 2: (padding, padding)})


def _taps(k: jax.Array) -> jax.Array:
    """(kh, kw, …) → (kh·kw, …), as it is in memory."""
    return k.reshape(-1, *k.shape[2:])


def _pixels(x: jax.Array) -> jax.Array:
    """(b, kh, kw, c) → (kh·kw, b, c)."""
    return x.reshape(x.shape[0], -1, x.shape[3]).swapaxes(0, 1)


def _at_every_tap(y: jax.Array, taps: int) -> jax.Array:
    """(b, 1, 1, o) → (taps, b, o), which XLA does not see through: it would make one product of all taps' products,
    and for that a transposed copy of the kernel, the largest of the network.
    """
    return lax.optimization_barrier(jnp.broadcast_to(y[:, 0, 0], (taps, y.shape[0], y.shape[3])))


def _columns(width: int, channels: int) -> int:
    """How many neighbouring output pixels to compute as channels of one: at most eight, or what fills a register, and
    `LANES` channels.
    """
    most = min(max(8, REGISTER // channels), max(1, LANES // channels))
    return next(n for n in range(most, 0, -1) if width % n == 0)


def _banded(k: jax.Array, stride: int, columns: int) -> jax.Array:
    """The kernel of `columns` neighbouring output pixels, side by side as channels, each `stride` further right.

    In steps, for XLA writes more than eight parts one by one before it puts them together.
    """
    while columns > 1:
        parts = max((n for n in range(2, 9) if columns % n == 0), default=columns)
        last = stride * (parts - 1)
        k = jnp.concatenate([_pad(k, {1: (at, last - at)}) for at in range(0, last + 1, stride)], axis=-1)
        stride, columns = stride * parts, columns // parts
    return k

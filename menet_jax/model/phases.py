"""Stride-2 transposed convolutions as plain ones, whose output channels hold the four phases of the output (its rows
and columns, even and odd), interleaved afterwards.

Kernels are (kh, kw, in, out) as `jax.lax.conv_transpose` has them, which each function equals on the same arguments.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from menet_jax.model.convolution_xla import DIMENSIONS


def depth_to_space(x: Float[Array, "b h w phases"]) -> Float[Array, "b 2*h 2*w phases//4"]:
    """Interleave four phases, stored as channels in the order (row parity, column parity, channel)."""
    b, h, w, channels = x.shape
    phases = x.reshape(b, h, w, 2, 2, channels // 4)
    return phases.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, channels // 4)


def conv_transpose_2x2(x: Float[Array, "b h w i"], kernel: Float[Array, "2 2 i o"]) -> Float[Array, "b 2*h 2*w o"]:
    """Transposed convolution 2×2, stride 2: every input pixel becomes its own 2×2 block, so the phases are four
    matrix products, `y[2p+a, 2q+b] = x[p, q] · kernel[1−a, 1−b]`.
    """
    phases = kernel[::-1, ::-1]
    weights = phases.transpose(2, 0, 1, 3).reshape(1, 1, kernel.shape[2], -1)
    return depth_to_space(lax.conv_general_dilated(x, weights, (1, 1), "VALID", dimension_numbers=DIMENSIONS))


def conv_transpose_4x4(x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]) -> Float[Array, "b 2*h 2*w o"]:
    """Transposed convolution 4×4, stride 2, padding 1.

    Along one axis `y[2p+a] = Σ_m x[p+a−1+m] · kernel[2m+a]`, m ∈ {0, 1}: phase a is a 2-tap convolution of x
    whose window starts at p+a−1. All phases are computed at every window start (one more than there are pixels);
    phase a then takes the starts from a on. This spends exactly the 16 taps that the kernel has.
    """
    b, h, w, i = x.shape
    o = kernel.shape[-1]
    taps = kernel.reshape(2, 2, 2, 2, i, o).transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, i, 4 * o)
    windows = lax.conv_general_dilated(x, taps, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
    windows = windows.reshape(b, h + 1, w + 1, 2, 2, o)
    rows = [
        jnp.stack([windows[:, a : a + h, c : c + w, a, c] for c in (0, 1)], axis=3)  # (b, h, w, column parity, o)
        for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, o)

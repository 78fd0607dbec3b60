"""Scalar fields over an image's pixels, by exactly rounded arithmetic only.

Every function uses + - * / sqrt, floor, comparison and integer sums, each of which IEEE 754 fixes to the
last bit. There is no sin, exp, power or float reduction, whose last bits differ between builds of NumPy.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64

from menet_jax.datasets.synthetic.draws import Draws

Field = Float32[np.ndarray, "h w"]
Axis = Float32[np.ndarray, " n"]


def ramp(x: Field) -> Field:
    """x clipped to [0, 1]."""
    return np.minimum(np.maximum(x, 0.0), 1.0)


def triangle_wave(x: Field) -> Field:
    """Triangle wave of period 1: 1 at the integers, 0 half way between them."""
    return np.abs(x - np.floor(x) - 0.5) * 2.0


def distance(y: Field, x: Field) -> Field:
    """Euclidean distance from the origin (np.hypot is a library call, so not the same everywhere)."""
    return np.sqrt(y * y + x * x)


def _lattice_position(length: int, cell: float) -> tuple[Int64[np.ndarray, " n"], Axis]:
    """Lattice index of each pixel along one side, and its smoothstep weight 3t² - 2t³ towards the next."""
    position = np.arange(length, dtype=np.float32) / cell
    index = np.floor(position)
    t = position - index
    return index.astype(np.int64), t * t * (3.0 - 2.0 * t)


def noise(draws: Draws, height: int, width: int, cell: float) -> Field:
    """Value noise in [0, 1]: uniform numbers on a lattice `cell` pixels apart, smoothly interpolated."""
    lattice = draws.uniforms(int(height / cell) + 2, int(width / cell) + 2)
    i, v = _lattice_position(height, cell)
    j, u = _lattice_position(width, cell)
    bands = lattice[i] + (lattice[i + 1] - lattice[i]) * v[:, None]
    return bands[:, j] + (bands[:, j + 1] - bands[:, j]) * u


def fractal(draws: Draws, height: int, width: int, cell: float, octaves: int) -> Field:
    """Octaves of noise in [0, 1], each of half the cell and half the weight of the one before."""
    total = noise(draws, height, width, cell)
    weight, weights = 1.0, 1.0
    for _ in range(octaves - 1):
        cell, weight = cell / 2.0, weight / 2.0
        total = total + weight * noise(draws, height, width, cell)
        weights += weight
    return total / weights


def slopes(height_map: Field) -> tuple[Field, Field]:
    """Central differences along rows and columns, one-sided (and halved) at the border."""
    padded = np.pad(height_map, 1, mode="edge")
    return (padded[2:, 1:-1] - padded[:-2, 1:-1]) * 0.5, (padded[1:-1, 2:] - padded[1:-1, :-2]) * 0.5


def shift(mask: Bool[np.ndarray, "h w"], down: float, right: float) -> Bool[np.ndarray, "h w"]:
    """The mask moved by the nearest whole number of pixels, with nothing coming in from outside."""
    i, j = int(np.floor(down + 0.5)), int(np.floor(right + 0.5))
    far = max(abs(i), abs(j))
    height, width = mask.shape
    return np.pad(mask, far)[far - i : far - i + height, far - j : far - j + width]


def box_blur(mask: Bool[np.ndarray, "h w"], radius: int) -> Field:
    """Share of set pixels in the (2·radius + 1)² square around each pixel, outside counting as unset.

    Integer running sums, so the result does not depend on the order of additions.
    """
    side = 2 * radius + 1
    sums = np.pad(mask.astype(np.int64), ((radius + 1, radius), (radius + 1, radius))).cumsum(0).cumsum(1)
    counts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return counts.astype(np.float32) / np.float32(side * side)

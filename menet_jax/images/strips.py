"""Work on large arrays of pixels, a few rows at a time."""

from collections.abc import Callable

import numpy as np

PIXELS = 2**20
"""Pixels of one strip."""


def by_strips(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """`function(*arrays)` for arrays of one height; each row of the result depends on the same row of theirs alone.

    The function needs memory, in floats many times an image, for a strip only.
    """
    height, width = arrays[0].shape[:2]
    rows = max(1, PIXELS // max(width, 1))
    strips = [function(*(each[top : top + rows] for each in arrays)) for top in range(0, max(height, 1), rows)]
    return strips[0] if len(strips) == 1 else np.concatenate(strips)

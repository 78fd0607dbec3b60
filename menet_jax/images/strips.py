"""Work on large arrays of pixels, a few rows at a time."""

from collections.abc import Callable

import numpy as np

PIXELS = 2**20
"""Pixels of one strip."""


def by_strips(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """`function(*arrays)` of arrays of one height, where each row of it depends on the same row of theirs alone.

    What the function needs meanwhile, which in floats is many times an image, is needed for a strip only.
    """
    height, width = arrays[0].shape[:2]
    rows = max(1, PIXELS // max(width, 1))
    strips = [function(*(each[top : top + rows] for each in arrays)) for top in range(0, max(height, 1), rows)]
    return strips[0] if len(strips) == 1 else np.concatenate(strips)

"""Surface patterns in [0, 1] over pixel coordinates (y, x): fine, crisp and regular enough to stand out."""

from collections.abc import Callable

import numpy as np

from menet_jax.datasets.synthetic.draws import Draws
from menet_jax.datasets.synthetic.fields import Field, distance, noise, ramp, triangle_wave

Pattern = Callable[[Draws, Field, Field], Field]


def _period(draws: Draws) -> float:
    """Pixels from one repetition to the next."""
    return draws.between(9.0, 17.0)


def _crisp(wave: Field, period: float) -> Field:
    """Cut a wave of slope 2 / period at one half, leaving edges about two pixels wide."""
    return ramp((wave - 0.5) * (period / 4.0) + 0.5)


def stripes(draws: Draws, y: Field, x: Field) -> Field:
    """Straight stripes."""
    period = _period(draws)
    return _crisp(triangle_wave(y / period), period)


def waves(draws: Draws, y: Field, x: Field) -> Field:
    """Zigzag stripes."""
    period = _period(draws)
    return _crisp(triangle_wave(y / period + 0.8 * triangle_wave(x / (3.0 * period))), period)


def checks(draws: Draws, y: Field, x: Field) -> Field:
    """A chessboard: the exclusive or of two sets of stripes, a + b - 2ab."""
    period = 1.4 * _period(draws)
    a, b = _crisp(triangle_wave(y / period), period), _crisp(triangle_wave(x / period), period)
    return a + b - 2.0 * a * b


def dots(draws: Draws, y: Field, x: Field) -> Field:
    """Round dots on a square lattice."""
    period = _period(draws)
    a, b = y / period, x / period
    away = distance(a - np.floor(a) - 0.5, b - np.floor(b) - 0.5)
    return ramp((0.33 - away) * period * 0.5 + 0.5)


def bricks(draws: Draws, y: Field, x: Field) -> Field:
    """Bricks with light joints, every other course moved by half a brick."""
    period = _period(draws)
    course = np.floor(y / period)
    shift = 0.5 * (course - 2.0 * np.floor(course * 0.5))
    joints = np.maximum(triangle_wave(y / period), 2.0 * triangle_wave(x / (2.0 * period) + shift) - 1.0)
    return ramp((joints - 0.6) * 2.5)


def rings(draws: Draws, y: Field, x: Field) -> Field:
    """Rings about the middle."""
    period = _period(draws)
    return _crisp(triangle_wave(distance(y, x) / period), period)


def speckle(draws: Draws, y: Field, x: Field) -> Field:
    """Coarse grain of strong contrast, like granite."""
    height, width = y.shape
    return ramp((noise(draws, height, width, draws.between(3.5, 6.0)) - 0.5) * 2.5 + 0.5)


PATTERNS: tuple[Pattern, ...] = (stripes, waves, checks, dots, bricks, rings, speckle)

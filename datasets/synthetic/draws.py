"""Random numbers that are the same on every platform and with every NumPy version."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

T = TypeVar("T")


class Draws:
    """A stream of uniform numbers named by (seed, index).

    NumPy keeps the raw stream of a bit generator fixed for ever, and promises no such thing of
    `Generator`'s methods (NEP 19). So everything here is made from raw 64-bit words by exact arithmetic.
    """

    def __init__(self, seed: int, index: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,)))

    def uniforms(self, *shape: int) -> Float32[np.ndarray, "..."]:
        """Uniform on [0, 1), multiples of 2⁻²⁴: the top 24 bits of each word, which float32 holds exactly."""
        words = self._bits.random_raw(shape)
        return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)

    def between(self, low: float, high: float) -> float:
        """One number, uniform on [low, high)."""
        return low + (high - low) * float(self.uniforms(1)[0])

    def integer(self, low: int, high: int) -> int:
        """One integer, uniform on low … high, both included."""
        return low + int(self.between(0.0, 1.0) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.between(0.0, 1.0) < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.integer(0, len(options) - 1)]

    def direction(self) -> tuple[float, float]:
        """A unit vector (cos, sin), by the rational form of the circle (library sines vary a little)."""
        t = self.between(-1.0, 1.0)
        side = 1.0 if self.chance(0.5) else -1.0
        return side * (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)

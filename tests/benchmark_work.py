"""What the tests of the benchmarks give to other processes, which need import nothing else."""

import os
import time
from collections.abc import Callable

import numpy as np


def compute(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def keep(mebibytes: int) -> Callable[[], None]:
    """Work that fills memory once, for a moment, and again and again half as much."""
    sizes = iter([mebibytes])
    return lambda: np.ones(next(sizes, mebibytes // 2) << 17).fill(2.0)


def fail(how: str) -> Callable[[], None]:
    if how == "making":
        raise ValueError("cannot be made")

    def calling() -> None:
        if how == "dying":
            os._exit(3)
        raise ValueError("cannot be called")

    return calling

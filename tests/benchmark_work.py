"""What the tests of the benchmarks give to other processes, which need import nothing else."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def compute(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def keep(mebibytes: int, calls: Path) -> Callable[[], None]:
    """Work that fills memory once, for a moment, and again and again half as much; a file grows by a byte a call."""
    sizes = iter([mebibytes])

    def work() -> None:
        np.ones(next(sizes, mebibytes // 2) << 17).fill(2.0)
        with calls.open("ab") as file:
            file.write(b".")

    return work


def fail(how: str) -> Callable[[], None]:
    if how == "making":
        raise ValueError("cannot be made")

    def calling() -> None:
        if how == "dying":
            os._exit(3)
        raise ValueError("cannot be called")

    return calling

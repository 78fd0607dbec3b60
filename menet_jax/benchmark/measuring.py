"""What all benchmarks share: timing in turns, medians, and words for the machine."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from menet_jax.parallel import CORES

TURN = 0.5
"""Seconds that a turn is to last at least, where what is timed takes less."""


class Seconds(NamedTuple):
    """What one call takes.

    Attributes:
        wall: seconds that pass.
        cpu: seconds that the threads of the process compute, all of them together. Unlike wall seconds they
            hardly depend on what else the machine does.
    """

    wall: float
    cpu: float


def timed(function: Callable[[], Any], calls: int = 1) -> Seconds:
    """What a call of the function takes, mean over several calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    return Seconds((time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)


def timer(function: Callable[[], Any]) -> Callable[[], Seconds]:
    """The function → a function that calls it once and says what that took."""
    return lambda: timed(function)


def calls_a_turn(once: Seconds) -> int:
    """How many calls make a turn that is long enough to be timed."""
    return max(1, math.ceil(TURN / max(once.wall, 1e-6)))


def in_turns(timers: Sequence[Callable[[], Seconds]], rounds: int) -> list[list[Seconds]]:
    """What each function takes in each round; every round calls all of them once.

    So whatever else the machine does meets all of them alike.

    Raises:
        ValueError: there is to be no round.
    """
    check_counts(rounds=rounds)
    taken: list[list[Seconds]] = [[] for _ in timers]
    for _ in range(rounds):
        for each, times in zip(timers, taken, strict=True):
            times.append(each())
    return taken


def check_counts(**counts: int) -> None:
    """Raise ValueError, naming the flag, unless all of these are at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name.replace('_', '-')} {count}: must be at least 1")


def median(times: Sequence[Seconds]) -> Seconds:
    """Medians over the rounds, of wall and of CPU seconds by themselves."""
    return Seconds(statistics.median(each.wall for each in times), statistics.median(each.cpu for each in times))


def machine() -> str:
    """The device and the processor, for the head of a table."""
    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else f"{device.device_kind} ({device.platform}), "
    return f"{accelerator}{CORES} CPU cores ({processor()}), JAX {jax.__version__}"


def processor() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Common parts of benchmarks: timing in turns, medians, and a description of the machine."""

import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import jax

from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.parallel import CORES

TURN = 0.5
"""Shortest turn in seconds: faster calls are repeated to fill it."""


class Seconds(NamedTuple):
    """Time of one call.

    Attributes:
        wall: seconds that pass.
        cpu: seconds that the process computes, all its threads and, on Linux, its child processes together. They
            depend less than wall seconds on what else the machine does.
    """

    wall: float
    cpu: float


def timed(function: Callable[[], Any], calls: int = 1) -> Seconds:
    """Mean time of a call of the function, over several calls; arrays of JAX's that it returns are waited for."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    for _ in range(calls):
        jax.block_until_ready(function())
    return Seconds((time.perf_counter() - wall) / calls, (cpu_seconds() - cpu) / calls)


def cpu_seconds() -> float:
    """CPU seconds of this process and its child processes so far, those that have ended included."""
    ended = os.times()
    living = sum(map(_seconds_of, multiprocessing.active_children()))
    return time.process_time() + ended.children_user + ended.children_system + living


def _seconds_of(process: BaseProcess) -> float:
    """CPU seconds of a child process; 0 if the system does not tell, or the process has just ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime and stime, fields 14 and 15 of proc(5), which counts from 1; what follows the name begins with field 3
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def calls_a_turn(once: Seconds) -> int:
    """How many calls make a turn that is long enough to be timed."""
    return max(1, math.ceil(TURN / max(once.wall, 1e-6)))


def in_turns(timers: Sequence[Callable[[], Seconds]], rounds: int) -> list[list[Seconds]]:
    """Time of each function in each round; every round calls all of them once.

    So other load on the machine slows all of them alike.

    Raises:
        ValueError: there is to be no round.
    """
    check_counts(rounds=rounds)
    taken: list[list[Seconds]] = [[] for _ in timers]
    for _ in range(rounds):
        for each, times in zip(timers, taken, strict=True):
            times.append(each())
    return taken


def median(times: Sequence[Seconds]) -> Seconds:
    """Medians over the rounds, of wall and of CPU seconds by themselves."""
    return Seconds(statistics.median(each.wall for each in times), statistics.median(each.cpu for each in times))


def medians(functions: Sequence[Callable[[], Any]], rounds: int) -> list[Seconds]:
    """Median time of a call of each function, in turns."""
    return [median(times) for times in in_turns([partial(timed, each) for each in functions], rounds)]


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

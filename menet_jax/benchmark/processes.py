"""Work in a process of its own, timed there: nothing of one library's threads or memory counts for another."""

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from menet_jax.benchmark.measuring import Seconds, calls_a_turn, timed

Make = Callable[..., Callable[[], Any]]


class ProcessDiedError(OSError):
    """A process ended while it was asked for something."""


class MemoryPeak(NamedTuple):
    """Largest resident memory of a process, in bytes.

    Attributes:
        whole: from its start on, with imports and compilation.
        working: from when it is warm, and has given back what compiling had freed: what it takes to go on. None where
            the system (other than Linux) cannot forget an earlier peak.
    """

    whole: int
    working: int | None


class Worker:
    """A process that has made what is timed, and called it until it is warm."""

    def __init__(self, connection: Connection, process: BaseProcess) -> None:
        self._connection, self._process = connection, process
        self.calls = calls_a_turn(self._receive())

    def turn(self) -> Seconds:
        """Mean time of a call, over a turn, which begins with one that does not count."""
        self._connection.send(self.calls)
        taken: Seconds = self._receive()
        return taken

    def peak(self) -> MemoryPeak:
        """Its memory so far."""
        self._connection.send(None)
        found: MemoryPeak = self._receive()
        return found

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise ProcessDiedError(f"its process died with exit status {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def in_process(make: Make, *args: Any, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """A process in which `make(*args)`, all of which can be pickled, makes what is timed. It finds the variables of
    `environment` beside this process's.

    Raises:
        Exception: whatever making or calling raises there; ProcessDiedError if the process dies.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, args), daemon=True)
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
        there.close()
    try:
        yield Worker(here, process)
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, make: Make, args: tuple[Any, ...]) -> None:
    """Answer how many calls are to be timed, None for the peak of memory, until nobody asks any more."""
    try:
        function = make(*args)
        function()
        once, before = timed(function), _resident_peak()
        forgotten = _forget_peak()
        connection.send(once)
        while True:
            calls = connection.recv()
            if calls is None:
                now = _resident_peak()
                connection.send(MemoryPeak(max(before, now), now if forgotten else None))
            else:
                # While others had their turns, the system may have taken back what the last call had freed. To hand it
                # out again takes time that no call needs among calls: the first one of a turn does not count.
                function()
                connection.send(timed(function, calls))
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send(error)


def _forget_peak() -> bool:
    """Let the system count the peak of memory from now on; whether it can.

    What compiling has taken and freed goes back to the system first: the C library would keep it, and it would count.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere too there is `getrusage`, but on Linux that counts the parent's memory as well
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

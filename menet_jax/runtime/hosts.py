"""The processes of a run over several hosts: they are compared, and end together.

If a process dies, JAX aborts the others with a C++ stack trace as the only reason. So every process keeps a connection
of its own to process 0, for messages of one line of JSON. `meeting.py` opens these connections.
"""

import atexit
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, NoReturn

from menet_jax.runtime.cli import FAILED, complain_of

PATIENCE = 10.0
"""Seconds of waiting after which a message says so."""
BEAT = 10.0
"""Seconds between two heartbeats."""
SILENCE = 60.0
"""Seconds without a heartbeat after which a process counts as lost; JAX waits for 100."""

GONE = "it was killed, or its machine or the network failed"

Message = dict[str, Any]


class Line:
    """A connection to another process."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        self._connection = connection
        self._connection.settimeout(timeout)
        self._file = connection.makefile("r", encoding="utf-8")
        self._lock = Lock()

    def send(self, **message: Any) -> None:
        """Send a message. A broken connection is ignored here: the thread that listens to it reports it."""
        with self._lock, suppress(OSError):
            self._connection.sendall((json.dumps(message) + "\n").encode())

    def receive(self, timeout: float | None = None) -> Message:
        """The next message.

        Raises:
            TimeoutError: the other process is silent for so many seconds.
            OSError: it is gone.
            ValueError: it is no process of ours.
        """
        if timeout is not None:
            self._connection.settimeout(timeout)
        text = self._file.readline()
        if not text:
            raise ConnectionResetError
        message = json.loads(text)
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._connection.close()


class Hosts:
    """The connections of this process to the others of its run; by default there are no others."""

    def __init__(self, index: int = 0, labels: Sequence[str] = ("",), lines: Sequence[Line] = ()) -> None:
        """Make it for a single process; `meet` makes it for several.

        Args:
            index: which of them this one is.
            labels: what they are called.
            lines: of process 0 to all others, in order; of another one to process 0.
        """
        self.index = index
        self._labels, self._lines = labels, lines
        self._said: list[SimpleQueue[Any]] = [SimpleQueue() for _ in lines]
        self._parted = False
        self._ending = Lock()  # taken by what ends this process: it says why, and nothing else does
        for place in range(len(lines)):
            Thread(target=self._listen, args=[place], daemon=True).start()
        if lines:
            Thread(target=self._beat, daemon=True).start()

    def compare(self, facts: Mapping[str, object]) -> None:
        """Wait until all processes are here, and see that they say the same.

        Raises:
            ValueError: they do not, see `check_same`. All of them raise it.
        """
        check_same(dict(zip(self._labels, self._exchange(facts), strict=True)))

    def part(self) -> None:
        """Wait until all processes are here. Each may end from now on."""
        self._exchange(None)
        self._parted = True

    @contextmanager
    def ending_together(self, status: int) -> Iterator[None]:
        """End all processes where this one raises something; theirs is that exit status."""
        try:
            yield
        except BaseException as error:
            if self._lines:
                self._tell(error, status)
            raise

    def _tell(self, error: BaseException, status: int) -> None:
        if status == FAILED and isinstance(error, Exception):
            time.sleep(5)  # most often it is so because another process is gone: the line to that one will say so
        if not self._ending.acquire(blocking=False):
            Event().wait()
        reason = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        for line in self._lines:
            line.send(end=f"{self._labels[self.index]} stopped: {reason}", status=status)
        atexit.register(_leave, status)  # called before what JAX has registered, which would wait for the others

    def _exchange(self, value: object) -> list[Any]:
        """The values of all processes, in their order."""
        value = json.loads(json.dumps(value))
        if not self._lines:
            return [value]
        if self.index:
            self._lines[0].send(said=value)
            return list(self._heard(0))
        values = [value, *(self._heard(place) for place in range(len(self._lines)))]
        for line in self._lines:
            line.send(said=values)
        return values

    def _heard(self, place: int) -> Any:
        with suppress(Empty):
            return self._said[place].get(timeout=PATIENCE)
        print(f"waiting for {self._other(place)}, which is there, but busy")
        return self._said[place].get()

    def _other(self, place: int) -> str:
        return self._labels[0 if self.index else place + 1]

    def _listen(self, place: int) -> None:
        line = self._lines[place]
        try:
            while True:
                message = line.receive(SILENCE)
                if "said" in message:
                    self._said[place].put(message["said"])
                elif "end" in message:
                    self._end(message["end"], message["status"], line)
        except (OSError, ValueError) as error:
            silent = isinstance(error, TimeoutError)
            gone = f"has not answered for {SILENCE:.0f} s" if silent else f"is gone: {GONE}"
            if not self._parted:
                self._end(f"{self._other(place)} {gone}. --resume goes on from the last checkpoint", FAILED, line)

    def _end(self, sentence: str, status: int, heard_from: Line) -> None:
        """End this process, and the others that hear from it."""
        if self._ending.acquire(blocking=False):
            for line in self._lines:
                if line is not heard_from:
                    line.send(end=sentence, status=status)
            complain_of(RuntimeError(sentence))
            _leave(status)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            for line in self._lines:
                line.send()


def check_same(facts: Mapping[str, Mapping[str, object]]) -> None:
    """Raise ValueError, naming what differs and where, unless all processes, by what they are called, say the same."""
    (reference, first), *others = facts.items()
    different = [
        f"{what} is {first.get(what)} on {reference}, {of.get(what)} on {label}"
        for label, of in others
        for what in {**first, **of}
        if first.get(what) != of.get(what)
    ]
    if different:
        raise ValueError("the processes of a run must be alike, but for their id: " + "; ".join(different))


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

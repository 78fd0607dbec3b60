"""One Ctrl-C ends a command, whenever it comes: with one line, and with status 130."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT

GRACE = 3.0
"""Seconds that a command has to end by itself after Ctrl-C."""


def end_at_once() -> None:
    """Have Ctrl-C end the process from now on, where there is nothing yet to leave behind.

    No exception could do it: while Python imports and collects garbage, others swallow it or print where it came from.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise the shell has it ignored
        signal.signal(signal.SIGINT, lambda *_: _end("stopped"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # for where this program took another's place


@contextmanager
def blocked() -> Iterator[None]:
    """Have Ctrl-C wait. It goes on waiting where another program takes this one's place, for its `end_at_once`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def interruptible(line: Callable[[], str]) -> Iterator[None]:
    """End the program with a line on stderr and status 130 after Ctrl-C.

    Ctrl-C raises KeyboardInterrupt, so that open files are closed. That does not work everywhere. Libraries that are
    half imported swallow the exception or crash: during imports a command ends at once, without it. Python raises
    nothing while it waits for a compiler or a network: a thread ends the process after `GRACE` seconds. If another
    handler of Ctrl-C is installed, the thread leaves the first Ctrl-C to it.

    Args:
        line: what to print.

    Raises:
        SystemExit: after Ctrl-C.
    """
    import socket  # only now: it takes a while, and Ctrl-C is to be heard from the start
    from threading import Event, Thread, current_thread, main_thread

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None) or current_thread() is not main_thread():  # others deal with it
        yield
        return

    reading, writing = socket.socketpair()
    writing.setblocking(False)
    closed = Event()

    def watch() -> None:
        seen = Counter[object]()
        with reading:
            while number := reading.recv(1):
                handler = signal.getsignal(signal.SIGINT)
                seen[handler] += 1
                meant = handler is interrupt or seen[handler] > 1
                if number[0] == signal.SIGINT and meant and not closed.wait(GRACE):
                    _end(line())

    def interrupt(_: int, frame: FrameType | None) -> None:
        if is_command() and _is_import(frame):
            _end(line())
        raise KeyboardInterrupt

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    outer = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, interrupt)
    try:
        with _again_where_dropped():
            yield
    except KeyboardInterrupt:
        print(line(), file=sys.stderr)
        if is_command():  # nothing is open any more, and Python would wait for what threads still compile
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.set_wakeup_fd(outer)
        closed.set()
        writing.close()
        watcher.join()  # it holds on to the work, and JAX aborts where arrays are let go of while Python ends


@contextmanager
def _again_where_dropped() -> Iterator[None]:
    """Have Ctrl-C come again where garbage collection, in which JAX calls Python, drops its exception."""
    from threading import Timer  # only now, as above

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type is KeyboardInterrupt:
            Timer(0.01, os.kill, [os.getpid(), signal.SIGINT]).start()
        else:
            hook(dropped)

    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        # Otherwise somebody has replaced this hook by one that calls it, and theirs stays.
        if sys.unraisablehook is again:
            sys.unraisablehook = hook


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the end of work that must not be left half done, or that a library cannot abort cleanly."""
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def is_command() -> bool:
    """Whether Python was started by `python -m menet_jax.…`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.startswith("menet_jax.")


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _end(line: str) -> NoReturn:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())
    os._exit(INTERRUPTED)

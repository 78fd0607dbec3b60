"""How a command runs: it opens and checks everything, then works; and what it says and returns where it cannot."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Work = TypeVar("Work")

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of what leaves something half done, or that no library lets go of cleanly."""
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def run_command(
    prepare: Callable[[], Work],
    do: Callable[[Work], int],
    left: Callable[[Work], str] = lambda _: "nothing was computed",
) -> int:
    """The exit status: that of the work; 2 for bad input, 1 if writing fails, 130 after Ctrl-C.

    Args:
        prepare: opens and checks everything; ValueError and OSError say what cannot be used.
        do: the work.
        left: what there is of work that was interrupted, in words.
    """
    try:
        work = prepare()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("stopped before anything was computed", file=sys.stderr)
        return INTERRUPTED
    try:
        return do(work)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"stopped; {left(work)}", file=sys.stderr)
        return INTERRUPTED

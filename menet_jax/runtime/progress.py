"""Progress bars that tell waiting for the compiler from working."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from tqdm import tqdm

from menet_jax.runtime.text import printable, shown

THREADS = 4
"""Threads that look at every image of a dataset."""

T = TypeVar("T")
R = TypeVar("R")


def say(message: str) -> None:
    """Print a line above the bars. Where nothing can be printed, as into a file on a full disk, the work goes on."""
    with suppress(OSError):
        tqdm.write(shown(message))


def live() -> bool:
    """Whether a bar printed anew takes the place of the old one: in a terminal and in a notebook, not in a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Bar(tqdm):
    """A bar that says when its next item waits for the compiler, and leaves that item out of speed and time left."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._compiling = False
        super().__init__(*args, **{"dynamic_ncols": True, **kwargs, "desc": printable(kwargs.get("desc") or "")})

    def compiling(self) -> None:
        """The next item waits for the compiler."""
        self._compiling = True
        self.set_postfix_str("compiling")

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Draw the bar as tqdm does; if it cannot be printed, go on without a bar."""
        try:
            super().display(*args, **kwargs)
        except OSError:
            self.disable = True

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Set the text before the bar; escapes replace control characters of names."""
        super().set_description(printable(desc or ""), refresh)

    def update(self, n: float | int | None = 1) -> bool | None:
        """Advance the bar as tqdm does."""
        if not self._compiling or self.disable or n is None:
            return super().update(n)
        self._compiling = False
        self.skip(n)
        self.set_postfix_str("")
        return True

    def skip(self, n: float | int = 1) -> None:
        """Count items that took no work, as those that an earlier start has left.

        Neither they nor the time since the last item count for speed and time left.
        """
        if not self.disable:
            self.unpause()
            self.initial += n
            self.last_print_n += n
            self.n += n


def in_threads(function: Callable[[T], R], items: Sequence[T], description: str, unit: str) -> list[R]:
    """`function` of every item, in `THREADS` threads and with a progress bar, which is gone in the end."""
    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(function, items)
        return list(Bar(done, total=len(items), desc=description, unit=f" {unit}", leave=False))

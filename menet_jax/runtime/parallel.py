"""Work in threads and processes."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""That this process may use."""

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def workers(count: int, *, processes: bool) -> Iterator[Executor]:
    """A pool of threads or of processes; what it has not begun is dropped in the end.

    Processes begin afresh: copies of this one would share locks with threads that they do not have.
    """
    if processes:
        pool: Executor = ProcessPoolExecutor(count, get_context("spawn"), _leave_interrupts)
    else:
        pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """`map` in threads and in order, at most `count` items ahead of what is taken."""
    remaining = iter(items)
    futures = deque(pool.submit(function, item) for item in islice(remaining, count))
    while futures:
        result = futures.popleft().result()
        futures.extend(pool.submit(function, item) for item in islice(remaining, 1))
        yield result


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the one that started the others ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

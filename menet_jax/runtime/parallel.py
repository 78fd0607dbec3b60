"""Work in threads and processes."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""CPU cores that this process may use."""

IN_FLIGHT = 2**30
"""Most bytes of decoded images in work or waiting, unless a single one has more."""

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def workers(count: int, *, processes: bool) -> Iterator[Executor]:
    """A pool of threads or of processes; work that it has not begun is dropped in the end.

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


def ahead(
    pool: Executor,
    function: Callable[[T], R],
    items: Iterable[T],
    count: int,
    bytes_of: Callable[[T], int] = lambda _: 0,
) -> Iterator[R]:
    """`map` in threads and in order, at most `count` items ahead of what is taken.

    Args:
        pool: the threads.
        function: of an item.
        items: in order.
        count: items, at most; fewer of large ones: `IN_FLIGHT` bytes together, or one item.
        bytes_of: an item → bytes that it takes.
    """
    waiting = deque[tuple[Future[R], int]]()
    for item in items:
        size = bytes_of(item)
        while waiting and (len(waiting) == count or sum(each for _, each in waiting) + size > IN_FLIGHT):
            yield waiting.popleft()[0].result()
        waiting.append((pool.submit(function, item), size))
    while waiting:
        yield waiting.popleft()[0].result()


def grouped(items: Iterable[T], count: int, bytes_of: Callable[[T], int]) -> Iterator[tuple[list[T], int]]:
    """Items in groups of at most `count`, and the bytes of each group: half of `IN_FLIGHT`, or one item."""
    group, size = list[T](), 0
    for item in items:
        needed = bytes_of(item)
        if group and (len(group) == count or size + needed > IN_FLIGHT // 2):
            yield group, size
            group, size = [], 0
        group.append(item)
        size += needed
    if group:
        yield group, size


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the one that started the others ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

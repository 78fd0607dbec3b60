"""How a command's process manages memory: in huge pages, and with a garbage collector that seldom runs."""

import gc
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from menet_jax.runtime.interrupts import blocked, is_command

TUNABLE = "glibc.malloc.hugetlb"
"""1: malloc asks for transparent huge pages (glibc 2.35 and newer; elsewhere nobody reads it)."""

_VARIABLE = "GLIBC_TUNABLES"

SELDOM = (50_000, 20, 100)
"""Thresholds of Python's garbage collector, a seventieth as often as by default."""


def set_up() -> None:
    """Prepare this process for large work, before anything large is imported."""
    use_huge_pages()
    collect_seldom()


def use_huge_pages() -> None:
    """Start this command anew with huge pages, if it is one, on Linux, and they are not in use yet.

    XLA takes memory for a step's intermediate results and gives it back after every step. In pages of 4 KiB the system
    spends more time on handing them out, and the processor on finding them, than some of the convolutions take: with
    huge pages a training step of width 8 on the CPU takes a sixth less time. The allocator is told so only when a
    process starts.
    """
    if is_command() and sys.platform == "linux" and TUNABLE not in os.environ.get(_VARIABLE, ""):
        others = [each for each in [os.environ.get(_VARIABLE)] if each]
        environment = {**os.environ, _VARIABLE: ":".join([*others, f"{TUNABLE}=1"])}
        sys.stdout.flush()
        with suppress(OSError), blocked():  # where that is not allowed, it is slower
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def collect_seldom() -> None:
    """Let Python look for unused cycles of objects a seventieth as often, if this process is a command.

    What it imports stays, and tracing a network makes many objects, most of which stay too. To walk through all of them
    again and again takes a tenth of the time to the first step. Arrays are in no cycles: they go when they are used no
    more.
    """
    if is_command():
        gc.set_threshold(*SELDOM)


def huge_pages() -> bool:
    """Whether malloc asks for huge pages, and the system gives them."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if sys.platform != "linux" or f"{TUNABLE}=1" not in os.environ.get(_VARIABLE, "") or not setting.exists():
        return False
    library = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
    new = library is not None and (int(library[1]), int(library[2])) >= (2, 35)
    return new and "[never]" not in setting.read_text()

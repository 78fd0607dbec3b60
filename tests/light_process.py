"""A command in a process of its own, which is forked from one that has imported what is light, and nothing else.

So it starts in a fifth of the time of a new interpreter. What the options of all commands import counts as theirs.
"""

import multiprocessing
import os
import runpy
import sys
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
OPTIONS = ("training.presets", "data.options", "evaluation.options", "robustness.options", "robustness.summary_options")
CONTEXT.set_forkserver_preload(
    ["numpy", "PIL.Image", "pydantic", "tyro", *(f"menet_jax.{name}" for name in OPTIONS), __name__]
)


class Done(NamedTuple):
    """Exit status, all that is printed, and the packages that were imported."""

    status: int | str | None
    text: str
    modules: set[str]


def run_module(name: str, *arguments: str) -> Done:
    """What becomes of `python -m name arguments`."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(there, name, arguments))
    process.start()
    there.close()
    with here:
        done = here.recv()
    process.join()
    return Done(*done)


def _run(pipe: Connection, name: str, arguments: tuple[str, ...]) -> None:
    sys.argv = [name, *arguments]
    status: int | str | None = 0
    with TemporaryFile("w+", encoding="utf-8") as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)
        sys.stdout = sys.stderr = printed
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
        printed.seek(0)
        pipe.send((status, printed.read(), {each.split(".")[0] for each in sys.modules}))

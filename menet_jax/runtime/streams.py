"""Standard streams that accept every message, so that no message ends the work."""

import io
import os
import sys
from typing import Any


def make_lasting() -> None:
    """Have stdout and stderr take everything: letters that their encoding lacks are escaped, and what is written to
    nobody, as after `| head -1` or `>&-`, is dropped.
    """
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        file = _Lasting(old.fileno() if old else os.open(os.devnull, os.O_WRONLY), "w", closefd=False)
        lines = name == "stderr" or old is None or old.line_buffering or old.write_through
        encoding = old.encoding if old else "utf-8"
        setattr(
            sys, name, io.TextIOWrapper(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=lines)
        )


class _Lasting(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes

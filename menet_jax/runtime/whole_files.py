"""Files that are written whole, or not at all, and folders that can be written to."""

import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from menet_jax.runtime.locks import locked
from menet_jax.runtime.regular_files import real


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` in the end: a reader finds the old one or the new one,
    also after a kill or where the disk is full. What a killed process has left beside it is used anew.

    Raises:
        OSError: it cannot be written; it names `path`.
    """
    path = real(path)  # of a link, what it points to
    name = f".unfinished-{zlib.crc32(os.fsencode(path.name)):08x}"
    beside = path.with_name(f"{name}{path.suffix}")
    try:
        with beside.open("ab") as file:
            if not locked(file.fileno()):  # another process is writing it
                beside = path.with_name(f"{name}-{os.getpid()}{path.suffix}")
            try:
                yield beside
                beside.replace(path)
            finally:
                with suppress(OSError):  # as it is on a disk that is read-only, of which the writing has complained
                    beside.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(folder: Path) -> None:
    """See that files can be written to a folder, before there is anything to lose; or that it can be made.

    Raises:
        OSError: no; what is in the way is named.
    """
    above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above}: is a file, and a folder is needed")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error

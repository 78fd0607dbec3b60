"""Files that are written whole, or not at all."""

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        with _made(beside) as alone:
            if not alone:
                beside = path.with_name(f"{name}-{os.getpid()}{path.suffix}")
            yield beside
            beside.replace(path)
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _made(path: Path) -> Iterator[bool]:
    """Make the file, unless it is there; whether no other process is writing it, as far as the file system knows."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        except OSError:  # there are no locks
            alone = True
        else:
            alone = True
        yield alone
    finally:
        os.close(descriptor)

"""Files that are written whole, or not at all."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from menet_jax.runtime.regular_files import real


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` in the end: a reader finds the old one or the new one,
    also after a kill or where the disk is full.

    Raises:
        OSError: it cannot be written; it names `path`.
    """
    path = real(path)  # of a link, what it points to
    beside = path.with_name(f".unfinished-{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)

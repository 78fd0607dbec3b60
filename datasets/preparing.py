"""Building a dataset once, whoever comes first; and removing one, when nobody uses it."""

import contextlib
import fcntl
import io
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.constants import INCOMPLETE_PREFIX

NAME_ANOTHER = "name another cache (--data.cache in training, --cache elsewhere)"


class InUse:
    """While this lives, `remove_unused` leaves a prepared dataset alone, in other processes too, until a kill.

    What cannot be locked, as on some network drives, is used all the same; there nothing is removed.
    """

    def __init__(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            lock = _open_lock(folder)
            weakref.finalize(self, os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)


def remove_unused(folder: Path) -> bool:
    """Remove a prepared dataset, and what kills left of it, unless it is in use or being prepared; whether it is done.

    A kill meanwhile leaves nothing that looks like a prepared dataset.

    Raises:
        OSError: it is not in use, and cannot be removed.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = _open_lock(folder)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        _remove_unfinished(folder)
        if folder.exists():
            folder.rename(folder.with_name(f"{INCOMPLETE_PREFIX}removed_{folder.name}"))
            _remove_unfinished(folder)
        return True


def _remove_unfinished(folder: Path) -> None:
    for unfinished in folder.parent.glob(f"{INCOMPLETE_PREFIX}*_{folder.name}"):
        shutil.rmtree(unfinished)


def prepare(builder: tfds.core.DatasetBuilder, downloads: tfds.download.DownloadConfig | None = None) -> InUse:
    """Build the dataset unless it is cached; afterwards `builder.as_data_source` works.

    `downloads` says where the user has put what cannot be downloaded from here. TFDS's progress bars are shown, but not
    what it prints: it speaks of downloads of unknown size.

    Raises:
        OSError: it cannot be written.
    """
    folder = Path(builder.data_path)
    if not folder.exists():
        with contextlib.suppress(OSError):  # what a kill left may be of another user
            remove_unused(folder)
    in_use = InUse(folder)
    download_and_prepare: Any = builder.download_and_prepare  # its signature, made by a decorator, admits no argument
    with contextlib.redirect_stdout(io.StringIO()), _naming(folder):
        try:
            download_and_prepare(download_config=downloads)
        except OSError:
            if not folder.exists():
                raise
            builder.info.read_from_directory(builder.data_dir)  # another process built it meanwhile
    return in_use


def damaged(folder: Path, error: Exception) -> OSError:
    """The error to raise if a prepared dataset cannot be read; those of TFDS and array_record name no file."""
    return OSError(f"{folder}: the prepared dataset is damaged ({error}); remove that folder, and it is prepared anew")


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Errors of writing that name no file, or that array_record raises, name the folder."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = str(error).startswith("Not enough disk space")  # so TFDS says where there is no room at all
        if isinstance(error, OSError) and (error.errno is None or error.filename is not None) and not full:
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).split(". ")[0]
        raise OSError(
            f"{folder.parent}: a dataset cannot be prepared there ({reason}). Make room, or {NAME_ANOTHER}"
        ) from error


def _open_lock(folder: Path) -> int:
    """Beside the folder, because it outlives it, and is there before it."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return os.open(path, os.O_RDONLY)  # in somebody else's cache

"""Regular files, and nothing else that has a name in a folder."""

import errno
import os
import stat
from pathlib import Path

LEADS_NOWHERE = {errno.ENOENT: "nowhere", errno.ELOOP: "in a circle"}


def size_of_regular(path: Path) -> int:
    """Bytes in a regular file, or in what a link leads to; a pipe or a device is not even opened.

    Raises:
        OSError: it is something else, or is not there; the text names it.
    """
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in LEADS_NOWHERE and path.is_symlink():
            target = path.readlink()
            raise OSError(f"{path}: a link that leads {LEADS_NOWHERE[error.errno]}, to {target}") from error
        raise
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: not a regular file but a {_kind(status.st_mode)}")
    return status.st_size


def at_home(path: str | Path) -> Path:
    """A path whose `~` or `~user` is replaced.

    Raises:
        ValueError: there is no such user, or no home of theirs.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no such home directory; what is called so here is ./{path}") from None


def real(path: Path) -> Path:
    """The absolute path without links; one that leads in a circle stays, where `resolve` would raise."""
    return Path(os.path.realpath(path))


def reason(error: OSError, name: str) -> str:
    """The reason of an error of a file, without its name."""
    return (error.strerror or str(error)).removeprefix(f"{name}: ")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"

"""The files of a dataset as it was downloaded: in folders, in archives, or in archives within archives."""

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock

from menet_jax.datasets.pairs import as_paths, is_stray
from menet_jax.images.opening import read_file
from menet_jax.runtime.regular_files import size_of_regular

TAR = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
UNREADABLE = (".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".lzma", ".z01", ".001", ".cab", ".iso")
"""Archives that Python cannot read."""

NESTED = 3
"""Archives one in another, at most; an archive can be made to hold itself."""
LARGEST = 4 * 2**30
"""Bytes that a file in an archive, or all of a tar archive, may unpack to: they are read into memory."""


class BadArchiveError(ValueError):
    """An archive that cannot be read at all."""


@dataclass(frozen=True)
class Entry:
    """A file in a folder or an archive.

    Attributes:
        where: what to call it in messages.
        path: its place below the root; an archive counts as a folder of its name without `.zip`.
        size: in bytes.
        mark: changes with the contents: the checksum in a zip archive, elsewhere when the file, or the archive that
            holds it, was last changed.
    """

    where: str
    path: PurePosixPath
    size: int
    mark: int
    _read: Callable[[], bytes] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.where

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def folder(self) -> str:
        """The name of the folder that it is in, in lower case; empty at the root."""
        return self.path.parent.name.lower()

    @property
    def places(self) -> tuple[str, str]:
        """The name of the folder that it is in, and with it the one above, `masks/pascal`, in lower case."""
        return self.folder, f"{self.path.parent.parent.name}/{self.path.parent.name}".lower()

    def read_bytes(self) -> bytes:
        """The contents.

        Raises:
            OSError: they cannot be read; in an archive, because it is damaged or encrypted, too.
        """
        return self._read()


def walk(root: Path, patterns: tuple[str, ...] = ("*",)) -> list[Entry]:
    """All files below the root, in archives too, sorted by path; what operating systems leave behind is left out.

    A file that is there twice, in an archive and unpacked, is listed once: two of one name and size, in folders
    of one name, are taken for the same file.

    Args:
        root: a folder.
        patterns: which files and folders directly in it to look at, by names in lower case.

    Raises:
        BadArchiveError: an archive is not one, or not whole.
        OSError: an archive cannot be read.
    """
    found: dict[tuple[str, str, int], Entry] = {}
    for path in sorted(_matching(root, patterns), key=lambda path: path.is_file()):  # what is unpacked comes first
        for entry in _in_path(path, PurePosixPath(), frozenset([root.resolve()])):
            found.setdefault((entry.folder, entry.name, entry.size), entry)
    return sorted(found.values(), key=lambda entry: entry.path)


def unreadable_archives(root: Path, patterns: tuple[str, ...] = ("*",)) -> list[Path]:
    """The archives directly in the root that must be unpacked by hand first."""
    return [path for path in _matching(root, patterns) if _is_unreadable(path.name)]


def _matching(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for path in as_paths(root) if any(fnmatch(path.name.lower(), pattern) for pattern in patterns)]


def _is_unreadable(name: str) -> bool:
    return name.lower().endswith(UNREADABLE) and not name.lower().endswith(TAR)


def _in_path(path: Path, below: PurePosixPath, above: frozenset[Path]) -> Iterator[Entry]:
    if path.is_dir():
        place = path.resolve()
        if place not in above:  # where a link leads to a folder that it is in, all that is there is listed already
            for child in as_paths(path):
                yield from _in_path(child, below / path.name, above | {place})
    elif path.name.lower().endswith(".zip"):
        yield from _in_zip(path, str(path), below / _without_zip(path.name), NESTED)
    elif path.name.lower().endswith(TAR):
        yield from _in_tar(path, below)
    elif not _is_unreadable(path.name):
        try:
            stat = path.stat()
            size, changed = stat.st_size, stat.st_mtime_ns
        except OSError:  # a link that leads nowhere; whoever reads it is told so
            size, changed = 0, 0
        yield Entry(str(path), below / path.name, size, changed, partial(read_file, path))


def _without_zip(name: str) -> str:
    while name.lower().endswith(".zip"):
        name = name[: -len(".zip")]
    return name


def _in_zip(file: Path | io.BytesIO, where: str, below: PurePosixPath, depth: int) -> Iterator[Entry]:
    if not depth:
        raise BadArchiveError(f"{where}: more than {NESTED} archives one in another; unpack it by hand")
    if isinstance(file, Path):
        size_of_regular(file)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise BadArchiveError(f"{where}: not a whole zip archive ({error}); download it again") from error
    lock = Lock()
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # so some programs write folders on Windows
        path = PurePosixPath(name)
        if name.endswith("/") or any(is_stray(part) for part in path.parts):
            continue
        inside = f"{where}/{name}"
        read = partial(_read_member, archive, lock, info, inside)
        if path.suffix.lower() == ".zip":
            yield from _in_zip(io.BytesIO(read()), inside, below / path.parent / _without_zip(path.name), depth - 1)
        else:
            yield Entry(inside, below / path, info.file_size, info.CRC, read)


def _read_member(archive: zipfile.ZipFile, lock: Lock, info: zipfile.ZipInfo, where: str) -> bytes:
    if info.file_size > LARGEST:
        raise OSError(f"{where}: would unpack to {info.file_size:,} bytes")
    try:
        with lock:  # an archive counts its open members, and does not count well in several threads
            return archive.read(info)
    # An encrypted member raises RuntimeError, an unknown compression its subclass NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise OSError(f"{where}: cannot be unpacked: {error}") from error


def _in_tar(path: Path, below: PurePosixPath) -> Iterator[Entry]:
    """Read at once, because members of a compressed tar archive cannot be read in any order."""
    size_of_regular(path)
    try:
        with tarfile.open(path) as archive:
            members = []
            total = 0
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    total += member.size
                    if total > LARGEST:
                        raise BadArchiveError(f"{path}: would unpack to more than {LARGEST:,} bytes; unpack it by hand")
                    members.append((PurePosixPath(member.name.replace("\\", "/")), file.read()))
            while archive.fileobj and archive.fileobj.read(2**20):
                pass  # a compressed archive has its checksum at its very end
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise BadArchiveError(f"{path}: not a whole tar archive ({error}); download it again") from error
    changed = path.stat().st_mtime_ns
    for name, data in members:
        if not any(is_stray(part) for part in name.parts):
            yield Entry(f"{path}/{name}", below / name, len(data), changed, partial(bytes, data))

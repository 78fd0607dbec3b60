"""Results that outlive an interruption: appended to a file as they come, each under all that it depends on."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from menet_jax.runtime.text import say, warn
from menet_jax.runtime.whole_files import written_whole

CacheKey = Mapping[str, Any]
"""All that a result depends on, as JSON knows it."""


class ResultsCache:
    """A file of JSON lines, one a result: `{"key": digest of the key, "of": key, "value": ...}`.

    A line that an interruption left incomplete counts as missing. Lines of other keys stay in the file, and are never
    taken for the wanted ones.

    Attributes:
        path: of the file; None: results are kept in memory alone.
        damaged: lines that could not be read.
        before: digests of the keys of the results that were in it when it was opened.
        asked: digests of those that were asked for since, be they there or not.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make none before there is a result.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        self.damaged, self.asked = 0, set[str]()
        self._values: dict[str, Any] = {}
        content = path.read_bytes() if path and path.exists() else b""
        self._broken = bool(content) and not content.endswith(b"\n")  # the last line was left incomplete
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                if entry["key"] != digest(entry["of"]):
                    raise ValueError("the key is not what was written")
                self._values[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError):
                self.damaged += 1
        self.before = frozenset(self._values)

    def __len__(self) -> int:
        """Number of results, of any key."""
        return len(self._values)

    def get(self, key: CacheKey) -> Any | None:
        """The result with this key; None if there is none."""
        return self._values.get(digest(key))

    def kept(self, key: CacheKey, compute: Callable[[], Any]) -> Any:
        """The result with this key; where there is none, it is computed and added.

        Raises:
            as `add`, and as `compute`.
        """
        name = digest(key)
        self.asked.add(name)
        if name not in self._values:
            self.add(key, compute())
        return self._values[name]

    def say_reused(self) -> None:
        """Print how many results an earlier start has left, and how many of them were of use."""
        if self.damaged:
            warn(f"{self.path}: {self.damaged} incomplete lines are skipped, and measured anew")
        if self.before:
            others = len(self.before - self.asked)
            rest = f"; {others} others in it are of other networks, images or settings" if others else ""
            say(f"reusing  {len(self.before & self.asked)} of {len(self.asked)} results from {self.path}{rest}")

    def add(self, key: CacheKey, value: Any) -> None:
        """Append a result; it is in the file when this returns.

        Raises:
            ValueError: it has a number that is not finite, or something that JSON does not know.
            OSError: the file cannot be written.
        """
        entry = {"key": digest(key), "of": key, "value": value}
        try:
            line = json.dumps(entry, allow_nan=False, ensure_ascii=False)
        except ValueError:
            raise ValueError("a number that was found is not finite") from None
        self._values[entry["key"]] = json.loads(line)["value"]
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._broken + line + "\n")
            self._broken = False


def digest(key: CacheKey) -> str:
    """The digest of a key, which does not depend on the order of what is in it."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, allow_nan=False).encode()).hexdigest()


def kept_arrays(folder: Path, key: CacheKey, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of the image with this key, out of `<stem of its file>_<digest>.npz`; if they are not there, or not whole,
    they are computed and kept there.
    """
    path = folder / f"{Path(key['file_name']).stem}_{digest(key)[:16]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        arrays = dict(compute())
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        np.savez_compressed(unfinished, allow_pickle=False, **arrays)
    return arrays

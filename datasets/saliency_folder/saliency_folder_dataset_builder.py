"""Any folder of images and masks as a dataset."""

import glob
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from menet_jax.datasets import pairs, preparing
from menet_jax.datasets.pairs import Found, Irregularity, Pair, is_jpeg
from menet_jax.datasets.splits import gather, position
from menet_jax.images.opening import read_file
from menet_jax.runtime.text import composed, counted, printable

LAYOUTS = (("images", "masks"), ("image", "mask"), ("imgs", "gt"), ("im", "gt"))
MIXED = "imgs"  # one folder with both: photographs as JPEG, masks of the same stem in another format
LISTS = {"train": ("train.txt",), "validation": ("validation.txt", "val.txt"), "test": ("test.txt",)}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


class SaliencyFolder(pairs.PairsBuilder):
    """Images and masks of a folder, matched by stem. See README.md for the layouts and how pairs are split.

    The cache lies in `<data_dir>/saliency_folders/<folder's name>-<hash of its path>-<fingerprint>`, another one with
    `graded_masks`. The fingerprint covers the names, sizes and modification times of all files, so a changed folder has
    another cache; the one before it is then removed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        data_dir: str | Path | None = None,
        skip_bad: bool = False,
        graded_masks: bool = False,
        file_format: str | None = None,
    ) -> None:
        """Look at the folder's file names; nothing is read or written before `prepare`.

        Args:
            folder: where `images/` and `masks/` are, or another layout of the README.
            data_dir: where to keep the cache; by default where TFDS keeps its datasets.
            skip_bad: go on without irregular files, and not stop.
            graded_masks: whether masks are averaged over annotators, as `images.files.read_mask_file` has it.
            file_format: as for `PairsBuilder`.

        Raises:
            FileNotFoundError: no such folder, or none of the layouts.
            ValueError: more than one of the layouts.
        """
        self.folder = Path(folder).expanduser().resolve()
        self._arguments = {
            "folder": folder,
            "data_dir": data_dir,
            "skip_bad": skip_bad,
            "graded_masks": graded_masks,
            "file_format": file_format,
        }
        self.graded_masks = graded_masks
        self.image_folder, self.mask_folder = find_layout(self.folder)
        caches = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / "saliency_folders"
        kind = "\0graded" if graded_masks else ""
        place = hashlib.sha256(f"{self.folder}{kind}".encode(errors="surrogateescape")).hexdigest()[:8]
        self._key = f"{printable(self.folder.name)}-{place}-"  # TFDS's progress bars show it
        self._cache = caches / (self._key + self._fingerprint())
        super().__init__(skip_bad=skip_bad, file_format=file_format, data_dir=str(self._cache))

    def __getstate__(self) -> dict[str, Any]:  # TFDS would pickle its own arguments only
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        SaliencyFolder.__init__(self, **state)

    @property
    def where(self) -> str:
        return str(self.folder)

    def prepare(self) -> preparing.InUse:
        in_use = super().prepare()
        for cache in self._cache.parent.glob(glob.escape(self._key) + "*"):
            prepared = cache / Path(self.data_path).relative_to(self._cache)
            with suppress(OSError):  # it may be of another user
                if cache != self._cache and preparing.remove_unused(prepared):  # of other files than are there now
                    shutil.rmtree(cache)
        return in_use

    def _fingerprint(self) -> str:
        files = [path for folder in {self.image_folder, self.mask_folder} for path in pairs.as_paths(folder)]
        digest = hashlib.sha256()
        for path in sorted([*files, *find_lists(self.folder).values()]):
            try:
                stat = path.stat()
            except OSError:  # a link that leads nowhere; whoever reads it is told so
                stat = path.lstat()
            line = f"{path.relative_to(self.folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:12]

    def find(self) -> Found:
        image_files, mask_files, irregular = self._image_and_mask_files()
        matched, unmatched = pairs.match(image_files, mask_files, self.graded_masks)
        lists = find_lists(self.folder)
        irregular += unmatched
        if not lists:
            return Found(split_by_hash(matched), irregular, "split by a hash of each file's stem, 80/10/10")
        known = {name for file in (*image_files, *mask_files) for name in (composed(file.name), pairs.stem(file))}
        splits, unlisted = split_by_lists(matched, lists, known)
        splitting = f"split by {', '.join(path.name for path in lists.values())}"
        return Found(splits, irregular, splitting + (f"; in no list: {counted(unlisted, 'pair')}" if unlisted else ""))

    def _image_and_mask_files(self) -> tuple[list[Path], list[Path], list[Irregularity]]:
        entries = {folder: pairs.as_paths(folder) for folder in {self.image_folder, self.mask_folder}}
        irregular = [
            Irregularity(str(path), "a folder; only files directly in the folder are read")
            for paths in entries.values()
            for path in paths
            if path.is_dir()
        ]
        image_files, mask_files = (
            [path for path in entries[folder] if not path.is_dir()] for folder in (self.image_folder, self.mask_folder)
        )
        if self.image_folder == self.mask_folder:
            image_files = [path for path in image_files if is_jpeg(path)]
            mask_files = [path for path in mask_files if not is_jpeg(path)]
        return image_files, mask_files, irregular


def find_layout(folder: Path) -> tuple[Path, Path]:
    """The folders of the images and of the masks, which may be the same; upper and lower case are equal.

    Raises:
        FileNotFoundError: there is no such folder, or none of the layouts in it.
        ValueError: there are several.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    children: dict[str, list[Path]] = {}
    for path in pairs.as_paths(folder):
        if path.is_dir():
            children.setdefault(path.name.lower(), []).append(path)

    layouts = [
        (image_folder, mask_folder)
        for image_name, mask_name in LAYOUTS
        for image_folder in children.get(image_name, [])
        for mask_folder in children.get(mask_name, [])
    ] or [(mixed, mixed) for mixed in children.get(MIXED, [])]
    if not layouts:
        there = ", ".join(sorted(path.name + "/" for paths in children.values() for path in paths)) or "none"
        expected = ", ".join(f"{image_name}/ + {mask_name}/" for image_name, mask_name in LAYOUTS)
        raise FileNotFoundError(
            f"{folder}: expected the folders {expected}, or Imgs/ with images as .jpg and masks as .png; "
            f"the folders there are: {there}"
        )
    if len(layouts) > 1:
        names = "; ".join(f"{image_folder.name}/ + {mask_folder.name}/" for image_folder, mask_folder in layouts)
        raise ValueError(f"{folder}: which folders to read is ambiguous: {names}. Leave only one of these.")
    return layouts[0]


def find_lists(folder: Path) -> dict[str, Path]:
    """The list file of each split that has one, or what has the name of one.

    Raises:
        ValueError: a split has two.
    """
    found = {
        split: [folder / name for name in names if os.path.lexists(folder / name)] for split, names in LISTS.items()
    }
    for split, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise ValueError(f"{folder}: both {names} list the {split} split; keep one of them")
    return {split: paths[0] for split, paths in found.items() if paths}


def read_list(path: Path) -> list[str]:
    """The lines of a list file.

    Raises:
        ValueError: it is no text in UTF-8.
        OSError: it cannot be read.
    """
    try:
        return read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8, one stem or file name a line ({error.reason})") from error


def split_of(stem: str) -> str:
    """The split of a stem: where its `position` falls among the shares. Other files do not matter."""
    share = int.from_bytes(position(stem)[:8], "big") / 2**64
    if share < SHARES["train"]:
        return "train"
    return "validation" if share < SHARES["train"] + SHARES["validation"] else "test"


def split_by_hash(matched: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Pairs by `split_of` their stem."""
    return gather(matched, {pair.stem: split_of(pair.stem) for pair in matched})


def split_by_lists(
    matched: Sequence[Pair], lists: Mapping[str, Path], known: set[str]
) -> tuple[dict[str, list[Pair]], int]:
    """Pairs as the list files say, one stem or file name a line, in the order of the lists.

    Args:
        matched: all pairs.
        lists: the list file of each split.
        known: names and stems of all files, those that made no pair too: they are reported as irregular.

    Returns:
        the splits, and how many pairs no list names.

    Raises:
        ValueError: names that do not exist or are listed twice, all of them; or a list is no text.
        OSError: a list cannot be read.
    """
    by_name = {composed(file.name): pair for pair in matched for file in (pair.image, pair.mask)}
    by_name |= {pair.stem: pair for pair in matched}
    splits: dict[str, list[Pair]] = {}
    first_seen: dict[Pair, str] = {}
    problems: list[str] = []
    for split, path in lists.items():
        splits[split] = []
        for number, line in enumerate(read_list(path), 1):
            name = composed(line.strip())
            place = f"{path.name} line {number}"
            pair = by_name.get(name)
            if pair is None:
                if name and name not in known:
                    problems.append(f"{place}: no image and mask are called {name}")
            elif pair in first_seen:
                problems.append(f"{place}: {name} is already in {first_seen[pair]}")
            else:
                first_seen[pair] = place
                splits[split].append(pair)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(f"{path.parent}: {len(problems)} wrong lines in the list files:\n{listed}")
    return splits, len(matched) - len(first_seen)

"""Base of the builders of published benchmarks: archives that the user downloads, and published counts.

Each benchmark's builder says where it is published, in which folders its images and masks are, and how many it
has; `BenchmarkBuilder` finds them in archives or unpacked, compares the counts, and cuts the splits.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from menet_jax.datasets import archives, pairs, preparing
from menet_jax.datasets.archives import Entry
from menet_jax.datasets.pairs import Found, Irregularity, Pair, is_jpeg
from menet_jax.datasets.splits import gather, split_by_rank
from menet_jax.runtime.regular_files import at_home


@dataclass(kw_only=True)  # not frozen, because its base is not
class BenchmarkConfig(tfds.core.BuilderConfig):
    """The numbers of pairs that were published.

    Attributes:
        sizes: of each split, in the order in which `split_by_rank` cuts them.
        copies: how many pairs known copies have, which lack a few.
    """

    sizes: Mapping[str, int]
    copies: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Pairs of all splits."""
        return sum(self.sizes.values())


class Layout(NamedTuple):
    """Names of the folders that hold images and masks, in lower case; "" is the place of the download itself.

    `masks/pascal` is a folder `pascal` in a folder `masks`. Where both are the same, JPEG files are images and all
    others masks.
    """

    images: frozenset[str]
    masks: frozenset[str]


def layout(images: str, masks: str) -> Layout:
    """A layout from folder names separated by blanks; without any, the place of the download itself."""
    return Layout(frozenset(images.split() or [""]), frozenset(masks.split() or [""]))


class NotAtHandError(FileNotFoundError):
    """There is nothing of a benchmark among the downloads, or no layout that it may have."""


class BenchmarkBuilder(pairs.PairsBuilder):
    """A published benchmark that the user downloads into the manual directory.

    Subclasses set the class attributes. Files are looked for in `<manual_dir>/<name>/`, and where there is no such
    folder, among those files of the manual directory whose names match `FILES`.
    """

    LAYOUTS: ClassVar[tuple[Layout, ...]]
    """Layouts of the folders; the first one with both images and masks is taken."""
    MANUAL_DOWNLOAD_INSTRUCTIONS: Any  # its base says None
    """The files to download, and where they are published."""
    FILES: ClassVar[tuple[str, ...]]
    """Patterns, in lower case, of the names of archives and unpacked folders."""
    GRADED_MASKS: ClassVar[bool] = False
    """Whether masks are averaged over annotators, as `images.files.read_mask_file` has it."""

    def __init__(
        self,
        *,
        manual_dir: str | Path | None = None,
        config: BenchmarkConfig | str | None = None,
        data_dir: str | Path | None = None,
        skip_bad: bool = False,
        file_format: str | None = None,
        version: str | None = None,
    ) -> None:
        """Make the builder; nothing is read before `prepare`.

        Args:
            manual_dir: where the downloads are; by default where TFDS has them, `downloads/manual` in its data
                directory.
            config: one of `BUILDER_CONFIGS`, by default the first, or another one.
            data_dir: where prepared datasets are kept; by default where TFDS keeps them.
            skip_bad: go on without irregular files and with wrong counts, and not stop.
            file_format: as for `PairsBuilder`.
            version: as for TFDS.
        """
        self.root = at_home(data_dir or tfds.core.constants.DATA_DIR)
        self.manual_dir = at_home(manual_dir) if manual_dir else self.root / "downloads" / "manual"
        super().__init__(
            skip_bad=skip_bad, file_format=file_format, config=config, data_dir=str(self.root), version=version
        )

    @property
    def sizes(self) -> Mapping[str, int]:
        """The published size of each split."""
        return self._config.sizes

    @property
    def _config(self) -> BenchmarkConfig:
        config = self.builder_config
        if not isinstance(config, BenchmarkConfig):
            raise TypeError(f"{self.name} needs a BenchmarkConfig, not a {type(config).__name__}")
        return config

    def prepare(self) -> preparing.InUse:
        """Build the dataset unless it is cached, and again if the downloads are there and others than then.

        Raises:
            ValueError: it is to be built again, and in use.
            NotAtHandError: the downloads are not there; the text says what to get, and where to put it.
            IrregularFilesError: files that cannot be used or a wrong count, without `skip_bad`; nothing is then
                written.
        """
        if self.is_outdated() and not preparing.remove_unused(Path(self.data_path)):
            raise ValueError(
                f"{self.name} has other files in {self.manual_dir} than it was prepared of, and what was prepared, "
                f"{self.data_path}, is in use, perhaps by a training. Put back the files, wait until it is not in use, "
                f"or {preparing.NAME_ANOTHER}"
            )
        in_use = preparing.prepare(self, tfds.download.DownloadConfig(manual_dir=self.manual_dir))
        self._refuse_cached_irregularities()
        return in_use

    def is_outdated(self) -> bool:
        """Whether it was built of other downloads than are there now; those that are gone do not count."""
        if not self.data_path.exists():
            return False
        built_of = self._metadata.get("fingerprints", {})
        now = {each.name: each.fingerprint() for each in self.origins()}
        return any(found is not None and found != built_of.get(name) for name, found in now.items())

    def origins(self) -> list["BenchmarkBuilder"]:
        """The benchmarks whose downloads decide what this one holds."""
        return [self]

    def fingerprint(self) -> str | None:
        """Digest of folders, names, sizes and marks of all files; None unless there are images and masks."""
        if not self.manual_dir.is_dir():
            return None
        entries = self.entries()
        try:
            self._select(entries)
        except NotAtHandError:
            return None
        lines = sorted(f"{entry.folder}/{entry.name}\0{entry.size}\0{entry.mark}" for entry in entries)
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()

    def entries(self) -> list[Entry]:
        """All files of the downloads, in archives or unpacked.

        Raises:
            archives.BadArchiveError: an archive is not one, or not whole.
        """
        return archives.walk(*self._place())

    def find(self) -> Found:
        """Find the images and masks, compare their number with the published one, and split them.

        Raises:
            NotAtHandError: the downloads are not there; the text says what to get, and where to put it.
            archives.BadArchiveError: an archive is not one, or not whole.
            OSError: a file cannot be looked at.
        """
        if not self.manual_dir.is_dir():
            raise NotAtHandError(self._instructions("the folder does not exist"))
        entries = self.entries()
        image_files, mask_files = self._select(entries)
        matched, irregular = pairs.match(image_files, mask_files, self.GRADED_MASKS)
        splits, splitting = self._split(matched, {pairs.stem(file) for file in image_files}, entries)
        wrong = self._wrong_counts({name: len(split) for name, split in splits.items()})
        if wrong:
            irregular += [Irregularity(self.name, sentence) for sentence in wrong]
            packed = archives.unreadable_archives(*self._place())
            irregular += [Irregularity(str(path), "an archive that cannot be read here; unpack it") for path in packed]
            there = {pairs.stem(file) for file in (*image_files, *mask_files)}
            missing = [stem for stem in self._expected_stems(entries) if stem not in there]
            if missing:
                irregular.append(Irregularity(self.name, f"there is neither image nor mask of {', '.join(missing)}"))
        return Found(splits, irregular, "; ".join([self._count(len(matched)), splitting]))

    def _split(
        self, matched: Sequence[Pair], stems: Collection[str], entries: Sequence[Entry]
    ) -> tuple[dict[str, list[Pair]], str]:
        """The pairs of each split, and how they came into it.

        Args:
            matched: the pairs.
            stems: of all images, those without a mask too: one missing file must not move others.
            entries: all files.
        """
        if len(self.sizes) == 1:
            return {name: list(matched) for name in self.sizes}, f"all in the {next(iter(self.sizes))} split"
        return gather(matched, split_by_rank(stems, self.sizes)), "split by a hash of each file's stem"

    def _expected_stems(self, entries: Sequence[Entry]) -> Collection[str]:
        """The stems that were published, as far as they are known; asked for if the count is wrong."""
        return ()

    def _wrong_counts(self, counts: Mapping[str, int]) -> list[str]:
        """Errors of the numbers of pairs in the splits, a sentence each."""
        found, total = sum(counts.values()), self._config.total
        if found in (total, *self._config.copies):
            return []
        return [f"{found:,} pairs of an image and its mask, and {total:,} were published"]

    def _count(self, found: int) -> str:
        if found == self._config.total:
            return "as many as published"
        known = ", as known copies have" if found in self._config.copies else ""
        return f"{found:,} of the {self._config.total:,} published{known}"

    def _select(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The images and the masks, by the first layout of which there are both."""
        lacking = "there are no images and masks"
        for images, masks in self.LAYOUTS:
            in_images = [entry for entry in entries if not images.isdisjoint(entry.places)]
            in_masks = [entry for entry in entries if not masks.isdisjoint(entry.places)]
            if images == masks:
                in_images = [entry for entry in in_images if is_jpeg(entry)]
                in_masks = [entry for entry in in_masks if not is_jpeg(entry)]
            if in_images and in_masks:
                return in_images, in_masks
            if images != masks and (in_images or in_masks):
                present, absent, names = ("images", "masks", masks) if in_images else ("masks", "images", images)
                lacking = f"there are {present}, but no {absent} (in a folder {' or '.join(sorted(names))})"
        raise NotAtHandError(self._instructions(lacking))

    def _place(self) -> tuple[Path, tuple[str, ...]]:
        """The folder of the downloads, and the patterns of names to look at in it."""
        for path in pairs.as_paths(self.manual_dir):
            if path.is_dir() and path.name.lower().replace("-", "_") == self.name and pairs.as_paths(path):
                return path, ("*",)
        return self.manual_dir, self.FILES

    def _instructions(self, lacking: str) -> str:
        place = f"{self.name} is not in {self.manual_dir}: {lacking}"
        if self.manual_dir.is_dir() and (packed := archives.unreadable_archives(*self._place())):
            place += f". Unpack {', '.join(str(path) for path in packed)} there first"
        return (
            f"{place}.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}\nPut the files, archives or unpacked, into "
            f"{self.manual_dir / self.name}, or name another place with manual_dir (--data.manual-dir in training, "
            "--manual-dir elsewhere)."
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        try:
            self.manual_dir = Path(dl_manager.manual_dir)  # as whoever called `download_and_prepare` wants it
        except AssertionError:
            raise NotAtHandError(self._instructions("the folder is empty or does not exist")) from None
        generators = super()._split_generators(dl_manager)
        self._metadata["fingerprints"] = {each.name: each.fingerprint() for each in self.origins()}
        return generators

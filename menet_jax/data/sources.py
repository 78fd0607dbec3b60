"""Datasets by name or folder, as after `--data.train`, opened as examples that can be read in any order."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from menet_jax.data.specs import TFDS_PLACES, Places
from menet_jax.datasets import preparing
from menet_jax.datasets.dut_omron.dut_omron_dataset_builder import DutOmron
from menet_jax.datasets.duts.duts_dataset_builder import Duts
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.msra1k.msra1k_dataset_builder import Msra1k
from menet_jax.datasets.msra10k.msra10k_dataset_builder import Msra10k
from menet_jax.datasets.pairs import IrregularFilesError, PairsBuilder
from menet_jax.datasets.pascal_s.pascal_s_dataset_builder import PascalS
from menet_jax.datasets.saliency_folder.saliency_folder_dataset_builder import SaliencyFolder, find_lists
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.datasets.splits import SPLITS
from menet_jax.datasets.synthetic.synthetic_dataset_builder import Synthetic
from menet_jax.images.files import Mask, Rgb, read_image, read_mask
from menet_jax.images.opening import decoded_bytes
from menet_jax.runtime.regular_files import at_home, real

T = TypeVar("T")

ALL = "all"
"""Instead of the name of a split: all splits, joined."""


# Named datasets: what makes each one's builder.
NAMED: dict[str, Callable[[Places], tfds.core.DatasetBuilder]] = {
    "synthetic": lambda places: Synthetic(data_dir=places.cache),
    "msra10k": lambda places: Msra10k.best(**places.arguments()),
    "msra1k": lambda places: Msra1k(**places.arguments()),
    "hku_is": lambda places: HkuIs(**places.arguments()),
    "hku_is/official": lambda places: HkuIs(config="official", **places.arguments()),
    "duts": lambda places: Duts(**places.arguments()),
    "duts/official": lambda places: Duts(config="official", **places.arguments()),
    "ecssd": lambda places: Ecssd(**places.arguments()),
    "dut_omron": lambda places: DutOmron(**places.arguments()),
    "pascal_s": lambda places: PascalS(**places.arguments()),
    "sod": lambda places: Sod(**places.arguments()),
}


class Example(NamedTuple):
    """An image (H, W, 3) uint8, its mask (H, W) bool with True = salient, and the image file's name."""

    image: Rgb
    mask: Mask
    file_name: str


@dataclass(frozen=True)
class Source:
    """A split of a dataset, or all of them: `len(source)` examples, read and decoded one by one with `source[i]`.

    Reading is safe from several threads at once.

    Attributes:
        name: what the user called the dataset.
        split: the split's name, or `ALL`.
        counts: the number of examples of every split of the dataset.
        notes: what the user should know about it: how it was split, what its masks are, how many files were skipped.
        size_in_bytes: of all examples of the split.
        records: the encoded examples, `Records`.
        thumbnails: where thumbnails of them are kept; None of a dataset that this program draws, of which nothing can
            be in another one.
    """

    name: str
    split: str
    counts: dict[str, int]
    notes: tuple[str, ...]
    size_in_bytes: int
    records: Any = field(repr=False)
    thumbnails: Path | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: SupportsIndex) -> Example:
        record = self.records[index]
        name = record["file_name"].decode()
        return Example(read_image(record["image"], name), read_mask(record["mask"], name), name)

    def file_name(self, index: int) -> str:
        """The name of an image's file, without decoding the image."""
        return str(self.records[index]["file_name"].decode())

    def decoded_bytes(self, index: int) -> int:
        """Bytes of an image in memory, without decoding it."""
        return decoded_bytes(self.records[index]["image"])

    @property
    def identity(self) -> str:
        """Changes when the examples do, wherever the dataset lies: how many there are, and their bytes. Its beginning,
        where TFDS rounds them, is what older checkpoints hold.
        """
        return f"{self.split}: {len(self)} images, {self.size_in_bytes} bytes, which are {int(self.size_in_bytes)}"

    def summary(self) -> str:
        """One line for the user: name, counts, notes."""
        counts = ", ".join(f"{split} {count:,}" for split, count in self.counts.items())
        return "; ".join([f"{self.name}: {counts} images", *self.notes])


def numbered(sources: Iterable[Source]) -> list[tuple[Source, int]]:
    """All images of several sources, in order: the source of each, and its number there."""
    return [(source, index) for source in sources for index in range(len(source))]


def open_split(spec: str, split: str, places: Places = TFDS_PLACES) -> Source:
    """Open a split of a dataset, preparing the dataset on first use.

    Args:
        spec: the name of a dataset (a key of `NAMED`), or a folder that `SaliencyFolder` understands. Write
            `./synthetic` for a folder with the name of a dataset.
        split: train, validation or test; or `ALL`, for every image of a folder without list files.
        places: where datasets come from and go to, and how strict to be with them.

    Raises:
        ValueError: neither a dataset nor a folder; no such split, or nothing in it; irregular files.
        FileNotFoundError: the folder has none of the layouts; a benchmark is not in the manual directory.
    """
    builder = find_builder(spec, places)
    in_use, notes = _prepare(builder)
    infos = builder.info.splits
    counts = {name: info.num_examples for name, info in infos.items()}
    kept = Path(builder.data_path) / f"thumbnails-{split}.npy" if isinstance(builder, PairsBuilder) else None
    if split == ALL:
        joined = sum(infos[name].num_bytes for name in counts)
        notes = ("used whole", *notes[1:])
        return Source(
            spec, ALL, {ALL: sum(counts.values())}, notes, joined, encoded(builder, "+".join(counts), in_use), kept
        )
    if not counts.get(split):
        there = ", ".join(f"{name} ({count:,} images)" for name, count in counts.items())
        raise ValueError(
            f"{spec} has no images in its {split} split; it has {there}"
            + "".join(f"; {note}" for note in notes)
            + (". Name" if spec in NAMED else f". Add images, list some in {split}.txt, or name")
            + " another dataset."
        )
    return Source(spec, split, counts, notes, infos[split].num_bytes, encoded(builder, split, in_use), kept)


def used_whole(train: Sequence[str], validation: Sequence[str]) -> tuple[str, ...]:
    """The datasets of which all images are used: folders without list files, named for one of both purposes alone.

    Other folders are split by a hash of the stems, so that there is something to validate on. If datasets to validate
    on are named, that split would only take images away. A folder that is named for both is split all the same.

    Raises:
        ValueError: a folder has two lists of one split.
    """
    if not validation:
        return ()
    both = {place(spec) for spec in train} & {place(spec) for spec in validation}
    return tuple(spec for spec in (*train, *validation) if place(spec) not in both and _is_unlisted(spec))


def place(spec: str) -> str:
    """The name of a dataset, or a folder's full path without links: the same however it is written."""
    return spec if spec in NAMED else str(real(at_home(spec)))


def full_path(spec: str) -> str:
    """The name of a dataset, or a folder's absolute path, with the links that the user wrote."""
    return spec if spec in NAMED else str(at_home(spec).absolute())


def _is_unlisted(spec: str) -> bool:
    return spec not in NAMED and at_home(spec).is_dir() and not find_lists(at_home(spec))


def open_all(openers: Iterable[Callable[[], T]]) -> list[T]:
    """Open all datasets, or raise the errors of all of them together.

    Raises:
        ValueError, OSError: what the only one that failed raised; a ValueError with the texts of several.
    """
    opened, errors = list[T](), list[ValueError | OSError]()
    for open_one in openers:
        try:
            opened.append(open_one())
        except (ValueError, OSError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ValueError("\n".join(str(error) for error in errors))
    return opened


class Records(Sequence[Any]):
    """Examples of a prepared dataset by number, images and masks as they were encoded.

    Raises:
        OSError: one cannot be read.
    """

    def __init__(self, records: Any, folder: Path, in_use: preparing.InUse) -> None:
        """Use `encoded` instead."""
        self._records, self._folder, self._in_use = records, folder, in_use

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._records[index]
        except RuntimeError as error:
            raise preparing.damaged(self._folder, error) from error

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))


def encoded(builder: tfds.core.DatasetBuilder, split: str, in_use: preparing.InUse) -> Records:
    """The examples of a split of a prepared dataset, which stays in use as long as they are there."""
    raw = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    records: Any = builder.as_data_source  # its signature, made by a decorator, admits no argument
    return Records(records(split, decoders=raw), Path(builder.data_path), in_use)


def find_builder(spec: str, places: Places) -> tfds.core.DatasetBuilder:
    """The builder of a dataset, before `prepare`; the arguments are those of `open_split`.

    Raises:
        ValueError: neither a dataset nor a folder; there is no place to prepare it.
        FileNotFoundError: the folder has none of the layouts.
        OSError: what was prepared is damaged.
    """
    cache = Path(places.cache or tfds.core.constants.DATA_DIR)
    try:
        at_home(cache)
    except ValueError as error:
        raise ValueError(f"{error}. Datasets are prepared there; {preparing.NAME_ANOTHER}") from None
    check_known([spec])
    try:
        if spec in NAMED:
            return NAMED[spec](places)
        return SaliencyFolder(
            at_home(spec), data_dir=places.cache, skip_bad=places.skip_bad, graded_masks=places.graded_masks
        )
    except (json.JSONDecodeError, ParseError) as error:  # TFDS looks at once at what is prepared
        raise OSError(
            f"{spec}: what was prepared of it in {cache} is damaged ({error}); remove it, and it is prepared anew"
        ) from error


def check_known(specs: Iterable[str]) -> None:
    """Raise ValueError for specs that are neither datasets nor folders; nothing else is checked."""
    unknown = [spec for spec in specs if spec not in NAMED and not at_home(spec).is_dir()]
    if unknown:
        raise ValueError("\n".join(map(_unknown, unknown)))


def _prepare(builder: tfds.core.DatasetBuilder) -> tuple[preparing.InUse, tuple[str, ...]]:
    """Build the dataset unless it is cached; returns the lock that keeps it, and notes for the user."""
    if not isinstance(builder, PairsBuilder):
        return preparing.prepare(builder), ()
    in_use = builder.prepare()
    skipped = len(builder.irregularities)
    note = f"{skipped:,} irregularit{'y' if skipped == 1 else 'ies'} skipped"
    return in_use, (builder.splitting, *builder.masks, *([note] if skipped else []))


def _unknown(spec: str) -> str:
    parent = at_home(spec).parent
    folders = [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(spec, [*NAMED, *folders], n=1)
    suggestion = f" Did you mean {close[0]}?" if close else ""
    return (
        f"{spec} is neither a dataset nor a folder.{suggestion} The datasets are: {', '.join(NAMED)}; "
        "a folder has images/ and masks/ in it."
    )


def open_sources(spec: str, split: str, places: Places = TFDS_PLACES) -> list[Source]:
    """Open one split of a dataset, or with "all" every split that has images.

    Raises:
        ValueError, FileNotFoundError: as `open_split` does; of "all", if no split can be opened.
    """
    if split != "all":
        return [open_split(spec, split, places)]
    opened, errors = [], []
    for name in SPLITS:
        try:
            opened.append(open_split(spec, name, places))
        except IrregularFilesError:  # the same in every split: once is enough to check all files
            raise
        except ValueError as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    return opened

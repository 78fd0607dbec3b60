"""Base of all builders: pairs of an image and its mask, matched, checked and turned into examples.

A builder finds its files (in a folder or an archive) and calls `match`; `PairsBuilder` does the rest. It
checks every pair before anything is written, so that bad files stop the build with a list of all of them, and
not one by one.
"""

import inspect
import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import tensorflow_datasets as tfds
from etils import epath

from menet_jax.datasets import preparing
from menet_jax.images.files import Mask, Rgb, fit_mask, is_image, is_plain, mask_notes, png, read_image, read_mask_file
from menet_jax.images.opening import UnreadableImageError, read_file
from menet_jax.runtime.progress import in_threads
from menet_jax.runtime.regular_files import reason
from menet_jax.runtime.text import composed, counted, printable


@runtime_checkable
class File(Protocol):
    """A file to read: a `pathlib.Path`, a `zipfile.Path`, or anything alike."""

    @property
    def name(self) -> str: ...

    def read_bytes(self) -> bytes: ...


class Pair(NamedTuple):
    """An image and its mask; whether the mask is averaged over annotators, as `read_mask_file` has it."""

    image: File
    mask: File
    graded: bool = False

    @property
    def stem(self) -> str:
        return stem(self.image)


class Contents(NamedTuple):
    """An image, its mask of the same size, and whether the mask had gray values, which were thresholded at half."""

    image: Rgb
    mask: Mask
    gray: bool


class Irregularity(NamedTuple):
    """A file that cannot be used, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.file}: {self.reason}")


@dataclass(frozen=True)
class Found:
    """The files that a builder found.

    Attributes:
        splits: the pairs of each split, in the order in which they are kept.
        irregularities: what is wrong, as far as names tell.
        splitting: how the pairs came into their splits, as a sentence for the user.
        masks: what is to be known of the masks, a phrase each; of what `find_usable` returns.
    """

    splits: Mapping[str, Sequence[Pair]]
    irregularities: Sequence[Irregularity]
    splitting: str
    masks: Sequence[str] = ()


class IrregularFilesError(ValueError):
    """Files that cannot be used; the message lists every one of them by name."""

    def __init__(self, where: str, irregularities: Sequence[Irregularity]) -> None:
        listed = "\n".join(f"  {each}" for each in irregularities)
        super().__init__(
            f"{counted(len(irregularities), 'irregular file')} in {where}:\n{listed}\n"
            "Mend or remove them, or go on without them: --skip-bad, in training --data.skip-bad."
        )
        self.irregularities = tuple(irregularities)


def contents(file: File) -> bytes:
    """The bytes of a file, which in a folder must be a regular one, of a size that is read (`read_file`).

    Raises:
        UnreadableImageError: they cannot be read.
    """
    try:
        return read_file(file) if isinstance(file, Path) else file.read_bytes()
    except OSError as error:
        name = str(error.filename or file)
        raise UnreadableImageError(name, reason(error, name)) from error


def stem(file: File) -> str:
    """The file's name without its last suffix, `composed`."""
    return composed(PurePosixPath(file.name).stem)


def is_jpeg(file: File) -> bool:
    """Whether it is called as JPEG files are: images, where their masks are in the same folder."""
    return PurePosixPath(file.name).suffix.lower() in {".jpg", ".jpeg"}


def is_stray(name: str) -> bool:
    """Whether a file was left by an operating system and is no part of any dataset."""
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "__macosx"}


def match(
    image_files: Iterable[File], mask_files: Iterable[File], graded: bool = False
) -> tuple[list[Pair], list[Irregularity]]:
    """Pair images with masks of the same stem; `graded` is what all the masks are.

    A stem must name one image and one mask. A file that is no image at all (notes beside the images) is
    reported as that, and does not stand in the way of a pair of its stem. Contents are only looked at where
    names do not match.

    Returns:
        the pairs, sorted by stem, and what could not be paired.
    """
    by_stem: dict[str, tuple[list[File], list[File]]] = defaultdict(lambda: ([], []))
    for file in image_files:
        by_stem[stem(file)][0].append(file)
    for file in mask_files:
        by_stem[stem(file)][1].append(file)

    pairs: list[Pair] = []
    irregular: list[Irregularity] = []
    for _, (stem_images, stem_masks) in sorted(by_stem.items()):
        if len(stem_images) != 1 or len(stem_masks) != 1:
            stem_images, bad_images = _separate(stem_images)
            stem_masks, bad_masks = _separate(stem_masks)
            irregular += bad_images + bad_masks
        if len(stem_images) == len(stem_masks) == 1:
            pairs.append(Pair(stem_images[0], stem_masks[0], graded))
        else:
            irregular += _unpaired(stem_images, stem_masks)
    return pairs, irregular


def _separate(files: Sequence[File]) -> tuple[list[File], list[Irregularity]]:
    """Image files, and what is wrong with the others."""
    good: list[File] = []
    bad: list[Irregularity] = []
    for file in files:
        try:
            data = contents(file)
        except UnreadableImageError as error:
            bad.append(Irregularity(error.name, error.reason))
            continue
        if is_image(data):
            good.append(file)
        else:
            bad.append(Irregularity(str(file), "not an image of a known format" if data else "the file is empty"))
    return good, bad


def _unpaired(stem_images: Sequence[File], stem_masks: Sequence[File]) -> Iterator[Irregularity]:
    for files, kind, other_files, other in (
        (stem_images, "image", stem_masks, "mask"),
        (stem_masks, "mask", stem_images, "image"),
    ):
        names = ", ".join(file.name for file in files)
        for file in files:
            if len(files) > 1:
                yield Irregularity(str(file), f"one of {len(files)} {kind}s with the same stem ({names})")
            elif not other_files:
                yield Irregularity(str(file), f"{kind} without {'a' if other == 'mask' else 'an'} {other}")
            else:
                yield Irregularity(str(file), f"{kind} with {len(other_files)} {other}s of its stem")


def read(pair: Pair) -> Contents:
    """The image (H, W, 3) uint8 and the mask (H, W) bool of a pair.

    Raises:
        UnreadableImageError: a file cannot be read, or the mask does not fit the image.
    """
    image = read_image(contents(pair.image), str(pair.image))
    mask, gray = read_mask_file(contents(pair.mask), str(pair.mask), graded=pair.graded)
    try:
        return Contents(image, fit_mask(mask, image.shape[:2]), gray)
    except ValueError as error:
        raise UnreadableImageError(str(pair.mask), str(error)) from error


def example(pair: Pair) -> dict[str, Any]:
    """The example of a pair: `image` and `mask` as files in bytes, and `file_name`.

    The mask is a PNG of 0 and 255, of the image's size. The image file's own bytes are kept where every
    reader sees the same RGB image in them; else a PNG of what `read_image` sees takes their place.

    Raises:
        UnreadableImageError: as for `read`.
    """
    data = contents(pair.image)
    found = read(pair)
    return {
        "image": data if is_plain(data) else png(found.image),
        "mask": png(found.mask),
        "file_name": pair.image.name,
    }


def try_read(pair: Pair) -> Contents | Irregularity:
    """`read`, or what is wrong with the pair."""
    try:
        pair.image.name.encode()  # file names are stored as UTF-8
        return read(pair)
    except UnreadableImageError as error:
        return Irregularity(error.name, error.reason)
    except UnicodeEncodeError:
        return Irregularity(ascii(str(pair.image)), "the name is not valid UTF-8")


class Verdict(NamedTuple):
    """Result of the check of a pair: its irregularity, or facts on its mask."""

    irregularity: Irregularity | None
    gray: bool = False
    empty: bool = False


def verdict(pair: Pair) -> Verdict:
    """Look at the contents of a pair."""
    result = try_read(pair)
    if isinstance(result, Irregularity):
        return Verdict(result)
    return Verdict(None, result.gray, not result.mask.any())


def check(pairs: Sequence[Pair], description: str) -> list[Verdict]:
    """`verdict` of every pair, in threads and with a progress bar."""
    return in_threads(verdict, pairs, description, "pairs")


class PairsBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder of pairs of an image and its mask. Subclasses say where the pairs are, in `find`.

    Features: `image` (H, W, 3) uint8, `mask` (H, W, 1) uint8 0/255 of its size, `file_name` of the image.
    Examples keep the order of their pairs. Splits without pairs are left out, since TFDS refuses empty ones.

    `info.metadata` holds `splitting` (how pairs were assigned to splits), `irregularities`, a list of
    [file, reason] of what was skipped, and `masks`, what is to be known of the masks.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    code_path: Any  # its base has a property of the class

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Say where README.md and the like are: by itself TFDS looks in the wrong place in an editable install."""
        with suppress(TypeError, OSError):  # of a class in a notebook, which is in no file
            cls.code_path = epath.Path(inspect.getfile(cls))
            cls.pkg_dir_path = cls.code_path.parent
        super().__init_subclass__(**kwargs)

    def __init__(self, *, skip_bad: bool = False, file_format: str | None = None, **kwargs: Any) -> None:
        """Make the builder; nothing is read before `prepare`.

        Args:
            skip_bad: go on without irregular files, where there are any, and not stop.
            file_format: array_record by default; TFDS's own default needs TensorFlow.
            **kwargs: `data_dir`, `config`, `version` of TFDS.
        """
        self.skip_bad = skip_bad
        super().__init__(file_format=file_format or "array_record", **kwargs)

    @abstractmethod
    def find(self) -> Found:
        """Find the files and match them; reads as little of their contents as possible."""

    def find_usable(self) -> Found:
        """`find`, and check the contents: only pairs that can be used, and all that is wrong with the others.

        Raises:
            IrregularFilesError: files that cannot be used, without `skip_bad`.
            ValueError: there is nothing left.
        """
        found = self.find()
        pairs = [pair for split in found.splits.values() for pair in split]
        verdicts = dict(zip(pairs, check(pairs, f"Checking {self.where}"), strict=True))
        bad = [each.irregularity for each in verdicts.values() if each.irregularity is not None]
        irregular = [*found.irregularities, *bad]
        if irregular and not self.skip_bad:
            raise IrregularFilesError(self.where, irregular)
        good = {
            name: [pair for pair in split if verdicts[pair].irregularity is None]
            for name, split in found.splits.items()
        }
        usable = [verdicts[pair] for split in good.values() for pair in split]
        if not usable:
            raise ValueError(f"{self.where} has no usable pair of an image and a mask")
        masks = mask_notes(len(usable), sum(each.gray for each in usable), sum(each.empty for each in usable))
        return Found(good, irregular, found.splitting, masks)

    def prepare(self) -> preparing.InUse:
        """Build the dataset unless it is cached; afterwards `as_data_source` works.

        Raises:
            IrregularFilesError: files that cannot be used, without `skip_bad`; nothing is then written.
            OSError: it cannot be written.
        """
        in_use = preparing.prepare(self)
        self._refuse_cached_irregularities()
        return in_use

    def _refuse_cached_irregularities(self) -> None:
        if self.irregularities and not self.skip_bad:  # cached by a run that skipped them
            raise IrregularFilesError(self.where, self.irregularities)

    @property
    def where(self) -> str:
        """The name of the dataset's place in messages."""
        return self.name

    @property
    def splitting(self) -> str:
        """How pairs were assigned to splits. After `prepare`."""
        return str(self._metadata["splitting"])

    @property
    def irregularities(self) -> list[Irregularity]:
        """The skipped files, with reasons. After `prepare`."""
        return [Irregularity(file, reason) for file, reason in self._metadata["irregularities"]]

    @property
    def masks(self) -> tuple[str, ...]:
        """Notes on the masks, a phrase each. After `prepare`."""
        return tuple(self._metadata.get("masks", ()))  # those prepared before masks were counted say nothing

    @property
    def _metadata(self) -> dict[str, Any]:
        try:
            metadata = self.info.metadata
        except json.JSONDecodeError as error:
            raise preparing.damaged(Path(self.data_path), error) from error
        if not isinstance(metadata, dict):
            raise TypeError(f"the metadata of {self.name} is a {type(metadata).__name__}, not a dictionary")
        return metadata

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "file_name": tfds.features.Text(),
            }
        )
        return self.dataset_info_from_configs(
            features=features, metadata=tfds.core.MetadataDict(), disable_shuffling=True
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        found = self.find_usable()
        self._metadata["splitting"] = found.splitting
        self._metadata["irregularities"] = [list(each) for each in found.irregularities]
        self._metadata["masks"] = list(found.masks)
        return {name: self._generate_examples(split) for name, split in found.splits.items() if split}

    def _generate_examples(self, pairs: Sequence[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        for pair in pairs:
            yield pair.stem, example(pair)


def as_paths(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without what operating systems leave behind."""
    return sorted(path for path in folder.iterdir() if not is_stray(path.name))

"""TFDS builder of HKU-IS."""

import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout
from menet_jax.datasets.pairs import Pair
from menet_jax.datasets.splits import gather
from menet_jax.runtime.text import composed, counted

LISTS = {"train": "trainimgset.mat", "validation": "valimgset.mat", "test": "testimgset.mat"}
OFFICIAL = "official"

CONFIGS = [
    BenchmarkConfig(
        name="paper",
        description="80, 5 and 15 % by a hash of the stems.",
        sizes={"test": 667, "validation": 222, "train": 3558},
    ),
    BenchmarkConfig(
        name=OFFICIAL,
        description="The official lists.",
        sizes={"train": 2500, "validation": 500, "test": 1447},
    ),
]


class HkuIs(BenchmarkBuilder):
    """4,447 images with several objects, objects at the border, or low contrast.

    Split as in the paper, about 80/5/15 %, or by the official lists, 2,500/500/1,447. Which images the paper had in
    which split was not published: a hash of their stems decides.
    """

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout("imgs", "gt"),)
    FILES = ("hku-is*", "hku_is*", "imgs", "gt", *LISTS.values())
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download HKU-IS.rar from https://i.cs.hku.hk/~gbli/deep_saliency.html and unpack it; a zip archive of it "
        "will do as well."
    )

    @property
    def _is_official(self) -> bool:
        return self.builder_config is not None and self.builder_config.name.startswith(OFFICIAL)

    def _split(
        self, matched: Sequence[Pair], stems: Collection[str], entries: Sequence[Entry]
    ) -> tuple[dict[str, list[Pair]], str]:
        if not self._is_official:
            return super()._split(matched, stems, entries)
        lists = read_lists(entries)
        lacking = [file for split, file in LISTS.items() if split not in lists]
        if lacking:
            raise FileNotFoundError(self._instructions(f"the official lists {', '.join(lacking)} are not there"))
        listed = [stem for split in lists.values() for stem in split]
        doubled = [stem for stem, count in Counter(listed).items() if count > 1]
        if doubled:
            raise ValueError(f"{self.name}: the official lists name images twice: {', '.join(doubled)}")
        split_of = {stem: split for split, stems in lists.items() for stem in stems}
        known = [pair for pair in matched if pair.stem in split_of]
        unlisted = f"; in no list: {counted(len(matched) - len(known), 'pair')}" if len(known) < len(matched) else ""
        return gather(known, split_of), f"split by the official lists{unlisted}"

    def _wrong_counts(self, counts: Mapping[str, int]) -> list[str]:
        if not self._is_official:
            return super()._wrong_counts(counts)
        return [
            f"{counts[split]:,} pairs in the {split} split, and {size:,} were published"
            for split, size in self.sizes.items()
            if counts[split] != size
        ]

    def _expected_stems(self, entries: Sequence[Entry]) -> Collection[str]:
        return sorted(stem for stems in read_lists(entries).values() for stem in stems)


def read_lists(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The stems in each official list that is among the files.

    Raises:
        ValueError: a list is of MATLAB's version 7.3, or no list of names.
    """
    files = {entry.name.lower(): entry for entry in entries}
    return {split: read_list(files[name]) for split, name in LISTS.items() if name in files}


def read_list(entry: Entry) -> list[str]:
    """The stems in a MATLAB file (up to version 7.2) that holds one cell array of file names.

    Raises:
        ValueError: it is another kind of file, or holds something else.
    """
    import scipy.io  # only now: other datasets need not wait for it

    try:
        variables = scipy.io.loadmat(io.BytesIO(entry.read_bytes()))
    except NotImplementedError:
        raise ValueError(
            f"{entry}: a MATLAB file of version 7.3, which is not read here; save it in MATLAB with "
            "save(…, '-v7'), or take the list as published"
        ) from None
    except Exception as error:  # scipy raises nearly anything on a damaged file
        raise ValueError(f"{entry}: cannot be read as a MATLAB file: {error}") from error
    arrays = [value for name, value in variables.items() if not name.startswith("__")]
    cells = [np.ravel(cell) for cell in np.ravel(arrays[0])] if len(arrays) == 1 else []
    names = [str(cell[0]) for cell in cells if cell.dtype.kind == "U" and cell.size == 1]
    if not names or len(names) < len(cells):
        raise ValueError(f"{entry}: holds no list of file names, but {', '.join(variables)}")
    return [composed(PurePosixPath(name.strip()).stem) for name in names]

"""TFDS builder of DUTS."""

from collections.abc import Collection, Mapping, Sequence

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout
from menet_jax.datasets.pairs import Pair, stem
from menet_jax.datasets.splits import gather, split_by_rank

PARTS: Mapping[str, Collection[str]] = {"DUTS-TR": ("train",), "DUTS-TE": ("validation", "test")}
"""The splits that each of the two archives is cut into."""

CONFIGS = [
    BenchmarkConfig(
        name="with_validation",
        description="500 images of DUTS-TE, by a hash of the stems, are for validation.",
        sizes={"train": 10553, "validation": 500, "test": 4519},
    ),
    BenchmarkConfig(
        name="official",
        description="DUTS-TR to train and DUTS-TE to test on.",
        sizes={"train": 10553, "test": 5019},
    ),
]


class Duts(BenchmarkBuilder):
    """10,553 images to train on, DUTS-TR, and 5,019 to test on, DUTS-TE.

    Nothing was published for validation: 500 images of DUTS-TE are, and are not tested on. As published it is
    `duts/official`.
    """

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout("duts-tr-image duts-te-image", "duts-tr-mask duts-te-mask"),)
    FILES = ("duts*",)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download DUTS-TR.zip and DUTS-TE.zip from http://saliencydetection.net/duts/."

    def _split(
        self, matched: Sequence[Pair], stems: Collection[str], entries: Sequence[Entry]
    ) -> tuple[dict[str, list[Pair]], str]:
        folders = {f"{part}-image".lower(): part for part in PARTS}
        part_of = {stem(entry): folders[entry.folder] for entry in entries if entry.folder in folders}
        split_of = dict[str, str]()
        for part, splits in PARTS.items():
            sizes = {split: self.sizes[split] for split in splits if split in self.sizes}
            split_of |= split_by_rank([each for each in stems if part_of[each] == part], sizes)
        cut = gather(matched, split_of)
        splitting = "DUTS-TR is for training, DUTS-TE for testing"
        if "validation" in self.sizes:
            held_out = f"{len(cut['validation']):,} of its images, by a hash of each file's stem"
            splitting += f" but for {held_out}, which are for validation"
        return cut, splitting

    def _wrong_counts(self, counts: Mapping[str, int]) -> list[str]:
        wrong = []
        for part, splits in PARTS.items():
            found, published = (sum(sizes.get(split, 0) for split in splits) for sizes in (counts, self.sizes))
            if found != published:
                wrong.append(f"{found:,} pairs of an image and its mask in {part}, and {published:,} were published")
        return wrong

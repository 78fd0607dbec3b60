"""TFDS builder of MSRA10K, without MSRA1K's images in its training split where these are known."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from menet_jax.datasets import pairs
from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout
from menet_jax.datasets.msra1k.msra1k_dataset_builder import Msra1k
from menet_jax.datasets.pairs import File, IrregularFilesError, Pair
from menet_jax.datasets.splits import gather, split_by_rank
from menet_jax.images import near_duplicates
from menet_jax.images.files import read_image
from menet_jax.images.opening import UnreadableImageError
from menet_jax.runtime.progress import in_threads

SIZES = {"test": 1000, "validation": 500, "train": 8500}


@dataclass(kw_only=True)
class Msra10kConfig(BenchmarkConfig):
    """What is known of MSRA1K.

    Attributes:
        msra1k: the configuration of MSRA1K, whose images all go into the test split; None if it is not at hand.
    """

    msra1k: BenchmarkConfig | None = None


WITH_MSRA1K = Msra10kConfig(
    name="msra1k_in_test",
    description="MSRA1K's images are all in the test split.",
    sizes=SIZES,
    msra1k=Msra1k.BUILDER_CONFIGS[0],
)
WITHOUT_MSRA1K = Msra10kConfig(
    name="msra1k_unknown",
    description="MSRA1K was not at hand: its images may be in any split.",
    sizes=SIZES,
)

CONFIGS = [WITH_MSRA1K, WITHOUT_MSRA1K]


class Msra10k(BenchmarkBuilder):
    """10,000 images with pixelwise masks; 8,500 to train on and 500 to validate with, as in the paper.

    MSRA1K, the paper's test set, is part of it by other names and compressed otherwise. With it at hand, its images
    are recognised by their content (`near_duplicates`) and put into the test split.
    """

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout("imgs", "imgs"),)
    FILES = ("msra10k*", "imgs")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download MSRA10K_Imgs_GT.zip from https://mmcheng.net/msra10k/."

    @property
    def msra1k(self) -> Msra1k | None:
        """The MSRA1K to keep out of training, in the same manual directory."""
        config = self.builder_config
        if not isinstance(config, Msra10kConfig) or config.msra1k is None:
            return None
        return Msra1k(manual_dir=self.manual_dir, config=config.msra1k, data_dir=self.root, skip_bad=self.skip_bad)

    @classmethod
    def best(cls, **arguments: Any) -> "Msra10k":
        """The builder with MSRA1K in the test split if that is prepared or MSRA1K is at hand, else without.

        Args:
            **arguments: those of `Msra10k` without `config`.
        """
        builder = cls(config=WITH_MSRA1K, **arguments)
        msra1k = builder.msra1k
        prepared = builder.data_path.exists() and not builder.is_outdated()
        known = prepared or (msra1k is not None and msra1k.image_files())
        return builder if known else cls(config=WITHOUT_MSRA1K, **arguments)

    def origins(self) -> list[BenchmarkBuilder]:
        return [self] if self.msra1k is None else [self, self.msra1k]

    def _split(
        self, matched: Sequence[Pair], stems: Collection[str], entries: Sequence[Entry]
    ) -> tuple[dict[str, list[Pair]], str]:
        msra1k = self.msra1k
        their_files = [] if msra1k is None else msra1k.image_files()
        if msra1k is None or (self.skip_bad and not their_files):
            splits, splitting = super()._split(matched, stems, entries)
            return splits, (
                f"{splitting}; MSRA1K is not at hand, so its images may be among the training images: "
                f"put it into {self.manual_dir / 'msra1k'} to keep them out"
            )
        try:
            if not self.skip_bad:
                msra1k.find_usable()
        except IrregularFilesError as error:
            where = f"{msra1k.name}, which is kept out of training on {self.name}"
            raise IrregularFilesError(where, error.irregularities) from None
        # An image without a mask that can be used must stay out of training as well.
        theirs = thumbnails(their_files, "Looking for MSRA1K in MSRA10K, 1 of 2")
        ours = thumbnails([pair.image for pair in matched], "Looking for MSRA1K in MSRA10K, 2 of 2")
        found = near_duplicates.same_pictures(*(near_duplicates.stack(each.values()) for each in (ours, theirs)))
        our_files = list(ours)
        same = {pairs.stem(our_files[i]) for i, _ in found}
        recognised = {j for _, j in found}
        splits = gather(matched, split_by_rank(stems, self.sizes, first=same))
        unknown = sum(msra1k.sizes.values()) - len(recognised)
        leak = f"; {unknown:,} of MSRA1K's pictures were not found, and may be among the training images"
        return splits, (
            f"split by a hash of each file's stem, but for {len(same):,} images that show pictures of MSRA1K "
            f"({len(recognised):,} of its {len(theirs):,}): these are kept out of training, in the test split"
            + (leak if unknown > 0 else "")
        )


def thumbnails(files: Sequence[File], description: str) -> dict[File, near_duplicates.Thumbnail]:
    """Thumbnails of the images that can be read, in threads and with a progress bar."""

    def make(file: File) -> near_duplicates.Thumbnail | None:
        try:
            return near_duplicates.thumbnail(read_image(pairs.contents(file), str(file)))
        except UnreadableImageError:  # the check of all pairs reports it
            return None

    made = in_threads(make, files, description, "images")
    return {file: small for file, small in zip(files, made, strict=True) if small is not None}

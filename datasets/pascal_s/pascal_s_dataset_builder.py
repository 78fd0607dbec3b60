"""TFDS builder of PASCAL-S."""

from collections.abc import Collection, Sequence

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout

IMAGES = "images image imgs img im"
MASKS = "masks mask gt groundtruth ground_truth ground_truth_mask"

CONFIGS = [BenchmarkConfig(name="standard", sizes={"test": 850})]


class PascalS(BenchmarkBuilder):
    """850 images of PASCAL VOC 2010's validation set, all for testing; masks are means over twelve observers."""

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (
        layout("imgs/pascal", "masks/pascal"),
        layout(IMAGES, MASKS),
        layout("imgs images", "imgs images"),
    )
    FILES = ("pascal*", "salobj*", "datasets", "datasets.zip")
    GRADED_MASKS = True
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download salObj.zip from http://cbs.ic.gatech.edu/salobj/."

    def _expected_stems(self, entries: Sequence[Entry]) -> Collection[str]:
        """The files are called 1 to 850."""
        return [str(number) for number in range(1, self.sizes["test"] + 1)]

"""TFDS builder of ECSSD, the Extended Complex Scene Saliency Dataset."""

from collections.abc import Collection, Sequence

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout

CONFIGS = [BenchmarkConfig(name="standard", sizes={"test": 1000})]


class Ecssd(BenchmarkBuilder):
    """1,000 images of natural scenes with structure, all for testing. The files are called 0001 to 1000."""

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout("images", "ground_truth_mask"),)
    FILES = ("ecssd*", "images", "images.zip", "ground_truth_mask", "ground_truth_mask.zip")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download images.zip and ground_truth_mask.zip from "
        "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html."
    )

    def _expected_stems(self, entries: Sequence[Entry]) -> Collection[str]:
        return [f"{number:04d}" for number in range(1, self.sizes["test"] + 1)]

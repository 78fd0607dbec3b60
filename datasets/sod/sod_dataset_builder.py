"""TFDS builder of SOD, the Salient Objects Dataset."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout

MASKS = "masks mask gt groundtruth ground_truth sod_gt"
LISTS = ("iids_train.txt", "iids_test.txt")

CONFIGS = [BenchmarkConfig(name="standard", sizes={"test": 300})]


class Sod(BenchmarkBuilder):
    """Masks of the 300 images of the Berkeley Segmentation Dataset (BSDS300), all for testing."""

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (
        layout("train test", MASKS),
        layout("images image imgs", MASKS),
        layout("sod images image imgs", "sod images image imgs"),
        layout("", ""),
    )
    FILES = ("sod*", "bsds300*", "images", *MASKS.split(), *(f"{name}.zip" for name in MASKS.split()))
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download the images, BSDS300-images.tgz, from https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/"
        "bsds/, and the masks from https://www.elderlab.yorku.ca/resources/salient-objects-dataset-sod/. They are "
        "published as outlines by seven people, one MATLAB file for each image; what is read here is one PNG for each "
        "image, of the same stem, as "
        "collections of benchmarks have them, in a folder masks/ or beside the images."
    )

    def _expected_stems(self, entries: Sequence[Entry]) -> Collection[str]:
        """BSDS300 comes with lists of its images, which say what is missing where they are at hand."""
        lists = [entry for entry in entries if entry.name in LISTS]
        lines = [line for entry in lists for line in entry.read_bytes().decode("ascii", "replace").split()]
        return [PurePosixPath(line).stem for line in lines]

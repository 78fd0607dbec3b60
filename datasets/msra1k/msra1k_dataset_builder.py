"""TFDS builder of MSRA1K, also called MSRA1000 and ASD."""

from menet_jax.datasets.archives import Entry
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout
from menet_jax.datasets.pairs import is_jpeg

IMAGES = "images image"

CONFIGS = [BenchmarkConfig(name="standard", sizes={"test": 1000})]


class Msra1k(BenchmarkBuilder):
    """1,000 images with pixelwise masks, all for testing. They are among MSRA10K's, by other names."""

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout(IMAGES, "groundtruth binarymasks"), layout(IMAGES, IMAGES))
    FILES = ("msra1k*", "msra1000*", "msra-1000*", "msra_1000*", *IMAGES.split(), "groundtruth*", "binarymasks*")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download the masks (binarymasks) from http://ivrlwww.epfl.ch/supplementary_material/RK_CVPR09/, and the "
        "images of the same names, which are part of MSRA-B, from https://mmcheng.net/msra10k/; some collections of "
        "benchmarks have both together, as MSRA1000 or ASD."
    )

    def image_files(self) -> list[Entry]:
        """The images, whether or not there are masks for them."""
        if not self.manual_dir.is_dir():
            return []
        return [entry for entry in self.entries() if entry.folder in IMAGES.split() and is_jpeg(entry)]

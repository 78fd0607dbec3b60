"""TFDS builder of DUT-OMRON."""

from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig, layout

CONFIGS = [BenchmarkConfig(name="standard", sizes={"test": 5168}, copies=(5166,))]


class DutOmron(BenchmarkBuilder):
    """5,168 images with one or more objects and busy backgrounds, all for testing; copies with 5,166 exist."""

    BUILDER_CONFIGS = CONFIGS
    LAYOUTS = (layout("dut-omron-image", "pixelwisegt-new-png"),)
    FILES = ("dut-omron*", "dut_omron*", "pixelwisegt-new-png*")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download DUT-OMRON-image.zip and DUT-OMRON-gt-pixelwise.zip.zip from http://saliencydetection.net/dut-omron/."
    )

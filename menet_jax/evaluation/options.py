"""The flags of commands on trained runs, and their first checks.

This takes no time to import, so that help and refusals need not wait for JAX.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from menet_jax.data.options import PlacesOptions, check_data
from menet_jax.reporting.tables import RESULTS
from menet_jax.runtime.cli import check_counts, check_folder, check_there, named, refuse_doubles
from menet_jax.runtime.parallel import CORES
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.whole_files import check_writable
from menet_jax.training.run_folder import RELEASED, check_trained

SUFFIXES = {"weights": ".safetensors", "stablehlo": ".stablehlo", "onnx": ".onnx"}
"""Suffixes of the files that `export` writes, by format."""

RunFlag = Annotated[Path, tyro.conf.arg(aliases=["--checkpoint"])]
"""A flag for one run, `--run`, with the name that it had before 0.2."""
DeviceFlag = Annotated[
    Literal["cpu", "gpu", "tpu"] | None,
    tyro.conf.arg(help="Fail unless JAX computes there; none given: wherever JAX does by default."),
]
NewestFlag = Annotated[bool, tyro.conf.arg(help="Use the newest checkpoint of the run, not the best.")]
BatchSizeFlag = Annotated[int, tyro.conf.arg(help="Images computed at once; rounded up to a multiple of the devices.")]


@dataclass(frozen=True, kw_only=True)
class SourceOptions(PlacesOptions):
    """The flags of all commands that apply runs to images of datasets."""

    split: Literal["train", "validation", "test", "all"] = "test"
    """Images of a dataset to take."""
    overwrite: bool = False
    """Replace the results that --dest holds; their tables and figures are deleted."""
    newest: bool = False
    """Use the newest checkpoint of a run, not the best."""
    skip_bad: bool = False
    """Prepare a dataset without its unreadable or unpaired files, instead of stopping at them."""
    device: DeviceFlag = None


@dataclass(frozen=True, kw_only=True)
class InputOptions(SourceOptions):
    """The flags of all commands that take several runs and datasets."""

    run: tuple[str, ...] = ()
    """Runs, files of `menet_jax.export`, or `released`, which comes with the package; NAME=RUN gives another name."""
    data: tuple[str, ...] = ()
    """Datasets to take images from: names or folders, as in training."""
    dest: Path | None = None
    """Folder for tables, figures and the numbers of every image; none given: tables are only printed."""

    def check(self) -> None:
        refuse_doubles("runs", [name for name, _ in named("--run", self.run)], "name them, NAME=FOLDER")
        if self.dest:
            check_dest(self.dest, self.overwrite)
        check_runs(self.run)
        check_data(self.data)


def check_dest(dest: Path, overwrite: bool, results: str = RESULTS) -> None:
    """Raise ValueError or OSError if results cannot be written there, or would replace others unasked.

    `results` is the file that every folder of such results has.
    """
    if (dest / results).exists() and not overwrite:
        raise ValueError(f"--dest {dest}: holds results already; replace them with --overwrite, or name another folder")
    check_writable(dest)


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(InputOptions):
    """The flags of all commands that score maps."""

    published: bool = False
    """The paper's own numbers on these datasets too, in rows that say so. Datasets are recognised by name."""
    batch_size: BatchSizeFlag = 8
    threads: int = CORES
    """Threads, or where there is much to do processes, that decode and score images; by default one for each core."""

    def check(self) -> None:
        check_counts(batch_size=self.batch_size, threads=self.threads)
        super().check()


@dataclass(frozen=True, kw_only=True)
class Evaluate(ScoringOptions):
    """Score trained runs on datasets, and any method's saliency maps against masks, in one table.

    Maps are scored in 8 bits at the size of the ground truth, each min-max normalised first, as is usual. Exit
    status: 0; 1 if an image could not be scored, the rest being done; 2 for bad input, nothing being done.
    """

    maps: tuple[str, ...] = ()
    """Folders of saliency maps, of any size and bit depth; NAME=FOLDER gives one another name than its folder's."""
    masks: Path | None = None
    """Folder of masks to score the maps against, matched by stem."""
    measures: bool = False
    """S-measure, E-measure and weighted F too, by PySODMetrics."""

    def check(self) -> None:
        if not self.run and not self.maps:
            raise ValueError("nothing to score: give --run RUN --data DATASET, or --maps NAME=FOLDER --masks FOLDER")
        if bool(self.run) != bool(self.data):
            raise ValueError("--run and --data belong together: runs are scored on datasets")
        if bool(self.maps) != (self.masks is not None):
            raise ValueError("--maps and --masks belong together: maps are scored against a folder of masks")
        folders = named("--maps", self.maps)
        methods = [name for name, _ in (*named("--run", self.run), *folders)]
        refuse_doubles("methods", methods, "name them, NAME=FOLDER")
        for folder in (*(folder for _, folder in folders), *([at_home(self.masks)] if self.masks else [])):
            check_folder(folder)
        super().check()


@dataclass(frozen=True)
class Predict:
    """Predict saliency maps of images with a trained network.

    Writes DEST/<stem>.png of every image: 8-bit gray, at the image's own size. Exit status: 0; 1 if an image could
    not be read, the rest being done, or a map not be written; 2 for bad input, nothing being done.
    """

    source: Path
    """Image file, or folder of images."""
    dest: Path
    """Folder to write to; made if there is none."""
    run: RunFlag = RELEASED
    """Run directory, or file of `menet_jax.export`; none given: the network that comes with the package."""
    probability: bool = False
    """Write the probability map (cross-entropy branch) instead of the metric map."""
    overlay: bool = False
    """Write <stem>_overlay.png too: the map in red over the image."""
    cutout: bool = False
    """Write <stem>_cutout.png too: the image with the map as its transparency."""
    newest: NewestFlag = False
    batch_size: BatchSizeFlag = 8
    threads: int = 2
    """Threads that decode images and write maps."""
    device: DeviceFlag = None

    def check(self) -> None:
        check_counts(batch_size=self.batch_size, threads=self.threads)
        check_there("--source", self.source)
        check_trained(self.run)
        check_writable(self.dest)


@dataclass(frozen=True)
class Export:
    """Write a trained network into one file.

    The format weights holds float16 parameters, which every command takes for a run. The others hold the whole
    network, from uint8 images (b, size, size, 3) to both maps, and need no menet_jax: stablehlo as a program of JAX for
    CPU, GPU and TPU, onnx in float32.

    Exit status: 0; 1 if it cannot be written; 2 for bad input, nothing being done.
    """

    run: tyro.conf.Positional[Path]
    """Run directory, as training wrote it, or `released`, the network that comes with the package."""
    dest: Path
    """The file to write: .safetensors for weights, .stablehlo for stablehlo, .onnx for onnx."""
    format: Literal["weights", "stablehlo", "onnx"] = "weights"
    """Parameters alone, or the whole network as a program of JAX or of ONNX."""
    newest: NewestFlag = False

    def check(self) -> None:
        if self.format == "onnx" and find_spec("onnx") is None:
            raise ValueError('--format onnx: ONNX is not installed, which writes it: pip install "menet_jax[onnx]"')
        suffix = SUFFIXES[self.format]
        if self.dest.suffix != suffix:
            raise ValueError(f"--dest {self.dest}: the suffix of {self.format} is {suffix}")
        if self.dest.exists():
            raise ValueError(f"--dest {self.dest}: is there already, and nothing is overwritten; name another file")
        check_writable(self.dest.parent)
        check_trained(self.run)


def map_kind(probability: bool) -> Literal["metric", "probability"]:
    """The kind of map that `--probability` asks for."""
    return "probability" if probability else "metric"


def check_runs(specs: Sequence[str]) -> None:
    """Raise ValueError or FileNotFoundError for what is no run, or one without a checkpoint."""
    for _, folder in named("--run", specs):
        check_trained(folder)

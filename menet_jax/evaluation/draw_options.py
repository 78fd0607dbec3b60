"""The flags of `python -m menet_jax.draw`."""

from dataclasses import dataclass
from pathlib import Path

from menet_jax.data.options import check_data
from menet_jax.evaluation.options import BatchSizeFlag, SourceOptions, check_runs
from menet_jax.runtime.cli import check_counts, check_folder, named, refuse_doubles
from menet_jax.runtime.parallel import CORES
from menet_jax.runtime.whole_files import check_writable


@dataclass(frozen=True, kw_only=True)
class Common(SourceOptions):
    """The flags of all figures."""

    data: str
    """Dataset: a name or a folder, as in training."""
    dest: Path
    """PNG file to write; a PDF is written beside it."""

    def check(self) -> None:
        if self.dest.suffix != ".png":
            raise ValueError(f"--dest {self.dest}: must end in .png; a .pdf is written beside it")
        for path in (self.dest, self.dest.with_suffix(".pdf")):
            if path.is_dir():
                raise ValueError(f"{path} is a folder; name a file with --dest")
            if path.exists() and not self.overwrite:
                raise ValueError(f"{path} is there already; replace it with --overwrite, or name another --dest")
        check_writable(self.dest.parent)
        check_data([self.data])


@dataclass(frozen=True, kw_only=True)
class Grid(Common):
    """Compare saliency maps: a row for each image, and a column for each run and each folder of maps.

    Runs see the distorted images, where a distortion is given. Maps in folders are drawn as they are: they must have
    been computed from the same images (`python -m menet_jax.robustness distortion --save-images` writes them).
    """

    run: tuple[str, ...] = ()
    """Runs, files of `menet_jax.export`, or `released`, which comes with the package; NAME=RUN gives another name."""
    maps: tuple[str, ...] = ()
    """Folders of saliency maps, of any size and bit depth; NAME=FOLDER gives one another name than its folder's."""
    images: tuple[str, ...] = ()
    """Names of the images, without folder and extension; none given: five from all over the dataset."""
    noise: tuple[float, ...] = ()
    """Add white Gaussian noise of this standard deviation (0 ... 255): one for all images, or one for each."""
    jpeg: tuple[int, ...] = ()
    """Compress to this JPEG quality (1 ... 100): one for all images, or one for each."""
    seed: int = 0
    """Seed of the noise, together with the image's name."""
    probability: bool = False
    """Draw the runs' probability maps (cross-entropy branch) instead of their metric maps."""

    def check(self) -> None:
        runs, folders = named("--run", self.run), named("--maps", self.maps)
        if not runs and not folders:
            raise ValueError("nothing to compare: give --run RUN, or --maps NAME=FOLDER, or several of them")
        if self.noise and self.jpeg:
            raise ValueError("--noise and --jpeg: one distortion at a time, in a figure of its own")
        refuse_doubles("methods", [name for name, _ in (*runs, *folders)], "name them, NAME=FOLDER")
        super().check()
        for _, folder in folders:
            check_folder(folder)
        check_runs(self.run)


@dataclass(frozen=True, kw_only=True)
class Scales(Common):
    """Show what is inside the network: the 13 scale maps of an image, with the features and both saliency maps."""

    run: str
    """Run directory, file of `menet_jax.export`, or `released`, the network that comes with the package."""
    image: str
    """Name of the image, without folder and extension."""

    def check(self) -> None:
        super().check()
        check_runs([self.run])


@dataclass(frozen=True, kw_only=True)
class Worst(Common):
    """Show the images on which a run has the lowest F-measure, at the adaptive threshold (Eq. 15 and 16)."""

    run: str
    """Run directory, file of `menet_jax.export`, or `released`, the network that comes with the package."""
    count: int = 5
    """Number of images."""
    probability: bool = False
    """Judge and draw the probability map (cross-entropy branch) instead of the metric map."""
    batch_size: BatchSizeFlag = 8
    threads: int = CORES
    """Threads that decode and score images; by default one for each core."""

    def check(self) -> None:
        check_counts(count=self.count, batch_size=self.batch_size, threads=self.threads)
        super().check()
        check_runs([self.run])

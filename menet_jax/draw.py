"""Draw the paper's figures of images:  python -m menet_jax.draw grid|scales|worst --data DATASET --dest FILE.png ...

`grid` compares the maps of runs and of other methods, on clean or on distorted images (Figures 6, 10 and 11);
`scales` shows the 13 scale maps of an image (Figure 8); `worst` the images on which a run fails (Figure 12).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from tqdm import tqdm

from menet_jax import devices, selection
from menet_jax.arguments import named, refuse_doubles, refuse_repeats
from menet_jax.batch_prediction import Kind
from menet_jax.commands import INTERRUPTED, uninterrupted
from menet_jax.distortions import add_noise, compress_jpeg
from menet_jax.evaluation import ImageResult, open_sources, score_run
from menet_jax.map_folders import by_stem, read_map
from menet_jax.messages import warn
from menet_jax.metrics import quantise
from menet_jax.parallel import CORES, workers
from menet_jax.plots import comparison, failures, save, scale_maps
from menet_jax.prediction import Predictor, look_inside
from menet_jax.runs import TrainedRun, load_run
from menet_jax.sources import Example, Source

ROWS = 5
"""Images of a comparison where none are named."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all figures need."""

    data: str
    """Dataset: a name or a folder, as in training."""
    dest: Path
    """PNG file to write; a PDF is written beside it."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which images of the dataset."""
    newest: bool = False
    """Use the newest checkpoint of a run, not the best."""
    overwrite: bool = False
    """Replace that file."""
    skip_bad: bool = False
    """Prepare a dataset without its unreadable or unpaired files, instead of stopping at them."""
    graded_masks: bool = False
    """Masks in folders are means over observers: cut them at half, though nothing may reach it. Benchmarks know."""
    cache: Path | None = None
    """Where prepared datasets are kept; none given: where TFDS keeps them."""
    manual_dir: Path | None = None
    """Where downloaded archives of benchmarks are; none given: downloads/manual where datasets are kept."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Fail unless JAX computes there; none given: wherever JAX does by default."""


@dataclass(frozen=True, kw_only=True)
class Grid(Common):
    """Compare saliency maps: a row for each image, and a column for each run and each folder of maps.

    Runs see the distorted images, where a distortion is given. Maps in folders are drawn as they are: they must have
    been computed from the same images (`python -m menet_jax.robustness distortion --save-images` writes them).
    """

    run: tuple[str, ...] = ()
    """Run directories, as training wrote them. NAME=DIRECTORY calls one otherwise than its directory."""
    maps: tuple[str, ...] = ()
    """Folders of saliency maps, of any size and bit depth; NAME=FOLDER calls one otherwise than its folder."""
    images: tuple[str, ...] = ()
    """Names of the images, without folder and extension; none given: five from all over the dataset."""
    noise: tuple[float, ...] = ()
    """Add white Gaussian noise of this standard deviation (0 ... 255): one for all images, or one for each."""
    jpeg: tuple[int, ...] = ()
    """Compress to this JPEG quality (1 ... 100): one for all images, or one for each."""
    seed: int = 0
    """Of the noise, beside the name of the image."""
    probability: bool = False
    """Draw the runs' probability maps (cross-entropy branch) instead of their metric maps."""


@dataclass(frozen=True, kw_only=True)
class Scales(Common):
    """Show what is inside the network: the 13 scale maps of an image, with the features and both saliency maps."""

    run: str
    """Run directory, as training wrote it."""
    image: str
    """Name of the image, without folder and extension."""


@dataclass(frozen=True, kw_only=True)
class Worst(Common):
    """Show the images on which a run has the lowest F-measure, at the adaptive threshold (Eq. 15 and 16)."""

    run: str
    """Run directory, as training wrote it."""
    count: int = 5
    """How many."""
    probability: bool = False
    """Judge and draw the probability map (cross-entropy branch) instead of the metric map."""
    batch_size: int = 8
    """Images computed at once; rounded up to a multiple of the devices."""
    threads: int = CORES
    """Threads that decode and score images; by default one for each core."""


def grid(options: Grid) -> Figure:
    """The comparison; everything is opened and checked before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    runs, folders = named("--run", options.run), named("--maps", options.maps)
    if not runs and not folders:
        raise ValueError("nothing to compare: give --run RUN, or --maps NAME=FOLDER, or several of them")
    if options.noise and options.jpeg:
        raise ValueError("--noise and --jpeg: one distortion at a time, in a figure of its own")
    refuse_doubles("methods", [name for name, _ in (*runs, *folders)], "name them, NAME=FOLDER")
    found = {name: by_stem(folder)[0] for name, folder in folders}
    trained = {name: _load(folder, options) for name, folder in runs}
    sources = _open(options)
    examples = selection.by_stem(sources, options.images) if options.images else selection.spread(sources, ROWS)
    stems = [Path(example.file_name).stem for example in examples]
    for name, folder in folders:
        missing = [stem for stem in stems if stem not in found[name]]
        if missing:
            raise ValueError(f"--maps {name}={folder}: holds no map of {', '.join(missing)}")
    given = {name: [read_map(files[stem]) for stem in stems] for name, files in found.items()}
    heading, shown, notes = _distort(options, examples)

    kind = _kind(options.probability)
    predicted = {name: _predict(name, run, shown, kind, options) for name, run in trained.items()}
    if heading and given:
        print(f"note: {', '.join(given)}: drawn as they are; only you know that they are of these distorted images")
    return comparison(
        [example.image for example in examples],
        [example.mask for example in examples],
        {**predicted, **given},
        (heading, shown) if heading else None,
        notes,
    )


def scales(options: Scales) -> Figure:
    """The inside of the network.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    [(name, folder)] = named("--run", [options.run])
    run = _load(folder, options)
    if not run.config.model.multi_scale:
        raise ValueError(f"--run {options.run}: its network has no scale maps, for it was trained without multi_scale")
    [example] = selection.by_stem(_open(options), [options.image])
    print(f"run      {name}: {folder}, {run.history}")
    outputs, maps = look_inside(run.config, run.variables, example.image)
    inside = (outputs.features, outputs.scales, maps.probability, maps.metric)
    return scale_maps(example.image, example.mask, *map(np.asarray, inside))


def worst(options: Worst) -> Figure:
    """The failures of a run, each with its scores.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    for flag in ("count", "batch_size", "threads"):
        if getattr(options, flag) < 1:
            raise ValueError(f"--{flag.replace('_', '-')} {getattr(options, flag)}: must be at least 1")
    [(name, folder)] = named("--run", [options.run])
    run, kind = _load(folder, options), _kind(options.probability)
    sources = _open(options)
    total = sum(map(len, sources))
    print(f"run      {name}: {folder}, {run.history}{_untrained(run, kind)}")
    predictor = Predictor(run.config, run.variables, jax.local_devices(), min(options.batch_size, total))
    results = list[ImageResult]()
    with workers(options.threads, processes=False) as pool, tqdm(total=total, unit="image", dynamic_ncols=True) as bar:
        for source in sources:
            for both in score_run(predictor, source, pool, threads=options.threads, measures=False):
                results.append(both[kind])
                bar.update()
    places = selection.worst([result.scores for result in results], options.count)
    if not places:
        raise ValueError(f"--data {options.data}: no image has a salient pixel, so that none can be ranked")
    everything = [(source, index) for source in sources for index in range(len(source))]
    examples = [source[index] for source, index in (everything[place] for place in places)]
    for place in places:
        scores = results[place].scores
        print(f"{results[place].name}: adaptive_f {scores.adaptive_f:.4f}, mae {scores.mae:.4f}")
    return failures(
        [Path(example.file_name).stem for example in examples],
        [example.image for example in examples],
        [example.mask for example in examples],
        [quantise(getattr(predictor.maps(example.image), kind)) for example in examples],
        [results[place].scores for place in places],
        name,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0; 2 for bad input or a figure that cannot be written."""
    try:
        refuse_repeats(arguments, Grid, Scales, Worst)
        options = tyro.cli(Grid | Scales | Worst, args=arguments, prog="python -m menet_jax.draw")
        _check_dest(options)
        used = devices.start(options.device)
        print(f"devices  {len(used)} × {used[0].device_kind} ({used[0].platform})")
        match options:
            case Grid():
                figure = grid(options)
            case Scales():
                figure = scales(options)
            case Worst():
                figure = worst(options)
        with uninterrupted():
            written = save(figure, options.dest.with_suffix(""))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the figure is whole, or not there", file=sys.stderr)
        return INTERRUPTED
    print(f"wrote {' and '.join(map(str, written))}")
    return 0


def _check_dest(options: Common) -> None:
    if options.dest.suffix != ".png":
        raise ValueError(f"--dest {options.dest}: must end in .png; a .pdf is written beside it")
    for path in (options.dest, options.dest.with_suffix(".pdf")):
        if path.exists() and not options.overwrite:
            raise ValueError(f"{path} is there already; replace it with --overwrite, or name another --dest")


def _open(options: Common) -> list[Source]:
    return open_sources(
        options.data, options.split, options.cache, options.skip_bad, options.manual_dir, options.graded_masks
    )


def _load(folder: Path, options: Common) -> TrainedRun:
    return load_run(folder, newest=options.newest, report=warn)


def _kind(probability: bool) -> Kind:
    return "probability" if probability else "metric"


def _untrained(run: TrainedRun, kind: Kind) -> str:
    weight = run.config.loss.metric if kind == "metric" else run.config.loss.cross_entropy
    return "" if weight else f"; its loss did not train the {kind} map"


def _distort(options: Grid, examples: Sequence[Example]) -> tuple[str, list[np.ndarray], list[str]]:
    """Heading, images and notes of the distorted images; without distortion no heading, and the images themselves."""
    count = len(options.noise or options.jpeg)
    if not count:
        return "", [example.image for example in examples], []
    if count not in (1, len(examples)):
        flag = "--noise" if options.noise else "--jpeg"
        raise ValueError(f"{flag}: {count} strengths for {len(examples)} images; give one for all, or one for each")
    if options.noise:
        heading, strengths = "noisy", [f"σ {sigma:g}" for sigma in options.noise]
        images = [
            add_noise(example.image, sigma, name=Path(example.file_name).stem, seed=options.seed)
            for example, sigma in zip(examples, cycle(options.noise), strict=False)
        ]
    else:
        heading, strengths = "JPEG", [f"quality {quality}" for quality in options.jpeg]
        images = [
            compress_jpeg(example.image, quality)
            for example, quality in zip(examples, cycle(options.jpeg), strict=False)
        ]
    return (f"{heading}, {strengths[0]}", images, []) if count == 1 else (heading, images, strengths)


def _predict(name: str, run: TrainedRun, images: Sequence[np.ndarray], kind: Kind, options: Grid) -> list[np.ndarray]:
    print(f"run      {name}: {run.history}{_untrained(run, kind)}")
    predictor = Predictor(run.config, run.variables)
    return [quantise(getattr(predictor.maps(image), kind)) for image in tqdm(images, name, unit="image")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

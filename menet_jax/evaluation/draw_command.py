"""The command `python -m menet_jax.draw`: the figures, and its messages."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from menet_jax.data.sources import Example, Source, numbered, open_sources
from menet_jax.evaluation import selection
from menet_jax.evaluation.draw_options import Common, Grid, Scales, Worst
from menet_jax.evaluation.inputs import untrained
from menet_jax.evaluation.map_folders import by_stem
from menet_jax.evaluation.options import map_kind
from menet_jax.evaluation.predictor import Predictor, look_inside
from menet_jax.evaluation.scoring import ImageResult, score_networks
from menet_jax.images.distortions import add_noise, compress_jpeg
from menet_jax.images.maps import quantise, read_map
from menet_jax.images.opening import UnreadableImageError
from menet_jax.model.inference import Kind
from menet_jax.reporting.plots.comparisons import check_methods, comparison, failures
from menet_jax.reporting.plots.page import save
from menet_jax.reporting.plots.scales import scale_maps
from menet_jax.runtime import devices
from menet_jax.runtime.cli import named, run_command
from menet_jax.runtime.interrupts import uninterrupted
from menet_jax.runtime.parallel import workers
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import composed, say, warn
from menet_jax.training.run import TrainedRun, load_run

ROWS = 5
"""Images of a comparison where none are named."""


def grid(options: Grid) -> Callable[[], Figure]:
    """What draws the comparison; ValueError or OSError says what cannot be used."""
    runs, folders = named("--run", options.run), named("--maps", options.maps)
    found = {name: by_stem(folder)[0] for name, folder in folders}
    kind = map_kind(options.probability)
    trained = {name: _load(folder, options) for name, folder in runs}
    for run in trained.values():
        run.check_map(kind)
    sources = _open(options)
    examples = selection.by_stem(sources, options.images) if options.images else selection.spread(sources, ROWS)
    stems = [composed(Path(example.file_name).stem) for example in examples]
    for name, folder in folders:
        missing = [stem for stem in stems if stem not in found[name]]
        if missing:
            raise ValueError(f"--maps {name}={folder}: holds no map of {', '.join(missing)}")
    given = {name: [read_map(files[stem]) for stem in stems] for name, files in found.items()}
    heading, shown, notes = _distort(options, examples)
    check_methods([*trained, *found], heading)

    def figure() -> Figure:
        predicted = {name: _predict(name, run, shown, kind) for name, run in trained.items()}
        if heading and given:
            say(f"note: {', '.join(given)}: drawn as they are; only you know that they are of these distorted images")
        return comparison(
            [example.image for example in examples],
            [example.mask for example in examples],
            {**predicted, **given},
            (heading, shown) if heading else None,
            notes,
        )

    return figure


def scales(options: Scales) -> Callable[[], Figure]:
    """What draws the scale maps; ValueError or OSError says what cannot be used."""
    [(name, folder)] = named("--run", [options.run])
    run = _load(folder, options)
    model = run.config.model
    if model.kind != "menet" or not model.multi_scale:
        why = "it was trained without multi_scale" if model.kind == "menet" else f"it is of kind {model.kind}"
        raise ValueError(f"--run {options.run}: its network has no scale maps, for {why}")
    [example] = selection.by_stem(_open(options), [options.image])
    say(f"run      {name}: {folder}, {run.history}")

    def figure() -> Figure:
        outputs, maps = look_inside(run.config, run.variables, example.image)
        inside = (outputs.features, outputs.scales, maps.probability, maps.metric)
        return scale_maps(example.image, example.mask, *map(np.asarray, inside))

    return figure


def worst(options: Worst) -> Callable[[], Figure]:
    """What draws a run's failures, each with its scores; ValueError or OSError says what cannot be used."""
    [(name, folder)] = named("--run", [options.run])
    run, kind = _load(folder, options), map_kind(options.probability)
    run.check_map(kind)
    sources = _open(options)
    say(f"run      {name}: {folder}, {run.history}{untrained(run, [kind])}")
    return partial(_failures, options, name, run, kind, sources)


def _failures(options: Worst, name: str, run: TrainedRun, kind: Kind, sources: Sequence[Source]) -> Figure:
    total = sum(map(len, sources))
    predictor = Predictor(run.config, run.variables, jax.local_devices(), min(options.batch_size, total))
    results = list[ImageResult]()
    with workers(options.threads, processes=False) as pool, Bar(total=total, unit="image") as bar:
        bar.compiling()
        for outcome in score_networks([predictor], sources, pool, measures=False):
            if isinstance(outcome, UnreadableImageError):
                raise outcome
            results.append(outcome[0][kind])
            bar.update()
    places = selection.worst([result.scores for result in results], options.count)
    if not places:
        raise ValueError(f"--data {options.data}: no image has a salient pixel, so that none can be ranked")
    everything = numbered(sources)
    examples = [source[index] for source, index in (everything[place] for place in places)]
    for place in places:
        scores = results[place].scores
        say(f"{results[place].name}: adaptive_f {scores.adaptive_f:.4f}, mae {scores.mae:.4f}")
    return failures(
        [Path(example.file_name).stem for example in examples],
        [example.image for example in examples],
        [example.mask for example in examples],
        [quantise(getattr(predictor.maps(example.image), kind)) for example in examples],
        [results[place].scores for place in places],
        name,
    )


def run(options: Grid | Scales | Worst) -> int:
    """Do what the command line asks for; the exit status: 0; 1 if the figure cannot be made; 2 for bad input."""
    left = "the figure is whole, or not there"
    return run_command(lambda: opened(options), partial(draw, options.dest), lambda _: left, refusals=(ValueError,))


def opened(options: Grid | Scales | Worst) -> Callable[[], Figure]:
    """What draws the figure; ValueError or OSError says what cannot be used."""
    say(devices.line(devices.start(options.device)))
    match options:
        case Grid():
            return grid(options)
        case Scales():
            return scales(options)
        case Worst():
            return worst(options)


def draw(dest: Path, figure: Callable[[], Figure]) -> int:
    """Draw and write; the exit status."""
    drawn = figure()
    with uninterrupted():
        written = save(drawn, dest.with_suffix(""))
    say(f"wrote {' and '.join(map(str, written))}")
    return 0


def _open(options: Common) -> list[Source]:
    return open_sources(options.data, options.split, options.places(options.skip_bad))


def _load(folder: Path, options: Common) -> TrainedRun:
    return load_run(folder, newest=options.newest, report=warn)


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


def _predict(name: str, run: TrainedRun, images: Sequence[np.ndarray], kind: Kind) -> list[np.ndarray]:
    say(f"run      {name}: {run.history}{untrained(run, [kind])}")
    predictor = Predictor(run.config, run.variables)
    maps = list[np.ndarray]()
    with Bar(total=len(images), desc=name, unit="image") as bar:
        bar.compiling()
        for image in images:
            maps.append(quantise(getattr(predictor.maps(image), kind)))
            bar.update()
    return maps

"""Score runs and other methods' maps:  python -m menet_jax.evaluate --run RUN --data DATASET --dest FOLDER

or  python -m menet_jax.evaluate --maps NAME=FOLDER --masks FOLDER --dest FOLDER, or both at once.
"""

import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import jax
import tyro
from tqdm import tqdm

from menet_jax import devices, reports, tables
from menet_jax.arguments import named, refuse_doubles
from menet_jax.evaluation import ImageResult, Result, open_sources, score_maps, score_run, workers
from menet_jax.map_folders import Match, match
from menet_jax.measures import pysodmetrics
from menet_jax.prediction import Predictor
from menet_jax.runs import TrainedRun, load_run
from menet_jax.sources import NAMED, Source
from menet_jax.training import Maps

MASK_FOLDERS = frozenset(("gt", "mask", "masks"))
"""A folder of masks with one of these names is called by the name of the folder that it is in."""

PROCESSES_FROM = 3000
"""Maps from which on they are scored in processes: about what one core scores in the time that those take to start."""

PROCESSES_FROM_WITH_MEASURES = 200
"""The same with the measures of PySODMetrics, which take far longer."""

LISTED = 20
"""Names printed at most of each kind; the report has all."""


@dataclass(frozen=True)
class Options:
    """Score trained runs on datasets, and any method's saliency maps against masks, in one table.

    Maps are scored in 8 bits at the size of the ground truth, each stretched to 0 ... 255 first, as is usual. Exit
    status: 0; 1 if an image could not be scored, the rest being done; 2 for bad input, nothing being done.
    """

    run: tuple[str, ...] = ()
    """Run directories, as training wrote them. NAME=DIRECTORY calls one otherwise than its directory."""
    data: tuple[str, ...] = ()
    """Datasets to score the runs on: names or folders, as in training."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which images of the datasets."""
    maps: tuple[str, ...] = ()
    """Folders of saliency maps, of any size and bit depth; NAME=FOLDER calls one otherwise than its folder."""
    masks: Path | None = None
    """Folder of masks to score the maps against, matched by stem."""
    dest: Path | None = None
    """Folder for tables, scores of every image, PR curves; none given: the table is only printed."""
    overwrite: bool = False
    """Replace the results in that folder."""
    measures: bool = False
    """S-measure, E-measure and weighted F too, by PySODMetrics."""
    newest: bool = False
    """Use the newest checkpoint of a run, not the best."""
    batch_size: int = 8
    """Images computed at once; rounded up to a multiple of the devices."""
    threads: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    """Threads, or for many maps processes, that decode and score images; by default one for each core."""
    skip_bad: bool = False
    """Prepare a dataset without its unreadable or unpaired files, instead of stopping at them."""
    cache: Path | None = None
    """Where prepared datasets are kept; none given: where TFDS keeps them."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Fail unless JAX computes there; none given: wherever JAX does by default."""


class Dataset(NamedTuple):
    """A dataset to score runs on: its name, what tells its ground truth from others', and the splits of it."""

    name: str
    truth: str
    sources: list[Source]


class Work(NamedTuple):
    """All there is to score, opened and checked: runs on datasets, and folders of maps."""

    datasets: list[Dataset]
    runs: list[tuple[str, str, TrainedRun]]  # name, source
    matches: list[tuple[str, str, Match]]  # name, source
    masks_name: str
    masks_truth: str


def prepare(options: Options) -> Work:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    _check_flags(options)
    if options.measures:
        pysodmetrics()
    runs, folders = named("--run", options.run), named("--maps", options.maps)
    refuse_doubles("methods", [name for name, _ in (*runs, *folders)], "name them, NAME=FOLDER")
    _check_dest(options)
    masks = options.masks.expanduser().resolve() if options.masks else Path()
    dataset = masks.parent if masks.name.lower() in MASK_FOLDERS else masks
    matches = [(name, str(folder), match(folder, masks)) for name, folder in folders]
    trained = [(name, folder, load_run(folder, newest=options.newest, report=_warn)) for name, folder in runs]
    refuse_doubles("datasets", [Path(spec).resolve().name for spec in options.data], "score them one after the other")
    datasets = [_open(options, spec) for spec in options.data]  # last, for a new one takes its time
    if options.dest:
        options.dest.mkdir(parents=True, exist_ok=True)
    return Work(
        datasets,
        [(name, f"{folder}, step {run.step}", run) for name, folder, run in trained],
        matches,
        dataset.name,
        str(dataset),
    )


def describe(options: Options, work: Work, used: Sequence[jax.Device]) -> str:
    """What the command says before it starts."""
    lines = [f"devices  {len(used)} × {used[0].device_kind} ({used[0].platform})"] if used else []
    lines += [f"data     {source.summary()}" for dataset in work.datasets for source in dataset.sources[:1]]
    for name, source, run in work.runs:
        score, value = run.score
        weights = {"metric": run.config.loss.metric, "probability": run.config.loss.cross_entropy}
        untrained = "".join(f"; its loss did not train the {kind} map" for kind in weights if not weights[kind])
        validated = "not validated" if value is None else f"validation {score} {value:.3f}"
        lines.append(f"run      {name}: {source}, {validated}{untrained}")
    lines += [
        f"maps     {name}: {source}, {len(found.pairs):,} of {len(found):,}" for name, source, found in work.matches
    ]
    return "\n".join(lines)


def evaluate(options: Options, work: Work, used: Sequence[jax.Device]) -> list[Result]:
    """Score everything, with a progress bar; folders of maps first."""
    maps = sum(len(found.pairs) for _, _, found in work.matches)
    per_run = sum(len(source) for dataset in work.datasets for source in dataset.sources)
    processes = maps >= (PROCESSES_FROM_WITH_MEASURES if options.measures else PROCESSES_FROM)
    with tqdm(total=maps + len(work.runs) * per_run, unit="image", dynamic_ncols=True) as bar:
        with workers(options.threads, processes=processes) as pool:
            results = [_score_folder(options, work, entry, pool, bar) for entry in work.matches]
        with workers(options.threads, processes=False) as pool:
            for name, source, run in work.runs:
                predictor = Predictor(run.config, run.variables, used, min(options.batch_size, per_run))
                for dataset in work.datasets:
                    bar.set_description(f"{name} on {dataset.name}")
                    results += _score_dataset(options, predictor, (name, source), dataset, pool, bar)
    return results


def irregularities(result: Result) -> tuple[list[str], list[str]]:
    """What left images of a result without score, and what else is to be known of its files, a line each."""
    where = f"{result.method} ({result.source})"
    errors = [f"{where}: no map of {_some(result.missing)}"] if result.missing else []
    errors += [f"{where}: cannot be read: {_some(result.unreadable, '; ')}"] if result.unreadable else []
    notes = [f"{where}: of no mask: {_some(result.extra)}"] if result.extra else []
    notes += [f"{where}: resized to its mask: {_some(result.resized)}"] if result.resized else []
    notes += [f"masks of {result.dataset}: not images: {_some(result.no_masks)}"] if result.no_masks else []
    return errors, notes


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Options`."""
    try:
        options = tyro.cli(Options, args=arguments, prog="python -m menet_jax.evaluate")
        used = devices.select(options.device) if options.run else []
        devices.enable_compilation_cache()
        work = prepare(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe(options, work, used))
    try:
        results = evaluate(options, work, used)
        print(tables.as_text(reports.records(results), reports.columns(options.measures)))
        found = [irregularities(result) for result in results]
        for note in dict.fromkeys(note for _, notes in found for note in notes):
            print(f"note: {note}")
        for problem in (problem for problems, _ in found for problem in problems):
            print(f"error: {problem}", file=sys.stderr)
        if options.dest:
            written = reports.write(results, options.measures, options.dest)
            print(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0 if all(result.complete for result in results) else 1


def _score_folder(
    options: Options, work: Work, entry: tuple[str, str, Match], pool: Executor, bar: "tqdm[NoReturn]"
) -> Result:
    name, source, found = entry
    bar.set_description(name)
    images, unreadable = list[ImageResult](), list[str]()
    for outcome in score_maps(found, pool, measures=options.measures):
        if isinstance(outcome, ImageResult):
            images.append(outcome)
        else:
            unreadable.append(outcome)
        bar.update()
    return Result(
        work.masks_name,
        work.masks_truth,
        name,
        "given",
        source,
        len(found),
        tuple(images),
        found.missing,
        tuple(unreadable),
        found.extra,
        found.no_masks,
    )


def _score_dataset(
    options: Options,
    predictor: Predictor,
    run: tuple[str, str],
    dataset: Dataset,
    pool: Executor,
    bar: "tqdm[NoReturn]",
) -> list[Result]:
    images: dict[str, list[ImageResult]] = {kind: [] for kind in Maps._fields}
    for split in dataset.sources:
        for both in score_run(predictor, split, pool, threads=options.threads, measures=options.measures):
            for kind, image in both.items():
                images[kind].append(image)
            bar.update()
    return [
        Result(dataset.name, dataset.truth, run[0], kind, run[1], len(scored), tuple(scored))
        for kind, scored in images.items()
    ]


def _check_flags(options: Options) -> None:
    for name in ("batch_size", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)}: must be at least 1")
    if not options.run and not options.maps:
        raise ValueError("nothing to score: give --run RUN --data DATASET, or --maps NAME=FOLDER --masks FOLDER")
    if bool(options.run) != bool(options.data):
        raise ValueError("--run and --data belong together: runs are scored on datasets")
    if bool(options.maps) != (options.masks is not None):
        raise ValueError("--maps and --masks belong together: maps are scored against a folder of masks")


def _check_dest(options: Options) -> None:
    dest = options.dest
    if dest and dest.exists() and not dest.is_dir():
        raise ValueError(f"--dest {dest}: is a file, and a folder is needed")
    if dest and (dest / reports.RESULTS).exists() and not options.overwrite:
        raise ValueError(f"--dest {dest}: holds results already; replace them with --overwrite, or name another folder")


def _open(options: Options, spec: str) -> Dataset:
    sources = open_sources(spec, options.split, options.cache, options.skip_bad)
    folder = Path(spec).expanduser().resolve()
    name, truth = (spec, spec) if spec in NAMED else (folder.name, str(folder))
    part = "" if options.split == "all" else f" ({options.split})"
    return Dataset(name + part, truth + part, sources)


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return separator.join(names[:LISTED]) + more


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

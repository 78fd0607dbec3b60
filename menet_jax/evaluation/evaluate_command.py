"""The command `python -m menet_jax.evaluate`: what it says and does."""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

from menet_jax.evaluation import report
from menet_jax.evaluation.inputs import (
    Dataset,
    NamedRun,
    dataset_notes,
    find_overlaps,
    open_datasets,
    open_runs,
    published_notes,
    recipes,
)
from menet_jax.evaluation.map_folders import Match, match
from menet_jax.evaluation.options import Evaluate
from menet_jax.evaluation.predictor import Predictor
from menet_jax.evaluation.scoring import ImageResult, Result, score_folder, score_networks
from menet_jax.images.files import mask_notes
from menet_jax.images.opening import UnreadableImageError
from menet_jax.metrics.measures import pysodmetrics
from menet_jax.runtime import devices
from menet_jax.runtime.cli import named, run_command
from menet_jax.runtime.parallel import workers
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.text import complain, composed, listed, say

MASK_FOLDERS = frozenset(("gt", "ground_truth_mask", "mask", "masks"))
"""A folder of masks with one of these names is called by the name of the folder that it is in."""

PROCESSES_FROM = 3000
"""Number of maps from which processes score them: about as many as one core scores while processes start."""

PROCESSES_FROM_WITH_MEASURES = 200
"""The same number with the measures of PySODMetrics, which take far longer."""


class Work(NamedTuple):
    """The runs, datasets and folders of maps to score, opened and checked, and the devices to run on."""

    used: Sequence[jax.Device]
    datasets: list[Dataset]
    runs: list[NamedRun]
    matches: list[tuple[str, str, Match]]  # name, source
    masks_name: str
    masks_truth: str

    def published(self) -> dict[str, str]:
        """Ground truth → the name that the paper may have for it; only those that its numbers may be of."""
        names = {dataset.truth: dataset.published for dataset in self.datasets if dataset.published}
        return names | ({self.masks_truth: self.masks_name} if self.matches else {})


def prepare(options: Evaluate) -> Work:
    """Open and check everything, before anything is computed; ValueError or OSError says what cannot be used."""
    used = devices.start(options.device) if options.run else []
    if options.measures:
        pysodmetrics()
    masks = at_home(options.masks).resolve() if options.masks else Path()
    dataset = masks.parent if masks.name.lower() in MASK_FOLDERS else masks
    matches = [(name, str(folder), match(folder, masks)) for name, folder in named("--maps", options.maps)]
    trained = open_runs(options)
    datasets = open_datasets(options)  # last, for a new one takes its time
    trained = find_overlaps(trained, datasets)
    if options.dest:
        options.dest.mkdir(parents=True, exist_ok=True)
    return Work(used, datasets, trained, matches, dataset.name, str(dataset))


def evaluate(options: Evaluate, work: Work) -> list[Result]:
    """Score everything, with a progress bar; folders of maps first."""
    maps = sum(len(found.pairs) for _, _, found in work.matches)
    per_run = sum(dataset.images for dataset in work.datasets)
    processes = maps >= (PROCESSES_FROM_WITH_MEASURES if options.measures else PROCESSES_FROM)
    with Bar(total=maps + len(work.runs) * per_run, unit="image") as bar:
        with workers(options.threads, processes=processes) as pool:
            results = [_score_folder(options, work, entry, pool, bar) for entry in work.matches]
        if work.runs:
            results += _score_runs(options, work, bar)
    return results


def irregularities(result: Result) -> tuple[list[str], list[str]]:
    """Errors, which left images of a result without score, and notes on its other files, a line each."""
    where = f"{result.method} ({result.source})"
    errors = [f"{where}: no map of {listed(result.missing)}"] if result.missing else []
    errors += [f"{where}: cannot be read: {listed(result.unreadable, '; ')}"] if result.unreadable else []
    notes = [f"{where}: of no mask: {listed(result.extra)}"] if result.extra else []
    notes += [f"{where}: resized to its mask: {listed(result.resized)}"] if result.resized else []
    notes += [f"masks of {result.dataset}: not images: {listed(result.no_masks)}"] if result.no_masks else []
    return errors, notes


def masks_notes(results: Sequence[Result]) -> list[str]:
    """Notes on the masks that maps out of files were scored against, a line for each folder of them."""
    notes = []
    for truth in dict.fromkeys(result.truth for result in results if result.kind == "given"):
        group = [result for result in results if result.truth == truth and result.kind == "given"]
        masks = {composed(Path(image.name).stem): image for result in group for image in result.images}.values()
        found = mask_notes(len(masks), sum(each.gray_mask for each in masks), sum(each.empty_mask for each in masks))
        notes += [f"masks of {group[0].dataset}: {'; '.join(found)}"] if found else []
    return notes


def do(options: Evaluate, work: Work) -> int:
    """Say what there is to score, score it and report; the exit status."""
    say(
        *([devices.line(work.used)] if work.used else []),
        *(f"data     {dataset.note}" for dataset in work.datasets),
        *(f"run      {run.summary()}" for run in work.runs),
        *(f"maps     {name}: {source}, {len(found.pairs):,} of {len(found):,}" for name, source, found in work.matches),
    )
    results = evaluate(options, work)
    published = work.published() if options.published else {}
    names = [*(each.published or each.name for each in work.datasets), *([work.masks_name] if work.matches else [])]
    of_rows = [*(published_notes(names) if options.published else []), *masks_notes(results)]
    notes = [*dataset_notes(work.datasets, work.runs), *of_rows]
    tables = report.tables(results, options.measures, published, recipes(work.runs), notes)
    say(*(table.text() for table in tables))
    found = [irregularities(result) for result in results]
    for note in dict.fromkeys([*of_rows, *(note for _, of_files in found for note in of_files)]):
        say(f"note: {note}")
    for problem in dict.fromkeys(problem for problems, _ in found for problem in problems):
        complain(problem)
    if options.dest:
        written = report.write(options.dest, tables, results, published)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    return 0 if all(result.complete for result in results) else 1


def run(options: Evaluate) -> int:
    """Do what the command line asks for; the exit status, see `Evaluate`."""
    return run_command(lambda: prepare(options), partial(do, options), lambda _: "nothing was written")


def _score_folder(options: Evaluate, work: Work, entry: tuple[str, str, Match], pool: Executor, bar: Bar) -> Result:
    name, source, found = entry
    bar.set_description(name)
    images, unreadable = list[ImageResult](), list[str]()
    for outcome in score_folder(found, pool, measures=options.measures, graded=options.graded_masks):
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


def _score_runs(options: Evaluate, work: Work, bar: Bar) -> list[Result]:
    """The results of all runs on all datasets, run by run."""
    batch = min(options.batch_size, max(dataset.images for dataset in work.datasets))
    predictors = [Predictor(run.trained.config, run.trained.variables, work.used, batch) for run in work.runs]
    results = [list[Result]() for _ in work.runs]
    bar.compiling()
    with workers(options.threads, processes=False) as pool:
        for dataset in work.datasets:
            bar.set_description(dataset.name)
            images = [{kind: list[ImageResult]() for kind in predictor.kinds} for predictor in predictors]
            unreadable = list[str]()
            for outcome in score_networks(predictors, dataset.sources, pool, measures=options.measures):
                if isinstance(outcome, UnreadableImageError):
                    unreadable.append(str(outcome))
                else:
                    for of_run, scored in zip(images, outcome, strict=True):
                        for kind, image in scored.items():
                            of_run[kind].append(image)
                bar.update(len(work.runs))
            for run, found, of_kinds in zip(work.runs, results, images, strict=True):
                found += [
                    Result(
                        dataset.name,
                        dataset.truth,
                        run.name,
                        kind,
                        run.source,
                        dataset.images,
                        tuple(of_kind),
                        unreadable=tuple(unreadable),
                        seen=run.overlaps.get(dataset.truth),
                    )
                    for kind, of_kind in of_kinds.items()
                ]
    return [result for found in results for result in found]

"""The command `python -m menet_jax.robustness distortion`: its work and its messages."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

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
from menet_jax.evaluation.predictor import Predictor
from menet_jax.robustness.conditions import Condition, Conditions
from menet_jax.robustness.distortion import report
from menet_jax.robustness.distortion.study import Outcome, folders, study
from menet_jax.robustness.options import Distortion
from menet_jax.runtime import devices
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.parallel import workers
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.text import complain, counted, say


class Work(NamedTuple):
    """The datasets, runs and conditions, opened and checked."""

    wanted: Conditions
    datasets: list[Dataset]
    runs: list[NamedRun]
    saved: dict[tuple[str, Condition], Path]

    @property
    def maps(self) -> int:
        """Number of maps to score; without runs, of images to save."""
        images = sum(dataset.images for dataset in self.datasets)
        return images * len(self.wanted.all()) * max(len(self.runs), 1)


def prepare(options: Distortion) -> Work:
    """Open and check everything, before anything is computed; ValueError or OSError says what cannot be used."""
    wanted = options.conditions()
    runs = open_runs(options)
    datasets = open_datasets(options)  # last, for a new one takes its time
    saved = folders(at_home(options.save_images), datasets, wanted) if options.save_images else {}
    for folder in saved.values():
        if folder.exists():
            raise ValueError(f"--save-images {options.save_images}: holds {folder.name} already; name another folder")
    runs = find_overlaps(runs, datasets)
    for folder in saved.values():
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True)
    if options.dest:
        options.dest.mkdir(parents=True, exist_ok=True)
    return Work(wanted, datasets, runs, saved)


def _opened_lines(options: Distortion, work: Work, used: Sequence[jax.Device]) -> list[str]:
    lines = [devices.line(used, width=12)] if used else []
    lines += [f"data         {dataset.sources[0].summary()}" for dataset in work.datasets]
    lines += [f"run          {run.summary()}" for run in work.runs]
    where = "the network's size" if options.after_resizing else "the images' own size"
    labels = ", ".join(condition.label for condition in work.wanted.all())
    lines += [f"distortions  {labels}; at {where}; seed {options.seed}"]
    lines += [f"saving       {len(work.saved)} folders in {options.save_images}"] if work.saved else []
    return lines


def run(options: Distortion) -> int:
    """Do what the command line asks for; the exit status, see `Distortion`."""
    whole = f"; the images in {options.save_images} are whole, but not all" if options.save_images else ""
    return run_command(
        lambda: (devices.start(options.device) if options.run else [], prepare(options)),
        lambda opened: do(options, *opened),
        lambda _: f"no results were written{whole}",
    )


def do(options: Distortion, used: Sequence[jax.Device], work: Work) -> int:
    """Score, save and report; the exit status."""
    say(*_opened_lines(options, work, used))
    outcomes, problems = _study(options, work, used)
    if outcomes:
        _report(options, work, outcomes)
    if work.saved:
        say(f"saved {len(work.saved)} folders of images and masks in {options.save_images}")
    if problems:
        complain(f"{counted(len(problems), 'image')} could not be read or distorted:", problems)
    return 1 if problems else 0


def _study(options: Distortion, work: Work, used: Sequence[jax.Device]) -> tuple[list[Outcome], list[str]]:
    problems = list[str]()
    with Bar(total=work.maps, unit="image") as bar, workers(options.threads, processes=False) as pool:
        batch = min(options.batch_size, work.maps)
        predictors = [Predictor(run.trained.config, run.trained.variables, used, batch) for run in work.runs]
        if predictors:
            bar.compiling()
        outcomes = study(
            work.datasets,
            work.runs,
            predictors,
            work.wanted,
            seed=options.seed,
            after_resizing=options.after_resizing,
            saved=work.saved,
            pool=pool,
            done=bar.update,
            problem=problems.append,
        )
    return outcomes, problems


def _report(options: Distortion, work: Work, outcomes: Sequence[Outcome]) -> None:
    names = [dataset.published or dataset.name for dataset in work.datasets]
    of_published = published_notes(names) if options.published else []
    notes = [*dataset_notes(work.datasets, work.runs), *of_published]
    tables = report.tables(outcomes, work.wanted, options.published, recipes(work.runs), notes)
    shown = [table for table in tables if work.wanted.fixed or not table.stem.startswith("strengths")]
    say("\n\n".join(table.text() for table in shown), *(f"note: {note}" for note in of_published))
    if options.dest:
        settings = {"seed": options.seed, "after_resizing": options.after_resizing}
        written = report.write(options.dest, tables, outcomes, work.wanted, settings, options.published)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")

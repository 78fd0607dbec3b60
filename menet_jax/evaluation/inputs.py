"""Runs and datasets of the commands that score, opened and checked before anything is computed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from menet_jax.data import overlaps
from menet_jax.data.overlaps import Overlap, SeenPictures
from menet_jax.data.sources import NAMED, Source, open_all, open_sources, place
from menet_jax.evaluation.options import InputOptions
from menet_jax.reporting import published
from menet_jax.runtime.cli import named, refuse_doubles
from menet_jax.runtime.text import listed, warn
from menet_jax.training.config import recipe
from menet_jax.training.run import TrainedRun, load_run

PUBLISHED_SPLITS = ("test", "all")
"""Splits beside whose scores published ones are of use."""


class Dataset(NamedTuple):
    """A dataset to score runs on.

    Attributes:
        name: what it is called, with the split.
        truth: tells its ground truth from others'.
        sources: the splits of it.
        published: what the paper may call it; None if these are not the images that it scores.
    """

    name: str
    truth: str
    sources: list[Source]
    published: str | None

    @property
    def note(self) -> str:
        """A line for the tables: counts, how the images were split, what was skipped."""
        return self.sources[0].summary()

    @property
    def images(self) -> int:
        """Number of images in all sources."""
        return sum(len(source) for source in self.sources)


class NamedRun(NamedTuple):
    """A run with its name and its source, which are printed with every number of it.

    Attributes:
        seen: the pictures that it has seen; None if that is not known.
        overlaps: of each dataset that it is scored on, by `Dataset.truth`, which images those are; of none if it is not
            known what it has seen.
    """

    name: str
    source: str
    trained: TrainedRun
    seen: SeenPictures | None = None
    overlaps: Mapping[str, Overlap] = {}

    def mark(self, dataset: Dataset, among: Collection[str] | None = None) -> str:
        """The mark beside the number of images in a table: how many of them the run has seen."""
        return self.overlaps[dataset.truth].mark(among) if dataset.truth in self.overlaps else ""

    def summary(self) -> str:
        """One line for the user."""
        score, value = self.trained.score
        validated = "not validated" if value is None else f"validation {score} {value:.3f}"
        without_loss = untrained(self.trained, self.trained.config.model.maps)
        unknown = "" if self.seen or self.trained.config.origin else "; which pictures it was trained on is not kept"
        return f"{self.name}: {self.source}, {validated}{without_loss}{unknown}"


def untrained(run: TrainedRun, kinds: Collection[str]) -> str:
    """What to say of a run's maps of these kinds that its loss did not train; empty if there are none."""
    return "".join(f"; its loss did not train the {kind} map" for kind in kinds if not run.config.loss.trains(kind))


def open_runs(options: InputOptions) -> list[NamedRun]:
    """Load the runs. Raises ValueError or FileNotFoundError as `load_run` does."""
    runs = []
    for name, folder in named("--run", options.run):
        run = load_run(folder, newest=options.newest, report=warn)
        trained_on = ", trained with distortions" if run.config.data.distort else ""
        runs.append(NamedRun(name, f"{folder}, {run.history}{trained_on}", run, overlaps.load(folder)))
    return runs


def recipes(runs: Sequence[NamedRun]) -> dict[str, str]:
    """Names of runs that differ by their seed alone → the name of their group, the common start of theirs."""
    together: dict[str, list[str]] = {}
    for run in runs:
        if run.trained.config.origin is None:
            together.setdefault(recipe(run.trained.config), []).append(run.name)
    several = [names for names in together.values() if len(names) > 1]
    starts = [_start(names).rstrip("-_. ") for names in several]
    return {
        name: start if start and starts.count(start) == 1 else ", ".join(names)
        for names, start in zip(several, starts, strict=True)
        for name in names
    }


def _start(names: Sequence[str]) -> str:
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letter for letter, *_ in alike)


def find_overlaps(runs: Sequence[NamedRun], datasets: Sequence[Dataset]) -> list[NamedRun]:
    """The runs, with the images of the datasets that they have seen; the user is warned of these."""
    found = []
    for run in runs:
        seen = run.seen
        if seen is not None:
            run = run._replace(overlaps={each.truth: overlaps.find(seen, each.sources) for each in datasets})
        for note in _overlap_notes(run, datasets):
            warn(note)
        found.append(run)
    return found


def _overlap_notes(run: NamedRun, datasets: Sequence[Dataset]) -> Iterator[str]:
    """Sentences on the datasets' images that a run has seen, one for each dataset; or that this is not known."""
    if run.seen is None and any(source.thumbnails for each in datasets for source in each.sources):
        yield f"{run.name}: not checked for images that it was trained on, which are not known"
    means = {"trained": "its scores there are flattered", "validated": "its best checkpoint was chosen by them"}
    for dataset in datasets:
        seen = run.overlaps[dataset.truth]._asdict() if dataset.truth in run.overlaps else {}
        for what, names in seen.items():
            if names:
                yield (
                    f"{run.name} was {what} on {len(names):,} of the {dataset.images:,} images of {dataset.name}, or "
                    f"nearly the same, and {means[what]}: {listed(names)}"
                )


def open_datasets(options: InputOptions) -> list[Dataset]:
    """Open the datasets, preparing new ones, which takes its time.

    Raises:
        ValueError, FileNotFoundError: as `open_sources` does; or two have the same name.
    """
    refuse_doubles("datasets", [_dataset_name(spec) for spec in options.data], "score them one after the other")
    return open_all(partial(_open, options, spec) for spec in options.data)


def dataset_notes(datasets: Sequence[Dataset], runs: Sequence[NamedRun]) -> list[str]:
    """Notes for the tables, a line each, on overlaps with training images and on the datasets.

    The runs are those that `find_overlaps` returns.
    """
    return [*(note for run in runs for note in _overlap_notes(run, datasets)), *(each.note for each in datasets)]


def published_notes(names: Collection[str]) -> list[str]:
    """Notes for the tables, a line each, on the published rows beside results on datasets of these names."""
    names = dict.fromkeys(names)
    unknown = [name for name in names if published.dataset_name(name) is None]
    notes = [
        "published: the paper's own numbers, adaptive_f and mae, of MEnet's metric map; the images, distortions and "
        "programs behind them need not be those of the other rows"
    ]
    if unknown:
        notes.append(
            f"published: the paper has no numbers of {', '.join(unknown)}; it has of "
            f"{', '.join(published.dataset_names())}, recognised by these names"
        )
    return notes[len(unknown) == len(names) :]  # the first note is on published rows: without a row, it is left out


def _dataset_name(spec: str) -> str:
    return spec if spec in NAMED else Path(place(spec)).name


def _open(options: InputOptions, spec: str) -> Dataset:
    sources = open_sources(spec, options.split, options.places(options.skip_bad))
    name, truth = _dataset_name(spec), place(spec)
    part = "" if options.split == "all" else f" ({options.split})"
    return Dataset(name + part, truth + part, sources, name if options.split in PUBLISHED_SPLITS else None)

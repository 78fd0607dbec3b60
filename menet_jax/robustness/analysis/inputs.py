"""What the commands that measure images have in common: what they open, keep and say."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn, Protocol, TypeVar, runtime_checkable

import jax
from tqdm import tqdm

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun, find_overlaps, open_datasets, open_runs
from menet_jax.evaluation.options import InputOptions
from menet_jax.robustness.analysis.results_cache import ResultsCache
from menet_jax.robustness.analysis.subject import RULE, Place, Subject, choose, subject
from menet_jax.robustness.options import ReadingName
from menet_jax.runtime import devices
from menet_jax.runtime.cli import named, run_command
from menet_jax.runtime.text import complain, say, warn

CACHE = "images.jsonl"
"""In --dest: what was measured of each image, as it came."""


class Subjects(NamedTuple):
    """What is to be measured, opened and checked."""

    runs: list[tuple[NamedRun, Subject]]
    datasets: list[tuple[Dataset, list[Place]]]
    cache: ResultsCache

    def subject(self, run: NamedRun) -> Subject:
        """The subject of a run."""
        [found] = [each for named_run, each in self.runs if named_run.name == run.name]
        return found

    def example(self, dataset: Dataset, file_name: str) -> Example:
        """An image of a dataset, opened again."""
        [places] = [several for each, several in self.datasets if each.truth == dataset.truth]
        place = next(each for each in places if each.file_name == file_name)
        return place.source[place.number]


def open_subjects(options: InputOptions, reading: ReadingName, limit: int | None) -> Subjects:
    """Open the runs, the first `limit` images of each dataset, and the cache in `--dest`, which is made.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    trained = open_runs(options, named("--run", options.run), warn)
    subjects = [(run, subject(run.trained, reading)) for run in trained]
    datasets = [(dataset, choose(dataset.sources, limit)) for dataset in open_datasets(options)]
    marked = find_overlaps([run for run, _ in subjects], [dataset for dataset, _ in datasets], warn)
    runs = [(run, of_run) for run, (_, of_run) in zip(marked, subjects, strict=True)]
    if options.dest:
        options.dest.mkdir(parents=True, exist_ok=True)
    return Subjects(runs, datasets, ResultsCache(options.dest / CACHE if options.dest else None))


def opened_lines(
    runs: Sequence[tuple[NamedRun, Subject]],
    datasets: Sequence[tuple[Dataset, list[Place]]],
    used: Sequence[jax.Device],
) -> list[str]:
    """What is said of it before anything is measured."""
    lines = [f"devices  {devices.described(used)}"]
    lines += [
        f"data     {dataset.sources[0].summary()}: {len(places)} of {dataset.images} images of {dataset.name}"
        for dataset, places in datasets
    ]
    lines += [f"chosen   {RULE}"] * any(len(places) < dataset.images for dataset, places in datasets)
    return [*lines, *(_run_line(run) for run, _ in runs)]


def say_failures(failures: Sequence[str], of: str = "images") -> int:
    """Print what failed; the exit status."""
    if failures:
        complain(f"{len(failures):,} {of} could not be measured:", failures)
    return 1 if failures else 0


@runtime_checkable
class HasCache(Protocol):
    """Work whose results are kept as they come."""

    @property
    def cache(self) -> ResultsCache: ...


Options = TypeVar("Options", bound=InputOptions)
Work = TypeVar("Work", bound=HasCache)


def run_analysis(
    options: Options,
    prepare: Callable[[Options], Work],
    do: Callable[[Options, Sequence[jax.Device], Work], int],
) -> int:
    """`run_command`, on the devices asked for; what an interrupted analysis leaves is its cache."""

    def left(opened: tuple[Sequence[jax.Device], Work]) -> str:
        path = opened[1].cache.path
        if path is None:
            return "nothing was kept, for there is no --dest"
        return f"what was measured is in {path}: go on with the same flags"

    return run_command(
        lambda: (devices.start(options.device), prepare(options)), lambda opened: do(options, *opened), left
    )


def say_reused(cache: ResultsCache, of: int) -> None:
    """Print what an earlier start has left: how many results there were, and how many of them were of use."""
    if cache.damaged:
        warn(f"{cache.path}: {cache.damaged} incomplete lines are passed over, and measured anew")
    if cache.before:
        others = len(cache.before) - len(cache.reused)
        rest = f"; {others} others in it are of other networks, images or settings" if others else ""
        say(f"reusing  {len(cache.reused)} of {of} results from {cache.path}{rest}")


@contextmanager
def progress(total: int) -> "Iterator[tqdm[NoReturn]]":
    """A bar with the time left."""
    with tqdm(total=total, unit="image", dynamic_ncols=True, smoothing=0.1) as bar:
        yield bar


def _run_line(run: NamedRun) -> str:
    """What is said of a run, and that it is analysed in another precision than it was trained in."""
    other = ", analysed in float32" if run.trained.config.model.precision != "float32" else ""
    return f"run      {run.summary()}; {run.trained.config.data.size}²{other}"

"""Runs and images of the commands that measure images one by one: opened, checked and described."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax

from menet_jax.data.sources import Example, Source, numbered
from menet_jax.evaluation.inputs import Dataset, NamedRun, find_overlaps, open_datasets, open_runs
from menet_jax.robustness.analysis.networks import MeasuredNetwork, measured_network
from menet_jax.robustness.analysis.results_cache import ResultsCache
from menet_jax.robustness.options import MapName, MeasuringOptions
from menet_jax.runtime import devices
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.text import say

Options = TypeVar("Options", bound=MeasuringOptions)

CACHE = "images.jsonl"
"""File in --dest: the results of each image, as they came."""

RULE = "the first by the SHA-256 of their file names: a larger --limit adds images and drops none"


class Place(NamedTuple):
    """The place of an image: its source and its number there."""

    source: Source
    number: int
    file_name: str

    def example(self) -> Example:
        """The image and its mask, opened anew."""
        return self.source[self.number]


def choose(sources: Sequence[Source], limit: int | None) -> list[Place]:
    """The first `limit` images by `RULE`; None: all. It depends on nothing but the names."""
    places = [Place(source, index, source.file_name(index)) for source, index in numbered(sources)]
    return sorted(places, key=lambda place: hashlib.sha256(place.file_name.encode()).digest())[:limit]


class Inputs(NamedTuple):
    """The runs and images to measure, opened and checked."""

    runs: list[tuple[NamedRun, MeasuredNetwork]]
    datasets: list[tuple[Dataset, list[Place]]]
    cache: ResultsCache


def open_inputs(options: MeasuringOptions, name: MapName) -> Inputs:
    """Open the runs, the images of each dataset that are to be measured, and the cache in `--dest`.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    runs = open_runs(options)
    networks = [measured_network(run.trained, name) for run in runs]
    datasets = [(dataset, choose(dataset.sources, options.limit)) for dataset in open_datasets(options)]
    marked = find_overlaps(runs, [dataset for dataset, _ in datasets])
    cache = ResultsCache(options.dest / CACHE if options.dest else None)
    return Inputs(list(zip(marked, networks, strict=True)), datasets, cache)


def run_analysis(
    options: Options,
    name: MapName,
    about: str,
    do: Callable[[Options, Inputs], int],
    refuse: Callable[[Inputs], None] = lambda _: None,
) -> int:
    """Open what is to be measured, on the devices asked for, say so, and do it; the exit status, see `run_command`.

    `name` is of the map that is differentiated. `about` is printed before the work, in a line or several. `refuse`
    raises ValueError for what shows only once everything is open. Interrupted work leaves its cache.
    """

    def opened() -> Inputs:
        devices.start(options.device)
        work = open_inputs(options, name)
        refuse(work)
        return work

    def begin(work: Inputs) -> int:
        if options.dest:
            options.dest.mkdir(parents=True, exist_ok=True)
        say(*_opened_lines(work), about)
        return do(options, work)

    return run_command(opened, begin, _left)


def _left(work: Inputs) -> str:
    if work.cache.path is None:
        return "nothing was kept, for there is no --dest"
    if not len(work.cache):
        return "nothing was measured yet"
    return f"what was measured is in {work.cache.path}: go on with the same flags"


def _opened_lines(work: Inputs) -> list[str]:
    lines = [devices.line(jax.local_devices())]
    lines += [
        f"data     {dataset.sources[0].summary()}: {len(places)} of {dataset.images} images of {dataset.name}"
        for dataset, places in work.datasets
    ]
    lines += [f"chosen   {RULE}"] * any(len(places) < dataset.images for dataset, places in work.datasets)
    for run, _ in work.runs:
        other = ", analysed in float32" if run.trained.config.model.precision != "float32" else ""
        lines.append(f"run      {run.summary()}; {run.trained.config.data.size}²{other}")
    return lines

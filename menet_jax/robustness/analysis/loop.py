"""Measuring all that is asked for: runs at images of datasets, as far as the cache does not have it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import pydantic

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.files import UnreadableImageError
from menet_jax.robustness.analysis.inputs import Subjects, progress, say_reused
from menet_jax.robustness.analysis.results_cache import Determinants
from menet_jax.robustness.analysis.subject import AnySettings, Place, Subject, determinants

Measurement = TypeVar("Measurement")
SettingsT = TypeVar("SettingsT", bound=AnySettings)

Stage = Callable[[str], object]
"""Told what is being computed."""


@dataclass(frozen=True, eq=False)
class Analysis(Generic[Measurement]):
    """Measurements of one run on one dataset.

    Attributes:
        chosen: how many images were to be measured, of those that the dataset has.
        images: those that were, in the order in which they were chosen.
    """

    run: NamedRun
    dataset: Dataset
    chosen: int
    images: tuple[Measurement, ...]


def analyse(
    work: Subjects,
    settings: SettingsT,
    measure: Callable[[Subject, Example, SettingsT, Stage], Measurement],
    kind: type[Measurement],
    meaning: Determinants,
) -> tuple[list[Analysis[Measurement]], list[str]]:
    """Measure what the cache does not have, with a progress bar; also, what failed and why.

    Args:
        work: what to measure, and the cache.
        settings: what measurements depend on, besides the network and the image.
        measure: raises ValueError where an image cannot be measured.
        kind: of the measurements, a data class that pydantic reads from JSON and writes to it.
        meaning: of `determinants`.
    """
    adapter = pydantic.TypeAdapter[Measurement](kind)
    to_json = partial(adapter.dump_python, mode="json")
    failures, analyses = list[str](), list[Analysis[Measurement]]()
    total = len(work.runs) * sum(len(places) for _, places in work.datasets)
    with progress(total) as bar:
        for named_run, subject in work.runs:
            for dataset, places in work.datasets:
                images = list[Measurement]()
                for place in places:
                    bar.set_description(f"{named_run.name}, {place.file_name}")
                    try:
                        example = place.source[place.number]
                        of = determinants(subject, example, settings, meaning)
                        compute = partial(measure, subject, example, settings, bar.set_postfix_str)
                        value = work.cache.kept(of, partial(_composed, to_json, compute))
                        images.append(adapter.validate_python(value))
                    except ValueError as error:
                        failures.append(failure(named_run, place, error))
                    bar.update()
                analyses.append(Analysis(named_run, dataset, len(places), tuple(images)))
    say_reused(work.cache, total)
    return analyses, list(dict.fromkeys(failures))


def failure(run: NamedRun, place: Place, error: ValueError) -> str:
    """Why an image could not be measured; one that cannot be read says so itself, and is the same for all runs."""
    return str(error) if isinstance(error, UnreadableImageError) else f"{run.name} on {place.file_name}: {error}"


def _composed(outer: Callable[[Any], Any], inner: Callable[[], Any]) -> Any:
    return outer(inner())

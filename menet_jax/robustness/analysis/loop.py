"""Measuring all that is asked for: runs at images of datasets, as far as the cache does not have it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import pydantic

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.files import UnreadableImageError
from menet_jax.robustness.analysis.inputs import Subjects
from menet_jax.robustness.analysis.results_cache import Determinants
from menet_jax.robustness.analysis.subject import AnySettings, Place, Subject, determinants
from menet_jax.runtime.progress import Bar

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

    `measure` raises ValueError where an image cannot be measured. `kind` is the data class of what it measures, which
    pydantic reads from JSON and writes to it. `meaning` is what its numbers depend on, see `determinants`.
    """
    adapter = pydantic.TypeAdapter[Measurement](kind)
    failures, analyses = list[str](), list[Analysis[Measurement]]()

    def kept(subject: Subject, place: Place, stage: Stage) -> Measurement:
        example = place.source[place.number]
        compute = partial(measure, subject, example, settings, stage)
        of = determinants(subject, example, settings, meaning)
        return adapter.validate_python(work.cache.kept(of, lambda: adapter.dump_python(compute(), mode="json")))

    total = len(work.runs) * sum(len(places) for _, places in work.datasets)
    with Bar(total=total, unit="image", smoothing=0.1, disable=not total) as bar:
        for named_run, subject in work.runs:
            for dataset, places in work.datasets:
                images = list[Measurement]()
                for place in places:
                    bar.set_description(f"{named_run.name}, {place.file_name}")
                    try:
                        images.append(kept(subject, place, bar.set_postfix_str))
                    except UnreadableImageError as error:  # the same for all runs
                        failures.append(str(error))
                    except ValueError as error:
                        failures.append(f"{named_run.name} on {place.file_name}: {error}")
                    bar.update()
                analyses.append(Analysis(named_run, dataset, len(places), tuple(images)))
    work.cache.say_reused()
    return analyses, list(dict.fromkeys(failures))

"""Measuring all that is asked for: runs at images of datasets, as far as the cache does not have it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import pydantic

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.files import UnreadableImageError
from menet_jax.robustness.analysis.inputs import Subjects
from menet_jax.robustness.analysis.results_cache import Determinants, ResultsCache
from menet_jax.robustness.analysis.subject import AnySettings, Place, Subject, determinants
from menet_jax.runtime.progress import Bar

Measurement = TypeVar("Measurement")
SettingsT = TypeVar("SettingsT", bound=AnySettings)

Stage = Callable[[str], object]
"""Told what is being computed."""

Measure = Callable[[Subject, Sequence[Example], SettingsT, Stage], Sequence[Measurement | ValueError]]
"""Measures images; of one that cannot be measured, it gives the reason."""


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
    measure: Measure[SettingsT, Measurement],
    kind: type[Measurement],
    meaning: Determinants,
    *,
    batch_size: int = 1,
) -> tuple[list[Analysis[Measurement]], list[str]]:
    """Measure what the cache does not have, with a progress bar; also, what failed and why.

    `measure` gets as many images at once as `batch_size` says, or fewer. `kind` is the data class of what it measures,
    which pydantic reads from JSON and writes to it. `meaning` is what its numbers depend on, see `determinants`.
    """
    adapter = pydantic.TypeAdapter[Measurement](kind)
    failures, analyses = list[str](), list[Analysis[Measurement]]()

    def opened(places: Sequence[Place]) -> Iterator[Example]:
        for place in places:
            try:
                yield place.source[place.number]
            except UnreadableImageError as error:  # the same for all runs
                failures.append(str(error))

    total = len(work.runs) * sum(len(places) for _, places in work.datasets)
    with Bar(total=total, unit="image", smoothing=0.1, disable=not total) as bar:
        for named_run, subject in work.runs:
            for dataset, places in work.datasets:
                images = list[Measurement]()
                for start in range(0, len(places), batch_size):
                    several = places[start : start + batch_size]
                    bar.set_description(f"{named_run.name}, {several[0].file_name}")
                    examples = list(opened(several))
                    bar.skip(len(several) - len(examples))
                    results = _measured(work.cache, subject, examples, settings, measure, adapter, meaning, bar)
                    for example, result in zip(examples, results, strict=True):
                        if isinstance(result, ValueError):
                            failures.append(f"{named_run.name} on {example.file_name}: {result}")
                        else:
                            images.append(result)
                analyses.append(Analysis(named_run, dataset, len(places), tuple(images)))
    work.cache.say_reused()
    return analyses, list(dict.fromkeys(failures))


def _measured(
    cache: ResultsCache,
    subject: Subject,
    examples: Sequence[Example],
    settings: SettingsT,
    measure: Measure[SettingsT, Measurement],
    adapter: pydantic.TypeAdapter,
    meaning: Determinants,
    bar: Bar,
) -> list[Measurement | ValueError]:
    """Of each image, what the cache has, or what is measured and kept there."""
    of = [determinants(subject, example, settings, meaning) for example in examples]
    missing = [index for index, each in enumerate(of) if cache.get(each) is None]
    bar.skip(len(of) - len(missing))
    asked = [examples[index] for index in missing]
    found = measure(subject, asked, settings, bar.set_postfix_str) if missing else ()
    results = dict(zip(missing, found, strict=True))

    def kept(index: int) -> Measurement:
        def compute() -> Any:
            if isinstance(result := results[index], ValueError):
                raise result
            return adapter.dump_python(result, mode="json")

        return adapter.validate_python(cache.kept(of[index], compute))

    measurements = [attempt(partial(kept, index)) for index in range(len(of))]
    if missing:
        bar.update(len(missing))
    return measurements


def attempt(compute: Callable[[], Measurement]) -> Measurement | ValueError:
    """What is computed, or the ValueError that says why not."""
    try:
        return compute()
    except ValueError as error:
        return error


def one_by_one(
    measure: Callable[[Subject, Example, SettingsT, Stage], Measurement],
) -> Measure[SettingsT, Measurement]:
    """Measuring images together by a function that measures one, or raises ValueError."""

    def together(
        of: Subject, examples: Sequence[Example], settings: SettingsT, stage: Stage
    ) -> list[Measurement | ValueError]:
        return [attempt(partial(measure, of, example, settings, stage)) for example in examples]

    return together

"""Measuring all that is asked for: runs at images of datasets, as far as the cache does not have it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import pydantic

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.files import UnreadableImageError
from menet_jax.robustness.analysis.inputs import Inputs, Place
from menet_jax.robustness.analysis.networks import AnySettings, MeasuredNetwork, cache_key
from menet_jax.robustness.analysis.results_cache import ResultsCache
from menet_jax.runtime.progress import Bar

Measurement = TypeVar("Measurement")
SettingsT = TypeVar("SettingsT", bound=AnySettings)

Stage = Callable[[str], object]
"""Told what is being computed."""

Measure = Callable[[MeasuredNetwork, Sequence[Example], SettingsT, Stage], Sequence[Measurement | ValueError]]
"""Measures images; of one that cannot be measured, it gives the reason."""


@dataclass(frozen=True, eq=False)
class Analysis(Generic[Measurement]):
    """Measurements of one run on one dataset.

    Attributes:
        places: of the images that were to be measured, of those that the dataset has.
        images: the measurements of those that were, in the order in which they were chosen.
    """

    run: NamedRun
    network: MeasuredNetwork
    dataset: Dataset
    places: Sequence[Place]
    images: tuple[Measurement, ...]

    def example(self, file_name: str) -> Example:
        """One of the images, opened again."""
        return next(place for place in self.places if place.file_name == file_name).example()


def analyse(
    work: Inputs,
    settings: SettingsT,
    measure: Measure[SettingsT, Measurement],
    kind: type[Measurement],
    meaning: Mapping[str, int],
    *,
    batch_size: int = 1,
) -> tuple[list[Analysis[Measurement]], list[str]]:
    """Measure what the cache does not have, with a progress bar; also, what failed and why.

    `measure` gets as many images at once as `batch_size` says, or fewer. `kind` is the data class of what it measures,
    which pydantic reads from JSON and writes to it. `meaning` is what its numbers depend on, see `cache_key`.
    """
    adapter = pydantic.TypeAdapter[Measurement](kind)
    failures, analyses = list[str](), list[Analysis[Measurement]]()

    def opened(places: Sequence[Place]) -> Iterator[Example]:
        for place in places:
            try:
                yield place.example()
            except UnreadableImageError as error:  # the same for all runs
                failures.append(str(error))

    total = len(work.runs) * sum(len(places) for _, places in work.datasets)
    with Bar(total=total, unit="image", smoothing=0.1, disable=not total) as bar:
        measuring = _Measuring(work.cache, settings, measure, adapter, meaning, bar)
        for named_run, network in work.runs:
            for dataset, places in work.datasets:
                images = list[Measurement]()
                for start in range(0, len(places), batch_size):
                    several = places[start : start + batch_size]
                    bar.set_description(f"{named_run.name}, {several[0].file_name}")
                    examples = list(opened(several))
                    bar.skip(len(several) - len(examples))
                    results = measuring.results(network, examples)
                    for example, result in zip(examples, results, strict=True):
                        if isinstance(result, ValueError):
                            failures.append(f"{named_run.name} on {example.file_name}: {result}")
                        else:
                            images.append(result)
                analyses.append(Analysis(named_run, network, dataset, places, tuple(images)))
    work.cache.say_reused()
    return analyses, list(dict.fromkeys(failures))


@dataclass(frozen=True)
class _Measuring(Generic[SettingsT, Measurement]):
    """What all batches of an analysis have in common."""

    cache: ResultsCache
    settings: SettingsT
    measure: Measure[SettingsT, Measurement]
    adapter: Any
    """Pydantic's `TypeAdapter` of the measurement."""
    meaning: Mapping[str, int]
    bar: Bar

    def results(self, network: MeasuredNetwork, examples: Sequence[Example]) -> list[Measurement | ValueError]:
        """Of each image, what the cache has, or what is measured and kept there."""
        of = [cache_key(network, example, self.settings, self.meaning) for example in examples]
        missing = [index for index, each in enumerate(of) if self.cache.get(each) is None]
        self.bar.skip(len(of) - len(missing))
        asked = [examples[index] for index in missing]
        found = self.measure(network, asked, self.settings, self.bar.set_postfix_str) if missing else ()
        measured = dict(zip(missing, found, strict=True))

        def kept(index: int) -> Measurement:
            def compute() -> Any:
                if isinstance(result := measured[index], ValueError):
                    raise result
                return self.adapter.dump_python(result, mode="json")

            read: Measurement = self.adapter.validate_python(self.cache.kept(of[index], compute))
            return read

        results = [attempt(partial(kept, index)) for index in range(len(of))]
        if missing:
            self.bar.update(len(missing))
        return results


def attempt(compute: Callable[[], Measurement]) -> Measurement | ValueError:
    """What is computed, or the ValueError that says why not."""
    try:
        return compute()
    except ValueError as error:
        return error


def one_by_one(
    measure: Callable[[MeasuredNetwork, Example, SettingsT, Stage], Measurement],
) -> Measure[SettingsT, Measurement]:
    """Measuring images together by a function that measures one, or raises ValueError."""

    def together(
        of: MeasuredNetwork, examples: Sequence[Example], settings: SettingsT, stage: Stage
    ) -> list[Measurement | ValueError]:
        return [attempt(partial(measure, of, example, settings, stage)) for example in examples]

    return together

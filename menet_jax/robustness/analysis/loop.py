"""Measuring all that is asked for: runs at images of datasets, as far as the cache does not have it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Generic, TypeVar

import pydantic

from menet_jax.data.sources import Example
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.images.opening import UnreadableImageError
from menet_jax.robustness.analysis.inputs import Inputs, Place
from menet_jax.robustness.analysis.networks import AnySettings, MeasuredNetwork, cache_key
from menet_jax.robustness.analysis.results_cache import CacheKey, ResultsCache
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
        for (run, network), (dataset, places) in product(work.runs, work.datasets):
            images = list[Measurement]()
            for start in range(0, len(places), batch_size):
                several = places[start : start + batch_size]
                bar.set_description(f"{run.name}, {several[0].file_name}")
                examples = list(opened(several))
                keys = [cache_key(network, example, settings, meaning) for example in examples]
                missing = [index for index, key in enumerate(keys) if work.cache.get(key) is None]
                bar.skip(len(several) - len(missing))
                asked = [examples[index] for index in missing]
                found = measure(network, asked, settings, bar.set_postfix_str) if missing else ()
                measured = dict(zip(missing, found, strict=True))
                for index, (example, key) in enumerate(zip(examples, keys, strict=True)):
                    try:
                        images.append(_kept(work.cache, adapter, key, measured.get(index)))
                    except ValueError as error:
                        failures.append(f"{run.name} on {example.file_name}: {error}")
                if missing:
                    bar.update(len(missing))
            analyses.append(Analysis(run, network, dataset, places, tuple(images)))
    work.cache.say_reused()
    return analyses, list(dict.fromkeys(failures))


def _kept(cache: ResultsCache, adapter: Any, key: CacheKey, measured: Measurement | ValueError | None) -> Measurement:
    """What the cache has, or else what was measured, which is kept there; raises ValueError if that is one.

    `adapter` is Pydantic's `TypeAdapter` of the measurement.
    """

    def written() -> Any:
        if isinstance(measured, ValueError):
            raise measured
        return adapter.dump_python(measured, mode="json")

    read: Measurement = adapter.validate_python(cache.kept(key, written))
    return read


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

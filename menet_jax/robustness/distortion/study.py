"""Scores of runs on distorted images (Section IV-F, Table II and Figure 9).

Images are distorted in 8 bits at their own full size, before they are resized for the network, so that what is scored
here is what any program reads from a saved PNG. Each clean image is decoded once for all distortions and runs.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from menet_jax.data.sources import Example, Source, numbered
from menet_jax.evaluation.inputs import Dataset, NamedRun
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.files import Mask, ResizedRgb, png, resize_image
from menet_jax.images.opening import UnreadableImageError
from menet_jax.model.inference import Maps, predict_stream
from menet_jax.reporting.files import file_name
from menet_jax.robustness.conditions import Condition, Conditions
from menet_jax.runtime.parallel import ahead
from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.validation import example_bytes, score_maps


class ImageScore(NamedTuple):
    """Scores of one map of one image under one condition.

    Attributes:
        image: its file name.
        strength: σ or quality that it was distorted with; None for none.
        adaptive_f: F-measure at the adaptive threshold (Eq. 15 and 16).
        mae: mean absolute error (Eq. 17).
    """

    image: str
    strength: float | None
    adaptive_f: float
    mae: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """Scores of one kind of map, metric or probability, of one run on one dataset under one condition."""

    dataset: Dataset
    condition: Condition
    run: NamedRun
    kind: str
    images: tuple[ImageScore, ...]
    """The images that were scored."""

    @property
    def complete(self) -> bool:
        """Whether every image of the dataset was scored."""
        return len(self.images) == self.dataset.images

    def numbers(self) -> dict[str, float]:
        """Means over images of `adaptive_f` and `mae`; empty if there are no images."""
        names = ("adaptive_f", "mae") if self.images else ()
        return {name: float(np.mean([getattr(image, name) for image in self.images])) for name in names}


def folders(dest: Path, datasets: Sequence[Dataset], wanted: Conditions) -> dict[tuple[str, Condition], Path]:
    """The folders of the saved images by dataset and condition: each is a dataset, with `images/` and `masks/`."""
    taken, found = set[str](), dict[tuple[str, Condition], Path]()
    for dataset in datasets:
        name = file_name(dataset.name, taken)
        found |= {(dataset.truth, each): dest / f"{name}_{each.slug}" for each in wanted.all()}
    return found


def study(
    datasets: Sequence[Dataset],
    runs: Sequence[NamedRun],
    predictors: Sequence[Predictor],
    wanted: Conditions,
    *,
    seed: int,
    after_resizing: bool,
    saved: Mapping[tuple[str, Condition], Path],
    pool: Executor,
    done: Callable[[int], object],
    problem: Callable[[str], object],
) -> list[Outcome]:
    """Score every run on every dataset under every condition.

    Args:
        datasets: what to score on.
        runs: what to score; none: images are only saved.
        predictors: of the runs, in their order, all of one batch size.
        wanted: the conditions.
        seed: of noise and random strengths.
        after_resizing: distort images at the network's size instead of their own; nothing is saved then.
        saved: where to save distorted images, as `folders` says; empty: nowhere. The folders exist.
        pool: threads that decode, distort, save and score.
        done: told, now and then, how many maps have been scored, or images saved where there are no runs.
        problem: told of every image that cannot be read or distorted; the others are scored all the same.

    Returns:
        dataset by dataset, and within each condition by condition, run by run, map by map.

    Raises:
        OSError: an image cannot be saved.
    """
    outcomes = []
    sizes = frozenset(predictor.size for predictor in predictors)
    batch = max((predictor.batch_size for predictor in predictors), default=1)
    for dataset in datasets:
        scores = defaultdict[tuple[Condition, int, str], list[ImageScore]](list)
        folder = {condition: saved[dataset.truth, condition] for condition in wanted.all() if saved}
        load = partial(_load, seed=seed, after_resizing=after_resizing, folders=folder, sizes=sizes)
        # At most two batches are decoded ahead, so that memory does not grow with the dataset.
        tasks = _tasks(dataset, wanted.all(), pool, 2 * batch)
        for outcome in predict_stream(
            predictors, tasks, load, _score, bytes_of=_bytes_of, skipped=UnreadableImageError, pool=pool
        ):
            if isinstance(outcome, UnreadableImageError):
                problem(str(outcome))
            else:
                for run, of_kinds in enumerate(outcome.of_runs):
                    for kind, score in of_kinds.items():
                        scores[outcome.condition, run, kind].append(score)
            done(max(len(runs), 1))
        outcomes += [
            Outcome(dataset, condition, runs[run], kind, tuple(scores[condition, run, kind]))
            for condition in wanted.all()
            for run, predictor in enumerate(predictors)
            for kind in predictor.kinds
        ]
    return outcomes


class _Task(NamedTuple):
    """An image, or what is wrong with it, to be distorted."""

    example: Example | UnreadableImageError
    condition: Condition


class _Distorted(NamedTuple):
    """A distorted image without its pixels."""

    name: str
    condition: Condition
    strength: float | None
    mask: Mask


class _Scored(NamedTuple):
    """Scores of a distorted image: for each run, by kind of map."""

    condition: Condition
    of_runs: list[dict[str, ImageScore]]


def _tasks(dataset: Dataset, wanted: Sequence[Condition], pool: Executor, count: int) -> Iterator[_Task]:
    """Every image under every condition; each is decoded once, at most `count` before they are wanted."""
    places = numbered(dataset.sources)
    for example in ahead(pool, _read, places, count, example_bytes):
        yield from (_Task(example, condition) for condition in wanted)


def _read(place: tuple[Source, int]) -> Example | UnreadableImageError:
    source, index = place
    try:
        return source[index]
    except UnreadableImageError as error:
        return error


def _bytes_of(task: _Task) -> int:
    return 0 if isinstance(task.example, UnreadableImageError) else task.example.image.nbytes


def _load(
    task: _Task, seed: int, after_resizing: bool, folders: Mapping[Condition, Path], sizes: Collection[int]
) -> tuple[_Distorted, dict[int, ResizedRgb]]:
    """Distort an image, save it where that is wanted, and resize it for the networks."""
    label = task.condition.label
    if isinstance(task.example, UnreadableImageError):
        raise UnreadableImageError(task.example.name, f"{task.example.reason} ({label})")
    image, mask, file_name = task.example
    name, distortion = Path(file_name).stem, task.condition.distortion
    strength = distortion.strength(name, seed)
    try:
        if after_resizing:
            squares = {size: distortion(resize_image(image, (size, size)), name, seed) for size in sizes}
            return _Distorted(file_name, task.condition, strength, mask), squares
        distorted = distortion(image, name, seed)
    except (OSError, ValueError) as error:  # an image too large for JPEG, for one
        raise UnreadableImageError(file_name, f"{error} ({label})") from error
    if folders:
        for kind, array in (("images", distorted), ("masks", mask)):
            with written_whole(folders[task.condition] / kind / f"{name}.png") as unfinished:
                unfinished.write_bytes(png(array))
    squares = {size: resize_image(distorted, (size, size)) for size in sizes}
    return _Distorted(file_name, task.condition, strength, mask), squares


def _score(image: _Distorted, maps: Sequence[Maps]) -> _Scored:
    of_runs = [
        {
            kind: ImageScore(image.name, image.strength, scores.adaptive_f, scores.mae)
            for kind, scores in score_maps(of_run, image.mask).items()
        }
        for of_run in maps
    ]
    return _Scored(image.condition, of_runs)

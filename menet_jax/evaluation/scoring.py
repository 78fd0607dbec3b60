"""Scoring whole data sets: the maps that a run predicts, and the maps in a folder that any method wrote.

Images are scored in threads or, where there are many, in processes: counting pixels holds Python's lock, so that
threads use little more than one core, but processes take seconds to start.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from menet_jax.data.overlaps import Overlap
from menet_jax.data.pipeline import evaluation_batches
from menet_jax.data.sources import Source
from menet_jax.evaluation.map_folders import Match
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.files import UnreadableImageError, read_mask_file
from menet_jax.images.maps import full_size, read_map, resize_gray_map
from menet_jax.metrics.pysodmetrics import measure
from menet_jax.metrics.scores import DatasetScores, ImageScores, dataset_scores, score_image
from menet_jax.model.inference import Maps

CHUNK = 8  # images that a process takes at once


@dataclass(frozen=True, eq=False)
class ImageResult:
    """Scores of one image.

    Attributes:
        name: of the file that names it: the image's of a dataset, the map's of a folder.
        scores: of its map.
        measures: further measures by name; empty if not asked for.
        resized: whether the map had another size than its mask, and was resized.
        gray_mask: whether the mask was read from a file with gray values, cut at half.
        empty_mask: whether the mask was read from a file, and nothing is salient in it.
    """

    name: str
    scores: ImageScores
    measures: Mapping[str, float]
    resized: bool = False
    gray_mask: bool = False
    empty_mask: bool = False


@dataclass(frozen=True, eq=False)
class Result:
    """Scores of one method's maps on one dataset.

    Attributes:
        dataset: what the dataset is called.
        truth: where its masks are: results with the same truth were scored on the same images.
        method: what the method is called.
        kind: of map: metric or probability for runs, given for maps out of files.
        source: the run and step, or the folder that the maps came from.
        of: how many images the dataset has.
        images: those that were scored.
        missing: names of the masks without map.
        unreadable: file and reason of the maps and masks that could not be read.
        extra: names of files beside the maps that belong to no mask.
        no_masks: names of files beside the masks that are not named like images.
        seen: which of the images the run has seen in training; None if that is not known.
    """

    dataset: str
    truth: str
    method: str
    kind: str
    source: str
    of: int
    images: tuple[ImageResult, ...]
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    no_masks: tuple[str, ...] = ()
    seen: Overlap | None = None

    @property
    def complete(self) -> bool:
        """Whether every image of the dataset was scored."""
        return len(self.images) == self.of

    @property
    def resized(self) -> tuple[str, ...]:
        """Names of the maps of another size than their mask."""
        return tuple(image.name for image in self.images if image.resized)

    def dataset_scores(self) -> DatasetScores | None:
        """Scores over the images; None if there are none."""
        return dataset_scores([image.scores for image in self.images]) if self.images else None

    def numbers(self) -> dict[str, float]:
        """All scores over the images that are single numbers, by name; empty if there are no images."""
        scores = self.dataset_scores()
        if scores is None:
            return {}
        names = self.images[0].measures
        return scores.scalars() | {
            name: float(np.mean([image.measures[name] for image in self.images])) for name in names
        }


def score_maps(match: Match, pool: Executor, *, measures: bool, graded: bool = False) -> Iterator[ImageResult | str]:
    """Score the maps of a folder at their masks' sizes, in order of name.

    Args:
        match: of `match`.
        pool: of `workers`.
        measures: whether to compute the further measures of `menet_jax.measures` too.
        graded: of `read_mask_file`.

    Yields:
        of each pair: its scores, or what is wrong with which file.
    """
    return pool.map(partial(_score_pair, measures=measures, graded=graded), match.pairs, chunksize=CHUNK)


def score_run(
    predictor: Predictor, source: Source, pool: Executor, *, threads: int, measures: bool
) -> Iterator[Mapping[str, ImageResult]]:
    """Predict and score the images of a dataset, in its order. While one batch is scored, the next is computed.

    Every map is enlarged to its ground truth's size and rounded to 8 bits, as `menet_jax.predict` saves it.

    Args:
        predictor: the network.
        source: the dataset.
        pool: threads that score.
        threads: threads that decode images.
        measures: whether to compute the further measures of `menet_jax.measures` too.

    Yields:
        of each image the scores of both maps, `metric` and `probability`.
    """
    batches = evaluation_batches(source, size=predictor.size, batch_size=predictor.batch_size, threads=threads)
    scored: deque[Iterator[Mapping[str, ImageResult]]] = deque()
    for batch in batches:
        maps = predictor.evaluate(list(batch["image"][batch["valid"]]))
        score = partial(score_both, measures=measures)
        scored.append(pool.map(score, batch["file_names"], maps, batch["masks"]))
        if len(scored) > 1:
            yield from scored.popleft()
    for rest in scored:
        yield from rest


def _score_pair(pair: tuple[Path, Path], measures: bool, graded: bool) -> ImageResult | str:
    path, mask_path = pair
    try:
        saliency, (mask, gray) = read_map(path), read_mask_file(mask_path, graded=graded)
    except UnreadableImageError as error:
        return str(error)
    fitted = resize_gray_map(saliency, (mask.shape[0], mask.shape[1]))
    scored = _score(path.name, fitted, mask, measures)
    return replace(scored, resized=saliency.shape != mask.shape, gray_mask=gray, empty_mask=not mask.any())


def score_both(name: str, maps: Maps, mask: Bool[np.ndarray, "h w"], measures: bool) -> dict[str, ImageResult]:
    shape = (mask.shape[0], mask.shape[1])
    results = {}
    for kind, small in maps._asdict().items():
        saliency: Float[np.ndarray, "s s"] = np.asarray(small)
        results[kind] = _score(name, full_size(saliency, shape), mask, measures)
    return results


def _score(name: str, saliency: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], measures: bool) -> ImageResult:
    return ImageResult(name, score_image(saliency, mask), measure(saliency, mask) if measures else {})

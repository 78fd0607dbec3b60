"""Scores of whole datasets: of the maps that a run predicts, and of the maps of any method in a folder.

Images are scored in threads or, where there are many, in processes: counting pixels holds Python's lock, so that
threads use little more than one core, but processes take seconds to start.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from menet_jax.data.overlaps import Overlap
from menet_jax.data.sources import Example, Source, numbered
from menet_jax.evaluation.map_folders import Match
from menet_jax.images.files import read_mask_file, resize_image
from menet_jax.images.maps import full_size, read_map
from menet_jax.images.opening import UnreadableImageError
from menet_jax.metrics.measures import measure
from menet_jax.metrics.scores import DatasetScores, ImageScores, dataset_scores, score_image
from menet_jax.model.inference import Maps, Network, predict_stream
from menet_jax.training.validation import example_bytes, load_example, score_maps

CHUNK = 32  # images that a process takes at once


@dataclass(frozen=True, eq=False)
class ImageResult:
    """Scores of one image.

    Attributes:
        name: of the file that names it: the image's of a dataset, the map's of a folder.
        scores: of its map.
        measures: further measures by name; empty if not asked for.
        resized: whether the map had another size than its mask, and was resized.
        gray_mask: whether the mask was read from a file with gray values, thresholded at half.
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
        """The scores over all images that are single numbers, by name; empty if there are no images."""
        scores = self.dataset_scores()
        if scores is None:
            return {}
        names = self.images[0].measures
        return scores.scalars() | {
            name: float(np.mean([image.measures[name] for image in self.images])) for name in names
        }


def score_folder(match: Match, pool: Executor, *, measures: bool, graded: bool = False) -> Iterator[ImageResult | str]:
    """Score the maps of a folder at their masks' sizes, in order of name; `measures` asks for further ones too.

    Masks that are `graded` are averaged over annotators, see `read_mask_file`.

    Yields:
        of each pair: its scores, or what is wrong with which file.
    """
    return pool.map(partial(_score_pair, measures=measures, graded=graded), match.pairs, chunksize=CHUNK)


def score_networks(
    networks: Sequence[Network], sources: Sequence[Source], pool: Executor, *, measures: bool
) -> Iterator[list[dict[str, ImageResult]] | UnreadableImageError]:
    """Predict and score the images of a dataset, in its order; each is decoded once for all networks.

    The networks are of one batch size. The pool's threads decode and score; `measures` asks for further measures too.

    Yields:
        of each image, for each network: the scores of each map by its kind, `metric` or `probability`; or what is wrong
        with it.
    """
    load = partial(load_example, sizes={network.size for network in networks})
    use = partial(_score_example, measures=measures)
    places = numbered(sources)
    return predict_stream(networks, places, load, use, bytes_of=example_bytes, skipped=UnreadableImageError, pool=pool)


def _score_example(example: Example, maps: Sequence[Maps], measures: bool) -> list[dict[str, ImageResult]]:
    name, mask = example.file_name, example.mask

    def further(small: Float[np.ndarray, "s s"]) -> dict[str, float]:
        return measure(full_size(np.asarray(small), (mask.shape[0], mask.shape[1])), mask) if measures else {}

    return [
        {
            kind: ImageResult(name, scores, further(getattr(of_image, kind)))
            for kind, scores in score_maps(of_image, mask).items()
        }
        for of_image in maps
    ]


def _score_pair(pair: tuple[Path, Path], measures: bool, graded: bool) -> ImageResult | str:
    path, mask_path = pair
    try:
        saliency, (mask, gray) = read_map(path), read_mask_file(mask_path, graded=graded)
    except UnreadableImageError as error:
        return str(error)
    fitted = resize_image(saliency, (mask.shape[0], mask.shape[1]))
    return ImageResult(
        path.name,
        score_image(fitted, mask),
        measure(fitted, mask) if measures else {},
        resized=saliency.shape != mask.shape,
        gray_mask=gray,
        empty_mask=not mask.any(),
    )

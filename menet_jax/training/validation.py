"""Scoring a network on a dataset while it trains, exactly as its saved maps would be scored afterwards."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float, UInt8

from menet_jax.data.sources import Example, Source
from menet_jax.images.files import Rgb, resize_image
from menet_jax.images.maps import full_size
from menet_jax.images.opening import UnreadableImageError
from menet_jax.metrics.scores import ImageScores, score_image
from menet_jax.model.inference import Maps, Network, predict_stream
from menet_jax.runtime.progress import Bar

SAMPLES = 8  # images shown of each validation


@dataclass(frozen=True)
class Sample:
    """One validation image and what the network made of it, at the network's size."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "H W"]
    maps: Maps


def score_map(saliency: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "H W"]) -> ImageScores:
    """Scores of a map, enlarged to its mask's size and rounded to 8 bits, as it would be saved."""
    return score_image(full_size(saliency, (mask.shape[0], mask.shape[1])), mask)


def score_maps(maps: Maps, mask: Bool[np.ndarray, "H W"]) -> dict[str, ImageScores]:
    """`score_map` of each map by its kind."""
    return {kind: score_map(np.asarray(small), mask) for kind, small in maps.named().items()}


def load_example(place: tuple[Source, int], sizes: Collection[int]) -> tuple[Example, dict[int, Rgb]]:
    """An image of a dataset, and the same at the sizes of networks, for `predict_stream`.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    source, index = place
    example = source[index]
    return example, {size: resize_image(example.image, (size, size)) for size in sizes}


def example_bytes(place: tuple[Source, int]) -> int:
    """Bytes of an image of a dataset, for `predict_stream`."""
    source, index = place
    return source.decoded_bytes(index)


def validate(
    network: Network, sources: Sequence[Source], *, threads: int, compiled: bool = False
) -> tuple[dict[str, float], list[Sample]]:
    """Mean scores over all images of the sources, and the first few images with their maps.

    Args:
        network: with the parameters of this step, on the devices of this process.
        sources: the validation splits.
        threads: that decode and score images.
        compiled: whether the network has computed before, and need not be waited for.

    Returns:
        `metric_adaptive_f`, `metric_mae`, `probability_adaptive_f`, `probability_mae`, of the maps that the network
        gives, over the images of all processes; and this process's first samples.

    Raises:
        UnreadableImageError: of an image that was readable when the dataset was prepared.
    """
    totals = {f"{name}_{score}": 0.0 for name in network.kinds for score in ("adaptive_f", "mae")}
    mine = slice(jax.process_index(), None, jax.process_count())
    places = [(source, index) for source in sources for index in range(len(source))[mine]]
    samples = list[Sample]()
    hidden = True if jax.process_index() else None  # None: only on a terminal
    with (
        ThreadPoolExecutor(threads) as pool,
        Bar(total=len(places), desc="validating", unit="image", leave=False, disable=hidden) as bar,
    ):
        if not compiled:
            bar.compiling()
        load = partial(load_example, sizes=[network.size])
        stream = predict_stream(
            [network], places, load, _scored, bytes_of=example_bytes, skipped=UnreadableImageError, pool=pool
        )
        for outcome in stream:
            if isinstance(outcome, UnreadableImageError):
                raise outcome
            example, maps, scores = outcome
            for name, of_map in scores.items():
                totals[f"{name}_adaptive_f"] += of_map.adaptive_f
                totals[f"{name}_mae"] += of_map.mae
            if len(samples) < SAMPLES:
                square = resize_image(example.image, (network.size, network.size))
                samples.append(Sample(square, example.mask, maps))
            bar.update()
    sums = np.array([*totals.values(), len(places)])
    if jax.process_count() > 1:
        sums = np.sum(multihost_utils.process_allgather(sums.astype(np.float32)), axis=0)
    return {name: float(total / sums[-1]) for name, total in zip(totals, sums[:-1], strict=True)}, samples


def _scored(example: Example, maps: Sequence[Maps]) -> tuple[Example, Maps, dict[str, ImageScores]]:
    return example, maps[0], score_maps(maps[0], example.mask)

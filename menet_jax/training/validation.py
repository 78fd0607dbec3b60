"""Scoring a network on a dataset while it trains, exactly as its saved maps would be scored afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, UInt8

from menet_jax.data.pipeline import evaluation_batches
from menet_jax.data.sources import Source
from menet_jax.images.maps import full_size
from menet_jax.metrics.scores import score_image
from menet_jax.model.inference import Maps
from menet_jax.runtime.progress import Bar

SAMPLES = 8  # images shown of each validation


@dataclass(frozen=True)
class Sample:
    """One validation image and what the network made of it, at the network's size."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "H W"]
    maps: Maps


def validate(
    evaluate: Callable[[UInt8[np.ndarray, "b h w 3"]], Maps],
    sources: Sequence[Source],
    *,
    size: int,
    batch_size: int,
    threads: int,
    compiled: bool = False,
) -> tuple[dict[str, float], list[Sample]]:
    """Mean scores over all images of the sources, and the first few images with their maps.

    Every map is enlarged to its ground truth's size, rounded to 8 bits and scored there. The images that fill up the
    last batch are not counted.

    Args:
        evaluate: images → both maps.
        sources: the validation splits.
        size: side of the square images given to `evaluate`.
        batch_size: images in each call of `evaluate`, in this process.
        threads: threads that decode images.
        compiled: whether `evaluate` has been called before, and need not be waited for.

    Returns:
        `metric_adaptive_f`, `metric_mae`, `probability_adaptive_f`, `probability_mae`, over the images of all
        processes; and this process's first samples.
    """
    totals = {f"{name}_{score}": 0.0 for name in Maps._fields for score in ("adaptive_f", "mae")}
    count, samples = 0, list[Sample]()
    images = sum(-(-len(source) // jax.process_count()) for source in sources)
    hidden = True if jax.process_index() else None  # None: only on a terminal
    with Bar(total=images, desc="validating", unit="image", leave=False, disable=hidden) as bar:
        if not compiled:
            bar.compiling()
        for source in sources:
            batches = evaluation_batches(
                source,
                size=size,
                batch_size=batch_size,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
                threads=threads,
            )
            for batch in batches:
                maps = evaluate(batch["image"])
                for row, mask in zip(np.flatnonzero(batch["valid"]), batch["masks"], strict=True):
                    of_image = Maps(*(m[row] for m in maps))
                    for name, saliency in of_image._asdict().items():
                        scores = score_image(full_size(saliency, mask.shape), mask)
                        totals[f"{name}_adaptive_f"] += scores.adaptive_f
                        totals[f"{name}_mae"] += scores.mae
                    if len(samples) < SAMPLES:
                        samples.append(Sample(batch["image"][row], mask, of_image))
                    count += 1
                    bar.update()
    sums = np.array([*totals.values(), count])
    if jax.process_count() > 1:
        sums = np.sum(multihost_utils.process_allgather(sums.astype(np.float32)), axis=0)
    return {name: float(total / sums[-1]) for name, total in zip(totals, sums[:-1], strict=True)}, samples

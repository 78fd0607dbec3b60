"""Batches of arrays on the host, for training.

Datasets are opened with `sources.open_split` and given to `training_batches`. Images
stay uint8, 0…255: the network takes them as float32, but converting on the device quarters the transfer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, TypedDict, runtime_checkable

import grain
import numpy as np
from jaxtyping import Bool, UInt8

from menet_jax.data.sources import Example
from menet_jax.images.distortions import Distortion
from menet_jax.images.files import Mask, ResizedMask, ResizedRgb, Rgb, resize_image, resize_mask

SMALLEST_RATIO = 0.90  # of a crop's sides to the image's; spec: one of 0.90, 0.91, … 1.00
RATIO_STEP = 0.01
RATIOS = 11
EPOCHS = 2**31  # without end as far as anyone trains; Grain cannot count batches of an endless dataset one by one
AHEAD = 2  # batches prepared ahead, for each thread


@runtime_checkable
class Examples(Protocol):
    """Examples that can be read in any order and from several threads; `sources.Source` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex, /) -> Example: ...


class TrainingBatch(TypedDict):
    """B augmented images, S by S, and their masks, True = salient."""

    image: UInt8[np.ndarray, "b s s 3"]
    mask: Bool[np.ndarray, "b s s"]


@dataclass(frozen=True)
class Augmentation:
    """A crop, in pixels of the image, and whether to flip it left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, height: int, width: int) -> "Augmentation":
        """Draw as the paper does: one ratio for both sides, a random position, a flip half the time."""
        ratio = SMALLEST_RATIO + RATIO_STEP * int(rng.integers(RATIOS))
        crop_height, crop_width = max(1, round(ratio * height)), max(1, round(ratio * width))
        top = int(rng.integers(height - crop_height + 1))
        left = int(rng.integers(width - crop_width + 1))
        return cls(top, left, crop_height, crop_width, bool(rng.random() < 0.5))

    def __call__(self, image: Rgb, mask: Mask, size: int) -> tuple[ResizedRgb, ResizedMask]:
        """The crop of image and mask, resized to size by size; a pixel that is more than half salient is salient."""
        window = np.s_[self.top : self.top + self.height, self.left : self.left + self.width]
        crop = resize_image(image[window], (size, size))
        crop_mask = resize_mask(mask[window], (size, size))
        return (crop[:, ::-1], crop_mask[:, ::-1]) if self.flip else (crop, crop_mask)


class TrainingBatches(Iterator[TrainingBatch]):
    """An endless iterator of training batches whose position can be saved and set.

    Batch k depends only on the seed, the datasets and the batch size, not on the number of threads or on what
    was read before. So the position is the number of batches used, and who takes batches ahead of the step
    saves `get_state(used=step)`.
    """

    def __init__(self, batches: grain.MapDataset, threads: int, origin: Mapping[str, Any]) -> None:
        """Use `training_batches` instead. `threads` batches are prepared at once; `origin`, a part of the state,
        determines the order of the examples.
        """
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD * threads)
        self._iterator = iter(batches.to_iter_dataset(options))
        self._origin = dict(origin)
        self._used = 0

    def __next__(self) -> TrainingBatch:
        batch: TrainingBatch = next(self._iterator)
        self._used += 1
        return batch

    def get_state(self, used: int | None = None) -> dict[str, Any]:
        """The position after `used` batches of the whole run, by default after the last one taken; for JSON.

        Set with `set_state`, the next batch is the one after those used.
        """
        return {"batches": self._used if used is None else used, **self._origin}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position.

        Raises:
            ValueError: the state is of other data, another batch size or another seed, where it says nothing.
        """
        for key, value in self._origin.items():
            if state.get(key) != value and not (key == "contents" and _began_as(value, state.get(key))):
                raise ValueError(
                    f"the saved position in the data is of a run with {key} {state.get(key)}; "
                    f"this one has {key} {value}: resume with the same data, batch size and seed, "
                    "or start a new run"
                )
        self._used = int(state["batches"])
        self._iterator.set_state({"next_index": self._used})

    def close(self) -> None:
        """Stop the threads."""
        self._iterator.close()


def training_batches(
    sources: Sequence[Examples],
    *,
    size: int = 224,
    batch_size: int,
    seed: int,
    augment: bool = True,
    distorted: float = 0.0,
    distortions: Sequence[Distortion] = (),
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    identity: Sequence[str] = (),
) -> TrainingBatches:
    """Endless augmented batches, shuffled anew in every epoch of all sources together.

    Args:
        sources: one or more datasets, joined.
        size: side of the images, S.
        batch_size: images of one batch over all processes. Each process gets B = batch_size / process_count
            of them; the batches of all together are the same for any number of processes.
        seed: of order and augmentation, 0 ≤ seed < 2³².
        augment: whether to crop and flip; without, images are only resized.
        distorted: share of the images that are distorted, each by one of the distortions, which are equally likely. It
            is done as when testing, at the image's own full size; crops and flips are the same without it.
        distortions: at least one, where any image is to be distorted.
        process_index: which process this is, of `process_count`.
        process_count: the number of processes that train together.
        threads: batches prepared at once. Changes the speed only.
        identity: what tells the contents of the sources (`Source.identity`); a state saved with another is refused.

    Raises:
        ValueError: no images; a batch that does not divide by the processes; an impossible seed; images to distort,
            and no distortion.
    """
    _check(sources, batch_size, process_count, seed)
    if distorted and not distortions:
        raise ValueError(f"{distorted:.0%} of the images are to be distorted: say by what")

    element = partial(_drawn, size=size, augment=augment, distorted=distorted, distortions=distortions)
    joined = grain.MapDataset.concatenate([grain.MapDataset.source(source) for source in sources])
    stream = joined.seed(seed).shuffle().repeat(EPOCHS).random_map(element)
    mine = stream[process_index::process_count]
    origin = {
        "seed": seed,
        "batch_size": batch_size,
        "images": [len(source) for source in sources],
        "contents": list(identity),
    }
    return TrainingBatches(mine.batch(batch_size // process_count), threads, origin)


def _began_as(identities: Sequence[str], older: Sequence[str] | None) -> bool:
    """Whether an older checkpoint, which holds the beginnings of identities only, is of these."""
    return len(older or ()) == len(identities) and all(map(str.startswith, identities, older or ()))


def _drawn(
    example: Example,
    rng: np.random.Generator,
    *,
    size: int,
    augment: bool,
    distorted: float,
    distortions: Sequence[Distortion],
) -> dict[str, np.ndarray]:
    """One image as it comes up this time: cropped and flipped, distorted or not, and resized."""
    height, width = example.mask.shape
    whole = Augmentation(0, 0, height, width, flip=False)
    augmentation = Augmentation.draw(rng, height, width) if augment else whole
    image = example.image
    if rng.random() < distorted:  # drawn last, and another noise each time that the image comes round
        distort = distortions[int(rng.integers(len(distortions)))]
        image = distort(image, Path(example.file_name).stem, int(rng.integers(2**63)))
    image, mask = augmentation(image, example.mask, size)
    return {"image": image, "mask": mask}


def _check(sources: Sequence[Examples], batch_size: int, process_count: int, seed: int) -> None:
    if not sum(len(source) for source in sources):
        raise ValueError("there are no images to train on")
    if batch_size < 1 or batch_size % process_count:
        below = batch_size // process_count * process_count
        nearest = f"{below} or {below + process_count}" if below else str(process_count)
        raise ValueError(
            f"a batch of {batch_size} images cannot be shared among {process_count} processes; try {nearest}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"the seed must be at least 0 and less than 2**32, not {seed}")

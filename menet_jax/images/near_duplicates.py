"""Search for images that show the same picture in files of other names, sizes or compression.

An image is known by its thumbnail, 16 by 16 colours. Two thumbnails a, b are as far apart as

    d(a, b) = ‖a − b‖ / max(‖a − mean(a)‖, ‖b − mean(b)‖),

their difference in units of their own contrast, the mean being taken for each channel. Every thumbnail is compared
with every other, with no index that could miss one: ten thousand against a thousand take a second.

Measured on 1,253 images of four sets: the same photograph compressed again at JPEG quality 30, at half its size, or
both at quality 60, is at most 0.146 away. Different photographs are at least 0.59 apart, different pieces of rolled
steel 0.16; the few that are closer are copies of each other.
"""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

SIDE = 16
LIMIT = 0.15
"""Images that are closer show the same picture."""

BLOCK = 512  # rows compared at once
ROUNDING = np.float32(64)  # of squared distances computed as a matrix product: some eight digits of 2.5e7, and more

Thumbnail = UInt8[np.ndarray, "16 16 3"]
Thumbnails = UInt8[np.ndarray, "_ 16 16 3"]


def thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> Thumbnail:
    """The mean colours of 16 by 16 equal parts of an image."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))


def stack(thumbnails: Collection[Thumbnail]) -> Thumbnails:
    """Thumbnails in one array, which may be empty."""
    return np.array(list(thumbnails), np.uint8).reshape(len(thumbnails), SIDE, SIDE, 3)


def same_pictures(first: Thumbnails, second: Thumbnails) -> list[tuple[int, int]]:
    """All (i, j) for which first[i] and second[j] are closer than `LIMIT`, in order.

    A picture of a single colour is like those of exactly the same colour only.
    """
    found = list[tuple[int, int]]()
    columns = _flat(second)
    contrast = _contrast(second)
    for start in range(0, len(first), BLOCK):
        part = first[start : start + BLOCK]
        rows = _flat(part)
        # ‖a − b‖² as a matrix product finds what may be close; the difference itself decides.
        squares = np.square(rows).sum(1)[:, None] + np.square(columns).sum(1)[None] - np.float32(2) * rows @ columns.T
        scale = np.maximum(_contrast(part)[:, None], contrast[None])
        close = np.argwhere(squares <= np.float32(LIMIT**2) * np.square(scale) + ROUNDING)
        for i, j in close:
            difference = np.linalg.norm(rows[i] - columns[j])
            if difference <= LIMIT * scale[i, j]:
                found.append((start + int(i), int(j)))
    return found


def _flat(thumbnails: Thumbnails) -> Float32[np.ndarray, "n 768"]:
    return thumbnails.reshape(len(thumbnails), SIDE * SIDE * 3).astype(np.float32) - np.float32(127.5)


def _contrast(thumbnails: Thumbnails) -> Float32[np.ndarray, " n"]:
    values = thumbnails.astype(np.float32)
    centred = values - values.mean((1, 2), keepdims=True)
    return np.sqrt(np.square(centred).sum((1, 2, 3)))

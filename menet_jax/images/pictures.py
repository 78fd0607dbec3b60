"""Pictures made of pixels: overlays of masks, and images side by side."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from menet_jax.runtime.whole_files import written_whole

TINT = np.array([255, 0, 0], np.float32)
GAP = 4  # pixels between the images of a grid


def overlay(image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image with its salient pixels half red."""
    tinted = (image + TINT) / 2
    return np.where(mask[..., None], tinted, image).astype(np.uint8)


def grid(pictures: UInt8[np.ndarray, "n h w 3"], columns: int) -> UInt8[np.ndarray, "gh gw 3"]:
    """Pictures side by side on white, row by row, `GAP` pixels apart."""
    count, height, width, _ = pictures.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def batch_grid(images: UInt8[np.ndarray, "b h w 3"], masks: Bool[np.ndarray, "b h w"], path: Path) -> None:
    """Write a picture of a batch: a nearly square grid of the images, their salient pixels tinted red."""
    pictures = np.stack([overlay(image, mask) for image, mask in zip(images, masks, strict=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        Image.fromarray(grid(pictures, columns=math.ceil(math.sqrt(len(pictures))))).save(unfinished)

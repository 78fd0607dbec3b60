"""Saliency maps as arrays and files: resized, rounded to 8 bits and read."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from menet_jax.images.files import BILINEAR, read_image
from menet_jax.images.opening import decode, naming
from menet_jax.images.strips import by_strips


def full_size(saliency: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A map in [0, 1] at the network's size → at its image's size, in 8 bits, as it is saved and scored."""
    return quantise(resize_map(saliency, shape))


def quantise(saliency: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """The 8-bit map that a PNG of a float map holds: round(255 · S), halves to even.

    Scoring what this returns during training gives exactly what scoring the saved maps gives later.

    Args:
        saliency: S, (H, W), any float type, in [0, 1].

    Raises:
        TypeError: the map is not of a float type.
        ValueError: the map is not (H, W), or has values that are not finite or not in [0, 1].

    >>> import numpy as np
    >>> from menet_jax import quantise
    >>> quantise(np.array([[0.0, 0.5, 1.0]])).tolist()
    [[0, 128, 255]]
    """
    if np.issubdtype(saliency.dtype, np.integer) or saliency.dtype == bool:
        raise TypeError(f"quantise takes a float map in [0, 1], this one is {saliency.dtype}")
    if saliency.ndim != 2:
        raise ValueError(f"a saliency map is (height, width), this one has shape {saliency.shape}")
    invalid = np.count_nonzero(~np.isfinite(saliency))
    if invalid:
        raise ValueError(f"the saliency map has {invalid} values that are not finite")
    if saliency.size and (saliency.min() < 0 or saliency.max() > 1):
        lowest, highest = float(saliency.min()), float(saliency.max())
        raise ValueError(f"the saliency map spans {lowest:g} ... {highest:g}, not within [0, 1]")
    # In float64 255 times a narrower float is exact, so rint alone rounds.
    return by_strips(lambda strip: np.rint(255 * strip.astype(np.float64)).astype(np.uint8), saliency)


def resize_map(saliency: Float32[np.ndarray, "h w"], size: tuple[int, int]) -> Float32[np.ndarray, "h2 w2"]:
    """Resize a map in [0, 1] to size = (height, width), bilinear and antialiased; stays in [0, 1]."""
    if saliency.shape == size:
        return saliency
    return np.clip(np.asarray(Image.fromarray(saliency).resize(size[::-1], BILINEAR)), 0.0, 1.0)


def read_map(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a saliency map of any kind as 8-bit gray.

    Colours count by their luminance. 16-bit values are divided by 257, unless all fit 8 bits; 32-bit integers and
    floats are scaled as by `read_image`. Of several frames the first is taken.

    Raises:
        UnreadableImageError: damaged or not an image; or transparent somewhere, so that its meaning is not known.
    """
    with naming(path):
        image = decode(path)
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError("partly transparent: what a transparent pixel's saliency is, is not known")
        if image.mode.startswith("I;16") and np.asarray(image).max() <= 255:
            return np.asarray(image).astype(np.uint8)
        if image.mode.startswith(("I", "F")):
            return read_image(path)[..., 0]
        return np.asarray(image if image.mode == "L" else image.convert("L"))

"""Photographs of the page: reading, maps, distortion, and pictures."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from menet_jax.evaluation.files import cut_out, tinted
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.distortions import add_noise, compress_jpeg
from menet_jax.images.files import Picture, png, read_picture
from menet_jax.images.maps import quantise
from menet_jax.images.opening import UnreadableImageError, decoded_bytes
from menet_jax.metrics.scores import score_image, thresholded
from menet_jax.model.inference import Kind

MEGABYTES = 32
"""Largest file of a photograph."""

MEGAPIXELS = 16
"""Largest photograph: noise takes some 160 bytes a pixel, and much time."""


class Seen(NamedTuple):
    """A photograph and what a network makes of it, at the photograph's size: its maps by kind, as they are saved."""

    picture: Picture
    maps: Mapping[str, UInt8[np.ndarray, "h w"]]


def read(data: bytes, name: str) -> Picture:
    """Read the file of a photograph.

    Raises:
        UnreadableImageError: not an image, a damaged one, or one that is too large; the text names the file.
    """
    if len(data) > MEGABYTES * 1e6:
        raise UnreadableImageError(name, f"{_tenths(len(data) / 1e6)} MB; the demo takes files of up to {MEGABYTES} MB")
    pixels = decoded_bytes(data) / 3
    if pixels > MEGAPIXELS * 1e6:
        most = f"the demo takes photographs of up to {MEGAPIXELS}"
        raise UnreadableImageError(name, f"{_tenths(pixels / 1e6)} megapixels; {most}")
    return read_picture(data, name)


def _tenths(value: float) -> str:
    """Rounded up, so that what is above a limit is not shown as the limit."""
    return f"{math.ceil(10 * value) / 10:,.1f}"


def see(predictor: Predictor, picture: Picture) -> Seen:
    """The maps of a photograph."""
    maps = predictor.maps(picture.rgb).named()
    return Seen(picture, {kind: quantise(np.asarray(each)) for kind, each in maps.items()})


def distort(picture: Picture, name: str, sigma: float, quality: int | None) -> Picture:
    """A photograph with noise (σ 0: none), and then compressed (quality None: not).

    Noise is what `robustness distortion` gives to a file of this name. Transparent photographs are on white from then
    on, but keep their opacity.
    """
    rgb = add_noise(picture.rgb, sigma, name=Path(name).stem, seed=0) if sigma else picture.rgb
    rgb = rgb if quality is None else compress_jpeg(rgb, quality)
    return picture._replace(rgb=rgb, colours=rgb)


def agreement(clean: UInt8[np.ndarray, "h w"], distorted: UInt8[np.ndarray, "h w"]) -> float | None:
    """Agreement of the map of a distorted photograph with what the map without distortion cuts out.

    It is the adaptive F-measure (Eq. 15 and 16) of the distorted map, with the clean map, thresholded adaptively, for
    a mask: 1 if both cut out the same. None if that mask is empty or full.
    """
    mask = thresholded(clean)
    return None if mask.all() or not mask.any() else score_image(distorted, mask).adaptive_f


def pictures(seen: Seen, kind: Kind) -> Iterator[tuple[str, bytes]]:
    """Names and PNG files: the photograph, its maps, and pictures made with the map of this kind, one by one."""
    saliency, profile = seen.maps[kind], seen.picture.profile
    yield "photograph", png(seen.picture.rgb, profile)
    yield from ((name, png(each)) for name, each in seen.maps.items())
    yield "overlay", png(tinted(seen.picture.rgb, saliency), profile)
    yield "cutout", png(cut_out(seen.picture, saliency), profile)

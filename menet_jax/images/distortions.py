"""Distortions of images (Section IV-F), in tests and, if asked for, in training: additive white Gaussian noise and
JPEG compression.

Images go in and come out as 8-bit arrays, so that a distorted image saved as PNG and read back, by this or
any other program, is exactly what was scored here.

Everything random depends on (image name, seed) and nothing else: not on the order of the images, the number
of processes or the machine (`normal_numbers.py`).
"""

import hashlib
import io
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from menet_jax.images.normal_numbers import normals, uniforms
from menet_jax.images.opening import open_image
from menet_jax.runtime.text import composed

SIGMA_RANGE = (5.0, 50.0)
"""Random noise strengths, uniform. The paper says "random strengths" and no more: this range is ours."""

QUALITY_RANGE = (5, 50)
"""Random JPEG qualities, uniform on the integers, both included. Ours too."""

SIGMAS = (10.0, 20.0, 30.0, 40.0, 50.0)
"""Fixed noise strengths of a curve (Figure 9). Ours: the paper's text does not give its own."""

QUALITIES = (80, 60, 40, 20, 10)
"""Fixed JPEG qualities of a curve. Ours too."""

# The severities are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
# Corruptions and Perturbations", ICLR 2019), in `gaussian_noise` and `jpeg_compression` of make_imagenet_c.py,
# github.com/hendrycks/robustness at commit e0377d4. ImageCorruptions, which takes images of any size, has the same
# (corruptions.py, github.com/bethgelab/imagecorruptions at commit 952dc3e). Both add noise on the 0 ... 1 scale and
# truncate to 8 bits, where this rounds: half a level brighter. ImageNet-C as distributed is recompressed at quality 85.

SEVERITY_SIGMA = tuple(255 * c for c in (0.08, 0.12, 0.18, 0.26, 0.38))
"""Noise strength of the severities 1 ... 5 of ImageNet-C and ImageCorruptions."""

SEVERITY_QUALITY = (25, 18, 15, 10, 7)
"""JPEG quality of those severities."""

LONGEST_JPEG = 65_500
"""Pixels of a side that libjpeg compresses at most."""


def add_noise(image: np.ndarray, sigma: float, *, name: str, seed: int) -> np.ndarray:
    """Additive white Gaussian noise: round(image + sigma · z), clipped to 0 ... 255.

    z is standard normal, independent for every pixel and channel, and for one name and seed the same at every
    sigma: a curve over sigma scales one noise, and does not jump between noises.

    Args:
        image: (H, W, 3) uint8.
        sigma: standard deviation on the 0 ... 255 scale, not negative; 0 returns the image unchanged.
        name: the image's file name without folder and extension, so that a copy gets the same noise.
        seed: another seed gives another noise.

    Returns:
        The noisy image, (H, W, 3) uint8.

    Raises:
        TypeError: the image is not uint8.
        ValueError: the image is not (H, W, 3), or sigma is negative or not finite.

    >>> import numpy as np
    >>> from menet_jax import add_noise
    >>> image = np.full((100, 100, 3), 128, np.uint8)
    >>> noisy = add_noise(image, 20.0, name="horse", seed=0)
    >>> 19 < float(noisy.std()) < 21, np.array_equal(noisy, add_noise(image, 20.0, name="horse", seed=0))
    (True, True)
    """
    _check(image)
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma is a standard deviation on the 0 ... 255 scale, got {sigma}")
    noise = normals(_stream("noise", name, seed).random_raw(image.size)).reshape(image.shape)
    return np.rint(image + sigma * noise).clip(0, 255).astype(np.uint8)


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """JPEG compression by the real codec: encode (baseline, chroma halved, standard tables), decode.

    There is nothing random in it. libjpeg-turbo, which Pillow's wheels bring, computes in integers and gives
    the same pixels on every machine; a Pillow built against another JPEG library may differ by a few levels.

    Args:
        image: (H, W, 3) uint8, RGB.
        quality: 1 (worst) ... 100, the scale of libjpeg.

    Returns:
        The decoded image, (H, W, 3) uint8.

    Raises:
        TypeError: the image is not uint8.
        ValueError: the image is not (H, W, 3), a side is too long for JPEG, or the quality is out of range.

    >>> import numpy as np
    >>> from menet_jax import compress_jpeg
    >>> image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    >>> compress_jpeg(image, 10).shape
    (16, 16, 3)
    """
    _check(image)
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality is 1 ... 100, got {quality}")
    if max(image.shape) > LONGEST_JPEG:
        raise ValueError(f"a side of {max(image.shape):,} pixels, and JPEG takes {LONGEST_JPEG:,} at most")
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality, subsampling="4:2:0")
    with open_image(encoded) as decoded:
        return np.array(decoded)


def random_sigma(name: str, seed: int, bounds: tuple[float, float] = SIGMA_RANGE) -> float:
    """The noise strength of one image, uniform between the bounds, from its name and the seed.

    Raises:
        ValueError: the bounds are negative, infinite, or the wrong way round.
    """
    low, high = bounds
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"noise strengths go from a low to a high one, not negative, got {low} ... {high}")
    return low + (high - low) * float(uniforms(_stream("sigma", name, seed).random_raw(1))[0])


def random_quality(name: str, seed: int, bounds: tuple[int, int] = QUALITY_RANGE) -> int:
    """The JPEG quality of one image, uniform on the integers low ... high, from its name and the seed.

    Raises:
        ValueError: the bounds are not within 1 ... 100, or are the wrong way round.
    """
    low, high = bounds
    if not 1 <= low <= high <= 100:
        raise ValueError(f"JPEG qualities go from a low to a high one within 1 ... 100, got {low} ... {high}")
    return low + int(_stream("quality", name, seed).random_raw()) % (high - low + 1)


@dataclass(frozen=True)
class Scale:
    """The numbers that say how strong a distortion is.

    Attributes:
        name: what they are.
        falling: whether a lower one distorts more.
        clean: the one that distorts nothing; None if there is none.
    """

    name: str
    falling: bool = False
    clean: float | None = None


@runtime_checkable
class Distortion(Protocol):
    """Something done to an image, which may depend on its name and a seed."""

    @property
    def scale(self) -> Scale | None:
        """What `strength` is a number of; None: the image stays as it is."""
        ...

    @property
    def label(self) -> str:
        """Its name, with its strength."""
        ...

    def strength(self, name: str, seed: int) -> float | None:
        """The σ or quality for the image of that name; None: the image stays as it is."""
        ...

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], name: str, seed: int) -> UInt8[np.ndarray, "h w 3"]:
        """The distorted image."""
        ...


@dataclass(frozen=True)
class Clean:
    """No distortion."""

    scale: ClassVar[None] = None

    @property
    def label(self) -> str:
        return "clean"

    def strength(self, name: str, seed: int) -> None:
        return None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], name: str, seed: int) -> UInt8[np.ndarray, "h w 3"]:
        return image


@dataclass(frozen=True)
class Noise:
    """`add_noise` with `random_sigma` between two strengths; equal ones are a fixed strength.

    Raises:
        ValueError: they are not such strengths.
    """

    low: float
    high: float
    scale: ClassVar[Scale] = Scale("AWGN σ", clean=0.0)

    def __post_init__(self) -> None:
        random_sigma("", 0, (self.low, self.high))

    @property
    def label(self) -> str:
        return f"{self.scale.name} {_span(self.low, self.high)}"

    def strength(self, name: str, seed: int) -> float:
        return random_sigma(name, seed, (self.low, self.high))

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], name: str, seed: int) -> UInt8[np.ndarray, "h w 3"]:
        return add_noise(image, self.strength(name, seed), name=name, seed=seed)


@dataclass(frozen=True)
class Jpeg:
    """`compress_jpeg` with `random_quality` between two qualities; equal ones are a fixed quality.

    Raises:
        ValueError: they are not such qualities.
    """

    low: int
    high: int
    scale: ClassVar[Scale] = Scale("JPEG quality", falling=True)

    def __post_init__(self) -> None:
        random_quality("", 0, (self.low, self.high))

    @property
    def label(self) -> str:
        return f"{self.scale.name} {_span(self.low, self.high)}"

    def strength(self, name: str, seed: int) -> int:
        return random_quality(name, seed, (self.low, self.high))

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], name: str, seed: int) -> UInt8[np.ndarray, "h w 3"]:
        return compress_jpeg(image, self.strength(name, seed))


def _span(low: float | int, high: float | int) -> str:
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8:
        raise TypeError(f"distortions take 8-bit images, this one is {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"want an image of (height, width, 3), got shape {image.shape}")


def _stream(purpose: str, name: str, seed: int) -> np.random.PCG64:
    """Raw random words for one purpose, image and seed.

    File systems spell an accented letter as one code point or as two; normalising makes these one name.
    """
    key = "\0".join((purpose, str(seed), composed(name)))
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return np.random.PCG64(int.from_bytes(digest, "big"))

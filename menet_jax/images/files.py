"""Images and masks of every common kind, read and resized with Pillow.

Files come in many modes, and reading them carelessly gives no error but wrong values: palettes as indices,
16-bit values modulo 256, 1-bit masks as 0/1. Everything here therefore ends in one of three forms: an RGB
image `(H, W, 3)` uint8, a mask `(H, W)` bool with True = salient, or a map `(H, W)` float32 in [0, 1].
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from menet_jax.images.opening import ImageFile, decode, is_upright, naming, open_image
from menet_jax.images.strips import by_strips

Rgb = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
ResizedRgb = UInt8[np.ndarray, "h2 w2 3"]
ResizedMask = Bool[np.ndarray, "h2 w2"]

ASPECT_TOLERANCE = 0.02  # how far the aspect ratio of a mask may be from that of its image
BILINEAR = Image.Resampling.BILINEAR  # Pillow widens the filter when it shrinks: antialiased
LABELS = 20 / 255  # of white: a mask with nothing above holds class numbers; one observer of twelve would be 21 / 255
COLOURED = 32  # a palette entry whose channels differ by more is a colour, not a gray


class MaskFile(NamedTuple):
    """Contents of a mask file.

    Attributes:
        mask: True = salient.
        gray: whether it had values between black and white, which were thresholded at half; not told of JPEG.
    """

    mask: Mask
    gray: bool


class Picture(NamedTuple):
    """An image as others are made of it.

    Attributes:
        rgb: what `read_image` gives: on white where it is transparent.
        colours: without the white.
        opacity: 255 = opaque; None: it is so everywhere.
        profile: the colour profile (ICC) of the colours; None if there is none of RGB.
    """

    rgb: Rgb
    colours: Rgb
    opacity: UInt8[np.ndarray, "h w"] | None
    profile: bytes | None


def read_image(source: ImageFile, name: str | None = None) -> Rgb:
    """Read an image as RGB, shape (H, W, 3), uint8.

    1-bit, grayscale, palette, CMYK and other colour spaces are converted; 16-bit values are scaled by 1/257;
    32-bit integers and floats by the range they use (see `_to_8_bit`). Transparency of any kind is composited
    onto white, and the EXIF orientation is applied. Of several frames the first is taken.

    Args:
        source: a path, or the bytes of a file.
        name: what to call it in an error; by default the path.

    Raises:
        UnreadableImageError: truncated, empty, too large (a decompression bomb), not a regular file, or not an image.

    >>> import io
    >>> from PIL import Image
    >>> from menet_jax import read_image
    >>> Image.new("L", (4, 2), 200).save(file := io.BytesIO(), "PNG")
    >>> read_image(file.getvalue()).shape, int(read_image(file.getvalue()).max())
    ((2, 4, 3), 200)
    """
    with naming(source, name):
        return np.asarray(_to_rgb(decode(source, name)))


def read_picture(source: ImageFile, name: str | None = None) -> Picture:
    """Read an image with its transparency and colour profile; arguments and errors are those of `read_image`."""
    with naming(source, name):
        image = decode(source, name)
        rgb = np.asarray(_to_rgb(image))
        profile = image.info.get("icc_profile")
        if profile and profile[16:20] != b"RGB ":  # of gray, or of inks, which these colours are not in
            profile = None
        if _is_deep(image) or not image.has_transparency_data:
            return Picture(rgb, rgb, None, profile)
        rgba = np.asarray(image.convert("RGBA"))
        return Picture(rgb, rgba[..., :3], rgba[..., 3], profile)


def read_mask(source: ImageFile, name: str | None = None, *, graded: bool = False) -> Mask:
    """Read a mask, shape (H, W), bool, True = salient: that of `read_mask_file`, which says what its values mean.

    Args:
        source: a path, or the bytes of a file.
        name: what to call it in an error; by default the path.
        graded: whether masks are known to be averaged over annotators. Nothing of such a mask need reach half: it is
            then empty. Otherwise that is taken for labels.

    Raises:
        UnreadableImageError: as for `read_image`; or the mask holds labels whose meaning is unknown: nothing reaches
            half although it is not empty (of graded masks: nothing exceeds 20 of 255), or a palette of three or more
            colours that are not grays.

    >>> import io
    >>> from PIL import Image
    >>> from menet_jax import read_mask
    >>> Image.new("1", (2, 1), 1).save(file := io.BytesIO(), "PNG")
    >>> read_mask(file.getvalue()).tolist()
    [[True, True]]
    """
    return read_mask_file(source, name, graded=graded).mask


def read_mask_file(source: ImageFile, name: str | None = None, *, graded: bool = False) -> MaskFile:
    """Read a mask, and whether it was thresholded; arguments and errors are those of `read_mask`.

    What the values mean, by the kind of file:

    - **1-bit**: white is salient.
    - **JPEG**: more than half is salient; there may be nothing that is.
    - **Grayscale, colour (by its luminance), 16-bit, float**: more than half of the range is salient. A mask that
      holds only 0 and 1 is a label image: 1 is salient. A 16-bit file whose values all fit 8 bits is taken as
      8-bit, and a float one up to 1 as 0…1.
    - **Palette**: by the luminance of its colours, more than half being salient. Label images are often
      palette files whose palette means nothing or is dark (VOC's class 1 is a dark red), so one with two
      colours, or with one besides the palette's first, takes the brighter as salient, and if they are equally
      bright the one of the higher index; of graded masks this is so where a colour is not gray.
    - **Transparency**: transparent pixels are background (composited onto black); if the colour is the same
      everywhere, the alpha channel is the mask.
    """
    with naming(source, name):
        return _mask(decode(source, name), graded)


def mask_notes(masks: int, gray: int, empty: int) -> list[str]:
    """Notes on masks, a phrase each: how many have gray values, and how many are empty; no phrase for a count of 0."""
    notes = []
    if gray:
        notes.append(f"{gray:,} of {masks:,} masks have gray values, thresholded at half")
    if empty:
        notes.append(f"nothing is salient in {empty:,} of {masks:,} masks, where every F-measure is 0")
    return notes


def is_plain(source: bytes) -> bool:
    """Whether a file shows the same RGB image in every reader: JPEG or PNG, RGB, opaque, not rotated by EXIF.

    Only the header is read: this does not say that the file is whole.
    """
    with open_image(io.BytesIO(source)) as image:
        opaque_rgb = image.mode == "RGB" and not image.has_transparency_data
        return image.format in {"JPEG", "PNG"} and opaque_rgb and is_upright(image)


def is_image(source: bytes) -> bool:
    """Whether the bytes begin like an image; says nothing about the rest of them."""
    try:
        open_image(io.BytesIO(source)).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # a damaged header raises nearly anything, and is the header of an image all the same
        return True
    return True


def png(array: UInt8[np.ndarray, "h w *c"] | Mask, profile: bytes | None = None, level: int = 3) -> bytes:
    """Encode an image, RGB with opacity or without, or grayscale, or a mask (as 8-bit 0/255) as a PNG file.

    The colour profile (ICC) is put into the file. `level` is that of compression, 0…9.
    """
    file = io.BytesIO()
    pixels = _gray(array, 255) if array.dtype == bool else array
    Image.fromarray(pixels).save(file, "PNG", compress_level=level, icc_profile=profile)
    return file.getvalue()


def fit_mask(mask: Mask, size: tuple[int, int]) -> ResizedMask:
    """Bring a mask to its image's size (height, width), as `resize_mask` does.

    Raises:
        ValueError: the aspect ratios differ by more than 2 %: the mask is of another image, or of a cropped
            or rotated one.
    """
    if mask.shape == size:
        return mask
    (mask_height, mask_width), (height, width) = mask.shape, size
    if abs((mask_width * height) / (mask_height * width) - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"the mask is {mask_width} by {mask_height} and the image {width} by {height}; "
            f"their aspect ratios differ by more than {ASPECT_TOLERANCE:.0%}"
        )
    return resize_mask(mask, size)


def resize_image(pixels: UInt8[np.ndarray, "h w *c"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """Resize RGB or gray to size = (height, width), as Pillow does: bilinear between pixel centres; when shrinking,
    over all the pixels that the new one covers.
    """
    if pixels.shape[:2] == size:
        return pixels
    # Pillow takes twice as long to read a window of an array than a copy of it.
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size[::-1], BILINEAR))


def resize_mask(mask: Mask, size: tuple[int, int]) -> ResizedMask:
    """Resize to size = (height, width): bilinear and antialiased, then more than half is salient."""
    if mask.shape == size:
        return mask
    # With 254 for salient, half is a whole number: with 255 Pillow would round it up, and half would be more.
    return resize_image(_gray(mask, 254), size) > 127


def _gray(mask: Mask, white: int) -> UInt8[np.ndarray, "h w"]:
    """0 and `white`. A bool array from elsewhere may have other bytes than 0 and 1, hence the comparison."""
    return (mask.view(np.uint8) != 0).view(np.uint8) * np.uint8(white)


def _mask(image: Image.Image, graded: bool) -> MaskFile:
    if image.mode == "1" and not image.has_transparency_data:
        # Not asarray of the image itself: that gives bools whose bytes are 255 instead of 1.
        return MaskFile(np.asarray(image.convert("L")) > 127, gray=False)
    if image.mode == "P" and not image.has_transparency_data:
        return _palette_mask(image, graded)
    if image.format in {"JPEG", "MPO"}:  # never holds labels: what is not above half is the codec's noise
        return MaskFile(np.asarray(image.convert("L")) > 127, gray=False)
    return _value_mask(_mask_values(image), graded)


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_deep(image):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether the values are more than 8 bits: Pillow's own conversion of these clips or wraps."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _to_8_bit(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Deep grayscale to 0…255.

    16-bit files are divided by 257. 32-bit integers and floats do not state their range: the smallest of 1
    (floats only), 255 and 65535 that holds all values is taken for white, else the largest value. Negative
    values are black.
    """
    white = 65535.0 if values.dtype == np.uint16 else _white(values)
    return by_strips(lambda strip: np.rint(np.clip(strip / white, 0, 1) * 255).astype(np.uint8), values)


def _white(values: np.ndarray) -> float:
    if values.dtype == np.uint8:
        return 255.0
    largest = float(values.max())
    if not np.isfinite(values).all():
        raise ValueError("contains values that are not finite")
    candidates = (255.0, 65535.0) if values.dtype.kind in "iu" else (1.0, 255.0, 65535.0)
    return next((white for white in candidates if largest <= white), largest)


def _mask_values(image: Image.Image) -> np.ndarray:
    """One value a pixel, in the range of the file, with transparency resolved."""
    if _is_deep(image):
        return np.asarray(image)
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    colour, alpha = (np.asarray(channel) for channel in image.convert("LA").split())
    if alpha.min() < 255 and colour.min() == colour.max():
        return alpha
    return np.where(alpha > 127, colour, 0)


def _value_mask(values: np.ndarray, graded: bool) -> MaskFile:
    white = _white(values)
    largest = values.max()
    if largest <= 0:
        return MaskFile(np.zeros(values.shape, bool), gray=False)
    if largest == 1 and np.isin(values, (0, 1)).all():
        return MaskFile(values == 1, gray=False)
    mask = values > (white / 2 if values.dtype.kind == "f" else int(white) // 2)  # whole numbers compare faster
    labels = largest <= LABELS * white
    if not mask.any() and (labels or not graded):
        found = np.unique(values)
        listed = ", ".join(f"{value:g}" for value in found[:8]) + (", …" if len(found) > 8 else "")
        hint = "; if all masks are averaged over annotators, give --graded-masks (--data.graded-masks)"
        raise ValueError(
            f"a mask of 0 and {white:g}, or of 0 and 1, is expected; this one has the values {listed}"
            + ("" if labels else hint)
        )
    return MaskFile(mask, gray=bool(((values > 0) & (values < white)).any()))


def _palette_mask(image: Image.Image, graded: bool) -> MaskFile:
    indices = np.asarray(image)
    palette = np.zeros((256, 3), np.int32)  # colours that the file leaves out are black
    colours = np.array(image.getpalette("RGB") or [], np.int32).reshape(-1, 3)
    palette[: len(colours)] = colours
    luminance = palette @ np.array([299, 587, 114]) // 1000

    used = np.unique(indices)
    if used.tolist() == [0]:
        return MaskFile(np.full(indices.shape, bool(luminance[0] > 127)), gray=False)
    spread = palette[used].max(axis=1) - palette[used].min(axis=1)
    pair = used if len(used) == 2 else np.union1d(used, [0])
    if len(pair) == 2 and not (graded and (spread <= COLOURED).all()):
        brighter = max(pair, key=lambda index: (luminance[index], index))
        return MaskFile(indices == brighter, gray=False)
    if (spread > COLOURED).any():
        raise ValueError(f"a palette of {len(used)} colours, not all gray: which labels are salient is not known")
    return _value_mask(luminance[indices], graded)


IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""A folder's files with these are taken for images, also where Pillow cannot read them: those are reported."""


def has_image_name(path: Path) -> bool:
    """Whether a file is named like an image, and not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")

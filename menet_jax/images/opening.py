"""Opening and decoding of image files, of some formats and up to a size."""

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from menet_jax.runtime.regular_files import reason, size_of_regular

ImageFile = str | Path | bytes
"""The path of a file, or its bytes."""

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""Formats of files that are opened, whatever their names say."""

MEGAPIXELS = 256
"""Largest image, and a file has 4 bytes a pixel at most: phones take photographs of 200 megapixels."""

VARIABLE = "MENET_MEGAPIXELS"
"""Environment variable that sets another limit, for all commands and the processes that they start."""

# Pillow refuses a PNG with an edit history or a colour profile over 1 MiB; all texts of a file may have 64 MiB anyway.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class UnreadableImageError(ValueError):
    """A file that is not an image or mask we can use; says which file and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def decode(source: ImageFile, name: str | None = None) -> Image.Image:
    """The first frame of an image file, decoded and upright; its `format` is the file's.

    Args:
        source: a path, or the bytes of a file.
        name: what to call it in an error; by default the path.

    Raises:
        UnreadableImageError: truncated, empty, too large, not a regular file, or not an image.
    """
    with naming(source, name):
        data = source if isinstance(source, bytes) else read_file(Path(source))
        if not data:
            raise ValueError("the file is empty")
        image = open_image(io.BytesIO(data))
        _check_size(image)
        image.load()
        turned = upright(image)
        turned.format = image.format
        return turned


@contextmanager
def naming(source: ImageFile, name: str | None = None) -> Iterator[None]:
    """Turn every error of an image into `UnreadableImageError`, which names its file."""
    name = name or ("<bytes>" if isinstance(source, bytes) else str(source))
    try:
        yield
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(name, "not an image of a known format") from error
    except OSError as error:
        raise UnreadableImageError(name, reason(error, name)) from error
    except Exception as error:  # Pillow raises SyntaxError, struct.error, and many more
        raise UnreadableImageError(name, str(error) or type(error).__name__) from error


def read_file(path: Path) -> bytes:
    """The bytes of a file beside images: an image, a mask, or a list.

    Raises:
        OSError: it is not a regular file, it cannot be read, or it has more bytes than `MEGAPIXELS` says.
    """
    most = 4 * _most_pixels()
    size = size_of_regular(path)
    if size > most:
        allowed = f"{VARIABLE}={math.ceil(size / 4e6)} allows this file"
        raise OSError(f"{path}: {size:,} bytes, and at most {most:,} are read of a file; {allowed}")
    with path.open("rb") as file:
        return file.read(size)


def decoded_bytes(source: ImageFile) -> int:
    """Bytes that an image takes as RGB, by its header; 0 if that cannot be read, of which `decode` tells more."""
    try:
        if isinstance(source, bytes):
            return _rgb_bytes(io.BytesIO(source))
        size_of_regular(Path(source))
        with Path(source).open("rb") as file:
            return _rgb_bytes(file)
    except Exception:  # as of `decode`
        return 0


def open_image(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Open a file of one of `FORMATS`, as yet undecoded. Pillow knows others, of which EPS would run Ghostscript.

    Pillow's own `open` also warns of photographs as phones take them, and refuses those of twice the size.

    Raises:
        UnidentifiedImageError: it is none; and whatever Pillow raises of a damaged header.
    """
    Image.init()  # loads what Pillow knows; nothing after the first time
    file.seek(0)
    start = file.read(16)
    for each in FORMATS:
        factory, accepts = Image.OPEN.get(each, (None, None))
        file.seek(0)
        try:
            if factory and (accepts is None or accepts(start) is True):
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # Pillow's way to say that it is another format
            continue
    raise UnidentifiedImageError("not an image of a known format")


def is_upright(image: Image.Image) -> bool:
    """Whether the image is upright: its EXIF block names no rotation, or cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # Pillow raises SyntaxError, struct.error and others of a block that is not EXIF
        return True


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF block says that it was held."""
    return image if is_upright(image) else ImageOps.exif_transpose(image)


def _rgb_bytes(file: io.BytesIO | io.BufferedReader) -> int:
    with open_image(file) as image:
        return 3 * image.width * image.height


def _check_size(image: Image.Image) -> None:
    if not image.width or not image.height:
        raise ValueError(f"{image.width} by {image.height} pixels: there is nothing to see")
    most = _most_pixels()
    if image.width * image.height > most:
        allowed = f"{VARIABLE}={math.ceil(image.width * image.height / 1e6)} allows this one"
        raise ValueError(
            f"{image.width:,} by {image.height:,} pixels, and at most {most / 1e6:g} megapixels are read, "
            f"because it could be a decompression bomb; {allowed}"
        )


def _most_pixels() -> int:
    given = os.environ.get(VARIABLE, str(MEGAPIXELS))
    try:
        most = int(float(given) * 1e6)
    except (ValueError, OverflowError):
        most = 0
    if most < 1:
        raise ValueError(f"{VARIABLE}={given}: must be a number of megapixels, as {MEGAPIXELS}")
    return most

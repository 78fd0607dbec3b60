"""Small images and masks in files of every kind."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SHAPE = (6, 8)
DISC = np.zeros(SHAPE, bool)
DISC[1:4, 2:7] = True


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def constant(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, SHAPE[::-1], colour)


def labels(values: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(palette)  # makes it a palette image
    return image


def png_16(values: np.ndarray) -> bytes:
    """A 16-bit grayscale PNG, written by hand: independent of how Pillow understands such files."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

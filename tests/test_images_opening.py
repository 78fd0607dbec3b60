"""Which files are opened as images, up to which size, and what is kept of them besides their pixels."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from menet_jax.images.distortions import compress_jpeg
from menet_jax.images.files import read_image, read_mask, read_picture
from menet_jax.images.maps import read_map
from menet_jax.images.opening import UnreadableImageError, decoded_bytes
from menet_jax.images.strips import by_strips

pytestmark = pytest.mark.filterwarnings("error")

SHAPE = (6, 8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def black() -> Image.Image:
    return Image.new("L", SHAPE[::-1])


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "nowhere", "in a circle"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "nowhere":
            path.symlink_to("not there")
        case _:
            path.symlink_to(path)
    for read in (read_image, read_mask, read_map):
        with pytest.raises(UnreadableImageError, match=rf"^{path}: (not a regular file|a link).* {kind}"):
            read(path)
    assert decoded_bytes(path) == 0


def test_pillows_limits_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SHAPE[0] * SHAPE[1] // 3)
    assert read_image(encode(black())).shape == (*SHAPE, 3)
    assert compress_jpeg(np.zeros((*SHAPE, 3), np.uint8), 50).shape == (*SHAPE, 3)
    profile = np.random.default_rng(0).bytes(2**21)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("history", "saved " * 2**18, zip=True)
    assert read_image(encode(black(), pnginfo=texts, icc_profile=profile)).shape == (*SHAPE, 3)


def test_decompression_bombs_are_errors_unless_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encode(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4")
    with pytest.raises(UnreadableImageError, match=r"bomb: 20,000 by 20,000 pixels.*bomb.*MENET_MEGAPIXELS=400"):
        read_image(bomb, "bomb")
    assert decoded_bytes(bomb) == 1_200_000_000  # of the header
    monkeypatch.setenv("MENET_MEGAPIXELS", "48e-6")
    assert read_image(encode(black())).shape == (*SHAPE, 3)
    monkeypatch.setenv("MENET_MEGAPIXELS", "47e-6")
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_image(encode(black()))
    monkeypatch.setenv("MENET_MEGAPIXELS", "many")
    with pytest.raises(UnreadableImageError, match="MENET_MEGAPIXELS=many: must be a number"):
        read_image(encode(black()))


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(6 * 2**30)
    with pytest.raises(
        UnreadableImageError, match=rf"{path}: 6,442,450,944 bytes, and at most 1,024,000,000 .*=1611 allows"
    ):
        read_image(path)


@pytest.mark.parametrize(
    ("mode", "space", "kept"), [("RGB", b"RGB ", True), ("L", b"GRAY", False), ("P", b"RGB ", True)]
)
def test_only_a_profile_of_rgb_is_kept(mode: str, space: bytes, kept: bool) -> None:
    profile = bytes(16) + space + bytes(100)
    picture = read_picture(encode(Image.new("RGB", SHAPE[::-1], "red").convert(mode), icc_profile=profile))
    assert picture.profile == (profile if kept else None) and picture.opacity is None


def test_an_image_without_a_pixel_is_none() -> None:
    with pytest.raises(UnreadableImageError, match=r"none\.ppm: "):
        read_image(b"P6 0 5 255\n", "none.ppm")


def test_strips_make_no_difference() -> None:
    values = np.arange(3000 * 1000, dtype=np.float32).reshape(3000, 1000)
    np.testing.assert_array_equal(by_strips(lambda a, b: a - 2 * b, values, values[::-1]), values - 2 * values[::-1])

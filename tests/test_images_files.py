"""Every kind of image is read as what it shows, or refused by name; images and masks are resized and written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_cases import DISC, SHAPE, constant, encode, labels, png_16
from PIL import Image

from menet_jax.images import maps
from menet_jax.images.files import fit_mask, is_image, is_plain, png, read_image, read_mask, resize_image, resize_mask
from menet_jax.images.maps import read_map
from menet_jax.images.opening import UnreadableImageError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        pytest.param(encode(constant("RGB", (10, 20, 30))), (10, 20, 30), 0, id="RGB"),
        pytest.param(encode(constant("RGB", (200, 40, 90)), "JPEG", quality=100), (200, 40, 90), 2, id="JPEG"),
        pytest.param(encode(constant("1", 1)), (255, 255, 255), 0, id="1-bit white"),
        pytest.param(encode(constant("1", 0)), (0, 0, 0), 0, id="1-bit black"),
        pytest.param(encode(constant("L", 77)), (77, 77, 77), 0, id="gray"),
        pytest.param(encode(labels(np.full(SHAPE, 2), [0, 0, 0, 9, 9, 9, 12, 200, 34])), (12, 200, 34), 0, id="P"),
        pytest.param(
            encode(labels(np.ones(SHAPE), [0, 0, 0, 9, 9, 9]), transparency=1),
            (255, 255, 255),
            0,
            id="P hole",
        ),
        pytest.param(
            encode(labels(np.ones(SHAPE), [0, 0, 0, 100, 0, 50]), transparency=bytes([255, 51])),
            # 51 / 255 is one fifth of (100, 0, 50) on four fifths of white
            (224, 204, 214),
            1,
            id="P alpha",
        ),
        pytest.param(png_16(np.full(SHAPE, 1000)), (4, 4, 4), 0, id="16-bit dark"),  # 1000 / 257 = 3.9, not 232
        pytest.param(png_16(np.full(SHAPE, 200)), (1, 1, 1), 0, id="16-bit almost black"),
        pytest.param(png_16(np.full(SHAPE, 50 * 257)), (50, 50, 50), 0, id="16-bit"),
        pytest.param(png_16(np.full(SHAPE, 65535)), (255, 255, 255), 0, id="16-bit white"),
        pytest.param(encode(constant("I;16", 257 * 90), "TIFF"), (90, 90, 90), 0, id="16-bit TIFF"),
        pytest.param(encode(constant("RGBA", (10, 20, 30, 255))), (10, 20, 30), 0, id="RGBA opaque"),
        pytest.param(encode(constant("RGBA", (10, 20, 30, 0))), (255, 255, 255), 0, id="RGBA clear"),
        pytest.param(encode(constant("RGBA", (0, 100, 255, 51))), (204, 224, 255), 1, id="RGBA part"),
        pytest.param(encode(constant("LA", (100, 51))), (224, 224, 224), 1, id="LA"),
        pytest.param(encode(constant("RGB", (1, 2, 3)), transparency=(1, 2, 3)), (255, 255, 255), 0, id="RGB key"),
        pytest.param(encode(constant("L", 9), transparency=9), (255, 255, 255), 0, id="L key"),
        # red = (255 - cyan)(255 - black) / 255, and so on
        pytest.param(encode(constant("CMYK", (255, 0, 0, 0)), "TIFF"), (0, 255, 255), 0, id="CMYK TIFF"),
        pytest.param(
            encode(constant("CMYK", (51, 102, 0, 51)), "JPEG", quality=100),
            (163, 122, 204),
            3,
            id="CMYK JPEG",
        ),
        pytest.param(encode(constant("F", 0.2), "TIFF"), (51, 51, 51), 0, id="float 0 to 1"),
        pytest.param(encode(constant("F", 51.0), "TIFF"), (51, 51, 51), 0, id="float 0 to 255"),
        pytest.param(encode(constant("F", -3.0), "TIFF"), (0, 0, 0), 0, id="float negative"),
        pytest.param(encode(constant("I", 80), "TIFF"), (80, 80, 80), 0, id="integer, 8 bits of 32"),
        pytest.param(encode(constant("I", 257 * 80), "TIFF"), (80, 80, 80), 0, id="integer, 16 bits of 32"),
        pytest.param(encode(constant("I", 2**30), "TIFF"), (255, 255, 255), 0, id="integer, 30 bits of 32"),
    ],
)
def test_images_of_every_mode_become_the_colour_they_show(
    data: bytes, expected: tuple[int, int, int], tolerance: int
) -> None:
    image = read_image(data)
    assert image.dtype == np.uint8
    assert image.shape == (*SHAPE, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to(expected, image.shape), atol=tolerance, rtol=0)


def test_inverted_cmyk_of_adobe_is_not_a_negative() -> None:
    data = encode(constant("CMYK", (0, 0, 0, 0)), "JPEG")  # no ink
    assert b"Adobe" in data  # this marker is what says "inverted"
    assert read_image(data).min() > 250


ORIENTED = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 12


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, ORIENTED),
        (2, ORIENTED[:, ::-1]),
        (3, ORIENTED[::-1, ::-1]),
        (4, ORIENTED[::-1]),
        (5, ORIENTED.transpose(1, 0, 2)),
        (6, np.rot90(ORIENTED, -1)),
        (7, ORIENTED[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(ORIENTED, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(ORIENTED), exif=exif)
    np.testing.assert_array_equal(read_image(data), upright)
    assert is_plain(data) == (orientation == 1)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (encode(constant("RGB", 0)), True),
        (encode(constant("RGB", 0), "JPEG"), True),
        (encode(constant("RGB", 0), "BMP"), False),
        (encode(constant("L", 0)), False),
        (encode(constant("CMYK", 0), "JPEG"), False),
        (encode(constant("RGBA", 0)), False),
        (encode(constant("RGB", 0), transparency=(0, 0, 0)), False),
    ],
)
def test_only_plain_rgb_is_plain(data: bytes, plain: bool) -> None:
    assert is_plain(data) == plain


@given(hnp.arrays(np.uint8, (5, 7, 3)))
def test_images_survive_png(image: np.ndarray) -> None:
    np.testing.assert_array_equal(read_image(png(image)), image)


NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello", "not an image", id="text"),
        pytest.param(encode(Image.fromarray(NOISE), "JPEG")[:-500], "truncated", id="JPEG"),
        pytest.param(encode(Image.fromarray(NOISE))[:-500], "truncated", id="PNG"),
        pytest.param(encode(Image.fromarray(NOISE), "BMP")[:-500], "truncated", id="BMP"),
        pytest.param(encode(Image.fromarray(NOISE))[:30], ".", id="PNG header"),
    ],
)
def test_unreadable_files_are_named(read: Any, data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=rf"broken\.png: .*{reason}"):
        read(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"nowhere\.png"):
        read_image(tmp_path / "nowhere.png")


def test_masks_straight_from_pillow_are_resized_too() -> None:
    mask = np.asarray(Image.fromarray(DISC))  # bool, with bytes of 0 and 255
    np.testing.assert_array_equal(resize_mask(mask, (12, 16)), resize_mask(DISC, (12, 16)))
    np.testing.assert_array_equal(read_mask(png(mask)), DISC)


def test_fit_mask_accepts_the_same_aspect_only() -> None:
    mask = np.zeros((100, 150), bool)
    mask[:, :75] = True
    assert fit_mask(mask, (100, 150)) is mask
    fitted = fit_mask(mask, (200, 305))  # 1.7 % wider
    assert fitted.shape == (200, 305)
    assert fitted[:, :151].all()
    assert not fitted[:, 154:].any()
    with pytest.raises(ValueError, match=r"150 by 100 .* 310 by 200"):  # 3.3 % wider
        fit_mask(mask, (200, 310))
    with pytest.raises(ValueError, match="150 by 100"):  # rotated
        fit_mask(mask, (150, 100))


@given(st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_resizing_keeps_constants(height: int, width: int, salient: bool) -> None:
    size = (height, width)
    np.testing.assert_array_equal(resize_mask(np.full(SHAPE, salient), size), np.full(size, salient))
    np.testing.assert_array_equal(resize_image(np.full((*SHAPE, 3), 91, np.uint8), size), 91)
    resized = maps.resize_map(np.full(SHAPE, 0.3, np.float32), size)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, np.full(size, 0.3), rtol=1e-6)


def test_resizing_averages() -> None:
    checks = (np.indices((4, 8)).sum(axis=0) % 2).astype(np.float32)
    np.testing.assert_allclose(maps.resize_map(checks, (1, 1)), 0.5, atol=1e-6)
    # Exactly half is not more than half.
    assert not resize_mask(np.array([[True, False]]), (1, 1)).any()
    assert resize_mask(np.array([[True, True, False]]), (1, 1)).all()


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)))
def test_resized_maps_stay_in_range(saliency: np.ndarray) -> None:
    resized = maps.resize_map(saliency, (7, 5))
    assert resized.min() >= 0
    assert resized.max() <= 1


def test_the_same_file_by_path_and_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(NOISE)))
    np.testing.assert_array_equal(read_image(path), read_image(path.read_bytes()))
    np.testing.assert_array_equal(read_image(str(path)), NOISE)


def test_a_postscript_file_is_not_opened(tmp_path: Path) -> None:
    """Pillow would have Ghostscript run it, whatever the file is called."""
    path = tmp_path / "photograph.jpg"
    Image.new("RGB", (4, 3)).save(path, "EPS")
    for read in (read_image, read_mask, read_map):
        with pytest.raises(UnreadableImageError, match=r"not an image|cannot identify"):
            read(path)
    assert not is_image(path.read_bytes())


def test_an_exif_block_that_is_none_says_nothing(tmp_path: Path) -> None:
    path, gray = tmp_path / "image.png", np.arange(12, dtype=np.uint8).reshape(3, 4) * np.uint8(20)
    Image.fromarray(gray).save(path, exif=b"b'Exif\\x00\\x00II*'")
    np.testing.assert_array_equal(read_image(path)[..., 0], gray)
    np.testing.assert_array_equal(read_mask(path), gray > 127)
    np.testing.assert_array_equal(read_map(path), gray)
    assert is_image(path.read_bytes()) and not is_plain(path.read_bytes())


def test_values_that_are_not_finite_are_of_a_file_with_a_name(tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(path)
    with pytest.raises(UnreadableImageError, match=r"depth.tif.*not finite"):
        read_image(path)

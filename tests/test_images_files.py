"""Every kind of image and mask is read as what it shows, or refused by name."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from menet_jax.images import maps
from menet_jax.images.files import (
    fit_mask,
    is_image,
    is_plain,
    mask_notes,
    png,
    read_image,
    read_mask,
    read_mask_file,
    resize_image,
    resize_mask,
)
from menet_jax.images.maps import read_map
from menet_jax.images.opening import UnreadableImageError

pytestmark = pytest.mark.filterwarnings("error")

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


BLACK_WHITE = [0, 0, 0, 255, 255, 255]
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def gray(low: int, high: int) -> Image.Image:
    return Image.fromarray(np.where(DISC, high, low).astype(np.uint8))


def with_alpha(colour: np.ndarray, alpha: np.ndarray, mode: str = "LA") -> Image.Image:
    image = Image.fromarray(colour.astype(np.uint8))
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image.convert(mode)


FLAT = np.full(SHAPE, 90)
OPAQUE = np.full(SHAPE, 255)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(Image.fromarray(DISC)), id="1-bit"),
        pytest.param(encode(gray(0, 255)), id="0 and 255"),
        pytest.param(encode(gray(0, 1)), id="0 and 1"),
        pytest.param(encode(gray(127, 128)), id="around half"),
        pytest.param(encode(gray(0, 254)), id="almost white"),
        pytest.param(encode(gray(0, 255).resize((80, 60), 0), "JPEG"), id="JPEG"),
        pytest.param(encode(gray(0, 255).convert("RGB")), id="RGB"),
        pytest.param(encode(gray(0, 255).convert("RGB"), "BMP"), id="BMP"),
        pytest.param(encode(gray(0, 255).convert("CMYK"), "TIFF"), id="CMYK"),
        pytest.param(png_16(np.where(DISC, 65535, 0)), id="16-bit"),
        pytest.param(png_16(np.where(DISC, 256 * 200, 100)), id="16-bit, not modulo"),
        pytest.param(png_16(np.where(DISC, 255, 0)), id="16-bit, 8 used"),
        pytest.param(png_16(np.where(DISC, 1, 0)), id="16-bit 0 and 1"),
        pytest.param(encode(Image.fromarray(np.where(DISC, 1.0, 0.0).astype(np.float32)), "TIFF"), id="float"),
        pytest.param(encode(Image.fromarray(np.where(DISC, 0.6, 0.4).astype(np.float32)), "TIFF"), id="float map"),
        pytest.param(encode(Image.fromarray(np.where(DISC, 255, 0).astype(np.int32)), "TIFF"), id="integer"),
        pytest.param(encode(labels(DISC, BLACK_WHITE)), id="palette"),
        pytest.param(encode(labels(~DISC, BLACK_WHITE[::-1])), id="palette, white first"),
        pytest.param(encode(labels(DISC, VOC)), id="palette, dark red"),
        pytest.param(encode(labels(DISC * 3, VOC)), id="palette, one class of several"),
        pytest.param(encode(labels(DISC, [0, 0, 0, 0, 0, 0])), id="palette, all black"),
        pytest.param(encode(labels(DISC, [0, 0, 0, 1, 1, 1])), id="palette, ramp"),
        pytest.param(encode(labels(DISC, [255, 255, 255] * 2)), id="palette, all white"),
        pytest.param(
            encode(labels(np.where(DISC, 3, DISC[::-1]), [0, 0, 0, 90, 90, 90, 0, 0, 0, 200, 200, 200])),
            id="palette, grays",
        ),
        pytest.param(encode(with_alpha(DISC * 255, OPAQUE)), id="LA opaque"),
        pytest.param(encode(with_alpha(DISC * 255, OPAQUE, "RGBA")), id="RGBA opaque"),
        pytest.param(encode(with_alpha(OPAQUE, DISC * 255, "RGBA")), id="RGBA, white cut out"),
        pytest.param(encode(with_alpha(FLAT * 0, DISC * 255, "RGBA")), id="RGBA, black cut out"),
        pytest.param(encode(with_alpha(DISC * 255, np.where(DISC, 255, 0))), id="LA, colour and alpha agree"),
    ],
)
def test_masks_of_every_mode_are_read_clean(data: bytes) -> None:
    mask = read_mask(data)
    assert mask.dtype == np.bool_
    assert mask.view(np.uint8).max() == 1  # Pillow's 1-bit images come as bool arrays of 0 and 255
    np.testing.assert_array_equal(resize_mask(mask, SHAPE), DISC)


@pytest.mark.parametrize(
    ("data", "salient"),
    [
        pytest.param(encode(constant("1", 0)), False, id="1-bit black"),
        pytest.param(encode(constant("1", 1)), True, id="1-bit white"),
        pytest.param(encode(constant("L", 0)), False, id="black"),
        pytest.param(encode(constant("L", 255)), True, id="white"),
        pytest.param(encode(constant("L", 1)), True, id="all 1"),
        pytest.param(encode(labels(np.zeros(SHAPE), BLACK_WHITE)), False, id="palette black"),
        pytest.param(encode(labels(np.ones(SHAPE), BLACK_WHITE)), True, id="palette white"),
        pytest.param(encode(labels(np.zeros(SHAPE), BLACK_WHITE[::-1])), True, id="palette white first"),
        pytest.param(encode(labels(np.ones(SHAPE), BLACK_WHITE[::-1])), False, id="palette black second"),
        pytest.param(encode(labels(np.ones(SHAPE), VOC)), True, id="palette dark red"),
        pytest.param(encode(constant("RGBA", (0, 0, 0, 0))), False, id="all clear"),
    ],
)
def test_masks_of_one_value(data: bytes, salient: bool) -> None:
    np.testing.assert_array_equal(read_mask(data), np.full(SHAPE, salient))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (gray(0, 100), "values 0, 100"),
        (gray(1, 2), "values 1, 2"),
        (labels(np.where(DISC, 3, DISC[::-1]), VOC), "palette of 3 colours"),
    ],
)
def test_labels_without_a_meaning_are_refused(image: Image.Image, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=rf"labels\.png: .*{reason}"):
        read_mask(encode(image), "labels.png")


OBSERVERS = np.floor(np.arange(13) / 12 * 255 + 0.5).astype(np.uint8).reshape(1, 13)
"""What a mean over twelve observers is stored as: 0, 21, 43, … 255."""


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("graded", [False, True])
def test_gray_masks_are_cut_at_half(scale: int, graded: bool) -> None:
    """Six of twelve observers are stored as 128, which is more than half of 255."""
    values = OBSERVERS if scale == 1 else OBSERVERS.astype(np.uint16) * scale
    mask, gray = read_mask_file(encode(Image.fromarray(values)), graded=graded)
    assert mask.tolist() == [[False] * 6 + [True] * 7] and gray


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(OBSERVERS[:, :6]),  # at most five of twelve
        Image.fromarray(OBSERVERS[:, :2]),
        Image.fromarray(np.array([[0, 106]], np.uint8)),
        Image.fromarray(OBSERVERS[:, :6]).convert("RGB"),
        Image.fromarray(OBSERVERS[:, :6]).convert("P"),
        labels(DISC, [0, 0, 0, 100, 100, 100]),
        with_alpha(DISC * 100, OPAQUE),
    ],
)
def test_graded_masks_below_half_are_empty(image: Image.Image) -> None:
    mask, gray = read_mask_file(encode(image), graded=True)
    assert gray and not mask.any() and mask.shape == (image.height, image.width)


def test_masks_below_half_are_refused_unless_they_are_graded() -> None:
    with pytest.raises(UnreadableImageError, match=r"values 0, 21, 43; .*--graded-masks \(--data.graded-masks"):
        read_mask(encode(Image.fromarray(OBSERVERS[:, :3])))


@pytest.mark.parametrize("kind", ["1", "L", "P", "RGB", "RGBA"])
def test_masks_of_two_values_are_not_gray(kind: str) -> None:
    image = Image.fromarray(np.where(DISC, 255, 0).astype(np.uint8)).convert(kind)
    for graded in (False, True):
        mask, gray = read_mask_file(encode(image), graded=graded)
        assert not gray
        np.testing.assert_array_equal(mask, DISC)
    mask, gray = read_mask_file(encode(Image.fromarray(DISC.astype(np.uint8))), graded=True)  # 0 and 1
    assert not gray
    np.testing.assert_array_equal(mask, DISC)


@pytest.mark.parametrize(
    "image",
    [
        gray(1, 2),
        Image.fromarray(np.arange(21, dtype=np.uint8).reshape(3, 7)),
        labels(np.where(DISC, 3, DISC[::-1]), VOC),
    ],
)
def test_graded_or_not_labels_are_refused(image: Image.Image) -> None:
    for graded in (False, True):
        with pytest.raises(UnreadableImageError) as caught:
            read_mask(encode(image), graded=graded)
        assert "graded" not in str(caught.value)


@pytest.mark.parametrize(
    ("counts", "notes"),
    [
        ((850, 0, 0), []),
        (
            (850, 1200 - 360, 5),
            ["840 of 850 masks have gray values, thresholded at half", "nothing is salient in 5 of 850 masks"],
        ),
    ],
)
def test_what_is_said_of_masks(counts: tuple[int, int, int], notes: list[str]) -> None:
    said = mask_notes(*counts)
    assert [each.split(", where")[0] for each in said] == notes


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_masks_survive_png(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(read_mask(png(mask)), mask)


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

"""Masks of every kind are read as what they show, or refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from image_cases import DISC, SHAPE, constant, encode, labels, png_16
from PIL import Image

from menet_jax.images.files import mask_notes, png, read_mask, read_mask_file, resize_mask
from menet_jax.images.opening import UnreadableImageError

pytestmark = pytest.mark.filterwarnings("error")

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

"""Distortions: the distribution of the noise, its seeding, and the exact bytes it must give everywhere."""

import hashlib
import io
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from menet_jax.images import distortions
from menet_jax.images.distortions import Clean, Jpeg, Noise, add_noise, compress_jpeg, random_quality, random_sigma

GREY = np.full((200, 200, 3), 128, np.uint8)
STEPS = (np.arange(48 * 40 * 3).reshape(48, 40, 3) * 7 % 256).astype(np.uint8)

NOISY_CORNER = [[23, 0, 0], [0, 50, 51]]
NOISY_SHA256 = "bd83008f2ae1bca7adf6a4dc4510101a7317ca19e5056b2998e22f2c145d435a"
RANDOM_SIGMA = 12.504182908084374
RANDOM_QUALITY = 19


def test_noise_is_byte_identical_everywhere() -> None:
    """The bytes of every platform and version: if this fails, results of earlier runs cannot be repeated."""
    noisy = add_noise(STEPS, 25.0, name="horse-001", seed=0)
    assert noisy[0, :2].tolist() == NOISY_CORNER
    assert hashlib.sha256(noisy.tobytes()).hexdigest() == NOISY_SHA256
    assert random_sigma("horse-001", 0) == RANDOM_SIGMA
    assert random_quality("horse-001", 0) == RANDOM_QUALITY


def test_noise_has_the_stated_distribution() -> None:
    for sigma in (2.0, 10.0, 30.0):
        noise = add_noise(GREY, sigma, name="a", seed=1).astype(float) - 128
        assert abs(noise.mean()) < 4 * sigma / noise.size**0.5
        assert noise.std() == pytest.approx((sigma**2 + 1 / 12) ** 0.5, rel=0.01)  # rounding adds 1/12
        for level in (
            -2,
            -1,
            0,
            1,
            2,
        ):  # the pixels at or below a level are those below it by half a level more
            expected = NormalDist(0, sigma).cdf(level * round(sigma) + 0.5)
            assert np.mean(noise <= level * round(sigma)) == pytest.approx(expected, abs=0.006)


def test_noise_is_white() -> None:
    noise = add_noise(GREY, 20.0, name="a", seed=1).astype(float) - 128
    for other in (np.roll(noise, 1, 0), np.roll(noise, 1, 1), np.roll(noise, 1, 2)):
        assert abs(np.mean(noise * other)) / 20**2 < 4 / noise.size**0.5


def test_noise_is_clipped_and_rounded() -> None:
    black = add_noise(np.zeros((50, 50, 3), np.uint8), 30.0, name="a", seed=0)
    white = add_noise(np.full((50, 50, 3), 255, np.uint8), 30.0, name="a", seed=0)
    assert np.mean(black == 0) == pytest.approx(0.5, abs=0.03)  # not wrapped round to 255
    assert np.mean(white == 255) == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(add_noise(STEPS, 0.0, name="a", seed=0), STEPS)
    assert add_noise(STEPS, 1e9, name="a", seed=0).dtype == np.uint8


def test_one_noise_at_every_sigma() -> None:
    one, three = (add_noise(GREY, sigma, name="a", seed=0).astype(float) - 128 for sigma in (8.0, 24.0))
    assert np.abs(three - 3 * one).max() <= 2  # but for rounding


def test_noise_depends_on_name_and_seed_alone() -> None:
    names = ["a", "b", "c"]
    forward = {name: add_noise(STEPS, 9.0, name=name, seed=0) for name in names}
    backward = {name: add_noise(STEPS, 9.0, name=name, seed=0) for name in reversed(names)}
    assert all(np.array_equal(forward[name], backward[name]) for name in names)
    assert not np.array_equal(forward["a"], forward["b"])
    assert not np.array_equal(forward["a"], add_noise(STEPS, 9.0, name="a", seed=1))
    before = STEPS.copy()
    add_noise(STEPS, 9.0, name="a", seed=0)
    assert np.array_equal(before, STEPS)


def test_one_name_in_both_spellings() -> None:
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    assert random_sigma(composed, 0) == random_sigma(decomposed, 0)
    assert random_sigma("not-utf8-\udcff", 0) > 0


def test_random_strengths_fill_their_range() -> None:
    names = [f"image-{i}" for i in range(2000)]
    sigmas = np.array([random_sigma(name, 0) for name in names])
    assert (sigmas > distortions.SIGMA_RANGE[0]).all()
    assert (sigmas < distortions.SIGMA_RANGE[1]).all()
    assert sigmas.mean() == pytest.approx(np.mean(distortions.SIGMA_RANGE), abs=1.5)
    assert {random_quality(name, 0, (7, 10)) for name in names} == {7, 8, 9, 10}
    assert random_quality("a", 0, (30, 30)) == 30
    assert random_sigma("a", 0, (30.0, 30.0)) == 30


@pytest.mark.parametrize("quality", [1, 10, 50, 95, 100])
def test_jpeg_is_what_a_saved_file_holds(quality: int) -> None:
    saved = io.BytesIO()
    Image.fromarray(STEPS).save(saved, "JPEG", quality=quality, subsampling=2)
    decoded = compress_jpeg(STEPS, quality)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert np.array_equal(decoded, np.array(Image.open(saved)))


def test_jpeg_hurts_more_at_lower_quality() -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64))[..., None].repeat(3, 2).astype(np.uint8)
    image = add_noise(smooth, 5.0, name="a", seed=0)
    errors = [np.abs(compress_jpeg(image, q).astype(int) - image).mean() for q in (5, 25, 75, 100)]
    assert errors == sorted(errors, reverse=True)


def test_severities_grow() -> None:
    assert len(distortions.SEVERITY_SIGMA) == len(distortions.SEVERITY_QUALITY) == 5
    assert list(distortions.SEVERITY_SIGMA) == sorted(distortions.SEVERITY_SIGMA)
    assert np.allclose(distortions.SEVERITY_SIGMA, [20.4, 30.6, 45.9, 66.3, 96.9])
    assert list(distortions.SEVERITY_QUALITY) == sorted(distortions.SEVERITY_QUALITY, reverse=True)


def test_distortions_as_objects() -> None:
    """They do what the functions do, and say what they did."""
    noise, fixed, jpeg = Noise(5.0, 50.0), Noise(20.4, 20.4), Jpeg(5, 50)
    assert noise.strength("a", 1) == random_sigma("a", 1, (5.0, 50.0))
    assert jpeg.strength("a", 1) == random_quality("a", 1, (5, 50))
    assert fixed.strength("a", 1) == 20.4
    sigma, quality = noise.strength("a", 1), jpeg.strength("a", 1)
    np.testing.assert_array_equal(noise(STEPS, "a", 1), add_noise(STEPS, sigma, name="a", seed=1))
    np.testing.assert_array_equal(jpeg(STEPS, "a", 1), compress_jpeg(STEPS, quality))
    np.testing.assert_array_equal(Clean()(STEPS, "a", 1), STEPS)
    labels = [each.label for each in (Clean(), noise, fixed, jpeg, Jpeg(7, 7))]
    assert labels == ["clean", "AWGN σ 5–50", "AWGN σ 20.4", "JPEG quality 5–50", "JPEG quality 7"]
    with pytest.raises(ValueError, match=r"9.0 \.\.\. 5.0"):
        Noise(9.0, 5.0)
    with pytest.raises(ValueError, match=r"0 \.\.\. 5"):
        Jpeg(0, 5)


def test_errors_name_the_problem() -> None:
    with pytest.raises(TypeError, match="float32"):
        add_noise(STEPS.astype(np.float32), 1.0, name="a", seed=0)
    with pytest.raises(ValueError, match=r"\(48, 40\)"):
        compress_jpeg(STEPS[..., 0], 50)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=str(sigma)):
            add_noise(STEPS, sigma, name="a", seed=0)
    for quality in (0, 101):
        with pytest.raises(ValueError, match=str(quality)):
            compress_jpeg(STEPS, quality)
    with pytest.raises(ValueError, match="a side of 70,000 pixels, and JPEG takes 65,500 at most"):
        compress_jpeg(np.zeros((1, 70_000, 3), np.uint8), 50)
    with pytest.raises(ValueError, match=r"9 \.\.\. 5"):
        random_quality("a", 0, (9, 5))
    with pytest.raises(ValueError, match=r"9.0 \.\.\. 5.0"):
        random_sigma("a", 0, (9.0, 5.0))

"""The synthetic dataset: the same pixels everywhere, not trivial, and a builder that needs no TensorFlow."""

import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from jaxtyping import Bool, Float, UInt8

from menet_jax.datasets.synthetic.draws import Draws
from menet_jax.datasets.synthetic.fields import box_blur, shift
from menet_jax.datasets.synthetic.samples import sheet
from menet_jax.datasets.synthetic.scenes import SEEDS, scene
from menet_jax.datasets.synthetic.synthetic_dataset_builder import Synthetic

pytestmark = pytest.mark.filterwarnings("error")

Scene = tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]
Map = Float[np.ndarray, "h w"]


@pytest.fixture(scope="module")
def held_out() -> list[Scene]:
    """The whole test split of the standard configuration."""
    return [scene(SEEDS["test"], index) for index in range(100)]


def digest(drawn: Scene) -> str:
    image, mask = drawn
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes() + mask.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("seed", "index", "expected"),
    [
        (1, 0, "a361456d7a0fce6eb0af99cdb5d11b1c898c1d797a5356958232b9708eba6383"),
        (1, 599, "e5fc8de92bd1ece59a3303435c140524597a23dbdcbaa553e81be85476c32132"),
        (2, 7, "22b61b6d38c27fe9c58cbc4f05cdf57fabbec4597f346a749ddd7b4fb020f42a"),
        (3, 42, "61d49020f35a372601e9c11a18e16987ff201cc2162102feb4b207ba0d778c6d"),
    ],
)
def test_pixels_are_the_same_everywhere(seed: int, index: int, expected: str) -> None:
    assert digest(scene(seed, index)) == expected


def test_draws_are_the_raw_words_of_pcg64() -> None:
    words = np.random.PCG64(np.random.SeedSequence(5, spawn_key=(9,))).random_raw(4)
    expected = [int(word) // 2**40 / 2**24 for word in words]
    assert Draws(5, 9).uniforms(4).tolist() == expected


def test_draws_keep_their_ranges() -> None:
    draws = Draws(0, 0)
    assert {draws.integer(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {draws.choice("ab") for _ in range(100)} == {"a", "b"}
    values = [draws.between(-1.0, 3.0) for _ in range(1000)]
    assert -1.0 <= min(values) < -0.9 and 2.9 < max(values) < 3.0
    assert sum(draws.chance(0.2) for _ in range(1000)) == pytest.approx(200, abs=50)
    directions = np.array([draws.direction() for _ in range(1000)])
    np.testing.assert_allclose((directions * directions).sum(1), 1.0, atol=1e-12)
    assert np.abs(directions.mean(0)).max() < 0.1  # no side is favoured


def test_box_blur_counts_neighbours() -> None:
    mask = np.zeros((5, 7), np.bool_)
    mask[2, 3] = mask[0, 0] = True
    expected = np.zeros((5, 7), np.float32)
    expected[1:4, 2:5] += np.float32(1 / 9)
    expected[:2, :2] += np.float32(1 / 9)
    np.testing.assert_array_equal(box_blur(mask, 1), expected)


def test_shift_brings_nothing_in_from_outside() -> None:
    mask = np.ones((3, 4), np.bool_)
    expected = np.zeros((3, 4), np.bool_)
    expected[1:, :2] = True
    np.testing.assert_array_equal(shift(mask, 1.2, -1.6), expected)


def test_images_and_masks_are_well_formed(held_out: list[Scene]) -> None:
    portraits = 0
    for image, mask in held_out:
        assert image.shape[:2] == mask.shape
        assert 270 <= min(mask.shape) <= 330 and 360 <= max(mask.shape) <= 440
        assert image.std() > 10.0
        portraits += mask.shape[0] > mask.shape[1]
    assert 25 <= portraits <= 55


def test_scenes_hold_one_to_three_objects_of_varied_size(held_out: list[Scene]) -> None:
    counts = [cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for _, mask in held_out]
    assert set(counts) == {1, 2, 3}
    assert min(np.bincount(counts)[1:]) >= 15
    shares = [mask.mean() for _, mask in held_out]
    assert 0.02 < min(shares) < 0.1
    assert 0.3 < max(shares) < 0.6


def test_no_scene_is_repeated_within_or_between_splits(held_out: list[Scene]) -> None:
    others = [scene(SEEDS[split], index) for split in ("train", "validation") for index in range(10)]
    digests = [digest(drawn) for drawn in held_out + others]
    assert len(set(digests)) == len(digests) == 120


def adaptive_f(saliency: Map, mask: Bool[np.ndarray, "h w"]) -> float:
    """F of the map, stretched to [0, 1] and cut at min(2·mean, 1); β² = 0.3."""
    stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    found = stretched >= min(2.0 * stretched.mean(), 1.0)
    hits = np.count_nonzero(found & mask)
    if hits == 0:
        return 0.0
    precision, recall = hits / np.count_nonzero(found), hits / np.count_nonzero(mask)
    return 1.3 * precision * recall / (0.3 * precision + recall)


def frequency_tuned(image: UInt8[np.ndarray, "h w 3"]) -> Map:
    """Achanta et al., "Frequency-tuned salient region detection", 2009; squared, as in their code."""
    lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255.0), cv2.COLOR_RGB2LAB)
    difference = cv2.GaussianBlur(lab, (5, 5), 0) - lab.mean((0, 1))
    return (difference * difference).sum(2)


def test_frequency_tuned_saliency_is_fair_on_a_plain_scene() -> None:
    """The bounds below mean nothing unless this implementation finds what the method can find."""
    image = np.full((60, 80, 3), (90, 120, 60), np.uint8)
    mask = np.zeros((60, 80), np.bool_)
    mask[20:40, 30:55] = True
    image[mask] = (200, 60, 40)
    assert adaptive_f(frequency_tuned(image), mask) > 0.95


def test_colour_distance_does_not_solve_it(held_out: list[Scene]) -> None:
    squared = [adaptive_f(frequency_tuned(image), mask) for image, mask in held_out]
    plain = [adaptive_f(np.sqrt(frequency_tuned(image)), mask) for image, mask in held_out]
    assert 0.2 < np.mean(squared) < 0.5
    assert 0.2 < np.mean(plain) < 0.5


def busyness(image: UInt8[np.ndarray, "h w 3"]) -> Map:
    """Blurred magnitude of the Laplacian of the grey image: how busy its texture is."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    edges = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.5), cv2.CV_64F)
    return cv2.GaussianBlur(np.abs(edges), (0, 0), 6.0)


def test_texture_tells_most_but_not_all(held_out: list[Scene]) -> None:
    """There is a cue to be learnt, or training would be slow, and one filter is not the whole of it."""
    assert 0.75 < np.mean([adaptive_f(busyness(image), mask) for image, mask in held_out]) < 0.88


@pytest.mark.parametrize("spread", [0.12, 0.18, 0.25])
def test_the_centre_does_not_solve_it(held_out: list[Scene], spread: float) -> None:
    scores = []
    for _, mask in held_out:
        y, x = (np.linspace(-0.5, 0.5, side) / spread for side in mask.shape)
        scores.append(adaptive_f(np.exp(-0.5 * (y[:, None] ** 2 + x**2)), mask))
    assert 0.2 < np.mean(scores) < 0.5


def test_builder_prepares_and_reads_back_without_tensorflow(tmp_path: Path) -> None:
    builder = Synthetic(data_dir=tmp_path, config="tiny")
    builder.download_and_prepare()
    splits = builder.as_data_source()
    sizes = {split: len(source) for split, source in splits.items()}
    assert sizes == {"train": 20, "validation": 5, "test": 10}
    seen = set()
    for split, source in splits.items():
        for position, example in enumerate(source):
            assert set(example) == {"image", "mask", "file_name"}
            name = example["file_name"].decode()
            seen.add(name)
            if position % 5 == 0:
                image, mask = scene(SEEDS[split], int(name.removeprefix(f"{split}_").removesuffix(".png")))
                np.testing.assert_array_equal(example["image"], image)
                np.testing.assert_array_equal(example["mask"][..., 0], mask * np.uint8(255))
    assert len(seen) == 35
    assert "tensorflow" not in sys.modules


def test_builder_describes_itself(tmp_path: Path) -> None:
    builder = Synthetic(data_dir=tmp_path)
    assert builder.builder_config is not None and builder.builder_config.name == "standard"
    assert builder.info.description.startswith("# Synthetic scenes")
    assert builder.info.features["image"].shape == (None, None, 3)
    assert builder.info.features["mask"].shape == (None, None, 1)


def test_the_sheet_of_samples_is_filled() -> None:
    picture = sheet(seed=3, rows=2, columns=3, width=900)
    assert picture.shape[1] == 900
    assert (picture == 255).all(axis=(0, 2)).sum() <= 3  # no white margin
    image, _ = scene(3, 0)
    corner = picture[:20, :20].mean((0, 1))
    np.testing.assert_allclose(corner, image[:50, :50].mean((0, 1)), atol=10.0)

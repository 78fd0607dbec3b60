"""Batches: the same crop for image and mask, the same order whatever the threads, every image once."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from menet_jax.data import pipeline as data
from menet_jax.data.pipeline import Augmentation, training_batches
from menet_jax.data.sources import NAMED, Example, Source, open_split
from menet_jax.data.specs import Places
from menet_jax.images.distortions import Jpeg, Noise
from menet_jax.images.files import resize_image

pytestmark = pytest.mark.filterwarnings("error")

SIZE = 16


class Numbered:
    """Images of one colour each, their number; of different sizes, with masks salient on the left."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count = count
        self.first = first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> Example:
        number = index.__index__()
        if not 0 <= number < self.count:
            raise IndexError(number)
        number += self.first
        height, width = 20 + number % 3, 24 + number % 5
        mask = np.zeros((height, width), bool)
        mask[:, : width // 2] = True
        return Example(np.full((height, width, 3), number, np.uint8), mask, f"{number}.png")


class Textured(Numbered):
    """Images in which every crop looks different."""

    def __getitem__(self, index: SupportsIndex) -> Example:
        example = super().__getitem__(index)
        rng = np.random.default_rng(index.__index__())
        return example._replace(image=rng.integers(0, 256, example.image.shape, np.uint8))


def take(batches: data.TrainingBatches, count: int) -> list[data.TrainingBatch]:
    return list(itertools.islice(batches, count))


def numbers(batches: Sequence[data.TrainingBatch]) -> list[int]:
    return [int(number) for batch in batches for number in batch["image"][:, 0, 0, 0]]


def assert_same(some: Sequence[data.TrainingBatch], others: Sequence[data.TrainingBatch]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["mask"], other["mask"])


def start(
    sources: Sequence[Any], batch_size: int = 4, seed: int = 0, at: Any | None = None, **options: Any
) -> data.TrainingBatches:
    batches = training_batches(sources, size=SIZE, batch_size=batch_size, seed=seed, **options)
    if at is not None:
        batches.set_state(at)
    return batches


def test_what_a_batch_is() -> None:
    (batch,) = take(start([Numbered(5)]), 1)
    assert set(batch) == {"image", "mask"}
    assert (batch["image"].shape, batch["image"].dtype) == ((4, SIZE, SIZE, 3), np.uint8)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((4, SIZE, SIZE), np.bool_)


def test_every_image_once_an_epoch_and_each_epoch_in_another_order() -> None:
    seen = numbers(take(start([Numbered(12)], batch_size=4), 9))
    epochs = [seen[:12], seen[12:24], seen[24:]]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(range(12)) not in epochs


def test_several_sources_are_mixed() -> None:
    seen = numbers(take(start([Numbered(6), Numbered(6, first=100)], batch_size=4), 3))
    assert sorted(seen) == [*range(6), *range(100, 106)]
    assert not all(number < 100 for number in seen[:6])


def test_a_batch_may_be_larger_than_the_dataset() -> None:
    seen = numbers(take(start([Numbered(3)], batch_size=8), 3))
    assert Counter(seen) == {0: 8, 1: 8, 2: 8}


def test_batches_of_one() -> None:
    """Grain counts the batches of a dataset, and cannot of an endless one."""
    seen = numbers(take(start([Numbered(3)], batch_size=1), 6))
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_nothing(threads: int) -> None:
    assert_same(take(start([Textured(10)], threads=1), 8), take(start([Textured(10)], threads=threads), 8))


def test_seeds_change_the_order_and_the_crops() -> None:
    first, again, other = (take(start([Textured(10)], seed=seed), 5) for seed in (3, 3, 4))
    assert_same(first, again)
    assert any((one["image"] != two["image"]).any() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("used", [0, 1, 4, 5])  # epochs end within batches 3, 5, 8
def test_resuming_in_mid_epoch_with_batches_read_ahead(used: int) -> None:
    whole = take(start([Textured(10)]), 12)
    interrupted = start([Textured(10)])
    take(interrupted, used)
    state = json.loads(json.dumps(interrupted.get_state()))
    assert_same(take(start([Textured(10)], at=state), 12 - used), whole[used:])
    take(interrupted, 3)  # what was read later does not matter
    interrupted.set_state(state)
    assert_same(take(interrupted, 12 - used), whole[used:])


def test_the_state_of_the_last_batch_used() -> None:
    whole = take(start([Textured(10)]), 10)
    ahead = start([Textured(10)])
    take(ahead, 7)  # 4 were used, 3 are on their way to the device
    assert_same(take(start([Textured(10)], at=ahead.get_state(used=4)), 6), whole[4:])
    assert ahead.get_state() == ahead.get_state(used=7)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"seed": 1}, "seed"), ({"batch_size": 8}, "batch_size"), ({"sources": [Numbered(11)]}, "images")],
)
def test_a_state_of_another_run_is_refused(change: Mapping[str, Any], field: str) -> None:
    state = start([Numbered(10)]).get_state()
    with pytest.raises(ValueError, match=f"run with {field} "):
        start(**{"sources": [Numbered(10)], "at": state, **change})


def test_a_state_of_data_that_are_other_by_a_byte_is_refused() -> None:
    """TFDS shows sizes rounded, and so older states hold them."""
    one, other = (
        Source("mine", "train", {}, (), tfds.core.utils.Size(2**30 + more), range(10)).identity for more in (0, 1)
    )
    state = start([Numbered(10)], identity=[one]).get_state()
    older = state | {"contents": ["train: 10 images, 1.00 GiB bytes"]}
    for each in (state, older):
        start([Numbered(10)], identity=[one], at=each)
    for each in (state | {"contents": [other]}, state | {"contents": ["train: 10 images, 1.01 GiB bytes"]}):
        with pytest.raises(ValueError, match="run with contents"):
            start([Numbered(10)], identity=[one], at=each)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batches_of_one(processes: int) -> None:
    whole = take(start([Textured(10)], batch_size=8), 6)
    shares = [
        take(start([Textured(10)], batch_size=8, process_index=index, process_count=processes), 6)
        for index in range(processes)
    ]
    for step, batch in enumerate(whole):
        for index, share in enumerate(shares):
            np.testing.assert_array_equal(share[step]["image"], batch["image"][index::processes])
            np.testing.assert_array_equal(share[step]["mask"], batch["mask"][index::processes])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": [Numbered(0)]}, "no images"),
        ({"sources": []}, "no images"),
        ({"batch_size": 0}, "batch of 0"),
        ({"batch_size": 6, "process_count": 4}, "6 images cannot be shared among 4 processes; try 4 or 8"),
        ({"batch_size": 3, "process_count": 4}, "try 4"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"distorted": 0.5}, "50% of the images are to be distorted: say by what"),
    ],
)
def test_impossible_requests_are_explained(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(**{"sources": [Numbered(5)], **options})


def test_without_augmentation_images_are_only_resized() -> None:
    source = Textured(4)
    (batch,) = take(start([source], augment=False), 1)
    expected = {resize_image(example.image, (SIZE, SIZE)).tobytes() for example in map(source.__getitem__, range(4))}
    assert {image.tobytes() for image in batch["image"]} == expected
    np.testing.assert_array_equal(batch["mask"][:, :, : SIZE // 2 - 1], True)
    np.testing.assert_array_equal(batch["mask"][:, :, SIZE // 2 + 1 :], False)


BOTH = (Noise(20.0, 60.0), Jpeg(5, 20))


def test_images_are_distorted_only_where_asked_for() -> None:
    plain = take(start([Textured(10)]), 8)
    assert_same(take(start([Textured(10)], distorted=0.0, distortions=BOTH), 8), plain)
    some = take(start([Textured(10)], distorted=0.5, distortions=BOTH), 8)
    changed = [
        bool((image != other).any())
        for batch, others in zip(plain, some, strict=True)
        for image, other in zip(batch["image"], others["image"], strict=True)
    ]
    assert 8 <= sum(changed) <= 24  # of 32
    for batch, others in zip(plain, some, strict=True):
        np.testing.assert_array_equal(batch["mask"], others["mask"])  # the same crops and flips


def test_distortion_comes_before_the_crop_and_the_resizing() -> None:
    """As when testing: at the image's own size. Without crops the distorted image itself is what is resized."""

    class Marked(Noise):
        def __call__(self, image: np.ndarray, name: str, seed: int) -> np.ndarray:
            assert image.shape == Textured(10)[int(name)].image.shape
            return 255 - image

    (batch,) = take(start([Textured(4)], augment=False, distorted=1.0, distortions=[Marked(1.0, 1.0)]), 1)
    expected = {resize_image(255 - Textured(4)[index].image, (SIZE, SIZE)).tobytes() for index in range(4)}
    assert {image.tobytes() for image in batch["image"]} == expected


def test_each_distortion_gets_its_share_and_other_noise_each_time() -> None:
    def kinds(batches: Sequence[data.TrainingBatch]) -> Counter[str]:
        return Counter(str(image[0, 0, 0]) for batch in batches for image in batch["image"])

    class White(Noise):
        def __call__(self, image: np.ndarray, name: str, seed: int) -> np.ndarray:
            return np.full_like(image, 255)

    class Black(Noise):
        def __call__(self, image: np.ndarray, name: str, seed: int) -> np.ndarray:
            return np.zeros_like(image)

    gray = Numbered(100, first=100)
    found = kinds(take(start([gray], distorted=0.5, distortions=[White(1.0, 1.0), Black(1.0, 1.0)]), 100))
    assert abs(found["255"] / 400 - 0.25) < 0.08 and abs(found["0"] / 400 - 0.25) < 0.08
    noisy = take(start([Numbered(1, first=100)], distorted=1.0, distortions=[Noise(20.0, 20.0)], augment=False), 2)
    pictures = {image.tobytes() for batch in noisy for image in batch["image"]}
    assert len(pictures) == 8


@pytest.mark.parametrize("used", [1, 4])
def test_distorted_batches_resume_exactly_on_any_number_of_threads(used: int) -> None:
    options: dict[str, Any] = {"distorted": 0.7, "distortions": BOTH}
    whole = take(start([Textured(10)], threads=1, **options), 8)
    state = json.loads(json.dumps(start([Textured(10)]).get_state(used=used)))
    assert_same(take(start([Textured(10)], threads=4, at=state, **options), 8 - used), whole[used:])
    shares = [take(start([Textured(10)], process_index=i, process_count=2, **options), 8) for i in range(2)]
    for step, batch in enumerate(whole):
        for index, share in enumerate(shares):
            np.testing.assert_array_equal(share[step]["image"], batch["image"][index::2])


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60))
def test_crops_lie_in_the_image_and_have_its_proportions(seed: int, height: int, width: int) -> None:
    crop = Augmentation.draw(np.random.default_rng(seed), height, width)
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width
    ratios = [ratio / 100 for ratio in range(90, 101)]
    assert any(
        abs(crop.height - ratio * height) <= 0.5 + 1e-9 and abs(crop.width - ratio * width) <= 0.5 + 1e-9
        for ratio in ratios
    )


def test_crops_are_drawn_as_the_paper_says() -> None:
    crops = [Augmentation.draw(np.random.default_rng(seed), 1000, 2000) for seed in range(3000)]
    ratios = Counter(crop.height for crop in crops)
    assert sorted(ratios) == list(range(900, 1001, 10))  # 0.90, 0.91, … 1.00
    assert all(abs(count / 3000 - 1 / 11) < 0.025 for count in ratios.values())
    assert all(crop.width == 2 * crop.height for crop in crops)
    assert abs(sum(crop.flip for crop in crops) / 3000 - 0.5) < 0.03
    small = [crop for crop in crops if crop.height == 900]
    assert min(crop.top for crop in small) < 10
    assert max(crop.top for crop in small) > 90
    assert max(crop.left for crop in small) > 180


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_image_and_mask_are_cropped_alike(seed: int) -> None:
    rows, columns = np.indices((60, 80))
    mask = (rows - 25) ** 2 + (columns - 50) ** 2 < 18**2
    image = np.repeat(np.where(mask, 254, 0).astype(np.uint8)[..., None], 3, axis=-1)
    crop, crop_mask = Augmentation.draw(np.random.default_rng(seed), 60, 80)(image, mask, 32)
    np.testing.assert_array_equal(crop[..., 0] > 127, crop_mask)


def test_a_crop_and_a_flip_by_hand() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    mask = np.arange(24).reshape(4, 6) % 5 == 0
    for flip in (False, True):
        crop, crop_mask = Augmentation(1, 2, 3, 3, flip)(image, mask, 3)
        step = -1 if flip else 1
        np.testing.assert_array_equal(crop, image[1:4, 2:5][:, ::step])
        np.testing.assert_array_equal(crop_mask, mask[1:4, 2:5][:, ::step])


def make_folder(folder: Path, count: int) -> Path:
    for index in range(count):
        example = Textured(count)[index]
        for kind, array in (("images", example.image), ("masks", example.mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{index}.png")
    return folder


def test_a_folder_from_files_to_batches(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 20)
    sources = {split: open_split(str(folder), split, Places(tmp_path / "cache")) for split in ("train", "test")}
    train = sources["train"]
    assert train.counts["train"] == len(train)
    assert sum(train.counts.values()) == 20
    assert train.summary().startswith(f"{folder}: train {len(train)}, ")
    assert "hash" in train.summary()
    for source in sources.values():
        for index in range(len(source)):
            image, mask, name = source[index]
            expected = Textured(20)[int(Path(name).stem)]
            np.testing.assert_array_equal(image, expected.image)
            np.testing.assert_array_equal(mask, expected.mask)
    assert len(take(start([train], threads=2), 5)) == 5


def test_skipped_files_are_counted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 20)
    (folder / "images" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.png: the file is empty"):
        open_split(str(folder), "train", Places(tmp_path / "cache"))
    source = open_split(str(folder), "train", Places(tmp_path / "cache", skip_bad=True))
    assert source.summary().endswith("1 irregularity skipped")
    assert sum(source.counts.values()) == 19


def test_an_empty_split_is_explained(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 2)
    (folder / "train.txt").write_text("0\n1\n")
    with pytest.raises(ValueError, match=r"no images in its test split; it has train \(2 images\).*test\.txt"):
        open_split(str(folder), "test", Places(tmp_path / "cache"))


def test_a_home_directory_that_is_not_there_is_explained() -> None:
    with pytest.raises(ValueError, match=r"^~nobody-here/x: there is no such home .*--data\.cache"):
        open_split("synthetic", "train", Places(Path("~nobody-here/x")))


def test_an_unknown_dataset_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Did you mean synthetic\?"):
        open_split("sinthetic", "train", Places(tmp_path))
    (tmp_path / "horses").mkdir()
    with pytest.raises(ValueError, match=rf"Did you mean {tmp_path}/horses\?"):
        open_split(str(tmp_path / "horse"), "train", Places(tmp_path))
    with pytest.raises(ValueError, match=rf"neither a dataset nor a folder.*{', '.join(NAMED)}"):
        open_split("qqqqqqqq", "train", Places(tmp_path))

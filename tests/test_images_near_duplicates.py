"""The same picture in two files is recognised; MSRA1K's pictures are kept out of training on MSRA10K."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark_archives as small
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from menet_jax.data.sources import Places, find_builder
from menet_jax.datasets.benchmark_builder import BenchmarkConfig
from menet_jax.datasets.msra10k import msra10k_dataset_builder
from menet_jax.datasets.msra10k.msra10k_dataset_builder import Msra10k, Msra10kConfig
from menet_jax.datasets.pairs import IrregularFilesError
from menet_jax.images import near_duplicates
from menet_jax.images.files import read_image

pytestmark = pytest.mark.filterwarnings("error")


def config(**sizes: int) -> BenchmarkConfig:
    return BenchmarkConfig(name="small", sizes=sizes)


def make(tmp_path: Path, wanted: Msra10kConfig, **options: Any) -> Msra10k:
    return Msra10k(manual_dir=tmp_path / "manual", data_dir=tmp_path / "cache", config=wanted, **options)


def numbers(builder: Msra10k) -> dict[str, set[int]]:
    raw = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    source: Any = builder.as_data_source  # its signature, made by a decorator, admits no argument
    return {
        split: {int(Path(each["file_name"].decode()).stem) for each in source(split, decoders=raw)}
        for split in builder.info.splits
    }


def inside(folder: str, contents: small.Files) -> small.Files:
    return {f"{folder}/{name}": data for name, data in contents.items()}


def msra10k_config(msra1k: BenchmarkConfig | None) -> Msra10kConfig:
    name = "small" if msra1k else "small_unknown"
    return Msra10kConfig(name=name, sizes={"test": 8, "validation": 4, "train": 28}, msra1k=msra1k)


def test_msra1k_is_kept_out_of_training(tmp_path: Path) -> None:
    """Its pictures have other names, sizes and compression; two are of none in MSRA10K; there are more than fit."""
    small.write(tmp_path / "manual", {"msra10k.zip": small.zipped(small.msra10k(range(40)))})
    unknown = make(tmp_path, msra10k_config(None))
    unknown.prepare()
    assert {split: len(found) for split, found in numbers(unknown).items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }
    assert "MSRA1K is not at hand, so its images may be among the training images" in unknown.splitting
    common = set(range(0, 40, 4))
    assert common & numbers(unknown)["train"]

    renamed = {index: index + 500 for index in (*common, 98, 99)}
    theirs = {f"msra1k/Image/0_{name}.jpg": small.recompressed(index) for index, name in renamed.items()} | {
        f"msra1k/Image/0_{name}.bmp": small.bmp_mask(index) for index, name in renamed.items()
    }
    small.write(tmp_path / "manual", theirs)
    builder = make(tmp_path, msra10k_config(config(test=12)))
    builder.prepare()
    found = numbers(builder)
    assert found["test"] == common
    assert not common & (found["train"] | found["validation"])
    assert "10 images that show pictures of MSRA1K (10 of its 12)" in builder.splitting
    assert "2 of MSRA1K's pictures were not found, and may be among the training images" in builder.splitting


def test_msra1k_decides_the_configuration(tmp_path: Path) -> None:
    places = {"data_dir": tmp_path / "cache", "manual_dir": tmp_path / "manual"}
    small.write(tmp_path / "manual", small.ecssd(range(1, 9)))
    assert Msra10k.best(**places).msra1k is None
    small.write(tmp_path / "manual", inside("MSRA1K", small.msra1k(range(3))))
    assert Msra10k.best(**places).msra1k is not None


def find(places: Places) -> Msra10k:
    builder = find_builder("msra10k", places)
    assert isinstance(builder, Msra10k)
    return builder


def test_msra1k_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images alone are enough; a link that leads nowhere is a file that is wrong, and not a dataset that is not there.

    What a prepared dataset was told of MSRA1K holds until MSRA1K changes.
    """
    for name in ("WITH_MSRA1K", "WITHOUT_MSRA1K"):
        sizes = {"test": 30, "validation": 5, "train": 80}
        fewer = replace(getattr(msra10k_dataset_builder, name), name=f"small_{name.lower()}", sizes=sizes)
        monkeypatch.setattr(msra10k_dataset_builder, name, fewer)
    small.write(tmp_path / "manual", inside("msra10k", small.msra10k(range(60))))
    theirs = inside("msra1k", small.files("Image/0_{}.jpg", small.recompressed, range(50, 60)))
    small.write(tmp_path / "manual", theirs)
    places = Places(tmp_path / "cache", tmp_path / "manual", skip_bad=True)
    builder = find(places)
    assert builder.msra1k is not None
    builder.prepare()
    assert "10 images that show pictures of MSRA1K (10 of its 10)" in builder.splitting
    assert set(range(50, 60)) <= numbers(builder)["test"]
    assert not find(places).is_outdated()
    masks = tmp_path / "manual" / "msra1k" / "binarymasks"
    small.write(masks, small.files("0_{}.bmp", small.bmp_mask, range(50, 59)))
    (masks / "0_59.bmp").symlink_to("/nowhere")
    assert find(places).msra1k is not None and find(places).is_outdated()
    strict = Msra10k.best(**Places(tmp_path / "other", tmp_path / "manual").arguments())
    with pytest.raises(IrregularFilesError, match=r"0_59\.bmp: a link that leads nowhere"):
        strict.prepare()

    shutil.rmtree(tmp_path / "manual" / "msra1k")
    assert find(places).msra1k is not None and not find(places).is_outdated()  # prepared, and nothing has changed
    assert "MSRA1K is not at hand" in find(places).find().splitting
    (tmp_path / "manual" / "msra10k" / "MSRA10K_Imgs_GT" / "Imgs" / "7.jpg").write_bytes(small.jpeg(5000))
    assert find(places).msra1k is None


def test_a_broken_msra1k_stops_msra10k(tmp_path: Path) -> None:
    small.write(tmp_path / "manual", inside("msra10k", small.msra10k(range(10))))
    small.write(tmp_path / "manual", inside("msra1k", small.msra1k(range(8))))
    (tmp_path / "manual" / "msra1k" / "Image" / "0_3.jpg").write_bytes(b"")
    wanted = msra10k_config(config(test=8))
    with pytest.raises(IrregularFilesError, match=r"0_3\.jpg: the file is empty"):
        make(tmp_path, wanted).prepare()
    builder = make(tmp_path, wanted, skip_bad=True)
    builder.prepare()
    assert "(7 of its 7)" in builder.splitting
    assert "1 of MSRA1K's pictures were not found" in builder.splitting


def test_msra1k_without_masks_is_kept_out_too(tmp_path: Path) -> None:
    """Of two pictures there is no mask that can be used: they cannot be tested on, nor be trained on."""
    small.write(tmp_path / "manual", inside("msra10k", small.msra10k(range(40))))
    theirs = range(0, 40, 5)
    small.write(tmp_path / "manual" / "msra1k", small.msra1k(theirs))
    masks = sorted((tmp_path / "manual" / "msra1k").rglob("*.bmp"))
    masks[2].write_bytes(b"BM")
    masks[5].unlink()
    builder = make(tmp_path, msra10k_config(config(test=8)), skip_bad=True)
    builder.prepare()
    assert numbers(builder)["test"] == set(theirs)
    assert "8 images that show pictures of MSRA1K (8 of its 8)" in builder.splitting


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """As the formula says, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    contrast = max(float(np.sqrt(((each - each.mean((0, 1))) ** 2).sum())) for each in (a, b))
    difference = float(np.sqrt(((a - b) ** 2).sum()))
    return difference / contrast if contrast else (np.inf if difference else 0.0)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from((0.0, 1.0, 3.0, 8.0)), min_size=1, max_size=12))
def test_likeness_is_the_formula(seed: int, noise: list[float]) -> None:
    generator = np.random.default_rng(seed)
    base = generator.integers(40, 216, (len(noise), 16, 16, 3)) * generator.integers(0, 2, (len(noise), 1, 1, 1))
    other = base + generator.normal(0, 1, base.shape) * np.array(noise)[:, None, None, None]
    first, second = (np.clip(each, 0, 255).astype(np.uint8) for each in (base, other))
    expected = [
        (i, j)
        for i in range(len(first))
        for j in range(len(second))
        if distance(first[i], second[j]) <= near_duplicates.LIMIT
    ]
    assert near_duplicates.same_pictures(first, second) == expected


def test_likeness_knows_pictures_compressed_again() -> None:
    def thumbnails(make: Callable[[int], bytes]) -> np.ndarray:
        return np.stack([near_duplicates.thumbnail(read_image(make(index))) for index in range(60)])

    found = near_duplicates.same_pictures(thumbnails(small.jpeg), thumbnails(small.recompressed))
    assert found == [(index, index) for index in range(60)]

"""The benchmarks by their names: published sizes, what the paper trains and tests on, and real pairs."""

from pathlib import Path

import benchmark_archives as small
import numpy as np
import pytest
from PIL import Image

from menet_jax import train
from menet_jax.data import audit
from menet_jax.data.sources import NAMED, Places, open_split
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.msra10k.msra10k_dataset_builder import Msra10k
from menet_jax.datasets.pairs import IrregularFilesError
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.datasets.splits import split_by_rank
from menet_jax.evaluation.inputs import InputOptions, open_datasets
from menet_jax.training import command as train_command
from menet_jax.training.presets import PRESETS

pytestmark = pytest.mark.filterwarnings("error")

SHARED_SOD = Path(__file__).parents[2] / "shared" / "data" / "sod"


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("msra10k", {"train": 8500, "validation": 500, "test": 1000}),
        ("msra1k", {"test": 1000}),
        ("hku_is", {"train": 3558, "validation": 222, "test": 667}),
        ("hku_is/official", {"train": 2500, "validation": 500, "test": 1447}),
        ("duts", {"train": 10553, "validation": 500, "test": 4519}),
        ("duts/official", {"train": 10553, "test": 5019}),
        ("ecssd", {"test": 1000}),
        ("dut_omron", {"test": 5168}),
        ("pascal_s", {"test": 850}),
        ("sod", {"test": 300}),
    ],
)
def test_the_published_sizes(name: str, sizes: dict[str, int], tmp_path: Path) -> None:
    builder = NAMED[name](Places(cache=tmp_path))
    assert isinstance(builder, BenchmarkBuilder)
    assert builder.sizes == sizes
    stems = [str(index) for index in range(sum(sizes.values()))]
    cut = split_by_rank(stems, builder.sizes)
    assert {split: list(cut.values()).count(split) for split in sizes} == sizes


def test_the_paper_can_be_repeated_by_name() -> None:
    assert PRESETS["paper"].config.data.train == ("msra10k", "hku_is")
    assert {"msra10k", "hku_is", "dut_omron", "ecssd", "msra1k", "sod"} <= set(NAMED)


def test_opened_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write(tmp_path / "manual", small.sod(range(1, 9)))
    monkeypatch.setitem(
        NAMED, "sod", lambda places: Sod(config=BenchmarkConfig(name="small", sizes={"test": 8}), **places.arguments())
    )
    source = open_split("sod", "test", Places(tmp_path / "cache", manual_dir=tmp_path / "manual"))
    assert len(source) == 8
    assert source.summary() == "sod: test 8 images; as many as published; all in the test split"
    with pytest.raises(ValueError, match=r"sod has no images in its train split; it has test \(8 images\)"):
        open_split("sod", "train", Places(tmp_path / "cache", manual_dir=tmp_path / "manual"))


def test_official_splits_of_two_datasets_can_be_scored_at_once(tmp_path: Path) -> None:
    options = InputOptions(data=("hku_is/official", "duts/official"), cache=tmp_path, manual_dir=tmp_path)
    with pytest.raises(ValueError, match=r"hku_is is not in[\s\S]*duts is not in"):  # and not that both are "official"
        open_datasets(options)


def test_what_paper_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write(tmp_path / "manual" / "msra10k", small.msra10k(range(20)))
    small.write(tmp_path / "manual" / "hku_is", small.hku_is(range(20)))
    sizes = BenchmarkConfig(name="small", sizes={"test": 3, "validation": 1, "train": 16})
    monkeypatch.setitem(NAMED, "msra10k", lambda places: Msra10k(config=sizes, **places.arguments()))
    monkeypatch.setitem(NAMED, "hku_is", lambda places: HkuIs(config=sizes, **places.arguments()))
    places = ["--data.manual-dir", str(tmp_path / "manual"), "--data.cache", str(tmp_path / "cache")]
    training, validation = train_command.open_data(train.parse(["paper", *places]))
    assert [(source.name, len(source)) for source in training] == [("msra10k", 16), ("hku_is", 16)]
    assert [(source.name, len(source)) for source in validation] == [("msra10k", 1), ("hku_is", 1)]
    del training, validation  # what is in use is not built anew
    for name in ("msra10k", "hku_is"):
        next((tmp_path / "manual" / name).rglob("7.*" if name == "msra10k" else "0007.*")).write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"irregular files? in msra10k:\n.*7\.[\s\S]*irregular files? in hku_is:\n.*0007\."
    ):
        train_command.open_data(train.parse(["paper", *places]))


@pytest.mark.skipif(not SHARED_SOD.is_dir(), reason=f"the real pairs are not at {SHARED_SOD}")
def test_real_pairs(tmp_path: Path) -> None:
    """Half of SOD: refused for its count, with skip_bad built whole, and checked."""
    with pytest.raises(IrregularFilesError, match="150 pairs of an image and its mask, and 300 were published"):
        Sod(manual_dir=SHARED_SOD.parent, data_dir=tmp_path).prepare()
    source = open_split("sod", "test", Places(tmp_path, skip_bad=True, manual_dir=SHARED_SOD.parent))
    assert source.summary().startswith("sod: test 150 images; 150 of the 300 published")
    example = source[7]
    stem = Path(example.file_name).stem
    np.testing.assert_array_equal(example.image, np.asarray(Image.open(SHARED_SOD / "images" / example.file_name)))
    np.testing.assert_array_equal(
        example.mask, np.asarray(Image.open(SHARED_SOD / "masks" / f"{stem}.png").convert("L")) > 0
    )
    found = audit.audit_dataset("sod", Sod(manual_dir=SHARED_SOD.parent, data_dir=tmp_path))
    assert len(found.facts) == 150 and {each.mask for each in found.facts} == {"0 and 255 (PNG 1)"}
    assert [str(each) for each in found.irregularities] == [
        "sod: 150 pairs of an image and its mask, and 300 were published"
    ]
    assert not audit.duplicates([found])

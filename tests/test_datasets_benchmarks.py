"""The benchmarks, from small archives in the published layouts: built, split, and refused where they are wrong."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_archives as small
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from builder_cases import NUMBERS, complaint, config, make, number, numbers, records, unzipped
from tensorflow_datasets.core import dataset_metadata

from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig
from menet_jax.datasets.dut_omron.dut_omron_dataset_builder import DutOmron
from menet_jax.datasets.duts.duts_dataset_builder import Duts
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.msra1k.msra1k_dataset_builder import Msra1k
from menet_jax.datasets.msra10k.msra10k_dataset_builder import Msra10k
from menet_jax.datasets.pairs import IrregularFilesError
from menet_jax.datasets.pascal_s.pascal_s_dataset_builder import PascalS
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.images.files import fit_mask, read_image, read_mask

pytestmark = pytest.mark.filterwarnings("error")

BUILDERS: tuple[type[BenchmarkBuilder], ...] = (Msra10k, Msra1k, HkuIs, Ecssd, DutOmron, Sod, Duts, PascalS)
FLAT_SOD = small.files("{}.jpg", small.jpeg, NUMBERS) | small.files("{}.png", small.one_bit_mask, NUMBERS)
MSRA1K_MIXED = small.files("Images/0_{}.jpg", small.jpeg, NUMBERS)


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        (Msra10k, {"msra10k/MSRA10K_Imgs_GT.zip": small.zipped(small.msra10k(NUMBERS), "MSRA10K_Imgs_GT/Imgs")}),
        (Msra10k, unzipped(small.msra10k(NUMBERS, "MSRA10K_Imgs_GT/MSRA10K_Imgs_GT/Imgs"))),
        (Msra10k, unzipped(small.msra10k(NUMBERS, "MSRA10K/Imgs"))),
        (Msra10k, {"MSRA10K_Imgs_GT.zip": small.zipped(small.msra10k(NUMBERS, "a/MSRA10K_Imgs_GT/IMGS"), "a")}),
        (Msra1k, unzipped(small.msra1k(NUMBERS), "MSRA1K/")),
        (Msra1k, MSRA1K_MIXED | small.files("Groundtruth/0_{}.png", small.gray_mask, NUMBERS)),
        (Msra1k, unzipped(MSRA1K_MIXED | small.files("Images/0_{}.bmp", small.bmp_mask, NUMBERS), "msra1k/")),
        (Msra1k, unzipped(MSRA1K_MIXED | small.files("Images/0_{}.png", small.gray_mask, NUMBERS), "MSRA1000/")),
        (HkuIs, small.hku_is(NUMBERS)),
        (HkuIs, {"hku_is/HKU-IS.zip": small.zipped(small.hku_is(NUMBERS), "HKU-IS/gt")}),
        (Ecssd, unzipped(small.ecssd(NUMBERS), "ecssd/")),
        (Ecssd, small.ecssd(NUMBERS)),
        (DutOmron, unzipped(small.dut_omron(NUMBERS), "DUT-OMRON/")),
        (DutOmron, small.dut_omron(NUMBERS, twice=False)),
        (Sod, unzipped(small.sod(NUMBERS), "sod/")),
        (Sod, unzipped(FLAT_SOD, "sod/")),
        (Sod, {"SOD.zip": small.zipped(unzipped(FLAT_SOD, "SOD/"), "SOD")}),
        (Sod, small.files("images/{}.jpg", small.jpeg, NUMBERS) | small.files("GT/{}.png", small.gray_mask, NUMBERS)),
    ],
)
def test_layouts(kind: type[BenchmarkBuilder], contents: small.Files, tmp_path: Path) -> None:
    small.write(tmp_path / "manual", contents)
    builder = make(kind, tmp_path)
    builder.prepare()
    assert numbers(builder) == {"test": set(NUMBERS)}
    assert builder.splitting.startswith("as many as published; all in the test split")
    original = small.png if kind is HkuIs else small.recompressed if "MSRA1K/" in str(contents) else small.jpeg
    for record in records(builder)["test"]:
        assert set(record) == {"image", "mask", "file_name"}
        index = number(record["file_name"].decode())
        np.testing.assert_array_equal(read_image(record["image"]), read_image(original(index)))
        truth = fit_mask(small.mask(index), read_image(original(index)).shape[:2])
        np.testing.assert_array_equal(read_mask(record["mask"]), truth)


def test_a_dataset_may_be_of_a_class_that_is_in_no_file() -> None:
    notebook: dict[str, Any] = {"__name__": "notebook", "Sod": Sod}
    exec("class Mine(Sod): pass", notebook)
    assert notebook["Mine"].name == "mine"


@pytest.mark.parametrize("kind", BUILDERS)
def test_what_tfds_knows_of_a_builder(kind: type[BenchmarkBuilder], tmp_path: Path) -> None:
    builder = kind(data_dir=tmp_path)
    metadata = dataset_metadata.load(kind.pkg_dir_path)
    assert builder.name == Path(str(kind.pkg_dir_path)).name
    assert metadata.tags and set(metadata.tags) <= set(dataset_metadata.valid_tags())
    assert "@" in builder.info.citation and builder.info.description.startswith("# ")
    assert set(builder.info.features or ()) == {"image", "mask", "file_name"}


def test_splits_of_exact_sizes_do_not_move_with_a_missing_mask(tmp_path: Path) -> None:
    sizes = config(test=4, validation=2, train=14)
    contents = small.hku_is(range(20))
    small.write(tmp_path / "manual", contents)
    whole = make(HkuIs, tmp_path, sizes)
    whole.prepare()
    before = numbers(whole)
    assert {split: len(found) for split, found in before.items()} == {"train": 14, "validation": 2, "test": 4}
    (tmp_path / "manual" / "HKU-IS" / "gt" / "0007.png").unlink()
    message = complaint(make(HkuIs, tmp_path, sizes))
    assert "0007.png: image without a mask" in message
    assert "19 pairs of an image and its mask, and 20 were published" in message
    builder = make(HkuIs, tmp_path, sizes, skip_bad=True)
    builder.prepare()
    assert numbers(builder) == {split: found - {7} for split, found in before.items()}
    assert builder.splitting.startswith("19 of the 20 published")


PASCAL_IMAGES = small.files("Imgs/{}.jpg", small.jpeg, NUMBERS)


@pytest.mark.parametrize(
    "contents",
    [
        {"pascal_s/salObj.zip": small.zipped(small.pascal_s(NUMBERS), "datasets/imgs/pascal")},
        {"datasets.zip": small.zipped(small.pascal_s(NUMBERS))},
        unzipped(small.pascal_s(NUMBERS), "PASCAL-S/"),
        unzipped(PASCAL_IMAGES | small.files("Imgs/{}.png", small.graded_mask, NUMBERS), "PASCAL-S/"),
        unzipped(PASCAL_IMAGES | small.files("GT/{}.png", small.graded_mask, NUMBERS), "pascal_s/PASCAL-S/"),
        small.files("PASCAL-S/images/{}.jpg", small.jpeg, NUMBERS)
        | small.files("PASCAL-S/masks/{}.png", small.graded_mask, NUMBERS),
    ],
)
def test_pascal_s_is_cut_at_half(contents: small.Files, tmp_path: Path) -> None:
    small.write(tmp_path / "manual", contents)
    builder = make(PascalS, tmp_path)
    builder.prepare()
    assert numbers(builder) == {"test": set(NUMBERS)}
    for record in records(builder)["test"]:
        index = number(record["file_name"].decode())
        np.testing.assert_array_equal(read_mask(record["mask"]), small.mask(index) & (index != 3))
    assert builder.masks == (
        "8 of 8 masks have gray values, thresholded at half",
        "nothing is salient in 1 of 8 masks, where every F-measure is 0",
    )


DUTS_SIZES = {"train": 6, "validation": 1, "test": 4}


@pytest.mark.parametrize(
    "contents",
    [
        {f"duts/{name}.zip": small.zipped(part, name) for name, part in small.duts(range(6), range(6, 11)).items()},
        {f"{name}.zip": small.zipped(part) for name, part in small.duts(range(6), range(6, 11)).items()},
        {f"DUTS/{name}": data for part in small.duts(range(6), range(6, 11)).values() for name, data in part.items()},
    ],
)
def test_duts_is_trained_on_one_part_and_tested_on_the_other(contents: small.Files, tmp_path: Path) -> None:
    small.write(tmp_path / "manual", contents)
    builder = make(Duts, tmp_path, config(**DUTS_SIZES))
    builder.prepare()
    found = numbers(builder)
    assert found["train"] == set(range(6)) and found["validation"] | found["test"] == set(range(6, 11))
    assert (len(found["validation"]), len(found["test"])) == (1, 4)
    first = min(range(6, 11), key=lambda each: hashlib.sha256(f"sun_{each:04d}".encode()).digest())
    assert found["validation"] == {first}
    official = make(Duts, tmp_path, BenchmarkConfig(name="small_official", sizes={"train": 6, "test": 5}))
    official.prepare()
    assert numbers(official) == {"train": set(range(6)), "test": set(range(6, 11))}
    for record in records(official)["train"]:
        mask = small.mask(number(record["file_name"].decode()))
        np.testing.assert_array_equal(read_mask(record["mask"]), mask)  # its gray edges are thresholded at half


def test_duts_with_a_part_of_another_size(tmp_path: Path) -> None:
    parts = small.duts(range(6), range(6, 11))
    small.write(tmp_path / "manual", parts["DUTS-TR"])
    message = complaint(make(Duts, tmp_path, config(**DUTS_SIZES)))
    assert "duts: 0 pairs of an image and its mask in DUTS-TE, and 5 were published" in message
    assert "in DUTS-TR" not in message
    small.write(tmp_path / "manual", parts["DUTS-TE"])
    (tmp_path / "manual" / "DUTS-TR" / "DUTS-TR-Mask" / "sun_0002.png").unlink()
    message = complaint(make(Duts, tmp_path, config(**DUTS_SIZES)))
    assert "duts: 5 pairs of an image and its mask in DUTS-TR, and 6 were published" in message
    assert "in DUTS-TE" not in message and "sun_0002.jpg: image without a mask" in message


def save_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    for name, listed in lists.items():
        cells = np.empty((len(listed), 1), object)
        cells[:, 0] = listed
        scipy.io.savemat(folder / f"{name}ImgSet.mat", {f"{name}ImgSet": cells})


@pytest.fixture
def official(tmp_path: Path) -> Callable[..., HkuIs]:
    small.write(tmp_path / "manual", small.hku_is(range(10)))

    def builder(**options: Any) -> HkuIs:
        sizes = {"train": 5, "validation": 1, "test": 3}
        made = make(HkuIs, tmp_path, BenchmarkConfig(name="official_small", sizes=sizes), **options)
        assert isinstance(made, HkuIs)
        return made

    return builder


LISTS = {"train": ["0000.png", "0008.png", "0002.png", "0003.png", "0004.png"], "val": ["0009.png"]}


def test_official_lists(tmp_path: Path, official: Callable[..., HkuIs]) -> None:
    save_lists(tmp_path / "manual" / "HKU-IS", LISTS | {"test": ["0005.png", "0006.png", "0007.png"]})
    builder = official()
    builder.prepare()
    assert numbers(builder) == {"train": {0, 8, 2, 3, 4}, "validation": {9}, "test": {5, 6, 7}}
    assert "official lists; in no list: 1 pair" in builder.splitting


def test_official_lists_name_what_is_missing(tmp_path: Path, official: Callable[..., HkuIs]) -> None:
    save_lists(tmp_path / "manual" / "HKU-IS", LISTS | {"test": ["0005.png", "0066.png", "0007.png"]})
    message = complaint(official())
    assert "2 pairs in the test split, and 3 were published" in message
    assert "there is neither image nor mask of 0066" in message


def test_official_lists_that_cannot_be_used(tmp_path: Path, official: Callable[..., HkuIs]) -> None:
    folder = tmp_path / "manual" / "HKU-IS"
    save_lists(folder, LISTS)
    with pytest.raises(FileNotFoundError, match=r"official lists testimgset\.mat are not there"):
        official().prepare()
    save_lists(folder, {"test": ["0005.png", "0005.png", "0009.png"]})
    with pytest.raises(ValueError, match=r"name images twice: 0009, 0005"):
        official().prepare()
    (folder / "testImgSet.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(ValueError, match=r"testImgSet\.mat: a MATLAB file of version 7\.3"):
        official().prepare()
    (folder / "testImgSet.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"nonsense")
    with pytest.raises(ValueError, match=r"testImgSet\.mat: "):
        official().prepare()
    scipy.io.savemat(folder / "testImgSet.mat", {"numbers": np.arange(4)})
    with pytest.raises(ValueError, match="holds no list of file names"):
        official().prepare()


@pytest.mark.parametrize("kind", BUILDERS)
def test_nothing_there_gives_instructions(kind: type[BenchmarkBuilder], tmp_path: Path) -> None:
    for there in (False, True):
        if there:
            (tmp_path / "manual").mkdir()
            (tmp_path / "manual" / "other.txt").write_text("")
        with pytest.raises(FileNotFoundError) as caught:
            make(kind, tmp_path).prepare()
        message = str(caught.value)
        assert f"{kind.__name__.lower()[:3]}" in message.lower() and "http" in message
        assert f"{tmp_path}/manual/{make(kind, tmp_path).name}" in message and "--data.manual-dir" in message


def test_half_of_the_downloads(tmp_path: Path) -> None:
    contents = small.ecssd(NUMBERS)
    small.write(tmp_path / "manual" / "ecssd", {"images.zip": contents["images.zip"]})
    with pytest.raises(FileNotFoundError, match=r"there are images, but no masks \(in a folder ground_truth_mask\)"):
        make(Ecssd, tmp_path).prepare()
    (tmp_path / "manual" / "ecssd" / "images.zip").unlink()
    (tmp_path / "manual" / "ecssd" / "ECSSD.rar").write_bytes(b"Rar!")
    with pytest.raises(FileNotFoundError, match=r"Unpack .*ECSSD\.rar there first"):
        make(Ecssd, tmp_path).prepare()


def test_wrong_counts_name_what_is_missing(tmp_path: Path) -> None:
    small.write(tmp_path / "manual", small.ecssd((1, 2, 4, 5)))
    message = complaint(make(Ecssd, tmp_path, config(test=7)))
    assert "4 pairs of an image and its mask, and 7 were published" in message
    assert "ecssd: there is neither image nor mask of 0003, 0006, 0007" in message
    small.write(tmp_path / "manual", {f"ecssd/{name}": data for name, data in small.ecssd(range(1, 10)).items()})
    assert "9 pairs of an image and its mask, and 7 were published" in complaint(make(Ecssd, tmp_path, config(test=7)))
    listed = small.sod(range(8))
    del listed["masks/3.png"]
    small.write(tmp_path / "sod" / "manual", listed)
    message = complaint(make(Sod, tmp_path / "sod"))
    assert "images/train/3.jpg: image without a mask" in message and message.count("neither") == 0


def test_known_copies_are_accepted_and_stated(tmp_path: Path) -> None:
    small.write(tmp_path / "manual", small.dut_omron(range(6)))
    builder = make(DutOmron, tmp_path)
    builder.prepare()
    assert builder.splitting.startswith("6 of the 8 published, as known copies have")
    assert not builder.irregularities


def test_bad_files_are_all_named(tmp_path: Path) -> None:
    contents = small.files("images/{:04d}.jpg", small.jpeg, NUMBERS)
    masks = small.files("ground_truth_mask/{:04d}.png", small.gray_mask, NUMBERS)
    contents["images/0002.jpg"] = contents["images/0002.jpg"][:700]
    masks["ground_truth_mask/0005.png"] = b"text"
    del masks["ground_truth_mask/0008.png"]
    masks["ground_truth_mask/0009.png"] = small.gray_mask(9)
    zips = {"images.zip": small.zipped(contents), "ground_truth_mask.zip": small.zipped(masks)}
    small.write(tmp_path / "manual" / "ecssd", zips)
    message = complaint(make(Ecssd, tmp_path))
    for name in ("images/0002.jpg", "mask/0005.png", "images/0008.jpg: image without", "mask/0009.png: mask without"):
        assert name in message
    builder = make(Ecssd, tmp_path, skip_bad=True)
    builder.prepare()
    assert numbers(builder) == {"test": {1, 3, 4, 6, 7}}
    assert len(builder.irregularities) == 5  # and the count


def test_a_cache_lasts_and_follows_the_downloads(tmp_path: Path) -> None:
    manual = tmp_path / "manual"
    small.write(manual, unzipped(FLAT_SOD, "sod/"))
    kept = {path: path.read_bytes() for path in manual.rglob("2.*")}
    for path in kept:
        path.unlink()
    partial = make(Sod, tmp_path, skip_bad=True)
    partial.prepare()
    assert numbers(partial) == {"test": set(NUMBERS) - {2}}
    with pytest.raises(IrregularFilesError, match="7 pairs"):
        make(Sod, tmp_path).prepare()
    for path, data in kept.items():
        path.write_bytes(data)
    whole = make(Sod, tmp_path)
    whole.prepare()
    assert numbers(whole) == {"test": set(NUMBERS)}
    assert not whole.irregularities
    shutil.rmtree(manual)
    kept_builder = make(Sod, tmp_path)
    kept_builder.prepare()
    assert numbers(kept_builder) == {"test": set(NUMBERS)}


def test_a_corrected_file_is_noticed(tmp_path: Path) -> None:
    """Masks of one size, uncompressed, have files of one size: unpacked, and in an archive."""
    contents = small.msra1k(NUMBERS)
    for manual, packed in ((tmp_path / "unpacked", False), (tmp_path / "packed", True)):
        found = []
        for index in (1, 2):
            mask = {"binarymasks/0_1.bmp": small.bmp_mask(index)}
            small.write(manual / "msra1k", {"a.zip": small.zipped(contents | mask)} if packed else contents | mask)
            builder = Msra1k(manual_dir=manual, data_dir=tmp_path / f"cache {packed}", config=config(test=8))
            builder.prepare()
            raw: Any = builder.as_data_source
            record = next(each for each in raw("test") if each["file_name"] == b"0_1.jpg")
            found.append(int((record["mask"] > 0).sum()))
        assert found[0] != found[1], manual


def test_tfds_own_way_to_name_the_manual_directory(tmp_path: Path) -> None:
    small.write(tmp_path / "elsewhere" / "sod", FLAT_SOD)
    builder: Any = make(Sod, tmp_path)
    downloads = tfds.download.DownloadConfig(manual_dir=tmp_path / "elsewhere")
    builder.download_and_prepare(download_config=downloads)
    assert numbers(builder) == {"test": set(NUMBERS)}


def test_the_default_manual_directory(tmp_path: Path) -> None:
    assert Sod(data_dir=tmp_path).manual_dir == tmp_path / "downloads" / "manual"

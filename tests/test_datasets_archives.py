"""Archives and what is in them: damaged, endless, made elsewhere, and unpacked beside."""

import os
import zipfile
from pathlib import Path

import benchmark_archives as small
import numpy as np
import pytest
from builder_cases import NUMBERS, complaint, config, make
from folder_cases import make_folder, pixels

from menet_jax.datasets import archives, pairs
from menet_jax.datasets.archives import BadArchiveError
from menet_jax.datasets.benchmark_builder import NotAtHandError
from menet_jax.datasets.dut_omron.dut_omron_dataset_builder import DutOmron
from menet_jax.datasets.duts.duts_dataset_builder import Duts
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.images.files import read_image

pytestmark = pytest.mark.filterwarnings("error")


def test_damaged_archives(tmp_path: Path) -> None:
    whole = small.dut_omron(NUMBERS)
    small.write(tmp_path / "cut" / "manual", whole | {"DUT-OMRON-image.zip": whole["DUT-OMRON-image.zip"][:5000]})
    with pytest.raises(BadArchiveError, match=r"DUT-OMRON-image\.zip: not a whole zip archive"):
        make(DutOmron, tmp_path / "cut").prepare()
    data = bytearray(whole["DUT-OMRON-image.zip"])
    data[data.index(b"im003.jpg") + 500] ^= 1
    small.write(tmp_path / "flipped" / "manual", whole | {"DUT-OMRON-image.zip": bytes(data)})
    assert "im003.jpg: cannot be unpacked: Bad CRC-32" in complaint(make(DutOmron, tmp_path / "flipped"))
    images_tgz = small.sod(NUMBERS)["BSDS300-images.tgz"]
    changed = images_tgz[:-8] + bytes(byte ^ 1 for byte in images_tgz[-8:-4]) + images_tgz[-4:]  # its checksum
    for damaged in (images_tgz[:2000], b"not a tar archive", b"\x1f\x8b" + bytes(100), changed):
        small.write(tmp_path / "tar" / "manual", {"BSDS300-images.tgz": damaged})
        with pytest.raises(BadArchiveError, match=r"BSDS300-images\.tgz: not a whole tar archive"):
            make(Sod, tmp_path / "tar").prepare()


def test_archives_that_unpack_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = small.zipped({"a.jpg": small.jpeg(1)})
    for level in range(4):
        (tmp_path / "sod.zip").write_bytes(nested)
        if level < archives.NESTED:
            assert [entry.name for entry in archives.walk(tmp_path)] == ["a.jpg"]
        else:
            with pytest.raises(BadArchiveError, match="more than 3 archives one in another"):
                archives.walk(tmp_path)
        nested = small.zipped({"a.zip": nested})
    (tmp_path / "sod.zip").write_bytes(small.zipped({"a.jpg": bytes(100), "b.jpg": bytes(101)}))
    monkeypatch.setattr(archives, "LARGEST", 100)
    first, second = archives.walk(tmp_path)
    assert first.read_bytes() == bytes(100)
    with pytest.raises(OSError, match=r"sod\.zip/b\.jpg: would unpack to 101 bytes"):
        second.read_bytes()
    (tmp_path / "sod.tgz").write_bytes(small.tarred({"a.jpg": bytes(60), "b.jpg": bytes(60)}))
    with pytest.raises(BadArchiveError, match=r"sod\.tgz: would unpack to more than 100 bytes"):
        archives.walk(tmp_path)


def test_folders_in_an_archive_made_on_windows(tmp_path: Path) -> None:
    whole = small.files("images/{}.jpg", small.jpeg, NUMBERS)
    whole |= small.files("ground_truth_mask/{}.png", small.gray_mask, NUMBERS)
    contents = {name.replace("/", "\\"): data for name, data in whole.items()}
    folder = {name.rpartition("\\")[0] + "\\": b"" for name in contents}
    small.write(tmp_path / "zip" / "manual" / "ecssd", {"a.zip": small.zipped(folder | contents)})
    small.write(tmp_path / "tar" / "manual" / "ecssd", {"a.tgz": small.tarred(contents)})
    for kind in ("zip", "tar"):
        found = make(Ecssd, tmp_path / kind).find()
        assert sum(map(len, found.splits.values())) == len(NUMBERS)


def test_archives_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Where nothing is there besides, and where something is lacking."""
    manual = tmp_path / "manual"
    small.write(manual, {"DUTS-TE.tar.zst": b"archive", "DUTS-TR.part1.rar": b"archive", "other.rar": b"archive"})
    with pytest.raises(NotAtHandError, match=r"Unpack .*DUTS-TE\.tar\.zst, .*DUTS-TR\.part1\.rar there first"):
        make(Duts, tmp_path).find()
    (manual / "DUTS-TR.part1.rar").unlink()
    pairs_of_train = {f"DUTS-TR/DUTS-TR-Image/{i}.jpg": small.jpeg(i) for i in NUMBERS}
    pairs_of_train |= {f"DUTS-TR/DUTS-TR-Mask/{i}.png": small.gray_mask(i) for i in NUMBERS}
    small.write(manual, {"DUTS-TR.zip": small.zipped(pairs_of_train)})
    assert f"{manual / 'DUTS-TE.tar.zst'}: an archive that cannot be read" in complaint(
        make(Duts, tmp_path, config(train=8, test=8))
    )


def test_only_regular_files_below_folders_that_do_not_end(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "deep" / "same").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.png")
    found = {entry.name: entry for entry in archives.walk(tmp_path)}
    assert found.keys() == {"a.txt", "pipe.png"}
    with pytest.raises(OSError, match=r"pipe\.png: not a regular file but a pipe"):
        found["pipe.png"].read_bytes()
    for name in ("pipe.zip", "pipe.tar.xz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match=rf"{name}: not a regular file but a pipe"):
            archives.walk(tmp_path)
        (tmp_path / name).unlink()


def test_an_archive_and_what_it_unpacks_to_are_one(tmp_path: Path) -> None:
    contents = small.msra10k(NUMBERS)
    small.write(tmp_path / "manual" / "msra10k", contents | {"MSRA10K_Imgs_GT.zip": small.zipped(contents)})
    entries = archives.walk(tmp_path / "manual")
    assert sorted(entry.name for entry in entries) == sorted(Path(name).name for name in contents)
    assert not any(".zip" in str(entry) for entry in entries)


def test_pairs_can_lie_in_an_archive(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 3)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        root = zipfile.Path(archive)
        matched, irregular = pairs.match((root / "images").iterdir(), (root / "masks").iterdir())
        assert [pair.stem for pair in matched] == ["000", "001", "002"]
        assert not irregular
        assert pairs.check(matched, "Checking") == [pairs.Verdict(None)] * 3
        np.testing.assert_array_equal(read_image(pairs.example(matched[1])["image"]), pixels(1))

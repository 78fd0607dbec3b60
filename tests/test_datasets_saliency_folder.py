"""Folders of every layout are built, split and cached; every irregular file is named."""

import io
import os
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_cases import all_names, make_folder, mask_of, names, open_raw, pixels, read, write
from PIL import Image

from menet_jax.datasets import pairs
from menet_jax.datasets.pairs import IrregularFilesError
from menet_jax.datasets.saliency_folder import saliency_folder_dataset_builder as module
from menet_jax.datasets.saliency_folder.saliency_folder_dataset_builder import SaliencyFolder
from menet_jax.images.files import read_image, read_mask

pytestmark = pytest.mark.filterwarnings("error")


Build = Callable[..., SaliencyFolder]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def build(folder: Path, **options: Any) -> SaliencyFolder:
        builder = SaliencyFolder(folder, data_dir=tmp_path / "cache", **options)
        builder.prepare()
        return builder

    return build


@pytest.mark.parametrize(
    ("image_folder", "mask_folder", "kind"),
    [
        ("images", "masks", "png"),
        ("Image", "Mask", "jpg"),
        ("imgs", "gt", "bmp"),
        ("im", "GT", "JPG"),
        ("Imgs", "Imgs", "jpg"),
    ],
)
def test_layouts(image_folder: str, mask_folder: str, kind: str, tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 6, image_folder, mask_folder, kind)
    for stray in (".DS_Store", "Thumbs.db", "._000.png", "__MACOSX/x"):
        path = folder / image_folder / stray
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"stray")
    builder = build(folder)
    assert all_names(builder) == [f"{index:03d}.{kind}" for index in range(6)]
    for example in (example for split in read(builder).values() for example in split):
        assert set(example) == {"image", "mask", "file_name"}
        name = example["file_name"].decode()
        shown = read_image(folder / image_folder / name)
        np.testing.assert_array_equal(read_image(example["image"]), shown)
        with Image.open(io.BytesIO(example["mask"])) as stored:
            assert (stored.format, stored.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(stored), mask_of(int(name[:3])) * 255)


def test_examples_decode_as_the_features_say(tmp_path: Path, build: Build) -> None:
    builder = build(make_folder(tmp_path / "data", 3))
    example = open_raw(builder, next(iter(builder.info.splits)), None)[0]
    assert {name: value.dtype for name, value in example.items() if name != "file_name"} == {
        "image": np.uint8,
        "mask": np.uint8,
    }
    assert example["image"].shape == (12, 16, 3)
    assert example["mask"].shape == (12, 16, 1)


def test_bytes_are_kept_only_where_they_are_right(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "data"
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.jpg": (Image.fromarray(pixels(0)), {}),
        "rotated.jpg": (Image.fromarray(pixels(1)), {"exif": exif}),
        "gray.jpg": (Image.fromarray(pixels(2)[..., 0]), {}),
        "clear.png": (Image.fromarray(pixels(3)).convert("RGBA"), {}),
        "ink.jpg": (Image.fromarray(pixels(4)).convert("CMYK"), {}),
    }
    for name, (picture, options) in pictures.items():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / name, **options)
        shape = (16, 12) if name == "rotated.jpg" else (12, 16)
        write(folder / "masks" / f"{Path(name).stem}.png", np.zeros(shape, bool))
    examples = [example for split in read(build(folder)).values() for example in split]
    assert len(examples) == len(pictures)
    for example in examples:
        name = example["file_name"].decode()
        original = (folder / "images" / name).read_bytes()
        assert (example["image"] == original) == (name == "plain.jpg")
        np.testing.assert_array_equal(read_image(example["image"]), read_image(original))


def test_masks_of_another_size_are_fitted(tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 1)
    write(folder / "masks" / "000.png", np.kron(mask_of(0), np.ones((3, 3), bool)))
    ((example,),) = read(build(folder)).values()
    np.testing.assert_array_equal(read_mask(example["mask"]), mask_of(0))


def make_irregular(folder: Path) -> dict[str, str]:
    """A folder with one good pair in it, and what should be said of everything else."""
    make_folder(folder, 1)
    image_files, mask_files = folder / "images", folder / "masks"
    (image_files / "000.txt").write_text("a caption, which must not cost us the pair")
    write(image_files / "orphan.png", pixels(0))
    write(mask_files / "widow.png", mask_of(0))
    write(image_files / "twin.png", pixels(1))
    write(image_files / "twin.bmp", pixels(1))
    write(mask_files / "twin.png", mask_of(1))
    for name in ("short", "void", "text", "tall", "dim", "folder"):
        write(mask_files / f"{name}.png", mask_of(2))
    for name in ("tall", "dim", "short"):
        write(image_files / f"{name}.png", pixels(2))
    (image_files / "short.png").write_bytes((image_files / "short.png").read_bytes()[:-200])
    (image_files / "void.png").write_bytes(b"")
    (image_files / "text.png").write_text("not an image")
    (image_files / "notes.txt").write_text("where these are from")
    (image_files / "folder").mkdir()
    write(mask_files / "tall.png", mask_of(2).T)
    write(mask_files / "dim.png", mask_of(2).astype(np.uint8) * 60)
    return {
        "images/000.txt": "not an image",
        "images/orphan.png": "without a mask",
        "masks/widow.png": "without an image",
        "images/twin.png": "same stem",
        "images/twin.bmp": "same stem",
        "masks/twin.png": "2 images",
        "images/short.png": "truncated",
        "images/void.png": "empty",
        "images/text.png": "not an image",
        "images/notes.txt": "not an image",
        "images/folder": "a folder",
        "masks/folder.png": "without an image",
        "masks/tall.png": "aspect",
        "masks/dim.png": "values 0, 60",
    }


def test_every_irregular_file_is_named(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "data"
    expected = make_irregular(folder)
    with pytest.raises(IrregularFilesError) as caught:
        build(folder)
    found = {str(Path(each.file).relative_to(folder)): each.reason for each in caught.value.irregularities}
    assert set(found) == set(expected)
    for file, reason in expected.items():
        assert reason in found[file]
        assert f"{folder / file}: {found[file]}\n" in str(caught.value)
    assert str(caught.value).startswith(f"{len(expected)} irregular files in {folder}")
    assert not list((tmp_path / "cache").rglob("*.array_record*"))


def test_graded_masks_are_cut_at_half_where_asked_for(tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 4)
    write(folder / "masks" / "000.png", mask_of(0) * np.uint8(106))  # five of twelve observers
    write(folder / "masks" / "001.png", mask_of(1) * np.uint8(128) + (~mask_of(1)) * np.uint8(64))
    with pytest.raises(IrregularFilesError, match=r"000\.png: .*values 0, 106; .*--graded-masks"):
        build(folder)
    without = build(folder, skip_bad=True)
    assert all_names(without) == ["001.png", "002.png", "003.png"]
    graded = build(folder, graded_masks=True)  # of which the cache without knows nothing
    masks = {each["file_name"].decode(): each["mask"] for split in read(graded).values() for each in split}
    for index in range(4):
        np.testing.assert_array_equal(read_mask(masks[f"{index:03d}.png"]), mask_of(index) * (index > 0))
    assert [each.split(",")[0] for each in graded.masks] == [
        "2 of 4 masks have gray values",
        "nothing is salient in 1 of 4 masks",
    ]
    assert without.masks == ("1 of 3 masks have gray values, thresholded at half",)
    assert all_names(pickle.loads(pickle.dumps(graded))) == sorted(masks)
    write(folder / "masks" / "002.png", mask_of(2) * np.uint8(3))
    with pytest.raises(IrregularFilesError, match=r"002\.png: .*values 0, 3\n"):  # labels are no grades
        build(folder, graded_masks=True)


def test_irregular_files_are_skipped_only_when_told(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "data"
    expected = make_irregular(folder)
    builder = build(folder, skip_bad=True)
    assert all_names(builder) == ["000.png"]
    assert len(builder.irregularities) == len(expected)
    with pytest.raises(IrregularFilesError, match=r"orphan\.png"):  # although it is cached now
        build(folder)
    assert len(build(folder, skip_bad=True).irregularities) == len(expected)


def test_what_is_no_regular_file_is_named_with_all_others(tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 6)
    odd = [folder / "images" / f"{index:03d}.png" for index in range(4)]
    for path in odd:
        path.unlink()
    os.mkfifo(odd[0])
    odd[1].symlink_to("/dev/zero")
    odd[2].symlink_to(folder / "moved.png")
    odd[3].symlink_to(odd[3])
    (folder / "masks" / "lone.png").symlink_to("nowhere.png")
    (folder / "masks" / "004.png").write_bytes(b"")
    with pytest.raises(IrregularFilesError, match="6 irregular files") as caught:
        build(folder)
    for line in (
        f"{odd[0]}: not a regular file but a pipe",
        f"{odd[1]}: not a regular file but a device",
        f"{odd[2]}: a link that leads nowhere, to {folder / 'moved.png'}",
        f"{odd[3]}: a link that leads in a circle, to {odd[3]}",
        f"{folder / 'masks' / 'lone.png'}: a link that leads nowhere, to nowhere.png",
        f"{folder / 'masks' / '004.png'}: the file is empty",
    ):
        assert f"  {line}\n" in str(caught.value)
    assert all_names(build(folder, skip_bad=True)) == ["005.png"]


def test_one_name_in_two_spellings(tmp_path: Path, build: Build) -> None:
    """Unicode has é as one letter, and as e with an accent: macOS writes these, and others those."""
    one, two = (unicodedata.normalize(form, "caf\xe9") for form in ("NFC", "NFD"))
    folder = tmp_path / "data"
    write(folder / "images" / f"{one}.png", pixels(0))
    write(folder / "masks" / f"{two}.png", mask_of(0))
    assert all_names(build(folder)) == [f"{one}.png"]
    assert module.split_of(pairs.stem(Path(one))) == module.split_of(pairs.stem(Path(two)))
    (folder / "test.txt").write_text(f"{two}.png\n")
    assert names(build(folder)) == {"test": [f"{one}.png"]}
    write(folder / "images" / f"{two}.png", pixels(0))
    with pytest.raises(ValueError, match="one of 2 images with the same stem"):
        build(folder)


def test_a_folders_name_cannot_command_a_terminal(
    tmp_path: Path, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(all_names(build(make_folder(tmp_path / "red\x1b[31m\udcf1", 2)))) == 2
    said = capsys.readouterr().err
    assert r"red\x1b[31m\udcf1" in said and "\x1b[31m" not in said


def test_lists_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 1)
    (folder / "train.txt").write_bytes(b"\xff\xfe\x00000\n")
    with pytest.raises(ValueError, match=r"train\.txt: not a text in UTF-8"):
        SaliencyFolder(folder).find()
    (folder / "train.txt").unlink()
    (folder / "train.txt").symlink_to("moved.txt")
    with pytest.raises(OSError, match=r"train\.txt: a link that leads nowhere, to moved\.txt"):
        SaliencyFolder(folder).find()


def test_a_folder_of_nothing_but_irregular_files(tmp_path: Path, build: Build) -> None:
    write(tmp_path / "data" / "images" / "a.png", pixels(0))
    (tmp_path / "data" / "masks").mkdir()
    with pytest.raises(ValueError, match="no usable pair"):
        build(tmp_path / "data", skip_bad=True)


@pytest.mark.parametrize("folders", [[], ["images"], ["masks", "gt"]])
def test_an_unknown_layout_is_explained(folders: list[str], tmp_path: Path) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    listed = ", ".join(f"{name}/" for name in sorted(folders)) or "none"
    with pytest.raises(FileNotFoundError, match=rf"images/ \+ masks/.*there are: {listed}$"):
        SaliencyFolder(tmp_path)


def test_an_ambiguous_layout_is_refused(tmp_path: Path) -> None:
    for name in ("images", "masks", "im", "gt"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"ambiguous: images/ \+ masks/; im/ \+ gt/"):
        SaliencyFolder(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        SaliencyFolder(tmp_path / "nowhere")


def test_split_by_hash_leaves_out_empty_splits(tmp_path: Path, build: Build) -> None:
    builder = build(make_folder(tmp_path / "data", 2))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {"train": 2}
    assert "hash" in builder.splitting


def test_split_by_lists(tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 8, kind="jpg")
    (folder / "train.txt").write_text("003\n001.jpg\n\n005.png \n")
    (folder / "val.txt").write_bytes(b"\xef\xbb\xbf000\r\n007\r\n")
    builder = build(folder)
    assert names(builder) == {
        "train": ["003.jpg", "001.jpg", "005.jpg"],
        "validation": ["000.jpg", "007.jpg"],
    }
    assert builder.splitting == "split by train.txt, val.txt; in no list: 3 pairs"


def test_wrong_lines_in_lists_are_all_named(tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data", 3)
    (folder / "train.txt").write_text("000\n001\nghost\n002.v2\n")
    (folder / "test.txt").write_text("001\n999.png\n")
    with pytest.raises(ValueError, match="4 wrong lines") as caught:
        build(folder)
    assert "train.txt line 3: no image and mask are called ghost" in str(caught.value)
    assert "train.txt line 4: no image and mask are called 002.v2" in str(caught.value)
    assert "test.txt line 1: 001 is already in train.txt line 2" in str(caught.value)
    assert "test.txt line 2: no image and mask are called 999.png" in str(caught.value)


def test_two_lists_for_one_split_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 1)
    (folder / "val.txt").touch()
    (folder / "validation.txt").touch()
    with pytest.raises(ValueError, match=r"validation\.txt and val\.txt"):
        SaliencyFolder(folder)


def test_a_listed_pair_that_is_irregular_is_skipped(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "data"
    make_irregular(folder)
    (folder / "train.txt").write_text("000\norphan\nshort\n")
    assert names(build(folder, skip_bad=True)) == {"train": ["000.png"]}


def forbid(*_: object) -> None:
    raise AssertionError("the folder was read again")


def test_the_cache_is_used(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "data")
    first = names(build(folder))
    monkeypatch.setattr(SaliencyFolder, "find", forbid)
    again = build(folder)
    assert names(again) == first
    assert "hash" in again.splitting
    assert names(pickle.loads(pickle.dumps(again))) == first


def change_time(folder: Path) -> None:
    os.utime(folder / "masks" / "004.png", ns=(1, 1))


def add_pair(folder: Path) -> None:
    write(folder / "images" / "new.png", pixels(0))
    write(folder / "masks" / "new.png", mask_of(0))


def add_list(folder: Path) -> None:
    (folder / "test.txt").write_text("000\n")


@pytest.mark.parametrize("change", [change_time, add_pair, add_list])
def test_a_changed_folder_is_built_again(change: Callable[[Path], None], tmp_path: Path, build: Build) -> None:
    folder = make_folder(tmp_path / "data")
    other = build(make_folder(tmp_path / "other" / "data", 3))
    stale = build(folder)
    change(folder)
    fresh = build(folder)
    assert not Path(stale.data_dir).exists()
    assert Path(other.data_dir).exists()  # of a folder with the same name, elsewhere
    assert len(list((tmp_path / "cache" / "saliency_folders").iterdir())) == 2
    assert ("new.png" in all_names(fresh)) == (change is add_pair)
    assert (names(fresh) == {"test": ["000.png"]}) == (change is add_list)


def test_a_race_between_two_processes(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "data", 4)
    find = SaliencyFolder.find

    def slow_find(self: SaliencyFolder) -> pairs.Found:
        monkeypatch.setattr(SaliencyFolder, "find", find)
        build(folder)  # the other one, faster
        return find(self)

    monkeypatch.setattr(SaliencyFolder, "find", slow_find)
    builder = build(folder)
    assert all_names(builder) == ["000.png", "001.png", "002.png", "003.png"]
    assert "hash" in builder.splitting


def real_data() -> Path:
    return Path(os.environ.get("MENET_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.mark.parametrize(("name", "count"), [("horses", 228), ("sod", 150)])
def test_real_folders(name: str, count: int, build: Build) -> None:
    folder = real_data() / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set MENET_TEST_DATA to the folder that holds {name}/")
    builder = build(folder)
    assert sum(info.num_examples for info in builder.info.splits.values()) == count
    for example in open_raw(builder, "test"):
        mask = read_mask(example["mask"])
        assert mask.shape == read_image(example["image"]).shape[:2]
        assert 0 < mask.mean() < 0.9

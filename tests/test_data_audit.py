"""`data check`: what is wrong in datasets is found, named, and told from what is not."""

import os
from collections.abc import Callable
from pathlib import Path

import benchmark_archives as small
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from menet_jax.data import audit
from menet_jax.data.__main__ import main
from menet_jax.data.sources import NAMED, open_split
from menet_jax.data.specs import Places
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.pairs import IrregularFilesError
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.datasets.synthetic.synthetic_dataset_builder import Synthetic
from menet_jax.images import pictures

pytestmark = pytest.mark.filterwarnings("error")

Check = Callable[..., tuple[int, str, str]]


def benchmark(kind: type[BenchmarkBuilder], **sizes: int) -> Callable[[Places], BenchmarkBuilder]:
    config = BenchmarkConfig(name="small", sizes=sizes)
    return lambda places: kind(config=config, **places.arguments())


@pytest.fixture
def run_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """The exit status of the command, and what it says on both streams."""
    monkeypatch.setitem(NAMED, "sod", benchmark(Sod, test=6))
    monkeypatch.setitem(NAMED, "ecssd", benchmark(Ecssd, test=6))
    monkeypatch.setitem(NAMED, "hku_is", benchmark(HkuIs, test=4, validation=1, train=5))

    def run(*specs: str, dest: Path = tmp_path / "new" / "sheet.png") -> tuple[int, str, str]:
        places = ["--cache", str(tmp_path / "cache"), "--manual-dir", str(tmp_path / "manual")]
        status = main(["check", *specs, "--dest", str(dest), *places])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_sound_datasets(tmp_path: Path, run_check: Check) -> None:
    small.write(tmp_path / "manual" / "sod", small.sod(range(6)))
    small.write(tmp_path / "manual" / "hku_is", small.hku_is(range(100, 110)))
    status, out, _ = run_check("sod", "hku_is")
    assert status == 0
    lines = out.splitlines()
    assert lines[:5] == [
        "sod: 6 images with masks; as many as published; all in the test split",
        "  splits   test 6",
        "  sizes    72 … 72 wide, 54 … 54 high, 72 by 54 in the middle",
        "  masks    6 of 0 and 255 (PNG 1)",
        f"  salient  {min(shares(range(6))):.1%} … {max(shares(range(6))):.1%} of the pixels, "
        f"{np.mean(shares(range(6))):.1%} on average",
    ]
    assert "  splits   train 5, validation 1, test 4" in lines
    assert lines[-2:] == ["no picture is there twice", f"contact sheet: {tmp_path}/new/sheet.png"]
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(2**24) or ()) > 1000
    assert not (tmp_path / "cache" / "sod").exists()  # nothing is prepared


def shares(numbers: range) -> list[float]:
    return [float(small.mask(number).mean()) for number in numbers]


def test_everything_wrong_is_named(tmp_path: Path, run_check: Check) -> None:
    contents = small.files("images/{:04d}.jpg", small.jpeg, range(1, 6))
    masks = small.files("ground_truth_mask/{:04d}.png", small.gray_mask, range(1, 6))
    contents["images/0002.jpg"] = contents["images/0002.jpg"][:600]
    del masks["ground_truth_mask/0003.png"]
    gray = np.linspace(0, 255, 72 * 54).reshape(54, 72).astype(np.uint8)
    masks["ground_truth_mask/0004.png"] = small.encode(Image.fromarray(gray), "PNG")
    masks["ground_truth_mask/0005.png"] = small.encode(Image.fromarray(np.zeros_like(gray)), "PNG")
    small.write(tmp_path / "manual" / "ecssd", contents | masks)
    status, out, err = run_check("ecssd")
    assert status == 1
    for sentence in (
        "ecssd: 3 images with masks; 4 of the 6 published",
        "images/0002.jpg: ",
        "images/0003.jpg: image without a mask",
        "4 pairs of an image and its mask, and 6 were published",
        "ecssd: there is neither image nor mask of 0006",
        "1 of more than two values (PNG L)",
        "1 of 0 (PNG L)",
        "nothing is salient in 0005.jpg",
    ):
        assert sentence in out
    assert "error: 4 things are wrong in ecssd" in err


def test_what_fails_after_opening_is_named(tmp_path: Path, run_check: Check) -> None:
    photos = tmp_path / "photos"
    small.write(photos, small.files("images/{}.jpg", small.jpeg, range(5)))
    small.write(photos, small.files("masks/{}.png", small.gray_mask, range(6)))
    with_nan = np.full((54, 72), 0.5, np.float32)
    with_nan[3, 4] = np.nan
    Image.fromarray(with_nan).save(photos / "images" / "5.tif")
    status, out, err = run_check(str(photos))
    assert status == 1 and f"{photos}/images/5.tif: contains values that are not finite" in out
    assert "1 thing is wrong" in err
    with pytest.raises(IrregularFilesError, match=r"images/5\.tif: contains values that are not finite"):
        open_split(str(photos), "train", Places(tmp_path / "cache"))
    opened = open_split(str(photos), "train", Places(tmp_path / "cache", skip_bad=True))
    assert sum(opened.counts.values()) == 5


def test_a_picture_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, run_check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: Path, *args: object, **kwargs: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    monkeypatch.setattr(Image.Image, "save", full)
    dest = tmp_path / "old.png"
    dest.write_bytes(b"old")
    with pytest.raises(OSError, match=f"No space left on device: '{dest}'"):
        pictures.batch_grid(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), bool), dest)
    monkeypatch.undo()
    photos = tmp_path / "photos"
    small.write(photos, small.files("images/{}.jpg", small.jpeg, range(2)))
    small.write(photos, small.files("masks/{}.png", small.gray_mask, range(2)))
    monkeypatch.setattr(Figure, "savefig", full)
    status, _, err = run_check(str(photos), dest=dest)
    assert status == 1 and f"No space left on device: '{dest}'" in err and "Traceback" not in err
    assert dest.read_bytes() == b"old" and not list(tmp_path.glob(".unfinished*"))


def test_pictures_that_are_there_twice(tmp_path: Path, run_check: Check) -> None:
    """A copy in one dataset and a leak are wrong; a picture that two datasets are tested on is a note."""
    small.write(tmp_path / "manual" / "sod", small.sod(range(6)))
    small.write(tmp_path / "manual" / "ecssd", small.ecssd(range(1, 7)))
    status, out, _ = run_check("sod", "ecssd")
    assert status == 0
    assert (
        "note: 5 pictures twice in sod (test) and ecssd (test); 5 of them equal to the pixel (=), others nearly (~): "
        "1.jpg = 0001.JPG" in out
    )
    photos = tmp_path / "photos"
    small.write(photos, small.files("images/{}.jpg", small.jpeg, range(10, 14)))
    small.write(photos, small.files("masks/{}.png", small.gray_mask, (10, 11, 12, 13, 20, 21, 22)))
    small.write(photos, {"images/20.jpg": small.jpeg(13), "images/21.jpg": small.recompressed(12)})
    small.write(photos, {"images/22.jpg": small.recompressed(3)})
    small.write(photos, {"train.txt": b"10\n11\n12\n13\n20\n22\n", "test.txt": b"21\n"})
    status, out, err = run_check("sod", str(photos))
    assert status == 1
    assert f"wrong: 1 picture twice in {photos} (train); 1 of them equal" in out
    assert "13.jpg = 20.jpg" in out
    assert f"wrong: 1 picture twice in {photos} (train) and {photos} (test), a leak between train and test" in out
    assert "12.jpg ~ 21.jpg" in out
    assert f"wrong: 1 picture twice in sod (test) and {photos} (train), a leak between test and train" in out
    assert "3.jpg ~ 22.jpg" in out
    assert "error: 3 things are wrong" in err


def test_all_of_what_is_wrong_is_listed(tmp_path: Path, run_check: Check) -> None:
    """What is a note is not."""
    small.write(tmp_path / "manual" / "sod", small.sod(range(30)))
    small.write(tmp_path / "photos", small.files("images/{}.jpg", small.jpeg, range(30)))
    small.write(tmp_path / "photos", small.files("masks/{}.png", small.gray_mask, range(30)))
    for split, status in (("train", 1), ("test", 1)):
        (tmp_path / "photos" / f"{split}.txt").write_text("\n".join(map(str, range(30))))
        code, out, err = run_check("sod", str(tmp_path / "photos"))
        assert code == status and ("29.jpg = 29.jpg" in out) == (split == "train")
        assert (" and 10 more" in out) == (split == "test")
        (tmp_path / "photos" / f"{split}.txt").unlink()
        assert "wrong in sod" in err


def test_what_cannot_be_checked(tmp_path: Path, run_check: Check) -> None:
    """Two names of the same images, and a place where no picture can be: said before anything is read."""
    for specs in (("hku_is", "hku_is/official"), ("sod", "sod")):
        status, out, err = run_check(*specs)
        assert (status, out) == (2, "") and "they have the same images" in err
    (tmp_path / "file").write_bytes(b"")
    for dest, expected in (
        (tmp_path / "sheet.foo", "ends in .png"),
        (tmp_path / "sheet", "ends in .png"),
        (tmp_path, "ends in .png"),
        (tmp_path / "file" / "sheet.png", "is a file, and a folder is needed"),
    ):
        status, out, err = run_check("sod", dest=dest)
        assert (status, out) == (2, "") and expected in err


def test_what_is_not_there(tmp_path: Path, run_check: Check) -> None:
    assert run_check()[0] == 2
    status, _, err = run_check("ecssd")
    assert status == 2 and "Download images.zip" in err
    status, _, err = run_check("nowhere")
    assert status == 2 and "neither a dataset nor a folder" in err
    assert not (tmp_path / "new").exists()
    small.write(tmp_path / "manual" / "sod", small.sod(range(6)))
    (tmp_path / "manual" / "hku_is.zip").write_bytes(b"PK")
    status, out, err = run_check("ecssd", "sod", "hku_is")
    assert status == 2 and "sod: 6 images" in out and (tmp_path / "new" / "sheet.png").exists()
    assert "Download images.zip" in err and "hku_is.zip: not a whole zip archive" in err
    assert err.splitlines()[-1] == "error: nothing is known of ecssd, hku_is"


def test_names_cannot_command_a_terminal(tmp_path: Path, run_check: Check) -> None:
    """A name may hold what clears the screen, or bytes that are no text."""
    small.write(tmp_path / "manual" / "sod", small.sod(range(6)))
    small.write(tmp_path / "manual" / "sod", {"masks/\x1b[2J.png": small.one_bit_mask(9)})
    (tmp_path / "manual" / "sod" / "masks" / os.fsdecode(b"\xff.png")).write_bytes(small.one_bit_mask(8))
    status, out, _ = run_check("sod")
    assert status == 1
    assert r"masks/\x1b[2J.png: mask without an image" in out and r"masks/\udcff.png: mask without an image" in out


def test_names_are_no_formulae(tmp_path: Path, run_check: Check) -> None:
    """Nor is a name of which a font has no letter a warning."""
    for place, kind, content in (("images", "jpg", small.jpeg), ("masks", "png", small.gray_mask)):
        names = dict(enumerate(("a$\\frac$b", "_$_$", "\x1b[2J", "plain")))
        small.write(tmp_path / "price $\\x$", {f"{place}/{name}.{kind}": content(n) for n, name in names.items()})
    status, out, _ = run_check(str(tmp_path / "price $\\x$"))
    assert status == 0 and "4 images with masks" in out and (tmp_path / "new" / "sheet.png").exists()


def test_a_dataset_that_is_not_downloaded(tmp_path: Path) -> None:
    """Nothing but the prepared dataset is there to be looked at."""
    found = audit.audit_dataset("synthetic", Synthetic(data_dir=tmp_path, config="tiny"))
    assert [each.split for each in found.facts] == ["train"] * 20 + ["validation"] * 5 + ["test"] * 10
    assert {each.mask for each in found.facts} == {"0 and 255 (PNG L)"}
    assert not audit.duplicates([found])

"""Predicting: what the command and the Python API write and return, and what they refuse."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command_cases import Outcome, outcome
from PIL import ExifTags, Image
from predict_cases import CONFIG, OTHERS, PHOTOS, PROFILE, PROFILED, damage, make_run

import menet_jax
from menet_jax.evaluation.files import tinted
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.files import read_image
from menet_jax.images.maps import quantise
from menet_jax.images.opening import UnreadableImageError
from menet_jax.predict import main
from menet_jax.training import config as configuration
from menet_jax.training.config import Config, LossConfig
from menet_jax.training.run import load_run

pytestmark = pytest.mark.usefixtures("shallow")


def command(run: Path, source: Path, dest: Path, *flags: str) -> Outcome:
    return outcome(main, "--run", run, "--source", source, "--dest", dest, "--batch-size", "4", *flags)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "narrow")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many modes, a rotated one, and files that are no images."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, (mode, (width, height)) in PHOTOS.items():
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)).resize((width, height))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(coarse.convert("L")).astype(np.uint16) * 257)
        else:
            image = coarse.convert(mode)
        if mode == "RGBA":
            image.putalpha(coarse.getchannel("G"))
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[ExifTags.Base.Orientation] = 6  # stored lying on its left side
        image.save(folder / name, exif=exif, icc_profile=PROFILE if name in PROFILED else None)
    for name in OTHERS:
        (folder / name).write_text("not an image")
    (folder / "nested.png").mkdir()
    return folder


@pytest.fixture(scope="module")
def written(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    dest = tmp_path_factory.mktemp("written") / "new" / "maps"
    return command(run, photos, dest, "--overlay", "--cutout"), dest


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return menet_jax.load_predictor(run)


@pytest.fixture
def one(photos: Path, tmp_path: Path) -> Path:
    """A folder with one good image."""
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(photos / "photo.jpg", folder)
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def assert_same_map(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding of sums, which differs with the number of images computed at once."""
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_every_image_gets_its_files_and_nothing_else_does(written: tuple[Outcome, Path]) -> None:
    outcome, dest = written
    assert outcome.code == 0
    stems = [Path(name).stem for name in PHOTOS]
    expected = {f"{stem}{end}.png" for stem in stems for end in ("", "_overlay", "_cutout")}
    assert {path.name for path in dest.iterdir()} == expected


def test_the_command_says_what_it_does(written: tuple[Outcome, Path], run: Path) -> None:
    outcome, dest = written
    lines = outcome.out.splitlines()
    assert lines[0].startswith("devices  4 × cpu (cpu")
    assert lines[1] == f"run      {run}, step 1 on synthetic, metric_adaptive_f 0.750"
    assert lines[2].startswith("images   9 from ")
    assert lines[2].endswith("; 4 others skipped: .hidden.png, Thumbs.db, nested.png/, notes.txt")
    assert lines[3] == "maps     metric"
    assert lines[4].startswith(f"wrote 9 maps to {dest} in ") and "images/s" in lines[4]


@pytest.mark.parametrize("name", PHOTOS)
def test_files_have_the_size_and_mode_asked_for(written: tuple[Outcome, Path], photos: Path, name: str) -> None:
    _, dest = written
    stem = Path(name).stem
    width, height = PHOTOS[name][1]
    upright = (height, width) if name == "turned.jpg" else (width, height)
    for end, mode in {"": "L", "_overlay": "RGB", "_cutout": "RGBA"}.items():
        with Image.open(dest / f"{stem}{end}.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", mode, upright)
    saliency, rgb = pixels(dest / f"{stem}.png"), read_image(photos / name)
    colours, opacity = rgb, saliency
    if name == "glass.png":
        colours, own = pixels(photos / name)[..., :3], pixels(photos / name)[..., 3]
        opacity = np.rint(saliency * (own / 255)).astype(np.uint8)
        assert 0 < opacity.max() < saliency.max()
    np.testing.assert_array_equal(pixels(dest / f"{stem}_cutout.png"), np.dstack([colours, opacity]))
    for end in ("_cutout", "_overlay"):
        with Image.open(dest / f"{stem}{end}.png") as image:
            assert image.info.get("icc_profile") == (PROFILE if name in PROFILED else None)
    np.testing.assert_array_equal(pixels(dest / f"{stem}_overlay.png"), tinted(rgb, saliency))


def test_what_is_no_regular_file_is_an_image_that_cannot_be_read(run: Path, one: Path, tmp_path: Path) -> None:
    os.mkfifo(one / "pipe.png")
    (one / "moved.jpg").symlink_to("elsewhere.jpg")
    (one / "circle.jpg").symlink_to("circle.jpg")
    done = command(run, one, tmp_path / "maps")
    assert done.code == 1 and "3 of 4 images could not be read" in done.err
    assert "pipe.png: not a regular file but a pipe" in done.err and "moved.jpg: a link that leads nowhere" in done.err
    assert "circle.jpg: a link that leads in a circle" in done.err
    assert command(run, one / "pipe.png", tmp_path / "maps").code == 1


def test_overlay_is_half_red_where_salient() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    found = tinted(image, np.array([[0, 51, 255]], np.uint8))
    np.testing.assert_array_equal(found, [[[100, 100, 100], [116, 90, 90], [178, 50, 50]]])


@pytest.mark.parametrize("name", PHOTOS)
def test_python_and_command_agree_on_every_kind_of_image(
    written: tuple[Outcome, Path], predictor: Predictor, photos: Path, name: str
) -> None:
    found = predictor(photos / name)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert_same_map(pixels(written[1] / f"{Path(name).stem}.png"), quantise(found))
    np.testing.assert_array_equal(predictor(str(photos / name)), found)
    np.testing.assert_array_equal(predictor(read_image(photos / name)), found)
    with Image.open(photos / name) as image:
        np.testing.assert_array_equal(predictor(image), found)
    assert name == "tiny.png" or len(np.unique(found)) > 50  # not equal because constant


def test_maps_of_the_turned_image_are_turned(predictor: Predictor, photos: Path) -> None:
    with Image.open(photos / "turned.jpg") as image:
        lying = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(predictor(photos / "turned.jpg"), predictor(np.rot90(lying, -1).copy()))


def test_an_exif_block_that_is_none_says_nothing(predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    with Image.open(photos / "photo.jpg") as image:
        image.save(path, exif=b"b'Exif\\x00\\x00II*'")
    with Image.open(path) as image:
        np.testing.assert_array_equal(predictor(image), predictor(path))


def test_probability_flag_writes_the_other_map(
    run: Path, photos: Path, predictor: Predictor, one: Path, tmp_path: Path
) -> None:
    outcome = command(run, one / "photo.jpg", tmp_path / "maps", "--probability")
    assert outcome.code == 0 and "maps     probability\n" in outcome.out
    found, maps = pixels(tmp_path / "maps/photo.png"), predictor.maps(photos / "photo.jpg")
    assert_same_map(found, quantise(np.asarray(maps.probability)))
    assert np.abs(np.asarray(maps.metric) - np.asarray(maps.probability)).max() > 0.1


def test_newest_flag_uses_the_newest_checkpoint(run: Path, one: Path, tmp_path: Path) -> None:
    outcome = command(run, one, tmp_path / "maps", "--newest")
    assert outcome.code == 0 and "step 2 on synthetic, metric_adaptive_f 0.500" in outcome.out
    expected = menet_jax.load_predictor(run, newest=True)(one / "photo.jpg")
    assert_same_map(pixels(tmp_path / "maps/photo.png"), quantise(expected))
    assert np.abs(expected - menet_jax.load_predictor(run)(one / "photo.jpg")).max() > 0.1


def test_padding_does_not_change_maps(run: Path) -> None:
    trained = load_run(run, report=pytest.fail)
    predictor = Predictor(trained.config, trained.variables, jax.local_devices(), batch_size=3)
    assert predictor.batch_size == 4  # a multiple of the devices
    squares = list(np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3)).astype(np.uint8))
    full, part = predictor.evaluate(squares), predictor.evaluate(squares[:3])
    assert len(part) == 3
    np.testing.assert_array_equal(part, full[:3])


def test_unreadable_images_are_listed_and_the_rest_goes_on(run: Path, photos: Path, tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "maps"
    source.mkdir()
    for name in ("photo.jpg", "gray.jpg", "glass.png", "palette.gif"):
        shutil.copy(photos / name, source)
    (source / "empty.png").touch()
    (source / "text.jpg").write_text("not an image")
    (source / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    whole = (photos / "photo.jpg").read_bytes()
    (source / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    outcome = command(run, source, dest)
    assert outcome.code == 1 and "wrote 4 maps" in outcome.out
    assert "error: 4 of 8 images could not be read:" in outcome.err
    for name in ("empty.png", "text.jpg", "phone.heic", "cut.jpg"):
        assert f"  {source / name}: " in outcome.err
    assert {path.name for path in dest.iterdir()} == {"photo.png", "gray.png", "glass.png", "palette.png"}


def test_a_named_file_is_tried_whatever_its_name(run: Path, one: Path, tmp_path: Path) -> None:
    (one / "photo.jpg").rename(one / "download.php")
    assert command(run, one / "download.php", tmp_path / "maps").code == 0
    assert (tmp_path / "maps/download.png").exists()
    (one / "notes.txt").write_text("not an image")
    outcome = command(run, one / "notes.txt", tmp_path / "maps")
    assert outcome.code == 1 and "notes.txt: not an image of a known format" in outcome.err


def refused(outcome: Outcome, *texts: str) -> None:
    assert outcome.code == 2 and not outcome.out
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    for text in texts:
        assert text in outcome.err


def test_impossible_sources_and_destinations_are_refused(run: Path, one: Path, tmp_path: Path) -> None:
    dest, empty = tmp_path / "maps", tmp_path / "empty"
    empty.mkdir()
    refused(command(run, tmp_path / "none", dest), str(tmp_path / "none"), "no such file or folder")
    refused(command(run, empty, dest), str(empty), "holds no images")
    (empty / "notes.txt").touch()
    refused(command(run, empty, dest), "holds no images, only notes.txt")
    refused(command(run, one, one / "photo.jpg"), "is a file")
    refused(command(run, one, one / "photo.jpg" / "maps"), "photo.jpg")
    assert not dest.exists()


def test_impossible_runs_are_refused(one: Path, tmp_path: Path) -> None:
    dest, bare = tmp_path / "maps", tmp_path / "bare"
    refused(command(tmp_path / "none", one, dest), str(tmp_path / "none"), "is not a directory")
    refused(command(one, one, dest), str(one), "holds no run")
    bare.mkdir()
    configuration.write(CONFIG, bare / "config.json")
    refused(command(bare, one, dest), str(bare), "has no checkpoint yet")
    (bare / "config.json").write_text("{")
    (bare / "checkpoints/1").mkdir(parents=True)
    refused(command(bare, one, dest), str(bare / "config.json"), "does not hold a configuration")
    assert not dest.exists()


@pytest.mark.parametrize("flags", [("--batch-size", "0"), ("--threads", "0"), ("--checkpont", "x")])
def test_impossible_flags_are_refused(run: Path, one: Path, tmp_path: Path, flags: tuple[str, str]) -> None:
    outcome = command(run, one, tmp_path / "maps", *flags)
    assert outcome.code == 2 and flags[0] in outcome.err
    assert not (tmp_path / "maps").exists()


def test_a_device_that_is_not_there_is_refused(run: Path, one: Path, tmp_path: Path) -> None:
    refused(command(run, one, tmp_path / "maps", "--device", "tpu"), "--device tpu", "cpu")
    assert not (tmp_path / "maps").exists()


def test_an_interrupt_before_predicting_leaves_cleanly(
    run: Path, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("menet_jax.evaluation.predict_command.load_run", interrupt)
    done = command(run, one, tmp_path / "maps")
    assert done == (130, "", "stopped before anything was computed\n")
    assert not (tmp_path / "maps").exists()


def test_images_that_would_share_a_file_are_refused(run: Path, one: Path, tmp_path: Path) -> None:
    dest = tmp_path / "maps"
    shutil.copy(one / "photo.jpg", one / "photo_overlay.jpg")
    assert command(run, one, dest).code == 0
    refused(command(run, one, dest, "--overlay"), "photo.jpg, photo_overlay.jpg", "photo_overlay.png")
    shutil.copy(one / "photo.jpg", one / "photo.png")
    refused(command(run, one, dest), "photo.jpg, photo.png would overwrite each other's photo.png")


def test_files_beside_the_images_are_not_overwritten(run: Path, one: Path, tmp_path: Path) -> None:
    assert command(run, one, one).code == 0  # photo.jpg → photo.png, which was not there
    mask = (one / "photo.png").read_bytes()
    refused(command(run, one / "photo.jpg", one), "photo.png", "would be overwritten")
    refused(command(run, one / "photo.png", one), "photo.png", "would be overwritten")
    assert (one / "photo.png").read_bytes() == mask
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "photo.png").symlink_to(one / "photo.png")
    refused(command(run, linked, one), "would be overwritten")


def test_maps_written_before_are_overwritten(run: Path, one: Path, tmp_path: Path) -> None:
    dest = tmp_path / "maps"
    dest.mkdir()
    (dest / "photo.png").touch()
    before = (dest / "photo.png").stat().st_ino
    assert command(run, one, dest).code == 0
    assert pixels(dest / "photo.png").shape == (200, 260)
    assert (dest / "photo.png").stat().st_ino != before  # another takes its place, whole


def test_a_map_that_cannot_be_written_is_an_error(run: Path, one: Path, tmp_path: Path) -> None:
    (tmp_path / "maps/photo.png").mkdir(parents=True)
    outcome = command(run, one, tmp_path / "maps")
    assert outcome.code == 1 and "error: " in outcome.err and "photo.png" in outcome.err


def test_a_damaged_checkpoint_is_reported_and_skipped(run: Path, one: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    damage(copy, step=1)
    outcome = command(copy, one, tmp_path / "maps")
    assert outcome.code == 0 and "step 2 on synthetic, metric_adaptive_f 0.500" in outcome.out
    assert outcome.err.startswith("warning: the checkpoint of step 1") and "damaged" in outcome.err
    reports: list[str] = []
    menet_jax.load_predictor(copy, report=reports.append)
    assert len(reports) == 1 and "step 2 is used instead" in reports[0]
    damage(copy, step=2)
    refused(command(copy, one, tmp_path / "maps"), "no sound checkpoint")


def test_a_map_that_was_not_trained_is_said(one: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Config(Path("unused"), 2, model=CONFIG.model, loss=LossConfig(metric=0.0)))
    outcome = command(run, one, tmp_path / "maps")
    assert "step 1 on synthetic, probability_adaptive_f 0.750" in outcome.out
    assert "maps     metric, which the run did not train" in outcome.out
    assert "did not train" not in command(run, one, tmp_path / "maps", "--probability").out


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_rgb_images_are_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"an image is \(height, width, 3\) uint8"):
        predictor(array)


def test_python_raises_for_files_that_are_no_images(predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"notes\.txt: not an image"):
        predictor(photos / "notes.txt")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        menet_jax.load_predictor(tmp_path)


def test_it_runs_as_a_module(one: Path, tmp_path: Path) -> None:
    (one / "broken.png").touch()
    arguments = ["--source", one, "--dest", tmp_path / "maps", "--device", "cpu"]
    process = subprocess.run(
        [sys.executable, "-m", "menet_jax.predict", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": ""},
    )
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr and "broken.png: the file is empty" in process.stderr
    assert "wrote 1 maps" in process.stdout and (tmp_path / "maps/photo.png").exists()

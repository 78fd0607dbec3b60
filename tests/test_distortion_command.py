"""Scoring on distorted images: what is distorted how, what is scored and saved, and what the command refuses."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import pytest
from command_cases import Outcome, outcome, write_discs, write_narrow_run
from PIL import Image
from shallow_menet import SIDE

from menet_jax import evaluate
from menet_jax.data.sources import Example, Source, open_sources
from menet_jax.data.specs import Places
from menet_jax.evaluation.predictor import Predictor, load_predictor
from menet_jax.images.distortions import add_noise, compress_jpeg, random_quality, random_sigma
from menet_jax.images.files import resize_image
from menet_jax.images.maps import full_size
from menet_jax.images.opening import UnreadableImageError
from menet_jax.metrics.scores import score_image
from menet_jax.model.inference import Maps
from menet_jax.robustness import __main__ as robustness
from menet_jax.robustness.conditions import conditions

pytestmark = pytest.mark.usefixtures("shallow")

IMAGES = 5
SEED = 3
NAMES = [f"{index}.png" for index in range(IMAGES)]
FOLDERS = {
    "clean": "SOD_clean",
    "AWGN σ 5–60": "SOD_awgn-sigma-5-60",
    "JPEG quality 5–40": "SOD_jpeg-quality-5-40",
    "AWGN σ 80": "SOD_awgn-sigma-80",
    "JPEG quality 8": "SOD_jpeg-quality-8",
}
FLAGS = [
    "--sigma-range", "5", "60", "--quality-range", "5", "40", "--sigmas", "80", "--qualities", "8",
    "--seed", f"{SEED}", "--split", "all", "--batch-size", "4", "--threads", "2",
]  # fmt: skip


def distortion(*arguments: str | Path) -> Outcome:
    return outcome(robustness.main, "distortion", *arguments)


def results(dest: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((dest / "results.json").read_text())["results"]
    return found


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and masks of a disc, in a folder with the name of a benchmark."""
    return write_discs(tmp_path_factory.mktemp("data") / "SOD", IMAGES)


@pytest.fixture(scope="module")
def cache(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    open_sources(str(dataset), "all", Places(folder))  # whose progress would be part of the first output
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as it is drawn; its configuration says that it was trained with distortions."""
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", distort=0.5, size=SIDE)


class Studied(NamedTuple):
    done: Outcome
    dest: Path
    saved: Path
    decoded: Counter[int]


@pytest.fixture(scope="module")
def studied(run: Path, dataset: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    root, decoded = tmp_path_factory.mktemp("study"), Counter[int]()
    plain = Source.__getitem__

    def counted(self: Source, index: SupportsIndex) -> Example:
        decoded[index.__index__()] += 1
        return plain(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "__getitem__", counted)
        done = distortion(
            "--run", f"ours={run}", "--data", dataset, "--cache", cache, *FLAGS, "--published",
            "--dest", root / "dest", "--save-images", root / "saved",
        )  # fmt: skip
    assert done.code == 0, done.err
    return Studied(done, root / "dest", root / "saved", decoded)


def test_saved_images_are_the_distorted_ones(studied: Studied, dataset: Path) -> None:
    assert {path.name for path in studied.saved.iterdir()} == set(FOLDERS.values())
    for name in NAMES:
        stem, image = Path(name).stem, read(dataset / "images" / name)
        expected = {
            "clean": image,
            "AWGN σ 5–60": add_noise(image, random_sigma(stem, SEED, (5.0, 60.0)), name=stem, seed=SEED),
            "JPEG quality 5–40": compress_jpeg(image, random_quality(stem, SEED, (5, 40))),
            "AWGN σ 80": add_noise(image, 80.0, name=stem, seed=SEED),
            "JPEG quality 8": compress_jpeg(image, 8),
        }
        for label, distorted in expected.items():
            folder = studied.saved / FOLDERS[label]
            np.testing.assert_array_equal(read(folder / "images" / name), distorted, err_msg=f"{label} {name}")
            np.testing.assert_array_equal(read(folder / "masks" / name), read(dataset / "masks" / name))


def test_after_resizing_the_network_sees_all_of_the_noise(
    run: Path, dataset: Path, cache: Path, tmp_path: Path
) -> None:
    done = distortion(
        "--run", run, "--data", dataset, "--cache", cache, *FLAGS, "--after-resizing", "--dest", tmp_path / "dest",
    )  # fmt: skip
    assert done.code == 0 and "at the network's size; seed" in done.out, done.err
    with (tmp_path / "dest" / "images.csv").open() as file:
        found = {(row["image"], row["map"]): row for row in csv.DictReader(file) if row["distortion"] == "AWGN σ 80"}
    predictor = load_predictor(run)
    for name in NAMES:
        square = resize_image(read(dataset / "images" / name), (SIDE, SIDE))
        maps = predictor.maps(add_noise(square, 80.0, name=Path(name).stem, seed=SEED))
        mask = read(dataset / "masks" / name) > 0
        for kind, saliency in maps._asdict().items():
            expected = score_image(full_size(saliency, mask.shape), mask)
            assert float(found[name, kind]["mae"]) == pytest.approx(expected.mae, abs=2e-3)
    refused = distortion("--run", run, "--data", dataset, "--after-resizing", "--save-images", tmp_path / "saved")
    assert refused.code == 2 and "--after-resizing" in refused.err


def test_scores_are_those_of_the_saved_images(studied: Studied, run: Path, tmp_path: Path) -> None:
    labels = ["clean", "AWGN σ 5–60", "JPEG quality 8"]
    saved = [studied.saved / FOLDERS[label] for label in labels]
    done = outcome(
        evaluate.main, "--run", run, "--data", *saved, "--split", "all", "--cache", tmp_path / "cache",
        "--batch-size", "4", "--dest", tmp_path / "dest",
    )  # fmt: skip
    assert done.code == 0, done.err
    evaluated = {(row["dataset"], row["map"]): row["scores"] for row in results(tmp_path / "dest")}
    for label in labels:
        found = [row for row in results(studied.dest) if row["distortion"]["label"] == label]
        assert [row["map"] for row in found] == ["metric", "probability"]
        for row in found:
            assert (row["images"], row["of"]) == (IMAGES, IMAGES)
            # Rounding differs with the place of an image in its batch, and may turn a gray level over.
            expected = evaluated[FOLDERS[label], row["map"]]
            assert row["scores"] == pytest.approx({name: expected[name] for name in row["scores"]}, abs=2e-3)


def test_maps_of_another_method_line_up_with_the_saved_masks(studied: Studied, tmp_path: Path) -> None:
    folder = studied.saved / FOLDERS["AWGN σ 80"]
    done = outcome(
        evaluate.main, "--maps", f"another={folder / 'images'}", "--masks", folder / "masks", "--dest", tmp_path
    )
    assert done.code == 0, done.err
    [row] = results(tmp_path)
    assert (row["dataset"], row["images"], row["of"]) == (folder.name, IMAGES, IMAGES)
    assert row["missing"] == row["extra"] == row["resized"] == []


def test_each_image_is_decoded_once(studied: Studied) -> None:
    assert sum(studied.decoded.values()) == IMAGES


def test_what_the_study_writes(studied: Studied, run: Path) -> None:
    with (studied.dest / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2 * IMAGES
    for row in rows:
        stem, label = Path(row["image"]).stem, row["distortion"]
        expected = {
            "clean": "",
            "AWGN σ 5–60": str(random_sigma(stem, SEED, (5.0, 60.0))),
            "JPEG quality 5–40": str(random_quality(stem, SEED, (5, 40))),
            "AWGN σ 80": "80.0",
            "JPEG quality 8": "8",
        }
        assert row["strength"] == expected[label]
    for row in results(studied.dest):
        label = row["distortion"]["label"]
        of_row = [
            float(image["adaptive_f"])
            for image in rows
            if (image["distortion"], image["method"], image["map"]) == (label, row["method"], row["map"])
        ]
        assert row["scores"]["adaptive_f"] == pytest.approx(np.mean(of_row))
        assert row["source"] == f"{run}, step 2 on synthetic, trained with distortions"

    with (studied.dest / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["method"], row["map"]) for row in table[:3]] == [
        ("ours", "metric"), ("ours", "probability"), ("MC", "given"),
    ]  # fmt: skip
    by_label = {(row["distortion"]["label"], row["map"]): row["scores"] for row in results(studied.dest)}
    for row in table[:2]:
        for short, label in (("clean", "clean"), ("AWGN", "AWGN σ 5–60"), ("JPEG", "JPEG quality 5–40")):
            for score in ("adaptive_f", "mae"):
                assert float(row[f"{score} {short}"]) == by_label[label, row["map"]][score]
    menet = next(row for row in table if row["method"] == "MEnet")
    assert menet["source"] == "published, Tables I and II"
    assert [menet[name] for name in ("adaptive_f clean", "adaptive_f AWGN", "adaptive_f JPEG", "mae clean")] == [
        "0.594", "0.504", "0.536", "0.139",
    ]  # fmt: skip
    assert menet["mae AWGN"] == ""
    assert "note: published: the paper's own numbers" in studied.done.out

    with (studied.dest / "strengths.csv").open() as file:
        strengths = list(csv.DictReader(file))
    assert [row["distortion"] for row in strengths] == [label for label in FOLDERS for _ in range(2)]
    for kind in ("metric", "probability"):
        with Image.open(studied.dest / f"strengths_SOD_{kind}.png") as figure:
            assert figure.width == 255  # a column at 75 dots an inch, as in all tests
        assert (studied.dest / f"strengths_SOD_{kind}.pdf").read_bytes().startswith(b"%PDF")


def test_images_alone_are_saved_without_a_run(dataset: Path, cache: Path, studied: Studied, tmp_path: Path) -> None:
    done = distortion("--data", dataset, "--cache", cache, *FLAGS, "--save-images", tmp_path / "saved")
    assert done.code == 0, done.err
    for folder in FOLDERS.values():
        for name in NAMES:
            path = Path(folder) / "images" / name
            assert (tmp_path / "saved" / path).read_bytes() == (studied.saved / path).read_bytes()


def test_an_unreadable_image_does_not_end_it(
    run: Path, dataset: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Source.__getitem__

    def damaged(self: Source, index: SupportsIndex) -> Example:
        example = plain(self, index)
        if example.file_name == "2.png":
            raise UnreadableImageError("2.png", "damaged")
        return example

    def redness(self: Predictor, squares: Any) -> list[Maps]:
        """In place of a network: of the clean images it is the mask."""
        red = [(square[..., 0] / 255).astype(np.float32) for square in squares]
        return [Maps(saliency, 1 - saliency) for saliency in red]

    monkeypatch.setattr(Source, "__getitem__", damaged)
    monkeypatch.setattr(Predictor, "evaluate", redness)
    runs = [f"one={run}", f"two={run}"]
    done = distortion("--run", *runs, "--data", dataset, "--cache", cache, *FLAGS, "--dest", tmp_path / "dest")
    assert done.code == 1
    assert done.err.count("2.png: damaged") == len(FOLDERS) and "Traceback" not in done.err
    found = results(tmp_path / "dest")
    assert [(row["method"], row["map"]) for row in found[:4]] == [
        ("one", "metric"), ("one", "probability"), ("two", "metric"), ("two", "probability"),
    ]  # fmt: skip
    assert all((row["images"], row["of"]) == (4, 5) for row in found)
    assert "  4/5  " in done.out
    table = (tmp_path / "dest" / "results.md").read_text()
    assert "**" not in table  # incomplete rows do not compete
    assert f"- {dataset}: " in table and "images; split by" in table
    scores = {(row["distortion"]["label"], row["map"]): row["scores"] for row in found}
    assert scores["clean", "metric"]["adaptive_f"] > scores["AWGN σ 80", "metric"]["adaptive_f"]
    assert scores["clean", "metric"]["mae"] < scores["clean", "probability"]["mae"]


def test_an_interrupt_leaves_cleanly(
    run: Path, dataset: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Predictor, squares: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "evaluate", interrupt)
    done = distortion("--run", run, "--data", dataset, "--cache", cache, *FLAGS, "--dest", tmp_path / "dest")
    assert (done.code, list((tmp_path / "dest").iterdir())) == (130, [])
    assert "stopped; no results were written" in done.err and "Traceback" not in done.err


def test_severities_are_conditions_of_their_own() -> None:
    found = conditions((5.0, 50.0), (5, 50), [10.0], [], severities=True)
    assert [condition.label for condition in found.fixed[:2]] == ["AWGN σ 10", "AWGN σ 20.4 (severity 1)"]
    assert found.fixed[-1].label == "JPEG quality 7 (severity 5)"
    assert found.fixed[-1].slug == "jpeg-quality-7-severity-5"
    assert len({condition.slug for condition in found.all()}) == 3 + 1 + 10


def test_impossible_requests_are_refused_in_a_line(run: Path, dataset: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "saved" / "SOD_clean").mkdir(parents=True)
    both: list[str | Path] = ["--run", run, "--data", dataset, "--split", "all", "--cache", cache]
    cases: list[tuple[list[str | Path], str]] = [
        ([], "nothing to do"),
        (["--run", run], "nothing to do"),
        (["--data", dataset], "nothing to do"),
        (["--data", dataset, "--save-images", tmp_path / "new", "--dest", tmp_path], "without --run"),
        ([*both, "--sigma-range", "9", "5"], "9.0 ... 5.0"),
        ([*both, "--quality-range", "5", "101"], "5 ... 101"),
        ([*both, "--sigmas", "-1"], "-1.0"),
        ([*both, "--sigmas", "10", "10"], "AWGN σ 10 is asked for twice"),
        (["--run", run, run, "--data", dataset], "two runs are called narrow"),
        ([*both, "--run", f"b={run}"], "--run: given twice"),
        (["--run", tmp_path / "none", "--data", dataset], "is not a directory"),
        ([*both, "--threads", "0"], "--threads 0"),
        ([*both, "--save-images", tmp_path / "saved"], "holds SOD_clean already"),
        ([*both, "--save-images", dataset / "images" / "new"], f"lies in {dataset}, which is read"),
        ([*both, "--save-images", tmp_path, "--manual-dir", tmp_path], f"lies in {tmp_path}, which is read"),
    ]
    for arguments, reason in cases:
        done = distortion(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert reason in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert outcome(robustness.main, "distorsion").code == 2

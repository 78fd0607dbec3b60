"""Evaluating: what the command prints and writes, for runs and for folders of maps, and what it refuses."""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from command_cases import write_discs, write_narrow_run
from evaluate_cases import command, results
from PIL import Image
from shallow_menet import SIDE

from menet_jax.datasets.pairs import Pair, Verdict, verdict
from menet_jax.evaluation import evaluate_command, report
from menet_jax.evaluation.files import Kind, plan, predict_files
from menet_jax.evaluation.predictor import Predictor
from menet_jax.metrics.scores import dataset_scores, score_image
from menet_jax.reporting.plots.curves import PrCurve
from menet_jax.training.run import load_run

pytestmark = pytest.mark.usefixtures("shallow")

SCALARS = ("adaptive_f", "adaptive_f_of_mean_pr", "max_mean_f", "max_f_of_mean_pr", "mae")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images and masks of a disc."""
    return write_discs(tmp_path_factory.mktemp("data") / "discs", 7)


@pytest.fixture(scope="module")
def maps(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gray map of every mask, of its size."""
    folder = tmp_path_factory.mktemp("maps") / "noisy"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for path in (dataset / "masks").iterdir():
        mask = np.asarray(Image.open(path)) > 0
        noisy = np.clip(rng.normal(60 + 120 * mask, 40), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", size=SIDE)


def test_maps_are_scored_as_the_metrics_say(dataset: Path, maps: Path, tmp_path: Path) -> None:
    inverted = tmp_path / "inverted"
    inverted.mkdir()
    for path in maps.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(inverted / path.name)
    dest = tmp_path / "new" / "dest"
    done = command("--maps", f"ours={maps}", inverted, "--masks", dataset / "masks", "--dest", dest)
    assert (done.code, "error" in done.err) == (0, False)
    ours, theirs = results(dest)
    assert (ours["method"], ours["source"], ours["dataset"], ours["map"]) == ("ours", str(maps), "discs", "given")
    assert (theirs["method"], theirs["source"]) == ("inverted", str(inverted))

    names = sorted(path.name for path in maps.iterdir())
    pairs = [[np.asarray(Image.open(folder / name)) for folder in (maps, dataset / "masks")] for name in names]
    images = [score_image(saliency, mask > 0) for saliency, mask in pairs]
    expected = dataset_scores(images)
    assert ours["scores"] == expected.scalars()
    assert list(ours["scores"]) == list(SCALARS)
    assert ours["scores"]["adaptive_f"] > theirs["scores"]["adaptive_f"]

    with (dest / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == 2 * names
    assert [float(row["adaptive_f"]) for row in rows[:7]] == [image.adaptive_f for image in images]
    curves = np.load(dest / "pr_curves.npy", allow_pickle=False)
    assert curves["method"].tolist() == ["ours", "inverted"]
    np.testing.assert_array_equal(curves["precision"][0], expected.precision)
    np.testing.assert_array_equal(curves["recall"][0], expected.recall)

    line = next(line for line in done.out.splitlines() if line.startswith("discs  "))
    assert str(maps) in line and line.count("*") == len(SCALARS)
    assert all(f"{name}: " in done.out for name in SCALARS)
    for name, bold in (("results.md", "**"), ("results.tex", "\\textbf{")):
        text = (dest / name).read_text()
        assert text.count(bold) == len(SCALARS) * (2 if bold == "**" else 1)
    with Image.open(dest / "pr_discs.png") as figure:
        assert figure.width == 255  # a column at 75 dots an inch, as in all tests
    assert (dest / "pr_discs.pdf").read_bytes().startswith(b"%PDF")


def test_published_numbers_stand_beside_measured_ones(maps: Path, dataset: Path, tmp_path: Path) -> None:
    masks, dest = tmp_path / "ecssd" / "masks", tmp_path / "dest"
    shutil.copytree(dataset / "masks", masks)
    ours: list[str | Path] = ["--maps", f"ours={maps}", "--masks", masks, "--dest", dest]
    assert "published, " not in command(*ours).out  # only where asked for
    done = command(*ours, "--published", "--overwrite")
    assert done.code == 0, done.err
    with (dest / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows[:2] + rows[-4:]] == ["ours", "MC", "CE-plain", "CE-only", "AML", "Lu's"]
    menet = next(row for row in rows if row["method"] == "MEnet")
    assert (menet["adaptive_f"], menet["mae"], menet["map"]) == ("0.88", "0.06", "metric")
    assert menet["source"] == "published, Table I, Section IV-E2" and menet["max_mean_f"] == ""
    assert [row["source"].startswith("published, ") for row in rows] == [False] + [True] * (len(rows) - 1)
    assert "*" not in (line := next(line for line in done.out.splitlines() if "MEnet" in line)) and "0.880" in line
    content = json.loads((dest / "results.json").read_text())
    assert len(content["results"]) == 1 and len(content["published"]) == len(rows) - 1

    unknown = command("--maps", maps, "--masks", dataset / "masks", "--published")
    assert "note: published: the paper has no numbers of discs; it has of DUT-OMRON" in unknown.out


def test_nothing_is_skipped_silently(dataset: Path, maps: Path, tmp_path: Path) -> None:
    folder, masks, dest = tmp_path / "holey", tmp_path / "gt", tmp_path / "dest"
    shutil.copytree(maps, folder)
    shutil.copytree(dataset / "masks", masks)
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    Image.open(folder / "2.png").resize((20, 20)).save(folder / "2.png")
    shutil.copy(folder / "3.png", folder / "stranger.png")
    (folder / "notes.txt").write_text("")
    (masks / "list.txt").write_text("")
    masks_4 = np.full((80, 70), 3, np.uint8)
    Image.fromarray(masks_4).save(masks / "4.png")  # labels of unknown meaning
    done = command("--maps", f"whole={maps}", f"holey={folder}", "--masks", masks, "--dest", dest)
    assert done.code == 1
    assert "Traceback" not in done.err
    whole, holey = results(dest)
    assert (whole["images"], whole["of"], holey["images"], holey["of"]) == (6, 7, 4, 7)
    assert "  4/7  " in done.out and "4/7" in (dest / "results.csv").read_text()
    assert holey["missing"] == ["0.png"]
    assert [Path(text.split(": ")[0]) for text in holey["unreadable"]] == [folder / "1.png", masks / "4.png"]
    assert holey["resized"] == ["2.png"]
    assert holey["extra"] == ["stranger.png", "notes.txt"]
    assert holey["not_masks"] == ["list.txt"]
    assert f"error: holey ({folder}): no map of 0.png" in done.err
    assert all(name in done.err for name in ("1.png", "4.png"))
    assert all(name in done.out for name in ("2.png", "stranger.png", "notes.txt", "list.txt"))
    assert "*" not in (dest / "results.md").read_text()  # incomplete rows do not compete


def test_graded_masks(dataset: Path, maps: Path, run: Path, tmp_path: Path) -> None:
    """Refused without the flag; with it thresholded at half, and said so, of masks and of a dataset alike."""
    folder, dest, cache = tmp_path / "graded", tmp_path / "dest", ("--cache", tmp_path / "cache")
    shutil.copytree(dataset, folder)
    for name, level in (("0.png", 106), ("1.png", 128)):  # of twelve observers, five and six
        mask = np.asarray(Image.open(dataset / "masks" / name))
        Image.fromarray(mask // 255 * np.uint8(level)).save(folder / "masks" / name)
    of_maps: list[str | Path] = ["--maps", maps, "--masks", folder / "masks"]
    refused = command(*of_maps)
    assert refused.code == 1 and "0.png: a mask of 0 and 255" in refused.err and "--graded-masks" in refused.err
    both = command(*of_maps, "--run", run, "--data", folder, "--split", "all", *cache, "--graded-masks", "--dest", dest)
    assert both.code == 0, both.err
    given, metric, _ = results(dest)
    assert given["images"] == metric["images"] == 7
    assert np.isfinite(list((given["scores"] | metric["scores"]).values())).all()
    with (dest / "images.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["map"] == "given"]
    assert [float(rows[0][name]) for name in ("adaptive_f", "max_f")] == [0, 0]
    assert float(rows[0]["mae"]) > 0 and float(rows[1]["max_f"]) > 0
    said = "2 of 7 masks have gray values, thresholded at half; "
    said += "nothing is salient in 1 of 7 masks, where every F-measure is 0"
    assert f"note: masks of graded: {said}" in both.out
    for name in ("results.md", "results.tex", "results.json"):
        text = (dest / name).read_text()
        assert text.count(f"masks of graded: {said}") == 1 and text.count(said) == 2  # the dataset's own note


def test_measures_of_an_empty_mask(maps: Path, tmp_path: Path) -> None:
    """PySODMetrics's convention: F-measures are 0, S-measure is 1 - the mean of the stretched map; none is NaN."""
    pytest.importorskip("py_sod_metrics")
    masks, dest = tmp_path / "masks", tmp_path / "dest"
    masks.mkdir()
    saliency = np.asarray(Image.open(maps / "0.png")).astype(float)
    Image.fromarray(np.zeros(saliency.shape, np.uint8)).save(masks / "0.png")
    done = command("--maps", maps, "--masks", masks, "--measures", "--dest", dest)
    assert done.code == 0, done.err
    [row] = results(dest)
    stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    assert row["scores"]["mae"] == pytest.approx(stretched.mean())
    assert row["scores"]["s_measure"] == pytest.approx(1 - stretched.mean())
    assert {row["scores"][name] for name in ("adaptive_f", "max_mean_f", "max_f_of_mean_pr", "weighted_f")} == {0}
    assert np.isfinite([row["scores"]["adaptive_e"], row["scores"]["mean_e"]]).all()


def test_processes_score_as_threads_do(
    dataset: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(maps, folder)
    (folder / "1.png").write_bytes(b"")
    dests = [tmp_path / "threads", tmp_path / "processes"]
    for dest in dests:
        done = command("--maps", folder, "--masks", dataset / "masks", "--threads", "2", "--dest", dest)
        assert done.code == 1, done.err
        monkeypatch.setattr(evaluate_command, "PROCESSES_FROM", 1)
    first, second = ((dest / "images.csv").read_text() + (dest / "results.json").read_text() for dest in dests)
    assert first == second


def test_a_method_without_any_readable_map(dataset: Path, maps: Path, tmp_path: Path) -> None:
    folder, dest = tmp_path / "broken", tmp_path / "dest"
    folder.mkdir()
    for path in maps.iterdir():
        (folder / path.name).write_bytes(b"")
    done = command("--maps", maps, folder, "--masks", dataset / "masks", "--dest", dest)
    assert done.code == 1
    assert "0/7" in done.out
    assert results(dest)[1]["scores"] == {}
    assert len(np.load(dest / "pr_curves.npy")) == 1


def test_a_run_scores_as_its_saved_maps(run: Path, dataset: Path, tmp_path: Path) -> None:
    trained = load_run(run, report=print)
    predictor = Predictor(trained.config, trained.variables, jax.local_devices(), batch_size=4)
    saved: dict[Kind, Path] = {"metric": tmp_path / "metric", "probability": tmp_path / "probability"}
    for kind, folder in saved.items():
        folder.mkdir()
        jobs, _ = plan(dataset / "images", folder, overlay=False, cutout=False)
        assert list(predict_files(predictor, jobs, kind, threads=2)) == [None] * 7
    dest, cache = tmp_path / "dest", tmp_path / "cache"
    done = command(
        "--run", f"first={run}", "--data", dataset, "--split", "all", "--cache", cache,
        "--batch-size", "4", "--threads", "2", "--maps", *(f"{kind}={folder}" for kind, folder in saved.items()),
        "--masks", dataset / "masks", "--dest", dest,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {(row["method"], row["map"]): row for row in results(dest)}
    for kind in saved:
        row = rows["first", kind]
        assert (row["images"], row["of"], row["source"]) == (7, 7, f"{run}, step 2 on synthetic")
        assert row["scores"] == pytest.approx(rows[kind, "given"]["scores"], abs=1e-12)  # summed in another order
    drawn = [path.name for path in dest.iterdir() if path.suffix == ".png"]
    assert drawn == ["pr_discs.png"]  # the same images: one figure, one group
    split = command("--run", run, "--data", dataset, "--split", "train", "--cache", cache)
    assert split.code == 0
    assert "discs (train)" in split.out and f"{run}, step 2 on synthetic" in split.out


def test_measures(dataset: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    py_sod_metrics = pytest.importorskip("py_sod_metrics")
    arguments: list[str | Path] = ["--maps", maps, "--masks", dataset / "masks", "--measures"]
    done = command(*arguments, "--dest", tmp_path / "dest")
    assert done.code == 0, done.err
    structure, alignment, weighted = (
        getattr(py_sod_metrics, name)() for name in ("Smeasure", "Emeasure", "WeightedFmeasure")
    )
    for path in sorted(maps.iterdir()):
        pair = [np.asarray(Image.open(folder / path.name)) for folder in (maps, dataset / "masks")]
        for each in (structure, alignment, weighted):
            each.step(*pair)
    e = alignment.get_results()["em"]
    expected = {
        "s_measure": structure.get_results()["sm"],
        "adaptive_e": e["adp"],
        "mean_e": e["curve"].mean(),
        "weighted_f": weighted.get_results()["wfm"],
    }
    [row] = results(tmp_path / "dest")
    assert {name: row["scores"][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert all(name in done.out for name in expected)

    monkeypatch.delitem(sys.modules, "py_sod_metrics")
    (tmp_path / "py_sod_metrics.py").write_text("import module_that_is_not_there")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        broken = command(*arguments, "--dest", tmp_path / "other")
    assert (broken.code, broken.out) == (2, "")
    assert "PySODMetrics is installed" in broken.err and "No module named 'module_that_is_not_there'" in broken.err

    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    refused = command(*arguments, "--dest", tmp_path / "other")
    assert (refused.code, refused.out) == (2, "")
    assert 'pip install "menet_jax[measures]"' in refused.err
    assert not (tmp_path / "other").exists()


def test_figures_call_methods_by_their_names(
    dataset: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are from is in the table."""
    labels, draw = list[str](), report.pr_curves

    def spied(curves: Sequence[PrCurve], title: str) -> Any:
        labels.extend(curve.label for curve in curves)
        return draw(curves, title)

    monkeypatch.setattr(report, "pr_curves", spied)
    shutil.copytree(maps, tmp_path / "fewer")
    (tmp_path / "fewer" / "0.png").unlink()
    command("--maps", f"DSS={maps}", tmp_path / "fewer", "--masks", dataset / "masks", "--dest", tmp_path / "dest")
    assert labels == ["DSS", "fewer (6/7 images)"]
    assert str(maps) in (tmp_path / "dest" / "results.csv").read_text()


def test_impossible_requests_are_refused_in_a_line(dataset: Path, maps: Path, run: Path, tmp_path: Path) -> None:
    masks, empty, old, doubled = dataset / "masks", tmp_path / "empty", tmp_path / "old", tmp_path / "doubled"
    for folder in (empty, old, doubled):
        folder.mkdir()
    (old / "results.json").write_text("{}")
    Image.new("L", (9, 9)).save(empty / "unlike.png")
    for suffix in ("png", "bmp"):
        Image.new("L", (9, 9)).save(doubled / f"0.{suffix}")
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to("circle")
    both: list[str | Path] = ["--maps", maps, "--masks", masks]
    cases: list[tuple[list[str | Path], str]] = [
        ([], "nothing to score"),
        (["--run", run], "--data"),
        (["--maps", maps], "--masks"),
        (["--run", tmp_path / "none", "--data", dataset, "--split", "all"], "is not a directory"),
        (["--run", run, "--data", tmp_path / "none", "--split", "all"], "neither a dataset nor a folder"),
        (["--run", run, "--data", dataset, dataset, "--split", "all"], "two datasets"),
        (["--maps", maps, maps, "--masks", masks], "two methods are called noisy"),
        ([*both, "--maps", f"b={maps}"], "--maps: given twice; name all values after one flag"),
        (["--maps", "a=", "--masks", masks], "want NAME=FOLDER"),
        (["--maps", tmp_path / "none", "--masks", masks], "is not a folder"),
        (["--maps", tmp_path / "circle", "--masks", masks], "is not a folder"),
        (["--run", tmp_path / "circle", "--data", dataset, "--split", "all"], "is not a directory"),
        (["--maps", empty, "--masks", masks], "no map in"),
        (["--maps", maps, "--masks", old], "holds no images"),
        (["--maps", doubled, "--masks", masks], "two files of one stem"),
        ([*both, "--dest", old], "--overwrite"),
        ([*both, "--dest", tmp_path / "file"], "is a file"),
        ([*both, "--threads", "0"], "--threads 0"),
    ]
    for arguments, reason in cases:
        if "--data" in arguments:
            arguments += ["--cache", tmp_path / "cache"]
        done = command(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert reason in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert command(*both, "--dest", old, "--overwrite").code == 0


def test_irregular_files_are_looked_for_once(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, checks = tmp_path / "damaged", list[int]()
    shutil.copytree(dataset, folder)
    (folder / "images" / "3.png").write_bytes(b"")

    def counted(pairs: Sequence[Pair], description: str) -> list[Verdict]:
        checks.append(len(pairs))
        return [verdict(pair) for pair in pairs]

    monkeypatch.setattr("menet_jax.datasets.pairs.check", counted)
    done = command("--run", run, "--data", folder, "--split", "all", "--cache", tmp_path / "cache")
    assert done.code == 2 and "3.png: the file is empty" in done.err and "--skip-bad" in done.err
    assert checks == [7]


def test_an_interrupt_before_scoring_leaves_cleanly(maps: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_command, "open_datasets", interrupt)
    done = command("--maps", maps, "--masks", dataset / "masks")
    assert done == (130, "", "stopped before anything was computed\n")

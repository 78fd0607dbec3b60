"""`robustness jacobian` and `bound`: what they measure, write and refuse, and how they go on after an interruption."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from command_cases import Outcome, outcome, write_discs, write_narrow_run
from PIL import Image
from shallow_menet import SIDE

from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.distortions import add_noise, compress_jpeg
from menet_jax.images.files import resize_image
from menet_jax.images.maps import full_size
from menet_jax.metrics.scores import score_image
from menet_jax.robustness import __main__ as robustness
from menet_jax.robustness.analysis import bound_command, jacobian_command, measurement
from menet_jax.robustness.analysis import inputs as analysis_inputs
from menet_jax.robustness.analysis.measurement import Settings, measure
from menet_jax.robustness.analysis.networks import measured_network
from menet_jax.robustness.analysis.results_cache import ResultsCache
from menet_jax.robustness.jacobian import norms
from menet_jax.robustness.jacobian.bounds import PAPER_SOFTMAX, BoundNorms, bound_norms
from menet_jax.robustness.jacobian.directions import directional_ratios
from menet_jax.robustness.jacobian.norms import frobenius_norm
from menet_jax.robustness.jacobian.sensitivity import constant_gradient_statistics, salient_gradient_statistics
from menet_jax.robustness.jacobian.spectral import power_iteration
from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import Checkpoint
from menet_jax.training.checkpoints import CheckpointStore
from menet_jax.training.run import load_run

pytestmark = pytest.mark.usefixtures("shallow")

IMAGES = 4
CHEAP = ["--max-samples", "8", "--max-iterations", "8", "--draws", "2", "--pictures", "2", "--picture-samples", "2"]


def command(*arguments: str | Path) -> Outcome:
    return outcome(robustness.main, *arguments)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """As many, and as small, as say how the numbers travel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "MIN_SAMPLES", 8)
        patch.setattr(measurement, "TABLE_III_SIDE", 2 * SIDE)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and masks of a disc; one image is black all over."""
    return write_discs(tmp_path_factory.mktemp("data") / "discs", IMAGES, black=[3])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", size=SIDE)


class Study(NamedTuple):
    """The command's arguments, where it wrote, and what it said, interrupted and then continued."""

    arguments: list[str | Path]
    dest: Path
    interrupted: Outcome
    done: Outcome


@pytest.fixture(scope="module")
def study(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """All four images, the command being interrupted while it measures the third."""
    folder = tmp_path_factory.mktemp("study")
    dest = folder / "dest"
    arguments: list[str | Path] = [
        "jacobian", "--run", f"tiny={run}", "--data", dataset, "--split", "all", "--cache", folder / "cache",
        "--dest", dest, "--sigma", "30", *CHEAP,
    ]  # fmt: skip
    calls = []

    def interrupting(*arguments: Any) -> Any:
        calls.append(arguments[1].file_name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jacobian_command, "measure", interrupting)
        interrupted = command(*arguments)
        with (dest / "images.jsonl").open("a") as file:
            file.write('{"key": "a line that a power cut left inc')
        done = command(*arguments)
    assert len(calls) == 5  # two, the one that was interrupted, and the two that were missing
    yield Study(arguments, dest, interrupted, done)


def test_goes_on_where_it_stopped(study: Study) -> None:
    assert study.interrupted.code == 130
    assert "go on with the same flags" in study.interrupted.err
    assert study.done.code == 0, study.done.err
    assert "1 incomplete lines are skipped" in study.done.err
    assert f"reusing  2 of 4 results from {study.dest / 'images.jsonl'}" in study.done.out
    assert len(rows(study.dest / "images.csv")) == IMAGES
    refused = command(*study.arguments)
    assert (refused.code, refused.out) == (2, "") and "--overwrite" in refused.err


@pytest.mark.parametrize("name", ["jacobian", "bound"])
def test_an_interrupt_before_measuring_leaves_cleanly(
    name: str, run: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis_inputs, "open_datasets", interrupt)
    done = outcome(robustness.main, name, "--run", run, "--data", dataset)
    assert done == (130, "", "stopped before anything was computed\n")


def test_other_settings_or_images_are_never_mixed(
    study: Study, run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def stub(of: Any, example: Any, settings: Any, stage: Any) -> Any:
        measured.append(example.file_name)
        raise ValueError("not finite")

    monkeypatch.setattr(jacobian_command, "measure", stub)
    again = [*study.arguments, "--overwrite", "--pictures", "0"]
    assert command(*again).code == 0 and not measured  # all there
    before = (study.dest / "images.jsonl").read_bytes()
    for flags in (["--seed", "1"], ["--map", "metric"], ["--sigma", "29"]):
        done = command(*again, *flags)
        assert done.code == 1 and len(measured) == IMAGES, flags
        assert "reusing  0 of 4" in done.out and "4 others" in done.out
        assert done.err.count("not finite") == IMAGES and "0/4" in done.out and "nan" not in done.out.lower()
        measured.clear()
    limited = command(*again, "--limit", "2")
    assert limited.code == 0 and "reusing  2 of 2" in limited.out and not measured

    other = tmp_path / "discs"  # one image has changed under the same name
    for kind in ("images", "masks"):
        (other / kind).mkdir(parents=True)
        for path in (dataset / kind).iterdir():
            (other / kind / path.name).write_bytes(path.read_bytes())
    Image.fromarray(np.full((65, 70, 3), 99, np.uint8)).save(other / "images" / "1.png")
    changed = [other if argument == dataset else argument for argument in again]
    assert command(*changed).code == 1 and measured == ["1.png"]
    assert (study.dest / "images.jsonl").read_bytes() == before
    assert command(*study.arguments, "--overwrite").code == 0  # as it was, for the tests below


def test_an_interrupt_while_drawing_leaves_no_results_in_the_way(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "images.jsonl").write_bytes((study.dest / "images.jsonl").read_bytes())
    monkeypatch.setattr(jacobian_command, "picture", interrupt)
    done = command(*[tmp_path if argument == study.dest else argument for argument in study.arguments])
    assert done.code == 130 and "reusing  4 of 4" in done.out and not (tmp_path / "results.json").exists()


def test_numbers_are_those_of_the_library(study: Study, run: Path, dataset: Path) -> None:
    trained = load_run(run, report=print)
    of = measured_network(trained, "probability")
    [row] = [row for row in rows(study.dest / "images.csv") if row["image"] == "1.png"]
    with Image.open(dataset / "images" / "1.png") as file:
        image = np.asarray(file)
    with Image.open(dataset / "masks" / "1.png") as file:
        mask = np.asarray(file) > 0
    square = resize_image(image, (SIDE, SIDE))
    x = square.astype(np.float32)
    spectral = power_iteration(of.f, x, jax.random.key(5), tolerance=1e-2, max_iterations=24)
    distance = abs(spectral.value - float(row["spectral"])) / spectral.value
    assert distance < spectral.residual + float(row["spectral_residual"]) < 0.2
    frobenius = frobenius_norm(of.f, x, jax.random.key(5), max_samples=16)
    spread = float(np.hypot(frobenius.standard_error, float(row["frobenius_error"])))
    assert abs(float(row["frobenius"]) - frobenius.value) < 4 * spread

    large = resize_image(image, (2 * SIDE, 2 * SIDE)).astype(np.float32)
    for kind, statistics in (("constant", constant_gradient_statistics), ("salient", salient_gradient_statistics)):
        expected = statistics(of.f, large)._asdict()
        found = {name: float(row[f"{kind}_gradient_{name}"]) for name in expected}
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-12)

    distorted = {
        "AWGN": [add_noise(image, 30.0, name="1", seed=draw) for draw in range(2)],
        "JPEG": [compress_jpeg(image, 10)],
    }
    predictor = Predictor(trained.config, trained.variables, jax.local_devices(), batch_size=4)  # as other tests do

    def adaptive_f(image: np.ndarray) -> float:
        [maps] = predictor.evaluate([resize_image(image, (SIDE, SIDE))])
        return score_image(full_size(np.asarray(maps.probability), mask.shape), mask).adaptive_f

    assert float(row["adaptive_f"]) == pytest.approx(adaptive_f(image), abs=1e-3)
    for name, images in distorted.items():
        squares = [resize_image(each, (SIDE, SIDE)) for each in images]

        def distort(_: np.ndarray, draw: int, squares: list[np.ndarray] = squares) -> np.ndarray:
            return squares[draw]

        ratios = directional_ratios(of.f, square, distort, draws=len(squares))
        assert float(row[f"{name}_finite"]) == pytest.approx(ratios.finite.mean, rel=1e-4)
        assert float(row[f"{name}_infinitesimal"]) == pytest.approx(ratios.infinitesimal.mean, rel=1e-4)
        assert float(row[f"{name}_distance"]) == pytest.approx(ratios.distances.mean(), rel=1e-6)
        lost = adaptive_f(image) - float(np.mean([adaptive_f(each) for each in images]))
        assert float(row[f"{name}_loss_of_f"]) == pytest.approx(lost, abs=2e-3)


def test_tables_and_figures(study: Study) -> None:
    images = rows(study.dest / "images.csv")
    content = json.loads((study.dest / "results.json").read_text())
    assert content["settings"]["sigma"] == 30 and content["failures"] == []
    tables = content["tables"]
    [spectral, frobenius] = tables["norms"]["rows"]
    for row, name in ((spectral, "spectral"), (frobenius, "frobenius")):
        values = [float(image[name]) for image in images]
        scores = row["scores"]
        assert row["images"] == "4" and row["map"] == "probability" and row["run"] == "tiny"
        assert scores["mean"] == pytest.approx(np.mean(values))
        assert scores["s.e."] == pytest.approx(np.std(values, ddof=1) / np.sqrt(IMAGES))
        assert [scores[key] for key in ("min", "median", "max")] == pytest.approx(np.quantile(values, [0, 0.5, 1]))
    awgn, jpeg = tables["directions"]["rows"]
    assert (awgn["distortion"], awgn["draws"], awgn["unchanged"]) == ("AWGN σ 30", "2", "0")
    assert (jpeg["distortion"], jpeg["draws"], jpeg["unchanged"]) == ("JPEG quality 10", "1", "1")  # the black image
    moved = [float(image["JPEG_finite"]) for image in images if image["JPEG_finite"]]
    assert len(moved) == IMAGES - 1 and jpeg["scores"]["finite"] == pytest.approx(np.mean(moved))
    noise, salient = tables["table_iii"]["rows"]
    assert "rounding noise" in noise["channels summed"]
    assert 0 < noise["scores"]["mean"] < 1e-6 < 1e-2 * salient["scores"]["mean"]
    assert len(tables["correlations"]["rows"]) == 4
    for stem in ("norms", "directions", "correlations", "table_iii"):
        texts = [(study.dest / f"{stem}.{suffix}").read_text() for suffix in ("csv", "md", "tex")]
        assert not any("nan" in text.lower().replace("nance", "") for text in texts)
        assert "tiny" in texts[0] and "\\toprule" in texts[2] and tables[stem]["title"] in study.done.out
    names = {path.name for path in study.dest.iterdir()}
    for stem in ("norms", "fragility_tiny_discs", "sensitivity_tiny_discs"):
        assert {f"{stem}.png", f"{stem}.pdf"} <= names
        with Image.open(study.dest / f"{stem}.png") as figure:
            assert figure.width == 255  # a column at 75 dots an inch, as in all tests
    files = list((study.dest / "sensitivity").iterdir())
    assert len(files) == 2
    for path in files:
        with np.load(path) as arrays:
            assert arrays["input"].shape == (SIDE, SIDE)


def test_an_image_that_cannot_be_read_and_one_alone(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def failing(*arguments: Any) -> Any:
        measured.append(arguments[1].file_name)
        if len(measured) == 1:
            raise ValueError("the Jacobian at this image is not finite")
        return measure(*arguments)

    monkeypatch.setattr(jacobian_command, "measure", failing)
    dest = tmp_path / "dest"
    done = command(
        "jacobian", "--run", run, "--data", dataset, "--split", "all", "--cache", tmp_path / "cache",
        "--limit", "2", "--dest", dest, *CHEAP, "--pictures", "0",
    )  # fmt: skip
    assert done.code == 1
    assert f"{measured[0]}: the Jacobian at this image is not finite" in done.err and "1 images could not" in done.err
    assert "a dataset of one image has no standard error" in done.out
    content = json.loads((dest / "results.json").read_text())
    assert len(content["failures"]) == 1
    for row in content["tables"]["norms"]["rows"]:
        assert row["images"] == "1/2" and row["of"] == "4" and "s.e." not in row["scores"]
        assert row["scores"]["mean"] == row["scores"]["median"]
    assert all(row["scores"] == {} for row in content["tables"]["correlations"]["rows"])
    assert "nan" not in done.out.lower()
    assert [row["image"] for row in rows(dest / "images.csv")] == measured[1:]


def test_bound(run: Path, dataset: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    arguments: list[str | Path] = [
        "bound", "--run", run, "--data", dataset, "--split", "all", "--cache", tmp_path / "cache",
        "--limit", "2", "--dest", dest, "--bound-iterations", "1", "--max-iterations", "8",
    ]  # fmt: skip
    done = command(*arguments)
    assert done.code == 0, done.err
    of = measured_network(load_run(run, report=print), "probability")
    expected = bound_norms(of.f, (SIDE, SIDE), softmax=PAPER_SOFTMAX, tolerance=0.02, max_iterations=1)
    content = json.loads((dest / "results.json").read_text())
    paper, tight = content["tables"]["bounds"]["rows"]
    assert (paper["softmax"], tight["softmax"]) == ("paper's, 1", "tight, 1/4")
    names = ("1-norm", "inf-norm", "2-norm", "2-norm at least")
    values = [expected.one, expected.infinity, expected.two, expected.two_at_least]
    assert [paper["scores"][name] for name in names] == pytest.approx(values, rel=1e-5)
    assert [4 * tight["scores"][name] for name in names] == [paper["scores"][name] for name in names]
    largest = max(float(row["spectral"]) for row in rows(dest / "images.csv"))
    assert tight["scores"]["measured"] == largest < tight["scores"]["2-norm"]
    assert tight["scores"]["loose"] == pytest.approx(tight["scores"]["2-norm"] / largest)
    again = command(*arguments, "--overwrite")
    assert again.code == 0 and f"reusing  3 of 3 results from {dest / 'images.jsonl'}\n" in again.out
    assert "reusing" not in done.out
    assert (dest / "bounds.csv").read_text().count("\n") == 3


def test_a_network_without_a_bound_is_named_and_others_go_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [OverflowError("the bound is beyond float32"), None]

    def norms(*_: Any, **__: Any) -> BoundNorms:
        if error := left.pop(0):
            raise error
        return BoundNorms(4.0, 4.0, 3.0, 3.0, 4.0, 2.0, 1, 0.01)

    monkeypatch.setattr(bound_command, "bound_norms", norms)
    dest = tmp_path / "dest"
    done = command("bound", "--run", f"first={run}", f"second={run}", "--dest", dest)
    assert done.code == 1
    assert "first: the bound is beyond float32" in done.err
    assert {row["run"] for row in rows(dest / "bounds.csv")} == {"second"}
    assert len(json.loads((dest / "results.json").read_text())["failures"]) == 1


def test_another_seed_draws_other_noise() -> None:
    seeds = [Settings("probability", 50.0, 10, 4, 1e-3, 8, 0.1, 8, seed).draw_seeds(4) for seed in range(3)]
    assert [number for each in seeds for number in each] == list(range(12))


def test_impossible_requests_are_refused_in_a_line(run: Path, dataset: Path, tmp_path: Path) -> None:
    both: list[str | Path] = ["--run", run, "--data", dataset, "--split", "all", "--cache", tmp_path / "cache"]
    cases: list[tuple[list[str | Path], str]] = [
        (["jacobian"], "give --run RUN --data DATASET"),
        (["jacobian", "--run", run], "give --run RUN --data DATASET"),
        (["bound"], "nothing to bound"),
        (["jacobian", *both, "--limit", "0"], "--limit 0"),
        (["jacobian", *both, "--draws", "0"], "--draws 0"),
        (["jacobian", *both, "--tolerance", "0"], "--tolerance 0"),
        (["jacobian", *both, "--sigma", "inf"], "--sigma inf"),
        (["jacobian", *both, "--quality", "101"], "101"),
        (["jacobian", *both, "--pictures", "-1"], "--pictures -1"),
        (["jacobian", *both, "--picture-samples", "1"], "--picture-samples 1"),
        (["bound", *both, "--bound-tolerance", "nan"], "--bound-tolerance nan"),
        (["jacobian", "--run", tmp_path / "none", *both[2:]], "is not a directory"),
        (["jacobian", *both[:2], "--data", tmp_path / "none"], "neither a dataset nor a folder"),
    ]
    for arguments, reason in cases:
        done = command(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert reason in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert command("bound", *both, "--map", "metric").code == 2


def test_a_network_that_is_not_finite_is_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    trained = load_run(run, report=print)
    broken = tmp_path / "broken"
    broken.mkdir()
    variables = jax.tree.map(np.array, dict(trained.variables))
    variables["params"]["logits_conv"]["bias"][0] = np.nan
    config = dataclasses.replace(trained.config, run=broken)
    configuration.write(config, broken / "config.json")
    with CheckpointStore(broken / "checkpoints", config.best_score) as store:
        store.save(Checkpoint(2, variables, {}, np.zeros(2), {}, configuration.to_dict(config), None))
    done = command("jacobian", "--run", broken, "--data", dataset)
    assert done.code == 2 and "not finite, in" in done.err and "logits_conv" in done.err


def test_ledger(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    cache = ResultsCache(path)
    cache.add({"a": 1, "b": [2]}, {"value": 0.1})
    cache.add({"a": 2, "b": [2]}, "Zürich")
    with pytest.raises(ValueError, match="not finite"):
        cache.add({"a": 3}, float("nan"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"a": 2', '"a": 3'), '{"key":']))
    found = ResultsCache(path)
    assert found.get({"b": [2], "a": 1}) == {"value": 0.1}
    assert found.get({"a": 3, "b": [2]}) is None and found.get({"a": 2, "b": [2]}) is None
    assert (len(found), found.damaged) == (1, 2)
    found.add({"a": 4}, 4)
    again = ResultsCache(path)
    assert [again.kept({"a": n}, lambda: 5) for n in (4, 4, 5, 5)] == [4, 4, 5, 5]
    # Each once, and not what this start has added.
    assert (len(again.before), len(again.asked), len(again.before & again.asked)) == (2, 2, 1)

"""`robustness summary`: one figure of what `attack`, `smooth` and `bound` have written."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_cases import Outcome, outcome, write_discs, write_narrow_run
from matplotlib.figure import Figure
from PIL import Image
from robustness_cases import small_command
from shallow_menet import SIDE

from menet_jax.reporting.plots.ends import EndsCurves
from menet_jax.robustness import __main__ as robustness
from menet_jax.robustness import summary as summary_module

pytestmark = pytest.mark.usefixtures("shallow")


def summary(*flags: str | Path) -> Outcome:
    return outcome(robustness.main, "summary", *flags)


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_joins_what_the_commands_write(tmp_path: Path) -> None:
    run, discs = write_narrow_run(tmp_path / "narrow", size=SIDE), write_discs(tmp_path / "discs", 2)
    cheap = ("--map", "probability", "--strengths", "1", "--steps", "2", "--draws", "1", "--qualities")
    attack, smooth, dest = (tmp_path / name for name in ("attack", "smooth", "dest"))
    assert small_command("attack", run, discs, *cheap, "--dest", attack).code == 0
    few = ("--sigmas", "8", "--samples", "44", "--guesses", "2", "--limit", "1")
    assert small_command("smooth", run, discs, *few, "--dest", smooth).code == 0

    done = summary("--attack", attack, "--smooth", smooth, "--dest", dest)

    assert done.code == 0, done.err
    rows = {row["change"]: row for row in lines_of(dest / "summary.csv")}
    [certified] = [line for line in lines_of(smooth / "images.csv") if line["map"] == "probability"]
    [attacked] = [line for line in lines_of(attack / "images.csv") if line["image"] == certified["image"]]
    assert {row["images"] for row in rows.values()} == {"1"}
    at_least, at_most = rows["attack, at least"], rows["certificate, at most"]
    assert float(at_least["flipped"]) == pytest.approx(float(attacked["attack_flipped"]), rel=1e-2)
    # A map of one value a pixel, an image of three: a change of 1 in the root mean square is √3 times as long.
    assert float(at_least["moved"]) == pytest.approx(3**0.5 * float(attacked["attack_gain"]), rel=1e-2)
    assert float(at_least["moved"]) == pytest.approx(float(attacked["attack_moved"]), rel=1e-2)
    assert float(at_least["slope"]) == pytest.approx(3**0.5 * float(attacked["spectral"]), rel=1e-2)
    assert float(at_most["flipped"]) == pytest.approx(1 - float(certified["share"]), rel=1e-2, abs=1e-3)
    assert float(at_most["strength"]) == pytest.approx(float(certified["radius"]) / np.sqrt(3 * SIDE**2), rel=1e-2)
    with Image.open(dest / "summary_small_discs.png") as picture:
        assert min(picture.size) > 75
    assert len(lines_of(dest / "images.csv")) == 2


def written(
    folder: Path, table: str, lines: Sequence[dict[str, Any]], rows: Sequence[Any] = (), **settings: str
) -> Path:
    folder.mkdir()
    content = {"settings": settings, "tables": {table: {"rows": list(rows)}}}
    (folder / "results.json").write_text(json.dumps(content))
    with (folder / "images.csv").open("w") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return folder


OF = {"dataset": "discs", "run": "small"}


def attack_of(folder: Path, norm: str = "l2", runs: Sequence[str] = ("small",)) -> Path:
    gains = {"spectral": 0.2, "noise_moved": 0.01, "attack_moved": 0.1, "noise_flipped": 0.0, "attack_flipped": 0.3}
    lines = [
        {**OF, "run": run, "image": f"{n}.png", "strength": s, **gains}
        for run in runs
        for n in range(2)
        for s in (0.1, 1)
    ]
    return written(folder, "attack", lines, map="probability", norm=norm)


def smooth_of(folder: Path, **of: str) -> Path:
    line = {**OF, "image": "1.png", "map": "probability", "strength": 0.05, "share": 0.9}
    return written(folder, "smooth", [{**line, **of}, {**line, "map": "metric", "share": 0.5}])


def bound_of(folder: Path, name: str) -> Path:
    row = {"run": "small", "map": name, "scores": {"2-norm": 1e10}}
    return written(folder, "bounds", [{"run": "small"}], [row])


@pytest.mark.parametrize("old", ["attack", "bound"])
def test_results_of_an_older_version_are_named(old: str, tmp_path: Path) -> None:
    folders = (
        attack_of(tmp_path / "attack"),
        smooth_of(tmp_path / "smooth"),
        bound_of(tmp_path / "bound", "probability"),
    )
    results = tmp_path / old / "results.json"
    results.write_text(results.read_text().replace('"map"', '"reading"'))
    flags = (each for folder in folders for each in (f"--{folder.name}", folder))
    done = summary(*flags, "--dest", tmp_path / "dest")
    assert done.code == 2 and done.err.count("\n") == 1
    assert f"error: {results}: without map, as an older version wrote it; run that command again" in done.err


def test_takes_images_that_both_have_and_the_bound(tmp_path: Path) -> None:
    attack, smooth = attack_of(tmp_path / "attack"), smooth_of(tmp_path / "smooth")
    dest = tmp_path / "dest"
    bound = bound_of(tmp_path / "bound", "probability")
    flags = ("--attack", attack, "--smooth", smooth, "--bound", bound, "--dest", dest)
    done = summary(*flags)
    assert done.code == 0, done.err
    note = "small on discs: only one of --attack and --smooth has 0.png"
    assert f"note: {note}\n" in done.out and f"- {note}\n" in (dest / "summary.md").read_text()
    rows = lines_of(dest / "summary.csv")
    assert [(row["change"], float(row["strength"]), float(row["flipped"])) for row in rows] == [
        ("noise, mean", 0.1, 0.0),
        ("noise, mean", 1.0, 0.0),
        ("attack, at least", 0.1, 0.3),
        ("attack, at least", 1.0, 0.3),
        ("certificate, at most", 0.05, pytest.approx(0.1)),
    ]
    assert (dest / "summary_small_discs.pdf").is_file()
    again = summary(*flags)
    assert again.code == 2 and "--overwrite" in again.err


def test_a_figure_of_every_image_shows_that_image_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {**OF, "map": "probability", "strength": 0.05}
    lines = [{**line, "image": "0.png", "share": 0.7}, {**line, "image": "1.png", "share": 0.9}]
    smooth, drawn = written(tmp_path / "smooth", "smooth", lines), dict[str, float]()

    def ends_curves(curves: EndsCurves, title: str) -> Figure:
        drawn[title] = curves.certificate[0.05]
        return plotted(curves, title)

    plotted = summary_module.ends_curves
    monkeypatch.setattr(summary_module, "ends_curves", ends_curves)
    flags = ("--attack", attack_of(tmp_path / "attack"), "--smooth", smooth, "--dest", tmp_path / "dest")
    done = summary(*flags, "--each-image")
    assert done.code == 0 and "4 files to" in done.out, done.err
    assert drawn == {
        "small on discs, probability map, 2 images": pytest.approx(0.2),
        "small on discs, probability map, 0.png": pytest.approx(0.3),
        "small on discs, probability map, 1.png": pytest.approx(0.1),
    }
    names = {file.name for file in (tmp_path / "dest" / "images").iterdir()}
    assert names == {f"summary_small_discs_{image}.{kind}" for image in "01" for kind in ("png", "pdf")}
    assert summary(*flags, "--overwrite").code == 0 and not list((tmp_path / "dest" / "images").iterdir())


@pytest.mark.parametrize(
    ("norm", "of", "bound", "message"),
    [
        ("linf", {}, None, "bounded by linf"),
        ("l2", {"image": "7.png"}, None, "no image in common"),
        ("l2", {"run": "other"}, None, "no image in common"),
        ("l2", {}, "logit_margin", "not of the probability map"),
    ],
)
def test_refuses_what_does_not_belong_together(
    norm: str, of: dict[str, str], bound: str | None, message: str, tmp_path: Path
) -> None:
    attack, smooth = attack_of(tmp_path / "attack", norm), smooth_of(tmp_path / "smooth", **of)
    more = ("--bound", bound_of(tmp_path / "bound", bound)) if bound else ()
    done = summary("--attack", attack, "--smooth", smooth, "--dest", tmp_path / "dest", *more)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "dest").exists()


def test_refuses_other_folders(tmp_path: Path) -> None:
    attack, smooth = attack_of(tmp_path / "attack"), smooth_of(tmp_path / "smooth")
    swapped = summary("--attack", smooth, "--smooth", attack, "--dest", tmp_path / "dest")
    assert swapped.code == 2 and "was not written by `robustness attack`" in swapped.err
    absent = summary("--attack", tmp_path, "--smooth", smooth, "--dest", tmp_path / "dest")
    assert absent.code == 2 and "--attack" in absent.err and "results.json" in absent.err
    for damaged in ('{"settings"', '{"tables": {"attack": {}}}', "[]"):
        (attack / "results.json").write_text(damaged)
        done = summary("--attack", attack, "--smooth", smooth, "--dest", tmp_path / "dest")
        assert done.code == 2 and f"{attack / 'results.json'}: was not written by" in done.err


def test_several_runs_stand_together_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    attack, smooth = attack_of(tmp_path / "attack", runs=("small", "large", "alone")), tmp_path / "smooth"
    line = {**OF, "image": "1.png", "map": "probability", "strength": 0.05, "share": 0.9}
    written(smooth, "smooth", [line, {**line, "run": "large"}])
    bound = bound_of(tmp_path / "bound", "probability")
    done = summary("--attack", attack, "--smooth", smooth, "--bound", bound, "--dest", tmp_path / "dest")
    assert done.code == 0, done.err
    rows = lines_of(tmp_path / "dest" / "summary.csv")
    assert [row["run"] for row in rows] == ["small", "large"] * 5
    assert "note: alone on discs: only one of --attack and --smooth has 0.png, 1.png\n" in done.out
    assert "note: large: --bound does not have it\n" in done.out


def test_draws_changes_that_change_nothing(tmp_path: Path) -> None:
    nothing = {"noise_moved": 0.0, "attack_moved": 0.0, "noise_flipped": 0.0, "attack_flipped": 0.0, "spectral": 0.0}
    lines = [{**OF, "image": "1.png", "strength": 0.1, **nothing}]
    attack = written(tmp_path / "attack", "attack", lines, map="probability", norm="l2")
    certified = {**OF, "image": "1.png", "map": "probability", "strength": 0.05, "share": 1.0}
    smooth = written(tmp_path / "smooth", "smooth", [certified])
    done = summary("--attack", attack, "--smooth", smooth, "--dest", tmp_path / "dest")
    assert done.code == 0, done.err


def test_refuses_to_replace_what_it_reads(tmp_path: Path) -> None:
    attack, smooth = attack_of(tmp_path / "attack"), smooth_of(tmp_path / "smooth")
    done = summary("--attack", attack, "--smooth", smooth, "--dest", smooth, "--overwrite")
    assert done.code == 2 and f"--dest {smooth}: is --smooth" in done.err


def test_refuses_numbers_that_are_not_there(tmp_path: Path) -> None:
    attack, smooth = attack_of(tmp_path / "attack"), smooth_of(tmp_path / "smooth")
    images = attack / "images.csv"
    images.write_text(images.read_text().replace("attack_flipped", "flipped"))
    done = summary("--attack", attack, "--smooth", smooth, "--dest", tmp_path / "dest")
    assert done.code == 2 and f"{images}: without attack_flipped" in done.err and done.err.count("\n") == 1

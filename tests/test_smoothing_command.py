"""`robustness smooth`: what it certifies, writes and refuses, on a small network."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from command_cases import write_discs, write_narrow_run
from robustness_cases import small_command
from shallow_menet import SIDE

from menet_jax.data.sources import Places, open_sources
from menet_jax.metrics.scores import f_measure
from menet_jax.robustness.smoothing.certificate import Certificate, radius
from menet_jax.robustness.smoothing.command import COUNTS
from menet_jax.robustness.smoothing.measurement import certified_f

pytestmark = pytest.mark.usefixtures("shallow")

CHEAP = ["--sigmas", "4", "40", "--samples", "60", "--thresholds", "0.6", "0.75"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", size=SIDE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_discs(tmp_path_factory.mktemp("data") / "discs", 2)
    open_sources(str(folder), "all", Places(folder.parent / "cache"))  # else the first command shows how it reads it
    return folder


command = partial(small_command, "smooth")


def test_what_is_written(run: Path, dataset: Path, tmp_path: Path) -> None:
    done = command(run, dataset, *CHEAP, "--dest", tmp_path)
    assert done.code == 0, done.err
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2
    for row in rows:
        assert float(row["radius"]) == pytest.approx(radius(float(row["sigma"]), float(row["threshold"])))
        assert float(row["share_bonferroni"]) <= float(row["share"]) <= 1
        assert float(row["certified_f"]) <= float(row["smoothed_f"]) + 1e-9
    cases = {(row["image"], row["map"], row["sigma"], row["threshold"]): float(row["share"]) for row in rows}
    for (image, kind, sigma, threshold), share in cases.items():
        if threshold == "0.75":
            assert share <= cases[image, kind, sigma, "0.6"]  # a longer radius is harder to certify
    for name in ("smooth.md", "results.json", "certified_small_discs.png"):
        assert (tmp_path / name).stat().st_size > 0
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / COUNTS).iterdir()}
    again = command(run, dataset, *CHEAP, "--dest", tmp_path, "--overwrite")
    assert len(kept) == 2 and kept == {file: file.stat().st_mtime_ns for file in (tmp_path / COUNTS).iterdir()}
    assert again.code == 0 and "reusing  2 of 2 results" in again.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sigmas", "0"], "above 0"),
        (["--sigmas", "4", "4"], "different"),
        (["--thresholds", "0.5"], "above 0.5"),
        (["--samples", "0"], "--samples 0"),
        (["--risk", "1"], "--risk 1.0"),
    ],
)
def test_impossible_flags(flags: list[str], message: str, run: Path, dataset: Path) -> None:
    done = command(run, dataset, *flags)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--samples", "40"], "error: --samples 40: certify nothing of 256 pixels at --thresholds 0.75"),
        (["--thresholds", "0.6", "0.95"], "give 243 or more"),
    ],
)
def test_too_few_samples(flags: list[str], message: str, run: Path, dataset: Path) -> None:
    done = command(run, dataset, *flags)
    warning, error = done.err.splitlines()  # the first one of images that the run has seen
    assert done.code == 2 and warning.startswith("warning: ") and message in error


def test_certified_f_by_hand() -> None:
    mask = np.array([1, 1, 1, 0, 0, 0], bool)[None]
    salient = np.array([1, 1, 0, 1, 0, 0], bool)[None]
    certified = np.array([1, 0, 1, 1, 0, 1], bool)[None]
    # Found for certain: pixel 0. Missed: 1 (abstained), 2. Amiss: 3, and 4, which is abstained from.
    assert certified_f(Certificate(salient, certified), mask) == pytest.approx(float(f_measure(1 / 3, 1 / 3)))
    assert certified_f(Certificate(mask, np.ones_like(mask)), mask) == 1

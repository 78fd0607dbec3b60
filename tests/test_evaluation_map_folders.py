"""Folders of maps: names of every kind, many files, and published ones."""

import shutil
import unicodedata
import warnings
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
from command_cases import write_discs
from evaluate_cases import command, results
from PIL import Image

from menet_jax.evaluation.files import plan
from menet_jax.evaluation.map_folders import match

DATA = Path(__file__).parents[2] / "shared" / "data"

# adaptive F / MAE of the published maps on this half of the dataset
PUBLISHED_ON_SOD = {"Amulet": (0.7748, 0.1332), "DSS": (0.8017, 0.1177), "PiCANet": (0.8053, 0.0985)}


def test_names_of_every_kind(tmp_path: Path) -> None:
    """Not UTF-8, with what a terminal would obey, of an accent in two spellings, and of a link that leads nowhere."""
    mask = write_discs(tmp_path / "discs", 1) / "masks" / "0.png"
    maps, masks, dest = tmp_path / "red\x1b[31m", tmp_path / "gt", tmp_path / "dest"
    names = [(name, name) for name in ("ma\udcf1ana", "esc\x1b[31m", "moved")]
    names += [(unicodedata.normalize("NFD", "caf\xe9"), "caf\xe9")]
    for folder in (maps, masks):
        folder.mkdir()
    for of_map, of_mask in names:
        shutil.copy(mask, masks / f"{of_mask}.png")
        shutil.copy(mask, maps / f"{of_map}.png")
    (maps / "moved.png").unlink()
    (maps / "moved.png").symlink_to("elsewhere.png")
    done = command("--maps", maps, "--masks", masks, "--dest", dest)
    assert done.code == 1
    assert "\x1b[31m" not in done.out + done.err and r"red\x1b[31m" in done.out
    assert r"moved.png: a link that leads nowhere, to elsewhere.png" in done.err
    [found] = results(dest)
    assert (found["images"], found["of"], found["scores"]["mae"], found["missing"]) == (3, 4, 0, [])
    assert {"images.csv", "results.csv", "results.tex", "pr_curves.npy"} <= {path.name for path in dest.iterdir()}


def test_no_name_is_looked_for_among_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of many files is opened in linear time."""
    for index in range(300):
        (tmp_path / f"{index}.png").touch()
    compared, equal = Counter[str](), PurePath.__eq__

    def counted(self: PurePath, other: object) -> bool:
        compared["paths"] += 1
        return equal(self, other)

    monkeypatch.setattr(PurePath, "__eq__", counted)
    assert len(match(tmp_path, tmp_path)) == 300
    assert len(plan(tmp_path, tmp_path / "new", overlay=True, cutout=True)[0]) == 300
    assert compared["paths"] < 10 * 300  # and 300 by 300 otherwise


@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside the repository")
def test_published_maps_on_sod(tmp_path: Path) -> None:
    py_sod_metrics = pytest.importorskip("py_sod_metrics")
    sod, dest = DATA / "sod", tmp_path / "dest"
    methods = [f"{name}={sod / 'maps' / name}" for name in PUBLISHED_ON_SOD]
    done = command("--maps", *methods, "--masks", sod / "masks", "--dest", dest)
    assert done.code == 0
    for row, (name, published) in zip(results(dest), PUBLISHED_ON_SOD.items(), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class that will be replaced says so
            f, mae = py_sod_metrics.Fmeasure(), py_sod_metrics.MAE()
        for path in (sod / "maps" / name).iterdir():
            saliency = np.asarray(Image.open(path).convert("L"))
            mask = np.asarray(Image.open(sod / "masks" / f"{path.stem}.png").convert("L"))
            for each in (f, mae):
                each.step(saliency, mask)
        scores = row["scores"]
        assert (round(scores["adaptive_f"], 4), round(scores["mae"], 4)) == published
        fm = f.get_results()["fm"]
        expected = [fm["adp"], fm["curve"].max(), mae.get_results()["mae"]]
        assert [scores[key] for key in ("adaptive_f", "max_mean_f", "mae")] == pytest.approx(expected, abs=1e-6)
        assert f"{published[0]:.4f}" in done.out and f"{published[1]:.4f}" in done.out

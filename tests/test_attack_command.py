"""`robustness attack`: what it measures, writes and refuses, on a small network."""

import csv
import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_cases import write_discs, write_narrow_run
from inexact_device import inexact
from PIL import Image
from robustness_cases import small_command, small_network
from shallow_menet import SIDE

from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.attack import measurement
from menet_jax.robustness.attack.command import ATTACKED
from menet_jax.robustness.attack.measurement import AtStrength, Measurement, Scores, nested
from menet_jax.robustness.attack.objectives import LostF, Moved, WrongSide
from menet_jax.robustness.jacobian.image_function import ImageMap, as_tree
from menet_jax.robustness.jacobian.spectral import SpectralNorm, lanczos

pytestmark = pytest.mark.usefixtures("shallow")

CHEAP = ["--strengths", "0.001", "1", "8", "--steps", "8", "--draws", "2", "--qualities", "50", "10"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", size=SIDE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("data") / "discs", 2)


command = partial(small_command, "attack")


@pytest.mark.parametrize(("name", "norm"), [("probability", "l2"), ("metric", "linf")])
def test_attacks_are_worse_than_noise_and_as_bad_as_the_jacobian_says(
    name: str, norm: str, run: Path, dataset: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    done = command(run, dataset, *CHEAP, "--dest", dest, "--map", name, "--norm", norm)
    assert done.code == 0, done.err
    with (dest / "images.csv").open() as file:
        rows = [{name: float(text) for name, text in row.items() if name not in ("dataset", "run", "image")}
                for row in csv.DictReader(file)]  # fmt: skip
    assert len(rows) == 6
    kept = [json.loads(line)["value"] for line in (dest / "images.jsonl").read_text().splitlines()]
    searched = [(image, at) for image in kept for at in image["strengths"] if at["strength"] > 0.001]
    assert len(searched) == 4
    for image, at in searched:  # what the search itself has found, before `nested` adds the worst of all that is milder
        assert at["attack_moved"] > 1.3 * at["noise_moved"] and at["attack_flipped"] >= at["noise_flipped"]
        assert at["attack"][0] <= min(at["noise"][0], image["clean"][0])
    assert any(at["attack_flipped"] > 1.2 * at["noise_flipped"] for _, at in searched)
    for row in rows:
        assert row["attack_gain"] >= row["noise_gain"]
        assert row["attack_adaptive_f"] <= min(row["noise_adaptive_f"], row["clean_f"])
        if row["strength"] == 0.001:
            np.testing.assert_allclose(row["attack_adaptive_f"], row["clean_f"], atol=0.02)
            if (name, norm) == ("probability", "l2"):
                assert 0.97 * row["spectral"] < row["attack_gain"] < 1.03 * row["spectral"]
    flipped = sorted(row["attack_flipped"] for row in rows if row["strength"] == 8)
    np.testing.assert_allclose(flipped, sorted(_flipped(dataset, dest / ATTACKED, name)), atol=1e-3)
    assert flipped[-1] > 0
    assert all(0 <= row["noise_flipped"] <= row["attack_flipped"] for row in rows)
    results = json.loads((dest / "results.json").read_text())
    assert set(results["tables"]) == {"attack", "compression"} and results["settings"]["norm"] == norm
    for name in ("attack.csv", "compression.md", "attack_discs.png", "worst_small_discs.png"):
        assert (dest / name).stat().st_size > 0
    with Image.open(dest / "worst_small_discs.png") as picture:
        assert min(picture.size) > 75


def _flipped(dataset: Path, attacked: Path, name: str) -> list[float]:
    """Of each image the largest share of pixels that change class under the attacks that were kept."""
    of, found = small_network("narrow", name), list[float]()

    def sides(image: np.ndarray) -> np.ndarray:
        saliency = np.asarray(of.f(jnp.asarray(image)))
        return saliency >= (0.5 if name == "probability" else min(2 * saliency.mean(), 1))

    for kept in sorted(attacked.iterdir()):
        with Image.open(dataset / "images" / f"{kept.name.split('_')[0]}.png") as picture:
            clean = sides(of.seen(np.asarray(picture)))
        with np.load(kept) as arrays:
            found.append(max(float(np.mean(sides(image) != clean)) for image in arrays["images"]))
    return found


def test_goes_on_where_it_stopped(run: Path, dataset: Path, tmp_path: Path) -> None:
    first = command(run, dataset, *CHEAP, "--dest", tmp_path, "--limit", "1", "--map", "probability")
    assert set(json.loads((tmp_path / "results.json").read_text())["tables"]) == {"attack", "compression"}
    [kept] = (tmp_path / ATTACKED).iterdir()
    before = kept.stat().st_mtime_ns
    again = command(run, dataset, *CHEAP, "--dest", tmp_path, "--map", "probability", "--overwrite")
    assert len(list(kept.parent.iterdir())) == 2 and kept.stat().st_mtime_ns == before
    assert first.code == again.code == 0 and "reusing  1 of 2 results" in again.out


def test_what_is_found_depends_on_no_other_image(run: Path, tmp_path: Path) -> None:
    """Three images one by one, and in twos, of which the last one is filled up."""
    discs, cheap = write_discs(tmp_path / "three", 3), [*CHEAP, "--map", "probability"]
    found = []
    for batch_size in ("1", "2"):
        dest = tmp_path / batch_size
        done = command(run, discs, *cheap, "--dest", dest, "--batch-size", batch_size)
        assert done.code == 0, done.err
        with (dest / "images.csv").open() as file:
            found.append(list(csv.DictReader(file)))
    for alone, together in zip(*found, strict=True):
        for name in ("image", "attack_gain", "attack_flipped", "attack_adaptive_f", "file_mae"):
            if name == "image":
                assert alone[name] == together[name]
            else:
                assert float(together[name]) == pytest.approx(float(alone[name]), rel=1e-3, abs=1e-3)


def test_one_image_that_cannot_be_measured_leaves_the_others(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_fails(f: ImageMap, image: np.ndarray, key: jax.Array, **settings: Any) -> SpectralNorm:
        calls.append(image)
        if len(calls) == 1:
            raise ValueError("the Jacobian at this image is not finite")
        return lanczos(f, image, key, **settings)

    calls = list[np.ndarray]()
    monkeypatch.setattr(measurement, "lanczos", first_fails)
    done = command(run, dataset, *CHEAP, "--map", "probability", "--dest", tmp_path)
    with (tmp_path / "images.csv").open() as file:
        [left] = {row["image"] for row in csv.DictReader(file)}
    [failed] = {"0.png", "1.png"} - {left}
    assert done.code == 1 and f"small on {failed}: the Jacobian at this image is not finite" in done.err


def test_no_strength_is_milder_than_what_lies_within_it() -> None:
    """Numbers of a trained network and 0340.jpg of ECSSD, where the search raised F above that of the image itself."""
    clean, noise = Scores(0.6893, 0.2), Scores(0.6891, 0.2)
    first = AtStrength(0.3, 0.0, 0.1, 0.0, 0.02, 0.0, 0.03, clean, Scores(0.6946, 0.3), Scores(0.694, 0.3))
    second = AtStrength(2.0, 0.2, 0.1, 0.0, 0.01, 0.04, 0.02, noise, Scores(0.7038, 0.3), Scores(0.7039, 0.3))
    found = nested(Measurement("0340.jpg", 0.1, clean, (first, second), ()))
    assert [at.attack for at in found.strengths] == [clean, noise]
    assert [at.file for at in found.strengths] == [clean, clean]
    assert [at.attack_flipped for at in found.strengths] == [0.03, 0.04]
    assert [at.attack_moved for at in found.strengths] == [0.02, 0.02]
    assert [at.attack_gain for at in found.strengths] == [0.1, 0.2]  # noise was worse than what the search found
    lower = Scores(0.5, 0.4)
    third = replace(second, strength=4.0, attack=lower, file=lower)
    assert nested(replace(found, strengths=(third,))).strengths[0].attack == lower
    assert nested(found) == found
    as_low = replace(second, attack=Scores(0.5, 0.3), noise=Scores(0.5, 0.6))
    assert nested(replace(found, strengths=(as_low,))).strengths[0].attack == Scores(0.5, 0.6)  # the larger error


def test_kept_arrays_that_are_damaged_are_computed_anew(tmp_path: Path) -> None:
    expected = np.random.default_rng(0).integers(0, 9, (50, 50))
    for position in range(200, 1000, 100):  # within the compressed values
        kept_arrays(tmp_path, {"file_name": "a.png", "at": position}, lambda: {"images": expected})
    for number, path in enumerate(tmp_path.iterdir()):
        content = bytearray(path.read_bytes())
        content[200 + 100 * number] ^= 255
        path.write_bytes(content)
    for position in range(200, 1000, 100):
        found = kept_arrays(tmp_path, {"file_name": "a.png", "at": position}, lambda: {"images": expected})
        np.testing.assert_array_equal(found["images"], expected)


def test_attacks_of_another_network_are_no_stronger(run: Path, dataset: Path, tmp_path: Path) -> None:
    other = write_narrow_run(tmp_path / "other", size=SIDE)
    done = command(run, dataset, *CHEAP, "--dest", tmp_path / "dest", "--map", "probability", other=other)
    assert done.code == 0, done.err
    with (tmp_path / "dest" / "transfer.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["run"], row["found on"]) for row in rows} == {("small", "other"), ("other", "small")}
    with (tmp_path / "dest" / "images.csv").open() as file:
        of_images = [row for row in csv.DictReader(file) if row["strength"] == "8.0"]
    for row in rows:
        own = [float(each["attack_adaptive_f"]) for each in of_images if each["run"] == row["run"]]
        assert float(row["F own"]) == pytest.approx(np.mean(own), abs=1e-4)
        assert float(row["F own"]) <= float(row["F transferred"]) + 0.005
        assert float(row["stronger"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strengths", "1", "0.5"], "rising"),
        (["--strengths", "0"], "above 0"),
        (["--steps", "0"], "--steps 0"),
        (["--reading", "probability", "--steps", "0"], "--steps 0"),  # the name of --map before 0.2
        (["--qualities", "0"], "1 ... 100"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", str(2**32)], "less than 2**32"),
        (["--draws", str(2**31)], "less than 2**31"),
    ],
)
def test_impossible_flags(flags: list[str], message: str, run: Path, dataset: Path) -> None:
    done = command(run, dataset, *flags)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(("saliency", "f"), [([1, 1, 0, 0], 1.0), ([1, 0, 1, 0], 0.5), ([0, 0, 0, 0], 0.0)])
def test_soft_f_is_f_of_a_map_of_zeros_and_ones(saliency: list[int], f: float) -> None:
    found = jnp.asarray([saliency], jnp.float32)
    objective = LostF(lambda image: found + 0 * image[..., 0], jnp.asarray([[1.0, 1, 0, 0]]))
    assert float(objective(jnp.zeros((1, 4, 3)))) == pytest.approx(-f)


def test_distance_of_a_map() -> None:
    objective = Moved(lambda image: image[..., 0], jnp.zeros((1, 2)))
    assert float(objective(jnp.asarray([[[3.0, 1, 1], [4.0, 1, 1]]]))) == 25.0


def test_wrong_side_by_hand() -> None:
    """A salient pixel right by 3, one wrong by 0.5; background right by 2, and wrong by 5, which counts as 1."""
    objective = WrongSide(lambda image: image[..., 0], jnp.asarray([[1.0, 1, 0, 0]]))
    margins = jnp.asarray([[3.0, -0.5, -2.0, 5.0]])
    value, gradient = jax.value_and_grad(objective)(jnp.stack([margins] * 3, axis=-1))
    assert float(value) == pytest.approx(-(3 - 0.5 + 2 - 1) / 4)
    np.testing.assert_allclose(gradient[..., 0], [[-0.25, -0.25, 0.25, 0]])
    assert np.isnan(objective(jnp.full((1, 4, 3), jnp.nan)))
    for again in (1, -1):  # a GPU's compiler may compute a margin twice and round it differently
        found = inexact(jax.grad(objective), jnp.stack([margins] * 3, axis=-1), again=again)
        np.testing.assert_array_equal(found, gradient)


def test_objectives_of_the_same_fields_never_share_a_program() -> None:
    """JAX calls the structures of `Moved` and `LostF` equal, and tells them apart by their hashes at best."""
    f = jax.tree_util.Partial(jnp.sin)
    objectives = [kind(f, jnp.zeros((2, 2))) for kind in (Moved, LostF, WrongSide)]
    structures: list[Any] = [jax.tree_util.tree_structure(as_tree(each)) for each in objectives]
    assert all(one != other for one, other in combinations(structures, 2))

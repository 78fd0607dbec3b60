"""The network that comes with the package: what it is, and that its maps are the same everywhere."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import skimage.data

from menet_jax import load_predictor, quantise, score_image
from menet_jax.evaluation.predictor import Predictor
from menet_jax.training.run import load_run
from menet_jax.training.run_folder import RELEASED, SHIPPED

MAPS = Path(__file__).parent / "data" / "released_maps.npz"
"""Both maps of photographs, 8 bits, as `predict` wrote them on another machine, with other settings of the compiler."""


def test_it_says_what_it_is() -> None:
    trained = load_run(RELEASED, report=pytest.fail)
    assert trained.config.data.train == ("duts",) and trained.config.model.width == 8
    assert trained.score[0] == "metric_adaptive_f" and (trained.score[1] or 0) > 0.5
    assert not trained.config.run.is_absolute() and trained.config.data.cache is None
    card = (SHIPPED.parent / "README.md").read_text()
    images = trained.step * trained.config.batch_size
    assert SHIPPED.name in card and f"{trained.step:,} steps" in card and f"{images:,} images seen" in card


def test_its_card_names_a_commit_and_its_scores() -> None:
    card = (SHIPPED.parent / "README.md").read_text()
    assert re.search(r"commit [0-9a-f]{7,40}", card)
    rows = re.findall(r"^\| (\w+) \(test\).* \| metric \| (0\.\d{3}) \|", card, re.MULTILINE)
    assert {name for name, _ in rows} == {"ecssd", "sod", "duts"}


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_its_maps_are_the_same_on_every_machine(name: str) -> None:
    photograph = np.ascontiguousarray(getattr(skimage.data, name)()[::2, ::2])
    found = load_predictor().maps(photograph)
    with np.load(MAPS) as expected:
        for kind, saliency in found._asdict().items():
            apart = np.abs(quantise(saliency).astype(int) - expected[f"{name}_{kind}"])
            assert apart.max() <= 1


def test_rounding_to_half_precision_changes_no_score() -> None:
    """Scores of networks in float32 whose parameters float16 rounds to those of the file: it was made of such a one."""
    released, generator = load_run(RELEASED, report=pytest.fail), np.random.default_rng(0)

    def unrounded(parameter: np.ndarray) -> np.ndarray:
        spacing = np.spacing(np.abs(parameter).astype(np.float16)).astype(np.float32)
        return parameter + generator.uniform(-0.5, 0.5, parameter.shape).astype(np.float32) * spacing

    def scores(variables: Mapping[str, Any]) -> np.ndarray:
        predictor = Predictor(released.config, variables)
        found = [
            score_image(quantise(np.asarray(saliency)), photograph.mean(-1) > 128)
            for photograph in photographs
            for saliency in predictor.maps(photograph).named().values()
        ]
        return np.array([[each.adaptive_f, each.mae] for each in found])

    photographs = [getattr(skimage.data, name)()[::2, ::2] for name in ("astronaut", "coffee", "rocket")]
    before = {**released.variables, "params": jax.tree.map(unrounded, released.variables["params"])}
    one = jax.tree.leaves(before["params"])[0]
    assert np.any(one != one.astype(np.float16))
    np.testing.assert_allclose(scores(before), scores(released.variables), atol=1e-3)

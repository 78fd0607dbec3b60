"""Measures that need the pixels of a map."""

from typing import Any

import numpy as np
import pytest

from menet_jax.evaluation.report import MEASURES
from menet_jax.metrics.measures import measure


def test_every_measure_is_a_column() -> None:
    pytest.importorskip("py_sod_metrics")
    truth = np.eye(8, dtype=bool)
    assert list(measure(truth * np.uint8(200), truth)) == [score.name for score in MEASURES]


@pytest.mark.parametrize("mask", [np.s_[-1, 4:9], np.s_[2:6, -1], np.s_[-1, -1]])
def test_s_measure_of_an_object_in_the_last_row_or_column(mask: Any) -> None:
    """It is cut in four at its centre, of which two parts are then empty, or three."""
    py_sod_metrics = pytest.importorskip("py_sod_metrics")
    truth = np.zeros((10, 12), bool)
    truth[mask] = True
    saliency = np.random.default_rng(0).integers(0, 256, truth.shape).astype(np.uint8)
    saliency[0, :2] = 0, 255
    plain, stretched = py_sod_metrics.Smeasure(), saliency / 255
    rows, columns = (round(float(np.mean(where))) + 1 for where in np.nonzero(truth))
    parts = [
        (stretched[part], truth[part])
        for part in (np.s_[:rows, :columns], np.s_[:rows, columns:], np.s_[rows:, :columns], np.s_[rows:, columns:])
        if truth[part].size
    ]
    region = sum(plain.ssim(*part) * part[1].size / truth.size for part in parts)
    expected = max(0.0, (plain.object(stretched, truth) + region) / 2)
    assert measure(saliency, truth)["s_measure"] == pytest.approx(expected, abs=1e-12)

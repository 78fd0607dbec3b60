"""Pictures made of pixels."""

from pathlib import Path

import numpy as np
import pytest

from menet_jax.images import pictures

pytestmark = pytest.mark.filterwarnings("error")


def test_overlay_and_grid(tmp_path: Path) -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    tinted = pictures.overlay(black, np.array([[True, False], [False, False]]))
    assert tinted[0, 0].tolist() == [127, 0, 0]
    assert not tinted.reshape(4, 3)[1:].any()
    canvas = pictures.grid(np.stack([black, black, black]), columns=2)
    assert canvas.shape == (4 + pictures.GAP, 4 + pictures.GAP, 3)
    assert (canvas == 0).all(axis=-1).sum() == 12
    assert (canvas[-2:, -2:] == 255).all()  # the place of the fourth

"""`data show`: a picture of images and masks as training sees them."""

from pathlib import Path

import pytest
from command_cases import write_discs
from PIL import Image

from menet_jax.data import __main__ as data_commands
from menet_jax.images import pictures


def test_show_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_discs(tmp_path / "photos", 5)
    places = ["--cache", str(tmp_path / "cache")]
    assert not data_commands.main(
        ["show", str(folder), "--dest", str(tmp_path / "new" / "grid.png"), "--count", "5", *places]
    )
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        assert picture.size == (3 * 224 + 2 * pictures.GAP, 2 * 224 + pictures.GAP)
    assert "5 images" in capsys.readouterr().out


def test_show_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_discs(tmp_path / "photos", 5)
    for specs, dest, message in (
        ((str(tmp_path / "nowhere"),), "grid.png", "neither a dataset nor a folder"),
        ((), "grid.png", "name at least one"),
        ((str(folder),), "grid.xyz", "name a file that ends in .png"),
        ((str(folder), "--seed", "-1"), "grid.png", "the seed must be at least 0"),
    ):
        assert data_commands.main(["show", *specs, "--dest", str(tmp_path / dest), "--cache", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "error: " in error and message in error

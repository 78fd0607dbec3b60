"""Command lines: homes in paths."""

from pathlib import Path

import pytest

from menet_jax import load_predictor
from menet_jax.data.specs import check_data
from menet_jax.evaluation.options import Evaluate
from menet_jax.runtime.cli import homes, named


def test_homes_are_found_where_shells_leave_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert homes(["--dest=~/maps", "~/a", "--run=a=~/b"]) == [
        f"--dest={tmp_path}/maps",
        f"{tmp_path}/a",
        f"--run=a={tmp_path}/b",
    ]
    others = ["--no-such-flag", "~nobody-here/x", "--image", "a~", "--image=~nobody-here"]
    assert homes(others) == others
    assert named("--run", ["a=~/b"]) == [("a", tmp_path / "b")]


def test_the_home_of_nobody_is_refused_by_name() -> None:
    nobody = "~nobody-here/x"
    for refuse in (
        lambda: named("--run", [nobody]),
        lambda: named("--run", [f"a={nobody}"]),
        lambda: check_data([nobody]),
        lambda: load_predictor(nobody),
        Evaluate(maps=("a=.",), masks=Path(nobody)).check,
    ):
        with pytest.raises(ValueError, match=f"^{nobody}: there is no such home directory; .* ./{nobody}$"):
            refuse()

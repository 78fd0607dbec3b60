"""What a run records of itself."""

import json
import math
from pathlib import Path

from menet_jax.training.recorder import Recorder


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    """Which has no word for what is not finite."""
    with Recorder(tmp_path, 0) as recorder:
        recorder.scalars("train", 1, {"loss": 0.5, "gradient": math.inf})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    [line] = (tmp_path / "logs" / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "kind": "train", "loss": 0.5, "gradient": None}

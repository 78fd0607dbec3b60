"""How `menet_jax.evaluate` is run in tests, and what it found."""

import json
from pathlib import Path
from typing import Any

from command_cases import Outcome, outcome

from menet_jax.evaluate import main


def command(*arguments: str | Path) -> Outcome:
    return outcome(main, *arguments)


def results(dest: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((dest / "results.json").read_text())["results"]
    return found

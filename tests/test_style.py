"""Linter, formatter and type checker find nothing, nothing tells them to look away, and types are checked aside."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from beartype import beartype

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_clean(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_ignores() -> None:
    ignore = re.compile(r"#\s*(noqa|type:\s*ignore|ruff:\s*noqa|mypy:\s*ignore)")
    sources = [path for folder in ("menet_jax", "datasets", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 30
    found = [
        f"{path}:{n}"
        for path in sources
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if ignore.search(line)
    ]
    assert not found


def test_checks_of_types_leave_what_others_draw() -> None:
    """See `conftest.py`: which item of a list is checked is drawn from a generator of its own."""

    @beartype
    def takes(several: list[int]) -> int:
        return len(several)

    before = random.getstate()
    assert takes([1, 2, 3]) == 3
    assert random.getstate() == before

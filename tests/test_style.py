"""Linter, formatter and type checker find nothing, nothing tells them to look away, and types are checked aside."""

import ast
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from beartype import beartype

ROOT = Path(__file__).parents[1]

SOURCES = [path for folder in ("menet_jax", "datasets", "tests") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_clean(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_ignores() -> None:
    ignore = re.compile(r"#\s*(noqa|type:\s*ignore|ruff:\s*noqa|mypy:\s*ignore)")
    assert len(SOURCES) > 30
    found = [
        f"{path}:{n}"
        for path in SOURCES
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if ignore.search(line)
    ]
    assert not found


def test_files_and_functions_are_short() -> None:
    long_files = [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 400]
    functions = [
        (path, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 300
    # `lineno` is that of `def`: decorators do not count
    long = [f"{path}: {node.name}" for path, node in functions if (node.end_lineno or 0) - node.lineno >= 60]
    assert not long_files + long


def test_prose_is_within_the_line() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")], page


def test_checks_of_types_leave_what_others_draw() -> None:
    """See `conftest.py`: which item of a list is checked is drawn from a generator of its own."""

    @beartype
    def takes(several: list[int]) -> int:
        return len(several)

    before = random.getstate()
    assert takes([1, 2, 3]) == 3
    assert random.getstate() == before

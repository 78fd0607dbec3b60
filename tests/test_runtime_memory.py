"""Commands start anew with huge pages: once, on Linux, and nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from menet_jax.runtime import memory

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = "import sys; from menet_jax.runtime.memory import *; use_huge_pages(); print(huge_pages(), *sys.argv[1:])"


def run(arguments: list[str], **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | environment
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def command(tmp_path: Path) -> dict[str, str]:
    """The environment in which `python -m menet_jax.probe` is a command that says what it found."""
    package = Path(memory.__file__).parents[1]
    (tmp_path / "sitecustomize.py").write_text(
        f"import menet_jax; menet_jax.__path__.append({str(tmp_path / 'more')!r})"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "probe.py").write_text(SCRIPT)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(package.parent)])}


@pytest.mark.skipif(not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="the system has none")
def test_a_command_starts_anew_with_its_arguments(command: dict[str, str]) -> None:
    assert run(["-m", "menet_jax.probe", "--flag", "two words"], **command) == "True --flag two words\n"


def test_what_was_chosen_stays(command: dict[str, str]) -> None:
    assert run(["-m", "menet_jax.probe"], **command, GLIBC_TUNABLES="glibc.malloc.hugetlb=0") == "False\n"


def test_no_other_program_starts_anew() -> None:
    assert run(["-c", SCRIPT]) == "False\n"


def test_only_a_command_collects_seldom(command: dict[str, str], tmp_path: Path) -> None:
    script = "import gc; from menet_jax.runtime.memory import *; collect_seldom(); print(gc.get_threshold()[0])"
    (tmp_path / "more" / "probe.py").write_text(script)
    often = int(run(["-c", script]))
    assert int(run(["-m", "menet_jax.probe"], **command)) > 10 * often

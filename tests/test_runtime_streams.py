"""What a command says is taken, or dropped, and never stops it."""

import os
import subprocess
import sys

import pytest

SAY = "import sys; sys.argv = ['-m']; import menet_jax; [print('σ', file=f) for f in (sys.stdout, sys.stderr)]"


@pytest.mark.parametrize("end", ["", ">&-", "2>&-", "<&- >&- 2>&-", "2>&1 | true", "| true"])
def test_nobody_listens(end: str) -> None:
    script = f'set -o pipefail; (sleep 0.2; exec "$0" -c "$1") {end}'
    done = subprocess.run(["bash", "-c", script, sys.executable, SAY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout + done.stderr) <= set("σ\n")


def test_letters_that_an_encoding_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", SAY], capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u03c3\n", b"\\u03c3\n")


@pytest.mark.parametrize(("flags", "expected"), [([], "False True"), (["-u"], "True True")])
def test_lines_come_at_once_where_python_has_them_come_at_once(flags: list[str], expected: str) -> None:
    code = SAY.split("[")[0] + "['-m']; import menet_jax; print(sys.stdout.line_buffering, sys.stderr.line_buffering)"
    env = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run([sys.executable, *flags, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected}\n"

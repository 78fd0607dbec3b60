"""One Ctrl-C ends a command, whenever it comes: with one line, and with status 130."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from menet_jax.runtime import interrupts

PREFIX = """
import signal, sys, time
from menet_jax.runtime import interrupts
interrupts.GRACE = 0.2
def wait():
    print("ready", flush=True)
    time.sleep(30)
"""
INSIDE = PREFIX + "with interrupts.interruptible(lambda: 'stopped; all is well'):\n    "

CASES = {
    "while it imports": (PREFIX + "wait()", "stopped\n"),
    "where everything is swallowed": (PREFIX + "try:\n    wait()\nexcept BaseException:\n    pass", "stopped\n"),
    "at work": (INSIDE + "wait()", "stopped; all is well\n"),
    "while it imports at work": (
        PREFIX + "if __name__ != '__main__':\n    sys.modules['__main__'].wait_and_fail()\n"
        "def wait_and_fail():\n    try:\n        wait()\n    except BaseException:\n        raise ImportError\n"
        "with interrupts.interruptible(lambda: 'stopped; all is well'):\n    import menet_jax.probe",
        "stopped; all is well\n",
    ),
    "dropped at work": (
        INSIDE + "try:\n        wait()\n    except BaseException:\n        time.sleep(30)",
        "stopped; all is well\n",
    ),
    "while garbage is collected": (
        INSIDE
        + "interrupts.GRACE = 9\n    import gc\n    gc.callbacks.append(lambda *_: gc.callbacks.clear() or wait())\n"
        "    gc.collect()\n    time.sleep(30)",
        "stopped; all is well\n",
    ),
    "while a thread goes on": (
        INSIDE + "__import__('threading').Thread(target=time.sleep, args=[30]).start()\n    wait()",
        "stopped; all is well\n",
    ),
    "where the rest is finished": (
        INSIDE + "with interrupts.uninterrupted():\n        time.sleep(0.01)\n        print('ready', flush=True)\n"
        "        time.sleep(0.5)\n        print('whole', file=sys.stderr, flush=True)\n    time.sleep(30)",
        "whole\nstopped; all is well\n",
    ),
}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """That in which `python -m menet_jax.probe` is a command, and Ctrl-C is heard, wherever the tests run."""
    package = Path(interrupts.__file__).parents[1]
    (tmp_path / "menet_jax").mkdir()
    for name in ("__init__.py", "runtime"):
        (tmp_path / "menet_jax" / name).symlink_to(package / name)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield {**os.environ, "PYTHONPATH": str(tmp_path)}
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("case", CASES)
def test_one_ctrl_c_ends_a_command(case: str, environment: dict[str, str], tmp_path: Path) -> None:
    script, said = CASES[case]
    (tmp_path / "menet_jax" / "probe.py").write_text(script)
    command = [sys.executable, "-m", "menet_jax.probe"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (errors, process.returncode) == (said, 130)


def test_no_thread_outlives_what_it_watched() -> None:
    before = threading.enumerate()
    with interrupts.interruptible(lambda: "stopped"):
        assert len(threading.enumerate()) == len(before) + 1
    assert threading.enumerate() == before


def test_a_hook_that_is_to_outlive_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of what is still under way where a checkpoint cannot be written."""
    before, lasting = sys.unraisablehook, Mock()
    monkeypatch.setattr(sys, "unraisablehook", before)
    with interrupts.interruptible(lambda: "stopped"):
        assert sys.unraisablehook is not before
    assert sys.unraisablehook is before
    with interrupts.interruptible(lambda: "stopped"):
        sys.unraisablehook = lasting
    assert sys.unraisablehook is lasting

"""Command lines: homes and nothing in place of paths."""

from importlib import import_module
from pathlib import Path

import jax
import pytest
from command_cases import outcome

from menet_jax import load_predictor
from menet_jax.data.options import check_data
from menet_jax.evaluation.options import Evaluate
from menet_jax.runtime.cli import BAD_INPUT, FAILED, named, run_command, words


def test_homes_are_found_where_shells_leave_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words(["--dest=~/maps", "~/a", "--run=a=~/b"]) == [
        f"--dest={tmp_path}/maps",
        f"{tmp_path}/a",
        f"--run=a={tmp_path}/b",
    ]
    others = ["--no-such-flag", "~nobody-here/x", "--image", "a~", "--image=~nobody-here"]
    assert words(others) == others
    assert named("--run", ["a=~/b"]) == [("a", tmp_path / "b")]


@pytest.mark.parametrize("arguments", [["--dest", ""], ["--dest="]])
def test_nothing_is_not_the_current_folder(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^--dest '': is empty"):
        words(arguments)


@pytest.mark.parametrize("name", ["train", "predict", "data", "authors", "benchmark"])
def test_every_command_refuses_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All by the same function, but for `train`."""
    main = import_module(f"menet_jax.{name}" + ".__main__" * (name in ("data", "benchmark"))).main
    done = outcome(main, "--dest", "")
    assert done.code == 2 and done.err == "error: --dest '': is empty; give a value, or leave it out\n"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = outcome(main, "--dest", "/new")
    assert done.code == 2 and done.err.startswith("error: the current folder is gone") and done.err.count("\n") == 1


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


def test_a_device_without_memory_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work(text: str) -> int:
        raise jax.errors.JaxRuntimeError(text)

    text = "RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes.\nBufferAssignment …"
    assert run_command(lambda: text, work, lambda _: "--resume goes on") == FAILED
    said = capsys.readouterr().err
    assert (
        said.startswith("error: the device has no memory left (RESOURCE_EXHAUSTED: Out of memory") and "--batch" in said
    )
    assert said.endswith("; --resume goes on\n") and said.count("\n") == 1
    with pytest.raises(RuntimeError, match="INTERNAL"):
        run_command(lambda: "INTERNAL: a fault", work)


def test_which_errors_of_the_work_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    def work(error: Exception) -> int:
        raise error

    def status(error: Exception) -> int:
        ended = run_command(lambda: error, work, failures=(ChildProcessError,), refusals=(ValueError, OSError))
        assert capsys.readouterr().err == f"error: {error}\n"
        return ended

    assert status(ChildProcessError("died")) == FAILED
    assert status(FileNotFoundError("nowhere")) == status(ValueError("wrong")) == BAD_INPUT
    assert run_command(lambda: OSError("full"), work) == FAILED
    with pytest.raises(ValueError, match="a fault"):
        run_command(lambda: ValueError("a fault"), work)

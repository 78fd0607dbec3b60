"""What `menet_jax` offers by name: every one has an example, and the examples are right."""

import configparser
import doctest
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import menet_jax
from menet_jax.__main__ import COMMANDS, main
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet
from menet_jax.training.config import PAPER, ModelConfig
from menet_jax.training.run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained network."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    write_run(replace(PAPER, run=folder, model=ModelConfig(1), origin="an example"), initial_variables(MENet(1), 0))
    return folder


@pytest.mark.parametrize("name", menet_jax.__all__)
def test_the_example_is_right(name: str, run: Path) -> None:
    named = getattr(menet_jax, name)
    [own] = doctest.DocTestFinder(recurse=False).find(named, name, globs={"run": run})
    assert own.examples, f"{name} has no example"
    said = list[str]()
    failed = doctest.DocTestRunner().run(own, out=said.append).failed
    assert not failed, "".join(said)


def test_nothing_else_is_offered() -> None:
    assert set(menet_jax.__all__) <= set(dir(menet_jax))
    with pytest.raises(AttributeError, match="nothing"):
        _ = menet_jax.nothing  # of a module that imports by name


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    folder = Path(menet_jax.__file__).parent
    commands = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    commands |= {path.parent.name for path in folder.glob("*/__main__.py")}
    assert commands == set(COMMANDS) and all(f"python -m menet_jax.{name} " in listed for name in commands)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"menet_jax {menet_jax.__version__}\n"
    assert main(["tarin"]) == 2
    assert "tarin: no such command" in capsys.readouterr().err


def test_every_file_is_installed() -> None:
    """A wheel holds what `package_data` names, below a package of that name or, by `*`, within any."""
    root, setup = Path(__file__).parents[1], configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    installed = set[Path]()
    for package, patterns in setup["options.package_data"].items():
        places = (root / "menet_jax").rglob("__init__.py") if package == "*" else [root / package / "__init__.py"]
        installed |= {path for place in places for each in patterns.split(", ") for path in place.parent.glob(each)}
    listed = subprocess.run(["git", "ls-files", "menet_jax"], cwd=root, capture_output=True, text=True, check=True)
    files = {root / name for name in listed.stdout.split()} - {root / "menet_jax" / "datasets"}  # a link
    assert {path for path in files if path.suffix != ".py"} <= installed


def test_imports_go_down_only() -> None:
    """As `setup.cfg` says; import-linter tells where they do not."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Examples in docstrings are right, and all that `menet_jax` offers by name has one; what it offers, and installs."""

import configparser
import doctest
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

import menet_jax
from menet_jax.__main__ import COMMANDS, main
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet
from menet_jax.training.config import PAPER, ModelConfig
from menet_jax.training.run import write_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained network."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    write_run(replace(PAPER, run=folder, model=ModelConfig(1), origin="an example"), initial_variables(MENet(1), 0))
    return folder


def examples_of(path: Path) -> list[doctest.DocTest]:
    """The examples in a module's docstrings, of what it defines."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module, finder = import_module(name), doctest.DocTestFinder(recurse=False)
    own = [each for each, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == name]
    found = [test for each in own for test in finder.find(vars(module)[each], each, globs={**vars(module)})]
    return [test for test in found if test.examples]


FILES = {path: path.read_text().count(">>> ") for path in (ROOT / "menet_jax").rglob("*.py")}
EXAMPLES = {test.name: test for path, count in FILES.items() if count for test in examples_of(path)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_is_right(name: str, run: Path) -> None:
    said, example = list[str](), EXAMPLES[name]
    example.globs["run"] = run
    failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert not failed, "".join(said)


def test_every_name_has_an_example_and_all_are_found() -> None:
    assert set(menet_jax.__all__) <= set(EXAMPLES)
    assert sum(len(test.examples) for test in EXAMPLES.values()) == sum(FILES.values())


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
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = set[Path]()
    for package, patterns in setup["options.package_data"].items():
        places = (ROOT / "menet_jax").rglob("__init__.py") if package == "*" else [ROOT / package / "__init__.py"]
        installed |= {path for place in places for each in patterns.split(", ") for path in place.parent.glob(each)}
    listed = subprocess.run(["git", "ls-files", "menet_jax"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {ROOT / name for name in listed.stdout.split()} - {ROOT / "menet_jax" / "datasets"}  # a link
    assert {path for path in files if path.suffix != ".py"} <= installed


def test_imports_go_down_only() -> None:
    """As `setup.cfg` says; import-linter tells where they do not."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr

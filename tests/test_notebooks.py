"""The notebooks run from top to bottom, and are committed as they ran."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from command_cases import write_narrow_run
from nbclient import NotebookClient

from menet_jax import train

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NOTEBOOK = NOTEBOOKS / "jacobian_analysis.ipynb"
OWN = NOTEBOOKS / "your_own_network.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow")


def parameters(notebook: Any) -> Any:
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    return cell


def said(notebook: Any) -> str:
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )


def test_jacobian_analysis_runs(notebook: Any, run: Path) -> None:
    parameters(notebook).source = f'RUN, IMAGES = {str(run)!r}, ""\nCOUNT, SAMPLES, CELLS = 1, 16, 2'
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(run)}}).execute()
    text = said(notebook)
    both = {kind: float(value) for kind, value in re.findall(r"(float\d\d):  mean \|g\|  both channels (\S+)", text)}
    salient = [float(value) for value in re.findall(r"salient channel (\S+)", text)]
    assert both["float64"] < 1e-14 < both["float32"] < 1e-6
    assert salient[0] > 1e-4 and salient[0] == pytest.approx(salient[1], rel=1e-3)
    off = [float(value) for value in re.findall(r"off by (\S+), \d+ iterations", text)]
    assert len(off) == 2 and max(off) < 1e-4  # estimates against the singular values


def test_jacobian_analysis_trains_as_training_takes_it(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [cell] = [cell for cell in notebook.cells if "train.main(" in cell.source]
    given: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        given.append(arguments)
        return 0

    monkeypatch.setattr(train, "main", main)
    imports = next(cell.source for cell in notebook.cells if "import contextlib" in cell.source)
    lines = [line for line in imports.splitlines() if re.match(r"import (contextlib|io|tempfile)|from pathlib", line)]
    names: dict[str, Any] = {"train": train, "network": lambda _: SimpleNamespace(width=4)}
    names["load_run"] = lambda folder, report: SimpleNamespace(config=None, variables={}, score=("f", 0.5), step=60)
    exec("\n".join([*lines, parameters(notebook).source, cell.source]), names)
    [arguments] = given
    config = train.parse(arguments)
    assert (config.steps, config.model.width, config.optimizer.drops) == (names["STEPS"], names["WIDTH"], (45,))


def test_your_own_network_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(OWN, as_version=4)
    parameters(notebook).source = "STEPS, SIDE, SAMPLES = 2, 32, 30"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = said(notebook)
    assert "5,224 parameters" in text
    [off] = re.findall(r"Lanczos off by (\S+)", text)
    assert float(off) < 1e-4  # the estimate against the singular value


@pytest.mark.parametrize(("path", "pictures"), [(NOTEBOOK, 6), (OWN, 3)])
def test_committed_as_it_ran(path: Path, pictures: int) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 1.5 * 2**20
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/png" in output.get("data", ()) for output in outputs) >= pictures
    text = path.read_text()
    assert not re.search(r"/(tmp|work|home|root|Users)/", text)

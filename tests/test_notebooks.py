"""The notebooks run from top to bottom, and are committed as they ran."""

import importlib.util
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from command_cases import write_discs, write_narrow_run
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from shallow_menet import PROGRAM, SIDE

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
JACOBIAN = NOTEBOOKS / "jacobian_analysis.ipynb"
ROBUSTNESS = NOTEBOOKS / "robustness.ipynb"
OWN = NOTEBOOKS / "your_own_network.ipynb"
COLAB = NOTEBOOKS / "train_on_colab.ipynb"
ADDRESS = NOTEBOOKS / "address.py"

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", multi_scale=False, size=SIDE)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One process for several notebooks, each of which begins with no names: importing JAX takes seconds."""
    manager, client = start_new_kernel(cwd=str(tmp_path_factory.mktemp("notebooks")))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def execute(notebook: Any, kernel: KernelManager) -> str:
    """Run a notebook; what it prints."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = NotebookClient(notebook, km=kernel, timeout=300)
    client.execute()
    assert client.kc is not None
    client.kc.stop_channels()
    return said(notebook)


def parameters(notebook: Any) -> Any:
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    return cell


def said(notebook: Any) -> str:
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )


def test_jacobian_analysis_runs(run: Path, kernel: KernelManager) -> None:
    notebook = nbformat.read(JACOBIAN, as_version=4)
    parameters(notebook).source = f"""{PROGRAM}RUN, IMAGES = {str(run)!r}, ""
COUNT, SAMPLES, TABLE_SIDE, CELLS = 1, 16, {2 * SIDE}, 2"""
    text = execute(notebook, kernel)
    both = {kind: float(value) for kind, value in re.findall(r"(float\d\d):  mean \|g\|  both channels (\S+)", text)}
    salient = [float(value) for value in re.findall(r"salient channel (\S+)", text)]
    assert both["float64"] < 1e-14 < both["float32"] < 1e-6
    assert salient[0] > 1e-4 and salient[0] == pytest.approx(salient[1], rel=1e-3)
    products = [float(value) for value in re.findall(r"off by (\S+) from", text)]
    assert len(products) == 4 and max(products) < 1e-5  # by hand against the matrix, at full size against those
    off = [float(value) for value in re.findall(r"off by (\S+), \d+ iterations", text)]
    assert len(off) == 2 and max(off) < 1e-4  # estimates against the singular values


def test_robustness_runs(run: Path, kernel: KernelManager) -> None:
    notebook = nbformat.read(ROBUSTNESS, as_version=4)
    parameters(notebook).source = f"""{PROGRAM}RUN, PHOTOGRAPHS, ONE, SCENES = {str(run)!r}, ("rocket",), "rocket", 1
STRENGTHS, STEPS, ITERATIONS, SAMPLES = (0.1, 1.0), 2, 6, 32"""
    text = execute(notebook, kernel)
    rows = re.findall(r"^ +(0\.1|1\.0) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)% +(\S+)%$", text, re.MULTILINE)
    assert [row[0] for row in rows] == ["0.1", "1.0"]
    for noise, attack, slope, everywhere in (map(float, row[1:5]) for row in rows):
        assert noise < attack < everywhere and slope < everywhere
    shares = [float(share) for share in re.findall(r"^ +\d+\.\d +0\.\d{4} +(\S+)%$", text, re.MULTILINE)]
    assert len(shares) == 7 and shares[0] > 0 and shares == sorted(shares, reverse=True)
    assert re.search(r": 0 of [\d,]+ certified pixels fall", text)


def test_your_own_network_runs(kernel: KernelManager) -> None:
    notebook = nbformat.read(OWN, as_version=4)
    parameters(notebook).source = "STEPS, SIDE, SAMPLES, ASCENT = 2, 32, 30, 2"
    text = execute(notebook, kernel)
    assert "5,224 parameters" in text
    [off] = re.findall(r"Lanczos off by (\S+)", text)
    assert float(off) < 1e-4  # the estimate against the singular value


def test_train_on_colab_is_stopped_and_goes_on(tmp_path: Path) -> None:
    notebook, data = nbformat.read(COLAB, as_version=4), write_discs(tmp_path / "drive" / "discs", 24)
    runs = tmp_path / "drive" / "runs"
    parameters(notebook).source = f"""KEEP, DATA, PRESET, COMPILE_QUICKLY = {str(runs)!r}, {str(data)!r}, "unet", True
STEPS, BATCH, SAVE_EVERY, STOP_AT, FLAGS = 4, 5, 4, 1, ["--model.width", "1", "--optimizer.drops", "2"]"""
    flags = f"{os.environ['QUICK_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "TFDS_DATA_DIR": str(tmp_path / "prepared")}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    text, run = said(notebook), runs / "unet_colab"
    assert "batch 8: 1 for each of 8" in text and "8 × cpu" in text
    [stopped] = re.findall(r"stopped by SIGINT at step (\d); a checkpoint is saved", text)
    assert f"resumed at step {stopped} of 4" in text and "finished 4 steps" in text
    steps = [
        int(step) for step in re.findall(r'"step": (\d), "kind": "train"', (run / "logs" / "log.jsonl").read_text())
    ]
    assert steps == [1, 2, 3, 4]
    assert re.search(r"^probability .*adaptive_f 0\.\d{3}", text, re.MULTILINE)
    assert (run / "network.safetensors").exists()


def test_in_colab_a_run_is_kept_on_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, mounted = nbformat.read(COLAB, as_version=4), list[str]()
    [cell] = [cell for cell in notebook.cells if "drive.mount" in cell.source]
    monkeypatch.setitem(sys.modules, "google", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=SimpleNamespace(mount=mounted.append)))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    names: dict[str, Any] = {}
    exec(f"{parameters(notebook).source}\n{cell.source}", names)
    assert mounted == ["/content/drive"] and names["IN_COLAB"] and names["new"]
    assert names["run"] == Path("/content/drive/MyDrive/menet_jax/quickstart_colab")
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].startswith("/content/drive/MyDrive/menet_jax/")


def test_badges_and_install_cells_have_the_address_of_setup_cfg() -> None:
    address = runpy.run_path(str(ADDRESS))
    installs = set()
    for path in NOTEBOOKS.glob("*.ipynb"):
        written = address["rewritten"](path, address["repository"]())
        assert path.read_text() == written, "the address in setup.cfg is another one: python notebooks/address.py"
        installs.add(install_cell(nbformat.read(path, as_version=4)))
    assert len(installs) == 1
    for url in ("https://github.com/who/what.git", "https://github.com/who/what"):
        known = nbformat.reads(address["rewritten"](COLAB, url), as_version=4)
        badge = f"({address['COLAB']}/github/who/what/blob/main/notebooks/train_on_colab.ipynb)"
        assert badge in known.cells[0].source and address["UPLOAD"] not in known.cells[0].source
        assert f'REPOSITORY = "{url}"' in install_cell(known)
    elsewhere = address["addressed"](known.cells[0].source, COLAB.name, "https://example.org/git/what")
    assert f"({address['COLAB']}/)\n{address['UPLOAD']}" in elsewhere


def install_cell(notebook: Any) -> str:
    [cell] = [cell for cell in notebook.cells if cell.source.startswith("# Where menet_jax is not installed yet")]
    return str(cell.source)


@pytest.mark.parametrize("url", ["", "https://example.org/what"])
def test_the_install_cell_installs_or_says_what_it_lacks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    addressed, calls = runpy.run_path(str(ADDRESS))["addressed"], list[list[str]]()
    cell = addressed(install_cell(nbformat.read(COLAB, as_version=4)), COLAB.name, url)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda words, check: calls.append(words))
    there = [SimpleNamespace(name="libtpu"), SimpleNamespace(name="numpy")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: there)
    if url:
        exec(cell, {})
        assert calls[0][-2:] == [f"menet_jax[notebooks] @ git+{url}", "jax[tpu]"]
    else:
        with pytest.raises(SystemExit, match=r"set REPOSITORY above .* url in setup\.cfg"):
            exec(cell, {})
        assert not calls


@pytest.mark.parametrize(("path", "pictures"), [(JACOBIAN, 8), (ROBUSTNESS, 5), (OWN, 3), (COLAB, 3)])
def test_committed_as_it_ran(path: Path, pictures: int) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 1.5 * 2**20
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/png" in output.get("data", ()) for output in outputs) >= pictures
    text = path.read_text()
    assert not re.search(r"/(tmp|work|home|root|Users)/|Warning:", text)

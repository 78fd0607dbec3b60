"""The commands that measure speed: what they count, compare and refuse, in small sizes."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmark_work import compute, fail, keep
from command_cases import write_discs
from flax.traverse_util import flatten_dict
from PIL import Image

from menet_jax.benchmark import __main__ as entry_point
from menet_jax.benchmark import measuring, pytorch, suite
from menet_jax.benchmark.measuring import Seconds, in_turns, median, timed
from menet_jax.benchmark.options import Activity
from menet_jax.benchmark.peaks import peak_share
from menet_jax.benchmark.processes import ProcessDiedError, in_process
from menet_jax.benchmark.programs import configuration
from menet_jax.benchmark.steps import Case, arithmetic, measure
from menet_jax.model.losses import cross_entropy, metric_loss
from menet_jax.model.menet import MENet
from menet_jax.reporting.tables import Record
from menet_jax.runtime.parallel import workers

pytestmark = pytest.mark.filterwarnings("error")


def run(arguments: str) -> None:
    assert entry_point.main(arguments.split()) == 0


def refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of bad input."""
    assert entry_point.main(arguments.split()) == 2
    return capsys.readouterr().err


def multiply_adds(width: int) -> int:
    """Of all convolutions of the network on one image of 224×224: every weight at every place that it is moved to."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    total = 0
    for path, leaf in flatten_dict(jax.eval_shape(MENet(width).init, jax.random.key(0), image)["params"]).items():
        if path[-1] != "kernel":
            continue
        level = int(found[0]) if (found := re.search(r"\d", path[0])) else 0
        if path[0].endswith("_up") and path[1] != "main2":  # transposed: moved over what it enlarges
            level += 1
        side = {"bottleneck_down": 1, "bottleneck_up": 1, "scale_bottleneck": 7}.get(path[0], 224 >> level)
        total += prod(leaf.shape) * side**2
    return total


def test_times_of_calls() -> None:
    waited = timed(lambda: time.sleep(0.02), calls=3)
    assert 0.02 <= waited.wall < 0.2 and waited.cpu < 0.01
    calls = list[int]()
    timed(lambda: calls.append(0), calls=4)
    assert len(calls) == 4
    assert measuring.calls_a_turn(Seconds(0.2, 9.0)) == 3  # 3 · 0.2 s are half a second at least
    assert measuring.calls_a_turn(Seconds(20.0, 9.0)) == 1


def test_turns_alternate_and_medians_are_by_themselves() -> None:
    order = list[str]()

    def turn(name: str) -> Callable[[], Seconds]:
        def take() -> Seconds:
            order.append(name)
            return Seconds(len(order), 10.0 - len(order))

        return take

    taken = in_turns([turn("a"), turn("b")], 3)
    assert order == ["a", "b"] * 3
    assert taken[1] == [Seconds(2, 8), Seconds(4, 6), Seconds(6, 4)]
    assert median([Seconds(1, 9), Seconds(5, 1), Seconds(2, 3)]) == Seconds(2, 3)
    with pytest.raises(ValueError, match="--rounds 0: must be at least 1"):
        in_turns([turn("a")], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_cpu_seconds_of_child_processes() -> None:
    with workers(1, processes=True) as pool:
        pool.submit(compute, 0.01).result()
        alive = timed(lambda: pool.submit(compute, 0.5).result())
        before = measuring.cpu_seconds()
    assert 0.4 < alive.cpu < 0.8
    assert measuring.cpu_seconds() >= before - 0.05  # counted on when it has ended


def test_scores_from_files_and_from_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            values = rng.integers(0, 256, (20, 30), np.uint8)
            Image.fromarray(values if folder == "maps" else values // 128 * np.uint8(255)).save(
                tmp_path / folder / f"{index}.png"
            )
    run(f"scores --maps {tmp_path}/maps --masks {tmp_path}/masks --processes 1 --rounds 1")
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == f"3 maps of {tmp_path / 'maps'}, 1 rounds"
    for line, source in zip(lines, ("files", "arrays"), strict=True):
        assert re.match(rf"  from {source} +\d+ images/s in 1 process, PySODMetrics +\d+: [\d.]+ times", line)
        differences = [float(found) for found in re.findall(r" by (\d\S*?)(?:,|$)", line)]
        assert len(differences) == 2 and max(differences) < 1e-9  # of adaptive F and of MAE


def test_the_pipeline_and_bare_loops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    discs = write_discs(tmp_path / "discs", 6)
    run(f"pipeline --data {discs} --size 16 --batch-size 2 --batches 2 --rounds 2 --cache {tmp_path / 'cache'}")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert sum("images/s" in line for line in lines) == 3
    assert lines[-1].startswith("whole pipeline / bare loop: ")


def test_a_process_has_memory_of_its_own(tmp_path: Path) -> None:
    here, calls = np.ones(600 << 17), tmp_path / "calls"  # 600 MiB, that a process which this one starts has not
    with in_process(keep, 400, calls) as worker:
        made = calls.stat().st_size
        assert worker.turn().wall > 0
        assert calls.stat().st_size == made + 1 + worker.calls  # the first one is not timed
        peak = worker.peak()
    assert here[-1] == 1
    assert 400 < peak.whole / 2**20 < 600 + 300
    if sys.platform == "linux":
        assert peak.working is not None and 200 < peak.working / 2**20 < peak.whole / 2**20 - 100


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("making", ValueError, "cannot be made"),
        ("calling", ValueError, "cannot be called"),
        ("dying", ProcessDiedError, "its process died with exit status 3"),
    ],
)
def test_a_process_that_fails(how: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), in_process(fail, how):
        pass


@pytest.mark.parametrize(
    ("speed", "kind", "precision", "share"),
    [
        (156e12, "NVIDIA A100-SXM4-80GB", "bfloat16", 0.5),
        (78e12, "NVIDIA A100 80GB PCIe", "float32", 0.5),
        (494.7e12, "NVIDIA H100 80GB HBM3", "bfloat16", 0.5),
        (189e12, "NVIDIA H100 PCIe", "float32", 0.5),
        (494.7e12, "NVIDIA H200", "bfloat16", 0.5),
        (208.75e12, "NVIDIA H200 NVL", "float32", 0.5),
        (98.5e12, "TPU v5 lite", "bfloat16", 0.5),
        (229.5e12, "TPU v5p", "bfloat16", 0.5),
        (1.0, "NVIDIA H100", "bfloat16", None),
        (1.0, "NVIDIA A1000", "bfloat16", None),
        (1.0, "NVIDIA L40", "bfloat16", None),
        (1.0, "TPU v55", "float32", None),
    ],
)
def test_share_of_the_peak(speed: float, kind: str, precision: str, share: float | None) -> None:
    assert peak_share(speed, kind, precision) == share


def measured(case: Case, devices: int) -> tuple[Record, Sequence[str]]:
    return measure(case, 1, jax.local_devices()[:devices])


def of_losses(images: int) -> float:
    """Operations of both losses and their gradients alone."""

    def losses(features: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(metric_loss)(features, labels)) + jnp.sum(jax.vmap(cross_entropy)(logits, labels))

    shapes = [jax.ShapeDtypeStruct((images, 224, 224, channels), jnp.float32) for channels in (16, 2)]
    labels = jax.ShapeDtypeStruct((images, 224, 224), bool)
    traced = jax.jit(jax.value_and_grad(losses, argnums=(0, 1))).trace(*shapes, labels)
    return float(traced.lower(lowering_platforms=("cuda",)).cost_analysis()["flops"])


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process where shapes are not checked, as they cannot be before compiling."""
    with workers(1, processes=True) as pool:
        yield pool


@pytest.mark.parametrize(("activity", "passes"), [("inference", 1), ("training", 3)])
def test_arithmetic_of_a_step(activity: Activity, passes: int, elsewhere: Executor) -> None:
    """Two operations a multiply-add, once forward and twice backward; and what is not a convolution."""
    found = elsewhere.submit(arithmetic, activity, configuration(1), 2).result()
    convolutions = 2 * multiply_adds(1) * passes * 2
    others = of_losses(2) if activity == "training" else 0.0
    assert found is not None and convolutions * 0.95 < found - others < convolutions * 1.3


def test_arithmetic_is_not_known_without_the_backend_that_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with JAX_PLATFORMS=cuda."""

    def no_such_backend(*, backend: str) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_such_backend)
    assert arithmetic("inference", configuration(1), 2) is None


def test_speed_of_a_step(elsewhere: Executor) -> None:
    record, notes = elsewhere.submit(measured, Case("inference", 1, "float32", 4), 2).result()
    assert record.labels["devices"] == "2" and not any("peak" in note for note in notes)
    flops = elsewhere.submit(arithmetic, "inference", configuration(1), 2).result()  # of two images on each device
    assert flops is not None and record.scores["GFLOP"] == flops / 1e9
    speed = record.scores["GFLOP"] / record.scores["wall s"]
    assert record.scores["GFLOP/s"] == pytest.approx(speed)
    assert record.scores["images/s"] == pytest.approx(4 / record.scores["wall s"])
    assert "peak share" not in record.scores and "device MiB" not in record.scores
    assert record.scores["program MiB"] > 1


@pytest.mark.slow
def test_all_into_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XLA_FLAGS", os.environ["QUICK_FLAGS"])  # of the processes, on one device each
    dest = tmp_path / "results"
    sizes = "--widths 1 --precisions float32 --batch-size 2 --inference-batches 1 --rounds 1 --device cpu"
    run(f"all --dest {dest} {sizes}")
    out = capsys.readouterr().out
    written = json.loads((dest / "benchmark.json").read_text())
    assert set(written["tables"]) == {"steps", "upsampling_width1", "jacobian_width1"}
    assert "CPU cores" in written["machine"] and written["settings"]["failures"] == []
    rows = {stem: [{**row, **row["scores"]} for row in table["rows"]] for stem, table in written["tables"].items()}
    steps = rows["steps"]
    assert [(row["activity"], row["batch_size"]) for row in steps] == [("training", "2"), ("inference", "1")]
    as_it_is, dilation, phases = rows["upsampling_width1"]
    assert as_it_is["loss"] == pytest.approx(dilation["loss"], rel=1e-4) == pytest.approx(phases["loss"], rel=1e-4)
    assert as_it_is["of wall"] == 1
    parts = {row["what"]: row for row in rows["jacobian_width1"]}
    assert parts["forward pass"]["× s"] == 1 and parts["J v"]["s"] > 0
    cost = parts["linearise: f(x) and J"]["s"] + 64 * parts["transposed J u"]["s"]
    assert parts["Frobenius norm, 64 samples"]["s"] == pytest.approx(cost)
    markdown = (dest / "benchmark.md").read_text()
    for heading in ("Training steps and inference", "by kind of transposed convolutions", "Jacobian analysis"):
        assert heading in markdown and heading in out


def test_results_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmark.json").touch()
    assert "--overwrite" in refused(f"all --dest {tmp_path} --device cpu", capsys)


def test_results_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(suite, "run", full)
    assert entry_point.main(["all", "--dest", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
    (tmp_path / "file").touch()
    assert "file: is a file, and a folder is needed" in refused(f"all --dest {tmp_path}/file/dest", capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("training --batch-size 3 --device cpu", "--batch-size 3 does not divide by 4 devices; try 4"),
        ("training --batch-size 0 --device cpu", "--batch-size 0: must be at least 1"),
        ("training --width 0 --batch-size 4 --device cpu", "--model.width 0: must be at least 1"),
        ("inference --rounds 0 --device cpu", "--rounds 0: must be at least 1"),
        ("all --dest {0} --rounds 0", "--rounds 0: must be at least 1"),
        ("all --dest {0} --widths 4 0", "--model.width 0: must be at least 1"),
        ("all --dest {0} --inference-batches 0", "--inference-batches 0: must be at least 1"),
        ("all --dest {0} --inference-batches", "--inference-batches 0: must be at least 1"),
    ],
)
def test_what_cannot_be_measured(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert f"error: {message}" in refused(arguments.format(tmp_path / "dest"), capsys)
    assert not (tmp_path / "dest").exists()


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pytorch.importlib.util, "find_spec", lambda name: None)
    assert 'pip install "menet_jax[torch]"' in refused("pytorch", capsys)


def test_beside_pytorch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    assert "--batch-size 1: must be at least 2" in refused("pytorch --batch-size 1", capsys)
    if not torch.cuda.is_available():
        assert "--device gpu: PyTorch finds none here" in refused("pytorch --width 1 --device gpu", capsys)
    run("pytorch --width 2 --batch-size 2 --inference-batches 1 --rounds 1")
    out = capsys.readouterr().out
    agreement = dict(re.findall(r"^  (\S.*?) +(\d+e[+-]\d+) +\d+e", out, re.MULTILINE))
    assert len(agreement) == 13
    assert all(float(apart) < 1e-6 for apart in agreement.values())
    assert "training, batch 2" in out and "inference, batch 1" in out
    assert len(re.findall(r"^  (?:menet_jax|PyTorch, channels (?:first|last))  ", out, re.MULTILINE)) == 6
    assert len(re.findall(r"^  PyTorch, .* / menet_jax: wall ", out, re.MULTILINE)) == 2

"""The training step on TPUs that are not there: what is read of the compiler's account, and the largest batch."""

import os
from collections.abc import Callable

import jax
import pytest

from menet_jax.benchmark import __main__ as entry_point
from menet_jax.benchmark import tpu
from menet_jax.benchmark.measuring import Seconds
from menet_jax.benchmark.options import Tpu
from menet_jax.benchmark.tpu import GIBIBYTE, Program, described, expected_cycles, largest, told
from menet_jax.runtime.parallel import workers

OPTIONS = Tpu(width=1)  # 64 images in bfloat16


def taking(each: float, rest: float = 0, memory: float = 16) -> Callable[[int], int | None]:
    """Images → bytes of a step which takes so many for each, and others; None beyond what there is."""

    def whole(images: int) -> int | None:
        size = images * each + rest
        return int(size) if size <= memory else None

    return whole


@pytest.mark.parametrize(
    ("whole", "images", "found", "how"),
    [
        (taking(1, 2), 4, 14, "14 a device, by compiling 4, 8, 14"),
        (taking(1, 2), 1, 14, "14 a device, by compiling 1, 2, 14"),
        (taking(5, 2), 1, 2, "2 a device, by compiling 1, 2"),
        (taking(9), 1, 1, "1 a device fit, 2 do not"),
        (taking(0, 7), 4, 128, "128 a device, by compiling 4, 8, 16, 32, 64, 128"),  # as where all are padded
        (lambda n: min(n, 4) + n // 4, 4, 48, "48 a device, by compiling 4, 8, 48"),  # a few take more each than many
        (lambda n: 8 + n / 8 if n > 8 else n, 2, 64, "64 a device, by compiling 2, 4, 16, 28, 64"),
        (lambda n: n if n < 13 else None, 4, 12, "12 a device, by compiling 4, 8, 12; 16, 14 did not fit"),
        (lambda n: n if n < 9 else None, 4, 8, "8 a device, by compiling 4, 8; 16, 14, 12, 10 did not fit"),
    ],
)
def test_largest_batch(whole: Callable[[int], int | None], images: int, found: int, how: str) -> None:
    tried = list[int]()

    def noted(n: int) -> int | None:
        tried.append(n)
        return whole(n)

    assert largest(noted, images, 16.0) == (found, how)
    assert len(tried) == len(set(tried)) <= 6  # each takes minutes


def test_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu, "arithmetic", lambda activity, config, images: 1e9 * images)

    def step(images: int) -> Program | None:
        whole = images * GIBIBYTE // 2
        return Program(Seconds(9.0, 8.0), 2**22, 3 * GIBIBYTE, whole, 15 * 10**6, 2, 0.005) if whole < 14e9 else None

    record, notes = told(OPTIONS, 8, "TPU v5 lite", step)
    assert notes == [
        "estimate s: without 2 instructions of which the compiler expects nothing",
        "largest batch: 23 a device, by compiling 8, 16, 23; 31, 27 did not fit",
    ]
    assert record.labels == {
        "topology": "v5e:2x4",
        "devices": "8",
        "width": "1",
        "precision": "bfloat16",
        "batch_size": "64",
    }
    expected = {
        "compile s": 9.0,
        "compile CPU s": 8.0,
        "temporary GiB": 3.0,
        "program GiB": 4.0,
        "of memory": 4 / 15.75,
    }
    expected |= {"state GiB": (2**22 - 8 * 224**2 * 4) / GIBIBYTE}  # arguments without images and labels
    expected |= {
        "GFLOP": 8.0,
        "estimate s": 0.01,
        "least s": 0.005,
        "images/s": 6400.0,
        "peak share": 8e9 / 0.01 / 197e12,
    }
    assert record.scores == pytest.approx(expected | {"largest batch": 23 * 8})


def test_what_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu, "arithmetic", lambda activity, config, images: 1e9)
    program = Program(Seconds(9.0, 8.0), 2**22, 1, 2, 10**6, 0, -92.9)
    record, notes = told(OPTIONS, 8, "TPU v4", lambda images: program)
    assert not {"least s", "estimate s", "of memory", "largest batch"} & set(record.scores)
    assert "says -92.9 of all" in notes[0] and notes[1] == "memory and clock are not known here of TPU v4"
    with pytest.raises(ValueError, match="--batch-size 64: the step takes more memory than a TPU v2 has"):
        told(OPTIONS, 8, "TPU v2", lambda images: None)


def test_cycles_of_all_instructions() -> None:
    lines = [f'fusion(%a), backend_config={{"window_config":{{"estimated_cycles":"{n}"}}}}' for n in (1825, 175, 2**60)]
    assert expected_cycles("\n".join(["add(%a, %b)", *lines])) == (2000, 1)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = Program(Seconds(9.0, 8.0), 2**28, 3 * GIBIBYTE, 4 * GIBIBYTE, 15 * 10**6, 0, 0.005)
    cached = jax.config.values["jax_enable_compilation_cache"]
    monkeypatch.setattr(tpu, "described", lambda topology: jax.devices("cpu"))
    monkeypatch.setattr(tpu, "compiled", lambda config, devices, images: program)
    monkeypatch.setattr(tpu, "arithmetic", lambda activity, config, images: 1e9)
    monkeypatch.setattr(tpu, "version", lambda package: "0.0.42")
    try:
        arguments = ["tpu", "--width", "1", "--batch-size", str(8 * jax.device_count())]
        assert entry_point.main(arguments) == 0
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    out, err = capsys.readouterr()
    assert "libtpu 0.0.42" in out and "memory and clock are not known here of cpu" in out and "4.00" in out
    assert err == "8 images a device: 4.00 GiB, 9 s\n"


def refusal(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert entry_point.main(["tpu", *arguments.split()]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_without_libtpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tpu, "find_spec", lambda name: None)
    assert 'pip install "menet_jax[tpu]"' in refusal("", capsys)


@pytest.mark.parametrize("topology", ["v5e", "v5e:0x0", "v5e:3x3", "v9:2x2"])
def test_of_topologies_that_there_are_not(
    topology: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("libtpu", reason="TPUs are compiled for where libtpu is installed")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    assert f"--topology {topology}: libtpu knows none of this name; known are v2:2x2" in refusal(
        f"--topology {topology}", capsys
    )


def compile_for_eight() -> tuple[set[tuple[str, int]], tuple[int, int], float, str]:
    """Kinds and hosts of devices; cycles and least seconds of a program for them; and why one does not fit."""
    jax.config.update("jax_enable_compilation_cache", False)  # what is kept could not be loaded for them
    devices = described("v5e:2x4")
    mapped = jax.pmap(lambda x: jax.lax.pmean(x @ x, "i"), axis_name="i", devices=devices)
    program = mapped.lower(jax.ShapeDtypeStruct((8, 256, 256), "float32")).compile()
    try:
        mapped.lower(jax.ShapeDtypeStruct((8, 2**18, 2**18), "float32")).compile()
    except jax.errors.JaxRuntimeError as error:
        message = str(error)
    kinds = {(each.device_kind, each.process_index) for each in devices}
    return kinds, expected_cycles(program.as_text()), program.cost_analysis()["optimal_seconds"], message


def test_a_program_for_devices_that_are_not_there() -> None:
    pytest.importorskip("libtpu", reason="TPUs are compiled for where libtpu is installed")
    with workers(1, processes=True) as pool:
        kinds, cycles, least, message = pool.submit(compile_for_eight).result()
    assert kinds == {("TPU v5 lite", 0)} and cycles[0] > 0 == cycles[1] and least > 0
    assert "RESOURCE_EXHAUSTED" in message and "15.75G" in message

"""The training command: the run directory, several processes, and interruptions of every kind that leave no trace."""

import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils
from PIL import Image
from shallow_menet import PROGRAM, SIDE, shallow_menet

from menet_jax.data import overlaps
from menet_jax.data.pipeline import training_batches
from menet_jax.data.sources import open_split
from menet_jax.data.specs import Places
from menet_jax.datasets.synthetic.scenes import scene
from menet_jax.images.near_duplicates import thumbnail
from menet_jax.model.inference import Maps, Network
from menet_jax.runtime.hosts import Hosts
from menet_jax.train import main, parse
from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import read_record
from menet_jax.training.checkpoints import CheckpointStore
from menet_jax.training.loop import DivergedError, NonFiniteLossError, check_replicas, fit, restore
from menet_jax.training.network import network
from menet_jax.training.presets import PRESETS
from menet_jax.training.run_folder import saved_steps
from menet_jax.training.step import Batch, Mapped, Metrics, TrainState, create_state, map_over_devices, total_loss
from menet_jax.training.validation import validate

SMALL = ["--model.width", "1", "--batch-size", "2", "--save-every", "2", "--log-every", "1"]
STEPS = 8
ONE_DEVICE = {
    **os.environ,
    "XLA_FLAGS": os.environ["QUICK_FLAGS"],
    "PYTHONWARNINGS": "error::DeprecationWarning:menet_jax",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes in a folder with list files: 8 to train on, 3 to validate on, 1 to test on."""
    root = tmp_path_factory.mktemp("scenes")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for index in range(12):
        image, mask = scene(7, index)
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    for split, names in {"train": range(8), "validation": range(8, 11), "test": [11]}.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


class Way(NamedTuple):
    """How training is started: what Python is told to run, and flags."""

    program: list[str]
    flags: list[str]


MENET = Way(["-m", "menet_jax.train"], [])
SHALLOW = Way(
    ["-c", f"{PROGRAM}import sys\nfrom menet_jax.train import main\nsys.exit(main(sys.argv[1:]))"],
    ["--data.size", str(SIDE)],
)


@pytest.fixture(params=["shallow", pytest.param("menet", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Of the shallow network, in this process too; or of MENet as it is."""
    if request.param == "menet":
        yield MENET
    else:
        with shallow_menet():
            yield SHALLOW


def arguments(folder: Path, run: Path, *others: str) -> list[str]:
    data = ["--data.train", str(folder), "--data.cache", str(folder.parent / "cache"), "--data.distort", "0.5"]
    return ["--run", str(run), *SMALL, "--steps", str(STEPS), *data, *others]


def start(folder: Path, run: Path, *others: str, way: Way = MENET) -> subprocess.Popen[str]:
    words = [sys.executable, *way.program, *arguments(folder, run, *way.flags, *others)]
    return subprocess.Popen(words, env=ONE_DEVICE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    return output


def logged(run: Path) -> list[dict[str, float]]:
    log = run / "logs" / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def interrupt(process: subprocess.Popen[str], run: Path, step: int, number: signal.Signals) -> str:
    """Send the signal once the step is logged."""
    deadline = time.monotonic() + 400
    while not any(record["step"] >= step for record in logged(run)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(number)
    return process.communicate(timeout=400)[0]


def flip_a_byte(checkpoint: Path) -> None:
    largest = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def check_run_directory(run: Path, folder: Path) -> None:
    """It holds what it should, after a training on this folder."""
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "checkpoints",
        "logs",
        "pictures.npz",
        "samples",
    }
    seen = overlaps.load(run)
    assert seen is not None and (len(seen.trained), len(seen.validated)) == (8, 3)
    np.testing.assert_array_equal(seen.trained[7], thumbnail(scene(7, 7)[0]))
    assert [path.name for path in sorted((run / "samples").iterdir())] == [
        f"step_{step:06d}.png" for step in range(2, STEPS + 1, 2)
    ]
    assert any(path.name.startswith("events.out.tfevents") for path in (run / "logs").iterdir())
    assert configuration.read(run / "config.json").data.train == (str(folder),)


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_interruptions_leave_no_trace(
    kills: int,
    way: Way,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """kill -9 at random steps, SIGTERM, a damaged checkpoint: the end is bit-identical all the same."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    output = finish(start(folder, straight, way=way))
    assert "1 × cpu (cpu" in output and "width 1" in output and "8, validation 3, test 1" in output
    assert "distortions  50% of the training images: AWGN σ 5–50 or JPEG quality 5–50" in output
    for kind in configuration.read(straight / "config.json").model.maps:
        assert re.search(
            rf"step {STEPS}: .*\b{kind} map F 0\.\d{{3}} MAE 0\.\d{{3}}.*step_{STEPS:06d}\.png$", output, re.M
        )

    steps = sorted(random.sample(range(1, STEPS), kills))
    resume: list[str] = []
    for step in steps:
        interrupt(start(folder, broken, *resume, way=way), broken, step, signal.SIGKILL)
        resume = ["--resume"]
    process = start(folder, broken, *resume, way=way)
    output = interrupt(process, broken, steps[-1] + 1, signal.SIGTERM)
    if process.returncode != 0:  # it may have reached its end first
        assert process.returncode == 128 + signal.SIGTERM
        assert "stopped by SIGTERM" in output and "go on with --resume" in output
    damaged = saved_steps(broken / "checkpoints")[-1]
    flip_a_byte(broken / "checkpoints" / str(damaged))
    output = finish(start(folder, broken, "--resume", way=way))
    assert f"checkpoint of step {damaged}" in output and "is damaged" in output

    records = [read_record(run / "checkpoints" / str(STEPS)) for run in (straight, broken)]
    assert records[0]["arrays"] == records[1]["arrays"], f"killed at {steps}"
    assert records[0]["scores"] == records[1]["scores"]
    trained = [
        [{k: v for k, v in r.items() if k != "images_per_second"} for r in logged(run)] for run in (straight, broken)
    ]
    assert trained[0] == trained[1]

    check_run_directory(straight, folder)

    monkeypatch.setattr(jax, "device_count", lambda: 1)  # as in those processes
    assert main(arguments(folder, broken, *way.flags, "--resume", "--steps", "4")) == 1
    assert f"is at step {STEPS} already" in capsys.readouterr().err

    for place, picture in zip(("images", "masks"), scene(8, 0), strict=True):
        Image.fromarray(picture).save(folder / place / "0.png")
    assert main(arguments(folder, broken, *way.flags, "--resume", "--steps", "10")) == 1
    assert "resume with the same data" in capsys.readouterr().err
    assert configuration.read(broken / "config.json").steps == STEPS


def test_two_processes_train_as_one(way: Way, folder: Path, tmp_path: Path) -> None:
    """The same losses as in one process on the same batches, the same scores of one network, and one set of records.

    When one is killed, the other one ends and says so, and a single process can go on.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = parse(arguments(folder, tmp_path / "two", *way.flags))
    training, validation = (
        [open_split(spec, split, config.data.places(skip_bad=False)) for spec in config.data.train]
        for split in ("train", "validation")
    )
    both = [
        f"--distributed.coordinator 127.0.0.1:{port} --distributed.processes 2 --distributed.process-id {index} "
        "--save-every 1 --steps 1000".split()
        for index in range(2)
    ]
    processes = [start(folder, config.run, *others, way=way) for others in both]

    batches = training_batches(
        training,
        size=config.data.size,
        batch_size=2,
        seed=0,
        distorted=0.5,
        distortions=config.data.distortions,
        identity=[training[0].identity],
    )
    batch, state = next(batches), create_state(config)
    loss = jax.jit(partial(total_loss, network(config), config.loss))
    one, (_, terms) = loss(state.params, state.batch_stats, Batch(batch["image"], batch["mask"]))

    interrupt(processes[0], config.run, 3, signal.SIGKILL)
    output = processes[1].communicate(timeout=60)[0]
    assert processes[1].returncode == 1 and "Traceback" not in output and "Check failure" not in output
    assert f"error: process 0 ({socket.gethostname()}) is gone: it was killed, or its machine or" in output
    two, *others = logged(config.run)
    for name, value in {"loss": one, **terms._asdict()}.items():
        assert two[name] == pytest.approx(float(value), rel=1e-4)

    with CheckpointStore(config.run / "checkpoints", config.best_score) as store:
        state = restore(store, state, batches, pytest.fail)
    batches.close()
    assert 1 <= state.step <= 2 and state.step == batches.get_state()["batches"]
    [two_scores] = [each for each in others if each["step"] == state.step and "probability_mae" in each]
    mapped = map_over_devices(config, jax.local_devices()[:1])
    variables = mapped.replicate(state.variables)
    single = Network(partial(mapped.evaluate, variables), config.data.size, 1, config.model.maps)
    one_scores, _ = validate(single, validation, threads=2)
    assert one_scores == pytest.approx({name: two_scores[name] for name in one_scores}, abs=2e-3)


def scripted(happens: Callable[[int, Metrics], Metrics], folder: Path, run: Path) -> signal.Signals | None:
    """`fit` for 8 steps with a stand-in for the training step, which counts and says what happens in a step."""
    config = dataclasses.replace(PRESETS["quickstart"].config, run=run, steps=8, save_every=2)
    weights = {"kernel": np.zeros((2,), np.float32)}
    state = TrainState(np.zeros((), np.int32), weights, {}, optax.EmptyState(), np.zeros((2,), np.uint32))

    def train(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state = jax.tree.map(jnp.asarray, state)
        metrics = happens(int(state.step) + 1, Metrics(*(jnp.ones(()) for _ in Metrics._fields)))
        return state.replace(step=state.step + 1), metrics

    def evaluate(variables: Any, images: np.ndarray) -> Maps:
        flat = np.full(images.shape[:3], 0.5, np.float32)
        return Maps(flat, flat)

    mapped = Mapped(train, evaluate, lambda tree: tree)
    sources = [open_split(str(folder), split, Places(folder.parent / "cache")) for split in ("train", "validation")]
    batches = training_batches(sources[:1], batch_size=5, seed=0)
    try:
        with CheckpointStore(run / "checkpoints", config.best_score) as store:
            return fit(config, mapped, state, batches, sources[1:], store, None, lambda message: None)
    finally:
        batches.close()


@pytest.mark.parametrize("field", ["loss", "gradient_norm", "parameter_norm"])
def test_a_step_that_is_not_finite_stops_the_run(field: str, folder: Path, tmp_path: Path) -> None:
    """It is named, and the checkpoint before it is the last."""

    def happens(step: int, metrics: Metrics) -> Metrics:
        return metrics._replace(**{field: jnp.full((), jnp.inf)}) if step == 5 else metrics

    with pytest.raises(NonFiniteLossError, match=r"^step 5 is not finite \(.*--optimizer.learning-rate"):
        scripted(happens, folder, tmp_path)
    assert saved_steps(tmp_path / "checkpoints") == [2, 4]


@pytest.mark.parametrize(("at", "saved"), [([1], []), ([3], [2, 3]), ([4, 4], [2])])
def test_ctrl_c_ends_training(at: list[int], saved: list[int], folder: Path, tmp_path: Path) -> None:
    """At once, where nothing is lost; after that the step is finished and saved, unless it comes again."""

    def happens(step: int, metrics: Metrics) -> Metrics:
        for _ in range(at.count(step)):
            signal.raise_signal(signal.SIGINT)
        return metrics

    if len(saved) == 2:
        assert scripted(happens, folder, tmp_path) == signal.SIGINT
    else:
        with pytest.raises(KeyboardInterrupt):
            scripted(happens, folder, tmp_path)
    assert saved_steps(tmp_path / "checkpoints") == saved


def test_processes_that_do_not_hold_the_same_network_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    digests: list[np.uint32] = []

    def gathered(digest: np.uint32) -> np.ndarray:
        digests.append(digest)
        return np.array([digests[0], digest])

    def check(weight: float) -> None:
        kernel = np.array([weight], np.float32)
        check_replicas(3, TrainState(np.zeros((), np.int32), {"kernel": kernel}, {}, {}, np.zeros(2)))

    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
    check(1.0)
    check(1.0)
    with pytest.raises(DivergedError, match="after step 3 the network of process 0 is not that of process 1: "):
        check(1.0 + 2**-23)


def test_they_are_compared_before_every_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(step: int, state: TrainState) -> None:
        if step == 4:
            raise DivergedError

    monkeypatch.setattr("menet_jax.training.loop.check_replicas", check)
    with pytest.raises(DivergedError):
        scripted(lambda _, metrics: metrics, folder, tmp_path)
    assert saved_steps(tmp_path / "checkpoints") == [2]


def test_flags_libraries_and_data_are_compared_at_the_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Alone(Hosts):
        def compare(self, facts: Mapping[str, object]) -> None:
            raise ValueError(str(facts))

    found = dict[str, object]()

    def meet(address: str, count: int, index: int, facts: Mapping[str, object]) -> Hosts:
        found.update(facts)
        return Alone()

    monkeypatch.setattr("menet_jax.training.command.meet", meet)
    monkeypatch.setattr("jax.distributed.initialize", lambda *_: None)
    hosts = ["--distributed.coordinator", "a:1", "--distributed.processes", "2", "--batch-size", "4", "--seed", "3"]
    monkeypatch.chdir(folder.parent)
    assert main([*arguments(Path(folder.name), tmp_path / "run"), *hosts]) == 2
    said = capsys.readouterr().err
    assert (found["--seed"], found["jax"]) == (3, jax.__version__)
    assert "'data to train on': ['train: 8 images" in said and "'data to validate on': ['validation: 3 images" in said
    kept = configuration.read(tmp_path / "run" / "config.json").data  # to be resumed from any other folder
    assert (kept.train, kept.cache) == ((str(folder),), folder.parent / "cache")


def test_only_what_is_of_a_host_may_differ_between_hosts() -> None:
    def flags(*more: str) -> dict[str, Any]:
        hosts = ["--distributed.coordinator", "a:1", "--distributed.processes", "2", "--distributed.process-id"]
        return configuration.of_all_hosts(parse([*hosts, *more]))

    assert flags("0") == flags("1", "--data.threads", "7", "--data.cache", "elsewhere")
    assert (
        flags("0") | {"--optimizer.learning-rate": 0.2} == flags("1", "--optimizer.learning-rate", "0.2") != flags("0")
    )

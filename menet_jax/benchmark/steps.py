"""Speed, arithmetic and memory of a training step and of inference, on the devices that there are."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from menet_jax import devices
from menet_jax.benchmark.convolutions import convolutions, slow_convolutions
from menet_jax.benchmark.measuring import Seconds, calls_a_turn, check_counts, in_turns, machine, median, timed
from menet_jax.benchmark.peaks import peak_share
from menet_jax.benchmark.programs import SIZE, Precision, configuration, random_batch
from menet_jax.benchmark.results import CPU, MEBIBYTE, WALL, Table
from menet_jax.config import Config
from menet_jax.tables import Record, Score
from menet_jax.training import DEVICES, Batch, check_batch, create_state, mapped_eval_step, mapped_train_step

Activity = Literal["training", "inference"]
Device = Literal["cpu", "gpu", "tpu"]

Program = tuple[Any, Callable[[int], None]]
"""A compiled program, and a function that calls it several times and waits for the end."""

SCORES = (
    WALL,
    CPU,
    Score("images/s", "images a second, of all devices together", None, ".4g"),
    Score("GFLOP", "operations of a step on one device, 10⁹, by XLA's account of the compiled program", None, ".4g"),
    Score("GFLOP/s", "operations a second on one device, 10⁹", None, ".4g"),
    Score("peak share", "of what the device's maker says it can compute at most", None, ".3f"),
    Score(
        "program MiB", "memory of the program on one device, by the compiler's account: in, out, between", None, ".0f"
    ),
    Score("device MiB", "largest memory in use on the first device so far, by its own account", None, ".0f"),
)


@dataclass(frozen=True)
class Case:
    """What is measured: a training step, or inference, of one network."""

    activity: Activity
    width: int
    precision: Precision
    batch_size: int


def report(case: Case, rounds: int, device: Device | None) -> None:
    """Measure it on all devices of this process, and print what was found."""
    used = devices.start(device)
    print(machine(), table([measure(case, rounds, used)]).text(), sep="\n")


def table(rows: Sequence[tuple[Record, Sequence[str]]]) -> Table:
    """Of what `measure` found."""
    notes = list(dict.fromkeys(note for _, notes in rows for note in notes))
    title = f"Training steps and inference, images of {SIZE}×{SIZE}"
    records = [record for record, _ in rows]
    known = [score for score in SCORES if any(score.name in record.scores for record in records)]
    return Table("steps", title, records, known, notes)


def measure(case: Case, rounds: int, used: Sequence[jax.Device]) -> tuple[Record, Sequence[str]]:
    """One row, and what is to be known of it.

    Args:
        case: what to measure.
        rounds: how often it is timed.
        used: devices to compute on.

    Raises:
        ValueError: the batch does not divide by the devices, or the case is not one that the network takes.
    """
    check_counts(batch_size=case.batch_size, rounds=rounds)
    check_batch(case.batch_size, len(used))
    make = _training if case.activity == "training" else _inference
    program, run = make(configuration(case.width, case.precision), used, random_batch(case.batch_size))
    run(1)
    calls = calls_a_turn(timed(lambda: run(1)))

    def turn() -> Seconds:
        whole = timed(lambda: run(calls))
        return Seconds(whole.wall / calls, whole.cpu / calls)

    [taken] = in_turns([turn], rounds)
    labels = {name: str(value) for name, value in asdict(case).items()} | {"devices": str(len(used))}
    scores, notes = _scores(program, median(taken), case, used)
    return Record(case.activity, labels, scores), notes


def _scores(
    program: Any, taken: Seconds, case: Case, used: Sequence[jax.Device]
) -> tuple[dict[str, float], Sequence[str]]:
    first, notes = used[0], list[str]()
    scores = {WALL.name: taken.wall, CPU.name: taken.cpu, "images/s": case.batch_size / taken.wall}
    flops = (program.cost_analysis() or {}).get("flops", -1)
    if flops > 0:  # XLA has an account of it
        scores |= {"GFLOP": flops / 1e9, "GFLOP/s": flops / taken.wall / 1e9}
    if first.platform == "cpu":
        notes += _slow(program.as_text(), case)
    elif flops > 0:
        share = peak_share(flops / taken.wall, first.device_kind, case.precision)
        scores |= {} if share is None else {"peak share": share}
        notes += [f"peak unknown of {first.device_kind}"] if share is None else []
    account = program.memory_analysis()
    if account is not None:
        given = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
        scores["program MiB"] = (given + account.temp_size_in_bytes) / MEBIBYTE
    statistics = first.memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        scores["device MiB"] = statistics["peak_bytes_in_use"] / MEBIBYTE
    return scores, notes


def _slow(program: str, case: Case) -> list[str]:
    slow = slow_convolutions(program)
    which = f"{case.activity} at width {case.width} in {case.precision}"
    count = f"{len(slow)} of {convolutions(program)} convolutions are computed by plain loops"
    return [f"{which}: {count}: {', '.join(each.name for each in slow)}"] if slow else []


def _training(config: Config, used: Sequence[jax.Device], batch: Batch) -> Program:
    n = len(used)
    state: Any = jax.tree.map(lambda leaf: _replicated(leaf, n), create_state(config))
    shares = Batch(*(_shared(np.asarray(each), n) for each in batch))
    program = mapped_train_step(config, used).lower(state, shares).compile()

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, metrics = program(state, shares)
        jax.block_until_ready((state, metrics))

    return program, run


def _inference(config: Config, used: Sequence[jax.Device], batch: Batch) -> Program:
    n = len(used)
    state = create_state(config)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    sharding = NamedSharding(Mesh(np.array(used), (DEVICES,)), PartitionSpec(DEVICES))
    there = jax.device_put(jax.tree.map(lambda leaf: _replicated(leaf, n), variables), sharding)
    images = _shared(np.asarray(batch.images), n)
    program = mapped_eval_step(config, used).lower(there, images).compile()

    def run(calls: int) -> None:
        for _ in range(calls):
            for saliency in program(there, images):
                np.asarray(saliency)

    return program, run


def _replicated(leaf: jax.Array | np.ndarray, n: int) -> np.ndarray:
    return np.broadcast_to(leaf, (n, *np.shape(leaf)))


def _shared(x: np.ndarray, n: int) -> np.ndarray:
    return x.reshape(n, -1, *x.shape[1:])

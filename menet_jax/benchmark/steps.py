"""Speed, arithmetic and memory of a training step and of inference, on the devices of this process."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from menet_jax.benchmark.convolutions import convolutions, slow_convolutions
from menet_jax.benchmark.measuring import Seconds, calls_a_turn, in_turns, machine, median, timed
from menet_jax.benchmark.options import Activity, Precision, Training
from menet_jax.benchmark.peaks import peak_share
from menet_jax.benchmark.programs import SIZE, configuration, random_batch
from menet_jax.benchmark.results import CPU, MEBIBYTE, WALL
from menet_jax.model.inference import eval_step, mapped_eval_step
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.runtime import devices
from menet_jax.runtime.cli import check_counts
from menet_jax.training.config import Config
from menet_jax.training.network import background_region, network
from menet_jax.training.optimizer import make_optimizer
from menet_jax.training.step import Batch, check_batch, create_state, mapped_train_step, train_step

SCORES = (
    WALL,
    CPU,
    Score("images/s", "images a second, of all devices together", None, ".4g"),
    Score("GFLOP", "operations of a step on one device, 10⁹, by XLA's account of it, before fusion", None, ".4g"),
    Score("GFLOP/s", "operations a second on one device, 10⁹", None, ".4g"),
    Score("peak share", "of what the device's maker says it can compute at most", None, ".3f"),
    Score(
        "program MiB", "memory of the program on one device, by the compiler's account: in, out, between", None, ".0f"
    ),
    Score("device MiB", "largest memory in use on the first device so far, by its own account", None, ".0f"),
)


@dataclass(frozen=True)
class Case:
    """A training step, or inference, of one network."""

    activity: Activity
    width: int
    precision: Precision
    batch_size: int


def run(options: Training) -> None:
    """Measure on all devices of this process, and print what was found."""
    devices.start(options.device)
    case = Case(options.activity, options.width, options.precision, options.batch_size)
    found = table([measure(case, options.rounds)])
    print(machine(), found.text(), *found.notes, sep="\n")


def table(rows: Sequence[tuple[Record, Sequence[str]]]) -> Table:
    """The table of results of `measure`."""
    notes = list(dict.fromkeys(note for _, notes in rows for note in notes))
    title = f"Training steps and inference, images of {SIZE}×{SIZE}"
    records = [record for record, _ in rows]
    known = [score for score in SCORES if any(score.name in record.scores for record in records)]
    return Table("steps", title, records, known, notes)


def measure(case: Case, rounds: int, used: Sequence[jax.Device] = ()) -> tuple[Record, Sequence[str]]:
    """One row, and what is to be known of it; by default on all devices of this process.

    Raises:
        ValueError: the batch does not divide by the devices, or the case is not one that the network takes.
    """
    used = used or jax.local_devices()
    check_counts(batch_size=case.batch_size, rounds=rounds)
    check_batch(case.batch_size, len(used))
    config, batch = configuration(case.width, case.precision), random_batch(case.batch_size)
    program, repeat = (_training if case.activity == "training" else _inference)(config, used, batch)
    repeat(1)
    calls = calls_a_turn(timed(lambda: repeat(1)))

    def turn() -> Seconds:
        whole = timed(lambda: repeat(calls))
        return Seconds(whole.wall / calls, whole.cpu / calls)

    [taken] = in_turns([turn], rounds)
    labels = {name: str(value) for name, value in asdict(case).items()} | {"devices": str(len(used))}
    once, first, notes = median(taken), used[0], list[str]()
    scores = {WALL.name: once.wall, CPU.name: once.cpu, "images/s": case.batch_size / once.wall}
    flops = arithmetic(case.activity, config, case.batch_size // len(used))
    if flops is not None:
        scores |= {"GFLOP": flops / 1e9, "GFLOP/s": flops / once.wall / 1e9}
    if first.platform == "cpu":
        notes += _slow(program.as_text(), case)
    elif flops is None:
        notes.append("operations unknown: JAX gives no account of them here")
    elif case.activity == "inference" and case.precision == "float32":
        notes.append(
            "peak share of float32 maps unknown: makers state it of rounded products, and maps' are not rounded"
        )
    elif (share := peak_share(flops / once.wall, first.device_kind, case.precision)) is not None:
        scores["peak share"] = share
    else:
        notes.append(f"peak unknown of {first.device_kind}")
    return Record(case.activity, labels, scores | _memory(program, first)), notes


def arithmetic(activity: Activity, config: Config, images: int) -> float | None:
    """Operations of a step of so many images on one device, by XLA's account of it as it is lowered for a GPU.

    That is before fusion. The compiled program tells of none that a GPU's libraries do
    (github.com/jax-ml/jax/issues/22249), and of more than is wanted on a CPU, where some convolutions multiply by
    zeros. Whatever computes here, only the CPU's backend gives an account of a program that is not compiled.

    Returns:
        how many; None where JAX has no CPU backend (JAX_PLATFORMS) or gives no account.
    """
    try:
        accountant = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    net, state, batch = network(config), create_state(config), random_batch(images)
    with jax.default_device(accountant):
        if activity == "training":
            step = partial(train_step, net, make_optimizer(config.optimizer), config.loss)
            traced = jax.jit(step).trace(state, batch)
        else:
            to_maps = partial(eval_step, net, region=background_region(config.loss))
            traced = jax.jit(to_maps).trace(state.variables, batch.images)
        account = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    return None if account is None else float(account["flops"])


def _memory(program: Any, device: jax.Device) -> dict[str, float]:
    account, statistics = program.memory_analysis(), device.memory_stats() or {}
    found = {}
    if account is not None:
        given = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
        found["program MiB"] = (given + account.temp_size_in_bytes) / MEBIBYTE
    if "peak_bytes_in_use" in statistics:
        found["device MiB"] = statistics["peak_bytes_in_use"] / MEBIBYTE
    return found


def _slow(program: str, case: Case) -> list[str]:
    slow = slow_convolutions(program)
    which = f"{case.activity} at width {case.width} in {case.precision}"
    count = f"{len(slow)} of {convolutions(program)} convolutions are computed by plain loops"
    return [f"{which}: {count}: {', '.join(slow)}"] if slow else []


def _training(config: Config, used: Sequence[jax.Device], batch: Batch) -> tuple[Any, Callable[[int], None]]:
    """The compiled step, and a function that takes several, and waits for the last."""
    state = devices.put_everywhere(create_state(config), used)
    shares = Batch(*(devices.share(np.asarray(each), len(used)) for each in batch))
    program = mapped_train_step(config, used).lower(state, shares).compile()

    def repeat(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, metrics = program(state, shares)
        jax.block_until_ready((state, metrics))

    return program, repeat


def _inference(config: Config, used: Sequence[jax.Device], batch: Batch) -> tuple[Any, Callable[[int], None]]:
    """The compiled network, and a function that computes the maps several times, each time up to the host."""
    variables = devices.put_everywhere(create_state(config).variables, used)
    images = devices.share(np.asarray(batch.images), len(used))
    mapped = mapped_eval_step(network(config), background_region(config.loss), tuple(used))
    program = mapped.lower(variables, images).compile()

    def repeat(calls: int) -> None:
        for _ in range(calls):
            for saliency in program(variables, images):
                np.asarray(saliency)

    return program, repeat

"""Training step and inference against PyTorch's, with the same network, weights and work."""

import importlib.metadata
import importlib.util
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax

from menet_jax.benchmark import programs
from menet_jax.benchmark.measuring import Seconds, in_turns, machine, median
from menet_jax.benchmark.options import Activity, Pytorch
from menet_jax.benchmark.processes import MemoryPeak, ProcessDiedError, in_process
from menet_jax.model.menet import MENet
from menet_jax.model.pytorch.names import to_state_dict
from menet_jax.model.pytorch.writing import write_torch
from menet_jax.runtime.cli import check_counts
from menet_jax.training.step import create_state

LAYOUTS = ("channels first", "channels last")

PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""PyTorch's threads sleep while they wait for each other. By default they spin, which counts as CPU seconds, and where
another program takes a core, takes many times as long."""

OURS = {"cpu": {"JAX_PLATFORMS": "cpu"}, "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}}
"""Environment of our process, by device. JAX would by default take three quarters of the GPU's memory at the start."""

LEGEND = """wall s, CPU s: of one call, median over the rounds; CPU seconds of all threads
peak MiB: largest resident memory of the process since its start, with imports and compilation
of work: the same since it is warm, and what compiling had freed is given back; what the program needs by the compiler's
account is told by the benchmarks training and inference"""


class Side(NamedTuple):
    """Time and memory of one of both libraries."""

    name: str
    times: Seconds
    peak: MemoryPeak


def run(options: Pytorch) -> None:
    """Compare both; see `options.Pytorch`."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError('PyTorch is not installed, and is what is compared with: pip install "menet_jax[torch]"')
    width, batch_size, rounds = options.width, options.batch_size, options.rounds
    check_counts(rounds=rounds, inference_batches=min(options.inference_batches, default=0))
    if batch_size < 2:
        raise ValueError(f"--batch-size {batch_size}: must be at least 2, for PyTorch to normalise 1×1 maps")
    card = _card(options)
    jax.config.update("jax_platforms", "cpu")  # of this process, which times nothing
    variables = create_state(programs.configuration(width)).variables
    where = f"{card}{machine()}, PyTorch {importlib.metadata.version('torch')}"
    print(f"width {width}, {options.precision}, {programs.SIZE}×{programs.SIZE}, {where}")
    if options.agreement:
        print("\n".join(_agreement(width, variables)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        write_torch(weights, to_state_dict(variables))
        del variables
        jobs: list[tuple[Activity, int]] = [("training", batch_size)]
        jobs += [("inference", count) for count in options.inference_batches]
        for activity, count in jobs:
            if activity in options.what:
                print(f"{activity}, batch {count}, {rounds} rounds", flush=True)
                print("\n".join(_table(options, *_measure(options, activity, weights, count))), flush=True)
        print(LEGEND)


def _card(options: Pytorch) -> str:
    """The GPU that is to be used, for the head.

    Raises:
        ValueError: PyTorch finds none.
    """
    if options.device == "cpu":
        return ""
    import torch

    if not torch.cuda.is_available():
        raise ValueError("--device gpu: PyTorch finds none here")
    return f"{torch.cuda.get_device_name()}, "


def _agreement(width: int, variables: dict[str, Any]) -> list[str]:
    """Lines on the agreement in float64, where many digits agree, and in float32, in which both are timed."""
    from menet_jax.benchmark import pytorch_agreement as agree

    batch = programs.random_batch(2)  # the fewest that can be normalised: float64 takes memory
    variables = agree.settled(MENet(width), variables, batch)
    columns = [agree.differences(*agree.both(width, variables, batch, each)) for each in ("float64", "float32")]
    lines = [f"  {'difference':28} {'float64':>8} {'float32':>8}  relative to the largest value, or to the norm"]
    return [*lines, *(f"  {name:28} {columns[0][name]:8.0e} {columns[1][name]:8.0e}" for name in columns[0])]


def _measure(options: Pytorch, activity: Activity, weights: Path, count: int) -> tuple[list[Side], list[str]]:
    """Ours, then PyTorch's in each layout; and a sentence for each layout in which it crashes."""
    from menet_jax.benchmark import pytorch_programs

    own, other = {
        "training": (programs.training_step, pytorch_programs.training_step),
        "inference": (programs.inference, pytorch_programs.inference),
    }[activity]
    crashes = list[str]()
    with ExitStack() as stack:
        case = weights, options.width, count, options.device, options.precision
        process = in_process(own, *case, environment=OURS[options.device])
        workers = {"menet_jax": stack.enter_context(process)}
        for layout in LAYOUTS:
            process = in_process(other, *case, layout, environment=PATIENT)
            try:
                workers[f"PyTorch, {layout}"] = stack.enter_context(process)
            except ProcessDiedError as error:
                crashes.append(f"PyTorch, {layout}: {error}")
        if len(workers) == 1:
            raise ProcessDiedError("; ".join(crashes))
        taken = in_turns([worker.turn for worker in workers.values()], options.rounds)
        sides = [
            Side(name, median(times), worker.peak())
            for (name, worker), times in zip(workers.items(), taken, strict=True)
        ]
    return sides, crashes


def _table(options: Pytorch, sides: list[Side], crashes: list[str]) -> list[str]:
    own, *others = sides
    lines = [f"  {'':24} {'wall s':>9} {'CPU s':>9} {'peak MiB':>9} {'of work':>9}"]
    for name, times, peak in sides:
        working = "unknown" if peak.working is None else f"{peak.working / 2**20:.0f}"
        lines.append(f"  {name:24} {times.wall:9.4f} {times.cpu:9.4f} {peak.whole / 2**20:9.0f} {working:>9}")
    best = min(others, key=lambda side: side.times.cpu if options.device == "cpu" else side.times.wall)
    wall, cpu = best.times.wall / own.times.wall, best.times.cpu / own.times.cpu
    ratios = f"wall {wall:.2f}, CPU {cpu:.2f}"
    if best.peak.working is not None and own.peak.working is not None:
        ratios += f", memory of work {best.peak.working / own.peak.working:.2f}"
    lines.append(f"  {best.name} / menet_jax: {ratios}")
    return [*lines, *(f"  {each}" for each in crashes)]

"""Memory and speed of the training step on TPUs, as their compiler estimates them; it needs no TPU.

It is the step that training maps by `pmap`, compiled for devices that libtpu describes.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies

from menet_jax.benchmark.measuring import Seconds, machine, timed
from menet_jax.benchmark.options import Tpu
from menet_jax.benchmark.peaks import peak_share
from menet_jax.benchmark.programs import SIZE, configuration
from menet_jax.benchmark.steps import arithmetic
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.runtime.cli import check_counts
from menet_jax.training.config import Config
from menet_jax.training.step import Batch, check_batch, create_state, mapped_train_step

GIBIBYTE = 2**30

ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
"""Variables that keep libtpu from looking for TPUs and for other processes."""

TOPOLOGIES = ("v2:2x2", "v3:2x2", "v5e:1x1", "v5e:2x4", "v6e:1x1", "v6e:2x4")
"""Topologies of machines that have been on offer; the command accepts others too."""

ONE_HOST = 8
"""Chips up to which a topology is taken for one machine."""


class Chip(NamedTuple):
    """A device of one kind.

    Attributes:
        memory: GiB that the compiler has for a program, which is less than there is.
        clock: cycles a second; the maker's peak, divided by what the matrix units compute in a cycle.
    """

    memory: float
    clock: float


CHIPS = {
    "TPU v2": Chip(7.48, 0.70e9),
    "TPU v3": Chip(15.48, 0.94e9),
    "TPU v5 lite": Chip(15.75, 1.50e9),
    "TPU v6 lite": Chip(31.25, 1.75e9),
}
"""Devices by their `device_kind`."""

FULL = 0.9
"""Share of a device's memory at which the search for a larger batch stops."""

MOST_TRIES = 6
"""Compilations to find the largest batch; each takes minutes."""

UNKNOWN = 2**50
"""Numbers of cycles from here on mean unknown: the compiler gave 2⁶⁰ for an instruction that it cannot estimate."""

SCORES = (
    Score("compile s", "seconds until it was compiled, after tracing", None, ".0f"),
    Score("compile CPU s", "the same, of all threads", None, ".0f"),
    Score("state GiB", "parameters, batch statistics and momentum on one device", None, ".2f"),
    Score("temporary GiB", "what a step needs in between, on one device", None, ".2f"),
    Score(
        "program GiB", "all on one device: state, batch, temporaries, results that replace nothing, code", None, ".2f"
    ),
    Score("of memory", "the same, as a share of what the compiler has for a program on one device", None, ".2f"),
    Score("GFLOP", "operations of a step on one device, 10⁹, by XLA's account of it, before fusion", None, ".4g"),
    Score("estimate s", "cycles that the compiler expects of each instruction, together, by the clock", None, ".3f"),
    Score("least s", "what arithmetic and memory traffic allow, by the compiler's account", None, ".3f"),
    Score("images/s", "of all devices, by the estimate, without waiting for each other", None, ".4g"),
    Score("peak share", "of what the device's maker says it can compute at most, by the estimate", None, ".3f"),
    Score("largest batch", "that fits, over all devices", None, ".0f"),
)


@dataclass(frozen=True)
class Program:
    """The compiler's account of a step.

    Attributes:
        compiling: time of the compilation.
        arguments: bytes on one device of state and batch.
        temporary: bytes on one device in between.
        whole: bytes on one device of all.
        cycles: sum of the cycles that it expects of each instruction.
        unknown: number of instructions that it cannot estimate.
        least: seconds that arithmetic and memory traffic allow; negative where it does not know.
    """

    compiling: Seconds
    arguments: int
    temporary: int
    whole: int
    cycles: int
    unknown: int
    least: float


def run(options: Tpu) -> None:
    """Compile and print; see `options.Tpu`."""
    check_counts(batch_size=options.batch_size)
    config = configuration(options.width, options.precision)
    devices = described(options.topology)
    check_batch(options.batch_size, len(devices))
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # or there would be nothing to time

    @cache
    def step(images: int) -> Program | None:
        print(f"{images} images a device: ", file=sys.stderr, end="", flush=True)
        program = compiled(config, devices, images)
        what = f"{program.whole / GIBIBYTE:.2f} GiB, {program.compiling.wall:.0f} s" if program else "do not fit"
        print(what, file=sys.stderr, flush=True)
        return program

    record, notes = told(options, len(devices), devices[0].device_kind, step)
    level = jax.config.values["jax_optimization_level"]
    effort = "" if level == "UNKNOWN" else f", JAX_OPTIMIZATION_LEVEL={level}"
    title = f"Training step compiled for {devices[0].device_kind}, images of {SIZE}×{SIZE}"
    known = [score for score in SCORES if score.name in record.scores]
    print(f"{machine()}, libtpu {version('libtpu')}{effort}")
    print(Table("tpu", title, [record], known, notes).text(), *notes, sep="\n")


def described(topology: str) -> Sequence[jax.Device]:
    """Devices to compile for, which need not be there, by generation and chips along each axis, such as `v5e:2x4`.

    Raises:
        ValueError: libtpu is not installed, or knows no such topology.
    """
    if find_spec("libtpu") is None:
        raise ValueError('libtpu is not installed, which compiles for TPUs: pip install "menet_jax[tpu]"')
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    refusal = f"--topology {topology}: libtpu knows none of this name; known are {', '.join(TOPOLOGIES)}"
    chips = re.fullmatch(r"\w+:(\d+)x(\d+)(?:x(\d+))?", topology)
    if chips is None:
        raise ValueError(refusal)
    bounds = tuple(int(axis or 1) for axis in chips.groups())
    options = {"chips_per_host_bounds": bounds} if 0 < prod(bounds) <= ONE_HOST else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"{refusal} ({str(error).splitlines()[0]})") from error
    return list(found.devices)


def compiled(config: Config, devices: Sequence[jax.Device], images: int) -> Program | None:
    """The compiler's account of the step with so many images a device; None if it takes more memory than there is."""
    shape: Any = jax.ShapeDtypeStruct
    state = jax.tree.map(lambda leaf: shape(leaf.shape, leaf.dtype), create_state(config))
    sides = len(devices), images, SIZE, SIZE
    batch = Batch(shape((*sides, 3), np.uint8), shape(sides, np.bool_))
    lowered, programs = mapped_train_step(config, devices).lower(state, batch), list[Any]()
    try:
        compiling = timed(lambda: programs.append(lowered.compile()))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    [program] = programs
    account, least = program.memory_analysis(), program.cost_analysis()["optimal_seconds"]
    arguments, temporary = account.argument_size_in_bytes, account.temp_size_in_bytes
    new = account.output_size_in_bytes - account.alias_size_in_bytes + account.generated_code_size_in_bytes
    cycles, unknown = expected_cycles(program.as_text())
    return Program(compiling, arguments, temporary, arguments + temporary + new, cycles, unknown, least)


def expected_cycles(program: str) -> tuple[int, int]:
    """Sum of the cycles that the compiler notes with each instruction, a loop's body once; and how many are unknown.

    The program is optimised HLO for a TPU, `compiled.as_text()`.
    """
    noted = [int(cycles) for cycles in re.findall(r'"estimated_cycles":"(\d+)"', program)]
    known = [cycles for cycles in noted if cycles < UNKNOWN]
    return sum(known), len(noted) - len(known)


def told(options: Tpu, devices: int, kind: str, step: Callable[[int], Program | None]) -> tuple[Record, list[str]]:
    """A row of what the compiler tells of a number of devices of a kind, and what is to be known of it.

    `step` says of a number of images a device what the compiler tells; None if they take more memory than there is.

    Raises:
        ValueError: the batch takes more memory than there is.
    """
    batch_size, images = options.batch_size, options.batch_size // devices
    labels = {"topology": options.topology, "devices": str(devices), "width": str(options.width)}
    labels |= {"precision": options.precision, "batch_size": str(batch_size)}
    program, chip, notes = step(images), CHIPS.get(kind), list[str]()
    if program is None:
        raise ValueError(f"--batch-size {batch_size}: the step takes more memory than a {kind} has; try a smaller one")
    scores = {"compile s": program.compiling.wall, "compile CPU s": program.compiling.cpu}
    sizes = {
        "state": program.arguments - images * SIZE**2 * 4,
        "temporary": program.temporary,
        "program": program.whole,
    }
    scores |= {f"{name} GiB": size / GIBIBYTE for name, size in sizes.items()}
    flops = arithmetic("training", configuration(options.width, options.precision), images)
    if flops is not None:
        scores["GFLOP"] = flops / 1e9
    if program.least > 0:
        scores["least s"] = program.least
    else:
        notes.append(
            f"least s: of some instructions the compiler does not know it, and says {program.least:.4g} of all"
        )
    if chip is None:
        return Record("tpu", labels, scores), [*notes, f"memory and clock are not known here of {kind}"]
    if program.unknown:
        notes.append(f"estimate s: without {program.unknown} instructions of which the compiler expects nothing")
    seconds = program.cycles / chip.clock
    scores |= {"of memory": program.whole / GIBIBYTE / chip.memory, "estimate s": seconds}
    scores |= {"images/s": batch_size / seconds}
    share = None if flops is None else peak_share(flops / seconds, kind, options.precision)
    if share is not None:
        scores["peak share"] = share
    if options.largest_batch:
        most, how = largest(lambda n: _whole(step(n)), images, chip.memory * GIBIBYTE)
        scores["largest batch"] = most * devices
        notes.append(f"largest batch: {how}")
    return Record("tpu", labels, scores), notes


def _whole(program: Program | None) -> int | None:
    return program.whole if program else None


def largest(whole: Callable[[int], int | None], images: int, memory: float) -> tuple[int, str]:
    """The largest number of images that a device can take, and how it was found.

    What they take is extrapolated from a number of images and its double, because half of it may take more: the
    compiler lays out few images otherwise. What then should fit is compiled and extrapolated from in turn, until nine
    tenths of the memory are taken; instead of what does not fit, an eighth less. A few more may fit than are found.

    `whole` is images → bytes that the whole program takes on a device, None if they do not fit; `images` is a number
    that fits, and `memory` the bytes of a device.
    """
    one, two = whole(images), whole(2 * images)
    if one is None or two is None:
        return images, f"{images} a device fit, {2 * images} do not"
    fitting, failed = [(images, one), (2 * images, two)], list[int]()
    while fitting[-1][1] < FULL * memory and len(fitting) + len(failed) < MOST_TRIES:
        (few, little), (most, much) = fitting[-2:]
        guess = int(most + (memory - much) * (most - few) / (much - little)) if much > little else 2 * most
        guess = min(guess, failed[-1] * 7 // 8) if failed else guess
        if guess <= most:
            break
        taken = whole(guess)
        if taken is None:
            failed.append(guess)
            continue
        fitting.append((guess, taken))
        if failed:
            break
    how = f"{fitting[-1][0]} a device, by compiling {', '.join(str(number) for number, _ in fitting)}"
    return fitting[-1][0], how + (f"; {', '.join(map(str, failed))} did not fit" if failed else "")

"""Costs of the parts of the Jacobian analysis."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map

from menet_jax.benchmark.measuring import machine, medians
from menet_jax.benchmark.options import Jacobian
from menet_jax.benchmark.results import MEBIBYTE
from menet_jax.model.menet import MENet
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.robustness.jacobian import bounds, directions, image_function
from menet_jax.runtime import devices

SCORES = (
    Score("s", "wall seconds, median over the rounds, or as many as the products it is made of take", None, ".3g"),
    Score("× s", "as a multiple of a forward pass", None, ".3g"),
    Score("MiB", "memory by the compiler's account: given, returned and between", None, ".0f"),
    Score("× MiB", "as a multiple of a forward pass", None, ".3g"),
)


class Cost(NamedTuple):
    """Wall seconds and bytes."""

    seconds: float
    memory: int


def run(options: Jacobian) -> None:
    """Measure on the devices that a command would take, and print what was found."""
    devices.start(None)
    print(machine(), measure(options.width, options.size, options.rounds).text(), sep="\n")


def measure(width: int, size: int, rounds: int) -> Table:
    """Time and memory of each part."""
    net, rng = MENet(width), np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(0, 255, (size, size, 3)), jnp.float32)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:  # sooner done than compiling `init`
        if path[-1] == "kernel":
            return jnp.asarray(rng.standard_normal(leaf.shape, np.float32) / math.sqrt(math.prod(leaf.shape[:-1])))
        return jnp.full(leaf.shape, float(path[-1] in ("scale", "var")))

    variables = dict(path_aware_map(draw, jax.eval_shape(net.init, jax.random.key(0), image[None])))
    f = image_function.network_map(net, variables)
    jvp, vjp = image_function.push_forward, image_function.pull_back
    programs: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def add(name: str, function: Any, *args: Any) -> Any:
        programs[name] = function.lower(*args).compile(), args
        return programs[name][0](*args)

    add("forward pass", image_function.evaluate, f, image)
    value, push = add("linearise: f(x) and J", image_function.linearise_program, f, image)
    add("J v", jvp, push, image)
    add("transposed J u", vjp, push, image, value)
    add("one J v, by jax.jvp", directions.jvp, f, image, image)
    bounding = bounds.bounding_map(f)
    add("bound v", jvp, bounding, image)
    add("transposed bound u", vjp, bounding, image, value)

    times = [each.wall for each in medians([partial(program, *args) for program, args in programs.values()], rounds)]
    accounts = [program.memory_analysis() for program, _ in programs.values()]
    peaks = [a.argument_size_in_bytes + a.output_size_in_bytes + a.temp_size_in_bytes for a in accounts]
    parts = {name: Cost(*cost) for name, *cost in zip(programs, times, peaks, strict=True)}
    first = parts["forward pass"]

    def record(name: str, how: str, cost: Cost) -> Record:
        scores = {"s": cost.seconds, "× s": cost.seconds / first.seconds}
        scores |= {"MiB": cost.memory / MEBIBYTE, "× MiB": cost.memory / first.memory}
        return Record("", {"what": name, "time": how}, scores)

    records = [record(name, "measured", cost) for name, cost in parts.items()]
    whole = whole_analyses(parts, value.size, image.nbytes)
    records += [record(name, "of its products", cost) for name, cost in whole.items()]
    title = f"Parts of the Jacobian analysis, width {width}, one image of {size}×{size}"
    return Table(f"jacobian_width{width}", title, records, SCORES)


def whole_analyses(parts: Mapping[str, Cost], outputs: int, vector: int) -> dict[str, Cost]:
    """Costs of whole analyses, by their parts, for a map of `outputs` pixels and an image of `vector` bytes."""
    forward, set_up, push, pull, single, wide_push, wide_pull = (cost.seconds for cost in parts.values())
    peaks = [cost.memory for cost in parts.values()]
    during, of_one, of_bound = max(peaks[1:4]), peaks[4], max(peaks[5:])
    return {
        "Frobenius norm, 64 samples": Cost(set_up + 64 * pull, during),
        "exact Frobenius norm": Cost(set_up + outputs * pull, during),
        "power iteration, 100 steps": Cost(set_up + 100 * (push + pull), during + 2 * vector),
        "Lanczos, 50 steps": Cost(set_up + 51 * (push + pull), during + 193 * vector),
        "error directions, 16 draws": Cost(forward + 16 * (single + forward), of_one),
        "sensitivity of input, 64 samples": Cost(set_up + 64 * pull, during + 8 * vector),
        "sensitivity of output, 64 samples": Cost(set_up + 64 * push, during + 8 * vector),
        "bound's norms, 20 iterations": Cost(21 * (wide_push + wide_pull), of_bound),
        "J itself (not held by any of these)": Cost(set_up + outputs * pull, outputs * vector),
    }

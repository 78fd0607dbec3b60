"""What the parts of the Jacobian analysis cost."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map

from menet_jax import bounds, image_maps
from menet_jax.benchmark.measuring import Seconds, in_turns, machine, median, timer
from menet_jax.model import MENet


def jacobian(width: int = 32, size: int = 224, rounds: int = 3) -> None:
    """Time and peak memory of what the Jacobian analysis is made of, as multiples of one forward pass of one image.

    Memory is the compiler's own account: what a program is given (the network's variables, or what linearising kept),
    what it returns and what it needs in between. Programs are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        size: side of the image.
        rounds: how often each is timed.
    """
    net, rng = MENet(width), np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(0, 255, (size, size, 3)), jnp.float32)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:  # sooner done than compiling `init`
        if path[-1] == "kernel":
            return jnp.asarray(rng.standard_normal(leaf.shape, np.float32) / math.sqrt(math.prod(leaf.shape[:-1])))
        return jnp.full(leaf.shape, float(path[-1] in ("scale", "var")))

    variables = dict(path_aware_map(draw, jax.eval_shape(net.init, jax.random.key(0), image[None])))
    f = image_maps.network_map(net, variables)
    jvp, vjp = image_maps.push_forward, image_maps.pull_back
    programs: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def add(name: str, function: Any, *args: Any) -> Any:
        programs[name] = function.lower(*args).compile(), args
        return programs[name][0](*args)

    add("forward pass", image_maps.evaluate, f, image)
    value, push = add("linearise: f(x) and J", image_maps.linearise_program, f, image)
    add("J v", jvp, push, image)
    add("transposed J u", vjp, push, image, value[None])
    bounding = bounds.bounding_map(f)
    add("bound v", jvp, bounding, image)
    add("transposed bound u", vjp, bounding, image, value[None])

    def run(program: Any, args: Any) -> Callable[[], Seconds]:
        return timer(lambda: jax.block_until_ready(program(*args)))

    times = [median(each).wall for each in in_turns([run(*each) for each in programs.values()], rounds)]
    accounts = [program.memory_analysis() for program, _ in programs.values()]
    peaks = [a.argument_size_in_bytes + a.output_size_in_bytes + a.temp_size_in_bytes for a in accounts]
    print(f"width {width}, {size}×{size}, {rounds} rounds, {machine()}")
    rows = dict(zip(programs, zip(times, peaks, strict=True), strict=True))
    (set_up, _), (push_time, _), (pull_time, _) = list(rows.values())[1:4]
    (wide_push, _), (wide_pull, _) = list(rows.values())[4:]
    during, of_bound = max(peaks[1:4]), max(peaks[4:])
    vector = image.nbytes
    rows |= {
        "Frobenius norm, 64 samples": (set_up + 64 * pull_time, during),
        "exact Frobenius norm": (set_up + value.size * pull_time, during),
        "power iteration, 100 steps": (set_up + 100 * (push_time + pull_time), during + 2 * vector),
        "Lanczos, 50 steps": (set_up + 51 * (push_time + pull_time), during + 193 * vector),
        "error directions, 16 draws": (set_up + 16 * (push_time + times[0]), during),
        "sensitivity of input, 64 samples": (set_up + 64 * pull_time, during + 8 * vector),
        "sensitivity of output, 64 samples": (set_up + 64 * push_time, during + 8 * vector),
        "bound's norms, 20 iterations": (21 * (wide_push + wide_pull), of_bound),
        "J itself (not held by any of these)": (set_up + value.size * pull_time, value.size * vector),
    }
    print(f"  {'':36} {'time':>10} {'':>8} {'memory':>10}")
    for index, (name, (seconds, peak)) in enumerate(rows.items()):
        how = " " if index < len(times) else "*"
        print(f"{how} {name:36} {seconds:8.3g} s {seconds / times[0]:7.3g}×", end="")
        print(f" {peak / 2**20:6.0f} MiB {peak / peaks[0]:7.3g}×")
    print("* time from that of its products")

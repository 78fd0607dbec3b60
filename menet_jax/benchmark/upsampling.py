"""Time of a training step by the way in which transposed convolutions are computed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from menet_jax.benchmark.measuring import machine, medians
from menet_jax.benchmark.options import Upsampling
from menet_jax.benchmark.programs import configuration, random_batch
from menet_jax.benchmark.results import CPU, WALL
from menet_jax.model.layers import ConvTranspose
from menet_jax.model.phases import conv_transpose_2x2, conv_transpose_4x4
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.runtime import devices
from menet_jax.training.network import network
from menet_jax.training.optimizer import make_optimizer
from menet_jax.training.step import create_state, train_step

SCORES = (
    WALL,
    CPU,
    Score("of wall", "wall seconds as a multiple of the first row's", None, ".2f"),
    Score("loss", "of the step, which is the same of all", None, ".6f"),
)


def run(options: Upsampling) -> None:
    """Measure on the devices that a command would take, and print what was found."""
    devices.start(None)
    print(machine(), measure(options.width, options.batch_size, options.rounds).text(), sep="\n")


def measure(width: int, batch_size: int, rounds: int) -> Table:
    """The time of each."""
    config = configuration(width)
    step = partial(train_step, network(config), make_optimizer(config.optimizer), config.loss)
    # On the device once, or every step would wait for the network to come from the host.
    state, batch = jax.device_put((create_state(config), random_batch(batch_size)))
    programs = {"as it is": jax.jit(step).lower(state, batch).compile()}
    for name, convolve in {"input dilation": _dilated, "phases": _in_phases}.items():
        with nn.intercept_methods(_instead(convolve)):
            # A function of its own each time, or JAX would take what it has traced already.
            programs[name] = jax.jit(lambda *args: step(*args)).lower(state, batch).compile()
    losses = [float(program(state, batch)[1].loss) for program in programs.values()]

    times = medians([partial(program, state, batch) for program in programs.values()], rounds)
    records = [
        Record(
            "upsampling",
            {"transposed convolutions": name},
            {WALL.name: taken.wall, CPU.name: taken.cpu, "of wall": taken.wall / times[0].wall, "loss": loss},
        )
        for name, taken, loss in zip(programs, times, losses, strict=True)
    ]
    title = f"Training step by kind of transposed convolutions, width {width}, batch {batch_size}"
    return Table(f"upsampling_width{width}", title, records, SCORES)


def _dilated(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _in_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return (conv_transpose_2x2 if kernel.shape[0] == 2 else conv_transpose_4x4)(x, kernel)


def _instead(convolve: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """An interceptor of Flax's that computes stride-2 transposed convolutions by `convolve`."""

    def intercept(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if not isinstance(layer, ConvTranspose) or layer.stride != 2:
            return next_fun(*args, **kwargs)
        x, kernel = (array.astype(layer.dtype) for array in (args[0], layer.get_variable("params", "kernel")))
        return convolve(x, kernel)

    return intercept

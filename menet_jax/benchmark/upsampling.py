"""What the way of computing transposed convolutions does to a training step."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from menet_jax.benchmark.measuring import Seconds, in_turns, machine, median, timer
from menet_jax.benchmark.phases import conv_transpose_2x2, conv_transpose_4x4
from menet_jax.config import Config, ModelConfig
from menet_jax.model import ConvTranspose
from menet_jax.training import Batch, create_state, make_optimizer, network, train_step


def upsampling(width: int = 4, batch_size: int = 5, rounds: int = 5) -> None:
    """Time of a whole training step by how stride-2 transposed convolutions are computed: as the network has them
    (`menet_jax.convolution`), as `jax.lax.conv_transpose` (input dilation), and by phases (`benchmark.phases`).
    All compute the same. They are timed in turns; medians are reported.

    Args:
        width: of the network; the paper's is 32.
        batch_size: images of a step.
        rounds: how often each is timed.
    """
    config = Config(run=Path(), steps=1, model=ModelConfig(width=width))
    step = partial(train_step, network(config), make_optimizer(config.optimizer), config.loss)
    state, rng = create_state(config), np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, 224, 224, 3), np.uint8)
    batch = Batch(images, rng.random((batch_size, 224, 224)) < 0.3)

    def dilated(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def in_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return (conv_transpose_2x2 if kernel.shape[0] == 2 else conv_transpose_4x4)(x, kernel)

    programs = {"as it is": jax.jit(step).lower(state, batch).compile()}
    for name, convolve in {"input dilation": dilated, "phases": in_phases}.items():
        with nn.intercept_methods(_instead(convolve)):
            programs[name] = jax.jit(lambda *args: step(*args)).lower(state, batch).compile()
    losses = [float(jax.block_until_ready(program(state, batch))[1].loss) for program in programs.values()]

    def run(program: Any) -> Callable[[], Seconds]:
        return timer(lambda: jax.block_until_ready(program(state, batch)))

    times = [median(each) for each in in_turns([run(program) for program in programs.values()], rounds)]
    print(f"training step, width {width}, batch {batch_size}, {rounds} rounds, {machine()}")
    for name, seconds, loss in zip(programs, times, losses, strict=True):
        wall, cpu = seconds.wall / times[0].wall, seconds.cpu / times[0].cpu
        print(f"  {name:15} {seconds.wall:8.3f} s ({wall:.2f}×) {seconds.cpu:8.3f} CPU-s ({cpu:.2f}×)  loss {loss:.6f}")


def _instead(convolve: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """An interceptor of Flax's that computes stride-2 transposed convolutions by `convolve`."""

    def intercept(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if not isinstance(layer, ConvTranspose) or layer.stride != 2:
            return next_fun(*args, **kwargs)
        x, kernel = (array.astype(layer.dtype) for array in (args[0], layer.get_variable("params", "kernel")))
        return convolve(x, kernel)

    return intercept

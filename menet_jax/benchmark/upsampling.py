"""What the way of computing transposed convolutions does to a training step."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from menet_jax.benchmark.measuring import Seconds, in_turns, machine, median, timer
from menet_jax.config import Config, ModelConfig
from menet_jax.model import ConvTranspose
from menet_jax.training import Batch, create_state, make_optimizer, network, train_step
from menet_jax.upsampling import conv_transpose_7x7


def upsampling(width: int = 4, batch_size: int = 5, rounds: int = 5) -> None:
    """Time of a whole training step, with transposed convolutions as `menet_jax.upsampling` has them against
    `jax.lax.conv_transpose` (input dilation), which computes the same. Both are timed in turns; medians are reported.

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

    def dilated(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if not isinstance(layer, ConvTranspose) or layer.convolve is conv_transpose_7x7:
            return next_fun(*args, **kwargs)
        x, kernel = (array.astype(layer.dtype) for array in (args[0], layer.get_variable("params", "kernel")))
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ours = jax.jit(step).lower(state, batch).compile()
    with nn.intercept_methods(dilated):
        theirs = jax.jit(lambda state, batch: step(state, batch)).lower(state, batch).compile()
    results = [jax.block_until_ready(program(state, batch)) for program in (ours, theirs)]
    losses = [float(metrics.loss) for _, metrics in results]

    def run(program: Any) -> Callable[[], Seconds]:
        return timer(lambda: jax.block_until_ready(program(state, batch)))

    times = [median(each) for each in in_turns([run(ours), run(theirs)], rounds)]
    print(f"training step, width {width}, batch {batch_size}, {rounds} rounds, {machine()}")
    for name, seconds, loss in zip(("phases", "input dilation"), times, losses, strict=True):
        print(f"  {name:15} {seconds.wall:8.3f} s {seconds.cpu:8.3f} CPU-s   loss {loss:.6f}")
    wall, cpu = times[1].wall / times[0].wall, times[1].cpu / times[0].cpu
    print(f"  input dilation / phases: {wall:.2f} ({cpu:.2f} of CPU seconds)")

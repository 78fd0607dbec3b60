"""Benchmarks: python -m menet_jax.benchmark NAME."""

import sys
from functools import partial

from menet_jax.benchmark.options import All, Inference, Jacobian, Pipeline, Pytorch, Scores, Tpu, Training, Upsampling
from menet_jax.runtime.cli import run_options

COMMANDS = {
    All: "menet_jax.benchmark.suite",
    Training: "menet_jax.benchmark.steps",
    Inference: "menet_jax.benchmark.steps",
    Tpu: "menet_jax.benchmark.tpu",
    Pytorch: "menet_jax.benchmark.pytorch",
    Upsampling: "menet_jax.benchmark.upsampling",
    Jacobian: "menet_jax.benchmark.jacobian",
    Pipeline: "menet_jax.benchmark.pipeline",
    Scores: "menet_jax.benchmark.scores",
}

main = partial(
    run_options,
    commands=COMMANDS,
    module="menet_jax.benchmark",
    description="Measure how fast things are here.",
    left=lambda _: "what was measured is printed",
    refusals=(ValueError,),
)
"""Run the benchmark that is named. Exit status: 0; 1 if something cannot be run or written; 2 for bad input."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

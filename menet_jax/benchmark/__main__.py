"""Benchmarks: python -m menet_jax.benchmark NAME."""

import sys
from collections.abc import Sequence
from importlib import import_module

import tyro

from menet_jax.benchmark.options import (
    Benchmark,
    Inference,
    Jacobian,
    Pipeline,
    Pytorch,
    Scores,
    Suite,
    Tpu,
    Training,
    Upsampling,
)
from menet_jax.runtime.cli import command, words
from menet_jax.runtime.memory import use_huge_pages

BENCHMARKS: dict[str, tuple[type[Benchmark], str]] = {
    "all": (Suite, "suite"),
    "training": (Training, "steps"),
    "inference": (Inference, "steps"),
    "tpu": (Tpu, "tpu"),
    "pytorch": (Pytorch, "pytorch"),
    "upsampling": (Upsampling, "upsampling"),
    "jacobian": (Jacobian, "jacobian"),
    "pipeline": (Pipeline, "pipeline"),
    "scores": (Scores, "scores"),
}
"""Benchmarks by name: the flags, and the module whose `run` measures, which is imported last, for it imports JAX."""


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark that the command line names; bad input ends it with status 2."""
    use_huge_pages()
    with command("what was measured is printed"):
        options = tyro.extras.subcommand_cli_from_dict(
            {name: flags for name, (flags, _) in BENCHMARKS.items()},
            args=words(arguments),
            prog="python -m menet_jax.benchmark",
            description="Measure how fast things are here.",
        )
        options.check()
        module = dict(BENCHMARKS.values())[type(options)]
        import_module(f"menet_jax.benchmark.{module}").run(options)


if __name__ == "__main__":
    main(sys.argv[1:])

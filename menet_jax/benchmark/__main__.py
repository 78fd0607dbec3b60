"""Benchmarks: python -m menet_jax.benchmark NAME."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from menet_jax.benchmark.jacobian import jacobian
from menet_jax.benchmark.pipeline import pipeline
from menet_jax.benchmark.pytorch import pytorch
from menet_jax.benchmark.scores import scores
from menet_jax.benchmark.steps import inference, training
from menet_jax.benchmark.suite import suite
from menet_jax.benchmark.upsampling import upsampling

BENCHMARKS: dict[str, Callable[..., Any]] = {
    "all": suite,
    "training": training,
    "inference": inference,
    "pytorch": pytorch,
    "upsampling": upsampling,
    "jacobian": jacobian,
    "pipeline": pipeline,
    "scores": scores,
}


def main() -> None:
    """Run the benchmark that the command line names; bad input ends it with status 2."""
    try:
        tyro.extras.subcommand_cli_from_dict(BENCHMARKS, description="Measure how fast things are here.")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

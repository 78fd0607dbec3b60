"""Benchmarks: python -m menet_jax.benchmark NAME."""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.benchmark.commands import BENCHMARKS
from menet_jax.runtime.cli import command, words
from menet_jax.runtime.memory import use_huge_pages


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark that the command line names; bad input ends it with status 2."""
    use_huge_pages()
    with command("what was measured is printed"):
        measure = tyro.extras.subcommand_cli_from_dict(
            BENCHMARKS,
            args=words(arguments),
            prog="python -m menet_jax.benchmark",
            description="Measure how fast things are here.",
        )
        measure()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Score runs and other methods' maps:  python -m menet_jax.evaluate --run RUN --data DATASET --dest FOLDER

or  python -m menet_jax.evaluate --maps NAME=FOLDER --masks FOLDER --dest FOLDER, or both at once.
"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.evaluation.options import Evaluate
from menet_jax.runtime.cli import refuse_repeats, run_command
from menet_jax.runtime.memory import use_huge_pages


def parse(arguments: Sequence[str]) -> Evaluate:
    """What a command line asks for; ValueError or OSError for what can be refused at once."""
    refuse_repeats(arguments, Evaluate)
    options = tyro.cli(Evaluate, args=arguments, prog="python -m menet_jax.evaluate")
    options.check()
    return options


def work(options: Evaluate) -> int:
    """Do it; the exit status."""
    use_huge_pages()

    from menet_jax.evaluation.evaluate_command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Evaluate`."""
    return run_command(lambda: parse(arguments), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

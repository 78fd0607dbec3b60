"""Predict saliency maps:  python -m menet_jax.predict --checkpoint RUN --source FILE_OR_FOLDER --dest FOLDER"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.evaluation.options import Predict
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.memory import use_huge_pages


def parse(arguments: Sequence[str]) -> Predict:
    """What a command line asks for; ValueError or OSError for what can be refused at once."""
    options = tyro.cli(Predict, args=arguments, prog="python -m menet_jax.predict")
    options.check()
    return options


def work(options: Predict) -> int:
    """Do it; the exit status."""
    use_huge_pages()

    from menet_jax.evaluation.predict_command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Predict`."""
    return run_command(lambda: parse(arguments), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

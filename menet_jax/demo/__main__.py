"""Show what a network makes of photographs, in a browser:  python -m menet_jax.demo [--checkpoint RUN]"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.demo.options import Demo
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.memory import use_huge_pages


def parse(arguments: Sequence[str]) -> Demo:
    """What a command line asks for; ValueError or OSError for what can be refused at once."""
    options = tyro.cli(Demo, args=arguments, prog="python -m menet_jax.demo")
    options.check()
    return options


def work(options: Demo) -> int:
    """Do it; the exit status."""
    use_huge_pages()

    from menet_jax.demo.command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Demo`."""
    return run_command(lambda: parse(arguments), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Show what a network makes of photographs, in a browser:  python -m menet_jax.demo [--run RUN]"""

import sys
from collections.abc import Sequence

from menet_jax.demo.options import Demo
from menet_jax.runtime.cli import run_options


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Demo`."""
    return run_options(arguments, {Demo: "menet_jax.demo.command"}, "menet_jax.demo")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

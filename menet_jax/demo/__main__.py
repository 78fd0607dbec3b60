"""Show what a network makes of photographs, in a browser:  python -m menet_jax.demo [--run RUN]"""

import sys
from functools import partial

from menet_jax.demo.options import Demo
from menet_jax.runtime.cli import run_options

main = partial(run_options, commands={Demo: "menet_jax.demo.command"}, module="menet_jax.demo")
"""Run the command with these arguments; its exit status, see `Demo`."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

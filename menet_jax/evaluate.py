"""Score runs and other methods' maps:  python -m menet_jax.evaluate --run RUN --data DATASET --dest FOLDER

or  python -m menet_jax.evaluate --maps NAME=FOLDER --masks FOLDER --dest FOLDER, or both at once.
"""

import sys
from collections.abc import Sequence

from menet_jax.evaluation.options import Evaluate
from menet_jax.runtime.cli import run_options


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Evaluate`."""
    return run_options(arguments, {Evaluate: "menet_jax.evaluation.evaluate_command"}, "menet_jax.evaluate")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

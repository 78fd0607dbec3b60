"""Score runs and other methods' maps:  python -m menet_jax.evaluate --run RUN --data DATASET --dest FOLDER

or  python -m menet_jax.evaluate --maps NAME=FOLDER --masks FOLDER --dest FOLDER, or both at once.
"""

import sys
from functools import partial

from menet_jax.evaluation.options import Evaluate
from menet_jax.runtime.cli import run_options

main = partial(run_options, commands={Evaluate: "menet_jax.evaluation.evaluate_command"}, module="menet_jax.evaluate")
"""Run the command with these arguments; its exit status, see `Evaluate`."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

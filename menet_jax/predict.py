"""Predict saliency maps:  python -m menet_jax.predict --run RUN --source FILE_OR_FOLDER --dest FOLDER"""

import sys
from collections.abc import Sequence

from menet_jax.evaluation.options import Predict
from menet_jax.runtime.cli import run_options


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Predict`."""
    return run_options(arguments, {Predict: "menet_jax.evaluation.predict_command"}, "menet_jax.predict")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

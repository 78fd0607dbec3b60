"""Predict saliency maps:  python -m menet_jax.predict --run RUN --source FILE_OR_FOLDER --dest FOLDER"""

import sys
from collections.abc import Sequence

from menet_jax.evaluation.options import Predict
from menet_jax.runtime.cli import run_options


def work(options: Predict) -> int:
    """Do it; the exit status."""
    from menet_jax.evaluation.predict_command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Predict`."""
    return run_options(arguments, Predict, "menet_jax.predict", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Predict saliency maps:  python -m menet_jax.predict --run RUN --source FILE_OR_FOLDER --dest FOLDER"""

import sys
from functools import partial

from menet_jax.evaluation.options import Predict
from menet_jax.runtime.cli import run_options

main = partial(run_options, commands={Predict: "menet_jax.evaluation.predict_command"}, module="menet_jax.predict")
"""Run the command with these arguments; its exit status, see `Predict`."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

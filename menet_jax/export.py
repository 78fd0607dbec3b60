"""A trained network as one file:  python -m menet_jax.export RUN --dest FILE [--format weights|stablehlo|onnx]"""

import sys
from functools import partial

from menet_jax.evaluation.options import Export
from menet_jax.runtime.cli import run_options

main = partial(run_options, commands={Export: "menet_jax.evaluation.export_command"}, module="menet_jax.export")
"""Run the command with these arguments; its exit status, see `Export`."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A trained network as one file:  python -m menet_jax.export RUN --dest FILE [--format weights|stablehlo|onnx]"""

import sys
from collections.abc import Sequence

from menet_jax.evaluation.options import Export
from menet_jax.runtime.cli import run_options


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Export`."""
    return run_options(arguments, {Export: "menet_jax.evaluation.export_command"}, "menet_jax.export")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Measure the robustness of runs:  python -m menet_jax.robustness COMMAND --run RUN --data DATASET

Commands: distortion, jacobian, bound, attack, smooth, summary.
"""

import sys
from collections.abc import Sequence

from menet_jax.robustness.options import Attack, Bound, Distortion, Jacobian, Smooth
from menet_jax.robustness.summary_options import Summary
from menet_jax.runtime.cli import run_options

COMMANDS = {
    Distortion: "menet_jax.robustness.distortion.command",
    Jacobian: "menet_jax.robustness.analysis.jacobian_command",
    Bound: "menet_jax.robustness.analysis.bound_command",
    Attack: "menet_jax.robustness.attack.command",
    Smooth: "menet_jax.robustness.smoothing.command",
    Summary: "menet_jax.robustness.summary",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, as its options say."""
    return run_options(arguments, COMMANDS, "menet_jax.robustness", "Measure how robust trained runs are.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

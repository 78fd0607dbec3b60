"""How robust runs are:  python -m menet_jax.robustness COMMAND --run RUN --data DATASET

Commands: distortion, jacobian, bound, attack, smooth, summary.
"""

import sys
from collections.abc import Sequence

from menet_jax.robustness.options import Attack, Bound, Distortion, Jacobian, Smooth
from menet_jax.robustness.summary_options import Summary
from menet_jax.runtime.cli import run_options

Options = Distortion | Jacobian | Bound | Attack | Smooth | Summary


def work(options: Options) -> int:
    """Do it; the exit status."""
    from menet_jax.robustness import summary
    from menet_jax.robustness.analysis import bound_command, jacobian_command
    from menet_jax.robustness.attack import command as attack_command
    from menet_jax.robustness.distortion import command as distortion_command
    from menet_jax.robustness.smoothing import command as smooth_command  # only now, for they import JAX

    match options:
        case Distortion():
            return distortion_command.run(options)
        case Jacobian():
            return jacobian_command.run(options)
        case Bound():
            return bound_command.run(options)
        case Attack():
            return attack_command.run(options)
        case Smooth():
            return smooth_command.run(options)
        case Summary():
            return summary.run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, as its options say."""
    return run_options(arguments, Options, "menet_jax.robustness", work, "Measure how robust trained runs are.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

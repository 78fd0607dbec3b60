"""How robust runs are:  python -m menet_jax.robustness COMMAND --run RUN --data DATASET

Commands: distortion, jacobian, bound, attack, smooth.
"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.robustness.options import Attack, Bound, Distortion, Jacobian, Smooth
from menet_jax.runtime.cli import refuse_repeats, run_command
from menet_jax.runtime.memory import use_huge_pages

Options = Distortion | Jacobian | Bound | Attack | Smooth


def parse(arguments: Sequence[str]) -> Options:
    """What a command line asks for; ValueError or OSError for what can be refused at once."""
    refuse_repeats(arguments, Distortion, Jacobian, Bound, Attack, Smooth)
    options: Options = tyro.extras.subcommand_cli_from_dict(
        {"distortion": Distortion, "jacobian": Jacobian, "bound": Bound, "attack": Attack, "smooth": Smooth},
        args=arguments,
        prog="python -m menet_jax.robustness",
        description="Measure how robust trained runs are.",
    )
    options.check()
    return options


def work(options: Options) -> int:
    """Do it; the exit status."""
    use_huge_pages()

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


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, as its options say."""
    return run_command(lambda: parse(arguments), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

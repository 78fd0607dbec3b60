"""How robust runs are:  python -m menet_jax.robustness distortion|jacobian|bound --run RUN --data DATASET"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax import bound_command, distortion_command, jacobian_command
from menet_jax.arguments import refuse_repeats


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, as its options say."""
    try:
        refuse_repeats(arguments, distortion_command.Distortion, jacobian_command.Jacobian, bound_command.Bound)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options = tyro.extras.subcommand_cli_from_dict(
        {
            "distortion": distortion_command.Distortion,
            "jacobian": jacobian_command.Jacobian,
            "bound": bound_command.Bound,
        },
        args=arguments,
        prog="python -m menet_jax.robustness",
        description="Measure how robust trained runs are.",
    )
    match options:
        case distortion_command.Distortion():
            return distortion_command.run(options)
        case jacobian_command.Jacobian():
            return jacobian_command.run(options)
        case bound_command.Bound():
            return bound_command.run(options)
    raise TypeError(f"no command takes {options!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

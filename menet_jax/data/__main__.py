"""Draw a training batch, and check datasets:  python -m menet_jax.data show|check"""

import sys
from collections.abc import Sequence

from menet_jax.data.options import Check, Show
from menet_jax.runtime.cli import run_options

COMMANDS = {Show: "menet_jax.data.show_command", Check: "menet_jax.data.check_command"}


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, as its options say."""
    return run_options(arguments, COMMANDS, "menet_jax.data", "Look at datasets.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The authors' weights in, ours out:  python -m menet_jax.authors import|export"""

import sys
from collections.abc import Sequence

from menet_jax.runtime.cli import run_options
from menet_jax.training.authors_options import Export, Import


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status, see `Import` and `Export`."""
    commands = dict.fromkeys((Import, Export), "menet_jax.training.authors_command")
    about = "The authors' weights as a run, and runs as weights for the authors' code."
    return run_options(arguments, commands, "menet_jax.authors", about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

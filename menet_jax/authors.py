"""The authors' weights in, ours out:  python -m menet_jax.authors import|export"""

import sys
from functools import partial

from menet_jax.runtime.cli import run_options
from menet_jax.training.authors_options import Export, Import

main = partial(
    run_options,
    commands=dict.fromkeys((Import, Export), "menet_jax.training.authors_command"),
    module="menet_jax.authors",
    description="The authors' weights as a run, and runs as weights for the authors' code.",
)
"""Run the command with these arguments; its exit status, see `Import` and `Export`."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

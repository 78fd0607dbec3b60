"""Draw the paper's figures of images:  python -m menet_jax.draw grid|scales|worst --data DATASET --dest FILE.png ...

`grid` compares the maps of runs and of other methods, on clean or on distorted images (Figures 6, 10 and 11);
`scales` shows the 13 scale maps of an image (Figure 8); `worst` the images on which a run fails (Figure 12).
"""

import sys
from collections.abc import Sequence

from menet_jax.evaluation.draw_options import Grid, Scales, Worst
from menet_jax.runtime.cli import run_options


def work(options: Grid | Scales | Worst) -> int:
    """Do it; the exit status."""
    from menet_jax.evaluation.draw_command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0; 2 for bad input or a figure that cannot be written."""
    return run_options(arguments, Grid | Scales | Worst, "menet_jax.draw", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

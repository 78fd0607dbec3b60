"""Draw the paper's figures of images:  python -m menet_jax.draw grid|scales|worst --data DATASET --dest FILE.png ...

`grid` compares the maps of runs and of other methods, on clean or on distorted images (Figures 6, 10 and 11);
`scales` shows the 13 scale maps of an image (Figure 8); `worst` the images on which a run fails (Figure 12).
"""

import sys
from functools import partial

from menet_jax.evaluation.draw_options import Grid, Scales, Worst
from menet_jax.runtime.cli import run_options

FIGURES = dict.fromkeys((Grid, Scales, Worst), "menet_jax.evaluation.draw_command")

main = partial(run_options, commands=FIGURES, module="menet_jax.draw")
"""Run the command with these arguments. Exit status: 0; 1 if the figure cannot be made; 2 for bad input."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

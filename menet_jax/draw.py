"""Draw the paper's figures of images:  python -m menet_jax.draw grid|scales|worst --data DATASET --dest FILE.png ...

`grid` compares the maps of runs and of other methods, on clean or on distorted images (Figures 6, 10 and 11);
`scales` shows the 13 scale maps of an image (Figure 8); `worst` the images on which a run fails (Figure 12).
"""

import sys
from collections.abc import Sequence

import tyro

from menet_jax.evaluation.draw_options import Grid, Scales, Worst
from menet_jax.runtime.cli import refuse_repeats, run_command
from menet_jax.runtime.memory import use_huge_pages


def parse(arguments: Sequence[str]) -> Grid | Scales | Worst:
    """What a command line asks for; ValueError or OSError for what can be refused at once."""
    refuse_repeats(arguments, Grid, Scales, Worst)
    options = tyro.cli(Grid | Scales | Worst, args=arguments, prog="python -m menet_jax.draw")
    options.check()
    return options


def work(options: Grid | Scales | Worst) -> int:
    """Do it; the exit status."""
    use_huge_pages()

    from menet_jax.evaluation.draw_command import run  # only now, for it imports JAX

    return run(options)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0; 2 for bad input or a figure that cannot be written."""
    return run_command(lambda: parse(arguments), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

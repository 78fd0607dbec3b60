"""What `python -m menet_jax.robustness summary` is told."""

from dataclasses import dataclass
from pathlib import Path

from menet_jax.evaluation.options import check_dest
from menet_jax.reporting.tables import RESULTS


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Put into one figure, and a table, what noise does to maps, what an attack found and what is certified.

    It reads what `attack` in l2, `smooth` and `bound` have written of the same runs and images, and computes nothing
    anew. Exit status: 0; 2 for bad input.
    """

    attack: Path
    """Folder that `attack --norm l2` has written."""
    smooth: Path
    """Folder that `smooth` has written."""
    bound: Path | None = None
    """Folder that `bound` has written; none given: without the bound of Eq. 13."""
    each_image: bool = False
    """Draw a figure of every image too, into the folder `images`, not of the means of a dataset alone."""
    dest: Path
    """Folder for the table, the figures and the numbers of every image."""
    overwrite: bool = False
    """Replace the results that --dest holds; their tables and figures are deleted."""

    def check(self) -> None:
        for flag, folder in (("attack", self.attack), ("smooth", self.smooth), ("bound", self.bound)):
            if folder:
                check_written(flag, folder)
                if folder.resolve() == self.dest.resolve():
                    raise ValueError(f"--dest {self.dest}: is --{flag}, which would be replaced; name another folder")
        check_dest(self.dest, self.overwrite)


def check_written(command: str, folder: Path) -> None:
    """Raise FileNotFoundError if that command has written nothing there; its flag is named."""
    if not (folder / RESULTS).is_file():
        raise FileNotFoundError(f"--{command} {folder}: holds no {RESULTS}; give what `robustness {command}` wrote")

"""Figures of results, readable at the width of one column and without colour: as PNG and as PDF."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure

from menet_jax.metrics import Curve

COLUMN = 3.4  # inches: the width of a column of a two-column page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito (2008)
DASHES = ("-", "--", "-.", ":")
LEGEND_CHARACTERS = 58  # of a line of the legend


@dataclass(frozen=True, eq=False)
class PrCurve:
    """Precision and recall at the thresholds t / 255, for t = 0 ... 255, and what to call them."""

    label: str
    precision: Curve
    recall: Curve


def pr_curves(curves: Sequence[PrCurve], title: str, stem: Path) -> list[Path]:
    """Draw precision over recall, one line a curve, and write `<stem>.png` and `<stem>.pdf`.

    Colour and dashes change together: four curves differ without colour, and 28 in one or the other.

    Returns:
        the files written.
    """
    wrapper = textwrap.TextWrapper(LEGEND_CHARACTERS, subsequent_indent="  ", break_on_hyphens=False)
    lines = [wrapper.fill(curve.label) for curve in curves]
    legend_height = 0.12 * sum(line.count("\n") + 1 for line in lines) + 0.1
    figure = Figure(figsize=(COLUMN, 2.6 + legend_height), layout="constrained")
    axes = figure.add_subplot()
    for curve, line, colour, dashes in zip(curves, lines, cycle(COLOURS), cycle(DASHES), strict=False):
        axes.plot(curve.recall, curve.precision, color=colour, linestyle=dashes, linewidth=1.3, label=line)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("recall", fontsize=8)
    axes.set_ylabel("precision", fontsize=8)
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(color="0.88", linewidth=0.5)
    figure.legend(loc="outside lower left", fontsize=6, frameon=False, handlelength=3)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    figure.savefig(files[0], dpi=300)
    figure.savefig(files[1], metadata={"CreationDate": None})  # the same numbers give the same file
    return files

"""Curves of results, readable at the width of one column and without colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.figure import Figure

from menet_jax.metrics.scores import Curve
from menet_jax.reporting.plots.page import COLOURS, COLUMN, DASHES, SMALL, TICK, TITLE, wrapped

LINE_HEIGHT = 0.12  # inches of one line of the legend
LEGEND_TEXT = COLUMN - 0.5  # inches beside the sample lines of the legend


@dataclass(frozen=True, eq=False)
class PrCurve:
    """Precision and recall at the thresholds t / 255, for t = 0 ... 255, and their label in the legend."""

    label: str
    precision: Curve
    recall: Curve


def pr_curves(curves: Sequence[PrCurve], title: str) -> Figure:
    """Precision over recall, one line a curve (Figures 5 and 7)."""
    lines = [wrapped(curve.label, LEGEND_TEXT) for curve in curves]
    legend_height = LINE_HEIGHT * sum(line.count("\n") + 1 for line in lines) + 0.1
    figure = Figure(figsize=(COLUMN, 2.6 + legend_height), layout="constrained")
    axes = figure.add_subplot()
    drawn = [
        axes.plot(curve.recall, curve.precision, color=colour, linestyle=dashes, linewidth=1.3)[0]
        for curve, colour, dashes in zip(curves, cycle(COLOURS), cycle(DASHES), strict=False)
    ]
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("recall", fontsize=TITLE)
    axes.set_ylabel("precision", fontsize=TITLE)
    axes.set_title(title, fontsize=TITLE)
    axes.tick_params(labelsize=TICK)
    axes.grid(color="0.88", linewidth=0.5)
    # Without handles, matplotlib would leave out a label that begins with an underscore.
    figure.legend(drawn, lines, loc="outside lower left", fontsize=SMALL, frameon=False, handlelength=3)
    return figure

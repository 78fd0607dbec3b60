"""Figure 9: scores over the strength of a distortion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from menet_jax.images.distortions import Scale
from menet_jax.reporting.plots.curves import LEGEND_TEXT, LINE_HEIGHT
from menet_jax.reporting.plots.page import COLOURS, COLUMN, DASHES, SMALL, TICK, TITLE, wrapped

SPAN = 0.1
"""Scores between the lower and the upper end of an axis, at least."""

MARKERS = "os^Dv"


@dataclass(frozen=True)
class StrengthCurve:
    """Scores of one method on one dataset.

    Attributes:
        label: what to call it.
        clean: adaptive F and MAE without distortion.
        distorted: for each kind of distortion, strength → adaptive F and MAE, in the order in which distortion grows.
    """

    label: str
    clean: tuple[float, float]
    distorted: Mapping[Scale, Mapping[float | int, tuple[float, float]]]


def strength_curves(curves: Sequence[StrengthCurve], title: str) -> Figure:
    """Adaptive F and MAE over the strength of each kind of distortion, one line a curve (Figure 9).

    Distortion grows to the right. The thin dotted lines are the scores without any. Scores span `SPAN` at
    least, lest a change of no account fill the figure.
    """
    labels = [wrapped(curve.label, LEGEND_TEXT) for curve in curves]
    legend_height = LINE_HEIGHT * (sum(label.count("\n") + 1 for label in labels) + 1) + 0.1
    figure = Figure(figsize=(COLUMN, 3.0 + legend_height), layout="constrained")
    scales = list(dict.fromkeys(scale for curve in curves for scale in curve.distorted))
    panels = figure.subplots(2, len(scales), sharex="col", sharey="row", squeeze=False)
    for (row, score), (column, scale) in product(enumerate(("adaptive F", "MAE")), enumerate(scales)):
        panel = panels[row, column]
        lines = list[Line2D]()
        # Colour, dashes and marker change together: lines differ without colour too.
        for curve, colour, dashes, marker in zip(curves, cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False):
            points = curve.distorted.get(scale, {})
            panel.axhline(curve.clean[row], color=colour, linestyle=":", linewidth=0.7)
            [line] = panel.plot(list(points), [scores[row] for scores in points.values()], color=colour)
            line.set(linestyle=dashes, marker=marker, linewidth=1.2, markersize=2.5)
            lines.append(line)
        panel.tick_params(labelsize=SMALL)
        panel.grid(color="0.88", linewidth=0.5)
        if column == 0:
            panel.set_ylabel(score, fontsize=TICK)
        if row == 1:
            panel.set_xlabel(scale.name, fontsize=TICK)
    for row in panels:
        low, high = row[0].get_ylim()
        margin = max(0.0, SPAN - (high - low)) / 2
        row[0].set_ylim(low - margin, high + margin)
    for panel, scale in zip(panels[0], scales, strict=True):
        if scale.falling:
            panel.invert_xaxis()  # and of the panel below, which shares it
    figure.suptitle(title, fontsize=TITLE)
    clean = Line2D([], [], color="0.4", linestyle=":", linewidth=0.7)
    handles, labels = [*lines, clean], [*labels, "without distortion"]  # lines of one panel, for all look the same
    figure.legend(handles, labels, loc="outside lower left", fontsize=SMALL, frameon=False, handlelength=3)
    return figure

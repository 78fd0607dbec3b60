"""Scores over the strength of a change: noise, compression, and the worst that was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from menet_jax.reporting.plots.curves import LEGEND_TEXT
from menet_jax.reporting.plots.page import COLOURS, COLUMN, SMALL, TICK, TITLE, wrapped


@dataclass(frozen=True)
class GainCurve:
    """Mean adaptive F of one run: without any change, and by the strength of noise, attack and compression."""

    label: str
    clean: float
    noise: Mapping[float, float]
    attack: Mapping[float, float]
    jpeg: Mapping[float, float]


STYLES: dict[str, dict[str, Any]] = {
    "noise": {"linestyle": ":", "marker": "o", "markersize": 2.5, "linewidth": 1.2},
    "jpeg": {"linestyle": "--", "marker": "s", "markersize": 2.5, "linewidth": 1.2},
    "attack": {"linestyle": "-", "marker": "v", "markersize": 2.5, "linewidth": 1.2},
}
"""Line styles by the kind of change."""


def attack_curves(curves: Sequence[GainCurve], title: str, axis: str) -> Figure:
    """Adaptive F over the strength of a change, a colour for each run, dashes for each kind of change."""
    figure = Figure(figsize=(COLUMN, 2.6 + 0.12 * (len(curves) + len(STYLES))), layout="constrained")
    axes = figure.subplots()
    for curve, colour in zip(curves, cycle(COLOURS), strict=False):
        for kind, style in STYLES.items():
            points = {0.0: curve.clean, **dict(sorted(getattr(curve, kind).items()))}
            axes.plot(list(points), list(points.values()), color=colour, **style)
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color="0.88", linewidth=0.5)
    axes.set_xlabel(axis, fontsize=TICK)
    axes.set_ylabel("adaptive F", fontsize=TICK)
    weakest = min((strength for curve in curves for strength in curve.attack), default=1.0)
    furthest = max((s for curve in curves for kind in STYLES for s in getattr(curve, kind)), default=1.0)
    axes.set_xscale("symlog", linthresh=weakest)
    axes.set_xlim(-weakest / 10, 1.3 * furthest)  # from 0, with room for its marker
    handles = [
        Line2D([], [], color=colour, linewidth=1.2, label=wrapped(curve.label, LEGEND_TEXT))
        for curve, colour in zip(curves, cycle(COLOURS), strict=False)
    ]
    handles += [Line2D([], [], color="0.4", label=kind, **style) for kind, style in STYLES.items()]
    figure.legend(handles=handles, loc="outside lower left", fontsize=SMALL, frameon=False, handlelength=3)
    figure.suptitle(title, fontsize=TITLE)
    return figure

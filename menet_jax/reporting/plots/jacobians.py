"""Figures of Jacobians: norms by dataset, norms against what images lose, sensitivity maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from menet_jax.metrics.correlation import RankCorrelation
from menet_jax.reporting.plots.page import COLOURS, COLUMN, SMALL, TICK, TITLE

CLIP = 99.5
"""Percentile of a sensitivity map that is drawn as the brightest: a few pixels would leave the rest dark."""


@dataclass(frozen=True)
class Box:
    """Values of the images of one dataset, and what to call it."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Scatter:
    """Norms of images, what each loses, and how these go together; None where that is not defined."""

    norms: tuple[float, ...]
    losses: tuple[float, ...]
    correlation: RankCorrelation | None


@dataclass(frozen=True, eq=False)
class SensitivityRow:
    """An image with its maps, all of one size, and what to write beside it."""

    note: str
    image: UInt8[np.ndarray, "h w 3"]
    saliency: Float[np.ndarray, "h w"]
    input: Float[np.ndarray, "h w"]
    output: Float[np.ndarray, "h w"]


def norm_boxes(boxes: Mapping[str, Sequence[Box]], unit: str) -> Figure:
    """Box plots (quartiles, whiskers to the lowest and highest) with a point for each image; a panel for each norm."""
    count = max(map(len, boxes.values()))
    figure = Figure(figsize=(COLUMN, 0.55 + len(boxes) * (0.45 + 0.34 * count)), layout="constrained")
    for axes, (norm, group) in zip(figure.subplots(len(boxes), squeeze=False)[:, 0], boxes.items(), strict=True):
        places = np.arange(len(group))[::-1]
        axes.boxplot(
            [box.values for box in group],
            positions=places,
            orientation="horizontal",
            widths=0.5,
            whis=(0, 100),
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.2},
            boxprops={"linewidth": 0.7},
            whiskerprops={"linewidth": 0.7},
            capprops={"linewidth": 0.7},
        )
        for place, box, colour in zip(places, group, cycle(COLOURS), strict=False):
            # Points of one value side by side: spread by rank, the same each time.
            spread = 0.32 * ((np.argsort(np.argsort(box.values)) * 0.618034) % 1 - 0.5)
            axes.plot(box.values, place + spread, "o", color=colour, markersize=2.6, alpha=0.75, markeredgewidth=0)
        _logarithmic(axes, [value for box in group for value in box.values])
        axes.set_yticks(places, [f"{box.label} ({len(box.values)})" for box in group], fontsize=SMALL)
        axes.set_ylim(-0.6, len(group) - 0.4)
        axes.set_title(f"{norm} norm", fontsize=TITLE)
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.grid(axis="x", which="both", color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
    figure.supxlabel(unit, fontsize=TICK)
    return figure


def norms_against_losses(scatters: Mapping[tuple[str, str], Scatter], unit: str, title: str) -> Figure:
    """Each image's norm against the adaptive F that it loses; rows are norms, columns distortions.

    `scatters` is (norm, distortion) → points, for every norm with every distortion; `unit` is the norms'.
    """
    norms, distortions = (list(dict.fromkeys(names)) for names in zip(*scatters, strict=True))
    figure = Figure(figsize=(COLUMN, 0.6 + 1.5 * len(norms)), layout="constrained")
    panels = figure.subplots(len(norms), len(distortions), squeeze=False, sharey="row", sharex="row")
    for (norm, distortion), scatter in scatters.items():
        row, column = norms.index(norm), distortions.index(distortion)
        axes = panels[row, column]
        axes.axhline(0, color="0.5", linewidth=0.6)
        axes.plot(scatter.norms, scatter.losses, "o", color=COLOURS[column], markersize=3, alpha=0.8, markeredgewidth=0)
        _logarithmic(axes, scatter.norms)
        axes.tick_params(labelsize=SMALL)
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        head = f"{distortion}\n" if row == 0 else ""
        axes.set_title(head + _told(scatter.correlation), fontsize=SMALL)
        axes.set_xlabel(f"{norm} norm", fontsize=SMALL)
        if column == 0:
            axes.set_ylabel("adaptive F lost", fontsize=SMALL)
    figure.suptitle(title, fontsize=TITLE)
    figure.supxlabel(unit, fontsize=SMALL)
    return figure


def sensitivity_maps(rows: Sequence[SensitivityRow], title: str) -> Figure:
    """Images with their map and both sensitivity maps, each over its own range up to its 99.5 % quantile."""
    headings = ("image", "map", "input\nsensitivity", "output\nsensitivity")
    cell = (COLUMN - 0.55) / len(headings)
    figure = Figure(figsize=(COLUMN, 0.65 + (cell + 0.1) * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(headings), squeeze=False)
    for axes_of_row, row in zip(panels, rows, strict=True):
        axes_of_row[0].imshow(row.image)
        axes_of_row[1].imshow(row.saliency, cmap="gray")
        for axes, values in ((axes_of_row[2], row.input), (axes_of_row[3], row.output)):
            axes.imshow(heat(values))
            axes.set_xlabel(f"{brightest(values):.2g}", fontsize=5.5, labelpad=1)
        axes_of_row[0].set_ylabel(row.note, fontsize=5.5)
    for axes, heading in zip(panels[0], headings, strict=True):
        axes.set_title(heading, fontsize=SMALL)
    for axes in panels.ravel():
        axes.set(xticks=(), yticks=())
        axes.spines[:].set(linewidth=0.3, color="0.5")
    figure.suptitle(title, fontsize=TICK)
    figure.supxlabel("sensitivity: black 0, brightest the number below and more", fontsize=5.5)
    return figure


def heat(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A sensitivity map in colours: black at 0, and as bright as can be at `brightest(values)` and above."""
    return np.asarray(colormaps["inferno"](np.clip(values / brightest(values), 0, 1), bytes=True))[..., :3]


def brightest(values: Float[np.ndarray, "h w"]) -> float:
    """The brightest value of the drawing of a sensitivity map: its 99.5 % quantile, or 1 where that is 0."""
    return float(np.percentile(values, CLIP)) or 1.0


def _told(correlation: RankCorrelation | None) -> str:
    if correlation is None:
        return "no correlation: too few images, or all alike"
    known = correlation.low is not None and correlation.high is not None
    interval = f"95 %: {correlation.low:.2f} … {correlation.high:.2f}" if known else "no interval of |ρ| = 1"
    return f"ρ = {correlation.rho:.2f}, p = {correlation.p:.2g}\n{interval}"


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers, where values are positive and spread."""
    if min(values) > 0 and max(values) > 2 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())

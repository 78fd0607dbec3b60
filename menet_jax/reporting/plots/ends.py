"""Effects on maps over the length of a change: of noise, of the worst change found, and the certified limit."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from menet_jax.reporting.plots.page import COLOURS, COLUMN, SMALL, TICK, TITLE

NOISE, ATTACK, CERTIFICATE = COLOURS[:3]


@dataclass(frozen=True)
class EndsCurves:
    """Curves of one run on one dataset, means over images; each is strength → value, in rising order.

    Attributes:
        noise_moved, attack_moved: root mean square change of the map.
        slope: what the Jacobian's norm makes of a short change (Eq. 11).
        noise_flipped, attack_flipped: share of the pixels that change class.
        certificate: share of the pixels that may change class at most.
        bound: slope that no change exceeds at any image (Eq. 13); None: not known.
    """

    noise_moved: Mapping[float, float]
    attack_moved: Mapping[float, float]
    slope: Mapping[float, float]
    noise_flipped: Mapping[float, float]
    attack_flipped: Mapping[float, float]
    certificate: Mapping[float, float]
    bound: float | None


def ends_curves(curves: EndsCurves, title: str) -> Figure:
    """Two panels over the strength of a change: how far maps move, and how many of their pixels change class."""
    figure = Figure(figsize=(2 * COLUMN, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*_points(curves.noise_moved), "o-", color=NOISE, label="noise: mean")
    left.plot(*_points(curves.attack_moved), "v-", color=ATTACK, label="attack: at least")
    left.plot(*_points(curves.slope), ":", color="0.2", label="‖J‖₂ · ‖Δ‖ (Eq. 11): short changes")
    ends = left.axhline(1, color="0.6", label="all black to all white")
    left.set_ylabel("change of the map, rms", fontsize=TICK)
    if curves.bound is not None:
        left.set_title(f"Eq. 13: at most {curves.bound:.1e} for each gray level", fontsize=TICK)
    right.plot(*_points(curves.noise_flipped), "o-", color=NOISE, label="noise: mean")
    right.plot(*_points(curves.attack_flipped), "v-", color=ATTACK, label="attack: at least")
    right.plot(*_points(curves.certificate), "s-", color=CERTIFICATE, label="certificate, smoothed map: at most")
    right.set_ylabel("share of pixels that change class", fontsize=TICK)
    for panel in (left, right):
        if any(len(line.get_xydata()) for line in panel.lines if line is not ends):  # of no point there is no logarithm
            panel.set(xscale="log", yscale="log")
        panel.set_xlabel("length of the change, as σ of noise of that length", fontsize=TICK)
        panel.tick_params(labelsize=SMALL)
        panel.grid(color="0.88", linewidth=0.5)
        for line in panel.lines:
            line.set(markersize=3, linewidth=1.2)
        panel.legend(fontsize=SMALL, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.25))
    figure.suptitle(title, fontsize=TITLE)
    return figure


def _points(curve: Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Strengths and values; a logarithmic axis has no place for a value of 0."""
    points = [(strength, value) for strength, value in curve.items() if value > 0]
    return [strength for strength, _ in points], [value for _, value in points]

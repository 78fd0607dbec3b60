"""Figures for a paper: each function takes numbers or images and returns a matplotlib figure, `save` writes it.

`page` holds what all have in common, one module a kind of figure the rest.
"""

from menet_jax.reporting.plots.comparisons import comparison, failures
from menet_jax.reporting.plots.curves import PrCurve, pr_curves
from menet_jax.reporting.plots.ends import EndsCurves, ends_curves
from menet_jax.reporting.plots.jacobians import (
    Box,
    Scatter,
    SensitivityRow,
    norm_boxes,
    norms_against_losses,
    sensitivity_maps,
)
from menet_jax.reporting.plots.page import save
from menet_jax.reporting.plots.rows import Row, gray, image_rows
from menet_jax.reporting.plots.scales import scale_maps
from menet_jax.reporting.plots.strengths import StrengthCurve, strength_curves
from menet_jax.reporting.plots.worst_cases import GainCurve, attack_curves

__all__ = [
    "Box",
    "EndsCurves",
    "GainCurve",
    "PrCurve",
    "Row",
    "Scatter",
    "SensitivityRow",
    "StrengthCurve",
    "attack_curves",
    "comparison",
    "ends_curves",
    "failures",
    "gray",
    "image_rows",
    "norm_boxes",
    "norms_against_losses",
    "pr_curves",
    "save",
    "scale_maps",
    "sensitivity_maps",
    "strength_curves",
]

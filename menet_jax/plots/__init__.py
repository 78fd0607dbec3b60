"""Figures for a paper: each function takes numbers or images and returns a matplotlib figure, `save` writes it.

`page` holds what all have in common, one module a kind of figure the rest.
"""

from menet_jax.plots.curves import PrCurve, pr_curves
from menet_jax.plots.page import save

__all__ = ["PrCurve", "pr_curves", "save"]

"""What certification leaves behind: a table, the numbers of every image, and certified maps."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from menet_jax.reporting.tables import Score, Table
from menet_jax.robustness.analysis.loop import Analysis
from menet_jax.robustness.analysis.report import grouped, record
from menet_jax.robustness.attack.ascent import L2
from menet_jax.robustness.options import SmoothSettings
from menet_jax.robustness.smoothing.measurement import Certified, Measurement

Found = Sequence[Analysis[Measurement]]


def table(analyses: Found, settings: SmoothSettings) -> Table:
    """A row for each map, noise and threshold of each run on each dataset."""
    scores = {
        "share": Score(
            "certified", "share of the pixels that no change shorter than the radius changes; Holm's correction"
        ),
        "share_bonferroni": Score("Bonferroni", "the same with Bonferroni's correction"),
        "certified_f": Score(
            "certified F",
            "F of the certified map, abstentions counted as wrong; the smoothed map's is no lower within the radius",
        ),
        "smoothed_f": Score("smoothed F", "F of the smoothed map"),
        "clean_f": Score("clean F", "F of the map without noise, thresholded in the same way"),
        "samples": Score("samples", "mean number drawn, until all pixels were decided", None, ".0f"),
    }
    records = []
    for analysis in analyses:
        rows: dict[tuple[str, float, float, float], list[Certified]] = {}
        for image in analysis.images:
            for each in image.certified:
                rows.setdefault((each.map, each.sigma, each.threshold, each.radius), []).append(each)
        for (kind, sigma, threshold, radius), several in rows.items():
            labels = {"map": kind, "σ": f"{sigma:g}", "τ": f"{threshold:g}", "radius": f"{radius:.3g}"}
            numbers = {
                score.name: float(np.mean([getattr(each, name) for each in several])) for name, score in scores.items()
            }
            records.append(record(analysis, f"{sigma:g} {threshold:g}", labels, numbers))
    title = (
        f"Certified segmentation by randomised smoothing: {settings.samples} samples, wrong for an image with a\n"
        f"probability of at most {settings.risk:g}; radius in gray levels, L2 over all values of the network's image"
    )
    return Table("smooth", title, grouped(records), list(scores.values()))


def image_rows(analyses: Found) -> list[dict[str, Any]]:
    """A line for each image, map, noise and threshold."""
    return [
        {
            "dataset": analysis.dataset.name,
            "run": analysis.run.name,
            "image": image.image,
            "strength": each.radius / L2.gray_level(3 * analysis.run.trained.config.data.size**2),
            **asdict(each),
        }
        for analysis in analyses
        for image in analysis.images
        for each in image.certified
    ]

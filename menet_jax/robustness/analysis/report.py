"""Results of an analysis of Jacobians: Eq. 11, Eq. 12 and Table III, and the numbers of every image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure

from menet_jax.metrics.correlation import RankCorrelation, rank_correlation
from menet_jax.reporting import published, tables
from menet_jax.reporting.files import write_results
from menet_jax.reporting.plots.jacobians import Box, Scatter, norm_boxes, norms_against_losses
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.robustness.analysis.inputs import RULE
from menet_jax.robustness.analysis.loop import Analysis
from menet_jax.robustness.analysis.measurement import Measurement, Reaction
from menet_jax.robustness.jacobian.norms import QUANTILES, summarise
from menet_jax.robustness.jacobian.sensitivity import GradientStatistics, mean_statistics
from menet_jax.robustness.options import Settings
from menet_jax.runtime.text import complain, say

T = TypeVar("T")

UNITS = {
    "probability": "probability per gray level",
    "logit_margin": "logit margin per gray level",
    "metric": "metric map's units (0 … 1) per gray level",
}

NOISE = "both, as in the paper: rounding noise"

Number = Callable[[Measurement], float]

NORMS: dict[str, Number] = {"spectral": lambda image: image.spectral, "Frobenius": lambda image: image.frobenius}

QUANTILE_NAMES = dict(zip(QUANTILES, ("min", "5%", "25%", "median", "75%", "95%", "max"), strict=True))


def norms(analyses: Sequence[Analysis[Measurement]], settings: Settings) -> Table:
    """Eq. 11: a row for each norm of each run on each dataset."""
    unit, names = UNITS[settings.map], QUANTILE_NAMES.values()
    words = {"min": "lowest", "median": "median", "max": "highest"}
    scores = [
        Score("mean", f"mean over images, the robustness of Eq. 11; {unit}", lower_is_better=True, form=".4g"),
        Score("s.e.", "standard error of the mean over images; none of a single image", None, ".2g"),
        *(Score(name, f"{words.get(name, f'{name} quantile')} of the images", None, ".3g") for name in names),
    ]
    records = []
    for analysis, norm in product(analyses, NORMS):
        converged = [
            image.spectral_converged if norm == "spectral" else image.frobenius_converged for image in analysis.images
        ]
        labels = {"map": settings.map, "norm": norm, "converged": f"{sum(converged)}/{len(converged)}"}
        numbers = dict[str, float]()
        if analysis.images:
            found = summarise([NORMS[norm](image) for image in analysis.images])
            numbers = {"mean": found.mean} | {QUANTILE_NAMES[q]: value for q, value in found.quantiles.items()}
            numbers |= {} if found.standard_error is None else {"s.e.": found.standard_error}
        # A spectral norm that has not converged is a lower bound: it must not win against one that has.
        records.append(record(analysis, norm, labels, numbers, trusted=all(converged)))
    title = f"Robustness (Eq. 11): norms of the Jacobian of the {settings.map}"
    return Table("norms", title, grouped(records), scores)


def directions(analyses: Sequence[Analysis[Measurement]], settings: Settings) -> Table:
    """Eq. 12: a row for each distortion of each run on each dataset."""
    numbers: dict[str, Callable[[Reaction], float | None]] = {
        "distance": lambda reaction: reaction.distance,
        "finite": lambda reaction: reaction.finite,
        "infinitesimal": lambda reaction: reaction.infinitesimal,
    }
    limit = "mean of ‖J·Δ/‖Δ‖‖, its limit for small errors in the same directions"
    scores = [
        Score("distance", "mean ‖Δ‖ in gray levels", None, ".4g"),
        Score("finite", "mean of ‖F(x+Δ) − F(x)‖ / ‖Δ‖ (Eq. 12)", lower_is_better=True, form=".4g"),
        Score("finite s.e.", "standard error of finite over images", None, ".2g"),
        Score("infinitesimal", limit, lower_is_better=True, form=".4g"),
        Score("infinitesimal s.e.", "standard error of infinitesimal over images", None, ".2g"),
        Score("F clean", "mean adaptive F of the clean images' maps"),
        Score("F lost", "mean of each image's adaptive F less that of its distorted versions", lower_is_better=True),
    ]
    records = []
    for analysis, name in product(analyses, settings.distortions):
        row, reactions = dict[str, float](), [image.reactions[name] for image in analysis.images]
        for heading, number in numbers.items():
            if values := [value for reaction in reactions if (value := number(reaction)) is not None]:
                found = summarise(values)
                row[heading] = found.mean
                row |= {} if found.standard_error is None else {f"{heading} s.e.": found.standard_error}
        if analysis.images:
            row["F clean"] = summarise([image.adaptive_f for image in analysis.images]).mean
            row["F lost"] = summarise([reaction.loss_of_f for reaction in reactions]).mean
        distortion, draws = settings.distortions[name]
        labels = {
            "map": settings.map,
            "distortion": distortion.label,
            "draws": f"{draws}",
            "unchanged": f"{sum(reaction.distance is None for reaction in reactions)}",
        }
        records.append(record(analysis, name, labels, row))
    title = "Reaction to distortions (Eq. 12), finite and infinitesimal, over the same directions"
    return Table("directions", title, grouped(records), scores)


def correlations(analyses: Sequence[Analysis[Measurement]]) -> Table:
    """Correlation of the norm with the loss of F over images: a row for each norm and distortion."""
    scores = [
        Score("rho", "Spearman's rank correlation, over images, of the norm and of the F lost", None, ".3f"),
        Score(
            "low",
            "lower end of its 95 % confidence interval (Bonett and Wright); none of a rho of 1 or -1",
            None,
            ".3f",
        ),
        Score("high", "upper end", None, ".3f"),
        Score("p", "two-sided p-value of a permutation test", None, ".2g"),
    ]
    records = []
    for analysis in analyses:
        names = list(analysis.images[0].reactions) if analysis.images else []
        for name, norm in product(names, NORMS):
            label, numbers = f"{norm} (too few images, or all alike)", dict[str, float]()
            if (found := correlation(analysis, norm, name)) is not None:
                label, numbers = norm, {"rho": found.rho, "p": found.p}
                if found.low is not None and found.high is not None:
                    numbers |= {"low": found.low, "high": found.high}
            records.append(record(analysis, name, {"norm": label, "F lost to": name}, numbers))
    return Table("correlations", "Are images with larger norms more fragile?", grouped(records), scores)


def correlation(analysis: Analysis[Measurement], norm: str, distortion: str) -> RankCorrelation | None:
    """Rank correlation of a norm and the F lost to a distortion; None where there are too few images."""
    return rank_correlation(
        [NORMS[norm](image) for image in analysis.images],
        [image.reactions[distortion].loss_of_f for image in analysis.images],
    )


def table_iii(analyses: Sequence[Analysis[Measurement]], with_published: bool) -> Table:
    """Table III, as the authors' script computes it and of the salient channel; then the paper's own, where it has any.

    The paper's are named as what they are, too: rounding noise.
    """
    kinds: dict[str, Callable[[Measurement], GradientStatistics]] = {
        NOISE: lambda image: image.constant_gradient,
        "salient": lambda image: image.salient_gradient,
    }
    scores = [Score(name, f"{name} of |g| over pixels, mean over images", None, ".2e") for name in _STATISTICS]
    records = []
    for analysis, (kind, statistics) in product(analyses, kinds.items()):
        found = mean_statistics([statistics(image) for image in analysis.images])._asdict() if analysis.images else {}
        records.append(record(analysis, "", {"channels summed": kind}, found))
    for dataset in {analysis.dataset.truth: analysis.dataset for analysis in analyses if with_published}.values():
        for row in published.rows(dataset.published or "", ["table_3"]):
            labels = {
                "dataset": dataset.name,
                "run": row.method,
                "channels summed": NOISE,
                "images": tables.ABSENT,
                "of": tables.ABSENT,
                "source": f"published, {row.source}",
            }
            records.append(Record(f"{dataset.truth} ", labels, row.values, competes=False))
    title = (
        "Table III: gradient g of the summed probabilities by the image, at 352². The two channels sum to 1, so the\n"
        "sum over both is a constant and its gradient 0: what is computed of it, and was published, is the size of\n"
        "float32 rounding. The salient channel alone says something"
    )
    return Table("table_iii", title, grouped(records), scores)


def leave(
    dest: Path | None,
    written: Sequence[Table],
    images: Sequence[Mapping[str, Any]],
    draw: Callable[[Path], Sequence[tuple[str, Figure]]],
    *,
    settings: Mapping[str, Any],
    failures: Sequence[str],
    notes: Sequence[str] = (),
    of: str = "images",
) -> int:
    """Print tables, write everything, and say what failed; the exit status of a command that measures images.

    Args:
        dest: folder to write to, which exists: each table as `<stem>.csv`, `.md` and `.tex`, all of them with their
            settings and what failed in `results.json`, the numbers of every image in `images.csv`, and the figures;
            None: nothing is written.
        written, images: the tables, and a line for each image.
        draw: gives the figures, each with its stem; what it keeps for another time goes into the folder.
        settings: what was measured with.
        failures: what could not be measured.
        notes: what is to be known of the tables, a line each.
        of: what failed.
    """
    say(*(f"\n{table.text()}" for table in written), *notes)
    if dest:
        content = {
            "settings": settings,
            "images_chosen": RULE,
            "failures": list(failures),
            "tables": {table.stem: table.content() for table in written},
        }
        files = write_results(dest, written, images, draw(dest), content)
        say(f"wrote {', '.join(path.name for path in files)} to {dest}")
    if failures:
        complain(f"{len(failures):,} {of} could not be measured:", failures)
    return 1 if failures else 0


def image_rows(analyses: Sequence[Analysis[Measurement]], settings: Settings) -> list[dict[str, Any]]:
    """A line for each image; what there is not is empty."""
    rows = []
    pairs = [(analysis, image) for analysis in analyses for image in analysis.images]
    for analysis, image in pairs:
        row: dict[str, Any] = {
            "dataset": analysis.dataset.name,
            "run": analysis.run.name,
            "source": analysis.run.source,
            "map": settings.map,
            **{name: value for name, value in asdict(image).items() if not isinstance(value, dict | tuple)},
        }
        for name, reaction in image.reactions.items():
            row |= {f"{name}_{field}": value for field, value in asdict(reaction).items()}
        for kind in ("constant_gradient", "salient_gradient"):
            row |= {f"{kind}_{field}": value for field, value in getattr(image, kind)._asdict().items()}
        rows.append(row)
    return rows


def figures(analyses: Sequence[Analysis[Measurement]], settings: Settings) -> list[tuple[str, Figure]]:
    """`norms`, by dataset, and `fragility_<run>_<dataset>`, each image's norm against the F that it loses."""
    measured = [analysis for analysis in analyses if analysis.images]
    if not measured:
        return []
    several = len({analysis.run.name for analysis in measured}) > 1
    boxes = {
        norm: [
            Box(
                f"{analysis.dataset.name}\n{analysis.run.name}" if several else analysis.dataset.name,
                tuple(NORMS[norm](image) for image in analysis.images),
            )
            for analysis in measured
        ]
        for norm in NORMS
    }
    drawn = [("norms", norm_boxes(boxes, UNITS[settings.map]))]
    for analysis in measured:
        stem = f"fragility_{analysis.run.name}_{analysis.dataset.name}"
        scatters = {
            (norm, settings.distortions[name][0].label): Scatter(
                tuple(NORMS[norm](image) for image in analysis.images),
                tuple(image.reactions[name].loss_of_f for image in analysis.images),
                correlation(analysis, norm, name),
            )
            for norm, name in product(NORMS, settings.distortions)
        }
        title = f"{analysis.run.name} on {analysis.dataset.name}, {settings.map}, {len(analysis.images)} images"
        drawn.append((stem, norms_against_losses(scatters, UNITS[settings.map], title)))
    return drawn


_STATISTICS = GradientStatistics._fields


def record(
    analysis: Analysis[Any],
    group: str,
    labels: dict[str, str],
    numbers: dict[str, float],
    *,
    trusted: bool = True,
) -> Record:
    """A row; it competes for the best where all images were measured and its numbers can be trusted."""
    measured, chosen = len(analysis.images), len(analysis.places)
    mark = analysis.run.mark(analysis.dataset, {image.image for image in analysis.images})
    everything = {
        "dataset": analysis.dataset.name,
        "run": analysis.run.name,
        **labels,
        "images": (f"{measured}" if measured == chosen else f"{measured}/{chosen}") + mark,
        "of": f"{analysis.dataset.images}",
        "source": analysis.run.source,
    }
    whole = measured == chosen and measured > 0
    return Record(f"{analysis.dataset.truth} {group}", everything, numbers, competes=whole and trusted)


def evenly(ranked: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, at equal steps from the first to the last."""
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def grouped(records: Sequence[Record]) -> list[Record]:
    """Records of one group one after the other, in order of first appearance."""
    order = list(dict.fromkeys(record.group for record in records))
    return sorted(records, key=lambda record: order.index(record.group))

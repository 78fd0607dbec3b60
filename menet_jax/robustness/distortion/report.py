"""Results of a study of distortions: Table II, all strengths, scores of every image, Figure 9."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from menet_jax.evaluation.inputs import Dataset
from menet_jax.evaluation.report import SCORES as EVALUATION_SCORES
from menet_jax.images.distortions import Scale
from menet_jax.reporting import published
from menet_jax.reporting.files import write_results
from menet_jax.reporting.plots.strengths import StrengthCurve, strength_curves
from menet_jax.reporting.seeds import over_seeds
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.robustness.distortion.study import Condition, Conditions, Outcome

SCORES = tuple(score for score in EVALUATION_SCORES if score.name in ("adaptive_f", "mae"))


def table_2_columns(wanted: Conditions) -> tuple[Score, ...]:
    """Each score without distortion, with noise and with compression."""
    return tuple(
        Score(f"{score.name} {name}", f"{score.about}; {about}", score.lower_is_better)
        for score in SCORES
        for name, about in (
            ("clean", "no distortion"),
            ("AWGN", f"{wanted.noise.label}, drawn for each image"),
            ("JPEG", f"{wanted.jpeg.label}, drawn for each image"),
        )
    )


def table_2(outcomes: Sequence[Outcome], wanted: Conditions, with_published: bool) -> list[Record]:
    """Table II: a row for each map of each run, on each dataset; then the paper's own, where it has the dataset."""
    short = {wanted.clean: "clean", wanted.noise: "AWGN", wanted.jpeg: "JPEG"}
    table = list[Record]()
    for truth, dataset in {outcome.dataset.truth: outcome.dataset for outcome in outcomes}.items():
        rows: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.dataset.truth == truth and outcome.condition in short:
                rows.setdefault((outcome.run.name, outcome.kind), []).append(outcome)
        for row in rows.values():
            scores = {
                f"{name} {short[outcome.condition]}": value
                for outcome in row
                for name, value in outcome.numbers().items()
            }
            table.append(_record(truth, row, scores))
        if with_published:
            table += _published(dataset)
    return table


def strengths(outcomes: Sequence[Outcome]) -> list[Record]:
    """A row for each map of each run, on each dataset, under each condition: in the order of `study`."""
    return [
        _record(
            f"{outcome.dataset.truth}, {outcome.condition.label}",
            [outcome],
            outcome.numbers(),
            {"distortion": outcome.condition.label},
        )
        for outcome in outcomes
    ]


def tables(
    outcomes: Sequence[Outcome],
    wanted: Conditions,
    with_published: bool,
    recipes: Mapping[str, str],
    notes: Sequence[str],
) -> list[Table]:
    """Table II, `with_published` beside the paper's rows, and all conditions; and the means of both over seeds, of the
    runs of one of the `recipes` (see `over_seeds`).
    """
    every = [
        Table("results", "", table_2(outcomes, wanted, with_published), table_2_columns(wanted), notes),
        Table("strengths", "", strengths(outcomes), SCORES, notes),
    ]
    return every + [of_seeds for table in every for of_seeds in over_seeds(table, recipes)]


def write(
    dest: Path,
    written: Sequence[Table],
    outcomes: Sequence[Outcome],
    wanted: Conditions,
    settings: Mapping[str, Any],
    with_published: bool,
) -> list[Path]:
    """Write everything into a folder that exists.

    `results.csv`, `.md` and `.tex` are Table II, `strengths.csv`, `.md` and `.tex` all conditions, `results.json` both
    and what they are; `images.csv` has the scores of every image and how strongly it was distorted, and
    `strengths_<dataset>_<map>.png` and `.pdf` are Figure 9, where there are fixed strengths.

    Returns:
        the files written.
    """
    rows = [
        {
            "dataset": outcome.dataset.name,
            "ground_truth": outcome.dataset.truth,
            "distortion": _described(outcome.condition),
            "method": outcome.run.name,
            "map": outcome.kind,
            "source": outcome.run.source,
            "images": len(outcome.images),
            "of": outcome.dataset.images,
            "scores": outcome.numbers(),
        }
        for outcome in outcomes
    ]
    names = {outcome.dataset.truth: outcome.dataset.published or "" for outcome in outcomes if with_published}
    content = {
        **settings,
        "results": rows,
        "published": published.content(names, [["table_1"], ["table_2"]]),
        "legend": {score.name: score.about for score in SCORES},
        "notes": list(written[0].notes),
    }
    return write_results(dest, written, _image_rows(outcomes), _figures(outcomes, wanted), content)


def _record(
    group: str, row: Sequence[Outcome], scores: Mapping[str, float], more: Mapping[str, str] | None = None
) -> Record:
    first, fewest = row[0], min(len(outcome.images) for outcome in row)
    of = first.dataset.images
    labels = {
        "dataset": first.dataset.name,
        **(more or {}),
        "method": first.run.name,
        "map": first.kind,
        "images": (f"{of}" if fewest == of else f"{fewest}/{of}") + first.run.mark(first.dataset),
        "source": first.run.source,
    }
    return Record(group, labels, scores, competes=fewest == of)


def _published(dataset: Dataset) -> list[Record]:
    name = dataset.published or ""
    distorted = {row.method: row for row in published.rows(name, ["table_2"])}
    return [
        published.record(
            dataset.truth,
            dataset.name,
            row,
            {
                "adaptive_f clean": row.values["adaptive_f"],
                "mae clean": row.values["mae"],
                "adaptive_f AWGN": distorted[row.method].values[published.AWGN],
                "adaptive_f JPEG": distorted[row.method].values[published.JPEG],
            },
            "Tables I and II",
        )
        for row in published.rows(name, ["table_1"])
    ]


def _described(condition: Condition) -> dict[str, object]:
    """`low` and `high` bound σ or the quality; the same: a fixed one."""
    kind = type(condition.distortion).__name__.lower()
    numbers = {name: getattr(condition.distortion, name, None) for name in ("low", "high")}
    return {"label": condition.label, "kind": kind, **numbers, "severity": condition.severity}


def _image_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": outcome.dataset.name,
            "distortion": outcome.condition.label,
            "method": outcome.run.name,
            "map": outcome.kind,
            "source": outcome.run.source,
            **image._asdict(),
        }
        for outcome in outcomes
        for image in outcome.images
    ]


def _figures(outcomes: Sequence[Outcome], wanted: Conditions) -> list[tuple[str, Figure]]:
    scored = [outcome for outcome in outcomes if outcome.images]
    figures = []
    for truth, kind in dict.fromkeys((outcome.dataset.truth, outcome.kind) for outcome in scored):
        group = [outcome for outcome in scored if (outcome.dataset.truth, outcome.kind) == (truth, kind)]
        dataset = group[0].dataset
        curves = [
            _curve([outcome for outcome in group if outcome.run.name == name], wanted)
            for name in dict.fromkeys(outcome.run.name for outcome in group)
        ]
        if any(curve.distorted for curve in curves):
            figure = strength_curves(curves, f"{dataset.name}, {dataset.images} images, {kind} map")
            figures.append((f"strengths_{dataset.name}_{kind}", figure))
    return figures


def _curve(outcomes: Sequence[Outcome], wanted: Conditions) -> StrengthCurve:
    """The fixed strengths of one run; severities are points like any other."""
    scores = {outcome.condition: (outcome.numbers()["adaptive_f"], outcome.numbers()["mae"]) for outcome in outcomes}
    points = dict[Scale, dict[float | int, tuple[float, float]]]()
    for condition in wanted.fixed:
        if (scale := condition.distortion.scale) and (strength := condition.distortion.strength("", 0)) is not None:
            points.setdefault(scale, {})[strength] = scores[condition]
    for scale, of in points.items():
        if scale.clean is not None:
            of[scale.clean] = scores[wanted.clean]
    run = outcomes[0].run
    part = "" if all(outcome.complete for outcome in outcomes) else " (not all images)"
    ordered = {scale: dict(sorted(of.items(), reverse=scale.falling)) for scale, of in points.items()}
    return StrengthCurve(f"{run.name}{part}", scores[wanted.clean], ordered)

"""Results of an evaluation: tables, scores of every image, curves and their figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from menet_jax.evaluation.scoring import Result
from menet_jax.reporting import published
from menet_jax.reporting.files import write_results
from menet_jax.reporting.plots.curves import PrCurve, pr_curves
from menet_jax.reporting.seeds import over_seeds
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.runtime.whole_files import written_whole

SCORES = (
    Score("adaptive_f", "mean over images of F(P, R), β² = 0.3, at each image's adaptive threshold, min(2 · mean, 1)"),
    Score("adaptive_f_of_mean_pr", "F(mean P, mean R) at each image's adaptive threshold"),
    Score("max_mean_f", "maximum over 256 thresholds of the mean over images of F(P, R)"),
    Score("max_f_of_mean_pr", "maximum over 256 thresholds of F(mean P, mean R)"),
    Score("mae", "mean over images of the mean absolute error", lower_is_better=True),
)
"""The scores of `metrics.scores.DatasetScores`, which defines them in full."""

LABELS = ("dataset", "method", "map", "source")
"""Columns that tell results apart."""

IMAGE_COLUMNS = (*LABELS, "image", "adaptive_f", "adaptive_precision", "adaptive_recall", "mae", "max_f")
"""Columns of `images.csv`; further measures follow."""

MEASURES = (
    Score("s_measure", "structure measure, α = 0.5 (Fan et al. 2017), mean over images"),
    Score("adaptive_e", "enhanced-alignment measure (Fan et al. 2018) at the adaptive threshold, mean over images"),
    Score("mean_e", "enhanced-alignment measure, mean over the thresholds 0 ... 255 and over images"),
    Score("weighted_f", "weighted F-measure, β² = 1 (Margolin et al. 2014), mean over images"),
)
"""The further ones of `metrics.measures`, as columns."""


def tables(
    results: Sequence[Result],
    measures: bool,
    published_names: Mapping[str, str],
    recipes: Mapping[str, str],
    notes: Sequence[str],
) -> list[Table]:
    """The table, and that of means over seeds, of the runs of one of the `recipes` (see `over_seeds`).

    Results of the same images stand together, in order of first appearance. `published_names` says of a ground truth
    what the paper may call it: its own numbers come after what was measured.
    """
    rows = list[Record]()
    for truth in dict.fromkeys(result.truth for result in results):
        rows += [_record(result) for result in results if result.truth == truth]
        group, dataset = rows[-1].group, rows[-1].labels["dataset"]
        for row in published.rows(published_names.get(truth, ""), published.CLEAN_TABLES):
            rows.append(published.record(group, dataset, row, row.values, row.source))
    table = Table("results", "", rows, SCORES + MEASURES if measures else SCORES, notes)
    return [table, *over_seeds(table, recipes)]


def _record(result: Result) -> Record:
    images = f"{len(result.images)}" if result.complete else f"{len(result.images)}/{result.of}"
    return Record(
        f"{result.truth}, {result.of} images",
        {
            "dataset": result.dataset,
            "method": result.method,
            "map": result.kind,
            "images": images + (result.seen.mark() if result.seen else ""),
            "source": result.source,
        },
        result.numbers(),
        competes=result.complete,
    )


def write(
    dest: Path, written: Sequence[Table], results: Sequence[Result], published_names: Mapping[str, str]
) -> list[Path]:
    """Write everything into a folder that exists.

    `results.csv`, `results.md` and `results.tex` are the table, `results_seeds` the means over seeds, if there are
    several; `results.json` is the table with what was missing as well;
    `images.csv` has the scores of every image; `pr_curves.npy` the precision and recall of every result, and
    `pr_<dataset>.png` and `.pdf` draw them: of runs the probability map's, as the paper does.

    Returns:
        the files written.
    """
    with written_whole(dest / "pr_curves.npy") as unfinished:
        np.save(unfinished, curves(results), allow_pickle=False)
    content = _content(results, written[0], published_names)
    files = write_results(dest, written, _image_rows(results), _figures(results), content, IMAGE_COLUMNS)
    return [dest / "pr_curves.npy", *files]


def curves(results: Sequence[Result]) -> np.ndarray:
    """The precision-recall curves: one structured element a result, `precision` and `recall` at t / 255."""
    rows = []
    for result in results:
        scores = result.dataset_scores()
        if scores is not None:
            rows.append((*_labels(result), scores.precision, scores.recall))
    width = max((len(text) for row in rows for text in row[: len(LABELS)]), default=1)
    texts = [(name, f"U{width}") for name in LABELS]
    return np.array(rows, [*texts, ("precision", "f8", 256), ("recall", "f8", 256)])


def _figures(results: Sequence[Result]) -> list[tuple[str, Figure]]:
    drawn: dict[str, list[Result]] = {}
    for result in results:
        if result.kind != "metric" and result.images:
            drawn.setdefault(result.truth, []).append(result)
    return [
        (f"pr_{group[0].dataset}", pr_curves([_curve(result) for result in group], group[0].dataset))
        for group in drawn.values()
    ]


def _curve(result: Result) -> PrCurve:
    scores = result.dataset_scores()
    assert scores is not None
    part = "" if result.complete else f" ({len(result.images)}/{result.of} images)"
    return PrCurve(f"{result.method}{part}", scores.precision, scores.recall)


def _content(results: Sequence[Result], table: Table, published_names: Mapping[str, str]) -> dict[str, Any]:
    rows = [
        {
            "dataset": result.dataset,
            "ground_truth": result.truth,
            "method": result.method,
            "map": result.kind,
            "source": result.source,
            "images": len(result.images),
            "of": result.of,
            "scores": result.numbers(),
            "missing": result.missing,
            "unreadable": result.unreadable,
            "extra": result.extra,
            "resized": result.resized,
            "not_masks": result.no_masks,
            "seen": result.seen and result.seen._asdict(),
        }
        for result in results
    ]
    paper = published.content(published_names, [published.CLEAN_TABLES])
    return {"results": rows, "published": paper, "legend": table.legend(), "notes": list(table.notes)}


def _labels(result: Result) -> tuple[str, ...]:
    """Of a result, what `LABELS` name."""
    return result.dataset, result.method, result.kind, result.source


def _image_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        for image in result.images:
            scores = image.scores
            adaptive = scores.adaptive_f, scores.adaptive_precision, scores.adaptive_recall
            values = (*_labels(result), image.name, *adaptive, scores.mae, float(scores.f.max()))
            rows.append({**dict(zip(IMAGE_COLUMNS, values, strict=True)), **image.measures})
    return rows

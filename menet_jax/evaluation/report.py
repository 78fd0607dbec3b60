"""What an evaluation leaves behind: tables, scores of every image, curves and their figures."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from menet_jax.evaluation.scoring import Result
from menet_jax.reporting import published, tables
from menet_jax.reporting.plots import PrCurve, pr_curves, save
from menet_jax.reporting.tables import RESULTS, Record, Score

SCORES = (
    Score("adaptive_f", "mean over images of F(P, R), β² = 0.3, at each image's adaptive threshold, min(2 · mean, 1)"),
    Score("adaptive_f_of_mean_pr", "F(mean P, mean R) at each image's adaptive threshold"),
    Score("max_mean_f", "maximum over 256 thresholds of the mean over images of F(P, R)"),
    Score("max_f_of_mean_pr", "maximum over 256 thresholds of F(mean P, mean R)"),
    Score("mae", "mean over images of the mean absolute error", lower_is_better=True),
)
"""The scores of `metrics.DatasetScores`, which defines them in full."""


def columns(measures: bool) -> tuple[Score, ...]:
    """The columns of the table."""
    return SCORES + MEASURES if measures else SCORES


def records(results: Sequence[Result], published_names: Mapping[str, str] | None = None) -> list[Record]:
    """The results as rows, those of the same images together, in order of first appearance.

    Args:
        results: what was measured.
        published_names: of a ground truth, what the paper may call it: its own numbers come after what was measured.
    """
    names = published_names or {}
    table = []
    for truth in dict.fromkeys(result.truth for result in results):
        table += [_record(result) for result in results if result.truth == truth]
        group, dataset = table[-1].group, table[-1].labels["dataset"]
        for row in published.rows(names.get(truth, ""), published.CLEAN_TABLES):
            table.append(published.record(group, dataset, row, row.values, row.source))
    return table


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
    results: Sequence[Result],
    measures: bool,
    dest: Path,
    published_names: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write everything into a folder that exists.

    `results.csv`, `results.md` and `results.tex` are the table, `results.json` with what was missing as well;
    `images.csv` has the scores of every image; `pr_curves.npy` the precision and recall of every result, and
    `pr_<dataset>.png` and `.pdf` draw them: of runs the probability map's, as the paper does. Notes, of what is to be
    known of the datasets, go with the table.

    Returns:
        the files written.
    """
    table, scores = records(results, published_names), columns(measures)
    texts = {
        **tables.files("results", table, scores, notes),
        RESULTS: _json(results, scores, published_names or {}, notes),
        "images.csv": _images_csv(results),
    }
    for name, text in texts.items():
        (dest / name).write_text(text)
    np.save(dest / "pr_curves.npy", curves(results), allow_pickle=False)
    return [*(dest / name for name in texts), dest / "pr_curves.npy", *_figures(results, dest)]


def curves(results: Sequence[Result]) -> np.ndarray:
    """The precision-recall curves: one structured element a result, `precision` and `recall` at t / 255."""
    rows = []
    for result in results:
        scores = result.dataset_scores()
        if scores is not None:
            labels = (result.dataset, result.method, result.kind, result.source)
            rows.append((*labels, scores.precision, scores.recall))
    width = max((len(text) for row in rows for text in row[:4]), default=1)
    texts = [(name, f"U{width}") for name in ("dataset", "method", "map", "source")]
    return np.array(rows, [*texts, ("precision", "f8", 256), ("recall", "f8", 256)])


def file_name(name: str, taken: set[str]) -> str:
    """The name in characters that files may have, and not one of those taken, to which it is added."""
    name = re.sub(r"-?_-?", "_", re.sub(r"[^\w.-]+", "-", name)).strip("-_")
    while name in taken:  # two datasets may have names that differ in such characters only
        name += "_"
    taken.add(name)
    return name


def _figures(results: Sequence[Result], dest: Path) -> list[Path]:
    drawn: dict[str, list[Result]] = {}
    for result in results:
        if result.kind != "metric" and result.images:
            drawn.setdefault(result.truth, []).append(result)
    files, taken = [], set[str]()
    for group in drawn.values():
        name = file_name(f"pr_{group[0].dataset}", taken)
        files += save(pr_curves([_curve(result) for result in group], group[0].dataset), dest / name)
    return files


def _curve(result: Result) -> PrCurve:
    scores = result.dataset_scores()
    assert scores is not None
    part = "" if result.complete else f", {len(result.images)}/{result.of} images"
    kind = "" if result.kind == "given" else f", {result.kind} map"
    return PrCurve(f"{result.method} ({result.source}{kind}{part})", scores.precision, scores.recall)


def _json(
    results: Sequence[Result], scores: Sequence[Score], published_names: Mapping[str, str], notes: Sequence[str]
) -> str:
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
    paper = [
        {"ground_truth": truth, **asdict(row)}
        for truth, name in published_names.items()
        for row in published.rows(name, published.CLEAN_TABLES)
    ]
    legend = {score.name: score.about for score in scores}
    return json.dumps({"results": rows, "published": paper, "legend": legend, "notes": list(notes)}, indent=2) + "\n"


def _images_csv(results: Sequence[Result]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    measures = list(dict.fromkeys(name for result in results for image in result.images for name in image.measures))
    names = ("adaptive_f", "adaptive_precision", "adaptive_recall", "mae")
    writer.writerow(["dataset", "method", "map", "source", "image", *names, "max_f", *measures])
    for result in results:
        for image in result.images:
            numbers = [getattr(image.scores, name) for name in names] + [float(image.scores.f.max())]
            numbers += [image.measures[name] for name in measures]
            writer.writerow([result.dataset, result.method, result.kind, result.source, image.name, *numbers])
    return file.getvalue()


MEASURES = (
    Score("s_measure", "structure measure, α = 0.5 (Fan et al. 2017), mean over images"),
    Score("adaptive_e", "enhanced-alignment measure (Fan et al. 2018) at the adaptive threshold, mean over images"),
    Score("mean_e", "enhanced-alignment measure, mean over the thresholds 0 ... 255 and over images"),
    Score("weighted_f", "weighted F-measure, β² = 1 (Margolin et al. 2014), mean over images"),
)

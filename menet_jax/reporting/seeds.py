"""Runs of one recipe with different seeds, as one row: mean and standard error."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from menet_jax.reporting.tables import Record, Score, Table


def over_seeds(table: Table, recipes: Mapping[str, str]) -> list[Table]:
    """Rows for groups of runs that differ by their seed alone; none if there are no such runs.

    Each score is the mean over runs, and has a column `± <score>` beside it, the standard error of that mean:
    the standard deviation over runs, of n − 1 degrees of freedom, divided by √n.

    Args:
        table: with the labels `method` and `source`.
        recipes: method → what it is called together with the others of its recipe.
    """
    rows: dict[tuple[str, tuple[tuple[str, str], ...]], list[Record]] = {}
    for record in table.records:
        recipe = recipes.get(record.labels["method"])
        if recipe is not None:
            labels = {**record.labels, "method": recipe, "source": ""}
            rows.setdefault((record.group, tuple(labels.items())), []).append(record)
    records = [_together(group, dict(labels), several) for (group, labels), several in rows.items()]
    columns = [column for score in table.scores for column in _columns(score)]
    title = "Means over seeds, and their standard errors"
    return [Table(f"{table.stem}_seeds", title, records, columns, table.notes)] if records else []


def _columns(score: Score) -> tuple[Score, Score]:
    about = f"standard error over seeds of {score.name}"
    return (
        dataclasses.replace(score, about=f"{score.about}; mean over seeds"),
        Score(f"± {score.name}", about, None, score.form or ".4f"),
    )


def _together(group: str, labels: dict[str, str], several: Sequence[Record]) -> Record:
    labels["source"] = f"{len(several)} seeds"
    numbers = dict[str, float]()
    for name in several[0].scores:
        values = [record.scores[name] for record in several if name in record.scores]
        numbers[name] = float(np.mean(values))
        if len(values) > 1:
            numbers[f"± {name}"] = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Record(group, labels, numbers, all(record.competes for record in several))

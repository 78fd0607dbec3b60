"""A contact sheet: what datasets look like, on one page."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from menet_jax.data.audit import Audit, Duplicate, Facts
from menet_jax.datasets import pairs
from menet_jax.images import pictures
from menet_jax.runtime.whole_files import written_whole

COLUMNS = 8
ROWS = 2  # of each dataset
CELL = 1.5  # inches


def contact_sheet(audits: Sequence[Audit], duplicates: Sequence[Duplicate], path: Path) -> None:
    """Write a picture: evenly chosen images of each dataset, salient pixels in red, and same pictures side by side.

    Args:
        audits: of the datasets; those without images have no place on it.
        duplicates: of which the first few are shown, what is wrong first.
        path: the file to write.
    """
    parts = [
        (f"{Path(each.name).name}, {len(each.facts):,} images", _spread(each.facts)) for each in audits if each.facts
    ]
    worst_first = sorted(duplicates, key=lambda each: not each.is_wrong)[: COLUMNS // 2 * ROWS]
    if worst_first:
        doubles = [facts for each in worst_first for facts in (each.first, each.second)]
        parts.append((f"the same picture twice, {len(duplicates):,} times", doubles))
    rows = [math.ceil(len(chosen) / COLUMNS) for _, chosen in parts]
    figure = Figure(figsize=(COLUMNS * CELL, sum(rows) * CELL + 0.3 * len(parts)), layout="constrained")
    for part, (title, chosen) in zip(
        figure.subfigures(len(parts), 1, squeeze=False, height_ratios=rows)[:, 0], parts, strict=True
    ):
        part.suptitle(title, fontsize=9)
        axes = np.ravel(part.subplots(math.ceil(len(chosen) / COLUMNS), COLUMNS))
        for place in axes:
            place.set_axis_off()
        for place, facts in zip(axes, chosen, strict=False):
            _draw(place, facts, with_dataset=chosen is parts[-1][1] and bool(worst_first))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _spread(facts: Sequence[Facts]) -> list[Facts]:
    count = min(len(facts), COLUMNS * ROWS)
    return [facts[index * len(facts) // count] for index in range(count)]


def _draw(axes: Axes, facts: Facts, *, with_dataset: bool) -> None:
    contents = pairs.read(facts.pair)
    axes.imshow(pictures.overlay(contents.image, contents.mask))
    where = f"{Path(facts.dataset).name} ({facts.split})\n" if with_dataset else ""
    axes.set_title(f"{where}{facts.pair.image.name}\n{facts.salient:.0%} salient", fontsize=5, pad=2)

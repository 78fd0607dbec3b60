"""A contact sheet: what datasets look like, on one page."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from menet_jax.data.audit import Audit, Duplicate, Facts
from menet_jax.datasets import pairs
from menet_jax.images import pictures
from menet_jax.runtime.text import shown
from menet_jax.runtime.whole_files import written_whole

COLUMNS = 8
ROWS = 2  # of each dataset
CELL = 1.5  # inches
GAP = 0.08  # between pictures
HEADING = 0.3  # of a dataset


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
    figure = Figure()
    # One axes in inches from the upper left: one for each picture would take most of the time.
    axes = figure.add_axes((0, 0, 1, 1))
    top = 0.0
    for title, chosen in parts:
        _write(axes, COLUMNS * CELL / 2, top + 0.8 * HEADING, title, 9.0)
        for index, facts in enumerate(chosen):
            row, column = divmod(index, COLUMNS)
            corner = column * CELL, top + HEADING + row * CELL
            _draw(axes, corner, facts, with_dataset=chosen is parts[-1][1] and bool(worst_first))
        top += HEADING + math.ceil(len(chosen) / COLUMNS) * CELL
    axes.set(xlim=(0, COLUMNS * CELL), ylim=(top, 0), aspect="auto")
    axes.set_axis_off()
    figure.set_size_inches(COLUMNS * CELL, top)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _spread(facts: Sequence[Facts]) -> list[Facts]:
    count = min(len(facts), COLUMNS * ROWS)
    return [facts[index * len(facts) // count] for index in range(count)]


def _draw(axes: Axes, corner: tuple[float, float], facts: Facts, *, with_dataset: bool) -> None:
    """A picture in the middle of the cell below and right of the corner, and its caption above it."""
    contents = pairs.read(facts.pair)
    picture = pictures.overlay(contents.image, contents.mask)
    caption = 0.32 if with_dataset else 0.22  # inches: three lines or two
    room, (high, wide, _) = (CELL - GAP - caption, CELL - GAP), picture.shape
    scale = min(room[0] / high, room[1] / wide)
    middle, below = corner[0] + CELL / 2, corner[1] + caption + (room[0] + scale * high) / 2
    above, half = below - scale * high, scale * wide / 2
    axes.imshow(picture, extent=(middle - half, middle + half, below, above))
    where = f"{Path(facts.dataset).name} ({facts.split})\n" if with_dataset else ""
    _write(axes, middle, above - 0.03, f"{where}{facts.pair.image.name}\n{facts.salient:.0%} salient", 5.0)


def _write(axes: Axes, middle: float, bottom: float, text: str, points: float) -> None:
    """Text above a place; names in it are no formulae, and may hold what no font has a letter for."""
    axes.text(middle, bottom, shown(text), fontsize=points, ha="center", va="bottom", parse_math=False)

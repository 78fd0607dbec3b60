"""Rows of pictures, with text around them, at the width of one column."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure
from PIL import Image

from menet_jax.reporting.plots.page import COLUMN, SMALL, width, wrapped

Picture = UInt8[np.ndarray, "_ _ 3"] | UInt8[np.ndarray, "_ _"]

EDGE = 0.02  # inches around the figure, for the outermost frames to be whole
GAP = 0.035  # inches between cells
LINE = 0.1  # inches a line of text
PAD = 0.04  # inches between the baseline of a heading and its cell, and before a heading or footnote
NARROWEST = 0.3  # inches of a cell: less shows nothing, and has no room for a heading
STEEPEST = 4.0
"""Largest ratio of the sides of a cell; longer pictures are squeezed into it."""
LONGEST = 200.0  # inches of a figure: beyond, a PNG of it takes gigabytes of memory
NOTE = 0.85  # inches of a note at most
KEPT = 1200  # pixels an inch that are kept of a picture: all of a benchmark's image


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures of one image, each drawn over its whole cell, whatever its own size.

    Attributes:
        aspect: height of the image / its width, and so of the cells.
        pictures: RGB or gray.
        headings: one above each, or none at all.
        note: text beside them.
    """

    aspect: float
    pictures: Sequence[Picture]
    headings: Sequence[str] = ()
    note: str = ""


def check_columns(columns: int, noted: float = 0.0) -> float:
    """The width of a cell, in inches; ValueError if so many columns, beside notes of that width, are too narrow."""
    room = COLUMN - 2 * EDGE - (noted + GAP if noted else 0)
    cell = (room + GAP) / columns - GAP
    if cell < NARROWEST:
        most = int((room + GAP) / (NARROWEST + GAP))
        raise ValueError(f"{columns} columns leave {cell:.2f} inches each, too little to see: take at most {most}")
    return cell


def image_rows(rows: Sequence[Row], footnote: str = "") -> Figure:
    """Rows of pictures, with headings above them, notes on their right, and a footnote below.

    Raises:
        ValueError: there are no rows, rows of different length, or more rows or columns than can be seen in one.
    """
    lengths = {len(row.pictures) for row in rows} | {len(row.headings) for row in rows if row.headings}
    if len(lengths) != 1:
        raise ValueError(f"want rows of one length, with a heading for each picture or none; got {sorted(lengths)}")
    [columns] = lengths
    notes = [wrapped(row.note, NOTE) for row in rows]
    cell = check_columns(columns, max(map(width, notes)))
    headings = [[wrapped(heading, cell) for heading in row.headings] for row in rows]
    above = [PAD * (index > 0) + max(map(_height, row)) + PAD if row else 0.0 for index, row in enumerate(headings)]
    heights = [
        max(cell * min(max(row.aspect, 1 / STEEPEST), STEEPEST), _height(note))
        for row, note in zip(rows, notes, strict=True)
    ]
    foot = wrapped(footnote, COLUMN - 2 * EDGE)
    below = _height(foot) + PAD if foot else 0.0
    total = 2 * EDGE + sum(above) + sum(heights) + GAP * (len(rows) - 1) + below
    if total > LONGEST:
        raise ValueError(f"{len(rows)} rows make a figure {total:.0f} inches long: take fewer, for {LONGEST:.0f}")
    figure = Figure(figsize=(COLUMN, total))

    def write(text: str, x: float, y: float, horizontal: str, vertical: str) -> None:
        position = x / COLUMN, 1 - y / total
        figure.text(*position, text, size=SMALL, ha=horizontal, va=vertical, linespacing=1.1, parse_math=False)

    top = EDGE
    for row, texts, over, height, note in zip(rows, headings, above, heights, notes, strict=True):
        top += over
        for index, picture in enumerate(row.pictures):
            left = EDGE + index * (cell + GAP)
            if texts:
                write(texts[index], left + cell / 2, top - PAD, "center", "baseline")
            axes = figure.add_axes((left / COLUMN, 1 - (top + height) / total, cell / COLUMN, height / total))
            axes.imshow(_rgb(_shrunk(picture, cell)), aspect="auto")
            axes.set(xticks=(), yticks=())
            axes.spines[:].set(linewidth=0.3, color="0.5")  # a white ground would run into the page
        if note:
            write(note, EDGE + columns * (cell + GAP), top + height / 2, "left", "center")
        top += height + GAP
    if foot:
        write(foot, EDGE, top - GAP + PAD, "left", "top")
    return figure


def gray(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A mask as a picture: salient pixels white."""
    return mask.astype(np.uint8) * np.uint8(255)


def _height(text: str) -> float:
    return LINE * (text.count("\n") + 1) if text else 0.0


def _rgb(picture: Picture) -> UInt8[np.ndarray, "_ _ 3"]:
    """Gray as RGB: matplotlib's own gray changes some levels by one."""
    return picture if picture.ndim == 3 else np.dstack([picture] * 3)


def _shrunk(picture: Picture, inches: float) -> Picture:
    """No more pixels than can be told apart when a figure is enlarged, or photographs would fill the PDF."""
    height, across = picture.shape[:2]
    most = round(KEPT * inches)
    if across <= most:
        return picture
    return np.asarray(Image.fromarray(picture).resize((most, max(1, round(height * most / across)))))

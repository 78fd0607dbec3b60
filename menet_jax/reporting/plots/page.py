"""The style of all figures: the width of a column, sizes of text, colours and dashes, and how they are saved."""

import re
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from menet_jax.runtime.text import shown
from menet_jax.runtime.whole_files import written_whole

COLUMN = 3.4  # inches: the width of a column of a two-column page
DOTS = 300  # an inch, of a PNG
FONT_TYPE = 42  # TrueType: the text of a PDF can be searched
TITLE, TICK, SMALL = 8.0, 7.0, 6.0  # points: titles and labels of axes, numbers at ticks, legends and captions
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito (2008)
DASHES = ("-", "--", "-.", ":")
"""Colour and dashes change together: four lines differ without colour, and 28 in one or the other."""

POINTS = 72  # an inch


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.pdf`, and the folder if there is none.

    The PDF keeps every pixel of the images in a figure, the PNG those of its resolution, antialiased. The same figure
    gives the same bytes.

    Returns:
        the files written.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text():  # not the numbers at ticks, some of which are formulae
            text.set_parse_math(False)  # names may hold dollars
            text.set_text(shown(text.get_text()))  # fonts have no letters for what some names hold
    with written_whole(files[0]) as unfinished:
        figure.savefig(unfinished, dpi=DOTS)
    figure.set_layout_engine("none")  # both files have one layout, which is found once
    images = [artist for artist in figure.findobj(AxesImage) if isinstance(artist, AxesImage)]
    interpolations = [image.get_interpolation() for image in images]
    for image in images:
        image.set_interpolation("none")  # which for a PDF means: embed the pixels themselves
    with rc_context({"pdf.fonttype": FONT_TYPE}), written_whole(files[1]) as unfinished:
        figure.savefig(unfinished, metadata={"CreationDate": None})
    for image, interpolation in zip(images, interpolations, strict=True):
        image.set_interpolation(interpolation)
    return files


def width(text: str) -> float:
    """The width of the longest line of a text, in inches, in `SMALL` letters."""
    font = FontProperties(size=SMALL)
    return max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")) / POINTS


def wrapped(text: str, inches: float) -> str:
    """The text in lines that are no wider than that: broken after spaces, `_`, `-` and `/`, or else between letters."""
    return "\n".join(line for paragraph in shown(text).split("\n") for line in _lines(paragraph, inches))


def _lines(text: str, inches: float) -> list[str]:
    lines = [""]
    for piece in re.findall(r"[^\s_/-]*[_/-]*\s*", text):
        if width((lines[-1] + piece).rstrip()) <= inches:
            lines[-1] += piece
            continue
        lines += [""] if lines[-1] else []
        for letter in piece:
            lines += [""] if lines[-1] and width((lines[-1] + letter).rstrip()) > inches else []
            lines[-1] += letter
    return [line.rstrip() for line in lines]

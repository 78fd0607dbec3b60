"""What all figures have in common: the width of a column, sizes of text, colours and dashes, and how they are saved."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.textpath import TextPath

COLUMN = 3.4  # inches: the width of a column of a two-column page
DOTS = 300  # an inch, of a PNG
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
    figure.savefig(files[0], dpi=DOTS)
    for image in figure.findobj(AxesImage):
        assert isinstance(image, AxesImage)
        image.set_interpolation("none")
    with rc_context({"pdf.fonttype": 42}):  # text that can be searched, and that publishers take
        figure.savefig(files[1], metadata={"CreationDate": None})
    return files


def width(text: str, size: float = SMALL) -> float:
    """The width of the longest line of a text, in inches, in letters of `size` points."""
    font = FontProperties(size=size)
    lines = [line for line in text.split("\n") if line.strip()]
    return max((float(TextPath((0, 0), line, prop=font).get_extents().width) for line in lines), default=0.0) / POINTS


def wrapped(text: str, inches: float, size: float = SMALL) -> str:
    """The text in lines that are no wider than that, broken at spaces, and within words that do not fit."""
    return "\n".join(line for paragraph in text.split("\n") for line in _lines(paragraph, inches, size))


def _lines(text: str, inches: float, size: float) -> list[str]:
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if width(joined, size) <= inches:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            lines += [""] if lines[-1] and width(lines[-1] + letter, size) > inches else []
            lines[-1] += letter
    return lines

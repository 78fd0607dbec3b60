"""Saliency maps beside their images: of several methods, and where one fails."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import PIL.Image
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure

from menet_jax.metrics.scores import ImageScores
from menet_jax.reporting.plots.rows import Row, check_columns, gray, image_rows

NEAREST = PIL.Image.Resampling.NEAREST
DETAIL = 48  # pixels across the detail of a distorted image: in its inset, about one for each dot of print
INSET = 0.4  # share of a picture's height and width that the inset takes

Image = UInt8[np.ndarray, "_ _ 3"]
Map = UInt8[np.ndarray, "_ _"]
Truth = Bool[np.ndarray, "_ _"]


def check_methods(names: Collection[str], heading: str) -> None:
    """Raise ValueError if a method is called as another column is, or there are too many columns; `heading` is that of
    the distorted images, or empty.
    """
    others = ["image", *([heading] if heading else []), "ground truth"]
    doubled = set(others) & set(names)
    if doubled:
        raise ValueError(f"a method cannot be called {', '.join(sorted(doubled))}, as another column is")
    check_columns(len(others) + len(names))


def comparison(
    images: Sequence[Image],
    truths: Sequence[Truth],
    maps: Mapping[str, Sequence[Map]],
    distorted: tuple[str, Sequence[Image]] | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """Maps of several methods: a row for each image, a column for each method (Figures 6, 10 and 11).

    Args:
        images: each at any size; gives its row its shape.
        truths: their masks, at any size.
        maps: method → its maps of the images, at any size.
        distorted: what was done to the images, and the result: one more column, with the middle of each enlarged in
            a corner, for in print whole images are too small for noise to be seen.
        notes: what to say beside each row.

    Raises:
        ValueError: not as many of everything as images; or as `check_methods`.
    """
    check_methods(maps, distorted[0] if distorted else "")
    columns: dict[str, Sequence[np.ndarray]] = {"image": images}
    columns |= {distorted[0]: [with_detail(image) for image in distorted[1]]} if distorted else {}
    columns |= {"ground truth": [gray(truth) for truth in truths]} | dict(maps)
    wrong = [name for name, column in columns.items() if len(column) != len(images)]
    if wrong or len(notes) not in (0, len(images)):
        raise ValueError(f"want {len(images)} pictures, as there are images, of {', '.join(wrong) or 'notes'}")
    rows = zip(*columns.values(), strict=True)
    return image_rows([
        Row(
            images[index].shape[0] / images[index].shape[1],
            pictures,
            () if index else tuple(columns),
            notes[index] if notes else "",
        )
        for index, pictures in enumerate(rows)
    ])  # fmt: skip


def with_detail(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image with its middle, `DETAIL` pixels across, enlarged in its lower right corner, in a white frame."""
    height, width = image.shape[:2]
    across, down = min(DETAIL, width), max(1, min(DETAIL, width) * height // width)
    top, left = (height - down) // 2, (width - across) // 2
    shape = max(1, round(INSET * width)), max(1, round(INSET * height))
    detail = PIL.Image.fromarray(image[top : top + down, left : left + across]).resize(shape, NEAREST)
    framed = image.copy()
    line = round(width / 100)
    framed[height - shape[1] - line :, width - shape[0] - line :] = 255
    framed[height - shape[1] :, width - shape[0] :] = detail
    return framed


def failures(
    names: Sequence[str],
    images: Sequence[Image],
    truths: Sequence[Truth],
    maps: Sequence[Map],
    scores: Sequence[ImageScores],
    method: str,
) -> Figure:
    """Images, truths and the maps of one method, each with its adaptive F-measure and MAE (Figure 12)."""
    notes = [f"{name}\nF {each.adaptive_f:.3f}\nMAE {each.mae:.3f}" for name, each in zip(names, scores, strict=True)]
    return comparison(images, truths, {method: maps}, notes=notes)

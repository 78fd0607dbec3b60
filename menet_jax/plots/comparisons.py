"""Saliency maps beside their images: of several methods, and where one fails."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure

from menet_jax.metrics import ImageScores
from menet_jax.plots.rows import Row, gray, image_rows

Image = UInt8[np.ndarray, "_ _ 3"]
Map = UInt8[np.ndarray, "_ _"]
Truth = Bool[np.ndarray, "_ _"]


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
        distorted: what was done to the images, and the result: one more column.
        notes: what to say beside each row.

    Raises:
        ValueError: not as many of everything as images, or too many columns.
    """
    columns: dict[str, Sequence[np.ndarray]] = {"image": images}
    columns |= dict([distorted] if distorted else [])
    columns |= {"ground truth": [gray(truth) for truth in truths]}
    doubled = columns.keys() & maps.keys()
    if doubled:
        raise ValueError(f"a method cannot be called {', '.join(sorted(doubled))}, as another column is")
    columns |= maps
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

"""Scores of saliency maps: F-measures, mean absolute error and precision-recall curves.

One image is scored exactly from two histograms of its 8-bit map, one over the salient and one over the
background pixels of its mask. Sums and thresholds are integers, so that no result depends on the order of
summation: only the last divisions round. "F-measure" names several different scores in the literature, which
differ by several hundredths on the same maps: each has its own name here, defined in `DatasetScores`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

BETA_SQUARED = 0.3
"""Weight of precision against recall in Eq. 16; all published numbers use 0.3."""

LEVELS = 256
"""Levels of an 8-bit map, and thresholds of a curve."""

LANES = np.uint16(8)
"""Counters of each level, see `_histograms`."""

AT_ONCE = 2**15
"""Pixels that are counted at once."""

Curve = Float64[np.ndarray, "thresholds=256"]


def f_measure(precision: np.ndarray | float, recall: np.ndarray | float) -> np.ndarray:
    """F-measure (Eq. 16), element by element.

        F = (1 + β²) · P · R / (β² · P + R),   β² = 0.3,   and 0 where P = R = 0.

    P, R and F are in [0, 1], of one shape.

    >>> float(f_measure(0.5, 0.5))
    0.5
    """
    precision, recall = np.asarray(precision), np.asarray(recall)
    denominator = BETA_SQUARED * precision + recall
    return np.asarray((1 + BETA_SQUARED) * precision * recall / np.where(denominator == 0, 1, denominator))


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of one map S, with values in [0, 1], against one mask G. All are in [0, 1].

    At a threshold the pixels with S >= threshold count as found. Precision is the salient share of the pixels
    found, and 0 where none is found; recall is the share of the salient pixels found, and 0 where the mask is
    empty. Every F-measure of an empty mask is therefore 0, the convention of PySODMetrics.

    Attributes:
        mae: mean over pixels of |S - G| (Eq. 17); 0 is best.
        adaptive_precision: precision at the adaptive threshold min(2 · mean(S), 1) (Eq. 15). Of a constant
            map no pixel reaches it, unless the map is all 0 or all 1: then every pixel does.
        adaptive_recall: recall at the adaptive threshold.
        precision: precision at threshold t / 255, for t = 0 ... 255.
        recall: recall at those thresholds.
    """

    mae: float
    adaptive_precision: float
    adaptive_recall: float
    precision: Curve
    recall: Curve

    @property
    def adaptive_f(self) -> float:
        """F-measure (Eq. 16) at the adaptive threshold (Eq. 15)."""
        return float(f_measure(self.adaptive_precision, self.adaptive_recall))

    @property
    def f(self) -> Curve:
        """F-measure (Eq. 16) at threshold t / 255, for t = 0 ... 255."""
        return f_measure(self.precision, self.recall)


@dataclass(frozen=True, eq=False)
class DatasetScores:
    """Scores of a dataset. Each image has the same weight; all are in [0, 1], and 1 is best but for `mae`.

    P, R and F(P, R) are an image's precision, recall and F-measure (Eq. 16), as in `ImageScores`; "mean" is
    over images, "maximum" over the thresholds t / 255.

    Attributes:
        images: how many images were scored.
        adaptive_f: mean of F(P, R) at each image's adaptive threshold (Eq. 15). The paper's Tables I and II.
        adaptive_f_of_mean_pr: F(mean P, mean R) at each image's adaptive threshold.
        max_mean_f: maximum of the mean of F(P, R).
        max_f_of_mean_pr: maximum of F(mean P, mean R), the highest F along the PR curve.
        mae: mean of the images' mean absolute errors (Eq. 17); 0 is best.
        precision: mean of P at threshold t / 255, for t = 0 ... 255; with `recall`, the PR curve.
        recall: mean of R at those thresholds.
        mean_f: mean of F(P, R) at those thresholds.
    """

    images: int
    adaptive_f: float
    adaptive_f_of_mean_pr: float
    max_mean_f: float
    max_f_of_mean_pr: float
    mae: float
    precision: Curve
    recall: Curve
    mean_f: Curve

    def scalars(self) -> dict[str, float]:
        """The scores that are single numbers, by name, in the order to report them."""
        return {
            "adaptive_f": self.adaptive_f,
            "adaptive_f_of_mean_pr": self.adaptive_f_of_mean_pr,
            "max_mean_f": self.max_mean_f,
            "max_f_of_mean_pr": self.max_f_of_mean_pr,
            "mae": self.mae,
        }


def min_max_normalised(lowest: int, highest: int) -> Float64[np.ndarray, "levels=256"]:
    """The values of the 8-bit levels once a map from `lowest` to `highest` is min-max normalised.

        value = (level - lowest) / (highest - lowest),   clipped to [0, 1]

    Most published numbers come from toolboxes that normalise every map so before scoring it. From 0 to 255 it
    is level / 255, no change. The operations are those of PySODMetrics one by one, because curves threshold
    these values at multiples of 1 / 255, where the last bit decides.

    Raises:
        ValueError: these are not two levels, the lower one first.
    """
    if not 0 <= lowest < highest <= 255:
        raise ValueError(f"want 0 <= lowest < highest <= 255 to normalise, got {lowest} and {highest}")
    values = np.arange(LEVELS) / 255
    normalised = (values - values[lowest]) / (values[highest] - values[lowest])
    return normalised.clip(0, 1)


def score_image(saliency: np.ndarray, mask: np.ndarray, *, stretch: bool = True) -> ImageScores:
    """Score one saliency map against its mask.

    Args:
        saliency: (H, W) uint8, as a saved map holds it; a float map goes through `quantise`, a map of another
            size through `resize_image` first.
        mask: (H, W) bool, True where salient.
        stretch: min-max normalise the map first (`min_max_normalised`), as PySODMetrics and most published
            numbers do. A constant map stays as it is. False scores level / 255, as Eq. 15 and 17 are written.

    Raises:
        TypeError: the map is not uint8 or the mask not bool.
        ValueError: the two differ in shape, are not (H, W), or have no pixels.

    >>> import numpy as np
    >>> from menet_jax import score_image
    >>> mask = np.array([[True, False], [False, False]])
    >>> perfect = score_image(np.array([[255, 0], [0, 0]], np.uint8), mask)
    >>> perfect.adaptive_f, perfect.mae
    (1.0, 0.0)
    """
    _check(saliency, mask)
    # Two histograms hold all that is needed of the pixels, so that 256 thresholds cost no more than one.
    background, salient = _histograms(saliency, mask)
    lowest, highest = _occupied_range(background + salient) if stretch else (0, 255)
    span = highest - lowest
    pixels, salient_pixels = mask.size, int(salient.sum())
    values = np.arange(LEVELS) - lowest  # integers in units of 1 / span
    background_sum, salient_sum = int(values @ background), int(values @ salient)
    # A threshold in units of 1 / 255 becomes the lowest 8-bit level that reaches it; the adaptive one goes last.
    curve_levels = np.searchsorted(np.floor(255 * min_max_normalised(lowest, highest)), np.arange(LEVELS))
    levels = np.append(curve_levels, _adaptive_level(background + salient, lowest, highest))
    true_positives = _at_or_above(salient)[levels]
    positives = true_positives + _at_or_above(background)[levels]
    precision = true_positives / np.maximum(positives, 1)
    recall = true_positives / max(salient_pixels, 1)
    return ImageScores(
        mae=(background_sum + span * salient_pixels - salient_sum) / (span * pixels),
        adaptive_precision=float(precision[-1]),
        adaptive_recall=float(recall[-1]),
        precision=precision[:-1],
        recall=recall[:-1],
    )


def thresholded(saliency: np.ndarray) -> np.ndarray:
    """A map, (H, W) uint8, at its adaptive threshold (Eq. 15), (H, W) bool: what `score_image` takes as found there.

    As there, it is min-max normalised first.
    """
    histogram = np.bincount(saliency.ravel(), minlength=LEVELS)
    return saliency >= _adaptive_level(histogram, *_occupied_range(histogram))


def dataset_scores(images: Sequence[ImageScores]) -> DatasetScores:
    """The scores of a dataset from those of its images, in any order.

    Raises:
        ValueError: there are no images.

    >>> import numpy as np
    >>> from menet_jax import dataset_scores, score_image
    >>> mask, saliency = np.eye(2, dtype=bool), np.array([[255, 0], [0, 0]], np.uint8)
    >>> scores = dataset_scores([score_image(saliency, mask), score_image(mask * np.uint8(255), mask)])
    >>> scores.images, scores.mae
    (2, 0.125)
    """
    if not images:
        raise ValueError("there are no images to score")
    precision = np.mean([image.precision for image in images], axis=0)
    recall = np.mean([image.recall for image in images], axis=0)
    mean_f = np.mean([image.f for image in images], axis=0)
    adaptive_precision = float(np.mean([image.adaptive_precision for image in images]))
    adaptive_recall = float(np.mean([image.adaptive_recall for image in images]))
    return DatasetScores(
        images=len(images),
        adaptive_f=float(np.mean([image.adaptive_f for image in images])),
        adaptive_f_of_mean_pr=float(f_measure(adaptive_precision, adaptive_recall)),
        max_mean_f=float(mean_f.max()),
        max_f_of_mean_pr=float(f_measure(precision, recall).max()),
        mae=float(np.mean([image.mae for image in images])),
        precision=precision,
        recall=recall,
        mean_f=mean_f,
    )


def _check(saliency: np.ndarray, mask: np.ndarray) -> None:
    if saliency.dtype != np.uint8:
        raise TypeError(f"score_image takes a uint8 map, this one is {saliency.dtype}: quantise floats first")
    if mask.dtype != bool:
        raise TypeError(f"score_image takes a bool mask, this one is {mask.dtype}")
    if saliency.shape != mask.shape:
        raise ValueError(f"the map has shape {saliency.shape}, the mask {mask.shape}: resize the map first")
    if saliency.ndim != 2 or saliency.size == 0:
        raise ValueError(f"want a map of (height, width) with at least one pixel, got shape {saliency.shape}")


def _histograms(saliency: np.ndarray, mask: np.ndarray) -> Int64[np.ndarray, "2 levels=256"]:
    """Pixels at each level: of the background first, of the salient region second.

    Neighbours mostly have the same level, and a counter cannot be raised again before it is stored: each column
    modulo `LANES` has a counter of its own, which takes a third less time. So many pixels are counted at once as fit
    into a core's cache.
    """
    lanes = np.arange(saliency.shape[1], dtype=np.uint16) % LANES
    codes = ((saliency + np.uint16(LEVELS) * mask) * LANES + lanes).ravel()
    counts = np.zeros(2 * LEVELS * int(LANES), np.int64)
    for start in range(0, codes.size, AT_ONCE):
        counts += np.bincount(codes[start : start + AT_ONCE], minlength=counts.size)
    return counts.reshape(2, LEVELS, LANES).sum(-1)


def _occupied_range(histogram: Int64[np.ndarray, "levels=256"]) -> tuple[int, int]:
    """Lowest and highest level that occur; the full range where only one does, which cannot be normalised."""
    occupied = np.flatnonzero(histogram)
    lowest, highest = int(occupied[0]), int(occupied[-1])
    return (lowest, highest) if lowest < highest else (0, 255)


def _adaptive_level(histogram: Int64[np.ndarray, "levels=256"], lowest: int, highest: int) -> int:
    """The lowest level that reaches the adaptive threshold (Eq. 15) of the map from `lowest` to `highest`."""
    span, pixels = highest - lowest, int(histogram.sum())
    threshold = min(2 * int((np.arange(LEVELS) - lowest) @ histogram), span * pixels)  # units of 1 / (span · pixels)
    return lowest - (-threshold // pixels)  # division rounded up


def _at_or_above(histogram: Int64[np.ndarray, "levels=256"]) -> Int64[np.ndarray, "levels=256"]:
    """Pixels at or above each level."""
    return histogram[::-1].cumsum()[::-1]

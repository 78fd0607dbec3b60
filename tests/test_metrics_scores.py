"""Scores: worked by hand, against a naive loop, against PySODMetrics, and on published maps."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from menet_jax.images.files import resize_image
from menet_jax.images.maps import quantise
from menet_jax.metrics.scores import (
    ImageScores,
    dataset_scores,
    f_measure,
    min_max_normalised,
    score_image,
    thresholded,
)

DATA = Path(__file__).parents[2] / "shared" / "data"

steady = settings(deadline=None)  # the first example imports, and the machine may be busy

# adaptive F / MAE of the published maps on these halves of the datasets
PUBLISHED_ON_SOD = {"Amulet": (0.7748, 0.1332), "DSS": (0.8017, 0.1177), "PiCANet": (0.8053, 0.0985)}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A map and a mask; maps of few levels and masks of one class come up often."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    lowest = draw(st.integers(0, 255))
    levels = st.integers(lowest, draw(st.integers(lowest, 255)))
    return draw(hnp.arrays(np.uint8, shape, elements=levels)), draw(hnp.arrays(bool, shape))


def one_class_often(mask: np.ndarray) -> list[np.ndarray]:
    return [mask, np.zeros_like(mask), np.ones_like(mask)]


def naive(values: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[float, float]:
    """Precision and recall at a threshold, pixel by pixel."""
    hits = found = salient = 0
    for value, is_salient in zip(values.ravel(), mask.ravel(), strict=True):
        found += value >= threshold
        salient += is_salient
        hits += value >= threshold and is_salient
    return (hits / found if found else 0.0), (hits / salient if salient else 0.0)


def as_tuple(scores: ImageScores) -> np.ndarray:
    return np.concatenate(
        [
            [scores.mae, scores.adaptive_precision, scores.adaptive_recall, scores.adaptive_f],
            scores.precision,
            scores.recall,
            scores.f,
        ]
    )


def test_worked_by_hand() -> None:
    saliency = np.array([[255, 204, 51, 0]], np.uint8)  # 1, .8, .2, 0: twice the mean is exactly 1
    mask = np.array([[True, False, True, False]])
    scores = score_image(saliency, mask)
    assert scores.mae == pytest.approx((0 + 0.8 + 0.8 + 0) / 4)
    assert (scores.adaptive_precision, scores.adaptive_recall) == (1, 0.5)
    assert scores.adaptive_f == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    assert [scores.precision[t] for t in (0, 1, 51, 52, 204, 205, 255)] == pytest.approx(
        [2 / 4, 2 / 3, 2 / 3, 1 / 2, 1 / 2, 1, 1]
    )
    assert [scores.recall[t] for t in (0, 1, 51, 52, 204, 205, 255)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.5]


def test_stretch_worked_by_hand() -> None:
    saliency = np.array([[30, 20, 10, 10]], np.uint8)
    mask = np.array([[True, False, False, False]])
    stretched, plain = score_image(saliency, mask), score_image(saliency, mask, stretch=False)
    assert stretched.mae == pytest.approx(0.5 / 4)
    assert plain.mae == pytest.approx((225 + 20 + 10 + 10) / 255 / 4)
    assert stretched.adaptive_f == 1  # twice the mean is .75
    assert plain.adaptive_f == 0  # twice the mean is 35
    assert (stretched.precision[127], stretched.precision[128]) == (0.5, 1)


@steady
@given(pairs())
def test_equals_a_naive_loop(pair: tuple[np.ndarray, np.ndarray]) -> None:
    saliency, drawn = pair
    for mask in one_class_often(drawn):
        scores = score_image(saliency, mask, stretch=False)
        levels = saliency.astype(int)
        adaptive = min(2 * levels.sum() / levels.size, 255)
        assert (scores.adaptive_precision, scores.adaptive_recall) == naive(levels, mask, adaptive)
        assert scores.mae == pytest.approx(np.abs(levels / 255 - mask).mean(), abs=1e-12)
        for t in (0, 1, 100, 254, 255, int(levels.min()), int(levels.max())):
            assert (scores.precision[t], scores.recall[t]) == naive(levels, mask, t)


@steady
@given(st.data(), st.sampled_from([1, 3, 5, 15, 17, 51, 85, 255]))
def test_stretch_is_scoring_the_stretched_map(data: st.DataObject, span: int) -> None:
    """With a span that divides 255 the stretched map is an 8-bit map again."""
    levels = data.draw(st.lists(st.integers(0, span), max_size=50))
    above_lowest = np.array([[0, span, *levels]], np.uint8)
    lowest = data.draw(st.integers(0, 255 - span))
    mask = data.draw(hnp.arrays(bool, above_lowest.shape))
    saliency, stretched = above_lowest + np.uint8(lowest), above_lowest * np.uint8(255 // span)
    scores, expected = score_image(saliency, mask), score_image(stretched, mask, stretch=False)
    assert scores.mae == pytest.approx(expected.mae, abs=1e-15)
    assert scores.adaptive_f == expected.adaptive_f
    np.testing.assert_allclose(min_max_normalised(lowest, lowest + span)[saliency], stretched / 255, atol=1e-15)


@steady
@given(pairs())
def test_equals_pysodmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    saliency, drawn = pair
    levels = saliency.astype(int) - int(saliency.min() if saliency.min() < saliency.max() else 0)
    # A pixel exactly at the threshold counts here; in floats the rounding of the mean decides.
    assume(not np.any(levels * levels.size == 2 * levels.sum()) or not levels.any())
    for mask in one_class_often(drawn):
        expected = pysodmetrics([(saliency, mask)])
        scores = score_image(saliency, mask)
        np.testing.assert_allclose(scores.adaptive_f, expected["adaptive_f"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(scores.mae, expected["mae"], rtol=0, atol=1e-12)
        for name in ("precision", "recall", "f"):
            np.testing.assert_allclose(getattr(scores, name), expected[name], rtol=0, atol=1e-12)


def pysodmetrics(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """The same scores by PySODMetrics, means over images."""
    py_sod_metrics = pytest.importorskip("py_sod_metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f, mae = py_sod_metrics.Fmeasure(), py_sod_metrics.MAE()
    for saliency, mask in images:
        for measure in (f, mae):
            measure.step(saliency, mask.astype(np.uint8) * 255)
    found = f.get_results()
    return {
        "adaptive_f": found["fm"]["adp"],
        "f": found["fm"]["curve"][::-1],
        "precision": found["pr"]["p"][::-1],
        "recall": found["pr"]["r"][::-1],
        "mae": mae.get_results()["mae"],
    }


@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside the repository")
@pytest.mark.parametrize(
    ("dataset", "method"),
    [("sod", method) for method in PUBLISHED_ON_SOD]
    + [("sd900", method) for method in ("2LSG", "BC", "MCITF", "MIL", "SMD", "WMR")],
)
def test_published_maps(dataset: str, method: str) -> None:
    images = [
        (
            np.asarray(Image.open(path).convert("L")),
            np.asarray(Image.open(DATA / dataset / "masks" / f"{path.stem}.png").convert("L")) > 128,
        )
        for path in sorted((DATA / dataset / "maps" / method).iterdir())
    ]
    expected = pysodmetrics(images)
    scores = dataset_scores([score_image(*image) for image in images])
    assert scores.images == len(images)
    assert scores.adaptive_f == pytest.approx(expected["adaptive_f"], abs=1e-9)
    assert scores.mae == pytest.approx(expected["mae"], abs=1e-9)
    assert scores.max_mean_f == pytest.approx(expected["f"].max(), abs=1e-9)
    np.testing.assert_allclose(scores.mean_f, expected["f"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.precision, expected["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.recall, expected["recall"], rtol=0, atol=1e-9)
    if dataset == "sod":
        assert (round(scores.adaptive_f, 4), round(scores.mae, 4)) == PUBLISHED_ON_SOD[method]


@steady
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_perfect_and_inverted_maps(mask: np.ndarray) -> None:
    assume(mask.any() and not mask.all())
    perfect = score_image(mask.astype(np.uint8) * 255, mask)
    assert (perfect.mae, perfect.adaptive_f, perfect.f[1:].min()) == (0, 1, 1)
    inverted = score_image((~mask).astype(np.uint8) * 255, mask)
    assert (inverted.mae, inverted.adaptive_f, inverted.f[1:].max()) == (1, 0, 0)
    assert perfect.precision[0] == inverted.precision[0] == mask.mean()  # threshold 0 finds every pixel


@steady
@given(pairs())
def test_every_score_is_in_range(pair: tuple[np.ndarray, np.ndarray]) -> None:
    saliency, drawn = pair
    for mask in one_class_often(drawn):
        for stretch in (True, False):
            scores = score_image(saliency, mask, stretch=stretch)
            values = as_tuple(scores)
            assert ((values >= 0) & (values <= 1)).all()
            assert (np.diff(scores.recall) <= 0).all()


@pytest.mark.parametrize("stretch", [True, False])
@pytest.mark.parametrize(
    ("level", "everything_found"), [(0, True), (255, True), (1, False), (100, False), (200, False)]
)
def test_constant_map(level: int, everything_found: bool, stretch: bool) -> None:
    mask = np.array([[True, False, False, False]])
    scores = score_image(np.full((1, 4), level, np.uint8), mask, stretch=stretch)
    assert scores.mae == pytest.approx((255 - level + 3 * level) / 255 / 4)
    assert (scores.adaptive_precision, scores.adaptive_recall) == ((0.25, 1) if everything_found else (0, 0))
    assert (scores.precision[: level + 1] == 0.25).all()
    assert (scores.precision[level + 1 :] == 0).all()


def test_empty_and_full_mask() -> None:
    saliency = np.array([[0, 51], [204, 255]], np.uint8)
    empty = score_image(saliency, np.zeros((2, 2), bool))
    assert empty.mae == 0.5
    assert not as_tuple(empty)[1:].any()
    full = score_image(saliency, np.ones((2, 2), bool))
    assert (full.mae, full.adaptive_precision, full.adaptive_recall) == (0.5, 1, 0.25)
    assert (full.precision == 1).all()


@pytest.mark.parametrize(
    ("level", "salient", "mae", "f"),
    [(255, True, 0, 1), (0, False, 0, 0), (255, False, 1, 0), (0, True, 1, 1)],
)
def test_single_pixel(level: int, salient: bool, mae: float, f: float) -> None:
    scores = score_image(np.full((1, 1), level, np.uint8), np.full((1, 1), salient))
    assert (scores.mae, scores.adaptive_f) == (mae, f)


def test_a_pixel_exactly_at_the_threshold_is_found() -> None:
    saliency = np.array([[0] * 7 + [10, 20, 30]], np.uint8)  # twice the mean is 12, so 20 and 30 are found
    mask = saliency > 10
    assert score_image(saliency, mask, stretch=False).adaptive_f == 1
    at_threshold = np.array([[0] * 4 + [30] + [60]], np.uint8)  # twice the mean is 30
    assert score_image(at_threshold, at_threshold > 0, stretch=False).adaptive_recall == 1


@steady
@given(pairs())
def test_the_thresholded_map_is_what_is_found(pair: tuple[np.ndarray, np.ndarray]) -> None:
    saliency, mask = pair
    at_threshold, scores = thresholded(saliency), score_image(saliency, mask)
    both, found, salient = (int(each.sum()) for each in (at_threshold & mask, at_threshold, mask))
    assert scores.adaptive_precision == both / max(found, 1)
    assert scores.adaptive_recall == both / max(salient, 1)


def test_the_four_f_measures_of_a_dataset() -> None:
    """Two images on which all four differ, worked by hand."""
    first = score_image(np.array([[255, 128, 0, 0]], np.uint8), np.array([[True, False, False, False]]))
    second = score_image(np.array([[255, 255, 100, 0]], np.uint8), np.array([[True, False, True, False]]))
    scores = dataset_scores([first, second])

    def f(p: float, r: float) -> float:
        return 1.3 * p * r / (0.3 * p + r)

    # First: 2 · mean < 1 finds the first pixel only: (1, 1). Second: capped at 1, two, one right: (½, ½).
    assert scores.adaptive_f == pytest.approx((f(1, 1) + f(0.5, 0.5)) / 2)
    assert scores.adaptive_f_of_mean_pr == pytest.approx(f(0.75, 0.75))
    # Thresholds 1 ... 100: (½, 1), (⅔, 1); 101 ... 128: (½, 1), (½, ½); 129 ... 255: (1, 1), (½, ½)
    assert scores.max_mean_f == pytest.approx(max(f(1, 1) + 0.5, f(0.5, 1) + f(2 / 3, 1)) / 2)
    assert scores.max_f_of_mean_pr == pytest.approx(max(f(0.75, 0.75), f(7 / 12, 1)))
    assert scores.mae == pytest.approx((128 / 255 + 1 + 155 / 255) / 8)
    assert list(scores.scalars()) == [
        "adaptive_f",
        "adaptive_f_of_mean_pr",
        "max_mean_f",
        "max_f_of_mean_pr",
        "mae",
    ]


@steady
@given(st.lists(pairs(), min_size=1, max_size=4))
def test_dataset_scores_do_not_depend_on_order(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scored = [score_image(*image) for image in images]
    forward, backward = dataset_scores(scored), dataset_scores(scored[::-1])
    assert list(forward.scalars().values()) == pytest.approx(list(backward.scalars().values()), abs=1e-12)
    for curve in (forward.precision, forward.recall, forward.mean_f):
        assert curve.shape == (256,)
    assert forward.max_mean_f <= 1
    assert forward.max_f_of_mean_pr == f_measure(forward.precision, forward.recall).max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quantise_is_the_nearest_level(dtype: type) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(quantise((levels / 255).astype(dtype)), levels)
    near: np.ndarray = np.array([[0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0]], dtype)
    assert quantise(near).tolist() == [[0, 0, 1, 255, 255]]


def test_resize_map() -> None:
    saliency = np.array([[0, 100], [200, 100]], np.uint8)
    assert resize_image(saliency, (2, 2)) is saliency
    assert resize_image(saliency, (1, 1)).tolist() == [[100]]
    assert resize_image(saliency, (2, 4)).tolist() == [[0, 25, 75, 100], [200, 175, 125, 100]]
    assert resize_image(saliency, (30, 20)).shape == (30, 20)


@pytest.mark.parametrize(
    ("saliency", "mask", "error", "says"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), bool), ValueError, r"\(2, 3\).*\(3, 2\)"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), TypeError, "bool mask.*uint8"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), bool), TypeError, "uint8 map.*float32"),
        (np.zeros((0, 2), np.uint8), np.zeros((0, 2), bool), ValueError, "at least one pixel"),
        (np.zeros(2, np.uint8), np.zeros(2, bool), ValueError, "height, width"),
        (np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 1), bool), ValueError, "height, width"),
    ],
)
def test_score_image_names_the_problem(
    saliency: np.ndarray, mask: np.ndarray, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        score_image(saliency, mask)


@pytest.mark.parametrize(
    ("saliency", "error", "says"),
    [
        (np.array([[0, np.nan, np.inf]]), ValueError, "2 values that are not finite"),
        (np.array([[0, 1.5]]), ValueError, r"0 \.\.\. 1.5"),
        (np.array([[-0.1, 1]]), ValueError, r"-0.1 \.\.\. 1"),
        (np.array([[0, 255]], np.uint8), TypeError, "uint8"),
        (np.zeros((1, 2, 2)), ValueError, r"\(1, 2, 2\)"),
    ],
)
def test_quantise_names_the_problem(saliency: np.ndarray, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        quantise(saliency)


def test_other_errors_name_the_problem() -> None:
    with pytest.raises(ValueError, match="no images"):
        dataset_scores([])
    with pytest.raises(ValueError, match="9 and 9"):
        min_max_normalised(9, 9)

"""Figures: every picture in its cell, every text readable where it belongs, and files that a publisher takes."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from menet_jax.images.distortions import Jpeg, Scale
from menet_jax.metrics.scores import score_image
from menet_jax.model.menet import DEPTH
from menet_jax.reporting.plots.comparisons import DETAIL, comparison, failures, with_detail
from menet_jax.reporting.plots.curves import PrCurve, pr_curves
from menet_jax.reporting.plots.page import COLOURS, COLUMN, save, wrapped
from menet_jax.reporting.plots.page import width as text_width
from menet_jax.reporting.plots.rows import Row, image_rows
from menet_jax.reporting.plots.scales import SCALES, principal_colours, scale_maps
from menet_jax.reporting.plots.strengths import StrengthCurve, strength_curves
from menet_jax.reporting.plots.worst_cases import GainCurve, attack_curves

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the PNG


def rendered(figure: Figure, tmp_path: Path) -> np.ndarray:
    return np.asarray(Image.open(save(figure, tmp_path / "figure")[0]).convert("RGB"))


def found(canvas: np.ndarray, colour: tuple[int, int, int]) -> Box:
    """Where a colour is."""
    rows, columns = np.nonzero((np.abs(canvas.astype(int) - colour) <= 2).all(axis=-1))
    assert len(rows) > 400, f"{colour} is nowhere"
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())


def text_boxes(figure: Figure) -> dict[str, Box]:
    """Where each text is drawn, by the text."""
    figure.set_dpi(300)
    renderer = FigureCanvasAgg(figure).get_renderer()
    height = figure.get_figheight() * 300
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    return {text: (box.x0, height - box.y1, box.x1, height - box.y0) for text, box in boxes}


def flat(colour: tuple[int, int, int], shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


def test_every_picture_is_in_its_cell(tmp_path: Path) -> None:
    colours = [[(40 * row + 60, 50 * column + 20, 90) for column in range(4)] for row in range(3)]
    aspects = (0.75, 1.5, 0.2)
    headings = ("image", "ground truth", "a", "longer_names_are_broken-somewhere")
    notes = ("", "σ 20", "three\nlines of\ntext")
    figure = image_rows(
        [
            # pictures of one row differ in size, and fill their cells all the same
            Row(aspect, [flat(c, (20 + 9 * i, 33)) for i, c in enumerate(row)], headings if not index else (), note)
            for index, (aspect, row, note) in enumerate(zip(aspects, colours, notes, strict=True))
        ],
        "a footnote",
    )
    canvas, texts = rendered(figure, tmp_path), text_boxes(figure)
    assert canvas.shape[1] == round(300 * COLUMN)
    boxes = [[found(canvas, colour) for colour in row] for row in colours]
    widths = {right - left for row in boxes for left, _, right, _ in row}
    assert max(widths) - min(widths) <= 2  # all columns are equally wide
    for row, aspect in zip(boxes[:2], aspects[:2], strict=True):
        for left, top, right, bottom in row:
            assert (bottom - top) / (right - left) == pytest.approx(aspect, rel=0.03)
    for row in boxes:
        assert len({(top, bottom) for _, top, _, bottom in row}) == 1
        assert all(one[2] < other[0] for one, other in pairwise(row))
    assert all(above[0][3] < below[0][1] for above, below in pairwise(boxes))

    by_start = {re.sub(r"\s", "", text): box for text, box in texts.items()}
    for heading, cell in zip(headings, boxes[0], strict=True):
        left, top, right, bottom = by_start[heading.replace(" ", "")]
        assert cell[0] - 1 <= left and right <= cell[2] + 1 and bottom < cell[1]
        assert (left + right) / 2 == pytest.approx((cell[0] + cell[2]) / 2, abs=2)
    for note, row in zip(notes[1:], boxes[1:], strict=True):
        left, top, right, bottom = texts[note]
        assert row[-1][2] < left and right < canvas.shape[1]
        assert (top + bottom) / 2 == pytest.approx((row[0][1] + row[0][3]) / 2, abs=4)
    assert boxes[-1][0][3] < texts["a footnote"][1] and texts["a footnote"][3] < canvas.shape[0]
    assert all(float(text.get_fontsize()) >= 6 for text in figure.texts)
    for one in texts.values():
        touching = [b for b in texts.values() if one[0] < b[2] and b[0] < one[2] and one[1] < b[3] and b[1] < one[3]]
        assert touching == [one]


def test_rows_that_do_not_fit() -> None:
    gray = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"rows of one length.*\[1, 2\]"):
        image_rows([Row(1.0, [gray]), Row(1.0, [gray, gray])])
    with pytest.raises(ValueError, match="rows of one length"):
        image_rows([Row(1.0, [gray], ("one", "two"))])
    with pytest.raises(ValueError, match=r"12 columns leave 0\.2\d inches.*at most 10"):
        image_rows([Row(1.0, [gray] * 12)])
    assert len(image_rows([Row(1.0, [gray] * 10)]).axes) == 10
    with pytest.raises(ValueError, match=r"70 rows make a figure 238 inches long: take fewer, for 200"):
        image_rows([Row(1.0, [gray])] * 70)


@pytest.mark.parametrize(("shape", "steep"), [((5000, 1), 4), ((1, 5000), 1 / 4)])
def test_images_that_are_hardly_more_than_a_line_leave_room_for_others(shape: tuple[int, int], steep: float) -> None:
    figure = image_rows([Row(shape[0] / shape[1], [np.zeros(shape, np.uint8)])])
    [axes] = figure.axes
    box = axes.get_position().transformed(figure.transSubfigure)
    assert box.height / box.width == pytest.approx(steep)


@settings(max_examples=25, deadline=None)
@given(st.text("abW_-/ \n", max_size=30), st.floats(0.2, 1.5))
def test_wrapped_text_is_whole_and_narrow(text: str, inches: float) -> None:
    lines = wrapped(text, inches).split("\n")
    assert "".join(lines).replace(" ", "") == re.sub(r"\s", "", text)
    assert all(text_width(line) <= inches or len(line) == 1 for line in lines)


def test_text_breaks_where_it_reads_best() -> None:
    assert wrapped("ground truth", text_width("ground ")) == "ground\ntruth"
    assert wrapped("a_long_name", text_width("a_long_")) == "a_long_\nname"
    assert wrapped("Wiederholung", text_width("Wiederh")) == "Wiederh\nolung"


def test_width_is_what_is_drawn() -> None:
    figure = Figure(figsize=(COLUMN, 1.0))
    for text in ("ground truth", "MMMM", "encoder 0\n224×224"):
        figure.text(0, 0.5, text, size=6.0)
    for text, (left, _, right, _) in text_boxes(figure).items():
        assert text_width(text) * 300 == pytest.approx(right - left, abs=4)


def test_saved_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (210, 320, 3), np.uint8)
    figure = image_rows([Row(210 / 320, [noise] * 5, ("σ",) * 5)])
    first, second = save(figure, tmp_path / "a" / "one.two"), save(figure, tmp_path / "b" / "other")
    assert [path.name for path in first] == ["one.two.png", "one.two.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    pdf = first[1].read_bytes()
    assert b"/Width 320" in pdf and b"/Height 210" in pdf  # no pixel is lost
    assert b"/FontType 3" not in pdf and b"/Subtype /Type3" not in pdf
    # antialiased in the PNG: of independent noise, what remains varies less than single pixels would
    canvas = np.asarray(Image.open(first[0]).convert("L")).astype(float)
    assert canvas[80:130, 30:170].std() < 0.7 * np.asarray(Image.fromarray(noise).convert("L")).std()


def test_comparison(tmp_path: Path) -> None:
    images = [flat((200, 20, 20), (30, 40)), flat((20, 200, 20), (50, 40))]
    truths = [np.eye(9, 12) > 0, np.eye(5, 4) > 0]
    distorted = [flat((200, 90, 20), (30, 40)), flat((20, 200, 90), (50, 40))]
    maps = {"second": [np.full((7, 7), 80, np.uint8), np.full((3, 3), 90, np.uint8)]}
    maps["first"] = [np.full((7, 7), 160, np.uint8), np.full((30, 3), 170, np.uint8)]
    figure = comparison(images, truths, maps, ("noisy", distorted), ("σ 1", "σ 2"))
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    expected = [
        picture
        for row in range(2)
        for picture in (
            images[row],
            with_detail(distorted[row]),
            255 * truths[row].astype(np.uint8),
            maps["second"][row],
            maps["first"][row],
        )
    ]
    for picture, wanted in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(picture, wanted if wanted.ndim == 3 else wanted[..., None].repeat(3, axis=-1))
    texts = text_boxes(figure)
    order = sorted((box[0], text.replace("\n", " ")) for text, box in texts.items() if not text.startswith("σ"))
    assert [text for _, text in order] == ["image", "noisy", "ground truth", "second", "first"]
    canvas = rendered(figure, tmp_path)
    for axes, picture in zip(figure.axes, expected, strict=True):
        box = axes.get_position()
        x, y = box.x0 + 0.25 * box.width, box.y0 + 0.25 * box.height
        pixel = canvas[round((1 - y) * len(canvas)), round(x * canvas.shape[1])]
        if (picture == picture[0, 0]).all():
            assert (pixel == picture[0, 0]).all()
    assert texts["σ 1"][3] < texts["σ 2"][1]

    with pytest.raises(ValueError, match="cannot be called image"):
        comparison(images, truths, {"image": maps["first"]})
    with pytest.raises(ValueError, match=r"want 2 pictures.* of second"):
        comparison(images, truths, {"second": maps["second"][:1]})


def test_the_detail_of_a_distorted_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (210, 320, 3), np.uint8)  # nowhere white
    framed = with_detail(image)
    height, width, line = 84, 128, 3
    top, left = 210 - height, 320 - width
    np.testing.assert_array_equal(framed[: top - line], image[: top - line])
    np.testing.assert_array_equal(framed[:, : left - line], image[:, : left - line])
    assert (framed[top - line : top, left - line :] == 255).all()
    assert (framed[top - line :, left - line : left] == 255).all()
    middle = image[89:120, 136:184]
    assert middle.shape[1] == DETAIL
    at = [np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((height, 31), (width, 48))]
    np.testing.assert_array_equal(framed[top:, left:], middle[np.ix_(*at)])
    assert with_detail(flat((1, 2, 3), (1, 1))).shape == (1, 1, 3)


def test_failures_say_their_scores() -> None:
    mask = np.eye(8) > 0
    maps = [np.full((8, 8), 255, np.uint8), 255 * mask.astype(np.uint8)]
    scores = [score_image(each, mask) for each in maps]
    figure = failures(["one", "two"], [flat((9, 9, 9))] * 2, [mask] * 2, maps, scores, "MEnet")
    texts = set(text_boxes(figure))
    f = 1.3 * (1 / 8) / (0.3 / 8 + 1)
    assert texts == {"image", "ground truth", "MEnet", f"one\nF {f:.3f}\nMAE 0.875", "two\nF 1.000\nMAE 0.000"}


def test_scale_maps_are_where_their_names_are() -> None:
    """Each map has its highest value at a place of its own."""
    scales = np.random.default_rng(0).normal(size=(224, 224, 13)).astype(np.float32)
    for index in range(13):
        scales[10 * index, 7 * index, index] = 100
    features = np.random.default_rng(1).normal(size=(224, 224, 16)).astype(np.float32)
    probability, metric = np.full((224, 224), 0.2, np.float32), np.full((224, 224), 0.6, np.float32)
    figure = scale_maps(flat((9, 90, 9)), np.eye(3) > 0, features, scales, probability, metric)
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(drawn) == 18
    (image, truth, features_drawn, probability_drawn, metric_drawn), maps = (
        drawn[:2] + drawn[3:6],
        drawn[2:3] + drawn[6:],
    )
    assert (image == (9, 90, 9)).all() and (truth == 255 * np.eye(3)[..., None]).all()
    assert features_drawn.shape == (224, 224, 3)
    assert (probability_drawn == 51).all() and (metric_drawn == 153).all()
    for index, picture in enumerate(maps):
        brightest = picture.astype(int).sum(axis=-1).argmax()
        assert divmod(int(brightest), 224) == (10 * index, 7 * index)

    headings = [text.get_text().replace("\n", " ") for text in figure.texts][:18]
    sizes = [224 // 2**k for k in range(DEPTH + 1)]
    named = ["image", "ground truth", "image scale 224×224", "features", "probability map", "metric map"]
    named += [f"encoder {k} {size}×{size}" for k, size in enumerate(sizes)]
    named += [f"decoder {k} {size}×{size}" for k, size in enumerate(sizes[:-1])] + ["bottleneck 7×7"]
    assert headings == named
    for text, axes in zip(figure.texts, figure.axes, strict=False):
        x, y = text.get_position()
        box = axes.get_position()
        assert box.x0 < x < box.x1 and 0 < y - box.y1 < 0.03  # right above its cell


def test_principal_colours() -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4, 16))
    which = rng.integers(0, 4, (20, 30))
    features = directions[which] * rng.uniform(0.5, 2, (20, 30, 1))  # length says nothing
    colours = principal_colours(features)
    classes = [colours[which == index] for index in range(4)]
    assert all((each == each[0]).all() for each in classes)
    assert len({tuple(each[0]) for each in classes}) == 4
    assert colours.min() == 0 and colours.max() == 255

    spread = rng.normal(size=(20, 30, 16)) * np.arange(1, 17)
    unit = spread / np.linalg.norm(spread, axis=-1, keepdims=True)
    flat_unit = unit.reshape(-1, 16) - unit.reshape(-1, 16).mean(axis=0)
    left, _, _ = np.linalg.svd(flat_unit, full_matrices=False)
    drawn = principal_colours(spread).reshape(-1, 3).astype(float)
    for component in range(3):
        assert abs(np.corrcoef(drawn[:, component], left[:, component])[0, 1]) > 0.9999
    assert (principal_colours(np.zeros((4, 5, 16))) == 0).all()


def test_pr_curves_differ_without_colour(tmp_path: Path) -> None:
    recall = np.linspace(1, 0, 256)
    curves = [
        PrCurve(f"method {k} (a/rather/long/path/of/maps/that/{k})", 1 - recall / (k + 1), recall) for k in range(8)
    ]
    figure = pr_curves(curves, "sod")
    lines = figure.axes[0].lines
    for line, curve in zip(lines, curves, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), curve.recall)
        np.testing.assert_array_equal(line.get_ydata(), curve.precision)
    assert len({line.get_linestyle() for line in lines[:4]}) == 4
    assert len({(line.get_linestyle(), line.get_color()) for line in lines}) == 8
    assert {line.get_color() for line in lines} <= set(COLOURS)
    assert rendered(figure, tmp_path).shape[1] == round(300 * COLUMN)
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Subtype /Image" not in pdf  # all is vector


def test_a_curve_whose_name_begins_with_an_underscore_is_in_the_legend() -> None:
    ramp = np.linspace(0, 1, 256)
    [legend] = pr_curves([PrCurve("_ours", ramp, ramp), PrCurve("theirs", ramp, ramp)], "sod").legends
    assert [text.get_text() for text in legend.get_texts()] == ["_ours", "theirs"]


def test_distortion_grows_to_the_right() -> None:
    """Whatever its scale: a curve has the panels of the distortions that it has."""
    blur = Scale("blur radius", clean=0.0)
    curves = [
        StrengthCurve("one", (0.9, 0.1), {blur: {0.0: (0.9, 0.1), 2.0: (0.7, 0.2)}}),
        StrengthCurve("two", (0.8, 0.2), {Jpeg.scale: {80: (0.75, 0.25), 10: (0.5, 0.3)}}),
    ]
    figure = strength_curves(curves, "title")
    f, mae = np.reshape(np.array(figure.axes, object), (2, 2))
    assert [panel.get_xlabel() for panel in mae] == ["blur radius", "JPEG quality"]
    assert [panel.xaxis_inverted() for panel in (*f, *mae)] == [False, True] * 2
    drawn = [[tuple(map(list, line.get_data())) for line in panel.lines if len(line.get_xdata()) > 1] for panel in mae]
    assert ([0.0, 2.0], [0.1, 0.2]) in drawn[0] and ([80, 10], [0.25, 0.3]) in drawn[1]


def test_an_attack_is_drawn_from_no_change_on_to_the_strongest() -> None:
    noise, attack, jpeg = {0.03: 0.8, 2.0: 0.8}, {0.03: 0.7, 2.0: 0.1}, {4.0: 0.8, 14.3: 0.7}
    [axes] = attack_curves([GainCurve("run", 0.8, noise, attack, jpeg)], "title", "strength").axes
    low, high = axes.get_xlim()
    assert -0.03 < low < 0 and 14.3 < high < 30


def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256)
    figure = pr_curves([PrCurve("red\x1b[31m", ramp, ramp)], "\x07")
    save(figure, tmp_path / "figure")  # matplotlib would warn of missing letters, which is an error here
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"red\x1b[31m"]
    assert figure.axes[0].get_title() == r"\x07"


def test_dollars_in_names_are_no_formulae_and_powers_at_axes_are(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256)
    figure = pr_curves([PrCurve("$x^{_$", ramp, ramp)], "$a$ and $b$")
    figure.axes[0].set_xscale("log")
    save(figure, tmp_path / "figure")
    assert not figure.legends[0].get_texts()[0].get_parse_math() and not figure.axes[0].title.get_parse_math()
    [power, *_] = [label for label in figure.axes[0].get_xticklabels() if "10^" in label.get_text()]
    assert power.get_parse_math()


def test_there_is_a_name_for_each_scale() -> None:
    assert len(SCALES) == 13 and len(dict(SCALES)) == 13

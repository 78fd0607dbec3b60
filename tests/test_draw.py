"""The command that draws: the right maps of the right images, and what it refuses."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from menet_jax.data.sources import open_sources
from menet_jax.data.specs import Places
from menet_jax.draw import main
from menet_jax.evaluation import draw_command, selection
from menet_jax.evaluation.predictor import Predictor, look_inside
from menet_jax.images.distortions import add_noise, compress_jpeg
from menet_jax.images.files import Rgb
from menet_jax.images.maps import quantise
from menet_jax.metrics.scores import ImageScores, score_image
from menet_jax.model.inference import Maps
from menet_jax.model.menet import DEPTH
from menet_jax.model.outputs import Outputs
from menet_jax.reporting.plots.comparisons import with_detail
from menet_jax.reporting.plots.scales import SCALES
from menet_jax.training.checkpoint_format import TrainedVariables
from menet_jax.training.config import Config, LossConfig, ModelConfig
from menet_jax.training.network import network
from menet_jax.training.run import TrainedRun

CONFIG = Config(run=Path("narrow"), steps=2, model=ModelConfig(width=1), loss=LossConfig(cross_entropy=0.0))
STEMS = [f"photo_{index}" for index in range(7)]


class Outcome(NamedTuple):
    code: int | str | None
    out: str
    err: str
    figures: list[Figure]

    def pictures(self) -> list[np.ndarray]:
        [figure] = self.figures
        return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]

    def texts(self) -> list[str]:
        [figure] = self.figures
        return [text.get_text() for text in figure.texts]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images with a disc, and in the last one nothing; one lies on its side."""
    folder = tmp_path_factory.mktemp("data") / "discs"
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index, stem in enumerate(STEMS):
        height, width = (90, 70) if index == 2 else (60, 70 + index)
        rows, columns = np.ogrid[:height, :width]
        disc = ((rows - 30) ** 2 + (columns - 20 - 5 * index) ** 2 < 300) & (index < 6)
        image = np.where(disc[..., None], (200, 60, 40), rng.integers(0, 120, (height, width, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{stem}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / "masks" / f"{stem}.png")
    open_sources(
        str(folder), "all", Places(folder.parent / "cache")
    )  # whose progress would be part of the first output
    return folder


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of every image but the fourth, of a size of its own."""
    folder = tmp_path_factory.mktemp("maps") / "other"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index, stem in enumerate(STEMS):
        if index != 3:
            Image.fromarray(rng.integers(0, 256, (40, 30 + index), np.uint8)).save(folder / f"{stem}.png")
    return folder


class Lookalike(Predictor):
    """Instead of a network: the metric map is how red an image is, the probability map how green."""

    def __init__(self, config: Config, _: object, devices: object = None, batch_size: int = 1) -> None:
        self.size, self.batch_size = config.data.size, batch_size

    def evaluate(self, squares: Sequence[Rgb]) -> list[Maps]:
        return [Maps(*(square[..., channel].astype(np.float32) / 255 for channel in (0, 1))) for square in squares]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of which nothing is but names of files; what it predicts is a `Lookalike`'s."""
    folder = tmp_path / "runs" / "narrow"
    (folder / "checkpoints" / "2").mkdir(parents=True)
    (folder / "config.json").write_text("")

    def load(folder: Path, *, newest: bool, report: object) -> TrainedRun:
        assert (folder.name, newest) == ("narrow", False)
        return TrainedRun(CONFIG, TrainedVariables(2, {}, {}, None, {}))

    monkeypatch.setattr(draw_command, "load_run", load)
    monkeypatch.setattr(draw_command, "Predictor", Lookalike)
    return str(folder)


class Command:
    """Runs the command on the dataset, and keeps the figures that it saves."""

    def __init__(self, dataset: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._arguments = ["--data", str(dataset), "--split", "all", "--cache", str(dataset.parent / "cache")]
        self._figures: list[Figure] = []
        save = draw_command.save

        def keep(figure: Figure, stem: Path) -> list[Path]:
            self._figures.append(figure)
            return save(figure, stem)

        monkeypatch.setattr(draw_command, "save", keep)

    def __call__(self, kind: str, *arguments: str | Path, dest: str = "new/figure.png") -> Outcome:
        self._figures.clear()
        words = [kind, *self._arguments, "--dest", str(self.folder / dest), *map(str, arguments)]
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                code: int | str | None = main(words)
            except SystemExit as end:  # how tyro refuses what it cannot parse
                code = end.code
        return Outcome(code, out.getvalue(), err.getvalue(), list(self._figures))


@pytest.fixture
def command(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(dataset, tmp_path, monkeypatch)


def read(folder: Path, stem: str) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{stem}.png"))


def rgb(gray: np.ndarray) -> np.ndarray:
    return gray[..., None].repeat(3, axis=-1)


def assert_same(pictures: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for picture, wanted in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(picture, wanted if wanted.ndim == 3 else rgb(wanted))


def test_a_comparison_of_runs_and_maps(command: Command, dataset: Path, maps: Path, run: str) -> None:
    stems = ["photo_4", "photo_0"]
    done = command("grid", "--run", f"ours={run}", "--maps", f"theirs={maps}", "--images", *stems)
    assert done.code == 0, done.err
    predictor = Lookalike(CONFIG, {})
    expected = []
    for stem in stems:
        image = read(dataset / "images", stem)
        ours = quantise(predictor(image))
        assert ours.shape == image.shape[:2] and ours.min() < ours.max()
        expected += [image, read(dataset / "masks", stem), ours, read(maps, stem)]
    assert_same(done.pictures(), expected)
    assert [text.replace("\n", " ") for text in done.texts()] == ["image", "ground truth", "ours", "theirs"]
    assert "ours: step 2" in done.out and "note" not in done.out
    assert all((command.folder / "new" / f"figure.{kind}").stat().st_size > 1000 for kind in ("png", "pdf"))

    again = command("grid", "--run", run, "--probability", "--images", "photo_4", "--overwrite")
    assert_same(
        [again.pictures()[2]], [quantise(np.asarray(predictor.maps(read(dataset / "images", stems[0])).probability))]
    )
    assert "did not train the probability map" in again.out


def test_comparisons_of_distorted_images(command: Command, dataset: Path, maps: Path, run: str) -> None:
    """The runs see the distorted images, each with its own strength and noise."""
    names = ["photo_1", "photo_5"]
    images = [read(dataset / "images", stem) for stem in names]
    noisy = [add_noise(image, s, name=n, seed=7) for image, s, n in zip(images, (20.0, 60.0), names, strict=True)]
    done = command("grid", "--run", run, "--maps", maps, "--images", *names, "--noise", "20", "60", "--seed", "7")
    assert done.code == 0, done.err
    predictor = Lookalike(CONFIG, {})
    pictures = done.pictures()
    assert_same(pictures[1::5], [with_detail(image) for image in noisy])
    assert_same(pictures[3::5], [quantise(predictor(image)) for image in noisy])
    assert not np.array_equal(pictures[3], rgb(quantise(predictor(images[0]))))
    assert [text for text in done.texts() if "σ" in text] == ["σ 20", "σ 60"]
    assert "note: other: " in done.out

    jpeg = command("grid", "--maps", maps, "--images", *names, "--jpeg", "10", dest="jpeg.png")
    assert_same(jpeg.pictures()[1::4], [with_detail(compress_jpeg(image, 10)) for image in images])
    assert [text.replace("\n", " ") for text in jpeg.texts()] == ["image", "JPEG, quality 10", "ground truth", "other"]


def test_images_from_all_over_the_dataset(command: Command, dataset: Path, maps: Path) -> None:
    (maps / "photo_3.png").write_bytes((maps / "photo_0.png").read_bytes())
    try:
        done = command("grid", "--maps", maps)
    finally:
        (maps / "photo_3.png").unlink()
    drawn = [picture.tobytes() for picture in done.pictures()[::3]]
    assert len(set(drawn)) == draw_command.ROWS
    assert set(drawn) <= {read(dataset / "images", stem).tobytes() for stem in STEMS}


def test_scale_maps_of_a_run(command: Command, dataset: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of width 1, with random numbers for parameters; each map has the size that its name is drawn with."""
    square = jax.ShapeDtypeStruct((1, CONFIG.data.size, CONFIG.data.size, 3), np.float32)
    shapes = jax.eval_shape(network(CONFIG).init, jax.random.key(0), square)
    rng = np.random.default_rng(0)

    def numbers(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        kernel = rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape)
        return (kernel if len(leaf.shape) > 1 else rng.uniform(0.5, 1.5, leaf.shape)).astype(np.float32)

    variables = jax.tree.map(numbers, shapes)
    trained = TrainedRun(CONFIG, TrainedVariables(2, variables, {}, None, {}))
    monkeypatch.setattr(draw_command, "load_run", lambda *_, **__: trained)
    seen = []

    def look(config: Config, variables: Mapping[str, Any], image: Rgb) -> tuple[Outputs, Maps]:
        assert config is CONFIG and variables is trained.variables
        seen.append((image, *look_inside(config, variables, image)))
        return seen[0][1:]

    monkeypatch.setattr(draw_command, "look_inside", look)
    done = command("scales", "--run", run, "--image", "photo_2")
    assert done.code == 0, done.err
    [(image, outputs, maps)] = seen
    np.testing.assert_array_equal(image, read(dataset / "images", "photo_2"))
    pictures = done.pictures()
    assert_same(pictures[:2], [image, read(dataset / "masks", "photo_2")])
    assert_same(pictures[4:6], [quantise(np.asarray(maps.probability)), quantise(np.asarray(maps.metric))])
    probability = jax.nn.softmax(outputs.logits)[..., 1]
    np.testing.assert_allclose(np.asarray(maps.probability), np.asarray(probability), atol=1e-6)
    scales = np.asarray(outputs.scales)
    for index, picture in enumerate([pictures[2], *pictures[6:]]):
        brightness, values = picture.astype(int).sum(axis=-1), scales[..., index]
        assert brightness[values == values.max()].min() > brightness[values == values.min()].max()
    for (name, halvings), values in zip(SCALES, np.moveaxis(scales, -1, 0), strict=True):
        assert values.std() > 0, name
        assert constant_on_blocks(values, 2**halvings), name
        assert not constant_on_blocks(values, 7 * 2**halvings), name
        assert halvings == DEPTH or not constant_on_blocks(values, 2 ** (halvings + 1)), name


def constant_on_blocks(values: np.ndarray, side: int) -> bool:
    """Whether the map is a smaller one enlarged by that factor."""
    blocks = values[: 224 // side * side, : 224 // side * side].reshape(224 // side, side, 224 // side, side)
    return bool((np.ptp(blocks, axis=(1, 3)) == 0).all())


def test_the_worst_images_of_a_run(command: Command, dataset: Path, run: str) -> None:
    done = command("worst", "--run", f"MEnet={run}", "--count", "3", "--batch-size", "4", "--threads", "2")
    assert done.code == 0, done.err
    predictor = Lookalike(CONFIG, {})
    scores, predicted = dict[str, ImageScores](), dict[str, np.ndarray]()
    for stem in STEMS[:6]:  # in the last one there is nothing to find
        predicted[stem] = quantise(predictor(read(dataset / "images", stem)))
        scores[stem] = score_image(predicted[stem], read(dataset / "masks", stem) > 0)
    order = sorted(scores, key=lambda stem: (scores[stem].adaptive_f, -scores[stem].mae))[:3]
    expected = [
        picture
        for stem in order
        for picture in (read(dataset / "images", stem), read(dataset / "masks", stem), predicted[stem])
    ]
    assert_same(done.pictures(), expected)
    notes = [f"{stem}\nF {scores[stem].adaptive_f:.3f}\nMAE {scores[stem].mae:.3f}" for stem in order]
    assert done.texts() == ["image", "ground truth", "MEnet", *notes]
    assert [line.split(".png: ")[0] for line in done.out.splitlines() if "adaptive_f" in line] == order


def test_worst_first() -> None:
    empty = np.zeros((2, 2), bool)
    mask = np.array([[True, False], [False, False]])
    maps = [[[255, 0], [0, 0]], [[0, 0], [255, 255]], [[0, 0], [0, 255]], [[255, 0], [0, 255]]]
    scores = [score_image(np.array(each, np.uint8), mask) for each in maps]
    scores.insert(0, score_image(np.zeros((2, 2), np.uint8), empty))
    assert selection.worst(scores, 9) == [2, 3, 4, 1]  # F is 0 at two and three; MAE .75 and .5
    assert selection.worst(scores, 2) == [2, 3]
    assert selection.worst(scores[:1], 2) == []


def test_impossible_requests_are_refused_in_a_line(
    command: Command, dataset: Path, maps: Path, run: str, tmp_path: Path
) -> None:
    (tmp_path / "old.pdf").write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (tmp_path / "folder.png").mkdir()
    (damaged / "photo_0.png").write_bytes(b"nothing")
    one: list[str | Path] = ["--maps", maps, "--images", "photo_0"]
    cases: list[tuple[list[str | Path], str, str]] = [
        (["grid"], "figure.png", "nothing to compare"),
        (["grid", *one], "figure.jpg", "must end in .png"),
        (["grid", *one], "old.png", "old.pdf is there already; replace it with --overwrite"),
        (["grid", *one], "folder.png", "folder.png is a folder; name a file"),
        (["grid", *one], "old.pdf/figure.png", "old.pdf: is a file, and a folder is needed"),
        (["grid", *one, "--noise", "1", "--jpeg", "1"], "figure.png", "one distortion at a time"),
        (["grid", *one, "--noise", "1", "2"], "figure.png", "--noise: 2 strengths for 1 images"),
        (["grid", *one, "--noise", "-1"], "figure.png", "got -1"),
        (["grid", *one, "--jpeg", "0"], "figure.png", "JPEG quality is 1 ... 100"),
        (["grid", "--maps", maps, maps], "figure.png", "two methods are called other"),
        (["grid", "--maps", maps, "--maps", f"b={maps}"], "figure.png", "--maps: given twice"),
        (["grid", "--maps", f"image={maps}", "--images", "photo_0"], "figure.png", "cannot be called image"),
        (["grid", "--maps", tmp_path / "none"], "figure.png", "is not a folder"),
        (["grid", "--maps", maps, "--images", "photo_3"], "figure.png", "holds no map of photo_3"),
        (["grid", "--maps", maps, "--images", "photo_9"], "figure.png", "no image called photo_9 in"),
        (["grid", "--maps", damaged, "--images", "photo_0"], "figure.png", "damaged/photo_0.png"),
        (["scales", "--run", run, "--image", "photo"], "figure.png", "most like it are photo_"),
        (["worst", "--run", run, "--count", "0"], "figure.png", "--count 0: must be at least 1"),
        (["worst", "--run", "=x"], "figure.png", "want NAME=FOLDER"),
    ]
    for arguments, dest, reason in cases:
        done = command(*map(str, arguments), dest=dest)
        assert done.code == 2 and not done.figures, arguments
        assert reason in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
        assert not (tmp_path / "figure.png").exists()


def test_too_many_columns_are_refused_before_anything_is_drawn(command: Command, maps: Path) -> None:
    done = command("grid", "--maps", *(f"{name}={maps}" for name in "abcdefghij"), "--images", "photo_0")
    assert done.code == 2 and "12 columns leave" in done.err and not done.figures and not done.out.count("run ")


def test_a_figure_that_cannot_be_written(command: Command, maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(figure: Figure, stem: Path) -> list[Path]:
        raise OSError(f"{stem}.png: No space left on device")

    monkeypatch.setattr(draw_command, "save", full)
    done = command("grid", "--maps", maps, "--images", "photo_0")
    assert done.code == 1 and done.err.startswith("error: ") and "No space left on device" in done.err


def test_runs_that_cannot_be_drawn(command: Command, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("grid", "--run", tmp_path / "none", "--images", "photo_0")
    assert (done.code, done.err) == (2, f"error: {tmp_path}/none is not a directory: name the directory that training "
                                        "wrote, as its --run says, or released, the network that comes with "
                                        "menet_jax\n")  # fmt: skip
    plain = dataclasses.replace(CONFIG, model=ModelConfig(width=1, multi_scale=False))
    monkeypatch.setattr(
        draw_command, "load_run", lambda *_, **__: TrainedRun(plain, TrainedVariables(2, {}, {}, None, {}))
    )
    done = command("scales", "--run", f"ours={run}", "--image", "photo_0")
    assert done.code == 2 and "no scale maps" in done.err

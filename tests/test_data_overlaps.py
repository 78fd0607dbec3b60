"""Pictures that a run has seen are found again in what it is scored on, and said to be, or that nobody knows."""

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import benchmark_archives as small
import numpy as np
import pytest
from command_cases import outcome, write_narrow_run
from shallow_menet import SIDE

from menet_jax import evaluate
from menet_jax.data import overlaps
from menet_jax.data.overlaps import Overlap, SeenPictures
from menet_jax.data.sources import Source, open_split
from menet_jax.data.specs import Places
from menet_jax.images import near_duplicates
from menet_jax.images.files import read_image
from menet_jax.robustness.analysis.inputs import open_inputs
from menet_jax.robustness.distortion import command as distortion_command
from menet_jax.robustness.distortion import report
from menet_jax.robustness.distortion.study import Outcome
from menet_jax.robustness.options import MeasuringOptions

pytestmark = pytest.mark.usefixtures("shallow")

TRAINED, VALIDATED = range(6), range(6, 8)
SCORED = {"a.jpg": 3, "b.jpg": 20, "c.jpg": 5, "d.jpg": 21, "e.jpg": 7}
"""Names and pictures of the scored images: by other names, smaller, smoother and more compressed than in training."""


def make_folder(folder: Path, split: str, images: Iterable[tuple[str, bytes, int]]) -> Path:
    files: small.Files = {f"{split}.txt": b""}
    for name, data, index in images:
        files |= {f"images/{name}": data, f"masks/{Path(name).stem}.png": small.gray_mask(index)}
        files[f"{split}.txt"] += f"{name}\n".encode()
    small.write(folder, files)
    return folder


def of(folder: Path, split: str) -> Source:
    return open_split(str(folder), split, Places(folder.parent / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets to train on, to validate on and to score; a run that has seen the first two, one that does not say."""
    root = tmp_path_factory.mktemp("overlaps")
    make_folder(root / "training", "train", [(f"{index}.jpg", small.jpeg(index), index) for index in TRAINED])
    make_folder(root / "validation", "validation", [(f"{i}.jpg", small.jpeg(i), i) for i in VALIDATED])
    make_folder(root / "scored", "test", [(name, small.recompressed(i), i) for name, i in SCORED.items()])
    make_folder(root / "disjoint", "test", [(f"{i}.jpg", small.jpeg(i), i) for i in range(30, 33)])
    overlaps.keep(
        write_narrow_run(root / "seen", size=SIDE),
        [of(root / "training", "train")],
        [of(root / "validation", "validation")],
    )
    write_narrow_run(root / "unknown", size=SIDE)
    return root


def test_thumbnails_are_made_once(root: Path, tmp_path: Path) -> None:
    source = of(root / "training", "train")
    expected = [near_duplicates.thumbnail(read_image(small.jpeg(index))) for index in TRAINED]
    assert source.thumbnails is not None and source.thumbnails.exists()
    np.testing.assert_array_equal(overlaps.thumbnails(source), expected)
    records = source.records
    never_read = Source(source.name, source.split, source.counts, (), 0, range(6), source.thumbnails)
    np.testing.assert_array_equal(overlaps.thumbnails(never_read), expected)
    source.thumbnails.write_bytes(source.thumbnails.read_bytes()[:500])
    np.testing.assert_array_equal(overlaps.thumbnails(source), expected)
    elsewhere = Source(source.name, source.split, source.counts, (), 0, records, tmp_path / "none" / "x.npy")
    np.testing.assert_array_equal(overlaps.thumbnails(elsewhere), expected)  # though it cannot be written
    drawn = Source("synthetic", "train", {}, (), 0, records)
    assert overlaps.thumbnails(drawn).shape == (0, 16, 16, 3)


def test_seen_pictures_are_found_under_any_name(root: Path) -> None:
    seen = overlaps.load(root / "seen")
    assert seen is not None
    assert overlaps.find(seen, [of(root / "scored", "test")]) == Overlap(("a.jpg", "c.jpg"), ("e.jpg",))
    assert overlaps.find(seen, [of(root / "disjoint", "test")]) == Overlap((), ())
    both = seen._replace(validated=seen.trained)  # trained on: that it was validated on as well does not matter
    assert overlaps.find(both, [of(root / "scored", "test")]) == Overlap(("a.jpg", "c.jpg"), ())
    assert overlaps.find(seen, [of(root / "training", "train")]).trained == tuple(f"{index}.jpg" for index in TRAINED)
    nothing = SeenPictures(seen.trained[:0], seen.trained[:0])
    assert overlaps.find(nothing, [of(root / "scored", "test")]) == Overlap((), ())


def test_marks() -> None:
    both = Overlap(("a", "b"), ("c",))
    assert both.mark() == " (2 trained on, 1 validated on)"
    assert both.mark(["b", "d"]) == " (1 trained on)"
    assert both.mark(["c"]) == " (1 validated on)"
    assert both.mark([]) == Overlap((), ()).mark() == ""


def test_what_a_run_was_validated_on_before_stays(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "seen" / "pictures.npz", tmp_path)
    training = [of(root / "training", "train")]
    for _ in range(2):
        overlaps.keep(tmp_path, training, [of(root / "disjoint", "test")])
    seen = overlaps.load(tmp_path)
    assert seen is not None and (len(seen.trained), len(seen.validated)) == (6, 2 + 3)
    assert overlaps.find(seen, [of(root / "scored", "test")]).validated == ("e.jpg",)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.npz"]


def test_scores_on_seen_pictures_are_marked(root: Path, tmp_path: Path) -> None:
    runs, data = (root / "seen", root / "unknown"), (root / "scored", root / "disjoint")
    done = outcome(evaluate.main, "--run", *runs, "--data", *data, "--cache", root / "cache", "--dest", tmp_path)
    assert done.code == 0, done.err
    trained = "seen was trained on 2 of the 5 images of scored (test), or nearly the same, and its scores there are"
    validated = "seen was validated on 1 of the 5 images of scored (test), or nearly the same, and its best checkpoint"
    unchecked = "unknown: not checked for images that it was trained on, which are not known"
    assert f"warning: {trained} flattered: a.jpg, c.jpg" in done.err
    assert f"warning: {validated} was chosen by them: e.jpg" in done.err
    assert f"warning: {unchecked}" in done.err and done.err.count("warning") == 3
    assert done.out.count("; which pictures it was trained on is not kept") == 1
    with (tmp_path / "results.csv").open() as file:
        images = [(row["dataset"], row["method"], row["images"]) for row in csv.DictReader(file)][::2]
    assert images == [
        ("scored (test)", "seen", "5 (2 trained on, 1 validated on)"),
        ("scored (test)", "unknown", "5"),
        ("disjoint (test)", "seen", "3"),
        ("disjoint (test)", "unknown", "3"),
    ]
    assert images[0][2] in done.out
    for name in ("results.md", "results.tex"):
        text = (tmp_path / name).read_text()
        assert text.count(trained) == text.count(validated) == text.count(unchecked) == 1
    content = json.loads((tmp_path / "results.json").read_text())
    assert {(row["method"], row["dataset"]): row["seen"] for row in content["results"]} == {
        ("seen", "scored (test)"): {"trained": ["a.jpg", "c.jpg"], "validated": ["e.jpg"]},
        ("seen", "disjoint (test)"): {"trained": [], "validated": []},
        ("unknown", "scored (test)"): None,
        ("unknown", "disjoint (test)"): None,
    }


def test_a_damaged_file_is_named(root: Path, tmp_path: Path) -> None:
    run = shutil.copytree(root / "seen", tmp_path / "run")
    (run / "pictures.npz").write_bytes((run / "pictures.npz").read_bytes()[:900])
    done = outcome(evaluate.main, "--run", run, "--data", root / "disjoint", "--cache", root / "cache")
    assert done.code == 2 and f"error: {run / 'pictures.npz'}: cannot be read" in done.err


def test_the_other_analyses_mark_them_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, data, cache = (str(root / "seen"),), (str(root / "scored"),), root / "cache"
    distorted = distortion_command.prepare(distortion_command.Distortion(run=runs, data=data, cache=cache))
    [run], [dataset] = distorted.runs, distorted.datasets
    nothing_scored = Outcome(dataset, distorted.wanted.clean, run, "metric", ())
    assert report.strengths([nothing_scored])[0].labels["images"] == "0/5 (2 trained on, 1 validated on)"
    [(run, _)], _, _ = open_inputs(MeasuringOptions(run=runs, data=data, cache=cache), "metric")
    assert run.mark(dataset, ["c.jpg", "d.jpg"]) == " (1 trained on)"
    assert capsys.readouterr().err.count("warning: seen was trained on 2 of the 5 images of scored (test)") == 2

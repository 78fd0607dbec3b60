"""Folders that are not split, because what to validate on is named; and runs from before that was so."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from menet_jax import train
from menet_jax.data.sources import Source
from menet_jax.train import main
from menet_jax.training import config as configuration
from menet_jax.training.command import describe, open_data, with_whole
from menet_jax.training.config import Config
from menet_jax.training.presets import PRESETS
from menet_jax.training.step import TrainState

COUNTS = {"mine": 20, "other": 7, "listed": 6, "third": 5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders to be split by a hash, and one with list files, whose three parts have two images each."""
    root = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
            for index in range(count):
                array = rng.integers(0, 256, (8, 9, 3), np.uint8) if kind == "images" else np.eye(8, 9, dtype=bool)
                Image.fromarray(array).save(root / name / kind / f"{index}.png")
    for number, split in enumerate(("train", "validation", "test")):
        (root / "listed" / f"{split}.txt").write_text(f"{2 * number}\n{2 * number + 1}\n")
    return root


def parse(arguments: Sequence[str]) -> Config:
    return with_whole(train.parse(arguments))


def flags(folders: Path, train: Sequence[str], validation: Sequence[str] = ()) -> list[str]:
    named = ["--data.train", *(str(folders / name) for name in train)]
    named += ["--data.validation", *(str(folders / name) for name in validation)] if validation else []
    return [*named, "--data.cache", str(folders / "cache"), "--batch-size", "4", "--run", str(folders / "run")]


def opened(folders: Path, train: Sequence[str], validation: Sequence[str] = ()) -> tuple[list[Source], list[Source]]:
    return open_data(parse(flags(folders, train, validation)))


def names(sources: Sequence[Source]) -> list[set[str]]:
    return [{source.file_name(index) for index in range(len(source))} for source in sources]


def everything(name: str) -> set[str]:
    return {f"{index}.png" for index in range(COUNTS[name])}


def test_a_folder_is_split_where_nothing_else_is_validated_on(folders: Path) -> None:
    training, validation = opened(folders, ["mine"])
    [trained], [validated] = names(training), names(validation)
    assert trained and validated and not trained & validated
    assert len(trained) + len(validated) < 20
    assert "split by a hash" in training[0].summary()


def test_what_is_named_for_one_is_used_whole(folders: Path) -> None:
    training, validation = opened(folders, ["mine", "third"], ["other"])
    assert names(training) == [everything("mine"), everything("third")]
    assert names(validation) == [everything("other")]
    assert training[0].summary() == f"{folders / 'mine'}: all 20 images; used whole"
    config = PRESETS["quickstart"].config
    state = TrainState(np.zeros(()), {}, {}, (), np.zeros(2))
    assert f"validation   all 7 images of {folders / 'other'}" in describe(
        config, jax.devices(), training, validation, state
    )


def test_what_is_named_for_both_is_split(folders: Path) -> None:
    training, validation = opened(folders, ["mine", "other"], ["other/../other", "third"])
    assert names(training)[0] == everything("mine") and names(validation)[1] == everything("third")
    trained, validated = names(training)[1], names(validation)[0]
    assert trained and validated and not trained & validated


def test_lists_and_datasets_decide_for_themselves(folders: Path) -> None:
    training, validation = opened(folders, ["listed"], ["mine"])
    assert names(training) == [{"0.png", "1.png"}] and names(validation) == [everything("mine")]
    training, validation = opened(folders, ["mine"], ["listed"])
    assert names(training) == [everything("mine")] and names(validation) == [{"2.png", "3.png"}]
    assert parse(["--data.train", "duts", "--data.validation", "msra10k"]).data.whole == ()


def started(folders: Path, run: Path, train: Sequence[str], validation: Sequence[str] = ()) -> list[str]:
    """A run that began with these data; the flags that resume it."""
    config = parse([*flags(folders, train, validation)[:-1], str(run)])
    run.mkdir()
    configuration.write(config, run / "config.json")
    return ["--run", str(run), "--resume"]


def test_a_resumed_run_trains_on_what_it_began_with(folders: Path, tmp_path: Path) -> None:
    split = started(folders, tmp_path / "split", ["mine"])
    whole = started(folders, tmp_path / "whole", ["mine"], ["other"])
    third = ["--data.validation", str(folders / "third")]
    for resume, expected in ((split, names(opened(folders, ["mine"])[0])), (whole, [everything("mine")])):
        for more, validated in (([], None), (third, everything("third"))):
            training, validation = open_data(parse([*resume, *more]))
            assert names(training) == expected
            assert validated is None or names(validation) == [validated]
    assert names(open_data(parse(whole))[1]) == [everything("other")]


@pytest.mark.parametrize("validation", [["mine"], []])
def test_a_run_does_not_begin_to_validate_on_what_it_trains_on(
    validation: list[str], folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = started(folders, tmp_path / "whole", ["mine"], ["other"])
    assert main([*resume, "--data.validation", *(str(folders / name) for name in validation)]) == 2
    assert "--data.validation: the run is trained on all images of" in capsys.readouterr().err


def test_older_runs_keep_their_split(folders: Path, tmp_path: Path) -> None:
    """Theirs was by the hash whatever they validated on, and their configuration does not tell."""
    resume = started(folders, tmp_path / "old", ["mine"], ["other"])
    saved = json.loads((tmp_path / "old" / "config.json").read_text())
    assert saved["data"].pop("whole") == [str(folders / "mine"), str(folders / "other")]
    (tmp_path / "old" / "config.json").write_text(json.dumps(saved))
    training, validation = open_data(parse(resume))
    assert names(training) == names(opened(folders, ["mine"])[0])
    assert names(validation) == names(opened(folders, ["other"])[1])
    _, validation = open_data(parse([*resume, "--data.validation", str(folders / "third")]))
    assert names(validation) == [everything("third")]

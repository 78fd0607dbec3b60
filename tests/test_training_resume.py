"""What a run is resumed with: its own configuration, unchanged or recovered, and its data, wherever that lies now."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_cases import outcome, write_discs, write_narrow_run
from shallow_menet import SIDE

from menet_jax.data.specs import Places
from menet_jax.train import main, parse
from menet_jax.training import config as configuration
from menet_jax.training.command import open_data, with_full_paths, with_whole
from menet_jax.training.config import Config, DataConfig
from menet_jax.training.kept_config import check_unchanged, read_config
from menet_jax.training.run import load_run, open_run

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.mark.parametrize("damage", ["", "\udcff\x00"])
def test_a_damaged_configuration_is_recovered_from_a_checkpoint(damage: str, tmp_path: Path) -> None:
    run = write_narrow_run(tmp_path / "run", size=SIDE)
    expected = configuration.read(run / "config.json")
    (run / "config.json").write_bytes(damage.encode(errors="surrogateescape"))
    said: list[str] = []
    assert read_config(run, report=said.append) == expected
    [sentence] = said
    assert str(run / "config.json") in sentence and "checkpoint of step 2 is used" in sentence
    assert load_run(run, report=said.append).config.model.width == 1
    assert said == [sentence] * 2
    check_unchanged(run)
    assert parse(["--run", str(run), "--resume"]) == dataclasses.replace(expected, resume=True)
    (run / "checkpoints" / "2" / "record" / "metadata").unlink()
    with pytest.raises(ValueError, match=r"config\.json does not hold a configuration"):
        read_config(run, report=pytest.fail)


def test_a_configuration_that_was_changed_is_refused_by_its_field(tmp_path: Path) -> None:
    run = write_narrow_run(tmp_path / "run", size=SIDE)
    saved = json.loads((run / "config.json").read_text())
    saved["steps"] = 7  # resuming may change it
    saved["optimizer"]["learning_rate"] = 0.2
    (run / "config.json").write_text(json.dumps(saved))
    refused = outcome(main, "--run", run, "--resume")
    assert refused.code == 2
    assert f"{run / 'config.json'} was changed since the checkpoint of step 2" in refused.err
    assert "--optimizer.learning-rate was 0.1, is 0.2." in refused.err and "steps" not in refused.err


def test_a_run_is_resumed_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_discs(tmp_path / "here" / "discs", 2)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = with_full_paths(parse(["--data.train", "discs", "synthetic", "--data.cache", "cache", "--run", "run"]))
    assert config.data.train == (str(tmp_path / "here" / "discs"), "synthetic")
    assert config.data.cache == tmp_path / "here" / "cache"
    open_run(config)
    monkeypatch.chdir(tmp_path / "there")
    assert parse(["--run", "../here/run", "--resume"]).data == config.data


def test_a_run_follows_its_data(tmp_path: Path) -> None:
    """The folders' places change, and what they are used for does not."""
    for name in ("mine", "other"):
        write_discs(tmp_path / name, 3)
    cache = tmp_path / "cache"
    data = DataConfig((str(tmp_path / "mine"),), (str(tmp_path / "other"),), cache=cache)
    config = with_whole(Config(run=tmp_path / "run", steps=2, data=data))
    open_run(config)
    trained, _ = open_data(config)
    for name in ("mine", "other"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    lost = outcome(main, "--run", config.run, "--resume")
    assert lost.code == 2 and "has moved, name its new place: --data.train" in lost.err
    places = [f"{tmp_path}/moved/{name}" for name in ("mine", "other")]
    flags = ["--data.train", places[0], "--data.validation", places[1]]
    moved = with_whole(parse(["--run", str(config.run), "--resume", *flags]))
    assert moved.data.whole == tuple(places) and moved.data.places(skip_bad=False) == Places(cache)
    training, validation = open_data(moved)
    assert [source.identity for source in training] == [source.identity for source in trained]
    assert validation[0].identity.startswith("all")
    with pytest.raises(ValueError, match="is trained on all images of"):
        with_whole(parse(["--run", str(config.run), "--resume", *flags[:2], "--data.validation", places[0]]))


@pytest.mark.parametrize("again", [{"resume": True}, {"overwrite": True}])
def test_two_trainings_in_one_run_directory_are_refused(again: dict[str, Any], tmp_path: Path) -> None:
    config = Config(run=tmp_path / "run", steps=3)
    held = open_run(config)
    kept = (config.run / "config.json").stat().st_ino
    refused = outcome(main, "--run", config.run, *(f"--{name}" for name in again))
    assert refused.code == 2 and f"--run {config.run}: another process is training there" in refused.err
    assert (config.run / "config.json").stat().st_ino == kept
    del held
    open_run(dataclasses.replace(config, **again))


def test_what_is_in_a_run_directory_is_overwritten_and_a_link_to_it_stays(tmp_path: Path) -> None:
    run = write_narrow_run(tmp_path / "run", size=SIDE)
    (run / "elsewhere").symlink_to(tmp_path)
    before = os.open(run, os.O_RDONLY)
    link = tmp_path / "link"
    link.symlink_to(run)
    open_run(Config(run=link, steps=3, overwrite=True))
    assert link.is_symlink() and [path.name for path in run.iterdir()] == ["config.json"]
    assert configuration.read(run / "config.json").steps == 3
    assert os.path.samestat(os.fstat(before), run.stat())
    os.close(before)

"""The training command: flags and run directories that it takes, and what it refuses before anything is trained."""

from pathlib import Path

import numpy as np
import pytest

from menet_jax.images.distortions import Jpeg, Noise
from menet_jax.train import main, parse
from menet_jax.training import config as configuration
from menet_jax.training.config import LossConfig
from menet_jax.training.presets import PRESETS


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_unknown_preset_suggests_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean quickstart?" in refused(capsys, "quikstart")


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--modle.width", "4"], "--model.width"),
        (["--data.size", "230"], "try 224"),
        (["--batch-size", "0"], "at least 1"),
        (["--steps", "99999999999"], "less than 2**31"),
        (["--optimizer.drops", "1", "99999999999"], "less than 2**31"),
        (["--optimizer.momentum", "1"], "[0, 1)"),
        (["--steps", "many"], "many"),
        (["--seed", "5000000000"], "less than 2**32"),
        (["--optimizer.learning-rate", "inf"], "finite"),
        (["--distributed.coordinator", "localhost"], "HOST:PORT"),
        (["--data.distort", "50"], "from 0 to 1"),
        (["--data.distort-sigma", "9", "5"], "--data.distort-sigma 9.0 5.0"),
        (["--data.distort-quality", "0", "5"], "--data.distort-quality 0 5"),
    ],
)
def test_bad_flags_are_refused_with_a_hint(flags: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert hint in " ".join((captured.out + captured.err).replace("│", " ").split())  # unwrapped


def test_ablations_are_trained_by_name_and_narrow_on_ones_own_data() -> None:
    config = parse(
        ["ce-plain", "--data.train", "mine", "--model.width", "8", "--steps", "700", "--optimizer.drops", "450", "600"]
    )
    assert (config.model.multi_scale, config.model.width, config.loss.metric) == (False, 8, 0.0)
    assert (config.data.train, config.steps, config.optimizer.drops) == (("mine",), 700, (450, 600))
    flags = ["metric-only", "--loss.no-squared", "--loss.no-mining", "--loss.no-stop-centres"]
    assert parse(flags).loss == LossConfig(1.0, 0.0, squared=False, mining=False, stop_centres=False)


def test_training_sees_distorted_images_only_if_asked_to() -> None:
    assert all(preset.config.data.distort == 0 for preset in PRESETS.values())
    asked = parse(["--data.distort", "0.25", "--data.distort-sigma", "1", "2", "--data.distort-quality", "3", "4"])
    assert asked.data.distort == 0.25
    assert asked.data.distortions == (Noise(1.0, 2.0), Jpeg(3, 4))


def test_a_flag_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data.train: given twice" in refused(capsys, "--data.train", "a", "--data.train", "b")


def test_help_describes_presets_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for expected in ("quickstart", "paper", "--data.train", "Expected", "Hardware and time"):
        assert expected in text


def occupied(path: Path) -> Path:
    path.mkdir()
    configuration.write(PRESETS["quickstart"].config, path / "config.json")
    return path


def test_a_run_is_neither_mixed_nor_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = occupied(tmp_path / "run")
    message = refused(capsys, "--run", str(run), "--batch-size", "4")
    assert "--resume" in message and "--overwrite" in message
    assert (run / "config.json").exists()


def test_a_directory_of_something_else_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "no run" in refused(capsys, "--run", str(tmp_path), "--batch-size", "4", "--overwrite")
    assert (tmp_path / "thesis.tex").exists()


def test_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run" in refused(capsys, "--run", str(tmp_path / "none"), "--resume")


def test_a_run_resumes_with_its_own_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = occupied(tmp_path / "run")
    assert parse(["--run", str(run), "--resume"]).model.width == 4
    assert "leave out paper" in refused(capsys, "paper", "--run", str(run), "--resume")
    assert parse(["--run", str(run), "--resume", "--steps", "999"]).steps == 999
    message = refused(capsys, "--run", str(run), "--resume", "--model.width", "8", "--seed", "3")
    assert "--model.width was 4, is 8" in message and "--seed was 0, is 3" in message


def test_a_damaged_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = occupied(tmp_path / "run")
    (run / "config.json").write_text('{"run": "x", "steps": 10, "widht": 3}')
    message = refused(capsys, "--run", str(run), "--resume")
    assert "config.json" in message and "widht" in message


def test_indivisible_batch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not divide by 4 devices; try 4 or 8" in refused(capsys, "--run", str(tmp_path / "run"))


def test_missing_folder_and_missing_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--run", str(tmp_path / "run"), "--batch-size", "4"]
    assert "nowhere" in refused(capsys, *run, "--data.train", str(tmp_path / "nowhere"))
    assert "--device tpu: JAX finds none here" in refused(capsys, *run, "--device", "tpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_survive_the_file(name: str, tmp_path: Path) -> None:
    config = PRESETS[name].config
    (tmp_path / "config.json").write_text("before")
    before = (tmp_path / "config.json").stat().st_ino
    configuration.write(config, tmp_path / "config.json")
    assert (tmp_path / "config.json").stat().st_ino != before  # another takes its place, whole
    assert configuration.read(tmp_path / "config.json") == config
    assert np.isfinite(config.steps)

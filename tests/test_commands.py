"""Commands answer at once where there is nothing to compute: help and refusals import nothing that takes long."""

import subprocess
import sys
from pathlib import Path

import pytest
from light_process import Done, run_module

HEAVY = {
    *("jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets"),
    *("matplotlib", "scipy", "tensorboardX", "tornado"),
}

COMMANDS = {
    "train": [],
    "predict": [],
    "demo": [],
    "export": [],
    "evaluate": [],
    "robustness": ["distortion", "jacobian", "bound", "attack", "smooth", "summary"],
    "draw": ["grid", "scales", "worst"],
    "data": ["show", "check"],
    "authors": ["import", "export"],
    "benchmark": ["all", "training", "inference", "tpu", "pytorch", "upsampling", "jacobian", "pipeline", "scores"],
}


def run(command: str, *arguments: str) -> Done:
    return run_module(f"menet_jax.{command}", *arguments)


@pytest.mark.parametrize(
    "words", [[name, *which] for name, subcommands in COMMANDS.items() for which in ([], *([s] for s in subcommands))]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    status, text, modules = run(*words, "--help")
    assert status == 0 and "--" in text
    assert "menet_jax" in modules and not HEAVY & modules


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag_imports_nothing_heavy(name: str) -> None:
    status, text, modules = run(name, *COMMANDS[name][:1], "--no-such-flag", "1")
    assert status == 2 and "╭" in text
    assert not HEAVY & modules


def test_the_package_itself_imports_nothing_heavy_until_it_is_asked() -> None:
    code = f"import sys, menet_jax; assert not {HEAVY} & set(sys.modules); menet_jax.MENet; assert 'jax' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


REFUSED = {
    "train": "--resume --run {none}",
    "predict": "--run {none} --source {there} --dest {there}/maps",
    "predict a missing image": "--run {there} --source {none} --dest {there}/maps",
    "predict by the older flag": "--checkpoint {none} --source {there} --dest {there}/maps",
    "demo": "--run {none}",
    "demo at no port": "--port 65536",
    "evaluate": "--run {none} --data {there}",
    "evaluate maps": "--maps {none} --masks {there}",
    "evaluate nothing": "",
    "robustness distortion": "--run {none} --data {there}",
    "robustness distortion without strength": "--run {there} --data {there} --sigmas -1",
    "robustness jacobian": "--run {none} --data {there}",
    "robustness jacobian of nothing": "--run {there} --data {there} --sigma 0",
    "robustness bound": "--run {none}",
    "robustness attack": "--run {none} --data {there}",
    "robustness attack of strength 0": "--run {there} --data {there} --strengths 0",
    "robustness smooth": "--run {none} --data {there}",
    "robustness smooth without noise": "--run {there} --data {there} --sigmas 0",
    "robustness summary": "--attack {none} --smooth {none} --dest {there}/summary",
    "draw grid": "--run {none} --data {there} --dest {there}/grid.png",
    "draw scales": "--run {none} --data {there} --image 1 --dest {there}/scales.png",
    "draw worst": "--run {none} --data {there} --dest {there}/worst.png",
    "export": "{none} --dest {there}/network.safetensors",
    "authors import": "{none} --dest {there}/run",
    "authors export": "{none} --dest {there}/weights.npz",
    "benchmark scores": "--maps {none} --masks {there}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_refused_before_anything_heavy(case: str, tmp_path: Path) -> None:
    name, *rest = case.split()
    words = [*rest[: bool(COMMANDS[name])], *REFUSED[case].format(none=tmp_path / "none", there=tmp_path).split()]
    status, text, modules = run(name, *words)
    assert status == 2 and "error: " in text and text.count("\n") <= 1, text
    assert not HEAVY & modules, text


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--data.train", "nowhere", "--run", "new"],
        ["evaluate", "--run", "run", "--data", "nowhere"],
        ["draw", "grid", "--maps", "maps", "--data", "nowhere", "--dest", "grid.png"],
        ["data", "show", "nowhere", "--dest", "batch.png"],
        ["data", "check", "nowhere", "--dest", "check.png"],
        ["benchmark", "pipeline", "--data", "nowhere"],
    ],
)
def test_an_unknown_dataset_is_refused_before_jax(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("")
    (tmp_path / "maps").mkdir()
    status, text, modules = run(*words)
    assert status == 2 and "nowhere is neither a dataset nor a folder" in text
    assert not {"jax", "flax", "orbax", "grain"} & modules, text

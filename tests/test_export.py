"""A trained network as one file: it predicts as its run does, says what it is, and notices damage."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from command_cases import outcome, write_narrow_run
from safetensors.numpy import load_file, save_file

import menet_jax
from menet_jax.evaluation import options
from menet_jax.evaluation.export_command import to_onnx
from menet_jax.export import main
from menet_jax.model.inference import eval_step
from menet_jax.model.saliency import border
from menet_jax.training import run_folder
from menet_jax.training.config import LossConfig
from menet_jax.training.network import network
from menet_jax.training.presets import PRESETS
from menet_jax.training.run import load_run, write_release
from menet_jax.training.step import create_state

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
OTHER_PROGRAM = """
import sys
import jax, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
metric, probability = program.call(np.load(sys.argv[2]))
np.savez(sys.argv[3], metric=metric, probability=probability, platforms=program.platforms)
assert not any(name.startswith("menet_jax") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on a folder of this machine."""
    train, cache = ("/home/me/photographs", "duts"), Path("/home/me/cache")
    return write_narrow_run(tmp_path_factory.mktemp("runs") / "narrow", train=train, cache=cache)


@pytest.fixture(scope="module")
def weights(run: Path) -> Path:
    file = run.parent / "network.safetensors"
    assert outcome(main, run, "--dest", file).code == 0
    return file


def test_weights_are_a_run_of_half_the_size(run: Path, weights: Path) -> None:
    parameters = jax.tree.leaves(load_run(run, report=pytest.fail).variables["params"])
    assert sum(each.nbytes for name, each in load_file(weights).items() if "params/" in name) == 2 * sum(
        each.size for each in parameters
    )
    ours, theirs = menet_jax.load_predictor(weights).maps(IMAGES[0]), menet_jax.load_predictor(run).maps(IMAGES[0])
    for kind, half in ours.named().items():
        # Of random weights, which cancel far more than trained ones.
        assert np.abs(half - theirs.named()[kind]).mean() < 2e-3


def test_weights_say_what_they_are_and_nothing_of_the_machine(weights: Path) -> None:
    assert repr(menet_jax.load_predictor(weights)) == f"<Predictor {weights}, step 2 on photographs, duts>"
    assert load_run(weights, report=pytest.fail).score == ("metric_adaptive_f", 0.5)
    assert b"/home/me" not in weights.read_bytes() and str(weights.parent).encode() not in weights.read_bytes()


def test_released_is_the_network_of_the_package(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "SHIPPED", weights)
    monkeypatch.chdir(tmp_path)
    assert repr(menet_jax.load_predictor()) == "<Predictor released, step 2 on photographs, duts>"
    (tmp_path / "released").mkdir()
    with pytest.raises(ValueError, match=f"name that one {tmp_path}/released"):
        menet_jax.load_predictor()


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_a_flipped_bit_is_found(weights: Path, tmp_path: Path, place: float) -> None:
    contents = bytearray(weights.read_bytes())
    contents[int(place * len(contents))] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(contents)
    with pytest.raises(ValueError, match=f"{damaged}: damaged"):
        load_run(damaged, report=pytest.fail)


def test_weights_of_others_are_refused_with_a_way_in(weights: Path, tmp_path: Path) -> None:
    others = tmp_path / "others.safetensors"
    save_file(load_file(weights), others)
    with pytest.raises(ValueError, match=r"menet_jax\.authors import"):
        load_run(others, report=pytest.fail)
    another = tmp_path / "network.txt"
    another.touch()
    with pytest.raises(ValueError, match="neither a run directory nor"):
        load_run(another, report=pytest.fail)


def test_no_checkpoint_is_called_damaged_for_want_of_a_device(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", Mock(side_effect=RuntimeError("no driver")))
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ValueError, match=r"^JAX finds no device of JAX_PLATFORMS=cuda to compute on: .*no driver"):
        load_run(run, report=pytest.fail)


def test_a_parameter_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    trained = load_run(write_narrow_run(tmp_path / "run"), report=pytest.fail)
    kernel = trained.variables["params"]["stem_conv"]["kernel"]
    kernel[0, 0, 0, 0] = 7e4
    with pytest.raises(ValueError, match=r"params/stem_conv/kernel holds 70000\.0, and float16 ends at 65504\.0"):
        write_release(trained, tmp_path / "network.safetensors")
    assert not (tmp_path / "network.safetensors").exists()


def test_stablehlo_runs_where_menet_jax_is_not(run: Path, tmp_path: Path) -> None:
    program = tmp_path / "network.stablehlo"
    assert outcome(main, run, "--dest", program, "--format", "stablehlo").code == 0
    np.save(tmp_path / "images.npy", IMAGES)
    files = [program, tmp_path / "images.npy", tmp_path / "maps.npz"]
    subprocess.run([sys.executable, "-c", OTHER_PROGRAM, *map(str, files)], check=True, cwd=tmp_path)
    with np.load(files[2]) as arrays:
        found, predictor = dict(arrays), menet_jax.load_predictor(run)
    assert list(found["platforms"]) == ["cpu", "cuda", "rocm", "tpu"]
    for index, image in enumerate(IMAGES):
        expected = predictor.maps(image)
        assert np.abs(found["metric"][index] - expected.metric).max() < 1e-4
        assert np.abs(found["probability"][index] - expected.probability).max() < 1e-4


def differences(program: bytes, images: np.ndarray, expected: Sequence[np.ndarray]) -> list[float]:
    """Of ONNX's maps from those expected, the largest of each."""
    session = pytest.importorskip("onnxruntime").InferenceSession(program, providers=["CPUExecutionProvider"])
    found = session.run(["metric", "probability"], {"images": images})
    assert [each.shape for each in found] == [images.shape[:3]] * 2
    return [float(np.abs(ours - theirs).max()) for ours, theirs in zip(expected, found, strict=True)]


def test_onnx_gives_our_maps_of_any_number_of_images(run: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    program = tmp_path / "network.onnx"
    assert outcome(main, run, "--dest", program, "--format", "onnx").code == 0
    assert [(each.domain, each.version) for each in onnx.load(program).opset_import] == [("", 18)]
    [last] = [node for node in onnx.load(program).graph.node if "metric" in node.output]
    assert last.op_type == "Clip"  # quotients are not exact in every runtime
    predictor = menet_jax.load_predictor(run)
    ours = [np.stack(maps) for maps in zip(*map(predictor.maps, IMAGES), strict=True)]
    assert max(differences(program.read_bytes(), IMAGES, ours)) < 1e-4
    assert max(differences(program.read_bytes(), IMAGES[:1], [maps[:1] for maps in ours])) < 1e-4


def test_onnx_of_a_network_without_scale_maps_measured_from_the_border() -> None:
    pytest.importorskip("onnx")
    config = PRESETS["ce-plain"].config
    config = replace(config, model=replace(config.model, width=1), loss=LossConfig(cross_entropy=0.0))
    state = create_state(config)
    variables = state.variables
    images = IMAGES // 64  # dark, so that the logits of random weights are not all far from 0
    ours = jax.jit(partial(eval_step, network(config), region=border))(variables, images)
    assert max(differences(to_onnx(config, variables), images, ours)) < 1e-4


def test_onnx_of_a_network_that_a_file_cannot_hold(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from menet_jax.model import onnx_graph  # only here, for not everyone has ONNX

    monkeypatch.setattr(onnx_graph, "LARGEST", 1000)
    done = outcome(main, run, "--dest", tmp_path / "network.onnx", "--format", "onnx")
    assert done.code == 1 and "2 GB of weights" in done.err and not list(tmp_path.iterdir())


def test_onnx_where_it_is_not_installed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    done = outcome(main, run, "--dest", tmp_path / "network.onnx", "--format", "onnx")
    assert done.code == 2 and 'pip install "menet_jax[onnx]"' in done.err and done.err.count("\n") == 1


def test_what_cannot_be_written_is_refused_at_once(run: Path, weights: Path, tmp_path: Path) -> None:
    for flags, message in {
        (run, "--dest", weights): "is there already",
        (run, "--dest", tmp_path / "network.pt"): "the suffix of weights is .safetensors",
        (run, "--dest", tmp_path / "n.safetensors", "--format", "stablehlo"): "the suffix of stablehlo is .stablehlo",
        (tmp_path / "nothing", "--dest", tmp_path / "n.safetensors"): "is not a directory",
    }.items():
        done = outcome(main, *flags)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1

"""The authors' weights through files, into runs and out, to the bit; and files that cannot be used."""

import hashlib
import io
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_archives as small
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from menet_jax import authors as authors_commands
from menet_jax import evaluate, predict, train
from menet_jax.data.sources import NAMED
from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig
from menet_jax.datasets.dut_omron.dut_omron_dataset_builder import DutOmron
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.msra1k.msra1k_dataset_builder import Msra1k
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.model.menet import MENet
from menet_jax.model.outputs import Outputs
from menet_jax.model.pytorch.files import WRITTEN, read_tensors, write_tensors
from menet_jax.model.pytorch.names import from_state_dict
from menet_jax.training.config import Config, LossConfig, ModelConfig
from menet_jax.training.run import CONFIG_FILE, load_run, write_run

DATA = Path(__file__).parent / "data"
StateDict = dict[str, np.ndarray]


def bits(arrays: Any) -> dict[Any, tuple[tuple[int, ...], bytes]]:
    return {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


def quiet(message: str) -> None:
    raise AssertionError(message)


@pytest.fixture(scope="module")
def golden() -> StateDict:
    with np.load(DATA / "menet_width1.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def tensors(golden: StateDict) -> StateDict:
    """The authors' tensors at width 1."""
    return {name[6:]: array for name, array in golden.items() if name.startswith("param/")}


@pytest.fixture(scope="module")
def run(tensors: StateDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made of them."""
    folder = tmp_path_factory.mktemp("imported")
    write_tensors(folder / "authors.pt", tensors)
    command("import", folder / "authors.pt", folder / "new" / "run")
    return folder / "new" / "run"


def command(name: str, source: Path, dest: Path) -> None:
    assert authors_commands.main([name, str(source), "--dest", str(dest)]) == 0


def refused(capsys: pytest.CaptureFixture[str], name: str, source: Path, dest: Path) -> str:
    """The one error of a command that ends with exit status 2."""
    assert authors_commands.main([name, str(source), "--dest", str(dest)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("error: ") == 1
    assert not captured.out
    return captured.err


@pytest.mark.parametrize("suffix", WRITTEN)
def test_tensors_come_back_to_the_bit(suffix: str, tmp_path: Path) -> None:
    odd = np.array([[np.nan, -0.0, 1e-45], [np.inf, -np.inf, 3.0]], np.float32)
    written = {"a.b": odd, "a.c": odd.T, "scalar": np.array(2.5, np.float32), "ü": np.zeros((0, 2), np.float32)}
    write_tensors(tmp_path / f"file{suffix}", written)
    assert bits(read_tensors(tmp_path / f"file{suffix}")) == bits(written)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_network_comes_back_to_the_bit(suffix: str, run: Path, tensors: StateDict, tmp_path: Path) -> None:
    """From a file to a run, and from the run to a file."""
    loaded = load_run(run, report=quiet)
    assert bits(flatten_dict(dict(loaded.variables))) == bits(flatten_dict(from_state_dict(tensors)))
    command("export", run, tmp_path / f"out{suffix}")
    assert bits(read_tensors(tmp_path / f"out{suffix}")) == bits(tensors)
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]


def test_a_trained_run_comes_back_to_the_bit(tmp_path: Path) -> None:
    """At width 2, where no two sides of a kernel are equal by chance; import(export(v)) == v."""
    shapes = jax.eval_shape(MENet(2).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    generator = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.abs(generator.standard_normal(leaf.shape, np.float32)), shapes)
    write_run(Config(run=tmp_path / "run", steps=1, model=ModelConfig(width=2), origin="a draw"), variables)
    command("export", tmp_path / "run", tmp_path / "run.pt")
    command("import", tmp_path / "run.pt", tmp_path / "back")
    back = load_run(tmp_path / "back", report=quiet)
    assert bits(flatten_dict(dict(back.variables))) == bits(flatten_dict(dict(variables)))


def test_no_more_is_claimed_than_is_known(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not with what the network was trained, nor how far; and so it cannot be trained on."""
    digest = hashlib.sha256((run.parents[1] / "authors.pt").read_bytes()).hexdigest()
    kept = json.loads((run / CONFIG_FILE).read_text())
    assert kept == {
        "run": str(run),
        "origin": f"authors.pt (SHA-256 {digest})",
        "model": {"width": 1, "kind": "menet", "multi_scale": True, "precision": "float32"},
    }
    loaded = load_run(run, report=quiet)
    assert loaded.history == f"from authors.pt (SHA-256 {digest[:8]}…), trained elsewhere, on images that are not known"
    assert loaded.config.model.width == 1
    assert (loaded.config.loss, loaded.config.data.size, loaded.score[1]) == (LossConfig(), 224, None)
    assert train.main(["--run", str(run), "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{run} was not trained here, but is from authors.pt" in error


def test_golden_outputs_through_a_file(golden: StateDict, run: Path) -> None:
    variables = load_run(run, report=quiet).variables
    i, j, c = np.arange(224)[:, None, None], np.arange(224)[:, None], np.arange(3)
    b = np.arange(2)[:, None, None, None]
    waves = 127.5 * (1 + np.sin(0.11 * i * (c + 1) + 0.07 * j + 1.3 * b) * np.cos(0.05 * j * (c + 2) - 0.03 * i))
    network = jax.jit(MENet(1).apply, compiler_options={"xla_backend_optimization_level": 0})
    outputs = network(variables, jnp.asarray(waves.astype(np.float32)))
    assert isinstance(outputs, Outputs)
    for name in ("features", "logits"):
        found = np.asarray(getattr(outputs, name))[:, ::16, ::16]
        np.testing.assert_allclose(found, golden[f"eval_{name}_224"], atol=1e-5, rtol=0)


def test_prefix_counters_and_precision(tensors: StateDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `DataParallel`, newer BatchNorms and other precisions bring is taken off, the last with a word."""
    parallel = {f"module.{name}": tensor.astype(np.float64) for name, tensor in tensors.items()}
    parallel["module.sal.1.num_batches_tracked"] = np.zeros((), np.int64)
    np.savez(tmp_path / "parallel.npz", allow_pickle=False, **parallel)
    (tmp_path / "run").mkdir()  # empty, which is as good as none
    command("import", tmp_path / "parallel.npz", tmp_path / "run")
    loaded = load_run(tmp_path / "run", report=quiet)
    assert bits(flatten_dict(dict(loaded.variables))) == bits(flatten_dict(from_state_dict(tensors)))
    assert "width 1, " in (out := capsys.readouterr().out) and "converted from float64" in out


def archive(pickled: bytes) -> bytes:
    """A checkpoint in its newer one."""
    return small.zipped({"archive/data.pkl": pickled, "archive/version": b"3\n"})


def no_arrays() -> dict[str, bytes]:
    """Files that NumPy writes, or might have written, and that hold no plain arrays by name."""
    objects, single, packed, header = (io.BytesIO() for _ in range(4))
    np.savez(objects, a=np.array([{}], object))
    np.save(single, np.zeros(3))
    np.savez_compressed(packed, a=np.random.default_rng(0).random(99))
    damaged = bytearray(packed.getvalue())
    damaged[70:90] = bytes(byte ^ 255 for byte in damaged[70:90])
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    return {
        "objects.npz": objects.getvalue(),
        "single.npz": single.getvalue(),
        "packed.npz": bytes(damaged),
        "huge.npz": small.zipped({"a.npy": header.getvalue()}),
    }


def wrong_files(folder: Path, tensors: StateDict) -> dict[str, tuple[Path, str]]:
    """Files that cannot be imported, and what is said of each."""
    cases: dict[str, tuple[Path, str]] = {}

    def add(name: str, contents: StateDict | bytes, message: str) -> None:
        path = folder / name
        if isinstance(contents, bytes):
            path.write_bytes(contents)
        else:
            write_tensors(path, contents)
        cases[name] = path, message

    for suffix in WRITTEN:
        add(f"whole{suffix}", tensors, "")
        path, _ = cases.pop(f"whole{suffix}")
        add(f"cut{suffix}", path.read_bytes()[:100_000], f"cut{suffix}: ")
        path.unlink()
    shaped = tensors | {"scale3_m.2.weight": np.zeros((1, 8, 5, 5), np.float32)}
    add("shape.npz", shaped, "misshapen: scale3_m.2.weight is (1, 8, 5, 5), should be (1, 8, 3, 3) at width 1")
    lacking = {name: tensor for name, tensor in tensors.items() if name != "sal.1.running_var"}
    add("lacking.pt", lacking, "missing: sal.1.running_var")
    broken = {name: tensor.copy() for name, tensor in tensors.items()}
    broken["stack7.1.m2.2.bias"][0] = np.nan
    add("nan.pt", broken, "nan.pt: stack7.1.m2.2.bias holds values that are not finite")
    negative = tensors | {"sal.1.running_var": -tensors["sal.1.running_var"]}
    add("variance.safetensors", negative, "sal.1.running_var holds negative values")
    add("text.pt", b"no checkpoint at all", "text.pt: not a PyTorch checkpoint")
    add("pickle.pt", pickle.dumps({"a": 1}), "a pickle, but not one that PyTorch wrote")
    add("zip.pt", small.zipped({"a.txt": b"a"}), "a zip archive, but not one that PyTorch wrote")
    add("script.pt", small.zipped({"a/data.pkl": b"", "a/constants.pkl": b""}), "a TorchScript program")
    add("big.pt", small.zipped({"a/data.pkl": b"", "a/byteorder": b"big"}), "a big-endian machine")
    add("empty.pt", archive(pickle.dumps({}, 2)), "holds no network, but nothing")
    add("words.pt", archive(pickle.dumps({"epoch": 3}, 2)), "holds no network, but epoch")
    for name, data in no_arrays().items():
        add(name, data, f"{name}: damaged, or no archive of plain arrays")
    for name, bad in (
        ("complex", np.zeros(1, np.complex64)),
        ("dates", np.zeros(1, "datetime64[s]")),
        ("structure", np.zeros(1, [("a", np.float32)])),
        ("words", np.array(["0.5"])),
    ):
        np.savez(folder / f"{name}.npz", allow_pickle=False, **(tensors | {"sal.1.bias": bad}))
        cases[name] = folder / f"{name}.npz", f"not floating-point: sal.1.bias is {bad.dtype}"
    doubles = {name: tensor.astype(np.float64) for name, tensor in tensors.items()} | {
        "sal.1.bias": np.array([1e300, 0])
    }
    np.savez(folder / "large.npz", allow_pickle=False, **doubles)
    cases["large"] = folder / "large.npz", "sal.1.bias holds values that are not finite, or not in float32"
    none = tensors | {"stack1.0.0.weight": np.zeros((0, 3, 3, 3), np.float32)}
    add("none.npz", none, "misshapen: stack1.0.0.weight is (0, 3, 3, 3), should be (width, 3, 3, 3)")
    add("raw.npz", small.zipped({"sal.1.num_batches_tracked": b"text"}), "it holds sal.1.num_batches_tracked")
    bomb = io.BytesIO()
    np.savez_compressed(bomb, a=np.zeros(10**7, np.float32))
    add("bomb.npz", bomb.getvalue(), "it would unpack to 40,000,")
    cases["another network"] = DATA / "torch_stream.pt", "missing: stack1.0.1.weight"
    cases["nowhere"] = folder / "nowhere.pt", "nowhere.pt: there is no such file"
    cases["a folder"] = folder, "is a folder"
    return cases


def test_files_that_cannot_be_used(tensors: StateDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear error each, of a few lines, and nothing written."""
    (tmp_path / "files").mkdir()
    for name, (path, expected) in wrong_files(tmp_path / "files", tensors).items():
        message = refused(capsys, "import", path, tmp_path / "run")
        assert expected in message, name
        assert message.count("\n") <= 14
        assert [entry.name for entry in tmp_path.iterdir()] == ["files"]


def test_nothing_is_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run.parents[1] / "authors.pt"
    assert "nothing is overwritten" in refused(capsys, "import", source, run)
    (tmp_path / "run.pt").write_bytes(b"mine")
    assert "nothing is overwritten" in refused(capsys, "export", run, tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == b"mine"
    assert "run.onnx: the suffix must be one of .pt, .pth, .npz, .safetensors" in refused(
        capsys, "export", run, tmp_path / "run.onnx"
    )
    assert "holds no run" in refused(capsys, "export", tmp_path, tmp_path / "new.pt")


def test_what_a_file_cannot_say_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a network that the authors' code does not have, and of maps that were not trained."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for multi_scale, loss, expected in (
        (False, LossConfig(), "error: {run}: its network has no scale maps"),
        (True, LossConfig(cross_entropy=0.0), "warning: its loss did not train the probability map, where"),
        (True, LossConfig(metric=0.0), "warning: its loss did not train the metric map"),
    ):
        run = tmp_path / f"{multi_scale}{loss.metric}"
        shapes = jax.eval_shape(MENet(1, multi_scale).init, jax.random.key(0), image)
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
        write_run(Config(run=run, steps=1, model=ModelConfig(1, multi_scale=multi_scale), loss=loss), variables)
        ended = authors_commands.main(["export", str(run), "--dest", str(tmp_path / f"{run.name}.pt")])
        assert ended == (0 if multi_scale else 2)
        assert capsys.readouterr().err.startswith(expected.format(run=run))
        assert (tmp_path / f"{run.name}.pt").exists() == multi_scale


def test_an_interrupt_leaves_a_whole_run_or_none(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = run.parents[1] / "authors.pt"

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write_run(*arguments)

    monkeypatch.setattr("menet_jax.training.authors_command.write_run", interrupted)
    with pytest.raises(SystemExit, match="130"):
        authors_commands.main(["import", str(source), "--dest", str(tmp_path / "run")])
    assert capsys.readouterr().err == "stopped; what was being written is whole, or not there\n"
    assert load_run(tmp_path / "run", report=quiet).config.model.width == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_cannot_be_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    (tmp_path / "file").touch()
    assert "file: is a file, and a folder is needed" in refused(
        capsys, "import", run.parents[1] / "authors.pt", tmp_path / "file" / "run"
    )
    monkeypatch.setattr("menet_jax.training.authors_command.write_tensors", full)
    assert authors_commands.main(["export", str(run), "--dest", str(tmp_path / "out.npz")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/out.npz: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authors_commands.main(["export", str(run), "--dest", str(tmp_path / "out.npz")])
    assert "421 tensors" in capsys.readouterr().out
    authors_commands.main(["import", str(tmp_path / "out.npz"), "--dest", str(tmp_path / "run")])
    assert "width 1" in capsys.readouterr().out


def benchmark(kind: type[BenchmarkBuilder], **sizes: int) -> Callable[..., BenchmarkBuilder]:
    config = BenchmarkConfig(name="small", sizes=sizes)
    return lambda places: kind(config=config, **places.arguments())


def test_table_one_by_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An imported network scored on the paper's five benchmarks, from their archives; and its maps."""
    manual = tmp_path / "manual"
    small.write(manual / "dut_omron", small.dut_omron(range(2)))
    small.write(manual / "hku_is", small.hku_is(range(10)))
    small.write(manual / "ecssd", small.ecssd(range(1, 3)))
    small.write(manual / "msra1k", small.msra1k(range(2)))
    small.write(manual / "sod", small.sod(range(2)))
    monkeypatch.setitem(NAMED, "hku_is", benchmark(HkuIs, test=2, validation=1, train=7))
    for name, kind in (("dut_omron", DutOmron), ("ecssd", Ecssd), ("msra1k", Msra1k), ("sod", Sod)):
        monkeypatch.setitem(NAMED, name, benchmark(kind, test=2))
    columns = ["dut_omron", "hku_is", "ecssd", "msra1k", "sod"]
    places = ["--manual-dir", str(manual), "--cache", str(tmp_path / "cache"), "--dest", str(tmp_path / "scores")]
    assert evaluate.main(["--run", str(run), "--data", *columns, *places, "--threads", "2"]) == 0
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    scored = [(each["dataset"], each["images"]) for each in results["results"] if each["map"] == "metric"]
    assert scored == [(f"{name} (test)", 2) for name in columns]
    assert results["notes"][-1] == "sod: test 2 images; as many as published; all in the test split"
    for suffix in ("md", "tex"):
        table = (tmp_path / "scores" / f"results.{suffix}").read_text()
        assert all(note in table for note in results["notes"]) and "trained elsewhere" in table

    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    arguments = ["--run", str(run), "--source", str(tmp_path / "photo.png"), "--dest", str(tmp_path / "maps")]
    assert predict.main(arguments) == 0
    with Image.open(tmp_path / "maps" / "photo.png") as saliency:
        assert saliency.size == (60, 50)

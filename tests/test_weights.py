"""The authors' weights through files: PyTorch's, read without running anything in them, and others; into runs and out.

`data/torch_*.pt` were made by PyTorch 2.13 with

    def net():  # every tensor t becomes arange(t.numel()).reshape(t.shape) / 8 + 1
        inner = nn.Sequential(nn.ConvTranspose2d(3, 2, 2, bias=False))
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3), inner=inner))

    torch_stream         {"epoch": 3, "state_dict": net().state_dict(), "optimizer": SGD(…).state_dict()}
    torch_module_stream  net(), without the source code that PyTorch adds
    torch_module_zip     {"model": nn.DataParallel(net()), "best": 0.5}
    torch_zip, torch_views_stream    views of base = torch.arange(24.).reshape(4, 6), as in `test_views`

by `torch.save(…, _use_new_zipfile_serialization=False)` where the name says stream.
"""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import benchmark_archives as small
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from menet_jax import authors_commands, evaluate, predict
from menet_jax.authors import from_state_dict
from menet_jax.authors_commands import export_weights, import_weights
from menet_jax.config import Config, ModelConfig
from menet_jax.datasets.benchmark import Benchmark, BenchmarkConfig
from menet_jax.datasets.dut_omron.dut_omron_dataset_builder import DutOmron
from menet_jax.datasets.ecssd.ecssd_dataset_builder import Ecssd
from menet_jax.datasets.hku_is.hku_is_dataset_builder import HkuIs
from menet_jax.datasets.msra1k.msra1k_dataset_builder import Msra1k
from menet_jax.datasets.sod.sod_dataset_builder import Sod
from menet_jax.model import MENet, Outputs
from menet_jax.runs import load_run, write_run
from menet_jax.sources import NAMED
from menet_jax.torch_reading import TorchFileError, read_torch
from menet_jax.weight_files import WRITTEN, read_tensors, write_tensors

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
    import_weights(folder / "authors.pt", folder / "new" / "run")
    return folder / "new" / "run"


def refused(command: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    """The one error of a command that ends with exit status 2."""
    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("error: ") == 1
    assert not captured.out
    return captured.err


NET = {
    "conv.weight": (3, 2, 3, 3),
    "conv.bias": (3,),
    "norm.weight": (3,),
    "norm.bias": (3,),
    "norm.running_mean": (3,),
    "norm.running_var": (3,),
    "norm.num_batches_tracked": (),
    "inner.0.weight": (3, 2, 2, 2),
}


@pytest.mark.parametrize(("name", "prefix"), [("stream", ""), ("module_stream", ""), ("module_zip", "module.")])
def test_files_of_pytorch(name: str, prefix: str) -> None:
    read = read_torch(DATA / f"torch_{name}.pt")
    assert list(read) == [prefix + tensor for tensor in NET]
    for tensor, shape in NET.items():
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape) / 8 + 1
        np.testing.assert_array_equal(read[prefix + tensor], values)
        assert read[prefix + tensor].dtype == (np.int64 if "num_batches" in tensor else np.float32)


@pytest.mark.parametrize("name", ["torch_zip", "torch_views_stream"])
def test_views(name: str) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected: StateDict = {
        "transposed": base.T,
        "rows": base[1:],
        "every": base[:, ::2],
        "scalar": np.array(7),
        "half": base[0].astype(np.float16),
        "bfloat": base[0].astype(ml_dtypes.bfloat16),
        "double": base[0].astype(np.float64),
        "empty": np.zeros((0, 3), np.float32),
    }
    read = read_torch(DATA / f"{name}.pt")
    assert list(read) == list(expected)
    for key, array in expected.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


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
    assert (loaded.config.model.width, loaded.step) == (1, 0)
    export_weights(run, tmp_path / f"out{suffix}")
    assert bits(read_tensors(tmp_path / f"out{suffix}")) == bits(tensors)
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]


def test_a_trained_run_comes_back_to_the_bit(tmp_path: Path) -> None:
    """At width 2, where no two sides of a kernel are equal by chance; import(export(v)) == v."""
    shapes = jax.eval_shape(MENet(2).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    generator = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.abs(generator.standard_normal(leaf.shape, np.float32)), shapes)
    write_run(Config(run=tmp_path / "run", steps=1, model=ModelConfig(width=2)), variables, "drawn")
    export_weights(tmp_path / "run", tmp_path / "run.pt")
    import_weights(tmp_path / "run.pt", tmp_path / "back")
    back = load_run(tmp_path / "back", report=quiet)
    assert bits(flatten_dict(dict(back.variables))) == bits(flatten_dict(dict(variables)))


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
    import_weights(tmp_path / "parallel.npz", tmp_path / "run")
    loaded = load_run(tmp_path / "run", report=quiet)
    assert bits(flatten_dict(dict(loaded.variables))) == bits(flatten_dict(from_state_dict(tensors)))
    assert "width 1, " in (out := capsys.readouterr().out) and "converted from float64" in out


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def stream(pickled: bytes) -> bytes:
    """A checkpoint in PyTorch's older format."""
    header = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*header, pickled, pickle.dumps([], 2)])


def archive(pickled: bytes) -> bytes:
    """A checkpoint in its newer one."""
    return small.zipped({"archive/data.pkl": pickled, "archive/version": b"3\n"})


def hostile(target: Path) -> dict[str, bytes]:
    """Pickles that would make a file, by every instruction that can call something."""
    command = f"touch {target}"
    text = command.encode()
    return {
        "reduce": pickle.dumps({"state_dict": OrderedDict(a=Call(os.system, command))}, 2),
        "newest protocol": pickle.dumps(Call(os.system, command), 5),
        "import": pickle.dumps(Call(__import__, "antigravity"), 2),
        "eval": pickle.dumps(Call(eval, f"open({str(target)!r}, 'w')"), 4),
        "inst": b"(S'" + text + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + text + b"'\no.",
        "newobj": b"\x80\x02csubprocess\nPopen\n(]X" + struct.pack("<I", 5) + b"touch" + b"at\x81}b.",
        "build": b"\x80\x02ccollections\nOrderedDict\n)R}(X\x0c\x00\x00\x00__setstate__cos\nsystem\nubX"
        + struct.pack("<I", len(text))
        + text
        + b"b.",
        "stand-in in the key": b"\x80\x02}cos\nsystem\n(X" + struct.pack("<I", len(text)) + text + b"tRK\x01s.",
    }


@pytest.mark.parametrize("wrap", [stream, archive, bytes])
@pytest.mark.parametrize("attack", hostile(Path("x")))
def test_nothing_in_a_file_is_run(
    attack: str, wrap: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pickles do what they say where they can: the standard unpickler makes the file."""
    (tmp_path / "hostile.pt").write_bytes(wrap(hostile(tmp_path / "made")[attack]))
    message = refused(lambda: import_weights(tmp_path / "hostile.pt", tmp_path / "run"), capsys)
    assert "hostile.pt: " in message
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pt"]
    assert "antigravity" not in sys.modules
    if attack in ("reduce", "newest protocol", "inst") and wrap is not bytes:
        assert "would call" in message and "system; nothing of it was run" in message
        with io.BytesIO(hostile(tmp_path / "made")[attack]) as file:
            pickle.Unpickler(file).load()
        assert (tmp_path / "made").exists()


def test_tensors_cannot_reach_beyond_their_data(tmp_path: Path) -> None:
    """A shape of more numbers than there are would show what else is in memory."""
    write_tensors(tmp_path / "good.pt", {"a": np.arange(6, dtype=np.float32)})
    with zipfile.ZipFile(tmp_path / "good.pt") as good:
        members = {name: good.read(name) for name in good.namelist()}
    for change in ((b"K\x06\x85", b"K\x07\x85"), (b"K\x00K\x06\x85", b"K\x01K\x06\x85"), (b"K\x01\x85", b"K\x02\x85")):
        assert members["archive/data.pkl"].count(change[0]) == 1
        changed = members | {"archive/data.pkl": members["archive/data.pkl"].replace(*change)}
        (tmp_path / "bad.pt").write_bytes(small.zipped(changed))
        with pytest.raises(TorchFileError, match="reaches beyond its data"):
            read_torch(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_bytes(small.zipped(members | {"archive/data/0": bytes(20)}))
    with pytest.raises(TorchFileError, match="has 20 bytes, 24 are named"):
        read_torch(tmp_path / "bad.pt")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["stream", "module_stream", "zip", "module_zip"]), st.floats(0, 1, exclude_max=True))
def test_files_cut_off_anywhere(tmp_path_factory: pytest.TempPathFactory, name: str, share: float) -> None:
    whole = (DATA / f"torch_{name}.pt").read_bytes()
    cut = tmp_path_factory.getbasetemp() / "cut.pt"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TorchFileError, match=r"cut\.pt: "):
        read_torch(cut)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["stream", "module_stream", "zip"]), st.data())
def test_files_with_any_bytes_changed(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """They are read or refused; no other error comes out."""
    changed = bytearray((DATA / f"torch_{name}.pt").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=5)):
        changed[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "changed.pt"
    file.write_bytes(changed)
    try:
        read_torch(file)
    except TorchFileError as error:
        assert "changed.pt: " in str(error)


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
    add("empty.pt", archive(pickle.dumps({}, 2)), "holds no networks, but nothing")
    add("words.pt", archive(pickle.dumps({"epoch": 3}, 2)), "holds no networks, but epoch")
    objects = io.BytesIO()
    np.savez(objects, a=np.array([{}], object))
    add("objects.npz", objects.getvalue(), "objects.npz: damaged, or no archive of plain arrays")
    cases["another network"] = DATA / "torch_stream.pt", "missing: stack1.0.1.weight"
    cases["nowhere"] = folder / "nowhere.pt", "nowhere.pt: no such file"
    cases["a folder"] = folder, "is a folder"
    return cases


def test_files_that_cannot_be_used(tensors: StateDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear error each, of a few lines, and nothing written."""
    (tmp_path / "files").mkdir()
    for name, (path, expected) in wrong_files(tmp_path / "files", tensors).items():
        message = refused(partial(import_weights, path, tmp_path / "run"), capsys)
        assert expected in message, name
        assert message.count("\n") <= 14
        assert [entry.name for entry in tmp_path.iterdir()] == ["files"]


def test_nothing_is_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run.parents[1] / "authors.pt"
    assert "nothing is overwritten" in refused(lambda: import_weights(source, run), capsys)
    (tmp_path / "run.pt").write_bytes(b"mine")
    assert "nothing is overwritten" in refused(lambda: export_weights(run, tmp_path / "run.pt"), capsys)
    assert (tmp_path / "run.pt").read_bytes() == b"mine"
    assert "run.onnx: the suffix must be one of .pt, .npz, .safetensors" in refused(
        lambda: export_weights(run, tmp_path / "run.onnx"), capsys
    )
    assert "holds no run" in refused(lambda: export_weights(tmp_path, tmp_path / "new.pt"), capsys)


def test_the_command_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["authors", "export", str(run), "--dest", str(tmp_path / "out.npz")])
    authors_commands.main()
    assert "421 tensors" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["authors", "import", str(tmp_path / "out.npz"), "--dest", str(tmp_path / "run")])
    authors_commands.main()
    assert "width 1" in capsys.readouterr().out


def benchmark(kind: type[Benchmark], **sizes: int) -> Callable[..., Benchmark]:
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

    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    arguments = ["--checkpoint", str(run), "--source", str(tmp_path / "photo.png"), "--dest", str(tmp_path / "maps")]
    assert predict.main(arguments) == 0
    with Image.open(tmp_path / "maps" / "photo.png") as saliency:
        assert saliency.size == (60, 50)

"""PyTorch's files: tensors come out as they went in, nothing in a file is run, and what is wrong is refused.

`data/torch_*.pt` were made by PyTorch 2.13 with

    def net():  # every tensor t becomes arange(t.numel()).reshape(t.shape) / 8 + 1
        inner = nn.Sequential(nn.ConvTranspose2d(3, 2, 2, bias=False))
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3), inner=inner))

    torch_stream         {"epoch": 3, "state_dict": net().state_dict(), "optimizer": SGD(…).state_dict()}
    torch_module_stream  net(), without the source code that PyTorch adds
    torch_module_zip     {"model": nn.DataParallel(net()), "best": 0.5}
    torch_zip, torch_views_stream    views of base = torch.arange(24.).reshape(4, 6), as in `test_views`

by `torch.save(…, _use_new_zipfile_serialization=False)` where the name says stream. Two more have what older versions
wrote in the place of what 2.13 writes: `Parameter.__reduce_ex__` and `Tensor.__reduce_ex__` as they were in PyTorch 0.3
and 0.4, and in each module the `_backend` that it had. PyTorch 2.13 loads both, with the same tensors.

    torch_module_03      net() without num_batches_tracked, which PyTorch 0.3 did not have
    torch_module_04      nn.DataParallel(net())
"""

import datetime
import io
import os
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_archives as small
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menet_jax import authors
from menet_jax.model.pytorch.reading import TorchFileError, read_torch
from menet_jax.model.pytorch.writing import write_torch

DATA = Path(__file__).parent / "data"


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


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("stream", ""), ("module_stream", ""), ("module_zip", "module."), ("module_03", ""), ("module_04", "module.")],
)
def test_files_of_pytorch(name: str, prefix: str) -> None:
    read = read_torch(DATA / f"torch_{name}.pt")
    net = {tensor: shape for tensor, shape in NET.items() if not (name == "module_03" and "num_batches" in tensor)}
    assert list(read) == [prefix + tensor for tensor in net]
    for tensor, shape in net.items():
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape) / 8 + 1
        np.testing.assert_array_equal(read[prefix + tensor], values)
        assert read[prefix + tensor].dtype == (np.int64 if "num_batches" in tensor else np.float32)


@pytest.mark.parametrize("name", ["torch_zip", "torch_views_stream"])
def test_views(name: str) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected: dict[str, np.ndarray] = {
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


def zip_members(folder: Path, tensors: dict[str, np.ndarray]) -> small.Files:
    """The members of a checkpoint in the newer format, in whose pickle parts may be replaced."""
    write_torch(folder / "stream.pt", tensors)
    with (folder / "stream.pt").open("rb") as file:
        for _ in range(3):  # magic number, version, machine
            pickle.load(file)
        start = file.tell()
        list(pickletools.genops(file))
        pickled = (folder / "stream.pt").read_bytes()[start : file.tell()]
    data = {f"archive/data/{key}": array.tobytes() for key, array in enumerate(tensors.values())}
    return {"archive/data.pkl": pickled, **data}


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
    assert authors.main(["import", str(tmp_path / "hostile.pt"), "--dest", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "error: " in message and "hostile.pt: " in message
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pt"]
    assert "antigravity" not in sys.modules
    if attack in ("reduce", "newest protocol", "inst") and wrap is not bytes:
        assert "would call" in message and "system; nothing of it was run" in message
        with io.BytesIO(hostile(tmp_path / "made")[attack]) as file:
            pickle.Unpickler(file).load()
        assert (tmp_path / "made").exists()


def test_tensors_cannot_reach_beyond_their_data(tmp_path: Path) -> None:
    """A shape of more numbers than there are would show what else is in memory."""
    members = zip_members(tmp_path, {"a": np.arange(6, dtype=np.float32)})
    for change in ((b"K\x06\x85", b"K\x07\x85"), (b"K\x00K\x06\x85", b"K\x01K\x06\x85"), (b"K\x01\x85", b"K\x02\x85")):
        assert members["archive/data.pkl"].count(change[0]) == 1
        changed = members | {"archive/data.pkl": members["archive/data.pkl"].replace(*change)}
        (tmp_path / "bad.pt").write_bytes(small.zipped(changed))
        with pytest.raises(TorchFileError, match="reaches beyond its data"):
            read_torch(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_bytes(small.zipped(members | {"archive/data/0": bytes(20)}))
    with pytest.raises(TorchFileError, match="has 20 bytes, 24 are named"):
        read_torch(tmp_path / "bad.pt")


def test_a_small_file_cannot_take_much_memory(tmp_path: Path) -> None:
    """By a view that repeats one number, by members that unpack to more, or by high numbers of objects for later."""
    members = zip_members(tmp_path, {"a": np.zeros(1, np.float32)})
    once, often = b"K\x01\x85K\x01\x85", b"J\xff\xff\xff\x7f\x85K\x00\x85"
    assert members["archive/data.pkl"].count(once) == 1
    changed = members | {"archive/data.pkl": members["archive/data.pkl"].replace(once, often)}
    (tmp_path / "bad.pt").write_bytes(small.zipped(changed))
    with pytest.raises(TorchFileError, match=r"shape \(2147483647,\) repeats its data"):
        read_torch(tmp_path / "bad.pt")
    with zipfile.ZipFile(tmp_path / "bad.pt", "w", zipfile.ZIP_DEFLATED) as bad:
        for name, data in members.items():
            bad.writestr(name, data)
    with pytest.raises(TorchFileError, match="a compressed archive"):
        read_torch(tmp_path / "bad.pt")
    for put in (b"r" + struct.pack("<I", 2**32 - 1), b"p4294967295\n"):
        (tmp_path / "bad.pt").write_bytes(archive(b"\x80\x02}" + put + b"."))
        with pytest.raises(TorchFileError, match="holds no network, but nothing"):
            read_torch(tmp_path / "bad.pt")


DEEP = b")" + b"\x85" * 100_000  # a tuple in a tuple in …, which takes more stack to hash than there is
DOUBLED = b")" + b"2\x86" * 60  # a pair of the same pair of …, which takes 2^60 steps
SETS = b"(" * 50 + b"\x91" * 50  # a set of a set of …, frozen, to be compared in each other


@pytest.mark.parametrize("key", [DEEP, DOUBLED, SETS])
@pytest.mark.parametrize(
    "before, after",
    [
        (b"}", b"K\x01s"),
        (b"}(", b"K\x01u"),
        (b"(", b"K\x01d"),
        (b"\x8f(", b"\x90"),
        (b"(", b"\x91"),
        (b"ccollections\nOrderedDict\n(((", b"K\x01tttR"),
    ],
)
def test_keys_that_cannot_be_hashed(before: bytes, after: bytes, key: bytes, tmp_path: Path) -> None:
    """In a dictionary by each of the instructions that fill one, in a set, and an OrderedDict."""
    (tmp_path / "bad.pt").write_bytes(archive(b"\x80\x04" + before + key + after + b"."))
    with pytest.raises(TorchFileError, match="it has a tuple of tuples as a key"):
        read_torch(tmp_path / "bad.pt")


def test_long_tuples_are_no_keys(tmp_path: Path) -> None:
    """One that is kept could be hashed again by every instruction that fills a dictionary."""
    (tmp_path / "bad.pt").write_bytes(archive(b"\x80\x04}(" + b"K\x01" * 100 + b"tK\x01s."))
    with pytest.raises(TorchFileError, match="it has a long tuple as a key"):
        read_torch(tmp_path / "bad.pt")


@pytest.mark.parametrize("shape", [b"X\x02\x00\x00\x0012", b"(" + b"K\x01" * 65 + b"t"])
def test_shapes_are_short_tuples(shape: bytes, tmp_path: Path) -> None:
    """A text, or more axes than PyTorch has: with strides as long."""
    storage = STORAGE[0] + b"X\x01\x00\x00\x000" + b"X\x03\x00\x00\x00cpuK\x01tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + shape + b"tR"
    files = {"archive/data.pkl": b"\x80\x04" + tensor + b".", "archive/data/0": bytes(4), "archive/version": b"3\n"}
    (tmp_path / "bad.pt").write_bytes(small.zipped(files))
    with pytest.raises(TorchFileError, match="a tensor is not put together from data"):
        read_torch(tmp_path / "bad.pt")


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n", b"X\x03\x00\x00\x00cpuK\x01tQ"


@pytest.mark.parametrize("key", [DEEP, DOUBLED, SETS, b"K\x01", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00"])
def test_names_of_data_are_texts(key: bytes, tmp_path: Path) -> None:
    """A NaN is unlike itself, and would be read anew each time; others take any time to compare."""
    (tmp_path / "bad.pt").write_bytes(archive(b"\x80\x04" + STORAGE[0] + key + STORAGE[1] + b"."))
    with pytest.raises(TorchFileError, match=r"its data has names as PyTorch gives none|it has a tuple of tuples"):
        read_torch(tmp_path / "bad.pt")


def test_a_bytearray_of_any_length_takes_no_memory(tmp_path: Path) -> None:
    """An instruction of nine bytes, for which Python's unpickler fills so much memory with zeros."""
    (tmp_path / "bad.pt").write_bytes(archive(b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"."))
    with pytest.raises(TorchFileError, match="it has a bytearray"):
        read_torch(tmp_path / "bad.pt")


def test_what_is_kept_beside_a_network(tmp_path: Path) -> None:
    """Things that training leaves in checkpoints are skipped, tensors among them."""
    beside = {
        "scheduler": {"milestones": Counter([3, 5, 5]), "gamma": 0.1},
        "arguments": {
            "size": {224},
            "when": datetime.datetime(2018, 5, 1),
            "where": Path("/data"),
            "z": 1j,
            ("a", 1): 2,
        },
    }
    for module in (b"pathlib", b"pathlib._local"):  # the latter where Python 3.13 has written it
        pickled = re.sub(rb"pathlib(\._local)?(?=\nPosixPath)", module, pickle.dumps(beside, 2))
        (tmp_path / "beside.pt").write_bytes(archive(pickled))
        with pytest.raises(TorchFileError, match="holds no network, but scheduler, arguments"):
            read_torch(tmp_path / "beside.pt")
    members = zip_members(tmp_path, {"ab": np.ones(1, np.float32), "best": np.zeros(1, np.float32)})
    inner, best = b"X\x02\x00\x00\x00ab", b"X\x04\x00\x00\x00best"
    whole = members["archive/data.pkl"]
    assert whole.count(inner) == whole.count(best) == 1
    nested = whole.replace(inner, b"X\x05\x00\x00\x00model}(" + inner).replace(best, b"u" + best)
    (tmp_path / "best.pt").write_bytes(small.zipped(members | {"archive/data.pkl": nested}))
    assert list(read_torch(tmp_path / "best.pt")) == ["ab"]


def test_an_archive_whose_members_are_before_its_start(tmp_path: Path) -> None:
    changed = bytearray(archive(pickle.dumps({}, 2)))
    place = changed.rindex(b"PK\x05\x06") + 16  # where the directory of members begins
    changed[place : place + 4] = struct.pack("<I", struct.unpack_from("<I", changed, place)[0] + 1000)
    (tmp_path / "bad.pt").write_bytes(changed)
    with pytest.raises(TorchFileError, match=r"bad\.pt: damaged"):
        read_torch(tmp_path / "bad.pt")


class Module:
    """Pickled, as good as a module of PyTorch."""

    def __init__(self, **modules: "Module") -> None:
        self._parameters: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self._modules = modules


def test_modules_that_hold_one_another(tmp_path: Path) -> None:
    """A few modules can have any number of names, of any length."""
    doubled, circle = Module(), Module()
    for _ in range(60):
        doubled = Module(a=doubled, b=doubled)
    circle._modules["a"] = circle
    for module in (doubled, circle):
        (tmp_path / "bad.pt").write_bytes(archive(pickle.dumps(module, 2)))
        with pytest.raises(TorchFileError, match="modules hold one another"):
            read_torch(tmp_path / "bad.pt")


def test_tensors_without_names(tmp_path: Path) -> None:
    members = zip_members(tmp_path, {"ab": np.zeros(1, np.float32)})
    name = b"X\x02\x00\x00\x00ab"
    assert members["archive/data.pkl"].count(name) == 1
    changed = members | {"archive/data.pkl": members["archive/data.pkl"].replace(name, b"K\x07")}
    (tmp_path / "bad.pt").write_bytes(small.zipped(changed))
    with pytest.raises(TorchFileError, match="or have no name: 7"):
        read_torch(tmp_path / "bad.pt")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["stream", "module_stream", "module_03", "module_04", "zip", "module_zip"]),
    st.floats(0, 1, exclude_max=True),
)
def test_files_cut_off_anywhere(tmp_path_factory: pytest.TempPathFactory, name: str, share: float) -> None:
    whole = (DATA / f"torch_{name}.pt").read_bytes()
    cut = tmp_path_factory.getbasetemp() / "cut.pt"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TorchFileError, match=r"cut\.pt: "):
        read_torch(cut)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["stream", "module_stream", "module_03", "zip"]), st.data())
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

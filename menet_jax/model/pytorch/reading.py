"""PyTorch checkpoints as NumPy arrays, without PyTorch and without running anything in the file.

A checkpoint is a pickle beside raw data, and a pickle is a program that calls what it names. Here it can call
what puts a tensor together, which is of this module, and an OrderedDict. Everything else that it names is replaced by
an empty class of the same name, never imported: objects of such a class hold their state and do nothing, which is
enough to find the tensors in a whole pickled network. A function that is called is another matter: the file is refused.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream before it. So are both ways in which
whole networks keep their parameters: since PyTorch 1.0, and before it as calls of their class.
"""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from menet_jax.model.pytorch.stand_ins import NoCalls, StandIn, TorchFileError
from menet_jax.runtime.text import listed

Binary = io.BufferedReader | io.BytesIO

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

DTYPES: dict[str, type] = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}

PARAMETERS = frozenset(
    {
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch.autograd.variable.Variable",
        "torch.nn.parameter.Parameter",
    }
)
"""Functions that make a parameter of their first argument, a tensor."""

NAMES = 100_000
LONGEST_NAME = 1000
"""Modules and tensors in a network, at most, and characters in their names: modules that hold one another have any."""


LARGEST = 2**63 - 1
LONGEST_TUPLE = 64
"""Numbers, and axes of a shape or parts of a key, at most. Without an end, a few bytes name any amount of work."""


@dataclass(eq=False)
class _Storage:
    """One block of data, numbers of one type; tensors are views of it."""

    dtype: np.dtype[Any]
    size: int
    data: np.ndarray | None = None

    def fill(self, data: bytes) -> None:
        if len(data) != self.size * self.dtype.itemsize:
            raise TorchFileError(f"a block of data has {len(data)} bytes, {self.size * self.dtype.itemsize} are named")
        self.data = np.frombuffer(data, self.dtype)


@dataclass(eq=False)
class _Tensor:
    """A view of a storage, which may be read later than the view is made."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Before PyTorch 0.4 a parameter had a state: whether it was trained, and its hooks."""

    def array(self) -> np.ndarray:
        """The view, without a copy and read-only."""
        data = self.storage.data
        numbers = (self.offset, *self.shape, *self.strides)
        if data is None or not all(type(number) is int and 0 <= number <= LARGEST for number in numbers):
            raise TorchFileError("a tensor has no data, or no sensible shape")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if prod(self.shape) and last >= data.size:
            raise TorchFileError(f"a tensor of shape {self.shape} reaches beyond its data")
        if prod(self.shape) > data.size:  # by strides of 0: a copy could take any amount of memory
            raise TorchFileError(f"a tensor of shape {self.shape} repeats its data; save it as contiguous")
        steps = tuple(stride * data.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, steps, writeable=False)


def _check_keys(keys: Iterable[Any]) -> None:
    """Raise TorchFileError if one is a long tuple, or one of tuples or sets: to hash these takes any time, or ends
    Python.
    """
    for key in keys:
        if not isinstance(key, tuple | frozenset):
            continue
        if len(key) > LONGEST_TUPLE:
            raise TorchFileError("it has a long tuple as a key, as checkpoints have none")
        if any(isinstance(part, tuple | frozenset) for part in key):
            raise TorchFileError("it has a tuple of tuples as a key, as checkpoints have none")


def _check_name(name: Any, of: str) -> None:
    """Raise TorchFileError unless this is what PyTorch names things by: a short text."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise TorchFileError(f"{of} has names as PyTorch gives none")


def _ordered_dict(items: Iterable[Any]) -> "OrderedDict[Any, Any]":
    pairs = [(key, value) for key, value in items]
    _check_keys(key for key, _ in pairs)
    return OrderedDict(pairs)


def _checked(instruction: bytes, keys: slice) -> tuple[int, Callable[[Any], None]]:
    """An instruction that hashes a part of the stack, with a look at it beforehand."""
    load = pickle._Unpickler.dispatch[instruction[0]]

    def checked(unpickler: Any) -> None:
        _check_keys(unpickler.stack[keys])
        load(unpickler)

    return instruction[0], checked


def _no_bytearray(_: Any) -> None:
    """Raise TorchFileError: Python makes one of whatever length is named, of zeros, before it reads it."""
    raise TorchFileError("it has a bytearray, as checkpoints have none")


class _Unpickler(pickle._Unpickler):
    """Reads the structure of a checkpoint; everything it makes is new for each file.

    It is Python's own unpickler in Python, of which single instructions can be looked after.
    """

    dispatch: ClassVar = pickle._Unpickler.dispatch | dict(
        [
            (pickle.BYTEARRAY8[0], _no_bytearray),
            _checked(pickle.SETITEM, slice(-2, -1)),
            _checked(pickle.SETITEMS, slice(None, None, 2)),
            _checked(pickle.DICT, slice(None, None, 2)),
            _checked(pickle.ADDITEMS, slice(None)),
            _checked(pickle.FROZENSET, slice(None)),
        ]
    )

    def __init__(self, file: Binary, storage_of: Callable[[Any, _Storage], _Storage]) -> None:
        """`storage_of(key, as named)` is the storage of a key, the same one each time."""
        super().__init__(file, encoding="utf-8", errors="replace")  # for Python 2's strings, source code among them
        self._storage_of = storage_of
        self._stand_ins: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return lambda items=(): _ordered_dict(items)
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return lambda storage, offset, shape, strides, *_: _tensor(storage, offset, shape, strides)
        if full in PARAMETERS:
            return lambda tensor, *_: tensor
        if module in ("torch", "torch.cuda", "torch.storage") and name.removesuffix("Storage") in DTYPES:
            return name.removesuffix("Storage")  # a string, which the file can do nothing with
        if full not in self._stand_ins:
            self._stand_ins[full] = NoCalls(full, (StandIn,), {"__slots__": ()})
        return self._stand_ins[full]

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]  # a class, with its source code, in streams
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[4], int)):
            raise TorchFileError("it refers to something that is not data of tensors")
        _, kind, key, _, size, *view = pid
        _check_name(key, "its data")
        if not isinstance(kind, str) or kind not in DTYPES or any(view) or not 0 <= size <= LARGEST:
            raise TorchFileError("it has data of a kind that is not read here")
        return self._storage_of(key, _Storage(np.dtype(DTYPES[kind]), size))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    sound = isinstance(storage, _Storage) and isinstance(shape, tuple | list) and isinstance(strides, tuple | list)
    if not sound or len(shape) != len(strides) or len(shape) > LONGEST_TUPLE:
        raise TorchFileError("a tensor is not put together from data")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a network in a PyTorch checkpoint, by their names in its state dict.

    The file may hold a state dict, a whole pickled network, or a dictionary with either in it, under `state_dict` or as
    its only one.

    Raises:
        TorchFileError: it is no checkpoint, is damaged, would call a function, or holds no or several networks.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        try:
            content = _read_zip(file) if zipfile.is_zipfile(file) else _read_stream(file)
            return {name: tensor.array() for name, tensor in _state_dict(content).items()}
        except TorchFileError as error:
            raise TorchFileError(f"{path}: {error}") from None
        except Exception as error:  # a damaged file raises nearly anything, as OSError for a place before its start
            raise TorchFileError(
                f"{path}: damaged, or not a PyTorch checkpoint ({type(error).__name__}: {error})"
            ) from error


def _read_zip(file: Binary) -> Any:
    """PyTorch 1.6 and later: `<any>/data.pkl` and `<any>/data/<key>`."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise TorchFileError("a zip archive, but not one that PyTorch wrote")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise TorchFileError("a TorchScript program; save the network's state_dict() instead")

        left = os.fstat(file.fileno()).st_size

        def read(name: str) -> bytes:
            nonlocal left
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # could unpack to any size
                raise TorchFileError("a compressed archive, as PyTorch writes none; save it with torch.save again")
            left -= archive.getinfo(name).file_size
            if left < 0:  # its files overlap
                raise TorchFileError("an archive of more bytes than it has")
            return archive.read(name)

        if f"{folder}byteorder" in names and read(f"{folder}byteorder") != b"little":
            raise TorchFileError("written on a big-endian machine, which is not read here")
        storages: dict[Any, _Storage] = {}

        def storage_of(key: Any, named: _Storage) -> _Storage:
            if key not in storages:
                named.fill(read(f"{folder}data/{key}"))
                storages[key] = named
            return storages[key]

        return _Unpickler(io.BytesIO(read(pickles[0])), storage_of).load()


def _read_stream(file: Binary) -> Any:
    """Before PyTorch 1.6: five pickles, then each storage as its length and its data."""
    file.seek(0)
    storages: dict[Any, _Storage] = {}

    def load() -> Any:
        return _Unpickler(file, storages.setdefault).load()

    try:
        magic = load()
    except TorchFileError:
        raise
    except Exception:  # anything at all that is no pickle
        raise TorchFileError("not a PyTorch checkpoint, or cut off at its end") from None
    if magic != MAGIC or load() != PROTOCOL:
        raise TorchFileError("a pickle, but not one that PyTorch wrote")
    if load().get("little_endian") is not True:
        raise TorchFileError("written on a big-endian machine, which is not read here")
    content = load()
    for key in load():
        _check_name(key, "its data")
        storage = storages.get(key)
        (size,) = struct.unpack("<q", file.read(8))
        if storage is None or size != storage.size:
            raise TorchFileError(f"its data {key!r} is not what it names")
        storage.fill(file.read(size * storage.dtype.itemsize))
    return content


def _state_dict(content: Any) -> dict[str, _Tensor]:
    """The tensors of the one network in a checkpoint."""
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    found = _network(content)
    if found:
        return found
    if not isinstance(content, Mapping):
        raise TorchFileError("holds no network")
    different = {id(value): value for value in content.values()}  # a network may stand there any number of times
    found_in = {each: _network(value) for each, value in different.items()}
    networks = {key: network for key, value in content.items() if (network := found_in[id(value)])}
    if len(networks) == 1:
        return next(iter(networks.values()))
    if not networks and any(isinstance(value, _Tensor) for value in content.values()):
        others = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, _Tensor))]
        raise TorchFileError(f"among its tensors are things that are none, or have no name: {_listed(others)}")
    if networks:
        raise TorchFileError(f"holds {len(networks)} networks, {_listed(networks)}; save one as a state dict")
    raise TorchFileError(f"holds no network, but {_listed(content)}; save one as a state dict")


def _listed(keys: Iterable[Any]) -> str:
    return listed([_said(key) for key in keys]) or "nothing"


def _said(key: Any) -> str:
    """A key in words; of one whose text may be of any length, its type."""
    small = isinstance(key, str | float) or (isinstance(key, int) and abs(key) <= LARGEST)
    return str(key)[:80] if small else type(key).__name__


def _network(value: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict or of a pickled network; empty if it is neither."""
    if isinstance(value, Mapping):
        named = all(isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in value.items())
        return dict(value) if named else {}
    if isinstance(value, StandIn):
        return dict(_tensors(value))
    return {}


def _tensors(network: StandIn) -> Iterator[tuple[str, _Tensor]]:
    """Parameters and buffers of a pickled network, under the names of its state dict and in its order."""
    waiting: list[tuple[str, Any]] = [("", network)]
    names = 0
    while waiting:
        prefix, module = waiting.pop()
        state = module.state if isinstance(module, StandIn) else None
        if not isinstance(state, Mapping):
            continue
        parameters, buffers, modules = (state.get(kind) or {} for kind in ("_parameters", "_buffers", "_modules"))
        names += len(parameters) + len(buffers) + len(modules)
        if names > NAMES or len(prefix) > LONGEST_NAME:
            raise TorchFileError("its modules hold one another, or are more than a network has")
        for name, tensor in (*parameters.items(), *buffers.items()):
            if isinstance(tensor, _Tensor):
                _check_name(name, "its network")
                yield f"{prefix}{name}", tensor
        waiting += [(f"{prefix}{name}.", child) for name, child in reversed(modules.items())]

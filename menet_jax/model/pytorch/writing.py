"""State dicts as files that PyTorch loads, in the older of its two formats, written without PyTorch.

This is the stream that PyTorch wrote before 1.6, and that later versions read as well: pickles of a magic number, of
the version of the format, of the machine, of the tensors and of the names of their data, then the data of each. The
pickle of the tensors names classes of PyTorch that are not at hand here, so its instructions are put together one by
one.
"""

import pickle
import pickletools
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from menet_jax.model.pytorch.reading import MAGIC, PROTOCOL

MACHINE = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
PICKLES = 2
"""The protocol of the pickles, the one that PyTorch writes by default."""


def write_torch(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write float32 tensors by name, such that `torch.load(path)` gives them as an OrderedDict of CPU tensors."""
    with path.open("wb") as file:
        for part in (MAGIC, PROTOCOL, MACHINE):
            file.write(pickle.dumps(part, PICKLES))
        file.write(_pickle(tensors))
        file.write(pickle.dumps([str(key) for key in range(len(tensors))], PICKLES))
        for tensor in tensors.values():
            file.write(struct.pack("<q", tensor.size))
            file.write(np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8).data)


def _pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """OrderedDict([(name, torch._utils._rebuild_tensor(storage, 0, shape, strides)), …])."""
    return b"".join([pickle.PROTO + b"\x02", _EMPTY_DICT, pickle.MARK, *_items(tensors), pickle.SETITEMS, pickle.STOP])


def _items(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    for key, (name, tensor) in enumerate(tensors.items()):
        strides = tuple(int(np.prod(tensor.shape[axis + 1 :], dtype=int)) for axis in range(tensor.ndim))
        yield _constant(name)
        yield _global("torch._utils", "_rebuild_tensor") + pickle.MARK
        yield pickle.MARK + _constant("storage") + _global("torch", "FloatStorage")
        yield _constant(str(key)) + _constant("cpu") + _constant(tensor.size) + _constant(None)
        yield pickle.TUPLE + pickle.BINPERSID
        yield _constant(0) + _constant(tensor.shape) + _constant(strides) + pickle.TUPLE + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _constant(value: Any) -> bytes:
    """The instructions that make a number, a string or a tuple of numbers."""
    whole = pickletools.optimize(pickle.dumps(value, PICKLES))  # without storing what is never looked up
    return whole[2:-1]  # between the protocol and the end


_EMPTY_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE

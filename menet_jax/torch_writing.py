"""State dicts as files that PyTorch loads, written without PyTorch: the zip format of PyTorch 1.6 and later.

The archive holds `data.pkl`, which names the tensors, and the numbers of each in `data/<key>`. The pickle names classes
of PyTorch that are not at hand here, so its instructions are put together one by one.
"""

import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "archive"


def write_torch(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict, such that `torch.load(path)` gives it as an OrderedDict of CPU tensors.

    Args:
        path: the file to write.
        tensors: by name; float32.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, data: bytes | memoryview) -> None:
            # A ZipInfo has no time of its own: the same tensors give the same file.
            with archive.open(zipfile.ZipInfo(f"{FOLDER}/{name}"), "w", force_zip64=True) as file:
                file.write(data)

        write("data.pkl", _pickle(tensors))
        write("byteorder", b"little")
        for key, tensor in enumerate(tensors.values()):
            write(f"data/{key}", np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8).data)
        write("version", b"3\n")


def _pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """OrderedDict([(name, torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())), …])."""
    return b"".join([pickle.PROTO + b"\x02", _EMPTY_DICT, pickle.MARK, *_items(tensors), pickle.SETITEMS, pickle.STOP])


def _items(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    for key, (name, tensor) in enumerate(tensors.items()):
        strides = tuple(int(np.prod(tensor.shape[axis + 1 :], dtype=int)) for axis in range(tensor.ndim))
        yield _constant(name)
        yield _global("torch._utils", "_rebuild_tensor_v2") + pickle.MARK
        yield pickle.MARK + _constant("storage") + _global("torch", "FloatStorage")
        yield _constant(str(key)) + _constant("cpu") + _constant(tensor.size) + pickle.TUPLE + pickle.BINPERSID
        yield _constant(0) + _constant(tensor.shape) + _constant(strides) + _constant(False) + _EMPTY_DICT
        yield pickle.TUPLE + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _constant(value: Any) -> bytes:
    """The instructions that make a number, a string or a tuple of numbers."""
    whole = pickletools.optimize(pickle.dumps(value, protocol=2))  # without storing what is never looked up
    return whole[2:-1]  # between the protocol and the end


_EMPTY_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE

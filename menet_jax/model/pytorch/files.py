"""Tensors by name in the file formats in use: PyTorch checkpoints, `.npz` and `.safetensors`."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from menet_jax.model.pytorch.reading import read_torch
from menet_jax.model.pytorch.writing import write_torch

LARGEST_RATIO = 100
"""Bytes that a byte of an archive may unpack to. Weights hardly compress at all, and constants to a thousandth."""

WRITTEN = (".pt", ".pth", ".npz", ".safetensors")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors in a file, by name; what kind of file it is, its contents tell for PyTorch, its suffix otherwise.

    Nothing in the file is executed.

    Raises:
        ValueError: it is damaged, or of no known kind.
        OSError: it cannot be opened.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.suffix.lower() == ".npz":
        try:
            _check_size(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
            if others:
                raise ValueError(f"it holds {', '.join(others)}")
            return arrays
        except Exception as error:  # a damaged or disguised archive raises nearly anything
            raise ValueError(f"{path}: damaged, or no archive of plain arrays ({error})") from error
    if path.suffix.lower() == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except Exception as error:
            raise ValueError(f"{path}: damaged, or not a safetensors file ({error})") from error
    return read_torch(path)


def _check_size(path: Path) -> None:
    """Raise ValueError if an archive unpacks to far more than compressed numbers do."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST_RATIO * path.stat().st_size:
        raise ValueError(f"it would unpack to {unpacked:,} bytes")


def check_suffix(path: Path) -> None:
    """Raise ValueError unless tensors can be written to a file of this name."""
    if path.suffix not in WRITTEN:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(WRITTEN)}")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write float32 tensors by name, in the format that the suffix says.

    Raises:
        ValueError: another suffix.
        OSError: it cannot be written.
    """
    check_suffix(path)
    if path.suffix == ".npz":
        save: Any = np.savez  # its signature admits no arrays by name
        save(path, **tensors)
    elif path.suffix == ".safetensors":
        # The library writes the memory of an array whatever its strides, and a file that others may not read.
        contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        path.write_bytes(safetensors.numpy.save(contiguous))
    else:
        write_torch(path, tensors)

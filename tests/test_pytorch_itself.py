"""Files beside PyTorch's own, where PyTorch is installed: nothing here needs it, and `.[test]` does not bring it."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menet_jax.model.pytorch.reading import read_torch
from menet_jax.model.pytorch.writing import write_torch

torch: Any = pytest.importorskip("torch")

NUMBERS = np.random.default_rng(0).standard_normal((2, 3, 5, 5), np.float32)


def test_pytorch_loads_what_is_written(tmp_path: Path) -> None:
    """As tensors only, which is what newer versions of PyTorch insist on."""
    odd = np.array([[np.nan, -0.0, 1e-45], [np.inf, -np.inf, 3.0]], np.float32)
    written = {"conv.weight": NUMBERS, "odd": odd, "transposed": odd.T, "scalar": np.array(2.5, np.float32)}
    write_torch(tmp_path / "ours.pt", written)
    loaded = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert isinstance(loaded, OrderedDict) and list(loaded) == list(written)
    for name, array in written.items():
        assert loaded[name].shape == array.shape and loaded[name].is_contiguous()
        assert loaded[name].numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_what_pytorch_saves_is_read(zipped: bool, whole: bool, tmp_path: Path) -> None:
    nn = torch.nn
    network = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 2, 5), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 3, 3)))
    saved = network if whole else {"epoch": 1, "state_dict": network.state_dict()}
    torch.save(saved, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
    read = read_torch(tmp_path / "theirs.pt")
    assert list(read) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(read[name], tensor.numpy())

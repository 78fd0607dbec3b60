"""The parameters that training starts from: Flax's distribution, and the same bits everywhere."""

import hashlib
import re
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet

NEUTRAL = {"bias": 0, "mean": 0, "scale": 1, "var": 1}

TRANSPOSED = re.compile(r"decoder\d_up/(shortcut|main1)/conv|bottleneck_up/conv")
"""The layers whose fan-in Caffe takes over their outputs."""


def drawn(width: int, seed: int) -> dict[str, np.ndarray]:
    return dict(flatten_dict(initial_variables(MENet(width), seed), sep="/"))


@cache
def by_flax() -> dict[str, np.ndarray]:
    """What Flax's own initialisers draw."""
    net = MENet(width=2)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles fastest
    variables: Any = jax.jit(lambda key: net.lazy_init(key, image))(key)
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(variables, sep="/").items()}


def bound(path: str, shape: tuple[int, ...]) -> float:
    """√(3 / fan-in), of Caffe's filler "xavier"."""
    height, width, inputs, outputs = shape
    return float(np.sqrt(3 / (height * width * (outputs if TRANSPOSED.search(path) else inputs))))


def uniform(x: np.ndarray) -> np.ndarray:
    """The distribution function on [−1, 1]."""
    return np.clip((x + 1) / 2, 0, 1)


def kernels(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: leaf for path, leaf in variables.items() if path.endswith("kernel")}


def test_structure_shapes_and_constants_are_flaxs() -> None:
    ours, flax = drawn(2, seed=0), by_flax()
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in ours.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in flax.items()
    }
    assert len(kernels(ours)) == 72
    for path in ours.keys() - kernels(ours).keys():
        np.testing.assert_array_equal(ours[path], flax[path], err_msg=path)
        np.testing.assert_array_equal(ours[path], NEUTRAL[path.rpartition("/")[-1]], err_msg=path)


@pytest.mark.parametrize("source", ["ours", "Flax's"])
def test_kernels_are_uniform_within_their_bounds(source: str) -> None:
    """Each within its bounds and up to them, and all together, in units of their bounds, uniform on [−1, 1]."""
    from scipy import stats  # only now, for it takes nearly a second to import

    found = kernels(drawn(2, seed=0) if source == "ours" else by_flax())
    in_bounds = {path: leaf.ravel() / bound(path, leaf.shape) for path, leaf in found.items()}
    for path, values in in_bounds.items():
        assert np.abs(values).max() <= 1 + 1e-6, path
        # Of n uniform numbers the largest falls short of the bound by so much with probability e⁻²⁰.
        assert np.abs(values).max() > 1 - 20 / values.size, path
        if values.size > 500:
            assert stats.kstest(values, uniform).pvalue > 1e-5, path
    together = np.concatenate(list(in_bounds.values()))
    assert stats.kstest(together, uniform).pvalue > 1e-3
    assert abs(together.mean()) < 5 / np.sqrt(3 * together.size)


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4×64-10 in whole numbers: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011."""
    mask = 2**64 - 1
    x, k = [counter, 0, 0, 0], list(key)
    for _ in range(10):
        first, second = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [second >> 64 ^ x[1] ^ k[0], second & mask, first >> 64 ^ x[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return x


@pytest.mark.parametrize(("width", "seed"), [(1, 0), (3, 2**32 - 1)])
def test_a_kernel_depends_on_seed_and_path_and_nothing_else(width: int, seed: int) -> None:
    """Bit for bit what whole numbers give, so the same on every platform; and whatever else the network has."""
    path = "params/encoder0_residual1/main1/conv/kernel"
    stream = int(hashlib.sha256(path.encode()).hexdigest()[:16], 16)
    words = [word for counter in (1, 2) for word in philox(counter, (stream, seed))]
    halves = [half for word in words for half in (word % 2**32, word >> 32)]
    signed = [(half - 2**32 if half >= 2**31 else half) >> 8 for half in halves]
    expected = np.array(signed, np.float32) * np.float32(np.sqrt(3 / (9 * width)) / 2**23)
    np.testing.assert_array_equal(drawn(width, seed)[path].ravel()[:9], expected[:9])


def test_kernels_and_seeds_have_nothing_in_common() -> None:
    first, other = kernels(drawn(4, seed=0)), kernels(drawn(4, seed=1))
    large = {path: leaf.ravel()[:500] for path, leaf in first.items() if leaf.size > 500}
    large |= {f"{path}, other seed": leaf.ravel()[:500] for path, leaf in other.items() if leaf.size > 500}
    correlations = np.corrcoef(list(large.values())) - np.eye(len(large))
    assert np.abs(correlations).max() < 6 / np.sqrt(500)

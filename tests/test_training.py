"""The training step: independent of the number of devices, and SGD as in the paper."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from menet_jax.config import Config, ModelConfig
from menet_jax.training import (
    Batch,
    Metrics,
    TrainState,
    create_state,
    first_replica,
    map_over_devices,
)

CONFIG = Config(run=Path("unused"), steps=3, batch_size=4, model=ModelConfig(width=1))


def random_batch(seed: int, n: int = 4) -> Batch:
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, 224, 224), bool)
    for label in labels:
        top, left = rng.integers(0, 120, 2)
        label[top : top + rng.integers(40, 100), left : left + rng.integers(40, 100)] = True
    images = rng.integers(0, 256, (n, 224, 224, 3)) * 0.5 + 100 * labels[..., None]
    return Batch(images.astype(np.uint8), labels)


def train(config: Config, n_devices: int) -> tuple[TrainState, list[Metrics]]:
    mapped = map_over_devices(config, jax.local_devices()[:n_devices])
    state, metrics = mapped.replicate(create_state(config)), []
    for step in range(config.steps):
        state, measured = mapped.train(state, random_batch(step))
        jax.block_until_ready(state)
        metrics.append(first_replica(measured))
    return first_replica(state), metrics


@pytest.fixture(scope="module")
def one_device() -> tuple[TrainState, list[Metrics]]:
    return train(CONFIG, 1)


def relative_difference(a: Any, b: Any) -> float:
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_one_and_four_devices_agree(one_device: tuple[TrainState, list[Metrics]]) -> None:
    state, metrics = train(CONFIG, 4)
    assert relative_difference(state.params, one_device[0].params) < 1e-5
    assert relative_difference(state.batch_stats, one_device[0].batch_stats) < 1e-5
    for several, one in zip(metrics, one_device[1], strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-4)
    assert state.step == 3


def test_loss_falls_and_parameters_move(one_device: tuple[TrainState, list[Metrics]]) -> None:
    state, metrics = one_device
    assert relative_difference(state.params, create_state(CONFIG).params) > 1e-2
    assert metrics[-1].loss < metrics[0].loss

"""Our programs to time: a training step and an inference, as training and predicting run them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from menet_jax.benchmark.options import Device, Precision
from menet_jax.evaluation.predictor import Predictor
from menet_jax.model.pytorch.files import read_tensors
from menet_jax.model.pytorch.names import from_state_dict
from menet_jax.runtime import devices
from menet_jax.training.config import Config, ModelConfig, OptimizerConfig
from menet_jax.training.step import Batch, create_state, map_over_devices

SIZE = 224


def configuration(width: int, precision: Precision = "float32") -> Config:
    """The paper's recipe; with a learning rate that random images do not blow up."""
    optimizer = OptimizerConfig(learning_rate=1e-3)
    return Config(run=Path(), steps=1, model=ModelConfig(width=width, precision=precision), optimizer=optimizer)


def random_batch(batch_size: int) -> Batch:
    """Noise as images, and a disc in each that is salient: what they show does not matter to the time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, SIZE, SIZE, 3), np.uint8)
    rows, columns = np.ogrid[:SIZE, :SIZE]
    centres = rng.integers(SIZE // 4, 3 * SIZE // 4, (batch_size, 2, 1, 1))
    labels = (rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < (SIZE // 4) ** 2
    return Batch(images, labels)


def training_step(
    weights: Path, width: int, batch_size: int, device: Device, precision: Precision
) -> Callable[[], Any]:
    """The step that training maps over devices, on one device; every call goes on from where the last one ended."""
    devices.start(device)  # as the command does
    config = configuration(width, precision)
    mapped = map_over_devices(config, jax.local_devices()[:1])
    state = mapped.replicate(create_state(config).replace(**from_state_dict(read_tensors(weights))))
    batch = random_batch(batch_size)

    def step() -> None:
        nonlocal state
        state, metrics = mapped.train(state, batch)
        jax.block_until_ready((state, metrics))

    return step


def inference(weights: Path, width: int, batch_size: int, device: Device, precision: Precision) -> Callable[[], Any]:
    """Both maps of a batch as predicting and evaluating compute them, back on the host."""
    devices.start(device)  # as the command does
    variables = from_state_dict(read_tensors(weights))
    predictor = Predictor(configuration(width, precision), variables, batch_size=batch_size)
    images = list(random_batch(batch_size).images)
    return lambda: predictor.evaluate(images)

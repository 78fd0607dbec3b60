"""What is timed of PyTorch: its training step and inference, in PyTorch's best setting.

Best means: denormal numbers flushed, in evaluation mode and without a record for gradients where there is to be no
gradient, gradients dropped instead of zeroed, the fused optimizer, all cores.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from menet_jax.benchmark.programs import configuration, random_batch
from menet_jax.benchmark.pytorch_network import TorchMENet, maps, sgd, total_loss
from menet_jax.runtime.parallel import CORES

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def to_input(images: np.ndarray, memory: torch.memory_format) -> torch.Tensor:
    """Images (b, h, w, 3) uint8 → (b, 3, h, w) float32."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32, memory_format=memory)


def _network(weights: Path, width: int, memory: torch.memory_format) -> TorchMENet:
    torch.set_num_threads(CORES)
    torch.set_flush_denormal(True)  # before there are threads, which take it over
    network = TorchMENet(width)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.to(memory_format=memory)


def training_step(weights: Path, width: int, batch_size: int, layout: str) -> Callable[[], Any]:
    """Every call goes on from where the last one ended."""
    memory = FORMATS[layout]
    network, config = _network(weights, width, memory).train(), configuration(width).optimizer
    rates = config.learning_rate, config.momentum, config.weight_decay, config.bias_rate
    optimizer = sgd(network, *rates, fused=True)
    batch = random_batch(batch_size)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs = network(to_input(np.asarray(batch.images), memory))
        total_loss(outputs, torch.from_numpy(np.asarray(batch.labels)))[0].backward()
        optimizer.step()

    return step


def inference(weights: Path, width: int, batch_size: int, layout: str) -> Callable[[], Any]:
    """Both maps of a batch."""
    memory = FORMATS[layout]
    network = _network(weights, width, memory).eval()
    images = np.asarray(random_batch(batch_size).images)

    @torch.inference_mode()
    def infer() -> Any:
        return [each.numpy() for each in maps(network(to_input(images, memory)))]

    return infer

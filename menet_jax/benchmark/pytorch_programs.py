"""PyTorch's programs to time: its training step and inference, in PyTorch's best setting.

Best means: denormal numbers flushed, in evaluation mode and without a record for gradients where there is to be no
gradient, gradients dropped instead of zeroed, the fused optimizer, all cores; on a GPU, the fastest of cuDNN's ways to
convolve.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from menet_jax.benchmark.options import Device, Precision
from menet_jax.benchmark.programs import configuration, random_batch
from menet_jax.benchmark.pytorch_network import TorchMENet, TorchOutputs, maps, sgd, total_loss
from menet_jax.runtime.parallel import CORES

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
KINDS = {"cpu": "cpu", "gpu": "cuda"}


def to_input(images: np.ndarray, memory: torch.memory_format, kind: str = "cpu") -> torch.Tensor:
    """Images (b, h, w, 3) uint8 → (b, 3, h, w) float32 on a device of that kind."""
    return torch.from_numpy(images).to(kind).permute(0, 3, 1, 2).to(torch.float32, memory_format=memory)


def _network(weights: Path, width: int, memory: torch.memory_format, kind: str) -> TorchMENet:
    torch.set_num_threads(CORES)
    torch.set_flush_denormal(True)  # before there are threads, which take it over
    torch.backends.cudnn.benchmark = True
    network = TorchMENet(width)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.to(kind, memory_format=memory)


def _outputs(network: TorchMENet, images: torch.Tensor, precision: Precision) -> TorchOutputs:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return TorchOutputs(*(each.float() for each in network(images)))


def training_step(
    weights: Path, width: int, batch_size: int, device: Device, precision: Precision, layout: str
) -> Callable[[], Any]:
    """Every call goes on from where the last one ended."""
    memory, kind = FORMATS[layout], KINDS[device]
    network, config = _network(weights, width, memory, kind).train(), configuration(width).optimizer
    rates = config.learning_rate, config.momentum, config.weight_decay, config.bias_rate
    optimizer = sgd(network, *rates, fused=True)
    batch = random_batch(batch_size)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs = _outputs(network, to_input(np.asarray(batch.images), memory, kind), precision)
        total_loss(outputs, torch.from_numpy(np.asarray(batch.labels)).to(kind))[0].backward()
        optimizer.step()
        if kind == "cuda":
            torch.cuda.synchronize()

    return step


def inference(
    weights: Path, width: int, batch_size: int, device: Device, precision: Precision, layout: str
) -> Callable[[], Any]:
    """Both maps of a batch, back on the host."""
    torch.backends.cudnn.allow_tf32 = False  # ours does not round either
    memory, kind = FORMATS[layout], KINDS[device]
    network = _network(weights, width, memory, kind).eval()
    images = np.asarray(random_batch(batch_size).images)

    @torch.inference_mode()
    def infer() -> Any:
        return [each.cpu().numpy() for each in maps(_outputs(network, to_input(images, memory, kind), precision))]

    return infer

"""The same network in PyTorch, to compare with: written from the paper, by itself, with none of our JAX code.

Modules have the names of the authors' (`model.pytorch.names`), so that `load_state_dict` takes what we export. Layouts
are PyTorch's, (b, c, h, w). Enlarging is by `interpolate`, where the authors copy pixel by pixel.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

DEPTH = 5
BORDER = 20


class TorchOutputs(NamedTuple):
    """What the network says of every pixel: features (b, 16, h, w), logits (b, 2, h, w), scale maps (b, 13, h, w)."""

    features: torch.Tensor
    logits: torch.Tensor
    scales: torch.Tensor


def pre(channels: int, convolution: nn.Module) -> nn.Sequential:
    """BatchNorm → ReLU → convolution."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), convolution)


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def transposed(inputs: int, outputs: int, size: int, stride: int, padding: int = 0) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, size, stride, padding, bias=False)


class HalvingConv1(nn.Conv2d):
    """1×1, stride 2. Channels-last it is a product with every second pixel: there, on processors with AVX-512, the
    gradient of PyTorch 2.13's own writes past its memory where there are fewer than 16 input channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_contiguous():
            return super().forward(x)
        pixels = x[:, :, ::2, ::2].permute(0, 2, 3, 1)
        return functional.linear(pixels, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """`h + m2(m1(h))`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.m1 = pre(channels, conv3(channels, channels))
        self.m2 = pre(channels, conv3(channels, channels))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.m2(self.m1(h))


class Resampling(nn.Module):
    """`mm(h) + m2(m1(h))`, where `mm` and `m1` halve or double the size."""

    def __init__(self, inputs: int, outputs: int, *, up: bool) -> None:
        super().__init__()
        shortcut = transposed(inputs, outputs, 2, 2) if up else HalvingConv1(inputs, outputs)
        main = transposed(inputs, outputs, 4, 2, 1) if up else conv3(inputs, outputs, 2)
        self.mm = pre(inputs, shortcut)
        self.m1 = pre(inputs, main)
        self.m2 = pre(outputs, conv3(outputs, outputs))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.mm(h) + self.m2(self.m1(h))


class TorchMENet(nn.Module):
    """MEnet with 13 scale maps; `width` channels at full resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * 2**k for k in range(DEPTH + 1)]
        stem = nn.Sequential(conv3(3, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.stack1 = nn.Sequential(stem, Residual(width), Residual(width))
        for k in range(1, DEPTH + 1):
            down = Resampling(channels[k - 1], channels[k], up=False)
            self.add_module(f"scale{k}", nn.Sequential(down, Residual(channels[k])))
        deepest = channels[DEPTH]
        self.scale5_5 = nn.Sequential(
            pre(deepest, nn.Conv2d(deepest, deepest, 7)), pre(deepest, transposed(deepest, deepest, 7, 1))
        )
        for k in reversed(range(DEPTH)):
            above = 2 * deepest if k == DEPTH - 1 else 2 * channels[k + 1]
            up = Resampling(above, channels[k], up=True)
            self.add_module(f"stack{10 - k}", nn.Sequential(up, Residual(channels[k])))
        self.data_f = pre(3, conv3(3, 1))
        for k in range(DEPTH + 1):
            self.add_module(f"scale{k}_m", pre(channels[k], conv3(channels[k], 1)))
            self.add_module(f"scale{k}_u", pre(channels[k], conv3(channels[k], 1)))
        self.metric = nn.Sequential(nn.Sequential(conv3(13, 16), nn.BatchNorm2d(16)), nn.Tanh())
        self.sal = nn.Sequential(conv3(13, 2), nn.BatchNorm2d(2))

    def forward(self, images: torch.Tensor) -> TorchOutputs:
        """Map images (b, 3, h, w), range 0…255, to outputs at their size."""
        encoder = [self.stack1(images)]
        for k in range(1, DEPTH + 1):
            encoder.append(self.get_submodule(f"scale{k}")(encoder[-1]))
        bottleneck = h = self.scale5_5(encoder[-1])
        decoder: list[torch.Tensor] = []
        for k in reversed(range(DEPTH)):
            h = self.get_submodule(f"stack{10 - k}")(torch.cat([h, encoder[k + 1]], dim=1))
            decoder.insert(0, h)
        maps = [self.data_f(images)]
        maps += [self.get_submodule(f"scale{k}_m")(level) for k, level in enumerate(encoder)]
        maps += [self.get_submodule(f"scale{k}_u")(level) for k, level in enumerate([*decoder, bottleneck])]
        size = images.shape[2:]
        scales = torch.cat([functional.interpolate(each, size, mode="nearest") for each in maps], dim=1)
        return TorchOutputs(self.metric(scales), self.sal(scales), scales)


def metric_loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Class-centre metric loss (Eq. 3), squared, with hard negative mining and constant centres; mean over the batch.

    With unit features `f̂` and `d = c_b − c_s`, salient pixels have `ℓ = 2·f̂·d + ‖c_s‖² − ‖c_b‖²`, background ones −ℓ.

    Args:
        features: (b, c, h, w).
        labels: (b, h, w), bool.
    """
    unit, salient = functional.normalize(features, dim=1).flatten(2), labels.flatten(1)
    with torch.no_grad():
        weights = torch.stack([salient, ~salient], dim=2).to(unit.dtype)
        sizes = weights.sum(dim=1)
        centres = torch.bmm(unit, weights) / sizes.clamp(min=1)[:, None]
        towards = centres[:, :, 1] - centres[:, :, 0]
        offset = (centres[:, :, 0] ** 2 - centres[:, :, 1] ** 2).sum(dim=1)
    of_salient = 2 * torch.bmm(towards[:, None], unit)[:, 0] + offset[:, None]
    losses = torch.where(salient, of_salient, -of_salient)
    with torch.no_grad():
        if losses.is_cuda:
            kept = mined_together(losses, salient).to(unit.dtype)
        else:
            kept = torch.stack([_mined(*each) for each in zip(losses, salient, strict=True)]).to(unit.dtype)
    return ((losses * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)).mean()


def _mined(losses: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """Which pixels of one image count: all of the smaller class, and as many of the larger with the highest loss."""
    count = int(salient.sum())
    fewer = min(count, len(salient) - count)
    if not fewer:
        return torch.zeros_like(salient)
    larger = salient == (count > len(salient) - count)
    places = larger.nonzero()[:, 0]
    candidates = losses[places]
    threshold = candidates.kthvalue(len(candidates) - fewer + 1).values
    above = candidates > threshold
    tied = candidates == threshold
    taken = above | (tied & (tied.cumsum(0) <= fewer - above.sum()))  # the first of those that tie
    kept = ~larger
    kept[places[taken]] = True
    return kept


def mined_together(losses: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """The same of a batch, by sorting: a GPU would wait for the host at every image, a CPU takes longer to sort."""
    counts = salient.sum(dim=1, keepdim=True)
    fewer = torch.minimum(counts, salient.shape[1] - counts)
    larger = salient == (counts > salient.shape[1] - counts)
    candidates = losses.masked_fill(~larger, -torch.inf)
    threshold = candidates.sort(dim=1, descending=True).values.gather(1, (fewer - 1).clamp(min=0))
    above = candidates > threshold
    tied = larger & (candidates == threshold)
    taken = above | (tied & (tied.cumsum(1) <= fewer - above.sum(dim=1, keepdim=True)))
    return (~larger | taken) & (fewer > 0)


def total_loss(outputs: TorchOutputs, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eq. 4 with λ = 1, the metric loss and the cross entropy."""
    metric = metric_loss(outputs.features, labels)
    entropy = functional.cross_entropy(outputs.logits, labels.long())
    return metric + entropy, metric, entropy


def maps(outputs: TorchOutputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The metric and the probability map (Section III-C), each (b, h, w) in [0, 1]."""
    probability = outputs.logits.softmax(dim=1)[:, 1]
    height, width = probability.shape[1:]
    band = torch.ones(height, width, dtype=torch.bool, device=probability.device)
    band[BORDER : height - BORDER, BORDER : width - BORDER] = False
    background = probability < 0.5
    anywhere = torch.where(background.any(dim=(1, 2), keepdim=True), background, band)
    region = background & band
    region = torch.where(region.any(dim=(1, 2), keepdim=True), region, anywhere).flatten(1).to(probability.dtype)
    unit = functional.normalize(outputs.features, dim=1)
    expected = torch.bmm(unit.flatten(2), region[:, :, None])[:, :, :, None] / region.sum(dim=1)[:, None, None, None]
    distance = ((unit - expected) ** 2).sum(dim=1)
    low, high = distance.amin(dim=(1, 2), keepdim=True), distance.amax(dim=(1, 2), keepdim=True)
    return (distance - low) / torch.where(high > low, high - low, 1.0), probability


def sgd(network: nn.Module, rate: float, momentum: float, decay: float, bias_rate: float, **how: Any) -> Any:
    """Section IV-B: weight decay on convolution weights alone, a higher learning rate for convolution biases."""
    weights, biases, others = [], [], []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weights.append(module.weight)
            biases += [] if module.bias is None else [module.bias]
        else:
            others += list(module.parameters(recurse=False))
    groups = [
        {"params": weights, "weight_decay": decay},
        {"params": biases, "lr": rate * bias_rate},
        {"params": others},
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, **how)

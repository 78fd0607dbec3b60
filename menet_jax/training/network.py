"""The network that a configuration asks for."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from menet_jax.model.menet import MENet
from menet_jax.model.nldf import NLDF
from menet_jax.model.saliency import Region, border, border_background
from menet_jax.model.unet import UNet
from menet_jax.training.config import Config, LossConfig

BASELINES: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "nldf": NLDF}
"""Networks without a metric space, by `model.kind`."""


def network(config: Config, axis_name: str | None = None) -> nn.Module:
    """The network of a configuration."""
    model = config.model
    make = BASELINES.get(model.kind) or partial(MENet, multi_scale=model.multi_scale)
    return make(width=model.width, dtype=jnp.dtype(model.precision), axis_name=axis_name)


def background_region(config: LossConfig) -> Region:
    """The region that the metric map takes for background, by the loss that trained the network.

    Logits tell where background is only if a loss trained them.
    """
    return border_background if config.cross_entropy else border

"""The network that a configuration asks for."""

import jax.numpy as jnp

from menet_jax.model.menet import MENet
from menet_jax.model.saliency import Region, border, border_background
from menet_jax.training.config import Config, LossConfig


def network(config: Config, axis_name: str | None = None) -> MENet:
    """The network of a configuration."""
    return MENet(config.model.width, config.model.multi_scale, jnp.dtype(config.model.precision), axis_name)


def background_region(config: LossConfig) -> Region:
    """From where the metric map of a network trained with this loss measures: logits that no loss trained say nothing
    of where background is.
    """
    return border_background if config.cross_entropy else border

"""Saliency maps of single images with a trained network."""

import numpy as np
from jaxtyping import Float, UInt8

from menet_jax.images import resize_map
from menet_jax.metrics import quantise


def full_size(saliency: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A map in [0, 1] at the network's size → at its image's size, in 8 bits, as it is saved and scored."""
    return quantise(resize_map(saliency, shape))

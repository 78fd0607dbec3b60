"""Layers that all networks here are built of: convolutions of `model.convolution`, with Caffe's initialiser."""

from functools import partial

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from menet_jax.model.convolution import conv_general_dilated, convolve_transposed

# Caffe's "xavier": uniform in ±sqrt(3 / fan_in). Caffe takes a transposed kernel's fan-in over its outputs.
_conv_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
_transposed_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=-1, out_axis=-2)

Conv = partial(nn.Conv, kernel_init=_conv_init, conv_general_dilated=conv_general_dilated)
"""A convolution with bias; padding is explicit, and the same along both axes and on both sides."""


class ConvTranspose(nn.Module):
    """Transposed convolution without bias; stride and padding are those of the convolution that it transposes."""

    features: int
    size: int
    stride: int
    padding: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _transposed_init, (self.size, self.size, x.shape[-1], self.features))
        return convolve_transposed(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding)

"""Layers that all networks here are built of: convolutions of `model.convolution`, with Caffe's initialiser."""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from menet_jax.model.convolution import convolve, convolve_transposed
from menet_jax.model.parameters import parameter

# Caffe's "xavier": uniform in ±sqrt(3 / fan_in). Caffe takes a transposed kernel's fan-in over its outputs.
_conv_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
_transposed_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=-1, out_axis=-2)


class Conv(nn.Module):
    """Convolution with bias; stride and padding are the same along both axes and on both sides. Its arguments have the
    names that `flax.linen.Conv`'s have, which may take its place.
    """

    features: int
    kernel_size: tuple[int, int]
    padding: int
    dtype: DTypeLike
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = parameter(self, "kernel", _conv_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = parameter(self, "bias", nn.initializers.zeros, (self.features,))
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class ConvTranspose(nn.Module):
    """Transposed convolution without bias; stride and padding are those of the convolution that it transposes."""

    features: int
    size: int
    stride: int
    padding: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = parameter(self, "kernel", _transposed_init, (self.size, self.size, x.shape[-1], self.features))
        return convolve_transposed(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding)

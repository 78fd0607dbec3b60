"""A network after NLDF (Luo et al.: "Non-Local Deep Features for Salient Object Detection", CVPR 2017), one of the
methods that the paper compares itself with (Tables I to III).

A VGG-16 is read at its five pooled maps. Each gives a feature and its contrast, `X − mean of X around`; from the
coarsest on they are enlarged and joined, a 4×5 grid; the finest gives a local score for each pixel, the coarsest a
global one for the image, and their sum is the logits at half the image's size.

What differs, because a baseline is trained under the same conditions as MENet: nothing is pretrained; batch
normalisation follows every convolution that a ReLU follows; the global convolutions fit 224×224 instead of 352×352;
transposed kernels are 4×4 instead of 5×5; the loss is cross entropy without the boundary's; the logits are enlarged to
the image's size.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from menet_jax.model.layers import Conv, ConvTranspose
from menet_jax.model.normalisation import BatchNorm
from menet_jax.model.outputs import Outputs, check_sides
from menet_jax.model.pooling import local_mean, max_pool

BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""VGG-16's blocks: channels as a multiple of the width, and number of convolutions."""


class NLDF(nn.Module):
    """A network after NLDF, with two classes and no metric space.

    Args:
        width: channels of VGG's first block, half of those of each feature; 64 in the paper, which gives 29,189,188
            parameters.
        dtype: what the convolutions compute in.
        axis_name: the mapped axis over which batch statistics are synchronised.
    """

    width: int = 64
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Outputs:
        """Map images (range 0…255, not normalised) to outputs at their own size.

        Raises:
            ValueError: the height or width is below 224 or not divisible by 32.
        """
        height, width = images.shape[1:3]
        check_sides("NLDF", height, width, smallest=7 * 32, step=32)
        norm = partial(BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name)
        exact = jnp.float64 if self.dtype == jnp.float64 else jnp.float32
        features = 2 * self.width

        def conv(h: jax.Array, channels: int, size: int, name: str, *, padding: int) -> jax.Array:
            h = Conv(channels, (size, size), padding=padding, dtype=self.dtype, name=f"{name}_conv")(h)
            return nn.relu(norm(name=f"{name}_norm")(h))

        def plain(h: jax.Array, channels: int, size: int, name: str, dtype: DTypeLike) -> jax.Array:
            return Conv(channels, (size, size), padding=0, dtype=dtype, name=f"{name}_conv")(h)

        h, pooled = images, list[jax.Array]()
        for block, (multiple, count) in enumerate(BLOCKS, 1):
            for n in range(1, count + 1):
                h = conv(h, multiple * self.width, 3, f"vgg{block}_{n}", padding=1)
            h = max_pool(h)
            pooled.append(h)

        everywhere = conv(h, features, 5, "global1", padding=0)
        everywhere = plain(everywhere, features, 3, "global2", self.dtype)
        global_score = plain(everywhere, 2, 1, "global_score", exact).mean((1, 2), keepdims=True)

        coarser = list[jax.Array]()
        for level in range(len(BLOCKS), 0, -1):
            feature = conv(pooled[level - 1], features, 3, f"feature{level}", padding=1)
            joined = jnp.concatenate([feature, feature - local_mean(feature), *coarser], axis=-1)
            if level > 1:
                channels = features * (len(BLOCKS) + 1 - level)
                up = ConvTranspose(channels, 4, 2, 1, self.dtype, name=f"up{level}_transposed")(joined)
                coarser = [nn.relu(norm(name=f"up{level}_norm")(up))]
        local = plain(joined, 5 * features, 1, "local", self.dtype)
        logits = plain(local, 2, 1, "local_score", exact) + global_score
        return Outputs(None, jax.image.resize(logits, (images.shape[0], height, width, 2), "linear"))

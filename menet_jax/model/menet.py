"""The network of the paper (Section III-A, Figures 2 and 3): an encoder-decoder read at 13 scales.

"Pre" names a pre-activation layer, BatchNorm → ReLU → convolution. Every convolution has a bias, no transposed
one has; padding is explicit and symmetric. Channels last throughout.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from menet_jax.model.layers import Conv, ConvTranspose
from menet_jax.model.normalisation import BatchNorm
from menet_jax.model.outputs import Outputs, check_sides
from menet_jax.model.upsampling import side_by_side

FEATURES = 16  # dimensions of the metric space, C in Section III-B
DEPTH = 5  # halvings between the image and the coarsest feature map
SMALLEST_SIDE = 7 * 2**DEPTH  # the bottleneck's 7×7 kernel needs a map of at least 7×7

ModuleDef = Callable[..., Any]
Activation = Callable[[jax.Array], jax.Array]


class Pre(nn.Module):
    """BatchNorm → ReLU → convolution."""

    conv: ModuleDef
    norm: ModuleDef
    relu: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(name="conv")(self.relu(self.norm(name="norm")(x)))


class ResidualBlock(nn.Module):
    """`h + Pre3×3(Pre3×3(h))`."""

    features: int
    conv: ModuleDef
    pre: ModuleDef

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        conv = partial(self.conv, self.features, (3, 3), padding=1)
        main = self.pre(conv, name="main1")(h)
        return h + self.pre(conv, name="main2")(main)


class DownBlock(nn.Module):
    """`Pre1×1 stride 2 (h) + Pre3×3(Pre3×3 stride 2 (h))`: half the size."""

    features: int
    conv: ModuleDef
    pre: ModuleDef

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        conv = partial(self.conv, self.features)
        shortcut = self.pre(partial(conv, (1, 1), strides=2, padding=0), name="shortcut")(h)
        main = self.pre(partial(conv, (3, 3), strides=2, padding=1), name="main1")(h)
        return shortcut + self.pre(partial(conv, (3, 3), padding=1), name="main2")(main)


class UpBlock(nn.Module):
    """`Pre-transposed 2×2 stride 2 (h) + Pre3×3(Pre-transposed 4×4 stride 2 padding 1 (h))`: twice the size."""

    features: int
    conv: ModuleDef
    transposed: ModuleDef
    pre: ModuleDef

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        transposed = partial(self.transposed, self.features)
        shortcut = self.pre(partial(transposed, 2, stride=2, padding=0), name="shortcut")(h)
        main = self.pre(partial(transposed, 4, stride=2, padding=1), name="main1")(h)
        return shortcut + self.pre(partial(self.conv, self.features, (3, 3), padding=1), name="main2")(main)


class MENet(nn.Module):
    """Metric Expression Network.

    Args:
        width: channels at full resolution; 32 in the paper, which gives 184,959,166 parameters.
        multi_scale: whether the heads read the 13 scale maps, or (False: "CE-plain" of Table IV) the last
            decoder output directly.
        dtype: what the convolutions compute in. Parameters and batch statistics are float32; so are outputs, unless
            this is float64.
        axis_name: the mapped axis over which batch statistics are synchronised, under `pmap` or `shard_map`.
        relu: the activation before every convolution but the stem's, and after that one.
        tanh: the activation of the features. Both are linear where the network is bounded (Eq. 13).

    >>> import jax, jax.numpy as jnp
    >>> from menet_jax import MENet
    >>> image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    >>> outputs, variables = jax.eval_shape(MENet(width=32).init_with_output, jax.random.key(0), image)
    >>> outputs.features.shape, outputs.logits.shape
    ((1, 224, 224, 16), (1, 224, 224, 2))
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    184959166
    """

    width: int = 32
    multi_scale: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    relu: Activation = nn.relu
    tanh: Activation = jnp.tanh

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Outputs:
        """Map images (range 0…255, not normalised) to outputs at their own size.

        With `train`, batch statistics normalise and the running ones are updated: apply with
        `mutable=["batch_stats"]`.

        Raises:
            ValueError: the height or width is below 224 or not divisible by 32.
        """
        height, width = images.shape[1:3]
        check_sides("MENet", height, width, smallest=SMALLEST_SIDE, step=2**DEPTH)

        conv = partial(Conv, dtype=self.dtype)
        transposed = partial(ConvTranspose, dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name)
        pre = partial(Pre, norm=norm, relu=self.relu)

        h = conv(self.width, (3, 3), padding=1, name="stem_conv")(images)
        h = self.relu(norm(name="stem_norm")(h))
        h = ResidualBlock(self.width, conv, pre, name="encoder0_residual1")(h)
        encoder = [ResidualBlock(self.width, conv, pre, name="encoder0_residual2")(h)]
        for k in range(1, DEPTH + 1):
            h = DownBlock(self.width * 2**k, conv, pre, name=f"encoder{k}_down")(encoder[-1])
            encoder.append(ResidualBlock(self.width * 2**k, conv, pre, name=f"encoder{k}_residual")(h))

        deepest = self.width * 2**DEPTH
        h = pre(partial(conv, deepest, (7, 7), padding=0), name="bottleneck_down")(encoder[-1])
        h = pre(partial(transposed, deepest, 7, stride=1, padding=0), name="bottleneck_up")(h)
        bottleneck = h

        decoder: dict[int, jax.Array] = {}
        for k in reversed(range(DEPTH)):
            h = jnp.concatenate([h, encoder[k + 1]], axis=-1)
            h = UpBlock(self.width * 2**k, conv, transposed, pre, name=f"decoder{k}_up")(h)
            h = decoder[k] = ResidualBlock(self.width * 2**k, conv, pre, name=f"decoder{k}_residual")(h)

        scales = None
        if self.multi_scale:
            read = {"image": images}
            read |= {f"encoder{k}": level for k, level in enumerate(encoder)}
            read |= {f"decoder{k}": decoder[k] for k in range(DEPTH)}
            read |= {"bottleneck": bottleneck}
            one_channel = partial(conv, 1, (3, 3), padding=1)
            maps = [pre(one_channel, name=f"scale_{name}")(level) for name, level in read.items()]
            finest = len(read) - DEPTH - 1  # of the decoder; up to it maps become coarser, and from it on again
            scales = jnp.concatenate([side_by_side(maps[:finest]), side_by_side(maps[finest:])], axis=-1)
            h = scales

        # The heads' outputs are float32 at least, whatever comes before computes in.
        exact = jnp.float64 if self.dtype == jnp.float64 else jnp.float32
        norm = partial(norm, dtype=exact)
        features = norm(name="features_norm")(conv(FEATURES, (3, 3), padding=1, name="features_conv")(h))
        logits = norm(name="logits_norm")(conv(2, (3, 3), padding=1, name="logits_conv")(h))
        return Outputs(
            self.tanh(features).astype(exact),
            logits.astype(exact),
            None if scales is None else scales.astype(exact),
        )

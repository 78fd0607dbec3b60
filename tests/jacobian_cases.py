"""Small networks and matrices whose Jacobians are known or cheap, for the tests of the Jacobian analysis."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from flax.traverse_util import path_aware_map
from jax.typing import DTypeLike

from menet_jax.model.layers import ConvTranspose
from menet_jax.model.menet import Activation, DownBlock, Pre, ResidualBlock, UpBlock
from menet_jax.model.outputs import Outputs
from menet_jax.model.pytorch.names import from_state_dict
from menet_jax.robustness.jacobian.bounds import BoundNorms

Variables = dict[str, Any]

IMAGE = (4, 5, 3)
MAP = (3, 7)


class Matrix(struct.PyTreeNode):
    """f(x) = A·x as a map of shape `MAP`, so J = A everywhere."""

    a: jax.Array

    def __call__(self, image: jax.Array) -> jax.Array:
        return (self.a @ image.ravel()).reshape(MAP)


def matrix(singular_values: Any, seed: int = 0) -> Matrix:
    """A matrix with these singular values (21 at most, the others 0) and random singular vectors."""
    rng = np.random.default_rng(seed)
    m, n = int(np.prod(MAP)), int(np.prod(IMAGE))
    left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (m, n))
    values = np.zeros(m)
    values[: len(singular_values)] = singular_values
    return Matrix(jnp.asarray((left * values) @ right[:m], jnp.float32))


def as_matrix(jacobian: Any) -> np.ndarray:
    """(m, n) in float64."""
    array = np.asarray(jacobian, np.float64)
    return array.reshape(-1, int(np.prod(array.shape[-3:])))


class SmallNet(nn.Module):
    """The parts of MENet on an 8×8 image: stem, blocks down and up, concatenation, both heads."""

    relu: Activation = nn.relu
    tanh: Activation = jnp.tanh
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        conv = partial(nn.Conv, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=True, epsilon=1e-5, dtype=self.dtype)
        pre = partial(Pre, norm=norm, relu=self.relu)
        h = self.relu(norm(name="stem_norm")(conv(2, (3, 3), padding=1, name="stem_conv")(images)))
        h = ResidualBlock(2, conv, pre, name="residual")(h)
        h = DownBlock(3, conv, pre, name="down")(h)
        transposed = partial(ConvTranspose, dtype=self.dtype)
        h = UpBlock(2, conv, transposed, pre, name="up")(h)
        h = jnp.concatenate([h, images], axis=-1)
        features = norm(name="features_norm")(conv(16, (3, 3), padding=1, name="features_conv")(h))
        logits = norm(name="logits_norm")(conv(2, (3, 3), padding=1, name="logits_conv")(h))
        return Outputs(self.tanh(features), logits, None)


SMALL_IMAGE = (8, 8, 3)


def small_variables(seed: int) -> Variables:
    """Random kernels, scales of both signs, biases and statistics, not at all as training leaves them."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1] == "var":
            return rng.uniform(0.01, 2, leaf.shape).astype(np.float32)
        size = np.sqrt(np.prod(leaf.shape[:-1])) if path[-1] == "kernel" else 1
        return (rng.standard_normal(leaf.shape) / size).astype(np.float32)

    return dict(path_aware_map(draw, _small_shapes()))


@cache
def _small_shapes() -> Variables:
    return dict(jax.eval_shape(SmallNet().init, jax.random.key(0), jnp.zeros((1, *SMALL_IMAGE))))


def small_image(seed: int) -> np.ndarray:
    """From a faint one near black to a contrasty one."""
    rng = np.random.default_rng(seed)
    return (rng.choice([1, 30, 255]) * rng.random(SMALL_IMAGE)).astype(np.float32)


def authors_variables() -> Variables:
    """The authors' weights at width 1."""
    with np.load(Path(__file__).parent / "data" / "menet_width1.npz") as golden:
        tensors = {name[6:]: array for name, array in golden.items() if name.startswith("param/")}
    return dict(jax.device_put(from_state_dict(tensors)))


def waves() -> np.ndarray:
    """The image on which the authors' network was run."""
    i, j, c = np.arange(224)[:, None, None], np.arange(224)[:, None], np.arange(3)
    first, second = np.sin(0.11 * i * (c + 1) + 0.07 * j), np.cos(0.05 * j * (c + 2) - 0.03 * i)
    return (127.5 * (1 + first * second)).astype(np.float32)


def check_norms(norms: BoundNorms, matrix: np.ndarray, tolerance: float) -> None:
    one, infinity, two = (np.linalg.norm(matrix, order) for order in (1, np.inf, 2))
    slack = 1 + 3 * norms.margin + 1e-6
    assert one <= norms.one <= one * slack
    assert infinity <= norms.infinity <= infinity * slack
    assert norms.two_at_least <= two * (1 + 1e-6)
    assert two <= norms.two <= two * slack * (1 + tolerance)
    assert norms.schur == pytest.approx(np.sqrt(norms.one * norms.infinity))
    assert norms.two == min(norms.schur, norms.collatz_wielandt)

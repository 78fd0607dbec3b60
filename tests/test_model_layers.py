"""The convolutional layers, and how they find their parameters, against Flax's own."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from menet_jax.model.layers import Conv, ConvTranspose
from menet_jax.model.menet import MENet
from menet_jax.model.normalisation import BatchNorm

CAFFE = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
IMAGE = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)


@pytest.mark.parametrize(("size", "strides", "padding"), [((3, 3), 2, 1), ((1, 3), 1, 0)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_convolution_is_flaxs(size: tuple[int, int], strides: int, padding: int, dtype: type) -> None:
    """The same kernels are drawn from a key, and the same result comes in the type that it computes in."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 7, 3)), jnp.float32)
    ours = Conv(4, size, strides=strides, padding=padding, dtype=dtype)
    flaxs = nn.Conv(4, size, strides, padding=padding, dtype=dtype, kernel_init=CAFFE)
    drawn, its = (jax.jit(layer.init)(jax.random.key(1), x) for layer in (ours, flaxs))
    jax.tree.map(np.testing.assert_array_equal, drawn, its)
    drawn["params"]["bias"] = jnp.arange(4.0)
    y, expected = (jax.jit(layer.apply)(drawn, x) for layer in (ours, flaxs))
    assert y.dtype == expected.dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(y.astype(np.float32), expected.astype(np.float32), rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "name", "shape"),
    [
        (Conv(4, (3, 3), padding=1, dtype=jnp.float32), "kernel", (3, 3, 3, 5)),
        (Conv(4, (3, 3), padding=1, dtype=jnp.float32), "bias", (1,)),
        (ConvTranspose(4, 2, 2, 0, jnp.float32), "kernel", (2, 2, 4, 4)),
        (BatchNorm(True, jnp.float32), "scale", (1,)),
        (BatchNorm(True, jnp.float32), "bias", ()),
    ],
)
def test_parameters_of_another_shape_are_refused(layer: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Even one that would broadcast to what is asked for."""
    variables: Any = jax.eval_shape(layer.init, jax.random.key(0), IMAGE)
    jax.eval_shape(layer.apply, variables, IMAGE)
    variables["params"][name] = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ScopeParamShapeError, match=f'parameter "{name}"'):
        jax.eval_shape(layer.apply, variables, IMAGE)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_parameters_are_float32_whatever_a_network_computes_in(dtype: type) -> None:
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        outputs, variables = jax.eval_shape(MENet(1, dtype=dtype).init_with_output, jax.random.key(0), image)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert outputs.logits.dtype == dtype

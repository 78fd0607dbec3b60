"""Batch normalisation, against Flax's own, finite differences and one device against four."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from menet_jax.model.normalisation import EPSILON, MOMENTUM, BatchNorm, normalise

SHAPE = (4, 5, 6, 3)


def draw() -> tuple[jax.Array, dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPE, np.float32) * [1, 10, 0.1] + [0, 100, -3]
    params = {"scale": rng.uniform(0.5, 2, 3), "bias": rng.standard_normal(3)}
    stats = {"mean": rng.standard_normal(3), "var": rng.uniform(0.5, 2, 3)}
    return jnp.asarray(x, jnp.float32), jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32), {"params": params, "batch_stats": stats}
    )


def layers(train: bool) -> tuple[nn.Module, nn.Module]:
    flaxs = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON, use_fast_variance=False)
    return BatchNorm(not train, jnp.float32), flaxs


@pytest.mark.parametrize("train", [True, False])
def test_values_statistics_and_derivatives_are_those_of_flax(train: bool) -> None:
    x, variables = draw()

    def everything(layer: nn.Module) -> Any:
        def f(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            y, updates = layer.apply(variables | {"params": params}, x, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y)), (y, updates)

        gradient = jax.grad(f, (0, 1), has_aux=True)
        primals = variables["params"], x
        tangents = jax.tree.map(jnp.cos, primals)
        return (
            f(*primals),
            gradient(*primals),
            jax.jvp(f, primals, tangents)[1],
            jax.jvp(lambda *p: gradient(*p)[0], primals, tangents)[1],  # second derivatives
        )

    ours, flaxs = (jax.tree.leaves(jax.jit(partial(everything, layer))()) for layer in layers(train))
    for our, its in zip(ours, flaxs, strict=True):
        np.testing.assert_allclose(our, its, rtol=1e-4, atol=1e-4 * float(jnp.max(jnp.abs(its))))


def test_derivatives_agree_with_finite_differences_in_float64() -> None:
    with jax.enable_x64(True):
        x, variables = draw()
        params, stats = variables["params"], variables["batch_stats"]
        taken = x, params["scale"], params["bias"], stats["mean"], stats["var"]
        args = [a.astype(jnp.float64) for a in taken]

        def f(*args: Any) -> list[jax.Array]:
            return [jnp.sum(jnp.sin(out)) for out in normalise(*args, None)]

        check_grads(jax.jit(f), args, order=2, modes=["fwd", "rev"], rtol=1e-4)


def test_values_take_two_sums_over_the_pixels_and_gradients_two_more() -> None:
    """Each reads a map from memory."""
    x, variables = draw()
    running = variables["batch_stats"].values()

    def weighted(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return jnp.vdot(normalise(x, scale, bias, *running, None)[0], jnp.ones(SHAPE))

    program = jax.jit(jax.value_and_grad(weighted, (0, 1, 2))).lower(x, *variables["params"].values()).as_text()
    assert program.count("stablehlo.reduce(") == 4


def test_four_devices_normalise_by_the_statistics_of_all() -> None:
    x, variables = draw()
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

    def loss(scale: jax.Array, bias: jax.Array, x: jax.Array, weights: jax.Array, axis: str | None) -> jax.Array:
        y, mean, var = normalise(x, scale, bias, *variables["batch_stats"].values(), axis)
        return jnp.mean(jnp.sin(y) * weights) + jnp.sum(mean) + jnp.sum(var)

    def shared(x: jax.Array, weights: jax.Array) -> Any:
        grads = jax.grad(loss, (0, 1))(scale, bias, x, weights, "devices")
        return jax.lax.pmean(grads, "devices")

    split = jax.tree.map(lambda a: a.reshape(4, 1, *a.shape[1:]), (x, weights))
    for of_all, of_one in zip(
        jax.pmap(shared, axis_name="devices")(*split),
        jax.grad(loss, (0, 1))(scale, bias, x, weights, None),
        strict=True,
    ):
        np.testing.assert_allclose(of_all[0], of_one, rtol=1e-5, atol=1e-7)


def test_results_are_of_the_type_asked_for_and_statistics_are_not() -> None:
    x, variables = draw()
    layer = BatchNorm(False, jnp.bfloat16)
    y, updates = layer.apply(variables, x.astype(jnp.bfloat16), mutable=["batch_stats"])
    assert isinstance(y, jax.Array)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.float32)}


def test_a_float32_image_is_normalised_in_float64_where_that_is_asked_for() -> None:
    """As the image is at the head of the network, whatever that computes in; against NumPy, in training."""
    x = 100 + np.random.default_rng(0).standard_normal((2, 5, 7, 3)).astype(np.float32)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        norm = BatchNorm(use_running_average=False, dtype=jnp.float64)
        params = {"scale": jnp.ones(3, jnp.float64), "bias": jnp.zeros(3, jnp.float64)}
        statistics = {"mean": jnp.zeros(3, jnp.float64), "var": jnp.ones(3, jnp.float64)}
        y, _ = norm.apply({"params": params, "batch_stats": statistics}, jnp.asarray(x), mutable=["batch_stats"])
    exact = x.astype(np.float64)
    centred = exact - exact.mean((0, 1, 2))
    expected = centred / np.sqrt(np.mean(centred**2, (0, 1, 2)) + EPSILON)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)

"""What a CPU compiles a TPU and a GPU can be given too: nothing in the programs is of the CPU alone."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shallow_menet import SIDE

from menet_jax.model.inference import eval_step
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet
from menet_jax.model.saliency import border_background
from menet_jax.robustness.attack.ascent import L2, attack, attack_each
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.smoothing.certificate import sample_counts
from menet_jax.robustness.smoothing.measurement import SalientPixels
from menet_jax.training.config import Config
from menet_jax.training.network import background_region, network
from menet_jax.training.optimizer import make_optimizer
from menet_jax.training.presets import PRESETS
from menet_jax.training.step import Batch, TrainState, create_state, train_step

pytestmark = pytest.mark.usefixtures("shallow")

DIFFERENT = {name: PRESETS[name].config for name in ("menet", "ce-plain", "metric-only", "unet", "nldf")}
"""Presets of different programs: the others differ from these in numbers."""


def test_the_other_presets_are_one_of_these() -> None:
    def program(config: Config) -> object:
        loss = dataclasses.replace(config.loss, metric=float(config.loss.metric > 0))
        return dataclasses.replace(config.model, width=1), loss if config.model.multi_scale else config.model

    known = [program(config) for config in DIFFERENT.values()]
    ce_only = dataclasses.replace(PRESETS["ce-only"].config.loss, metric=1.0)
    assert ce_only == PRESETS["menet"].config.loss  # the metric loss is computed there too, and weighs nothing
    assert all(program(each.config) in known for name, each in PRESETS.items() if name != "ce-only")


@pytest.mark.parametrize(("name", "precision"), [*((name, "float32") for name in DIFFERENT), ("menet", "bfloat16")])
def test_steps_are_lowered_for_tpu_and_gpu(name: str, precision: Literal["float32", "bfloat16"]) -> None:
    model = dataclasses.replace(DIFFERENT[name].model, width=1, precision=precision)
    config = dataclasses.replace(DIFFERENT[name], model=model)
    state = create_state(config)
    batch = Batch(np.zeros((2, 224, 224, 3), np.uint8), np.zeros((2, 224, 224), bool))
    optimizer = make_optimizer(config.optimizer)

    def step(state: dict[str, Any], batch: dict[str, Any]) -> Any:  # dictionaries, whose leaves may be of any type
        return train_step(network(config), optimizer, config.loss, TrainState(**state), Batch(**batch))

    maps = partial(eval_step, network(config), region=background_region(config.loss))
    variables = state.variables
    training = jax.jit(step).trace(vars(state), batch._asdict()).lower(lowering_platforms=("tpu", "cuda")).as_text()
    assert products(training)
    inference = jax.jit(maps).trace(variables, batch.images).lower(lowering_platforms=("tpu", "cuda")).as_text()
    assert rounded(training) and not rounded(inference)


def test_jacobians_are_computed_at_full_precision_on_a_gpu() -> None:
    net, image = MENet(1), jnp.zeros((SIDE, SIDE, 3))
    variables = jax.tree.map(jnp.asarray, initial_variables(net, 0))
    f = image_function.network_map(net, variables)
    value, push = jax.eval_shape(image_function.linearise_program, f, image)
    for traced in (
        image_function.linearise_program.trace(f, image),
        image_function.push_forward.trace(push, image),
        image_function.evaluate.trace(image_function.as_tree(lambda x: x[..., 0] @ x[..., 1]), image),
        jax.jit(lambda x: SalientPixels(variables, net, border_background)(x)).trace(image),
        image_function.pull_back.trace(push, image, value),
    ):
        program = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert products(program) and not rounded(program)


def test_functions_of_ones_own_are_searched_and_certified_at_full_precision() -> None:
    seen: list[str | None] = []

    def salient(image: jax.Array) -> jax.Array:
        settings: Any = jax.config
        seen.append(settings.jax_default_matmul_precision)
        return image[..., 0] > 100

    def total(image: jax.Array) -> jax.Array:
        salient(image)
        return jnp.sum(image)

    image, starts = np.full((2, 2, 3), 100.0, np.float32), np.zeros((1, 2, 2, 3), np.float32)
    for compute in (
        lambda: attack(total, image, L2, 1.0, starts, steps=1),
        lambda: attack_each(lambda _: total, np.zeros(1), image[None], L2, 1.0, starts[None], steps=1),
        lambda: sample_counts(salient, image, 1.0, 2, jax.random.key(0)),
        lambda: image_function.push_forward(image_function.as_tree(total), image),
    ):
        seen.clear()
        compute()
        assert seen[-1] == "highest"  # before, shapes may have been asked for
    linear = image_function.as_tree(lambda v: v[..., 0] @ jnp.ones((2, 2)))
    program = image_function.pull_back.trace(linear, image, np.ones((2, 2), np.float32))
    assert not rounded(program.lower(lowering_platforms=("cuda",)).as_text())


def products(program: str) -> list[str]:
    """Convolutions and matrix products, but those that a CPU alone computes."""
    return [line for line in program.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot_general" in line]


def rounded(program: str) -> list[str]:
    """Those whose operands a GPU rounds to 10 bits, where they have more."""
    return [line for line in products(program) if "HIGHEST" not in line]

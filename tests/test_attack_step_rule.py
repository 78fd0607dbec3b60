"""The attack's steps find no less than those of Auto-PGD, with as many gradients from the same start."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from apgd import apgd, checkpoints
from jacobian_cases import SMALL_IMAGE, SmallNet, small_variables

from menet_jax.images.files import resize_image
from menet_jax.robustness.analysis.networks import measured_network
from menet_jax.robustness.attack.ascent import L2, LINF, Ball, Objective, attack, random_starts
from menet_jax.robustness.attack.objectives import LostF, Moved, WrongSide
from menet_jax.robustness.jacobian.image_function import (
    NetworkMap,
    as_tree,
    evaluate,
    logit_margin,
    network_map,
    probability,
)
from menet_jax.training.run import load_run
from menet_jax.training.run_folder import RELEASED

SLACK = 0.05
"""Share of what Auto-PGD gains, by which the mean over images may be lower."""


def objectives(f: NetworkMap, images: np.ndarray, masks: Sequence[np.ndarray]) -> dict[str, list[Objective]]:
    before = [evaluate(f, jnp.asarray(image)) for image in images]
    labels = [jnp.asarray(mask, jnp.float32) for mask in masks]
    margin = f.replace(output=logit_margin)
    return {
        "moved": [Moved(f, each) for each in before],
        "lost F": [LostF(f, each) for each in labels],
        "wrong side": [WrongSide(margin, each) for each in labels],
    }


@jax.jit
def differentiated(objective: Objective, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    value, gradient = jax.value_and_grad(objective)(image)
    return value, gradient


def gains(of: Sequence[Objective], images: np.ndarray, ball: Ball, radius: float, steps: int) -> tuple[float, float]:
    """What is found above the value at the image itself, mean over images: by our steps, and by Auto-PGD's."""
    ours, theirs = list[float](), list[float]()
    for number, (objective, image) in enumerate(zip(of, images, strict=True)):
        at_image = float(differentiated(as_tree(objective), jnp.asarray(image))[0])
        starts = random_starts(jax.random.key(number), image, 1)
        found = attack(objective, image, ball, radius, starts, steps=steps)
        ours.append(float(found.values[0, steps - 1]) - at_image)  # its last value is that of one more step
        of_image = partial(differentiated, as_tree(objective))
        theirs.append(apgd(of_image, image, ball, radius, np.asarray(starts[0]), steps - 1) - at_image)
    return float(np.mean(ours)), float(np.mean(theirs))


@pytest.mark.parametrize(("ball", "strength"), [(L2, 1.0), (L2, 8.0), (LINF, 2.0)])
def test_of_a_small_network(ball: Ball, strength: float) -> None:
    f = network_map(SmallNet(relu=nn.softplus), small_variables(3), probability)
    images = np.random.default_rng(0).uniform(20, 235, (8, *SMALL_IMAGE)).astype(np.float32)
    masks = np.random.default_rng(1).uniform(size=(8, *SMALL_IMAGE[:2])) < 0.3
    for name, of in objectives(f, images, list(masks)).items():
        ours, theirs = gains(of, images, ball, strength * ball.gray_level(images[0].size), 10)
        assert ours > (1 - SLACK) * theirs > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_of_the_network_of_the_package(strength: float) -> None:
    of = measured_network(load_run(RELEASED, report=pytest.fail), "probability")
    photographs = [getattr(skimage.data, name)() for name in ("astronaut", "coffee")]
    images = np.stack([resize_image(each, (of.size, of.size)).astype(np.float32) for each in photographs])
    masks = [of.saliency(image) > 0.5 for image in images]
    for name, several in objectives(of.f, images, masks).items():
        ours, theirs = gains(several, images, L2, strength * L2.gray_level(images[0].size), 10)
        print(f"strength {strength:g}, {name}: {ours:.4g}, Auto-PGD {theirs:.4g}")
        assert ours > (1 - SLACK) * theirs > 0, name


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99, 105]

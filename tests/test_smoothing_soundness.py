"""No attack breaks a certificate: of a small network and, if it is asked for, of the network of the package."""

import os
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from flax import struct
from jacobian_cases import SMALL_IMAGE, SmallNet, small_variables
from scipy.special import bdtrc

from menet_jax.images.files import resize_image
from menet_jax.model.saliency import border_background, metric_map
from menet_jax.robustness.attack.ascent import L2, attack, random_starts
from menet_jax.robustness.smoothing.certificate import certify, holm, radius, sample_counts
from menet_jax.robustness.smoothing.measurement import SalientPixels
from menet_jax.training.network import network
from menet_jax.training.run import load_run
from menet_jax.training.run_folder import RELEASED

NOISE = 30.0
"""Standard deviation, in gray levels."""


class Driven(struct.PyTreeNode):
    """Mean over noisy images of what is thresholded, each pixel in the direction wanted: of the metric map above its
    adaptive threshold, or of the logit margin, bounded so that no pixel counts for more than it can change.
    """

    variables: Any
    noise: jax.Array
    towards: jax.Array
    network: nn.Module = struct.field(pytree_node=False)
    metric: bool = struct.field(pytree_node=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        outputs: Any = self.network.apply(self.variables, x[None] + self.noise)
        if self.metric:
            maps = jax.vmap(partial(metric_map, region=border_background))(outputs.features, outputs.logits)
            maps -= 2 * maps.mean((-2, -1), keepdims=True)
        else:
            maps = jnp.tanh(outputs.logits[..., 1] - outputs.logits[..., 0])
        return jnp.sum(jnp.mean(maps, 0) * self.towards)


class Smoothed(NamedTuple):
    """A network and images to certify, and how much is computed of them."""

    network: nn.Module
    variables: Any
    images: list[np.ndarray]
    times: tuple[int, ...]
    guesses: int
    samples: int
    again: int
    copies: int
    steps: int
    batch: int


def small() -> Smoothed:
    images = [
        np.asarray(jax.random.uniform(jax.random.key(seed), SMALL_IMAGE, maxval=255.0), np.float32) for seed in range(4)
    ]
    variables = jax.device_put(small_variables(3))
    counts = {"guesses": 50, "samples": 400, "again": 2000, "copies": 50, "steps": 20, "batch": 50}
    return Smoothed(SmallNet(), variables, images, (1, 40), **counts)


def released() -> Smoothed:
    trained = load_run(RELEASED, report=pytest.fail)
    photographs = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    images = [resize_image(each, (trained.config.data.size,) * 2).astype(np.float32) for each in photographs]
    variables = jax.device_put(trained.variables)
    counts = {"guesses": 10, "samples": 100, "again": 100, "copies": 4, "steps": 10, "batch": 4}
    return Smoothed(network(trained.config), variables, images, (1,), **counts)


def broken(of: Smoothed) -> list[int]:
    """How many certified pixels of each map an attack far beyond the radius changes, of the first image where it
    changes any. Within it, none may change. The attack drives certified pixels against their class.
    """
    classifier = SalientPixels(of.variables, of.network, border_background)
    reached, changed_far = radius(NOISE, 0.75), [0, 0]
    count = partial(sample_counts, classifier, sigma=NOISE, batch=of.batch)
    for seed, image in enumerate(of.images):
        keys = jax.random.split(jax.random.key(seed), 4)
        guess, counts = count(image, samples=of.guesses, key=keys[0]), count(image, samples=of.samples, key=keys[1])
        found = certify(guess, of.guesses, counts, of.samples, 0.75, 0.001, holm)
        noise, starts = NOISE * jax.random.normal(keys[2], (of.copies, *image.shape)), random_starts(keys[3], image, 2)
        for which, times in product(range(2), of.times):
            if times > 1 and changed_far[which]:
                continue
            certified = found.certified[which]
            assert certified.mean() > 0.1
            towards = jnp.asarray(np.where(found.salient[which], -1, 1) * certified, jnp.float32)
            driven = Driven(of.variables, noise, towards, of.network, metric=which == 0)
            worst = attack(driven, image, L2, times * reached, starts, steps=of.steps).image
            assert float(jnp.linalg.norm((worst - image).ravel())) > 0.9 * times * reached
            after = count(np.asarray(worst), samples=of.again, key=jax.random.key(9))
            against = np.where(found.salient, of.again - after, after)
            changed = bdtrc(against - 1.0, of.again, 0.5) < 1e-6  # beyond what sampling would show of an even chance
            print(f"image {seed}: {np.sum(changed & found.certified)} of {np.sum(found.certified):,} pixels change")
            if times == 1:
                assert not np.any(changed & found.certified)
            else:
                changed_far[which] += int(np.sum(changed[which] & certified))
    return changed_far


@pytest.mark.parametrize("what", ["small", pytest.param("released", marks=pytest.mark.slow)])
def test_no_attack_within_the_radius_changes_a_certified_pixel(what: str) -> None:
    """It is strong enough to see: of the small network, some further away do change. In a process of its own, whose
    programs are optimised.
    """
    enough = "min(found) > 0" if what == "small" else "True"
    prepared = "import conftest; conftest.prepare(); import test_smoothing_soundness as here"
    code = f"{prepared}; found = here.broken(here.{what}()); assert {enough}"
    quick = os.environ["QUICK_FLAGS"].replace("optimization_level=0", "optimization_level=1")
    environment = {**os.environ, "XLA_FLAGS": "", "QUICK_FLAGS": quick}
    subprocess.run([sys.executable, "-u", "-c", code], cwd=Path(__file__).parent, env=environment, check=True)

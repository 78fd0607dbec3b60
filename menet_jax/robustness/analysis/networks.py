"""Trained networks to be measured, each as a function from an image to one of its maps; keys of their results."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from menet_jax.data.sources import Example
from menet_jax.images.files import Rgb, resize_image
from menet_jax.model.saliency import Region, border_background, metric_map
from menet_jax.robustness.analysis.results_cache import CacheKey
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.image_function import NetworkMap, Output, network_map
from menet_jax.robustness.options import AttackSettings, BoundSettings, MapName, Settings, SmoothSettings
from menet_jax.training.config import LossConfig
from menet_jax.training.network import background_region, network
from menet_jax.training.run import TrainedRun

AnySettings = Settings | BoundSettings | AttackSettings | SmoothSettings


@dataclass(frozen=True, eq=False)
class MeasuredNetwork:
    """A trained network to be measured: an output of it, and its identity.

    Attributes:
        f: image → map, in float32 whatever precision it was trained in.
        region: from where its metric map measures.
        size: side of its images.
        maps: the kinds of map that it gives.
        identity: digest of its variables, and what else decides what it computes.
    """

    f: NetworkMap
    region: Region
    size: int
    maps: tuple[str, ...]
    identity: Mapping[str, Any]

    def seen(self, image: Rgb) -> Float[np.ndarray, "s s 3"]:
        """An image as the network sees it: at its size, in 0…255."""
        return resize_image(image, (self.size, self.size)).astype(np.float32)

    def saliency(self, seen: Float[np.ndarray, "s s 3"]) -> Float[np.ndarray, "s s"]:
        """The map that is scored: the output itself; of the logit margin the probability, its logistic function."""
        found = image_function.evaluate(self.f, seen)
        return np.asarray(jax.nn.sigmoid(found) if self.f.output is image_function.logit_margin else found)


def measured_network(run: TrainedRun, name: MapName) -> MeasuredNetwork:
    """A run's network, ready to be measured.

    Raises:
        ValueError: it has values that are not finite, or no such map.
    """
    model = run.config.model
    if name == "metric":
        run.check_map(name)
    full = network(run.config).clone(dtype=jnp.float32)  # a Jacobian in bfloat16 would be mostly rounding
    f = network_map(full, run.variables, _output(name, run.config.loss))
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.variables):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        hashed.update(array.tobytes())
    identity = {
        "variables": hashed.hexdigest(),
        "width": model.width,
        "multi_scale": model.multi_scale,
        "trained_by_cross_entropy": run.config.loss.cross_entropy > 0,  # tells where the metric map looks
        "size": run.config.data.size,
    }
    return MeasuredNetwork(f, background_region(run.config.loss), run.config.data.size, model.maps, identity)


def thresholded_metric(saliency: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """The salient pixels of a metric map: those that reach its adaptive threshold, min(2 · mean, 1)."""
    return saliency >= jnp.minimum(2 * jnp.mean(saliency), 1)


def thresholded_probability(saliency: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """The salient pixels of a probability map: those that reach ½."""
    return saliency >= 0.5


THRESHOLDED = {"metric": thresholded_metric, "probability": thresholded_probability}


def cache_key(of: MeasuredNetwork, example: Example, settings: AnySettings, meaning: Mapping[str, int]) -> CacheKey:
    """All that the measurement of an image with its mask depends on.

    The file's name is part of it, because noise and random starts depend on it. `meaning` says what is measured;
    change it when something else is recorded under the same settings.
    """
    return {
        **meaning,
        "network": dict(of.identity),
        "image": _digest(example.image),
        "file_name": example.file_name,
        "platform": jax.default_backend(),
        "mask": _digest(example.mask),
        "settings": asdict(settings),
    }


def random_key(seed: int, file_name: str) -> jax.Array:
    """Key of the random starts and samples at an image: one per image, or errors of estimates would not average out."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(file_name.encode()))


def _output(name: MapName, loss: LossConfig) -> Output:
    region = background_region(loss)
    if name == "metric" and region is not border_background:
        return lambda outputs: metric_map(image_function.features(outputs), outputs.logits, region)
    outputs: dict[str, Output] = {
        "probability": image_function.probability,
        "logit_margin": image_function.logit_margin,
        "metric": image_function.metric,
    }
    return outputs[name]


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape} ".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()

"""What is certified of a trained network at one image, by each of its maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from menet_jax.data.sources import Example
from menet_jax.images.files import ResizedMask, resize_mask
from menet_jax.metrics.scores import f_measure
from menet_jax.model.saliency import Region, metric_map, probability_map
from menet_jax.robustness.analysis.loop import Stage
from menet_jax.robustness.analysis.networks import (
    MeasuredNetwork,
    random_key,
    thresholded_metric,
    thresholded_probability,
)
from menet_jax.robustness.jacobian.image_function import exact
from menet_jax.robustness.options import SmoothSettings
from menet_jax.robustness.smoothing.certificate import (
    Certificate,
    bonferroni,
    certify,
    curtailed_counts,
    guessed,
    holm,
    radius,
    sample_counts,
)

MEANING = {"smoothing": 3}
"""To be raised when what is recorded under the same settings changes: older records are then measured anew."""


class SalientPixels(struct.PyTreeNode):
    """Which pixels a network calls salient, by each of its maps, the metric map first; see `networks.THRESHOLDED`."""

    variables: Mapping[str, Any]
    network: nn.Module = struct.field(pytree_node=False)
    region: Region = struct.field(pytree_node=False)

    @exact
    def __call__(self, image: Float[Array, "h w 3"]) -> Bool[Array, "m h w"]:
        outputs: Any = self.network.apply(self.variables, image[None])
        by_probability = thresholded_probability(probability_map(outputs.logits[0]))
        if outputs.features is None:
            return by_probability[None]
        metric = metric_map(outputs.features[0], outputs.logits[0], self.region)
        return jnp.stack([thresholded_metric(metric), by_probability])


@dataclass(frozen=True)
class Certified:
    """What is certified of one map under one noise and threshold.

    Attributes:
        map: metric or probability.
        sigma: standard deviation of the noise, in gray levels.
        threshold: τ, the probability that a pixel's class has to exceed.
        radius: length of the change under which no certified pixel changes, in gray levels, L2.
        samples: noisy images that were drawn to test by, until all pixels of all maps were decided.
        share: of the pixels, certified with Holm's correction.
        share_bonferroni: the same with Bonferroni's.
        certified_f: F-measure of the certified map, an abstention counting as wrong wherever it is.
        smoothed_f: F-measure of the smoothed map.
        clean_f: F-measure of the map without noise, thresholded in the same way. All three at the network's size.
    """

    map: str
    sigma: float
    threshold: float
    radius: float
    samples: int
    share: float
    share_bonferroni: float
    certified_f: float
    smoothed_f: float
    clean_f: float


@dataclass(frozen=True)
class Measurement:
    """All that is certified of one image."""

    image: str
    certified: tuple[Certified, ...]


def measure(of: MeasuredNetwork, example: Example, settings: SmoothSettings, stage: Stage) -> Measurement:
    """Certify one image by all that the settings ask for."""
    mask, x = resize_mask(example.mask, (of.size, of.size)), of.seen(example.image)
    clean = np.asarray(jax.jit(SalientPixels.__call__)(_classifier(of), x))
    found = []
    for sigma in settings.sigmas:
        stage(f"σ {sigma:g}")
        guess, counts, drawn = counted(of, example, settings, sigma)
        for threshold in settings.thresholds:
            for index, name in enumerate(of.maps):
                arguments = guess[index], settings.guesses, counts[index], settings.samples, threshold, settings.risk
                by_holm, by_bonferroni = certify(*arguments, holm), certify(*arguments, bonferroni)
                found.append(
                    Certified(
                        name,
                        sigma,
                        threshold,
                        radius(sigma, threshold),
                        drawn,
                        float(by_holm.certified.mean()),
                        float(by_bonferroni.certified.mean()),
                        certified_f(by_holm, mask),
                        certified_f(Certificate(by_holm.salient, np.ones_like(mask)), mask),
                        certified_f(Certificate(clean[index], np.ones_like(mask)), mask),
                    )
                )
    return Measurement(example.file_name, tuple(found))


class Counted(NamedTuple):
    """How often each pixel is salient under noise, by each map.

    Attributes:
        guess: of the samples to guess by.
        tested: of those to test by, others; see `curtailed_counts`.
        drawn: how many of the latter were drawn.
    """

    guess: Int[np.ndarray, "m h w"]
    tested: Int[np.ndarray, "m h w"]
    drawn: int


def counted(of: MeasuredNetwork, example: Example, settings: SmoothSettings, sigma: float) -> Counted:
    """Draw noise of this σ, as much as the settings ask for and the certificates need."""
    classifier, x = _classifier(of), of.seen(example.image)
    key = jax.random.fold_in(random_key(settings.seed, example.file_name), settings.sigmas.index(sigma))
    keys = jax.random.split(key)
    guess = sample_counts(classifier, x, sigma, settings.guesses, keys[0])
    tested, drawn = curtailed_counts(
        classifier,
        x,
        sigma,
        settings.samples,
        keys[1],
        guessed(guess, settings.guesses),
        pixels=guess[0].size,
        thresholds=settings.thresholds,
        risk=settings.risk,
    )
    return Counted(guess, tested, drawn)


def certified_f(certificate: Certificate, mask: ResizedMask) -> float:
    """F-measure of the certified pixels, where a pixel that is abstained from is wrong: missed, or found amiss."""
    hits = np.sum(certificate.certified & certificate.salient & mask)
    amiss = np.sum(~mask & (certificate.salient | ~certificate.certified))
    precision, recall = hits / max(hits + amiss, 1), hits / max(np.sum(mask), 1)
    return float(f_measure(precision, recall))


def _classifier(of: MeasuredNetwork) -> SalientPixels:
    return SalientPixels(of.f.variables, of.f.network, of.region)

"""What is measured of an attack on a trained network at one image, beside noise and compression of the same length.

All changes are of what the network sees, the image at its size. A change's strength is in gray levels: in L2 the root
of the mean square over all values, which is the σ of noise of that length; in L∞ the largest value.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from menet_jax.data.sources import Example
from menet_jax.images.distortions import Jpeg
from menet_jax.images.files import resize_mask
from menet_jax.robustness.analysis.loop import Stage
from menet_jax.robustness.analysis.results_cache import Determinants
from menet_jax.robustness.analysis.subject import THRESHOLDED, Subject, random_key
from menet_jax.robustness.attack.ascent import L2, LINF, Ball, Objective, attack, random_starts, within
from menet_jax.robustness.attack.objectives import LostF, Moved
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.image_function import evaluate, norm
from menet_jax.robustness.jacobian.spectral import SpectralNorm, lanczos
from menet_jax.robustness.options import AttackSettings
from menet_jax.training.validation import score_map

MEANING: Determinants = {"attack": 3}
"""To be raised when what is recorded under the same settings changes: older records are then measured anew."""

Image = Float[np.ndarray, "h w 3"]


class Scores(NamedTuple):
    """Of one map, scored as everywhere: in 8 bits, at the size of the ground truth."""

    adaptive_f: float
    mae: float


@dataclass(frozen=True)
class AtStrength:
    """What changes of one strength do.

    Attributes:
        strength: in gray levels.
        noise_gain: mean of ‖F(x+Δ) − F(x)‖₂ / ‖Δ‖ over draws of noise; ‖Δ‖ in the norm that bounds changes.
        attack_gain: the largest that was found.
        noise_flipped: mean share of the map's pixels that change class, thresholded as by `subject.THRESHOLDED`.
        attack_flipped: the largest that was found.
        noise: mean scores under noise.
        attack: scores under the attack that costs most F.
        file: the same, of the attacked image rounded to 8 bits, as a file would hold it.
    """

    strength: float
    noise_gain: float
    attack_gain: float
    noise_flipped: float
    attack_flipped: float
    noise: Scores
    attack: Scores
    file: Scores


@dataclass(frozen=True)
class Compressed:
    """What JPEG compression does: its strength, as of other changes, and the scores."""

    quality: int
    strength: float
    scores: Scores


@dataclass(frozen=True)
class Measurement:
    """All that is measured of one image.

    Attributes:
        image: its file name.
        spectral: ‖J‖₂, the largest gain of a change that is small enough.
        clean: scores without any change.
        strengths: of rising strength.
        compressed: of falling quality.
    """

    image: str
    spectral: float
    clean: Scores
    strengths: tuple[AtStrength, ...]
    compressed: tuple[Compressed, ...]


def measure(of: Subject, example: Example, settings: AttackSettings, stage: Stage) -> tuple[Measurement, list[Image]]:
    """Measure one image; also, the attacked images of the greatest strength.

    Raises:
        ValueError: the Jacobian is not finite there, or the image cannot be compressed.
    """
    ball, x = BALLS[settings.norm], of.seen(example.image)
    stage("spectral norm")
    spectral = _spectral(of, example, settings)
    before = of.saliency(x)
    react = partial(_reaction, of, ball, THRESHOLDED[settings.reading], example, x, before)
    found = list[AtStrength]()
    for strength, attacked in zip(settings.strengths, attacks(of, example, settings, spectral), strict=True):
        stage(f"strength {strength:g}")
        noisy = [react(image) for image in _noise(of, example, settings, ball, strength)]
        worst = [react(image) for image in attacked]
        files = [scored(of, np.rint(image), example) for image in attacked]
        found.append(
            AtStrength(
                strength,
                float(np.mean([each.gain for each in noisy])),
                max(each.gain for each in worst),
                float(np.mean([each.flipped for each in noisy])),
                max(each.flipped for each in worst),
                _mean([each.scores for each in noisy]),
                min(each.scores for each in worst),
                min(files),
            )
        )
    compressed = tuple(_compressed(of, example, quality, ball) for quality in settings.qualities)
    measurement = Measurement(example.file_name, spectral.value, _scores(before, example), tuple(found), compressed)
    return measurement, attacked


def attacks(
    of: Subject, example: Example, settings: AttackSettings, spectral: SpectralNorm | None = None
) -> Iterator[list[Image]]:
    """Attacked images at each strength, one for each objective: that moves the map furthest, that costs most soft F,
    and of the metric map that moves the logit margin furthest.

    A search begins at the first singular vector of the Jacobian, at what was found at the strength below (at first, at
    the opposite of that vector), and at random.
    """
    ball, x = BALLS[settings.norm], of.seen(example.image)
    direction = (spectral or _spectral(of, example, settings)).right
    random = random_starts(_keys(settings, example).starts, x, settings.starts)
    mask = jnp.asarray(resize_mask(example.mask, (of.size, of.size)), jnp.float32)
    objectives: list[Objective] = [Moved(of.f, evaluate(of.f, jnp.asarray(x))), LostF(of.f, mask)]
    if settings.reading == "metric":
        # Where the probabilities cross ½, the metric map jumps, and has no gradient that says so.
        margin = of.f.replace(reading=image_function.logit_margin)
        objectives.append(Moved(margin, evaluate(margin, jnp.asarray(x))))
    below = [-direction for _ in objectives]
    for strength in settings.strengths:
        radius = strength * ball.gray_level(x.size)
        images = list[Image]()
        for index, objective in enumerate(objectives):
            starts = jnp.concatenate([jnp.stack([direction, below[index]]), random])
            found = attack(objective, x, ball, radius, starts, steps=settings.steps)
            images.append(np.asarray(found.image))
            below[index] = images[-1] - x
        yield images


def nested(found: Measurement) -> Measurement:
    """With the worst of all shorter changes at each strength too, for they lie within it: none at all, noise, and what
    was found at lower strengths. A search begins anew at each strength, and by a surrogate of F: it may miss these.
    """
    worst, file, flipped, strengths = found.clean, found.clean, 0.0, list[AtStrength]()
    for at in found.strengths:
        worst, file = min(worst, at.noise, at.attack), min(file, at.file)  # the worst noise is no better than its mean
        flipped = max(flipped, at.noise_flipped, at.attack_flipped)
        strengths.append(replace(at, attack=worst, file=file, attack_flipped=flipped))
    return replace(found, strengths=tuple(strengths))


def scored(of: Subject, image: Image, example: Example) -> Scores:
    """The scores of the map of an image, in place of the example's own."""
    return _scores(of.saliency(image), example)


BALLS = {"l2": L2, "linf": LINF}


class _Keys(NamedTuple):
    """Of all that is random at an image."""

    spectral: jax.Array
    starts: jax.Array
    noise: jax.Array


def _keys(settings: AttackSettings, example: Example) -> _Keys:
    return _Keys(*jax.random.split(random_key(settings.seed, example.file_name), 3))


def _spectral(of: Subject, example: Example, settings: AttackSettings) -> SpectralNorm:
    key = _keys(settings, example).spectral
    return lanczos(of.f, of.seen(example.image), key, tolerance=1e-2, max_iterations=64)


def _noise(of: Subject, example: Example, settings: AttackSettings, ball: Ball, strength: float) -> list[Image]:
    """Images under noise of this strength, as far as 0…255 leaves room: normal in L2, uniform in L∞."""
    x, key = jnp.asarray(of.seen(example.image)), _keys(settings, example).noise
    radius = jnp.float32(strength * ball.gray_level(x.size))
    found = list[Image]()
    for draw in range(settings.draws):
        noise = ball.noise(jax.random.fold_in(key, draw), x.shape)
        found.append(np.asarray(within(x, noise * radius / ball.length(noise), ball, radius)))
    return found


def _compressed(of: Subject, example: Example, quality: int, ball: Ball) -> Compressed:
    x = of.seen(example.image)
    image = Jpeg(quality, quality)(x.astype(np.uint8), Path(example.file_name).stem, 0).astype(np.float32)
    strength = float(ball.length(jnp.asarray(image - x))) / ball.gray_level(x.size)
    return Compressed(quality, strength, scored(of, image, example))


class _Reaction(NamedTuple):
    """How far the map moves for each unit of a change, the share of its pixels that change class, and its scores."""

    gain: float
    flipped: float
    scores: Scores


def _reaction(
    of: Subject,
    ball: Ball,
    thresholded: Callable[[jax.Array], jax.Array],
    example: Example,
    x: Image,
    before: Float[np.ndarray, "h w"],
    image: Image,
) -> _Reaction:
    """To the change from x to the image."""
    after = of.saliency(image)
    length = float(ball.length(jnp.asarray(image - x)))
    changed = thresholded(jnp.asarray(after)) != thresholded(jnp.asarray(before))
    gain = norm(after - before) / length if length else 0.0
    return _Reaction(gain, float(np.mean(np.asarray(changed))), _scores(after, example))


def _scores(saliency: Float[np.ndarray, "h w"], example: Example) -> Scores:
    found = score_map(saliency, example.mask)
    return Scores(found.adaptive_f, found.mae)


def _mean(scores: Sequence[Scores]) -> Scores:
    return Scores(*(float(np.mean(values)) for values in zip(*scores, strict=True)))

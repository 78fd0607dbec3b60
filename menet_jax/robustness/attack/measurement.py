"""What is measured of an attack on a trained network at one image, beside noise and compression of the same length.

All changes are of what the network sees, the image at its size. A change's strength is in gray levels: in L2 the root
of the mean square over all values, which is the σ of noise of that length; in L∞ the largest value.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from menet_jax.data.sources import Example
from menet_jax.images.distortions import Jpeg
from menet_jax.images.files import resize_mask
from menet_jax.robustness.analysis.loop import Stage, attempt
from menet_jax.robustness.analysis.networks import THRESHOLDED, MeasuredNetwork, random_key
from menet_jax.robustness.attack.ascent import L2, LINF, Ball, attack_each, random_starts, within
from menet_jax.robustness.attack.objectives import LostF, Moved, WrongSide
from menet_jax.robustness.jacobian import image_function
from menet_jax.robustness.jacobian.image_function import evaluate, norm
from menet_jax.robustness.jacobian.spectral import SpectralNorm, lanczos
from menet_jax.robustness.options import AttackSettings
from menet_jax.training.validation import score_map

MEANING = {"attack": 5}
"""To be raised when what is recorded under the same settings changes: older records are then measured anew."""

Image = Float[np.ndarray, "h w 3"]

Images = Float[np.ndarray, "objectives h w 3"]
"""One image, attacked by each objective."""


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
        noise_moved: root mean square of F(x+Δ) − F(x) over the map, mean over draws of noise.
        attack_moved: the largest that was found.
        noise_flipped: mean share of the map's pixels that change class, thresholded as by `networks.THRESHOLDED`.
        attack_flipped: the largest that was found.
        noise: mean scores under noise.
        attack: scores under the attack that costs most F.
        file: the same, of the attacked image rounded to 8 bits, as a file would hold it.
    """

    strength: float
    noise_gain: float
    attack_gain: float
    noise_moved: float
    attack_moved: float
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


def measure(
    of: MeasuredNetwork, examples: Sequence[Example], settings: AttackSettings, stage: Stage, batch_size: int
) -> list[tuple[Measurement, Images] | ValueError]:
    """Measure images; also, each as attacked at the greatest strength.

    Of an image where the Jacobian is not finite, or that cannot be compressed, a ValueError says so.
    """
    spectra, results = dict[int, SpectralNorm](), dict[int, tuple[Measurement, Images] | ValueError]()
    for index, example in enumerate(examples):
        stage(f"spectral norm, {example.file_name}")
        try:
            spectra[index] = _spectral(of, example, settings)
        except ValueError as error:
            results[index] = error
    able, norms = [examples[index] for index in spectra], list(spectra.values())
    found = list(attacks(of, able, settings, norms, batch_size=batch_size, stage=stage)) if able else []
    for place, (index, spectral) in enumerate(spectra.items()):
        attacked = [images[place] for images in found]
        results[index] = attempt(partial(_measured, of, examples[index], settings, spectral, attacked, stage))
    return [results[index] for index in range(len(examples))]


def _measured(
    of: MeasuredNetwork,
    example: Example,
    settings: AttackSettings,
    spectral: SpectralNorm,
    attacked: Sequence[Images],
    stage: Stage,
) -> tuple[Measurement, Images]:
    """Measure an image that was attacked at each strength."""
    stage(f"scores, {example.file_name}")
    ball, x = BALLS[settings.norm], of.seen(example.image)
    before, thresholded = of.saliency(x), THRESHOLDED[settings.map]

    def react(image: Image) -> _Reaction:
        after = of.saliency(image)
        length = float(ball.length(jnp.asarray(image - x)))
        changed = thresholded(jnp.asarray(after)) != thresholded(jnp.asarray(before))
        moved = norm(after - before)
        gain = moved / length if length else 0.0
        flipped = float(np.mean(np.asarray(changed)))
        return _Reaction(gain, moved / math.sqrt(after.size), flipped, _scores(after, example))

    found = list[AtStrength]()
    for strength, images in zip(settings.strengths, attacked, strict=True):
        noisy = [react(image) for image in _noise(of, example, settings, ball, strength)]
        worst = [react(image) for image in images]
        files = [scored(of, np.rint(image), example) for image in images]
        found.append(
            AtStrength(
                strength,
                float(np.mean([each.gain for each in noisy])),
                max(each.gain for each in worst),
                float(np.mean([each.moved for each in noisy])),
                max(each.moved for each in worst),
                float(np.mean([each.flipped for each in noisy])),
                max(each.flipped for each in worst),
                _mean([each.scores for each in noisy]),
                _worst(*[each.scores for each in worst]),
                _worst(*files),
            )
        )
    compressed = tuple(_compressed(of, example, quality, ball) for quality in settings.qualities)
    clean = _scores(before, example)
    return Measurement(example.file_name, spectral.value, clean, tuple(found), compressed), attacked[-1]


def attacks(
    of: MeasuredNetwork,
    examples: Sequence[Example],
    settings: AttackSettings,
    spectra: Sequence[SpectralNorm] | None = None,
    *,
    batch_size: int,
    stage: Stage,
) -> Iterator[Float[np.ndarray, "n objectives h w 3"]]:
    """Attacked images at each strength, each for all objectives: one moves the map furthest, one costs most soft F, and
    one drives most pixels to the wrong side of the logit margin.

    A search begins at the first singular vector of the Jacobian, at what was found at the strength below (at first, at
    the opposite of that vector), and at random. The program is always that of `batch_size` images: where there are
    fewer, the last one is searched again, rather than another program compiled.
    """
    count, ball = len(examples), BALLS[settings.norm]
    examples = [*examples, *[examples[-1]] * (batch_size - count)]
    spectra = spectra or [_spectral(of, example, settings) for example in examples[:count]]
    spectra = [*spectra, *[spectra[-1]] * (len(examples) - count)]
    images = np.stack([of.seen(example.image) for example in examples])
    direction = np.stack([spectral.right for spectral in spectra]).astype(images.dtype)
    random = np.stack([random_starts(_keys(settings, each).starts, images[0], settings.starts) for each in examples])
    before = np.stack([evaluate(of.f, image) for image in images])
    masks = np.stack([resize_mask(example.mask, (of.size, of.size)) for example in examples]).astype(np.float32)
    # The margin has a gradient where a probability is saturated, and where the metric map jumps: at a margin of 0.
    margin = of.f.replace(output=image_function.logit_margin)
    objectives = [(Partial(Moved, of.f), before), (Partial(LostF, of.f), masks), (Partial(WrongSide, margin), masks)]
    below = [-direction for _ in objectives]
    for strength in settings.strengths:
        for index, (objective_of, targets) in enumerate(objectives):
            stage(f"strength {strength:g}, objective {index + 1} of {len(objectives)}")
            starts = np.concatenate([np.stack([direction, below[index]], axis=1), random], axis=1)
            radius = strength * ball.gray_level(images[0].size)
            found = attack_each(objective_of, targets, images, ball, radius, starts, steps=settings.steps)
            below[index] = np.asarray(found.image) - images
        yield np.stack([images + each for each in below], axis=1)[:count]


def nested(found: Measurement) -> Measurement:
    """With the worst of all shorter changes at each strength too, for they lie within it: none at all, noise, and what
    was found at lower strengths. A search begins anew at each strength, and by a surrogate of F: it may miss these.
    """
    worst, file, moved, flipped, strengths = found.clean, found.clean, 0.0, 0.0, list[AtStrength]()
    for at in found.strengths:  # the worst noise is no better than its mean
        worst, file = _worst(worst, at.noise, at.attack), _worst(file, at.file)
        moved, flipped = max(moved, at.noise_moved, at.attack_moved), max(flipped, at.noise_flipped, at.attack_flipped)
        gain = max(at.noise_gain, at.attack_gain)
        strengths.append(
            replace(at, attack=worst, file=file, attack_gain=gain, attack_moved=moved, attack_flipped=flipped)
        )
    return replace(found, strengths=tuple(strengths))


def scored(of: MeasuredNetwork, image: Image, example: Example) -> Scores:
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


def _spectral(of: MeasuredNetwork, example: Example, settings: AttackSettings) -> SpectralNorm:
    key = _keys(settings, example).spectral
    return lanczos(of.f, of.seen(example.image), key, tolerance=1e-2, max_iterations=64)


def _noise(of: MeasuredNetwork, example: Example, settings: AttackSettings, ball: Ball, strength: float) -> list[Image]:
    """Images under noise of this strength, as far as 0…255 leaves room: normal in L2, uniform in L∞."""
    x, key = jnp.asarray(of.seen(example.image)), _keys(settings, example).noise
    radius = jnp.float32(strength * ball.gray_level(x.size))
    found = list[Image]()
    for draw in range(settings.draws):
        noise = ball.noise(jax.random.fold_in(key, draw), x.shape)
        found.append(np.asarray(within(x, noise * radius / ball.length(noise), ball, radius)))
    return found


def _compressed(of: MeasuredNetwork, example: Example, quality: int, ball: Ball) -> Compressed:
    x = of.seen(example.image)
    image = Jpeg(quality, quality)(x.astype(np.uint8), Path(example.file_name).stem, 0).astype(np.float32)
    strength = float(ball.length(jnp.asarray(image - x))) / ball.gray_level(x.size)
    return Compressed(quality, strength, scored(of, image, example))


class _Reaction(NamedTuple):
    """To a change: how far the map moves for each unit of it, and in the root mean square; the share of its pixels that
    change class; and its scores.
    """

    gain: float
    moved: float
    flipped: float
    scores: Scores


def _scores(saliency: Float[np.ndarray, "h w"], example: Example) -> Scores:
    found = score_map(saliency, example.mask)
    return Scores(found.adaptive_f, found.mae)


def _worst(*scores: Scores) -> Scores:
    """The lowest F; of several as low, the one with the largest error."""
    return min(scores, key=lambda each: (each.adaptive_f, -each.mae))


def _mean(scores: Sequence[Scores]) -> Scores:
    return Scores(*(float(np.mean(values)) for values in zip(*scores, strict=True)))

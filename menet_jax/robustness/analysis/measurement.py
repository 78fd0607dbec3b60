"""Measurements of a trained network's Jacobian at one image (Section III-D).

Norms (Eq. 11), the reaction to distortions of a fixed strength (Eq. 12) and the loss of score that goes with it, and
the statistics of Table III. Files are distorted as `robustness distortion` does it: at their own full size, in 8 bits,
before they are resized for the network; an error direction is what then has changed in what the network sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from menet_jax.data.sources import Example
from menet_jax.images.distortions import Distortion
from menet_jax.images.files import Rgb, resize_image
from menet_jax.robustness.analysis.loop import Stage
from menet_jax.robustness.analysis.networks import MeasuredNetwork, random_key
from menet_jax.robustness.jacobian.directions import directional_ratios
from menet_jax.robustness.jacobian.norms import frobenius_norm
from menet_jax.robustness.jacobian.sensitivity import (
    TABLE_III_SIDE,
    GradientStatistics,
    constant_gradient_statistics,
    input_sensitivity,
    output_sensitivity,
    salient_gradient_statistics,
)
from menet_jax.robustness.jacobian.spectral import lanczos
from menet_jax.robustness.options import Settings
from menet_jax.training.validation import score_map

MEANING = {"measurement": 3}
"""Version of the records; raise it when they change under the same settings, to have older ones measured anew."""


@dataclass(frozen=True)
class Reaction:
    """How a map reacts to a distortion of an image (Eq. 12).

    Attributes:
        loss_of_f: adaptive F of the map of the clean image, less the mean of the distorted ones'.
        distance: mean ‖Δ‖ over draws, in gray levels; None, as all that follows, where no draw changed the image.
        finite: mean of ‖F(x+Δ) − F(x)‖ / ‖Δ‖.
        infinitesimal: mean of ‖J·Δ/‖Δ‖‖.
        finite_error, infinitesimal_error: their standard errors over draws; None of a single one.
    """

    loss_of_f: float
    distance: float | None = None
    finite: float | None = None
    finite_error: float | None = None
    infinitesimal: float | None = None
    infinitesimal_error: float | None = None


@dataclass(frozen=True)
class Measurement:
    """All measurements of one image.

    Attributes:
        image: its file name.
        spectral: ‖J‖₂; with its `spectral_*`: residual, upper bound of probability 0.999 (None: too few iterations
            to tell), iterations, and whether the residual is as small as asked for.
        frobenius: ‖J‖_F, estimated; with its standard error, samples, and whether that is as small as asked for.
        constant_gradient: Table III as the authors' script computes it, rounding noise.
        salient_gradient: the same of the salient channel.
        adaptive_f: F-measure of the map of the clean image.
        reactions: to each distortion, by name.
    """

    image: str
    spectral: float
    spectral_residual: float
    spectral_upper: float | None
    spectral_iterations: int
    spectral_converged: bool
    frobenius: float
    frobenius_error: float
    frobenius_samples: int
    frobenius_converged: bool
    constant_gradient: GradientStatistics
    salient_gradient: GradientStatistics
    adaptive_f: float
    reactions: dict[str, Reaction]

    @property
    def converged(self) -> bool:
        """Whether both norms have converged."""
        return self.spectral_converged and self.frobenius_converged


def measure(of: MeasuredNetwork, example: Example, settings: Settings, stage: Stage) -> Measurement:
    """Measure one image.

    Raises:
        ValueError: the Jacobian is not finite there, or the image cannot be distorted.
    """
    square = resize_image(example.image, (of.size, of.size))
    x, random = square.astype(np.float32), random_key(settings.seed, example.file_name)
    stage("spectral norm")
    spectral = lanczos(of.f, x, random, tolerance=settings.tolerance, max_iterations=settings.max_iterations)
    stage("Frobenius norm")
    error, most = settings.relative_error, settings.max_samples
    frobenius = frobenius_norm(of.f, x, random, relative_error=error, max_samples=most)
    stage("Table III")
    large = resize_image(example.image, (TABLE_III_SIDE, TABLE_III_SIDE)).astype(np.float32)
    constant = constant_gradient_statistics(of.f, large)
    salient = salient_gradient_statistics(of.f, large)
    clean = score_map(of.saliency(x), example.mask).adaptive_f
    reactions = {}
    for name, (distortion, draws) in settings.distortions.items():
        stage(name)
        reactions[name] = _reaction(of, example, square, clean, distortion, settings.draw_seeds(draws))
    return Measurement(
        image=example.file_name,
        spectral=spectral.value,
        spectral_residual=spectral.residual,
        spectral_upper=spectral.upper if np.isfinite(spectral.upper) else None,
        spectral_iterations=spectral.iterations,
        spectral_converged=spectral.converged,
        frobenius=frobenius.value,
        frobenius_error=frobenius.standard_error,
        frobenius_samples=frobenius.samples,
        frobenius_converged=frobenius.converged,
        constant_gradient=constant,
        salient_gradient=salient,
        adaptive_f=clean,
        reactions=reactions,
    )


class Pictures(NamedTuple):
    """Sensitivity maps of one image, at the network's size.

    Attributes:
        saliency: the map itself, as it is scored, in [0, 1].
        input: how strongly the map reacts to each pixel, per gray level.
        output: how strongly each value of the map depends on the image, per gray level.
    """

    saliency: Float[np.ndarray, "h w"]
    input: Float[np.ndarray, "h w"]
    output: Float[np.ndarray, "h w"]


def picture(of: MeasuredNetwork, example: Example, settings: Settings, samples: int) -> Pictures:
    """Sensitivity maps of one image, estimated from `samples` random products each."""
    x, random = of.seen(example.image), random_key(settings.seed, example.file_name)
    return Pictures(
        of.saliency(x),
        input_sensitivity(of.f, x, random, samples=samples).values,
        output_sensitivity(of.f, x, random, samples=samples).values,
    )


def _reaction(
    of: MeasuredNetwork, example: Example, square: Rgb, clean_f: float, distortion: Distortion, seeds: Sequence[int]
) -> Reaction:
    name, size = Path(example.file_name).stem, (of.size, of.size)
    squares = [resize_image(distortion(example.image, name, seed), size) for seed in seeds]
    scores = [score_map(of.saliency(one.astype(np.float32)), example.mask).adaptive_f for one in squares]
    loss = clean_f - float(np.mean(scores))
    if all(np.array_equal(one, square) for one in squares):
        return Reaction(loss)
    ratios = directional_ratios(of.f, square, lambda _, draw: squares[draw], draws=len(squares))
    return Reaction(
        loss,
        float(ratios.distances.mean()),
        ratios.finite.mean,
        ratios.finite.standard_error,
        ratios.infinitesimal.mean,
        ratios.infinitesimal.standard_error,
    )

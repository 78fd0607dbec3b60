"""Answers to the questions of the page on a photograph, sent line by line as they are computed."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from menet_jax.demo.photographs import Seen, agreement, distort, pictures, read, see
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.files import png, resize_image
from menet_jax.model.inference import Kind
from menet_jax.reporting.plots.jacobians import brightest, heat
from menet_jax.robustness.analysis.networks import MeasuredNetwork, random_key
from menet_jax.robustness.jacobian.image_function import Report
from menet_jax.robustness.jacobian.norms import frobenius_norm
from menet_jax.robustness.jacobian.sensitivity import input_sensitivity
from menet_jax.robustness.jacobian.spectral import lanczos
from menet_jax.robustness.options import Jacobian

Tell = Callable[[Mapping[str, Any]], object]
"""Takes a line for the page, of what JSON holds."""


class Networks(NamedTuple):
    """A trained network: as a predictor, and its probability map as a function to differentiate."""

    predictor: Predictor
    measured: MeasuredNetwork


class Question(BaseModel):
    """The parameters of a question.

    Attributes:
        name: of the photograph's file.
        kind: the map of overlay and cut-out.
        sigma: of noise; 0: none.
        quality: of JPEG; None: not compressed.
    """

    name: str = "photograph"
    kind: Kind = "probability"
    sigma: float = Field(0, ge=0, le=100)
    quality: int | None = Field(None, ge=1, le=100)


def maps(networks: Networks, data: bytes, question: Question, tell: Tell) -> None:
    """The photograph, its maps, overlay and cut-out."""
    _show(see(networks.predictor, read(data, question.name)), question.kind, tell)


def distorted(networks: Networks, data: bytes, question: Question, tell: Tell) -> None:
    """The maps of the distorted photograph, and the F-measures between its maps and those without distortion."""
    picture = read(data, question.name)
    clean = see(networks.predictor, picture)
    other = see(networks.predictor, distort(picture, question.name, question.sigma, question.quality))
    tell({"f": {kind: agreement(clean.maps[kind], other.maps[kind]) for kind in clean.maps}})
    _show(other, question.kind, tell)


def jacobian(networks: Networks, data: bytes, question: Question, tell: Tell) -> None:
    """The sensitivity map and both norms, as `robustness jacobian` measures them of this file by default."""
    rgb, options, of = read(data, question.name).rgb, Jacobian(), networks.measured
    x, random = of.seen(rgb), random_key(options.seed, question.name)

    def report(what: str, most: int) -> Report:
        tell({"stage": what, "done": 0, "most": most})
        return lambda done: tell({"stage": what, "done": done, "most": most})

    samples = options.picture_samples
    sensitivity = input_sensitivity(of.f, x, random, samples=samples, report=report("sensitivity map", samples)).values
    _show_one("sensitivity", png(resize_image(heat(sensitivity), rgb.shape[:2])), tell)
    tell({"brightest": brightest(sensitivity)})
    most = options.max_iterations
    how = report("spectral norm", most)
    spectral = lanczos(of.f, x, random, tolerance=options.tolerance, max_iterations=most, report=how)
    tell({"norm": "spectral", "value": spectral.value, "converged": spectral.converged})
    error, most = options.relative_error, options.max_samples
    how = report("Frobenius norm", most)
    frobenius = frobenius_norm(of.f, x, random, relative_error=error, max_samples=most, report=how)
    tell({
        "norm": "frobenius",
        "value": frobenius.value,
        "standard_error": frobenius.standard_error,
        "converged": frobenius.converged,
    })  # fmt: skip


ANSWERS: Mapping[str, Callable[[Networks, bytes, Question, Tell], None]] = {
    "maps": maps,
    "distorted": distorted,
    "jacobian": jacobian,
}
"""Answers by the name of the question. All raise UnreadableImageError for a file that is no photograph."""


def _show(seen: Seen, kind: Kind, tell: Tell) -> None:
    for name, file in pictures(seen, kind):
        _show_one(name, file, tell)


def _show_one(name: str, file: bytes, tell: Tell) -> None:
    tell({"picture": name, "png": b64encode(file).decode()})

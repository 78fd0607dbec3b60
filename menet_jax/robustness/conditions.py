"""Conditions under which images are scored (Section IV-F): as they are, and distorted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from menet_jax.images.distortions import SEVERITY_QUALITY, SEVERITY_SIGMA, Clean, Distortion, Jpeg, Noise


@dataclass(frozen=True)
class Condition:
    """Images as they are, or distorted in one way.

    Attributes:
        distortion: what is done to them.
        severity: the ImageCorruptions severity that it is; None if it was not chosen as such.
    """

    distortion: Distortion
    severity: int | None = None

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.distortion.label + (f" (severity {self.severity})" if self.severity else "")

    @property
    def slug(self) -> str:
        """Its part of names of folders."""
        return re.sub(r"[^a-z0-9.]+", "-", self.label.lower().replace("σ", "sigma")).strip("-")


class Conditions(NamedTuple):
    """All conditions of a study.

    Attributes:
        clean, noise, jpeg: the columns of Table II.
        fixed: the points of Figure 9.
    """

    clean: Condition
    noise: Condition
    jpeg: Condition
    fixed: tuple[Condition, ...]

    def all(self) -> tuple[Condition, ...]:
        """All of them in the order of tables."""
        return self.clean, self.noise, self.jpeg, *self.fixed


def conditions(
    sigma_range: tuple[float, float],
    quality_range: tuple[int, int],
    sigmas: Sequence[float],
    qualities: Sequence[int],
    severities: bool,
) -> Conditions:
    """Table II's conditions, and the fixed strengths asked for, of noise first.

    Raises:
        ValueError: a strength is impossible, or is asked for twice.
    """
    fixed = [Condition(Noise(sigma, sigma)) for sigma in sigmas]
    fixed += [Condition(Jpeg(quality, quality)) for quality in qualities]
    if severities:
        fixed += [Condition(Noise(sigma, sigma), level) for level, sigma in enumerate(SEVERITY_SIGMA, 1)]
        fixed += [Condition(Jpeg(quality, quality), level) for level, quality in enumerate(SEVERITY_QUALITY, 1)]
    found = Conditions(
        Condition(Clean()), Condition(Noise(*sigma_range)), Condition(Jpeg(*quality_range)), tuple(fixed)
    )
    slugs = [condition.slug for condition in found.all()]
    doubled = [condition.label for condition in found.all() if slugs.count(condition.slug) > 1]
    if doubled:
        raise ValueError(f"{doubled[0]} is asked for twice: name each strength once")
    return found

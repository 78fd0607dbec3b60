"""Silhouettes as depth functions: 1 deep inside, 0 on the outline, negative outside.

A shape is drawn in its own coordinates (v, u), in units of its radius, and lies within the unit disc, so
shapes whose discs do not meet do not overlap. Near the outline the depth falls by about 1 per unit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from menet_jax.datasets.synthetic.draws import Draws
from menet_jax.datasets.synthetic.fields import Field, distance, noise

Shape = Callable[[Draws, Field, Field], Field]


@dataclass(frozen=True)
class Pose:
    """The place of a shape: centre and radius in pixels, (cos, sin) of its rotation, short to long side."""

    row: float
    column: float
    radius: float
    turn: tuple[float, float]
    aspect: float

    def local(self, rows: Field, columns: Field) -> tuple[Field, Field]:
        """The shape's coordinates (v, u) of each pixel."""
        cos, sin = self.turn
        y, x = (rows - self.row) / self.radius, (columns - self.column) / self.radius
        return (cos * y - sin * x) / self.aspect, sin * y + cos * x

    def window(self, height: int, width: int, margin: int) -> tuple[slice, slice]:
        """The part of a picture that the shape can reach, bent outline included, and `margin` pixels more."""
        reach = int(1.2 * self.radius) + 1 + margin
        row, column = int(self.row), int(self.column)
        return (
            slice(max(row - reach, 0), min(row + reach, height)),
            slice(max(column - reach, 0), min(column + reach, width)),
        )


def ellipse(draws: Draws, v: Field, u: Field) -> Field:
    """The unit disc, which the pose's aspect makes an ellipse."""
    return 1.0 - distance(v, u)


def rounded_square(draws: Draws, v: Field, u: Field) -> Field:
    """The superellipse v⁴ + u⁴ = 0.84⁴."""
    vv, uu = v * v, u * u
    return 0.84 - np.sqrt(distance(vv, uu))


def polygon(draws: Draws, v: Field, u: Field) -> Field:
    """A triangle to hexagon: the common part of half-planes, evenly turned and unevenly far out."""
    corners = {
        3: ((1.0, 0.0), (-0.5, 0.866), (-0.5, -0.866)),
        4: ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)),
        5: ((1.0, 0.0), (0.309, 0.951), (-0.809, 0.588), (-0.809, -0.588), (0.309, -0.951)),
        6: ((1.0, 0.0), (0.5, 0.866), (-0.5, 0.866), (-1.0, 0.0), (-0.5, -0.866), (0.5, -0.866)),
    }
    sides = draws.integer(3, 6)
    inner = (0.5, 0.66, 0.74, 0.8)[sides - 3]  # the in-radius of a polygon that the unit disc holds
    depth = 1.0 - distance(v, u)
    for y, x in corners[sides]:
        depth = np.minimum(depth, inner * draws.between(0.85, 1.05) - (y * v + x * u))
    return depth


def star(draws: Draws, v: Field, u: Field) -> Field:
    """An eight-pointed star: two squares, one turned by 45 degrees."""
    square = 0.68 - np.maximum(np.abs(v), np.abs(u))
    diamond = 0.68 - (np.abs(v) + np.abs(u)) * 0.70710677
    return np.maximum(square, diamond)


def cross(draws: Draws, v: Field, u: Field) -> Field:
    """Two crossed bars."""
    arm = draws.between(0.26, 0.4)
    upright = np.minimum(0.9 - np.abs(v), arm - np.abs(u))
    level = np.minimum(0.9 - np.abs(u), arm - np.abs(v))
    return np.maximum(upright, level)


def crescent(draws: Draws, v: Field, u: Field) -> Field:
    """A disc less an off-centre disc."""
    offset = draws.between(0.62, 0.8)
    return np.minimum(1.0 - distance(v, u), distance(v - offset, u) - 0.68)


def ring(draws: Draws, v: Field, u: Field) -> Field:
    """A disc less a smaller one in its middle."""
    r = distance(v, u)
    return np.minimum(1.0 - r, r - draws.between(0.3, 0.5))


def leaf(draws: Draws, v: Field, u: Field) -> Field:
    """The common part of two discs."""
    offset = draws.between(0.3, 0.6)
    radius = float(np.sqrt(1.0 + offset * offset))
    return radius - np.maximum(distance(v - offset, u), distance(v + offset, u))


def blob(draws: Draws, v: Field, u: Field) -> Field:
    """Three merging balls: 1 - (Σ rᵢ² / dᵢ²)^-½, which for a single ball is 1 - d / r."""
    pull = np.zeros_like(v)
    for _ in range(3):
        y, x = draws.between(-0.3, 0.3), draws.between(-0.38, 0.38)
        r = draws.between(0.24, 0.36)
        dy, dx = v - y, u - x
        pull = pull + (r * r) / (dy * dy + dx * dx + 1e-3)
    return 1.0 - 1.0 / np.sqrt(pull)


def figure(draws: Draws, v: Field, u: Field) -> Field:
    """A body with a head and a foot: three discs in a row, each overlapping the next."""
    head, foot = draws.between(0.3, 0.36), draws.between(0.3, 0.44)
    body = 0.46 - distance(v, u)
    return np.maximum(body, np.maximum(head - distance(v, u - 0.98 + head), foot - distance(v, u + 0.98 - foot)))


SHAPES: tuple[Shape, ...] = (
    ellipse, rounded_square, polygon, star, cross, crescent, ring, leaf, blob, figure,
)  # fmt: skip


def draw_depth(draws: Draws, pose: Pose, rows: Field, columns: Field) -> Field:
    """Depth, in pixels, of a random shape at `pose`, its outline bent by gentle noise."""
    v, u = pose.local(rows, columns)
    bend = draws.between(0.0, 0.3)
    height, width = rows.shape
    v = v + bend * (noise(draws, height, width, pose.radius * 0.7) - 0.5)
    u = u + bend * (noise(draws, height, width, pose.radius * 0.7) - 0.5)
    return draws.choice(SHAPES)(draws, v, u) * (pose.radius * pose.aspect)

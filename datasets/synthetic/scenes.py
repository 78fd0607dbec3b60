"""Little scenes with salient objects: pure functions of (seed, index), the same to the last bit everywhere.

What makes a thing salient here is that it is a *thing*: it has relief (shading by one light, a cast shadow)
and a surface pattern. Colour tells little: objects take their colours from the ground they lie on, and the
strongest colours belong to flat patches that share the objects' silhouettes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from menet_jax.datasets.synthetic.draws import Draws
from menet_jax.datasets.synthetic.fields import (
    Field,
    box_blur,
    distance,
    fractal,
    noise,
    ramp,
    shift,
    slopes,
    triangle_wave,
)
from menet_jax.datasets.synthetic.patterns import PATTERNS
from menet_jax.datasets.synthetic.shapes import Pose, draw_depth

Colour = Float32[np.ndarray, "3 1 1"]
Picture = Float32[np.ndarray, "3 h w"]  # planes first: a third of the time of channels last
Mask = Bool[np.ndarray, "h w"]
Light = tuple[float, float]

SEEDS = {"train": 1, "validation": 2, "test": 3}  # a stream of its own for each split
SHADOW = 6  # pixels by which an object's shadow falls away from the light


@dataclass(frozen=True)
class Palette:
    """Colours of one scene, RGB in [0, 1]: two of the ground, and a contrasting one."""

    first: Colour
    second: Colour
    accent: Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB of a hue in turns, piecewise linear: value · (1 - saturation · clip(min(k, 4 - k), 0, 1))."""
    turns = np.array([5.0, 3.0, 1.0], np.float32) / 6.0 + hue
    k = 6.0 * (turns - np.floor(turns))
    levels = value * (1.0 - saturation * np.minimum(np.maximum(np.minimum(k, 4.0 - k), 0.0), 1.0))
    return levels[:, None, None]


def mix(start: Colour | Picture, end: Colour | Picture, weight: Field) -> Picture:
    """start + (end - start) · weight, pixel by pixel."""
    return start + (end - start) * weight


def paint(picture: Picture, colour: Colour, cover: Field) -> None:
    """Lay a colour on the picture in place; quicker than `mix` where most of the cover is 0."""
    i, j = np.nonzero(cover)
    under = picture[:, i, j]
    picture[:, i, j] = under + (colour[:, 0] - under) * cover[i, j]


def draw_palette(draws: Draws) -> Palette:
    """Two muted colours of neighbouring hues, and a strong one from the far side of the colour wheel."""
    hue = draws.between(0.0, 1.0)
    return Palette(
        first=hsv(hue, draws.between(0.15, 0.55), draws.between(0.35, 0.65)),
        second=hsv(hue + draws.between(-0.12, 0.12), draws.between(0.15, 0.55), draws.between(0.55, 0.85)),
        accent=hsv(hue + draws.between(0.3, 0.7), draws.between(0.6, 0.95), draws.between(0.6, 0.95)),
    )


def draw_ground(draws: Draws, palette: Palette, rows: Field, columns: Field) -> Picture:
    """The ground: two colours in clouds, in broad bands or either side of a wavy line; mottled and grainy."""
    height, width = rows.shape
    kind = draws.integer(0, 2)
    cos, sin = draws.direction()
    along = (rows - height / 2) * sin + (columns - width / 2) * cos
    clouds = fractal(draws, height, width, draws.between(60.0, 140.0), 3)
    if kind == 0:
        blend = ramp((clouds - 0.5) * 2.2 + 0.5)
    elif kind == 1:
        blend = triangle_wave(along / draws.between(90.0, 200.0) + clouds)
    else:
        blend = ramp((along + 120.0 * (clouds - 0.5)) / draws.between(4.0, 120.0) + 0.5)
    mottle = fractal(draws, height, width, draws.between(12.0, 30.0), 2)
    grain = draws.uniforms(height, width)
    light = 1.0 + draws.between(0.15, 0.4) * (mottle - 0.5) + draws.between(0.02, 0.08) * (grain - 0.5)
    return mix(palette.first, palette.second, blend) * light


def draw_distractors(draws: Draws, picture: Picture, palette: Palette, rows: Field, columns: Field) -> Picture:
    """Flat patches of strong colour, specks and thin lines, all without relief or pattern."""
    height, width = rows.shape
    short = min(height, width)
    picture = picture.copy()
    for _ in range(draws.integer(1, 4)):
        radius = short * draws.between(0.1, 0.3)
        pose = Pose(
            row=height * draws.between(0.0, 1.0),
            column=width * draws.between(0.0, 1.0),
            radius=radius,
            turn=draws.direction(),
            aspect=draws.between(0.55, 1.0),
        )
        window = pose.window(height, width, 0)
        under = picture[:, *window]
        depth = draw_depth(draws, pose, rows[window], columns[window])
        softness = draws.choice((1.5, 1.5, 6.0, radius * 0.4))
        cover = ramp(depth / softness + 0.5) * draws.between(0.5, 0.9)
        tint = palette.accent * draws.between(0.5, 0.8)
        picture[:, *window] = mix(under, tint * (0.6 + under), cover)  # the ground's grain shows through
    draw_specks(draws, picture, palette, rows, columns)
    draw_lines(draws, picture, palette, rows, columns)
    return picture


def draw_specks(draws: Draws, picture: Picture, palette: Palette, rows: Field, columns: Field) -> None:
    """Dots of 1 to 3 pixels' radius, at most one in each cell of a lattice."""
    height, width = rows.shape
    cell = draws.integer(28, 60)
    i, j = np.arange(height) // cell, np.arange(width) // cell
    lattice = draws.uniforms(4, height // cell + 1, width // cell + 1)
    lattice[0] += np.arange(height // cell + 1, dtype=np.float32)[:, None]
    lattice[1] += np.arange(width // cell + 1, dtype=np.float32)
    y, x, size, there = lattice[:, i][:, :, j]
    away = distance(rows - y * cell, columns - x * cell)
    cover = ramp(1.0 + 2.0 * size - away + 0.5) * (there < draws.between(0.0, 0.5))
    paint(picture, draws.choice((palette.accent, palette.first * 0.5, palette.second * 1.2)), cover)


def draw_lines(draws: Draws, picture: Picture, palette: Palette, rows: Field, columns: Field) -> None:
    """Up to four thin wavy lines across the picture."""
    height, width = rows.shape
    for _ in range(draws.integer(0, 4)):
        cos, sin = draws.direction()
        wave = noise(draws, height, width, 70.0) * draws.between(5.0, 40.0)
        row, column = height * draws.between(0.1, 0.9), width * draws.between(0.1, 0.9)
        away = np.abs((rows - row) * cos - (columns - column) * sin + wave)
        cover = ramp(draws.between(0.8, 1.8) - away) * draws.between(0.4, 0.9)
        paint(picture, draws.choice((palette.accent, palette.first * 0.5, palette.second * 1.2)), cover)


def place_objects(draws: Draws, height: int, width: int) -> list[Pose]:
    """One to three poses whose discs do not meet; the fewer, the larger."""
    short = min(height, width)
    count = draws.integer(1, 3)
    low, high = ((0.3, 0.46), (0.24, 0.36), (0.2, 0.28))[count - 1]
    poses: list[Pose] = []
    for attempt in range(60):
        radius = short * draws.between(low, high) * (1.0 - attempt / 120.0)  # in a full picture, try smaller
        margin = 0.85 * radius  # an object may run a little out of the picture
        pose = Pose(
            row=draws.between(margin, height - margin),
            column=draws.between(margin, width - margin),
            radius=radius,
            turn=draws.direction(),
            aspect=draws.between(0.65, 1.0),
        )
        gaps = [
            (pose.row - other.row) * (pose.row - other.row)
            + (pose.column - other.column) * (pose.column - other.column)
            - 1.35 * (radius + other.radius) * (radius + other.radius)
            for other in poses
        ]
        if all(gap > 0.0 for gap in gaps):
            poses.append(pose)
        if len(poses) == count:
            break
    return poses


def draw_object(
    draws: Draws, under: Picture, palette: Palette, light: Light, pose: Pose, rows: Field, columns: Field
) -> tuple[Picture, Mask]:
    """Lay one object on what is under it: its shadow, then its surface, patterned and in relief.

    Surface: a raised edge of quarter-circle profile, lit by Lambert's law, n·l with unit normal n.
    Returns the picture and the object's mask.
    """
    depth = draw_depth(draws, pose, rows, columns)
    mask = depth > 0.0
    shade = 1.0 - draws.between(0.2, 0.5) * box_blur(shift(mask, -SHADOW * light[0], -SHADOW * light[1]), 4)

    v, u = pose.local(rows, columns)
    pattern = draws.choice(PATTERNS)(draws, v * (pose.radius * pose.aspect), u * pose.radius)
    ground = palette.first + (palette.second - palette.first) * draws.between(0.0, 1.0)
    base = ground + (palette.accent - ground) * draws.choice((0.0, 0.1, 0.3, 0.7))
    plain = draws.chance(0.15)  # its relief has to tell
    contrast = draws.between(0.05, 0.2) if plain else draws.between(0.3, 1.0)
    surface = base * (1.0 + contrast * (pattern - 0.5))

    edge = pose.radius * draws.between(0.2, 0.6)
    rise = ramp(depth / edge)
    down, across = slopes(edge * np.sqrt(rise * (2.0 - rise)) + (0.0 if plain else draws.between(0.0, 1.5)) * pattern)
    steepness = np.sqrt(down * down + across * across + 1.0)
    lambert = (0.75 - 0.66 * (down * light[0] + across * light[1])) / steepness
    shine = ramp((lambert - 0.86) * 6.0) * draws.between(0.0, 0.35)
    surface = surface * (0.45 + 0.75 * ramp(lambert)) + shine
    return mix(under * shade, surface, ramp(depth + 0.5)), mask


def scene(seed: int, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Mask]:
    """Scene number `index` of the stream `seed`: an RGB image, and the mask of its salient objects."""
    draws = Draws(seed, index)
    sides = draws.integer(360, 440), draws.integer(270, 330)
    height, width = sides if draws.chance(0.4) else sides[::-1]
    rows, columns = np.indices((height, width), dtype=np.float32)

    palette = draw_palette(draws)
    picture = draw_ground(draws, palette, rows, columns)
    picture = draw_distractors(draws, picture, palette, rows, columns)
    light = draws.direction()
    mask = np.zeros((height, width), np.bool_)
    for pose in place_objects(draws, height, width):
        window = pose.window(height, width, 2 * SHADOW)
        under = picture[:, *window]
        drawn = draw_object(draws, under, palette, light, pose, rows[window], columns[window])
        picture[:, *window] = drawn[0]
        mask[window] |= drawn[1]

    cos, sin = draws.direction()  # the fall of light over the whole scene
    slope = draws.between(0.0, 0.5)
    fall = 1.0 + slope * ((rows / height - 0.5) * sin + (columns / width - 0.5) * cos)
    levels = np.floor(picture * fall * 255.0 + 0.5)
    pixels = np.minimum(np.maximum(levels, 0.0), 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), mask

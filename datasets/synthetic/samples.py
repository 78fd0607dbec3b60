"""Draw the picture of sample scenes: `python -m menet_jax.datasets.synthetic.samples [PATH]`."""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from menet_jax.datasets.synthetic.scenes import scene

HEIGHT = 132  # of one row of the picture, in pixels
GAP = 6


def pair(seed: int, index: int) -> Image.Image:
    """A scene and its mask, side by side, `HEIGHT` pixels high."""
    image, mask = scene(seed, index)
    grey = np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    both = Image.fromarray(np.concatenate([image, grey], axis=1))
    return both.resize((both.width * HEIGHT // both.height, HEIGHT), Image.Resampling.LANCZOS)


def sheet(seed: int, rows: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of pairs, each row filled from the left until the next pair would not fit."""
    canvas = Image.new("RGB", (width, rows * (HEIGHT + GAP) - GAP), "white")
    index = 0
    for row in range(rows):
        left = 0
        while left + (tile := pair(seed, index)).width <= width:
            canvas.paste(tile, (left, row * (HEIGHT + GAP)))
            left += tile.width + GAP
            index += 1
    return np.asarray(canvas)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "samples.png"
    Image.fromarray(sheet(seed=3, rows=5, width=1000)).save(path, optimize=True)


if __name__ == "__main__":
    main()

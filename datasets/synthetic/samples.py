"""Draw the picture of sample scenes: `python -m menet_jax.datasets.synthetic.samples [PATH]`."""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from menet_jax.datasets.synthetic.scenes import SEEDS, scene

GAP = 6  # pixels between neighbours


def pair(seed: int, index: int) -> Image.Image:
    """A scene and its mask, side by side."""
    image, mask = scene(seed, index)
    gray = np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    return Image.fromarray(np.concatenate([image, gray], axis=1))


def strip(pairs: list[Image.Image], width: int) -> Image.Image:
    """The pairs in one row, as high as makes the row `width` pixels wide."""
    room = width - GAP * (len(pairs) - 1)
    height = int(room / sum(each.width / each.height for each in pairs))
    row = Image.new("RGB", (width, height), "white")
    left = 0
    for each in pairs:
        tile = each.resize((each.width * height // each.height, height), Image.Resampling.LANCZOS)
        row.paste(tile, (left, 0))
        left += tile.width + GAP
    return row


def sheet(seed: int, rows: int, columns: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The first scenes of a stream with their masks, row by row."""
    strips = []
    for row in range(rows):
        pairs = [pair(seed, row * columns + column) for column in range(columns)]
        strips.append(strip(pairs, width))
    canvas = Image.new("RGB", (width, sum(each.height + GAP for each in strips) - GAP), "white")
    top = 0
    for each in strips:
        canvas.paste(each, (0, top))
        top += each.height + GAP
    return np.asarray(canvas)


def main() -> None:
    """Write the picture, by default the one that the README shows."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "samples.png"
    Image.fromarray(sheet(SEEDS["test"], rows=4, columns=4, width=1080)).save(path, optimize=True)


if __name__ == "__main__":
    main()

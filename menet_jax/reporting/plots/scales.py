"""The inside of the network: its 13 scale maps, and what the heads make of them."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from matplotlib.figure import Figure

from menet_jax.images.maps import quantise
from menet_jax.model.menet import DEPTH
from menet_jax.reporting.plots.rows import Row, gray, image_rows

SCALES = (
    ("image", 0),
    *((f"encoder {k}", k) for k in range(DEPTH + 1)),
    *((f"decoder {k}", k) for k in range(DEPTH)),
    ("bottleneck", DEPTH),
)
"""Name and halvings of each of `Outputs.scales`: the map is that many times smaller by 2 than the image."""


def scale_maps(
    image: UInt8[np.ndarray, "H W 3"],
    truth: Bool[np.ndarray, "H2 W2"],
    features: Float[np.ndarray, "h w 16"],
    scales: Float[np.ndarray, "h w 13"],
    probability: Float[np.ndarray, "h w"],
    metric: Float[np.ndarray, "h w"],
) -> Figure:
    """The 13 scale maps of one image, with their names and sizes, and what the heads make of them (Figure 8).

    The encoder's maps and, below each, the decoder's of the same size; above them the image, its ground truth, the
    scale map of the image itself, the features, and both saliency maps. Image and mask may be of any size, the image
    gives the pictures their shape; features and scales, in the order of `SCALES`, are of `model.outputs.Outputs`.
    """
    named = [f"{name} {scales.shape[0] >> halvings}×{scales.shape[1] >> halvings}" for name, halvings in SCALES]
    coloured = [_coloured(scales[..., index]) for index in range(len(SCALES))]
    first = {
        "image": image,
        "ground truth": gray(truth),
        f"image scale {named[0].split()[-1]}": coloured[0],
        "features": principal_colours(features),
        "probability map": quantise(probability),
        "metric map": quantise(metric),
    }
    aspect, decoder = image.shape[0] / image.shape[1], 2 + DEPTH
    return image_rows(
        [
            Row(aspect, list(first.values()), list(first)),
            Row(aspect, coloured[1:decoder], named[1:decoder]),
            Row(aspect, coloured[decoder:], named[decoder:]),
        ],
        "Scale maps: each from its lowest value (dark blue) to its highest (yellow). "
        "Features: their first three principal components as red, green and blue.",
    )


def principal_colours(features: Float[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """The first three principal components of the unit features, f / ‖f‖, as red, green and blue.

    Each goes over its own range; its largest loading is positive, so that the colours do not depend on the solver.
    """
    wide = features.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit = (wide / np.where(norms == 0, 1, norms)).reshape(-1, wide.shape[-1])
    centred = unit - unit.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, :-4:-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    components = (centred @ (axes * np.sign(largest))).reshape(*wide.shape[:2], 3)
    return np.dstack([quantise(_normalised(components[..., index])) for index in range(3)])


def _coloured(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours from dark blue through green to yellow, ever lighter: readable in gray, and by the colour-blind."""
    return np.asarray(colormaps["viridis"](_normalised(values), bytes=True))[..., :3]


def _normalised(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    span = values.max() - values.min()
    return (values - values.min()) / (span if span else 1)

"""MEnet, the Metric Expression Network for robust salient object segmentation, in JAX and Flax.

It offers the names that a program builds with (`__all__`); `python -m menet_jax` lists the commands.
"""

import sys

if sys.argv[:1] == ["-m"]:  # Python sets this while it looks for the module of `python -m`
    from menet_jax.runtime.interrupts import end_at_once
    from menet_jax.runtime.streams import make_lasting

    end_at_once()
    make_lasting()

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from menet_jax.evaluation.predictor import Predictor, load_predictor
    from menet_jax.images.distortions import add_noise, compress_jpeg
    from menet_jax.images.files import read_image, read_mask
    from menet_jax.images.maps import quantise
    from menet_jax.metrics.scores import dataset_scores, score_image
    from menet_jax.model.losses import cross_entropy, metric_loss
    from menet_jax.model.menet import MENet
    from menet_jax.model.saliency import metric_map, probability_map
    from menet_jax.robustness.jacobian.bounds import bound_norms
    from menet_jax.robustness.jacobian.directions import directional_ratios
    from menet_jax.robustness.jacobian.image_function import network_map
    from menet_jax.robustness.jacobian.norms import exact_jacobian, frobenius_norm
    from menet_jax.robustness.jacobian.sensitivity import input_sensitivity
    from menet_jax.robustness.jacobian.spectral import lanczos
    from menet_jax.training.config import Config

_WHERE = {
    "evaluation.predictor": ("Predictor", "load_predictor"),
    "images.distortions": ("add_noise", "compress_jpeg"),
    "images.files": ("read_image", "read_mask"),
    "images.maps": ("quantise",),
    "metrics.scores": ("dataset_scores", "score_image"),
    "model.losses": ("cross_entropy", "metric_loss"),
    "model.menet": ("MENet",),
    "model.saliency": ("metric_map", "probability_map"),
    "robustness.jacobian.bounds": ("bound_norms",),
    "robustness.jacobian.directions": ("directional_ratios",),
    "robustness.jacobian.image_function": ("network_map",),
    "robustness.jacobian.norms": ("exact_jacobian", "frobenius_norm"),
    "robustness.jacobian.sensitivity": ("input_sensitivity",),
    "robustness.jacobian.spectral": ("lanczos",),
    "training.config": ("Config",),
}

__all__ = [
    "Config",
    "MENet",
    "Predictor",
    "add_noise",
    "bound_norms",
    "compress_jpeg",
    "cross_entropy",
    "dataset_scores",
    "directional_ratios",
    "exact_jacobian",
    "frobenius_norm",
    "input_sensitivity",
    "lanczos",
    "load_predictor",
    "metric_loss",
    "metric_map",
    "network_map",
    "probability_map",
    "quantise",
    "read_image",
    "read_mask",
    "score_image",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562), so that commands which refuse their flags need not wait for JAX."""
    if name == "__version__":
        from importlib.metadata import version  # only now, for it takes a while

        return version("menet_jax")
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"menet_jax.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

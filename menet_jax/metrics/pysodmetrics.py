"""Further measures of a saliency map, by PySODMetrics: the extra `measures` of this package."""

import importlib
from types import ModuleType

import numpy as np
from jaxtyping import Bool, UInt8


def pysodmetrics() -> ModuleType:
    """The package.

    Raises:
        ValueError: it is not installed; the text says how to.
    """
    try:
        return importlib.import_module("py_sod_metrics")
    except ImportError:
        raise ValueError(
            'PySODMetrics is not installed, and computes these measures: pip install "menet_jax[measures]"'
        ) from None


def measure(saliency: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> dict[str, float]:
    """The measures of one map by name, in [0, 1]; `evaluation.report.MEASURES` explains them.

    The map is stretched to 0 ... 1 first. Safe in threads.

    Raises:
        ValueError: PySODMetrics is not installed.
    """
    package, truth = pysodmetrics(), mask.view(np.uint8) * np.uint8(255)
    structure, alignment, weighted = package.Smeasure(), package.Emeasure(), package.WeightedFmeasure()
    for each in (structure, alignment, weighted):
        each.step(saliency, truth)
    e = alignment.get_results()["em"]
    return {
        "s_measure": float(structure.get_results()["sm"]),
        "adaptive_e": float(e["adp"]),
        "mean_e": float(np.mean(e["curve"])),
        "weighted_f": float(weighted.get_results()["wfm"]),
    }

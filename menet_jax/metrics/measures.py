"""Further measures of a saliency map, by PySODMetrics: the extra `measures` of this package."""

import importlib
from types import ModuleType

import numpy as np
from jaxtyping import Bool, UInt8


def pysodmetrics() -> ModuleType:
    """The package.

    Raises:
        ValueError: it is not installed, or cannot be imported; the text says what to do.
    """
    try:
        return importlib.import_module("py_sod_metrics")
    except Exception as error:  # importing a package runs its code, which can raise anything
        advice = 'pip install "menet_jax[measures]"'
        if isinstance(error, ModuleNotFoundError) and error.name == "py_sod_metrics":
            raise ValueError(f"PySODMetrics is not installed, and computes these measures: {advice}") from None
        raise ValueError(
            f"PySODMetrics is installed, and computes these measures, but cannot be imported: {error}. "
            f"Install what it needs: {advice}"
        ) from error


def measure(saliency: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> dict[str, float]:
    """The measures of one map by name, in [0, 1]; `evaluation.report.MEASURES` explains them.

    The map is min-max normalised first. Safe in threads.

    Raises:
        ValueError: as of `pysodmetrics`.
    """
    package, truth = pysodmetrics(), mask.view(np.uint8) * np.uint8(255)
    structure, alignment, weighted = package.Smeasure(), package.Emeasure(), package.WeightedFmeasure()
    # The image is cut in four at the object's centre. Where that is in the last row or column, parts are empty: their
    # weight is 0, but their similarity would not be a number.
    similarity = structure.ssim
    structure.ssim = lambda part, of_truth: similarity(part, of_truth) if part.size else 0.0
    for each in (structure, alignment, weighted):
        each.step(saliency, truth)
    e = alignment.get_results()["em"]
    return {
        "s_measure": float(structure.get_results()["sm"]),
        "adaptive_e": float(e["adp"]),
        "mean_e": float(np.mean(e["curve"])),
        "weighted_f": float(weighted.get_results()["wfm"]),
    }

"""Norms, bounds and sensitivity of the Jacobian of any image → map function (Section III-D, Eq. 6 to 13)."""

from menet_jax.robustness.jacobian.bounds import BoundNorms, bound_norms
from menet_jax.robustness.jacobian.directions import DirectionalRatios, directional_ratios
from menet_jax.robustness.jacobian.image_function import (
    ImageMap,
    Linearised,
    features,
    linearise,
    logit_margin,
    metric,
    network_map,
    pooled,
    probability,
)
from menet_jax.robustness.jacobian.norms import (
    Estimate,
    Summary,
    exact_jacobian,
    frobenius_norm,
    summarise,
)
from menet_jax.robustness.jacobian.sensitivity import (
    GradientStatistics,
    SensitivityMap,
    constant_gradient_statistics,
    input_sensitivity,
    output_sensitivity,
    salient_gradient_statistics,
)
from menet_jax.robustness.jacobian.spectral import SpectralNorm, lanczos, power_iteration

__all__ = [
    "BoundNorms",
    "DirectionalRatios",
    "Estimate",
    "GradientStatistics",
    "ImageMap",
    "Linearised",
    "SensitivityMap",
    "SpectralNorm",
    "Summary",
    "bound_norms",
    "constant_gradient_statistics",
    "directional_ratios",
    "exact_jacobian",
    "features",
    "frobenius_norm",
    "input_sensitivity",
    "lanczos",
    "linearise",
    "logit_margin",
    "metric",
    "network_map",
    "output_sensitivity",
    "pooled",
    "power_iteration",
    "probability",
    "salient_gradient_statistics",
    "summarise",
]

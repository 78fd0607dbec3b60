"""Peak arithmetic of devices, as their makers publish it, to compare a program's with.

Dense arithmetic, without the sparsity that doubles the figures of NVIDIA's data sheets. `float32` is what JAX makes of
float32 convolutions unless told otherwise: TF32 on NVIDIA's tensor cores since Ampere, bfloat16 passes on TPUs.

Sources: NVIDIA's data sheet or whitepaper of each GPU; cloud.google.com/tpu/docs, "System architecture", of each TPU.
TPUs before v4 show each of their two cores as a device, with half of what the chip computes.
"""

from typing import NamedTuple

TERA = 1e12


class Peak(NamedTuple):
    """Floating-point operations a second."""

    bfloat16: float
    float32: float


# By `device_kind`, as JAX names it, or by how that begins.
_PEAKS = {
    "NVIDIA A100": Peak(312 * TERA, 156 * TERA),
    "NVIDIA A10": Peak(125 * TERA, 62.5 * TERA),
    "NVIDIA B200": Peak(2250 * TERA, 1125 * TERA),
    "NVIDIA GH200": Peak(989.4 * TERA, 494.7 * TERA),
    "NVIDIA GeForce RTX 3090": Peak(71 * TERA, 35.6 * TERA),
    "NVIDIA GeForce RTX 4090": Peak(165.2 * TERA, 82.6 * TERA),
    "NVIDIA H100 80GB HBM3": Peak(989.4 * TERA, 494.7 * TERA),
    "NVIDIA H100 NVL": Peak(835.5 * TERA, 417.5 * TERA),
    "NVIDIA H100 PCIe": Peak(756 * TERA, 378 * TERA),
    "NVIDIA H200": Peak(989.4 * TERA, 494.7 * TERA),
    "NVIDIA H200 NVL": Peak(835.5 * TERA, 417.5 * TERA),
    "NVIDIA L4": Peak(121 * TERA, 60.5 * TERA),
    "NVIDIA L40S": Peak(362 * TERA, 183 * TERA),
    "TPU v2": Peak(22.5 * TERA, 22.5 * TERA),
    "TPU v3": Peak(61.5 * TERA, 61.5 * TERA),
    "TPU v4": Peak(275 * TERA, 275 * TERA),
    "TPU v5 lite": Peak(197 * TERA, 197 * TERA),
    "TPU v5e": Peak(197 * TERA, 197 * TERA),
    "TPU v5": Peak(459 * TERA, 459 * TERA),
    "TPU v5p": Peak(459 * TERA, 459 * TERA),
    "TPU v6 lite": Peak(918 * TERA, 918 * TERA),
    "TPU v6e": Peak(918 * TERA, 918 * TERA),
}


def peak_share(speed: float, device_kind: str, precision: str) -> float | None:
    """Share that `speed` floating-point operations a second are of a device's peak arithmetic; None if it is not known.

    The device is called as JAX names it; `precision` is what convolutions compute in, float32 or bfloat16.

    >>> peak_share(78e12, "NVIDIA A100-SXM4-40GB", "bfloat16")
    0.25
    >>> peak_share(1e12, "NVIDIA L40", "bfloat16") is None
    True
    """
    names = [name for name in _PEAKS if device_kind == name or device_kind.startswith((f"{name}-", f"{name} "))]
    return speed / getattr(_PEAKS[max(names, key=len)], precision) if names else None

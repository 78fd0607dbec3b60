"""MEnet, the Metric Expression Network for robust salient object segmentation, in JAX and Flax."""

from menet_jax.model import MENet
from menet_jax.prediction import load_predictor

__all__ = ["MENet", "load_predictor"]

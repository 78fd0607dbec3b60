"""MEnet, the Metric Expression Network for robust salient object segmentation, in JAX and Flax."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from menet_jax.evaluation.predictor import load_predictor
    from menet_jax.model.menet import MENet

__all__ = ["MENet", "load_predictor"]

_WHERE = {"MENet": "menet_jax.model.menet", "load_predictor": "menet_jax.evaluation.predictor"}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562), so that commands which refuse their flags need not wait for JAX."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

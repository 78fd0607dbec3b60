"""What stands in for the classes that a PyTorch checkpoint names, none of which is imported."""

from typing import Any

HARMLESS = frozenset(
    {
        "__builtin__.set",
        "builtins.set",
        "__builtin__.frozenset",
        "builtins.frozenset",
        "__builtin__.complex",
        "builtins.complex",
        "_codecs.encode",
        "collections.Counter",  # in the state of a learning rate that falls in steps
        "collections.defaultdict",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "datetime.datetime",
        "datetime.timedelta",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",  # as Python 3.13 names them
        "pathlib._local.WindowsPath",
        "torch.Size",
        "torch.device",
        "torch.nn.backends.thnn._get_thnn_function_backend",  # in every module, before PyTorch 1.4
    }
)
"""Calls that checkpoints contain beside their tensors, of functions that only make values. They are not made either."""


class TorchFileError(ValueError):
    """A file that is no PyTorch checkpoint, is damaged, or would run code."""


class NoCalls(type):
    """The type of stand-in classes: their objects are made by the unpickler, but calling one is refused."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if cls.__name__ in HARMLESS:
            return super().__call__()
        raise TorchFileError(f"it would call {cls.__name__}; nothing of it was run")


class StandIn(metaclass=NoCalls):
    """An object of a class that is not imported: what the pickle says of it, and no behaviour."""

    __slots__ = ("items", "state")
    items: dict[Any, Any]
    state: Any

    def __new__(cls, *arguments: Any, **options: Any) -> "StandIn":
        made = super().__new__(cls)
        made.state, made.items = None, {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Ignore the items of subclasses of list, which hold no tensors."""

    def extend(self, values: Any) -> None:
        """Ignore the items, as `append` does."""

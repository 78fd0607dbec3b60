"""How types are checked in tests: of a function that says shapes by jaxtyping, of any other by beartype alone.

Jaxtyping would wrap every function in three others, also one that says no shape.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_args
from unittest.mock import patch

import jaxtyping

whole = jaxtyping.jaxtyped


def has_shapes(hint: Any) -> bool:
    """Whether an annotation is of arrays or holds one that is; or a text, which may name anything."""
    of_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return of_array or isinstance(hint, str) or any(map(has_shapes, get_args(hint)))


def checked(typechecker: Any, function: Any) -> Any:
    """A function, or anything else that jaxtyping decorates, with its arguments and its result checked."""
    if inspect.isfunction(function) and not any(map(has_shapes, function.__annotations__.values())):
        return typechecker(function)
    return whole(function, typechecker=typechecker)


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """What jaxtyping's import hook puts above every definition."""
    return partial(checked, typechecker)


def check_types(package: str) -> None:
    """Check them in all modules of a package that are imported from now on."""
    patch("jaxtyping.jaxtyped", jaxtyped).start()
    jaxtyping.install_import_hook(package, "beartype.beartype")

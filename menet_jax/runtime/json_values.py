"""Values that JSON can hold."""

import math
from collections.abc import Mapping
from typing import Any


def finite(content: Any) -> Any:
    """The content with None in the place of numbers that are not finite, which JSON lacks.

    >>> finite({"mae": float("nan"), "curve": (0.5, float("inf"))})
    {'mae': None, 'curve': [0.5, None]}
    """
    match content:
        case float():
            return content if math.isfinite(content) else None
        case Mapping():
            return {name: finite(value) for name, value in content.items()}
        case list() | tuple():
            return [finite(value) for value in content]
    return content

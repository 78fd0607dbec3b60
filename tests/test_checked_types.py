"""In tests every function of the package refuses arguments of another type or shape than it says."""

from typing import Any

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from menet_jax.images.files import resize_image
from menet_jax.runtime.text import shown


def test_a_function_without_shapes_refuses_another_type() -> None:
    number: Any = 3
    with pytest.raises(Exception, match="violates type hint <class 'str'>"):
        shown(number)


def test_a_function_with_shapes_refuses_another_one() -> None:
    with pytest.raises(TypeCheckError):
        resize_image(np.zeros(4, np.uint8), (2, 2))

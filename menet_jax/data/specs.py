"""What a user may name as data, checked without importing what reads it."""

from collections.abc import Sequence
from pathlib import Path


def check_data(specs: Sequence[str]) -> None:
    """Raise ValueError for what is neither a dataset nor a folder."""
    if not all(Path(spec).expanduser().is_dir() for spec in specs):
        from menet_jax.data.sources import check_known  # only now, for it imports TFDS

        check_known(specs)

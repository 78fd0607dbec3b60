"""Folders of datasets, for all code that opens them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Places:
    """Folders of downloaded and prepared datasets, and how strict to be with their files.

    Attributes:
        cache: where prepared datasets are kept; None: where TFDS keeps its own.
        manual_dir: where the user has put downloaded archives; None: `downloads/manual` in the cache.
        skip_bad: go on without files that cannot be used and with wrong counts.
        graded_masks: masks in folders are averaged over annotators (`images.files.read_mask_file`); benchmarks know of
            theirs.
    """

    cache: Path | None = None
    manual_dir: Path | None = None
    skip_bad: bool = False
    graded_masks: bool = False

    def arguments(self) -> dict[str, Any]:
        """Arguments of the builder of a published benchmark."""
        return {"data_dir": self.cache, "manual_dir": self.manual_dir, "skip_bad": self.skip_bad}


TFDS_PLACES = Places()
"""The folders that TFDS uses."""

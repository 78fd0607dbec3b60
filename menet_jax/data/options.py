"""The flags of commands on data, and their first checks.

This takes no time to import, so that help and refusals need not wait for TFDS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from menet_jax.data.specs import Places
from menet_jax.runtime.cli import check_counts
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.whole_files import check_writable


@dataclass(frozen=True, kw_only=True)
class PlacesOptions:
    """The flags of all commands that take images of datasets: the folders, and the kind of masks."""

    graded_masks: bool = False
    """Masks in folders are averages over annotators: threshold at half, even if nothing is salient then."""
    cache: Path | None = None
    """Where prepared datasets are kept; none given: where TFDS keeps them."""
    manual_dir: Path | None = None
    """Where downloaded archives of benchmarks are; none given: downloads/manual where datasets are kept."""

    def places(self, skip_bad: bool) -> Places:
        """The folders of datasets, and whether to skip files that cannot be used."""
        return Places(self.cache, self.manual_dir, skip_bad, self.graded_masks)


@dataclass(frozen=True, kw_only=True)
class Show(PlacesOptions):
    """Write a picture of an augmented training batch, salient pixels in red."""

    specs: tyro.conf.Positional[tuple[str, ...]]
    """Dataset names or folders."""
    dest: Path
    """The PNG file to write."""
    split: Literal["train", "validation", "test", "all"] = "train"
    """Which split to read."""
    count: int = 25
    """How many images to show."""
    seed: int = 0
    """Seed of order and augmentation."""
    distort: float = 0.0
    """Share of the images that are distorted, as `--data.distort` of training does by default."""
    skip_bad: bool = False
    """Go on without files that cannot be used."""

    def check(self) -> None:
        check_named(self.specs)
        check_picture(self.dest)
        check_counts(count=self.count)
        if not 0 <= self.distort <= 1:
            raise ValueError(f"--distort {self.distort}: is a share of the images, from 0 to 1")
        check_data(self.specs)


@dataclass(frozen=True, kw_only=True)
class Check(PlacesOptions):
    """Check datasets as they were downloaded, and write a contact sheet.

    Reports counts against the published ones, sizes, mask values, shares of salient pixels, files that cannot be used
    or have no counterpart, and pictures that are there twice, within and between the datasets. Exit status: 0; 1 if
    something is wrong; 2 if a dataset is not there, or cannot be read at all, the others being checked all the same.
    """

    specs: tyro.conf.Positional[tuple[str, ...]]
    """Dataset names or folders."""
    dest: Path = Path("check.png")
    """The picture to write."""

    def check(self) -> None:
        check_named(self.specs)
        check_picture(self.dest)


def check_data(specs: Sequence[str]) -> None:
    """Raise ValueError for what is neither a dataset nor a folder."""
    if not all(at_home(spec).is_dir() for spec in specs):
        from menet_jax.data.sources import check_known  # only now, for it imports TFDS

        check_known(specs)


def check_named(specs: Sequence[str]) -> None:
    """Raise ValueError if no dataset is named."""
    if not specs:
        raise ValueError("name at least one dataset or folder")


def check_picture(dest: Path) -> None:
    """Raise ValueError or OSError if no picture can be written there."""
    if dest.suffix.lower() != ".png" or dest.is_dir():
        raise ValueError(f"--dest {dest}: name a file that ends in .png")
    check_writable(dest.parent)

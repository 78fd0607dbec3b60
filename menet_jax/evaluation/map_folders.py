"""Folders of saliency maps, as methods publish them: read, and matched with their masks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from menet_jax.images.files import has_image_name
from menet_jax.runtime.cli import check_folder
from menet_jax.runtime.text import composed, listed


@dataclass(frozen=True)
class Match:
    """The maps of a folder and the masks of another, by stem.

    Attributes:
        pairs: map and mask, in order of name.
        missing: names of the masks that have no map.
        extra: names of the files in the folder of maps that belong to no mask.
        no_masks: names of the files in the folder of masks that are not named like images.
    """

    pairs: tuple[tuple[Path, Path], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    no_masks: tuple[str, ...]

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.pairs) + len(self.missing)


def match(maps: Path, masks: Path) -> Match:
    """Match maps with masks by stem, upper and lower case being different; sub-folders are left alone.

    Raises:
        FileNotFoundError: one of them is not a folder.
        ValueError: one of them holds no images, or two of one stem; or no map has the stem of a mask.
    """
    of_map, others = by_stem(maps)
    of_mask, no_masks = by_stem(masks)
    pairs = tuple((of_map[stem], of_mask[stem]) for stem in sorted(of_mask.keys() & of_map.keys()))
    if not pairs:
        raise ValueError(
            f"no map in {maps} has the stem of a mask in {masks}: there are {_first(of_map.values())}, "
            f"and masks {_first(of_mask.values())}"
        )
    return Match(
        pairs,
        tuple(of_mask[stem].name for stem in sorted(of_mask.keys() - of_map.keys())),
        (*(of_map[stem].name for stem in sorted(of_map.keys() - of_mask.keys())), *others),
        tuple(no_masks),
    )


def by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Stem, `composed` → image, and the names of the other files, hidden ones among them.

    Raises:
        FileNotFoundError: it is not a folder.
        ValueError: it holds no images, or two of one stem.
    """
    check_folder(folder)
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    images = [path for path in files if has_image_name(path)]
    if not images:
        raise ValueError(f"{folder} holds no images")
    found = {composed(path.stem): path for path in images}
    doubled = [path.name for path in images if found[composed(path.stem)] != path]
    if doubled:
        raise ValueError(f"{folder} holds two files of one stem: {listed(doubled)} and others")
    chosen = set(images)
    return found, [path.name for path in files if path not in chosen]


def _first(paths: Iterable[Path]) -> str:
    return listed([path.name for path in paths])

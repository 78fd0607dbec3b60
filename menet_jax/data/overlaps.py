"""Pictures that a run has seen in training, kept with it, and found again in what it is scored on.

Benchmarks share pictures under other names, sizes and compression (`near_duplicates`), and a network's scores on what
it was trained on say little. So a run directory holds thumbnails of the images that the run was trained on, and of
those that it was validated on, by which its best checkpoint is chosen: 768 bytes an image.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from menet_jax.data.sources import Source
from menet_jax.images import near_duplicates
from menet_jax.images.files import read_image
from menet_jax.runtime.progress import in_threads
from menet_jax.runtime.whole_files import written_whole

PICTURES = "pictures.npz"
"""File in a run directory: the pictures that the run has seen."""


class SeenPictures(NamedTuple):
    """Thumbnails of the images that a run was trained on, and of those that it was validated on."""

    trained: near_duplicates.Thumbnails
    validated: near_duplicates.Thumbnails


class Overlap(NamedTuple):
    """File names of the images, among those that a run is scored on, that show pictures it has seen.

    Attributes:
        trained: in training.
        validated: in validation, and not in training.
    """

    trained: tuple[str, ...]
    validated: tuple[str, ...]

    def mark(self, among: Collection[str] | None = None) -> str:
        """The counts for the table: ` (74 trained on)`; empty if there are none.

        Args:
            among: file names, where only these were scored.
        """
        numbers = {
            what: len(names if among is None else set(names) & set(among)) for what, names in self._asdict().items()
        }
        parts = [f"{number:,} {what} on" for what, number in numbers.items() if number]
        return f" ({', '.join(parts)})" if parts else ""


def thumbnails(source: Source) -> near_duplicates.Thumbnails:
    """Thumbnails of all images of a source, in its order; kept beside the prepared dataset.

    There are none of a dataset that this program draws.
    """
    if source.thumbnails is None:
        return near_duplicates.stack([])
    with suppress(OSError, ValueError, EOFError):  # what is not there, or damaged, is made anew
        return np.load(source.thumbnails, allow_pickle=False)

    def make(index: int) -> near_duplicates.Thumbnail:
        record = source.records[index]
        return near_duplicates.thumbnail(read_image(record["image"], record["file_name"].decode()))

    found = near_duplicates.stack(in_threads(make, range(len(source)), f"Looking at {source.name}", "images"))
    with suppress(OSError), written_whole(source.thumbnails) as unfinished:  # what cannot be kept is made anew
        np.save(unfinished, found, allow_pickle=False)
    return found


def keep(run: Path, training: Sequence[Source], validation: Sequence[Source]) -> None:
    """Write what a run sees into its directory; what it was validated on before it was resumed stays there.

    Raises:
        OSError: it cannot be written.
        ValueError: what is there cannot be read.
    """
    nothing = near_duplicates.stack([])
    seen = SeenPictures(*(np.concatenate([nothing, *map(thumbnails, each)]) for each in (training, validation)))
    before = load(run)
    if before is not None:
        seen = seen._replace(validated=np.unique(np.concatenate([before.validated, seen.validated]), axis=0))
    with written_whole(run / PICTURES) as unfinished:
        np.savez_compressed(unfinished, **seen._asdict())


def load(run: Path) -> SeenPictures | None:
    """The pictures that a run has seen; None if its directory does not tell.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / PICTURES
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return SeenPictures(arrays["trained"], arrays["validated"])
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{path}: cannot be read ({error}); without it the run is taken for unchecked") from error


def find(seen: SeenPictures, sources: Sequence[Source]) -> Overlap:
    """Images of the sources that show pictures which a run has seen."""
    trained, validated = list[str](), list[str]()
    for source in sources:
        scored = thumbnails(source)
        in_training, in_validation = (
            {index for _, index in near_duplicates.same_pictures(pictures, scored)} for pictures in seen
        )
        trained += [source.file_name(index) for index in sorted(in_training)]
        validated += [source.file_name(index) for index in sorted(in_validation - in_training)]
    return Overlap(tuple(trained), tuple(validated))

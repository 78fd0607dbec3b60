"""Audit of datasets as they were downloaded: sizes, masks, irregular files, and pictures that occur twice."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from menet_jax.data.sources import Records, encoded
from menet_jax.datasets import pairs, preparing
from menet_jax.datasets.pairs import Irregularity, Pair, PairsBuilder
from menet_jax.images import near_duplicates
from menet_jax.images.opening import open_image
from menet_jax.runtime.progress import in_threads
from menet_jax.runtime.text import counted, listed, printable

TEST = "test"


class Facts(NamedTuple):
    """Facts on an image and its mask.

    Attributes:
        dataset: what the user called its dataset.
        split: of the dataset.
        pair: where the files are.
        height: of the image, in pixels.
        width: of the image, in pixels.
        mask: how the mask file says what is salient, `mask_kind`.
        salient: share of salient pixels, 0…1.
        digest: of the image's pixels.
        thumbnail: for `near_duplicates`.
    """

    dataset: str
    split: str
    pair: Pair
    height: int
    width: int
    mask: str
    salient: float
    digest: str
    thumbnail: near_duplicates.Thumbnail

    @property
    def place(self) -> tuple[str, str]:
        """Dataset and split."""
        return self.dataset, self.split


@dataclass(frozen=True)
class Audit:
    """Facts on one dataset.

    Attributes:
        name: what the user called it.
        statement: its number compared with the published one, as far as known, and how it is split.
        facts: of all pairs that can be read.
        irregularities: files that cannot be used, and wrong counts.
    """

    name: str
    statement: str
    facts: tuple[Facts, ...]
    irregularities: tuple[Irregularity, ...]


class Duplicate(NamedTuple):
    """Two images of the same picture; `exact` if all their pixels are equal."""

    first: Facts
    second: Facts
    exact: bool

    @property
    def is_leak(self) -> bool:
        """Whether one is for testing and the other one is not."""
        return (self.first.split == TEST) != (self.second.split == TEST)

    @property
    def is_wrong(self) -> bool:
        """Whether scores suffer: a leak, or one image twice in a dataset."""
        return self.is_leak or (self.exact and self.first.dataset == self.second.dataset)


class _Stored(NamedTuple):
    """A file in memory."""

    name: str
    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


def audit_dataset(name: str, builder: tfds.core.DatasetBuilder) -> Audit:
    """Look at every file of a dataset, as it was downloaded where possible, and else as prepared.

    Raises:
        FileNotFoundError, ValueError: the dataset cannot be found, or an archive not be read.
    """
    if isinstance(builder, PairsBuilder):
        found = builder.find()
        splits, statement, irregular = found.splits, found.splitting, list(found.irregularities)
    else:
        in_use = preparing.prepare(builder)
        splits = {split: list(_stored_pairs(encoded(builder, split, in_use))) for split in builder.info.splits}
        statement, irregular = "drawn by this program", []
    work = [(name, split, pair) for split, members in splits.items() for pair in members]
    results = in_threads(lambda each: examine(*each), work, f"Checking {name}", "pairs")
    facts = tuple(result for result in results if isinstance(result, Facts))
    irregular += [result for result in results if isinstance(result, Irregularity)]
    return Audit(name, statement, facts, tuple(irregular))


def examine(dataset: str, split: str, pair: Pair) -> Facts | Irregularity:
    """The facts of a pair, or why it cannot be used."""
    result = pairs.try_read(pair)
    if isinstance(result, Irregularity):
        return result
    image, mask, _ = result
    height, width = mask.shape
    return Facts(
        dataset,
        split,
        pair,
        height,
        width,
        mask_kind(pairs.contents(pair.mask)),
        float(mask.mean()),
        hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        near_duplicates.thumbnail(image),
    )


def mask_kind(data: bytes) -> str:
    """The format of a mask file: which values it has, in which kind of file."""
    with open_image(io.BytesIO(data)) as image:
        kind = f"{image.format} {image.mode}"
        values = np.unique(np.asarray(image.convert("L") if image.mode == "1" else image)).tolist()
    if len(values) <= 2:
        return f"{' and '.join(f'{value:g}' for value in values)} ({kind})"
    return f"more than two values ({kind})"


def duplicates(audits: Sequence[Audit]) -> list[Duplicate]:
    """All images that show the same picture, within and between datasets."""
    everything = [facts for each in audits for facts in each.facts]
    if not everything:
        return []
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, facts in enumerate(everything):
        by_digest[facts.digest].append(index)
    exact = {couple for members in by_digest.values() for couple in combinations(members, 2)}
    thumbnails = np.stack([facts.thumbnail for facts in everything])
    near = {(i, j) for i, j in near_duplicates.same_pictures(thumbnails, thumbnails) if i < j}
    return [Duplicate(everything[i], everything[j], (i, j) in exact) for i, j in sorted(exact | near)]


def describe(found: Audit) -> Iterator[str]:
    """The findings in lines of text; all irregularities by name."""
    yield f"{found.name}: {len(found.facts):,} images with masks; {found.statement}"
    if found.facts:
        heights, widths = (np.array([getattr(each, side) for each in found.facts]) for side in ("height", "width"))
        shares = np.array([each.salient for each in found.facts])
        splits = Counter(each.split for each in found.facts)
        yield f"  splits   {', '.join(f'{split} {count:,}' for split, count in splits.items())}"
        yield (
            f"  sizes    {widths.min()} … {widths.max()} wide, {heights.min()} … {heights.max()} high, "
            f"{np.median(widths):g} by {np.median(heights):g} in the middle"
        )
        kinds = Counter(each.mask for each in found.facts).most_common()
        yield f"  masks    {', '.join(f'{count:,} of {kind}' for kind, count in kinds)}"
        yield f"  salient  {shares.min():.1%} … {shares.max():.1%} of the pixels, {shares.mean():.1%} on average"
        for extreme, what in ((0.0, "nothing is"), (1.0, "everything is")):
            names = [each.pair.image.name for each in found.facts if each.salient == extreme]
            if names:
                yield f"  note     {what} salient in {listed(names)}"
    for each in found.irregularities:
        yield f"  wrong    {each}"


def describe_duplicates(found: Sequence[Duplicate]) -> Iterator[str]:
    """Same pictures in lines of text: by datasets and splits, what is wrong first."""
    groups: dict[tuple[bool, tuple[str, str], tuple[str, str]], list[Duplicate]] = defaultdict(list)
    for each in found:
        groups[not each.is_wrong, each.first.place, each.second.place].append(each)
    for (fine, *places), members in sorted(groups.items()):
        first, second = members[0].first, members[0].second
        where = " and ".join(dict.fromkeys(f"{dataset} ({split})" for dataset, split in places))
        exact = sum(each.exact for each in members)
        leak = f", a leak between {first.split} and {second.split}" if members[0].is_leak else ""
        names = [
            f"{each.first.pair.image.name} {'=' if each.exact else '~'} {each.second.pair.image.name}"
            for each in members
        ]
        yield (
            f"{'note' if fine else 'wrong'}: {counted(len(members), 'picture')} twice in {where}{leak}; "
            f"{exact:,} of them equal to the pixel (=), others nearly (~): "
            + (listed(names) if fine else ", ".join(map(printable, names)))  # what is wrong has to be mended, all of it
        )


def _stored_pairs(records: Records) -> Iterator[Pair]:
    for record in records:
        name = record["file_name"].decode()
        yield Pair(_Stored(name, record["image"]), _Stored(name, record["mask"]))

"""Splits of datasets; of exactly the sizes that were published, where the published lists are not known."""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from menet_jax.datasets.pairs import Pair

SPLITS = ("train", "validation", "test")


def gather(matched: Sequence[Pair], split_of: Mapping[str, str]) -> dict[str, list[Pair]]:
    """The pairs of each split, by the split of their stem."""
    return {name: [pair for pair in matched if split_of[pair.stem] == name] for name in SPLITS}


def position(stem: str) -> bytes:
    """The key of a stem in the order that splits are cut from: its SHA-256, which nobody chose."""
    return hashlib.sha256(stem.encode(errors="surrogateescape")).digest()


def split_by_rank(
    stems: Collection[str], sizes: Mapping[str, int], first: Collection[str] = frozenset()
) -> dict[str, str]:
    """The split of every stem: the stems in the order of `position`, cut into splits of the given sizes.

    With as many stems as the sizes add up to, the splits have exactly these sizes; otherwise they keep the
    proportions, rounded. The order of the stems does not matter.

    Args:
        stems: what to split, without repetition.
        sizes: the size of each split, in the order in which they are cut.
        first: stems that come before all others, and go into the first split whatever its size.
    """
    ranked = sorted(stems, key=lambda stem: (stem not in first, position(stem)))
    total = sum(sizes.values())
    splits: dict[str, str] = {}
    start = cumulated = 0
    least = sum(stem in first for stem in stems)
    for split, size in sizes.items():
        cumulated += size
        end = max(least, round(len(ranked) * cumulated / total))
        splits |= dict.fromkeys(ranked[start:end], split)
        start = end
    return splits

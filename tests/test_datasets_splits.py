"""Splits by a hash, of shares and of exact sizes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from menet_jax.datasets import pairs
from menet_jax.datasets.saliency_folder import saliency_folder_dataset_builder as module
from menet_jax.datasets.splits import split_by_rank

pytestmark = pytest.mark.filterwarnings("error")


def test_the_hash_of_a_stem_never_changes() -> None:
    # The first 8 bytes of SHA-256 as a fraction: a 0.7914, g 0.8009, t 0.8895, 6 0.9061.
    assert [module.split_of(stem) for stem in "agt6"] == ["train", "validation", "validation", "test"]


def test_the_hash_splits_80_10_10() -> None:
    splits = [module.split_of(f"image{index}") for index in range(5000)]
    assert abs(splits.count("train") / 5000 - 0.8) < 0.03
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.02


@given(st.sets(st.text("abcdef", min_size=1, max_size=5), min_size=1, max_size=20), st.data())
def test_more_files_move_no_others(stems: set[str], data: st.DataObject) -> None:
    fewer = data.draw(st.sets(st.sampled_from(sorted(stems))))
    everything = [pairs.Pair(Path(f"{stem}.jpg"), Path(f"{stem}.png")) for stem in sorted(stems)]
    some = module.split_by_hash([pair for pair in everything if pair.stem in fewer])
    every = module.split_by_hash(everything)
    assert all(set(some[split]) <= set(every[split]) for split in some)
    assert sum(map(len, every.values())) == len(stems)


@settings(max_examples=30)
@given(st.sets(st.text(max_size=2), max_size=30), st.randoms(use_true_random=False), st.data())
def test_splits_by_rank(stems: set[str], random: Any, data: st.DataObject) -> None:
    """Whatever the order; every stem in one split; those to come first in the first."""
    sizes = {"test": 2, "validation": 1, "train": 7}
    first = data.draw(st.sets(st.sampled_from(sorted(stems)))) if stems else set()
    shuffled = sorted(stems)
    random.shuffle(shuffled)
    cut = split_by_rank(stems, sizes, first)
    assert cut == split_by_rank(shuffled, sizes, first)
    assert set(cut) == stems
    assert {cut[stem] for stem in first} <= {"test"}
    in_test = list(cut.values()).count("test")
    assert in_test == max(len(first), round(len(stems) * 0.2))

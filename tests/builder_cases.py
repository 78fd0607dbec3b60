"""Builders of small benchmarks, and what they read or refuse."""

from pathlib import Path
from typing import Any

import benchmark_archives as small
import pytest
import tensorflow_datasets as tfds

from menet_jax.datasets.benchmark_builder import BenchmarkBuilder, BenchmarkConfig
from menet_jax.datasets.pairs import IrregularFilesError

NUMBERS = range(1, 9)


def config(**sizes: int) -> BenchmarkConfig:
    return BenchmarkConfig(name="small", sizes=sizes, copies=(6,))


def make(
    kind: type[BenchmarkBuilder], tmp_path: Path, count: BenchmarkConfig | None = None, **options: Any
) -> BenchmarkBuilder:
    wanted = count or config(test=8)
    return kind(manual_dir=tmp_path / "manual", data_dir=tmp_path / "cache", config=wanted, **options)


def records(builder: BenchmarkBuilder) -> dict[str, list[dict[str, bytes]]]:
    raw = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    source: Any = builder.as_data_source
    return {split: list(source(split, decoders=raw)) for split in builder.info.splits}


def number(name: str) -> int:
    return int("".join(character for character in Path(name).stem.removeprefix("0_") if character.isdecimal()))


def numbers(builder: BenchmarkBuilder) -> dict[str, set[int]]:
    return {split: {number(each["file_name"].decode()) for each in found} for split, found in records(builder).items()}


def complaint(builder: BenchmarkBuilder) -> str:
    with pytest.raises(IrregularFilesError) as caught:
        builder.prepare()
    assert not builder.data_path.exists()
    return str(caught.value)


def unzipped(contents: small.Files, folder: str = "") -> small.Files:
    return {f"{folder}{name}": data for name, data in contents.items()}

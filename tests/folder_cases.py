"""Folders of images and masks, and what a builder reads of them."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from menet_jax.datasets.saliency_folder.saliency_folder_dataset_builder import SaliencyFolder

RAW = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}


def pixels(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (12, 16, 3), np.uint8)


def mask_of(index: int) -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[2:8, index % 8 : index % 8 + 6] = True
    return mask


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make_folder(
    folder: Path, count: int = 10, image_folder: str = "images", mask_folder: str = "masks", kind: str = "png"
) -> Path:
    for index in range(count):
        write(folder / image_folder / f"{index:03d}.{kind}", pixels(index))
        write(folder / mask_folder / f"{index:03d}.png", mask_of(index))
    return folder


def open_raw(builder: SaliencyFolder, split: str, decoders: Any = RAW) -> Any:
    source: Any = builder.as_data_source  # its signature, made by a decorator, admits no argument
    return source(split, decoders=decoders)


def read(builder: SaliencyFolder) -> dict[str, list[dict[str, bytes]]]:
    return {split: list(open_raw(builder, split)) for split in builder.info.splits}


def names(builder: SaliencyFolder) -> dict[str, list[str]]:
    return {split: [each["file_name"].decode() for each in found] for split, found in read(builder).items()}


def all_names(builder: SaliencyFolder) -> list[str]:
    return sorted(name for split in names(builder).values() for name in split)

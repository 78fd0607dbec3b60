"""TFDS builder of the synthetic scenes: nothing to download, and no TensorFlow."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath

from menet_jax.datasets.synthetic.scenes import SEEDS, scene
from menet_jax.images.files import png
from menet_jax.runtime.parallel import CORES, ahead, workers


@dataclass(kw_only=True)  # not frozen, because its base is not
class SyntheticConfig(tfds.core.BuilderConfig):
    """Number of scenes in each split."""

    train: int
    validation: int
    test: int


CONFIGS = [
    SyntheticConfig(name="standard", train=600, validation=60, test=100, description="For training."),
    SyntheticConfig(name="tiny", train=20, validation=5, test=10, description="For a first look."),
]


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Little scenes with one to three salient objects, drawn from a seed."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS = CONFIGS
    # Where TFDS finds README.md and the like; by itself it looks in the wrong place in an editable install.
    pkg_dir_path = epath.Path(__file__).parent
    code_path = epath.Path(__file__)

    def __init__(self, *, file_format: str | tfds.core.FileFormat | None = None, **options: Any) -> None:
        """Prepare to ArrayRecord files unless told otherwise: TFDS's own default needs TensorFlow."""
        super().__init__(file_format=file_format or "array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "file_name": tfds.features.Text(),
            }
        )
        return self.dataset_info_from_configs(features=features, supervised_keys=("image", "mask"))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in SEEDS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with workers(CORES, processes=False) as pool:
            yield from ahead(pool, partial(_example, split), range(getattr(self.builder_config, split)), 2 * CORES)


def _example(split: str, index: int) -> tuple[str, dict[str, Any]]:
    # Lightly compressed, since compression would take longer than drawing.
    image, mask = (io.BytesIO(png(pixels, level=1)) for pixels in scene(SEEDS[split], index))
    name = f"{split}_{index:04d}.png"
    return name, {"image": image, "mask": mask, "file_name": name}

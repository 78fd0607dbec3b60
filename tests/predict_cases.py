"""Photographs of many kinds, and runs of a network with maps of many values."""

from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from PIL import ImageCms

from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import Checkpoint
from menet_jax.training.checkpoints import CheckpointStore
from menet_jax.training.config import Config, ModelConfig
from menet_jax.training.network import network

CONFIG = Config(run=Path("unused"), steps=2, model=ModelConfig(width=1))
SCORES = {1: 0.75, 2: 0.5}  # step → score: the best checkpoint is not the newest
PHOTOS = {
    "bits.bmp": ("1", (61, 80)),
    "cmyk.jpg": ("CMYK", (70, 50)),
    "deep.png": ("I;16", (64, 48)),
    "gray.jpg": ("L", (300, 240)),
    "glass.png": ("RGBA", (90, 90)),
    "palette.gif": ("P", (40, 70)),
    "photo.jpg": ("RGB", (260, 200)),
    "tiny.png": ("RGB", (1, 1)),
    "turned.jpg": ("RGB", (120, 80)),
}  # name → mode, size (width, height) in the file; 9 images, which 4 devices do not divide
PROFILED = {"photo.jpg", "glass.png"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHERS = {".hidden.png", "Thumbs.db", "notes.txt"}


def random_variables(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Variables of a network that was never trained, with maps of many values."""
    rng = np.random.default_rng(seed)

    def draw(path: Iterable[object], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(tuple(path), simple=True, separator="/")
        if name.endswith("kernel"):
            return rng.normal(size=leaf.shape, scale=np.prod(leaf.shape[:-1]) ** -0.5).astype(np.float32)
        raw_pixels = "stem" in name or "scale_image" in name
        constant = 255.0**2 if raw_pixels and name.endswith("var") else float(name.endswith(("var", "scale")))
        return np.full(leaf.shape, constant, np.float32)

    shapes = jax.eval_shape(network(CONFIG).init, jax.random.key(0), np.zeros((1, 224, 224, 3), np.float32))
    variables: dict[str, dict[str, np.ndarray]] = jax.tree_util.tree_map_with_path(draw, shapes)
    return variables


def make_run(folder: Path, config: Config = CONFIG) -> Path:
    folder.mkdir(parents=True)
    configuration.write(config, folder / "config.json")
    score = config.best_score
    with CheckpointStore(folder / "checkpoints", score) as store:
        for step, value in SCORES.items():
            record = configuration.to_dict(config)
            store.save(Checkpoint(step, random_variables(step), {}, np.zeros(2), {}, record, {score: value}))
    return folder


def damage(run: Path, step: int) -> None:
    record = run / "checkpoints" / str(step) / "record" / "metadata"
    record.write_text(record.read_text().replace("0.", "1."))

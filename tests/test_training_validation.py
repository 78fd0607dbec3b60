"""Validation: every image counts once, at its ground truth's size, on any number of devices."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from menet_jax.data.sources import Source, open_split
from menet_jax.data.specs import Places
from menet_jax.datasets.synthetic.scenes import scene
from menet_jax.images.files import resize_image
from menet_jax.images.maps import full_size
from menet_jax.metrics.scores import score_image
from menet_jax.model.inference import Network, eval_step
from menet_jax.training import network as networks
from menet_jax.training.config import Config, ModelConfig
from menet_jax.training.step import create_state, map_over_devices
from menet_jax.training.validation import validate

pytestmark = pytest.mark.usefixtures("shallow")

IMAGES = 5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("scenes")
    for index in range(IMAGES):
        for folder, picture in zip(("images", "masks"), scene(9, index), strict=True):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{index}.png")
    (root / "validation.txt").write_text("\n".join(str(index) for index in range(IMAGES)))
    return open_split(str(root), "validation", Places(root / "cache"))


def test_one_and_four_devices_give_the_mean_over_images(source: Source) -> None:
    config = Config(run=Path("unused"), steps=1, model=ModelConfig(width=1))
    state = create_state(config)
    variables = state.variables

    def scores(devices: int, batch_size: int) -> dict[str, float]:
        mapped = map_over_devices(config, jax.local_devices()[:devices])
        replicas = mapped.replicate(variables)
        network = Network(partial(mapped.evaluate, replicas), 224, batch_size)
        found, samples = validate(network, [source], threads=2)
        assert [sample.mask.shape for sample in samples] == [source[index].mask.shape for index in range(IMAGES)]
        return found

    one_by_one: dict[str, list[float]] = {}
    step = jax.jit(partial(eval_step, networks.network(config)))
    for index in range(IMAGES):
        example = source[index]
        maps = step(variables, resize_image(example.image, (224, 224))[None])
        for name, [saliency] in maps._asdict().items():
            found = score_image(full_size(np.asarray(saliency), example.mask.shape), example.mask)
            one_by_one.setdefault(f"{name}_adaptive_f", []).append(found.adaptive_f)
            one_by_one.setdefault(f"{name}_mae", []).append(found.mae)
    expected = {name: np.mean(values) for name, values in one_by_one.items()}

    # Rounding differs with the batch, and may turn a gray level over.
    assert scores(1, 2) == pytest.approx(expected, abs=2e-3)
    assert scores(4, 4) == pytest.approx(expected, abs=2e-3)
    assert np.std(one_by_one["metric_mae"]) > 0.01

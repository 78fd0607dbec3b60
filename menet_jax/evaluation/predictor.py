"""Saliency maps of single images with a trained network."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32
from PIL import Image

from menet_jax.images.files import Rgb, read_image, resize_image
from menet_jax.images.maps import resize_map
from menet_jax.images.opening import upright
from menet_jax.model.inference import Maps, Network, map_evaluation, outputs_and_maps
from menet_jax.model.outputs import Outputs
from menet_jax.runtime.devices import put_everywhere
from menet_jax.runtime.regular_files import at_home
from menet_jax.runtime.text import warn
from menet_jax.training.config import Config
from menet_jax.training.network import background_region, network
from menet_jax.training.run import load_run
from menet_jax.training.run_folder import RELEASED


class Predictor(Network):
    """A trained network: image → saliency map. `load_predictor` makes one of a run.

    >>> import numpy as np
    >>> from pathlib import Path
    >>> from menet_jax import Config, MENet, Predictor
    >>> from menet_jax.model.initialisation import initial_variables
    >>> from menet_jax.training.config import ModelConfig
    >>> config = Config(run=Path("runs/mine"), steps=10, model=ModelConfig(width=1))
    >>> predictor = Predictor(config, initial_variables(MENet(width=1), seed=0))
    >>> predictor(np.zeros((30, 40, 3), np.uint8)).shape
    (30, 40)
    """

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, Any],
        devices: Sequence[jax.Device] | None = None,
        batch_size: int = 1,
        about: str = "of no run",
    ) -> None:
        """Put a network on devices.

        Args:
            config: the configuration that it was trained with.
            variables: `params` and `batch_stats`.
            devices: of this process; by default the first one, all that one image at a time can use.
            batch_size: images computed at once; rounded up to a multiple of the devices.
            about: which network it is, in words.
        """
        used = list(devices) if devices else jax.local_devices()[:1]
        evaluate = map_evaluation(network(config), background_region(config.loss), used)
        there = put_everywhere(variables, used)
        self.about = about
        batch_size = -(-batch_size // len(used)) * len(used)
        super().__init__(partial(evaluate, there), config.data.size, batch_size, config.model.maps)

    def __repr__(self) -> str:
        return f"<Predictor {self.about}>"

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Float32[np.ndarray, "h w"]:
        """The metric map of one image (Eq. 5), in [0, 1], at the image's own size; 1 is most salient.

        Args:
            image: a path, an open Pillow image, or an RGB array (H, W, 3) uint8. Files and Pillow images of every
                mode are read as training reads them, upright as their EXIF orientation says.

        Raises:
            UnreadableImageError: the file is not an image, or a damaged one.
            ValueError: the array is not an RGB image; or the network has no metric map.
        """
        metric = self.maps(image).metric
        if metric is None:
            raise ValueError(f"{self!r} has no metric map; ask for `maps(image).probability`")
        return np.asarray(metric)

    def maps(self, image: str | Path | Image.Image | np.ndarray) -> Maps:
        """Both maps of one image, `metric` and `probability`; `__call__` gives the first."""
        rgb = _to_rgb(image)
        [small] = self.evaluate([resize_image(rgb, (self.size, self.size))])
        return small.each(lambda each: resize_map(np.asarray(each), rgb.shape[:2]))


def look_inside(config: Config, variables: Mapping[str, Any], image: Rgb) -> tuple[Outputs, Maps]:
    """Outputs and both maps of a network (`params` and `batch_stats`) for one image of any size.

    They are at the network's size, without batch axis.
    """
    size = config.data.size
    compute = jax.jit(partial(outputs_and_maps, network(config), region=background_region(config.loss)))
    one: tuple[Outputs, Maps] = compute(variables, resize_image(image, (size, size))[None])
    return jax.tree.map(lambda x: np.asarray(x[0]), one)


def load_predictor(
    run: str | Path = RELEASED, *, newest: bool = False, report: Callable[[str], None] = warn
) -> Predictor:
    """A predictor with the best checkpoint of a run; its `repr` names the checkpoint.

    Args:
        run: the run directory; by default the network that comes with the package.
        newest: take the newest checkpoint instead of the best.
        report: told of damaged checkpoints, which are skipped; by default they are printed to stderr.

    Raises:
        FileNotFoundError: there is no run there, or it has no checkpoint yet.
        ValueError: the configuration cannot be read, or all checkpoints are damaged.

    >>> import numpy as np
    >>> from menet_jax import load_predictor
    >>> predictor = load_predictor(run)  # a run directory, as training wrote it
    >>> maps = predictor.maps(np.zeros((30, 40, 3), np.uint8))
    >>> maps.metric.shape, maps.probability.shape
    ((30, 40), (30, 40))
    """
    trained = load_run(at_home(run), newest=newest, report=report)
    return Predictor(trained.config, trained.variables, about=f"{run}, {trained.history}")


def _to_rgb(image: str | Path | Image.Image | np.ndarray) -> Rgb:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (height, width, 3) uint8; this array is {image.shape} {image.dtype}")
        return image
    if isinstance(image, Image.Image):
        # Through a lossless file, for `read_image` to be all that turns modes into RGB.
        turned = upright(image)
        file = io.BytesIO()
        (turned.convert("RGBA") if turned.has_transparency_data else turned).save(file, "TIFF")
        return read_image(file.getvalue(), "Pillow image")
    return read_image(at_home(image))

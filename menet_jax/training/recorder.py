"""What a run leaves to read: one JSON line per log step, TensorBoard scalars, pictures of sample maps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

from menet_jax.images.files import resize_mask
from menet_jax.images.pictures import grid
from menet_jax.runtime.json_values import finite
from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.validation import Sample


class Recorder:
    """Writes `logs/log.jsonl`, TensorBoard events beside it, and `samples/step_<n>.png`, under a run directory.

    A resumed run's records of steps after `step`, which it is about to repeat, are dropped.
    """

    def __init__(self, run: Path, step: int) -> None:
        logs, self._samples = run / "logs", run / "samples"
        logs.mkdir(parents=True, exist_ok=True)
        self._samples.mkdir(exist_ok=True)
        path = logs / "log.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        with written_whole(path) as rewritten:  # nothing is lost if the run is killed here
            rewritten.write_text("".join(line + "\n" for line in kept))
        self._log = path.open("a")
        self._board = SummaryWriter(str(logs), purge_step=step + 1 if step else None)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        self._board.close()

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step; `kind` is train or validation."""
        self._write({"step": step, "kind": kind, **values})
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def samples(self, step: int, samples: Sequence[Sample]) -> Path:
        """Write a picture: two samples a row, each image, ground truth, probability map and metric map."""
        picture = sample_grid(samples)
        path = self._samples / f"step_{step:06d}.png"
        with written_whole(path) as unfinished:
            Image.fromarray(picture).save(unfinished, compress_level=3)  # half the time of the default, little larger
        self._board.add_image("validation/samples", picture, step, dataformats="HWC")
        return path

    def _write(self, record: dict[str, Any]) -> None:
        self._log.write(json.dumps(finite(record), allow_nan=False) + "\n")
        self._log.flush()


def sample_grid(samples: Sequence[Sample]) -> np.ndarray:
    """Two samples a row, each as image, ground truth, probability map, metric map; uint8 RGB."""
    pictures = []
    for sample in samples:
        size = sample.image.shape[0], sample.image.shape[1]
        gray = (resize_mask(sample.mask, size), sample.maps.probability, sample.maps.metric)
        pictures.append(sample.image)
        pictures += [np.repeat(np.rint(255.0 * g).astype(np.uint8)[..., None], 3, axis=-1) for g in gray]
    return grid(np.stack(pictures), columns=8)


def _lines(path: Path) -> list[str]:
    """The whole lines of a log; the last one is cut off if the run was killed while writing it."""
    if not path.exists():
        return []
    *whole, _ = path.read_text().split("\n")
    return whole

"""How fast maps are scored, against PySODMetrics."""

import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from menet_jax.benchmark.measuring import medians
from menet_jax.benchmark.options import Scores
from menet_jax.evaluation.map_folders import match
from menet_jax.evaluation.scoring import ImageResult, score_folder
from menet_jax.images.files import read_mask
from menet_jax.images.maps import read_map
from menet_jax.metrics.measures import pysodmetrics
from menet_jax.metrics.scores import DatasetScores, dataset_scores, score_image
from menet_jax.runtime.parallel import workers


def run(options: Scores) -> None:
    """Compare both; see `options.Scores`."""
    found, package, processes = match(options.maps, options.masks), pysodmetrics(), options.processes
    arrays = [(read_map(path), read_mask(mask)) for path, mask in found.pairs]
    ours, theirs = dict[str, DatasetScores](), dict[str, tuple[float, float]]()

    def evaluation() -> None:
        outcomes = score_folder(found, pool, measures=False)
        ours["files"] = dataset_scores([each.scores for each in outcomes if isinstance(each, ImageResult)])

    def scoring() -> None:
        ours["arrays"] = dataset_scores([score_image(*pair) for pair in arrays])

    def reference(name: str, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the class has a successor, which is slower
            f, mae = package.Fmeasure(), package.MAE()
        for saliency, mask in pairs:
            f.step(saliency, mask)
            mae.step(saliency, mask)
        theirs[name] = float(f.get_results()["fm"]["adp"]), float(mae.get_results()["mae"])

    def from_files() -> None:
        reference("files", ((_gray(path), _gray(mask)) for path, mask in found.pairs))

    truths = [(saliency, mask.view(np.uint8) * np.uint8(255)) for saliency, mask in arrays]
    with workers(processes, processes=True) as pool:
        evaluation()
        times = medians([evaluation, from_files, scoring, partial(reference, "arrays", truths)], options.rounds)
    print(f"{len(arrays)} maps of {options.maps}, {options.rounds} rounds")
    for index, (name, count) in enumerate([("files", processes), ("arrays", 1)]):
        own, other = times[2 * index : 2 * index + 2]
        f, mae = ours[name].adaptive_f - theirs[name][0], ours[name].mae - theirs[name][1]
        print(
            f"  from {name:7} {len(arrays) / own.wall:6.0f} images/s in {count} process{'es'[: 2 * (count > 1)]}, "
            f"PySODMetrics {len(arrays) / other.wall:6.0f}: {other.wall / own.wall:.1f} times "
            f"({other.cpu / own.cpu:.1f} of CPU seconds); adaptive F differs by {abs(f):.0e}, MAE by {abs(mae):.0e}"
        )


def _gray(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))

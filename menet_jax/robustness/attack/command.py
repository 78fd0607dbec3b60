"""The command `python -m menet_jax.robustness attack`: what it says and does."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from menet_jax.data.sources import Example
from menet_jax.images.maps import quantise
from menet_jax.reporting.plots.rows import Row, image_rows
from menet_jax.robustness.analysis.inputs import Inputs, run_analysis
from menet_jax.robustness.analysis.loop import Analysis, Stage, analyse
from menet_jax.robustness.analysis.networks import MeasuredNetwork, cache_key
from menet_jax.robustness.analysis.report import leave
from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.attack import report
from menet_jax.robustness.attack.measurement import MEANING, Images, Measurement, attacks, measure, nested, scored
from menet_jax.robustness.attack.transfer import Attacked, transfers
from menet_jax.robustness.options import Attack, AttackSettings, among

ATTACKED = "attacked"
"""Folder of the attacked images."""

SHOWN = 3
"""Images of each run and dataset that are drawn: those that lose most F at the greatest strength."""


def run(options: Attack) -> int:
    """Do what the command line asks for; the exit status, see `Attack`."""
    strengths = ", ".join(f"{strength:g}" for strength in options.strengths)
    about = f"attack   {options.map} map, {options.norm}, strengths {strengths}; seed {options.seed}"
    return run_analysis(options, options.map, about, do)


def do(options: Attack, work: Inputs) -> int:
    """Attack and report; the exit status."""
    settings, folder = among(AttackSettings, options), options.dest / ATTACKED if options.dest else None
    batch_size = min(options.batch_size, max(len(places) for _, places in work.datasets))
    measured = partial(_measured, folder, batch_size)
    found, failures = analyse(work, settings, measured, Measurement, MEANING, batch_size=batch_size)
    analyses = [replace(analysis, images=tuple(map(nested, analysis.images))) for analysis in found]
    attacked = partial(_attacked, folder or Path(), settings)

    def figures(_: Path) -> list[tuple[str, Figure]]:
        worst = [_worst(settings, analysis, attacked) for analysis in analyses if analysis.images]
        return [*report.curves(analyses, settings), *worst]

    transferred = transfers(analyses, attacked) if folder else []
    tables, rows = report.tables(analyses, transferred, settings), report.image_rows(analyses)
    return leave(options.dest, tables, rows, figures, settings=asdict(settings), failures=failures)


def _measured(
    folder: Path | None,
    batch_size: int,
    of: MeasuredNetwork,
    examples: Sequence[Example],
    settings: AttackSettings,
    stage: Stage,
) -> list[Measurement | ValueError]:
    """Measure images and, where there is a folder, keep the attacked images in it."""
    results = measure(of, examples, settings, stage, batch_size)
    for example, result in zip(examples, results, strict=True):
        if folder and not isinstance(result, ValueError):
            _kept(folder, settings, of, example, partial(np.asarray, result[1]))
    return [result if isinstance(result, ValueError) else result[0] for result in results]


def _attacked(folder: Path, settings: AttackSettings, of: MeasuredNetwork, example: Example) -> Images:
    """The attacked images of the greatest strength; they are searched for anew only if they were not kept."""

    def last() -> Images:
        *_, found = attacks(of, [example], settings, batch_size=1, stage=lambda _: None)
        return found[0]

    return _kept(folder, settings, of, example, last)


def _kept(
    folder: Path, settings: AttackSettings, of: MeasuredNetwork, example: Example, find: Callable[[], Images]
) -> Images:
    key = cache_key(of, example, settings, MEANING)
    return kept_arrays(folder, key, lambda: {"images": find()})["images"]


def _worst(settings: AttackSettings, analysis: Analysis[Measurement], attacked: Attacked) -> tuple[str, Figure]:
    """The images that lose most: as they are, the change, and the maps before and after it."""
    network = analysis.network
    ranked = sorted(analysis.images, key=lambda image: image.strengths[-1].attack.adaptive_f - image.clean.adaptive_f)
    rows = list[Row]()
    for image in ranked[:SHOWN]:
        example = analysis.example(image.image)
        x = network.seen(example.image)
        after, moved = min(
            ((scored(network, each, example).adaptive_f, each) for each in attacked(network, example)),
            key=itemgetter(0),
        )
        times = 127 / max(float(np.abs(moved - x).max()), 1e-6)
        pictures = [
            x.astype(np.uint8),
            np.clip(np.rint(128 + times * (moved - x)), 0, 255).astype(np.uint8),
            quantise(network.saliency(x)),
            quantise(network.saliency(moved)),
        ]
        aspect = example.image.shape[0] / example.image.shape[1]
        note = f"{Path(image.image).stem}\nF {image.clean.adaptive_f:.2f} → {after:.2f}\nchange × {times:.0f}"
        rows.append(Row(aspect, pictures, () if rows else ["image", "change", "map", "map after"], note))
    footnote = f"{analysis.run.name}: the change of strength {settings.strengths[-1]:g} that costs most F"
    return f"worst_{analysis.run.name}_{analysis.dataset.name}", image_rows(rows, footnote)

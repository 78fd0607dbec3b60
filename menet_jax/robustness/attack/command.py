"""The command `python -m menet_jax.robustness attack`: what it says and does."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from menet_jax.data.sources import Example
from menet_jax.images.maps import quantise
from menet_jax.reporting.plots import Row, image_rows
from menet_jax.robustness.analysis.inputs import Subjects, open_subjects, opened_lines, run_analysis, say_failures
from menet_jax.robustness.analysis.loop import Analysis, analyse
from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.analysis.subject import Subject, determinants
from menet_jax.robustness.attack import report
from menet_jax.robustness.attack.measurement import MEANING, Image, Measurement, attacks, measure, saliency
from menet_jax.robustness.options import Attack, AttackSettings
from menet_jax.runtime.text import say

ATTACKED = "attacked"
"""Folder of the changed images that are drawn."""

SHOWN = 3
"""Images of each run and dataset that are drawn: those that lose most F at the greatest strength."""


def prepare(options: Attack) -> Subjects:
    """Open and check everything, before anything is computed.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    return open_subjects(options, options.reading, options.limit)


def run(options: Attack) -> int:
    """Do what the command line asks for; the exit status, see `Attack`."""
    return run_analysis(options, prepare, do)


def do(options: Attack, used: Sequence[jax.Device], work: Subjects) -> int:
    """Attack and report; the exit status."""
    settings = options.settings()
    strengths = ", ".join(f"{strength:g}" for strength in settings.strengths)
    attack = f"attack   {options.reading} map, {options.norm}, strengths {strengths}; seed {options.seed}"
    say(*opened_lines(work.runs, work.datasets, used), attack)
    analyses, failures = analyse(work, settings, measure, Measurement, MEANING)
    for table in report.tables(analyses, settings):
        say(f"\n{table.text()}")
    if options.dest:
        figures = [_worst(settings, work, analysis, options.dest) for analysis in analyses if analysis.images]
        written = report.write(analyses, failures, settings, figures, options.dest)
        say(f"wrote {', '.join(path.name for path in written)} to {options.dest}")
    return say_failures(failures)


def _moved(subject: Subject, example: Example, settings: AttackSettings, folder: Path) -> Image:
    """The changed image of the greatest strength whose map moves furthest, found anew only if it was not kept."""

    def compute() -> dict[str, Image]:
        *_, (moved, *_) = attacks(subject, example, settings)
        return {"moved": moved}

    of = determinants(subject, example, settings, MEANING)
    return kept_arrays(folder, Path(example.file_name).stem, of, compute)["moved"]


def _worst(settings: AttackSettings, work: Subjects, analysis: Analysis[Measurement], dest: Path) -> tuple[str, Figure]:
    """The images that lose most: as they are, the change, and the maps before and after it."""
    subject, places = work.of(analysis.run, analysis.dataset)
    ranked = sorted(analysis.images, key=lambda image: image.strengths[-1].attack.adaptive_f - image.clean.adaptive_f)
    rows = list[Row]()
    for image in ranked[:SHOWN]:
        place = places[image.image]
        example = place.source[place.number]
        x, moved = subject.seen(example.image), _moved(subject, example, settings, dest / ATTACKED)
        times = 127 / max(float(np.abs(moved - x).max()), 1e-6)
        pictures = [
            x.astype(np.uint8),
            np.clip(np.rint(128 + times * (moved - x)), 0, 255).astype(np.uint8),
            quantise(saliency(subject, x)),
            quantise(saliency(subject, moved)),
        ]
        aspect = example.image.shape[0] / example.image.shape[1]
        note = f"{Path(image.image).stem}\nF {image.clean.adaptive_f:.2f}, change × {times:.0f}"
        rows.append(Row(aspect, pictures, () if rows else ["image", "change", "map", "map after"], note))
    footnote = f"{analysis.run.name}: the change of strength {settings.strengths[-1]:g} that moves the map furthest"
    return f"worst_{analysis.run.name}_{analysis.dataset.name}", image_rows(rows, footnote)

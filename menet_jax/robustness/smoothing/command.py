"""The command `python -m menet_jax.robustness smooth`: what it says and does."""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from menet_jax.data.sources import Example
from menet_jax.images.files import resize_image, resize_mask
from menet_jax.images.pictures import TINT
from menet_jax.reporting.plots.rows import Row, gray, image_rows
from menet_jax.robustness.analysis.inputs import Inputs, run_analysis
from menet_jax.robustness.analysis.loop import Analysis, Stage, analyse, one_by_one
from menet_jax.robustness.analysis.networks import MeasuredNetwork, cache_key
from menet_jax.robustness.analysis.report import evenly, leave
from menet_jax.robustness.analysis.results_cache import kept_arrays
from menet_jax.robustness.options import Smooth, SmoothSettings, among
from menet_jax.robustness.smoothing import report
from menet_jax.robustness.smoothing.certificate import Certificate, certify, fewest_samples, holm
from menet_jax.robustness.smoothing.measurement import MEANING, Measurement, counted, measure
from menet_jax.runtime.text import say

COUNTS = "counts"
"""Folder of what was counted of the images that are drawn."""

SHOWN = 3
"""Images of each run and dataset that are drawn: the first, the middle and the last by their certified share."""


def run(options: Smooth) -> int:
    """Do what the command line asks for; the exit status, see `Smooth`."""
    sigmas = ", ".join(f"{sigma:g}" for sigma in options.sigmas)
    about = f"noise    σ {sigmas}; {options.guesses} + {options.samples} samples of each; seed {options.seed}"
    return run_analysis(options, "probability", about, do, partial(refuse_too_few, options))


def refuse_too_few(options: Smooth, work: Inputs) -> None:
    """Raise ValueError if there are so few samples that no pixel could be certified, whatever they say."""
    pixels, threshold = max(of.size**2 for _, of in work.runs), max(options.thresholds)
    fewest = fewest_samples(pixels, threshold, options.risk)
    if options.samples < fewest:
        raise ValueError(
            f"--samples {options.samples}: certify nothing of {pixels:,} pixels at --thresholds {threshold} and --risk "
            f"{options.risk}, even where all agree; give {fewest} or more"
        )


def do(options: Smooth, work: Inputs) -> int:
    """Certify and report; the exit status."""
    settings, start, drawn = among(SmoothSettings, options), time.monotonic(), list[int]()

    def measured(of: MeasuredNetwork, example: Example, settings: SmoothSettings, stage: Stage) -> Measurement:
        found = measure(of, example, settings, stage)
        drawn.extend({each.sigma: each.samples for each in found.certified}.values())
        return found

    analyses, failures = analyse(work, settings, one_by_one(measured), Measurement, MEANING)
    if drawn:
        taken, passes = time.monotonic() - start, sum(drawn) + len(drawn) * settings.guesses
        say(f"{passes:,} noisy images in {taken:.0f} s, {passes / taken:.1f} images/s with compilation")
        if spared := len(drawn) * settings.samples - sum(drawn):
            say(f"{spared:,} more were not needed, for all pixels were decided")

    def figures(dest: Path) -> list[tuple[str, Figure]]:
        return [_figure(settings, analysis, dest / COUNTS) for analysis in analyses if analysis.images]

    tables, rows = [report.table(analyses, settings)], report.image_rows(analyses)
    return leave(options.dest, tables, rows, figures, settings=asdict(settings), failures=failures)


def _counted(of: MeasuredNetwork, example: Example, settings: SmoothSettings, folder: Path) -> dict[str, np.ndarray]:
    """What is counted under the first noise, found anew only if it was not kept."""

    def compute() -> dict[str, np.ndarray]:
        found = counted(of, example, settings, settings.sigmas[0])
        return {"guess": found.guess, "counts": found.tested}

    return kept_arrays(folder, cache_key(of, example, settings, MEANING), compute)


def _figure(settings: SmoothSettings, analysis: Analysis[Measurement], folder: Path) -> tuple[str, Figure]:
    """Images, their masks, and both smoothed maps with what of them is certified."""
    of = analysis.network
    ranked = sorted(analysis.images, key=lambda image: -image.certified[0].share)
    rows = list[Row]()
    for image in evenly(ranked, SHOWN):
        example = analysis.example(image.image)
        found = _counted(of, example, settings, folder)
        pictures, headings = [], []
        for each, name in enumerate(of.maps):
            samples = found["guess"][each], settings.guesses, found["counts"][each], settings.samples
            certificate = certify(*samples, settings.thresholds[0], settings.risk, holm)
            pictures += [gray(certificate.salient), _certified(certificate)]
            headings += [f"{name}, smoothed", f"{name}, certified"]
        size = (of.size, of.size)
        shown = [resize_image(example.image, size), gray(resize_mask(example.mask, size)), *pictures]
        aspect = example.image.shape[0] / example.image.shape[1]
        rows.append(Row(aspect, shown, () if rows else ["image", "mask", *headings], Path(example.file_name).stem))
    footnote = f"{analysis.run.name}, σ {settings.sigmas[0]:g}, τ {settings.thresholds[0]:g}; red: abstained from"
    return f"certified_{analysis.run.name}_{analysis.dataset.name}", image_rows(rows, footnote)


def _certified(found: Certificate) -> UInt8[np.ndarray, "h w 3"]:
    """White and black where certified, red elsewhere."""
    picture = np.repeat(gray(found.salient)[..., None], 3, axis=2)
    picture[~found.certified] = TINT
    return picture

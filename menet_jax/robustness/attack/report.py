"""What attacks leave behind: a table, the numbers of every image, curves over the strength, and the worst images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from menet_jax.reporting.plots.worst_cases import GainCurve, attack_curves
from menet_jax.reporting.tables import Score, Table
from menet_jax.robustness.analysis.loop import Analysis
from menet_jax.robustness.analysis.report import UNITS, grouped, record
from menet_jax.robustness.attack.measurement import AtStrength, Compressed, Measurement, Scores
from menet_jax.robustness.attack.transfer import TOLERANCE, Transfer
from menet_jax.robustness.options import AttackSettings

UNIT = {"l2": "gray levels, root of the mean square", "linf": "gray levels at most"}

Found = Sequence[Analysis[Measurement]]


def tables(analyses: Found, transferred: Sequence[Transfer], settings: AttackSettings) -> list[Table]:
    """Everything that is printed and written."""
    always = [_strengths(analyses, settings), _compression(analyses, settings)]
    return [*always, _transfers(transferred, settings)] if transferred else always


def _strengths(analyses: Found, settings: AttackSettings) -> Table:
    """A row for each strength of each run on each dataset."""
    unit = UNITS[settings.map]
    gain = f"mean ‖F(x+Δ) − F(x)‖₂ / ‖Δ‖ of the noise, ‖Δ‖ in {settings.norm}; {unit}"
    norm = "mean over images, each to 1 % or from 64 iterations: in l2 the largest gain of small changes"
    columns: list[tuple[Score, Callable[[Measurement, AtStrength], float]]] = [
        (
            Score("F clean", "mean adaptive F of the images' maps without any change"),
            lambda image, _: image.clean.adaptive_f,
        ),
        (Score("F noise", "the same under noise of this strength"), lambda _, at: at.noise.adaptive_f),
        (
            Score("F attack", "the lowest that was found within this strength; the worst case is no better"),
            lambda _, at: at.attack.adaptive_f,
        ),
        (Score("F file", "the same of images rounded to 8 bits"), lambda _, at: at.file.adaptive_f),
        (Score("MAE attack", "mean absolute error under the attack", True), lambda _, at: at.attack.mae),
        (Score("noise gain", gain, True, ".3g"), lambda _, at: at.noise_gain),
        (
            Score("attack gain", "mean of the largest that was found, a lower bound on the worst case", True, ".3g"),
            lambda _, at: at.attack_gain,
        ),
        (
            Score("noise flips", "mean share of the map's pixels that change class under the noise", True, ".3g"),
            lambda _, at: at.noise_flipped,
        ),
        (
            Score("attack flips", "mean of the largest share that was found", True, ".3g"),
            lambda _, at: at.attack_flipped,
        ),
        (Score("‖J‖₂", norm, True, ".3g"), lambda image, _: image.spectral),
    ]
    records = []
    for analysis, (index, strength) in product(analyses, enumerate(settings.strengths)):
        pairs = [(image, image.strengths[index]) for image in analysis.images]
        numbers = {score.name: _mean(of(*pair) for pair in pairs) for score, of in columns if pairs}
        labels = {"map": settings.map, "norm": settings.norm, "strength": f"{strength:g}"}
        records.append(record(analysis, f"{strength:g}", labels, numbers))
    title = f"Worst changes found of the network's {settings.map} map; strength in {UNIT[settings.norm]}"
    return Table("attack", title, grouped(records), [score for score, _ in columns])


def _compression(analyses: Found, settings: AttackSettings) -> Table:
    """A row for each quality of each run on each dataset."""
    columns: list[tuple[Score, Callable[[Compressed], float]]] = [
        (Score("strength", f"mean, in {UNIT[settings.norm]}", None, ".3g"), lambda at: at.strength),
        (Score("F", "mean adaptive F of the compressed images' maps"), lambda at: at.scores.adaptive_f),
    ]
    records = []
    for analysis, (index, quality) in product(analyses, enumerate(settings.qualities)):
        compressed = [image.compressed[index] for image in analysis.images]
        numbers = {score.name: _mean(map(of, compressed)) for score, of in columns if compressed}
        labels = {"map": settings.map, "quality": f"{quality}"}
        records.append(record(analysis, f"JPEG {quality}", labels, numbers))
    title = "JPEG compression of the image at the network's size"
    return Table("compression", title, grouped(records), [score for score, _ in columns])


def _transfers(transferred: Sequence[Transfer], settings: AttackSettings) -> Table:
    """A row for each pair of runs on each dataset."""
    scores = [
        Score("F own", "mean adaptive F under the attack found on the run itself"),
        Score("F transferred", "the same under the attack found on the other run"),
        Score("stronger", f"share of images where the latter costs more, by over {TOLERANCE} of F", True, ".2f"),
    ]
    records = []
    for each in transferred:
        labels = {"map": settings.map, "found on": each.source.name}
        numbers = {"F own": _mean(each.own), "F transferred": _mean(each.transferred), "stronger": each.stronger}
        records.append(record(each.target, f"from {each.source.name}", labels, numbers))
    title = f"Attacks found on another run, strength {settings.strengths[-1]:g}"
    return Table("transfer", title, grouped(records), scores)


def curves(analyses: Found, settings: AttackSettings) -> list[tuple[str, Figure]]:
    """`attack_<dataset>`, over the strength."""
    by_dataset: dict[str, list[Analysis[Measurement]]] = {}
    for analysis in analyses:
        if analysis.images:
            by_dataset.setdefault(analysis.dataset.truth, []).append(analysis)
    return [
        (
            f"attack_{several[0].dataset.name}",
            attack_curves(
                [_curve(analysis) for analysis in several],
                f"{several[0].dataset.name}, {settings.map} map, {settings.norm}, {len(several[0].images)} images",
                f"strength of the change, {UNIT[settings.norm]}",
            ),
        )
        for several in by_dataset.values()
    ]


def _curve(analysis: Analysis[Measurement]) -> GainCurve:
    by_strength = list(zip(*(image.strengths for image in analysis.images), strict=True))
    by_quality = list(zip(*(image.compressed for image in analysis.images), strict=True))
    return GainCurve(
        label=analysis.run.name,
        clean=_mean_f(image.clean for image in analysis.images),
        noise={images[0].strength: _mean_f(at.noise for at in images) for images in by_strength},
        attack={images[0].strength: _mean_f(at.attack for at in images) for images in by_strength},
        jpeg={_mean(at.strength for at in images): _mean_f(at.scores for at in images) for images in by_quality},
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_f(scores: Iterable[Scores]) -> float:
    return _mean(each.adaptive_f for each in scores)


def image_rows(analyses: Found) -> list[dict[str, Any]]:
    """A line for each image and strength."""
    changes = ("noise", "attack", "file")  # whose scores have columns of their own
    return [
        {
            "dataset": analysis.dataset.name,
            "run": analysis.run.name,
            "image": image.image,
            "spectral": image.spectral,
            "clean_f": image.clean.adaptive_f,
            **{name: value for name, value in asdict(at).items() if name not in changes},
            **{f"{kind}_{name}": value for kind in changes for name, value in getattr(at, kind)._asdict().items()},
        }
        for analysis in analyses
        for image in analysis.images
        for at in image.strengths
    ]

"""The command `python -m menet_jax.robustness summary`: noise, attack and certificate of the same images together."""

import csv
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from menet_jax.reporting.files import IMAGES, file_name, write_results
from menet_jax.reporting.plots.ends import EndsCurves, ends_curves
from menet_jax.reporting.plots.page import save
from menet_jax.reporting.tables import RESULTS, Record, Score, Table
from menet_jax.robustness.analysis.report import grouped
from menet_jax.robustness.summary_options import Summary
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.progress import Bar
from menet_jax.runtime.text import listed, say

EACH = "images"
"""Folder of the figures of single images."""

CHANNELS = 3
"""Values of the image for each of the map: a change of strength 1 is √3 times as long as a map that moves by 1."""

ATTACK = {"strength", "spectral", "noise_moved", "attack_moved", "noise_flipped", "attack_flipped"}
SMOOTH = {"map", "strength", "share"}
"""Columns of `images.csv` that are read, besides whose line it is."""

Lines = list[dict[str, str]]


class Pair(NamedTuple):
    """One run on one dataset."""

    dataset: str
    run: str


class Written(NamedTuple):
    """What the commands wrote.

    Attributes:
        map: the map that was attacked.
        attack, smooth: pair → lines of `images.csv`, of this map and of images that both have.
        bound: run → the 2-norm of Eq. 13.
        notes: what only some of them have, and is left out.
    """

    map: str
    attack: Mapping[Pair, Lines]
    smooth: Mapping[Pair, Lines]
    bound: Mapping[str, float]
    notes: Sequence[str]


def run(options: Summary) -> int:
    """Do what the command line asks for; the exit status, see `Summary`."""
    return run_command(lambda: read(options), lambda written: do(options, written))


def read(options: Summary) -> Written:
    """Read and check everything.

    Raises:
        ValueError, OSError: something cannot be used; the text says what, and what to do.
    """
    settings = _results(options.attack, "attack")["settings"]
    _results(options.smooth, "smooth")
    _check_columns(options.attack / RESULTS, {"map"} - settings.keys())
    if settings["norm"] != "l2":
        raise ValueError(f"--attack {options.attack}: bounded by {settings['norm']}; certificates are of --norm l2")
    attack, smooth = _pairs(options.attack, ATTACK), _pairs(options.smooth, SMOOTH)
    smooth = {pair: [line for line in lines if line["map"] == settings["map"]] for pair, lines in smooth.items()}
    both = {pair: _names(attack[pair]) & _names(smooth[pair]) for pair in attack if pair in smooth}
    if not any(both.values()):
        raise ValueError(
            f"--attack {options.attack} and --smooth {options.smooth} have no image in common, of the same run, "
            f"dataset and {settings['map']} map; compute both with the same --run and --data"
        )

    def common(of: Mapping[Pair, Lines]) -> dict[Pair, Lines]:
        return {pair: [each for each in of[pair] if each["image"] in names] for pair, names in both.items() if names}

    bound = _bound(options.bound, settings["map"]) if options.bound else {}
    notes = list(_left_out(attack, smooth, bound))
    return Written(settings["map"], common(attack), common(smooth), bound, notes)


def do(options: Summary, written: Written) -> int:
    """Report; the exit status."""
    images = {pair: _names(lines) for pair, lines in written.attack.items()}
    curves = {pair: _curves(written, pair, names) for pair, names in images.items()}
    table = summary_table(written, curves, {pair: len(names) for pair, names in images.items()})
    figures = [
        (_stem(pair), ends_curves(of, f"{_title(written, pair)}, {len(images[pair])} images"))
        for pair, of in curves.items()
    ]
    lines = [
        {**line, "kind": kind}
        for kind, of in (("attack", written.attack), ("smooth", written.smooth))
        for several in of.values()
        for line in several
    ]
    options.dest.mkdir(parents=True, exist_ok=True)
    content = {"map": written.map, "tables": {table.stem: table.content()}}
    others = partial(_draw_images, options.dest / EACH, written, images) if options.each_image else list
    files = write_results(options.dest, [table], lines, figures, content, others=others)
    names = [path.name for path in files if path.parent == options.dest]
    notes = [f"note: {note}" for note in written.notes]
    drawn = len(files) - len(names)
    also = f" and {drawn:,} files to {options.dest / EACH}" if drawn else ""
    say(f"\n{table.text()}", *notes, f"wrote {', '.join(names)} to {options.dest}{also}")
    return 0


def _draw_images(folder: Path, written: Written, images: Mapping[Pair, Set[str]]) -> list[Path]:
    """Draw the figure of every image; the files written."""
    each = [(pair, name) for pair, names in images.items() for name in sorted(names)]
    files, taken, stems = list[Path](), set[str](), Counter((pair, Path(name).stem) for pair, name in each)
    with Bar(total=len(each), unit="figure") as bar:
        for pair, name in each:
            figure = ends_curves(_curves(written, pair, {name}), f"{_title(written, pair)}, {name}")
            label = Path(name).stem if stems[pair, Path(name).stem] == 1 else name
            files += save(figure, folder / file_name(f"{_stem(pair)}_{label}", taken))
            bar.update()
    return files


def _stem(pair: Pair) -> str:
    return f"summary_{pair.run}_{pair.dataset}"


def _title(written: Written, pair: Pair) -> str:
    return f"{pair.run} on {pair.dataset}, {written.map} map"


def summary_table(written: Written, curves: Mapping[Pair, EndsCurves], images: Mapping[Pair, int]) -> Table:
    """A row for noise, for the attack and for the certificate at each strength of each run on each dataset."""
    scores = [
        Score("moved", "root mean square change of the map, of values 0…1, mean over images", True, ".3g"),
        Score("slope", "‖J‖₂ · ‖Δ‖ (Eq. 11) in the same unit: what short changes do at worst", True, ".3g"),
        Score("flipped", "mean share of the map's pixels that change class, salient or not", True, ".3g"),
    ]
    records = []
    for pair, of in curves.items():
        found: dict[str, dict[str, Mapping[float, float]]] = {
            "noise, mean": {"moved": of.noise_moved, "flipped": of.noise_flipped},
            "attack, at least": {"moved": of.attack_moved, "slope": of.slope, "flipped": of.attack_flipped},
            "certificate, at most": {"flipped": of.certificate},
        }
        for kind, columns in found.items():
            for strength in columns["flipped"]:
                numbers = {name: column[strength] for name, column in columns.items()}
                labels = {**pair._asdict(), "map": written.map, "change": kind, "strength": f"{strength:.3g}"}
                labels["images"] = f"{images[pair]}"
                records.append(Record(f"{pair.dataset} {kind} {strength:.3g}", labels, numbers))
    title = "What noise does, what an attack found and what is certified; strength as σ of noise of the same length"
    return Table("summary", title, grouped(records), scores, written.notes)


def _curves(written: Written, pair: Pair, images: Set[str]) -> EndsCurves:
    """Of a run on a dataset, means over these images."""
    attack, smooth = ([line for line in of[pair] if line["image"] in images] for of in (written.attack, written.smooth))
    bound = written.bound.get(pair.run)
    return EndsCurves(
        noise_moved=_means(attack, "noise_moved"),
        attack_moved=_means(attack, "attack_moved"),
        slope={s: value * s * math.sqrt(CHANNELS) for s, value in _means(attack, "spectral").items()},
        noise_flipped=_means(attack, "noise_flipped"),
        attack_flipped=_means(attack, "attack_flipped"),
        certificate={s: 1 - share for s, share in _means(smooth, "share").items()},
        bound=None if bound is None else bound * math.sqrt(CHANNELS),
    )


def _means(lines: Lines, column: str) -> dict[float, float]:
    """Strength → mean over images, rising."""
    values = defaultdict[float, list[float]](list)
    for line in lines:
        values[float(line["strength"])].append(float(line[column]))
    return {strength: sum(several) / len(several) for strength, several in sorted(values.items())}


def _names(lines: Sequence[Mapping[str, str]]) -> set[str]:
    return {line["image"] for line in lines}


def _left_out(attack: Mapping[Pair, Lines], smooth: Mapping[Pair, Lines], bound: Mapping[str, float]) -> Iterator[str]:
    """Images of a run and dataset that only one of both has, and runs that are not bounded though others are."""
    pairs = dict.fromkeys([*attack, *smooth])
    for pair in pairs:
        if alone := _names(attack.get(pair, ())) ^ _names(smooth.get(pair, ())):
            yield f"{pair.run} on {pair.dataset}: only one of --attack and --smooth has {listed(sorted(alone))}"
    for run in dict.fromkeys(pair.run for pair in pairs if bound and pair.run not in bound):
        yield f"{run}: --bound does not have it"


def _pairs(folder: Path, columns: Set[str]) -> dict[Pair, Lines]:
    """The lines of `images.csv`; ValueError where it has lines without these columns."""
    pairs = defaultdict[Pair, Lines](list)
    with (folder / IMAGES).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for line in csv.DictReader(file):
            _check_columns(folder / IMAGES, {"dataset", "run", "image", *columns} - line.keys())
            pairs[Pair(line["dataset"], line["run"])].append(line)
    return dict(pairs)


def _results(folder: Path, table: str) -> dict[str, Any]:
    """What `results.json` holds, which must have a table of this name."""
    try:
        content: dict[str, Any] = json.loads((folder / RESULTS).read_bytes())
        _ = content["settings"], content["tables"][table]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{folder / RESULTS}: was not written by `robustness {table}`") from None
    return content


def _check_columns(file: Path, lacking: Set[str]) -> None:
    if lacking:
        lacks = f"{file}: without {', '.join(sorted(lacking))}, as an older version wrote it"
        raise ValueError(f"{lacks}; run that command again, with --overwrite")


def _bound(folder: Path, name: str) -> dict[str, float]:
    rows = _results(folder, "bounds")["tables"]["bounds"]["rows"]
    for row in rows:
        _check_columns(folder / RESULTS, {"map"} - row.keys())
    found = {row["run"]: row["scores"]["2-norm"] for row in rows if row["map"] == name}
    if not found:
        raise ValueError(f"--bound {folder}: is not of the {name} map; leave it out")
    return found

"""Tables: what is best, and how each format shows it."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from menet_jax.reporting import files
from menet_jax.reporting.files import write_results
from menet_jax.reporting.plots.rows import Row, image_rows
from menet_jax.reporting.tables import Record, Score, Table, best, legend

F = Score("f_a", "an F")
MAE = Score("mae", "an error", lower_is_better=True)


def record(group: str, name: str, competes: bool = True, **scores: float) -> Record:
    return Record(group, {"data": group, "method": name}, scores, competes)


def table(records: Sequence[Record], scores: Sequence[Score]) -> Table:
    return Table("results", "", records, scores)


RECORDS = [
    record("sod", "one", f_a=0.5, mae=0.1),
    record("sod", "two_%|", f_a=0.81234567, mae=0.2),
    record("sod", "three", f_a=0.81231, mae=0.3),
    record("sod", "partial", competes=False, f_a=0.9, mae=0.0),
    record("ecssd", "one", f_a=0.1),
]


def test_best_is_of_the_group_as_shown_and_comparable() -> None:
    assert best(RECORDS, F) == [False, True, True, False, False]
    assert best(RECORDS, MAE) == [True, False, False, False, False]
    assert best([], F) == []


def test_text_is_aligned_with_the_best_starred() -> None:
    head, *lines = table(RECORDS, [F, MAE]).text().splitlines()
    rows = lines[:4] + lines[5:6]
    assert lines[4] == ""  # between groups
    assert [line.split() for line in rows[:3]] == [
        ["sod", "one", "0.5000", "0.1000*"],
        ["sod", "two_%|", "0.8123*", "0.2000"],
        ["sod", "three", "0.8123*", "0.3000"],
    ]
    assert rows[4].split() == ["ecssd", "one", "0.1000", "–"]
    assert len({line.index(".") for line in rows}) == 1
    assert head.split() == ["data", "method", "f_a", "mae"]
    assert lines[-2:] == legend([F, MAE]) == ["f_a: an F; higher is better", "mae: an error; lower is better"]


def test_fewer_decimals_where_fewer_are_known() -> None:
    known = Record("sod", {"data": "sod", "method": "paper"}, {"f_a": 0.88}, competes=False, digits=3)
    lines = table([*RECORDS[:2], known], [F]).text().splitlines()
    assert lines[3].split() == ["sod", "paper", "0.880"]
    assert len({line.index(".") for line in lines[1:4]}) == 1
    assert "0.880 &" not in table([known], [F]).latex() and "0.880 \\" in table([known], [F]).latex()


def test_csv_has_numbers_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(table(RECORDS, [F, MAE]).csv())))
    assert [row["method"] for row in rows] == ["one", "two_%|", "three", "partial", "one"]
    assert float(rows[1]["f_a"]) == 0.81234567
    assert rows[4]["mae"] == ""


def test_markdown() -> None:
    lines = table(RECORDS, [F, MAE]).markdown().splitlines()
    assert lines[:4] == [
        "| data | method | f_a | mae |",
        "| --- | --- | ---: | ---: |",
        "| sod | one | 0.5000 | **0.1000** |",
        "| sod | two_%\\| | **0.8123** | 0.2000 |",
    ]


def test_latex() -> None:
    lines = table(RECORDS, [F, MAE]).latex().splitlines()
    assert lines[:2] == [f"% {line}" for line in legend([F, MAE])]
    assert lines[2:8] == [
        r"\begin{tabular}{llrr}",
        r"\toprule",
        r"data & method & f\_a & mae \\",
        r"\midrule",
        r"sod & one & 0.5000 & \textbf{0.1000} \\",
        r"sod & two\_\%| & \textbf{0.8123} & 0.2000 \\",
    ]
    assert lines[-4:] == [r"\midrule", r"ecssd & one & 0.1000 & -- \\", r"\bottomrule", r"\end{tabular}"]


def test_latex_escapes_every_command_character() -> None:
    text = table([Record("g", {"m": "\\ ~ ^ & % $ # _ { } AWGN σ 5–50"}, {})], []).latex()
    assert r"\textbackslash{} \textasciitilde{} \textasciicircum{} \& \% \$ \# \_ \{ \} AWGN $\sigma$ 5--50 \\" in text


def test_numbers_that_do_not_compete_and_have_a_form_of_their_own() -> None:
    norm, error = Score("norm", "a norm", True, ".3e"), Score("s.e.", "its error", None, ".2g")
    records = [
        Record("g", {"run": "a"}, {"norm": 1.00004e-9, "s.e.": 0.00123}),
        Record("g", {"run": "b"}, {"norm": 1.00001e-9}),
        Record("g", {"run": "c"}, {"norm": 2e-9, "s.e.": 0.5}),
    ]
    assert best(records, norm) == [True, True, False]  # equal as shown
    assert best(records, error) == [False, False, False]
    text = table(records, [norm, error]).text()
    assert "1.000e-09*  0.0012" in text and "–" in text and "* best of its group" in text
    assert legend([norm, error]) == ["norm: a norm; lower is better", "s.e.: its error"]
    assert "*" not in table(records, [error]).text()
    assert "-0" not in table([Record("g", {}, {"f_a": -0.00001})], [F]).text()


def test_every_number_is_json() -> None:
    """Which has no word for what is not finite."""
    text = files.json_text({"scores": [{"mae": math.nan, "f": 0.5}], "norm": math.inf})
    assert json.loads(text, parse_constant=pytest.fail) == {"scores": [{"mae": None, "f": 0.5}], "norm": None}


def test_a_folder_holds_results_only_when_it_holds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a command that was killed while it wrote would take what is there for its results."""
    figure = image_rows([Row(1.0, [np.zeros((2, 2), np.uint8)])])
    written = write_results(tmp_path, [], [], [("a", figure)], {})
    assert written[-1] == tmp_path / "results.json" and all(path.exists() for path in written)
    monkeypatch.setattr(files, "save", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path, [], [], [("a", figure)], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.csv"]


def test_new_results_leave_none_of_the_old_and_everything_else(tmp_path: Path) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside.png"
    (dest / "more").mkdir(parents=True)
    own, before, after = dest / "mine.txt", dest / "more" / "before.png", dest / "more" / "after.png"
    for path in (own, before, outside):
        path.touch()
    figure = image_rows([Row(1.0, [np.zeros((2, 2), np.uint8)])])
    write_results(dest, [], [], [("a", figure)], {"seed": 0}, others=lambda: [before])
    content = json.loads((dest / "results.json").read_text())
    assert content == {"seed": 0, files.LISTED: ["images.csv", "a.png", "a.pdf", "more/before.png"]}
    (dest / "link.png").symlink_to(own)
    content[files.LISTED] += ["../outside.png", "mine.txt", "link.png", "more", "a" * 300 + ".png", "\0.png", 3]
    (dest / "results.json").write_text(json.dumps(content))
    after.touch()
    write_results(dest, [], [], [("b", figure)], {}, others=lambda: [after])
    left = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()}
    assert left == {"mine.txt", "link.png", "images.csv", "b.png", "b.pdf", "more/after.png", "results.json"}
    assert outside.exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"files": ["a.png"]}', '{"menet_jax_files": "a.png"}'])
def test_results_of_others_are_replaced_and_nothing_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "results.json").write_text(text)
    written = write_results(tmp_path, [], [], [], {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", *(path.name for path in written)}

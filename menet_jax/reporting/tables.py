"""Results side by side in one table: for the terminal, as CSV, Markdown and LaTeX, the best of each group in bold.

A table is a sequence of `Record`s, which know nothing of where their numbers come from but what their labels say.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from menet_jax.runtime.text import printable

DIGITS = 4
"""Decimals shown. CSV has all of them."""

ABSENT = "–"
"""Shown where a record has no such score."""

RESULTS = "results.json"
"""The file of which every folder of results has one."""


@dataclass(frozen=True)
class Score:
    """A column of numbers.

    Attributes:
        name: the heading; a key of `Record.scores`.
        about: what it is, for the legend.
        lower_is_better: what is best in it; None: nothing is, numbers are only told.
        form: format specification of what is shown; None: as many decimals as the record has digits.
    """

    name: str
    about: str
    lower_is_better: bool | None = False
    form: str | None = None


@dataclass(frozen=True)
class Record:
    """A row.

    Attributes:
        group: records of one group compete with each other; a table has the records of a group one after the other.
        labels: heading → text, the same headings in every record of a table.
        scores: name → value.
        competes: False where the scores are not comparable with the others' and so can never be the best.
        digits: decimals shown of its scores, where fewer are known than the others have.
    """

    group: str
    labels: Mapping[str, str]
    scores: Mapping[str, float]
    competes: bool = True
    digits: int = DIGITS


@dataclass(frozen=True)
class Table:
    """A table, and what is said with it.

    Attributes:
        stem: names it in files.
        title: what was measured, and how; empty where that is clear from where it stands.
        records: the rows.
        scores: the columns of numbers.
        notes: what is to be known of the rows.
    """

    stem: str
    title: str
    records: Sequence[Record]
    scores: Sequence[Score]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """The table for a terminal, without its notes."""
        return "\n\n".join([*([self.title] if self.title else []), as_text(self.records, self.scores)])

    def markdown(self) -> str:
        """The table in Markdown, with its title as a heading."""
        return f"## {self.title}\n\n{as_markdown(self.records, self.scores, self.notes)}"

    def files(self) -> dict[str, str]:
        """The table in all forms that are written: name of the file, `<stem>.csv`, `.md` or `.tex` → what it holds.

        Notes are below the table in `.md`, and comments in `.tex`.
        """
        return {
            f"{self.stem}.csv": as_csv(self.records, self.scores),
            f"{self.stem}.md": as_markdown(self.records, self.scores, self.notes),
            f"{self.stem}.tex": as_latex(self.records, self.scores, self.notes),
        }

    def legend(self) -> dict[str, str]:
        """The meaning of each column."""
        return {score.name: score.about for score in self.scores}

    def content(self) -> dict[str, Any]:
        """The table for JSON, numbers in full."""
        return {
            "title": self.title,
            "rows": [{**record.labels, "scores": dict(record.scores)} for record in self.records],
            "legend": self.legend(),
            "notes": list(self.notes),
        }


def best(records: Sequence[Record], score: Score) -> list[bool]:
    """Whether each record has the best score of its group, as shown: records that look equal are all best.

    The only record of a group is not called best.

    >>> mae = Score("mae", "mean absolute error", lower_is_better=True)
    >>> best([Record("sod", {}, {"mae": value}) for value in (0.2, 0.10001, 0.1)], mae)
    [False, True, True]
    """
    sign = -1 if score.lower_is_better else 1
    values: dict[str, list[float]] = {}
    for record in records:
        if record.competes and score.name in record.scores:
            values.setdefault(record.group, []).append(sign * _rounded(record, score))
    return [
        score.lower_is_better is not None
        and record.competes
        and score.name in record.scores
        and len(values[record.group]) > 1
        and sign * _rounded(record, score) == max(values[record.group])
        for record in records
    ]


def as_text(records: Sequence[Record], scores: Sequence[Score]) -> str:
    """Aligned columns for a terminal or a log; the best are marked with a star."""
    cells = _cells(records, scores, lambda number: f"{number}*")
    labels = len(records[0].labels) if records else 0
    # A plain number ends where a starred one does without its star, and a shorter one has its point where they do.
    blanks = [0, *(DIGITS - record.digits for record in records)]
    cells = [
        [text if text.endswith("*") or i < labels else text + " " * (1 + blank) for i, text in enumerate(row)]
        for row, blank in zip(cells, blanks, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if i < labels else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    breaks = _breaks(records)
    parts = [[lines[0]], *([*([""] if i in breaks else []), line] for i, line in enumerate(lines[1:]))]
    star = ["* best of its group"] * any(score.lower_is_better is not None for score in scores)
    return "\n".join([line for part in parts for line in part] + ["", *star, *legend(scores)])


def as_csv(records: Sequence[Record], scores: Sequence[Score]) -> str:
    """One line a record, numbers in full, absent ones empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*(records[0].labels if records else ()), *(score.name for score in scores)])
    for record in records:
        writer.writerow([*record.labels.values(), *(record.scores.get(score.name, "") for score in scores)])
    return file.getvalue()


def as_markdown(records: Sequence[Record], scores: Sequence[Score], notes: Sequence[str] = ()) -> str:
    """A Markdown table, its legend and notes."""
    head, *body = [
        [cell.replace("|", "\\|") for cell in row] for row in _cells(records, scores, lambda number: f"**{number}**")
    ]
    sides = ["---" if index < len(head) - len(scores) else "---:" for index in range(len(head))]
    rows = "\n".join(f"| {' | '.join(row)} |" for row in (head, sides, *body))
    return "\n".join([rows, "", *(f"- {line}" for line in (*legend(scores), *notes)), ""])


def as_latex(records: Sequence[Record], scores: Sequence[Score], notes: Sequence[str] = ()) -> str:
    """A LaTeX `tabular` for the package booktabs, the legend and notes as comments."""
    # Bold is marked with a character that no text has, for the escapes to leave the command alone.
    cells = _cells(records, scores, lambda number: f"\0{number}")
    head, *body = [[re.sub(r"^\0(.*)", r"\\textbf{\1}", _escaped(cell)) for cell in row] for row in cells]
    columns = "l" * (len(head) - len(scores)) + "r" * len(scores)
    breaks = _breaks(records)
    lines = [
        *(f"% {line}" for line in (*legend(scores), *notes)),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{' & '.join(head)} \\",
        r"\midrule",
    ]
    for index, row in enumerate(body):
        lines += [r"\midrule"] * (index in breaks) + [rf"{' & '.join(row)} \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def legend(scores: Sequence[Score]) -> list[str]:
    """The meanings of the columns, a line each."""
    better = {None: "", True: "; lower is better", False: "; higher is better"}
    return [f"{score.name}: {score.about}{better[score.lower_is_better]}" for score in scores]


def _cells(records: Sequence[Record], scores: Sequence[Score], emphasised: Callable[[str], str]) -> list[list[str]]:
    """The heading and the rows as text."""
    bests = {score.name: best(records, score) for score in scores}
    rows = [[*(records[0].labels if records else ()), *(score.name for score in scores)]]
    for index, record in enumerate(records):
        row = [printable(label) for label in record.labels.values()]
        for score in scores:
            number = _shown(record, score) if score.name in record.scores else ABSENT
            row.append(emphasised(number) if bests[score.name][index] else number)
        rows.append(row)
    return rows


def _shown(record: Record, score: Score) -> str:
    text = format(record.scores[score.name], score.form or f".{record.digits}f")
    return text.removeprefix("-") if float(text) == 0 else text


def _rounded(record: Record, score: Score) -> float:
    """The score as the table shows it; for a record with fewer digits, as other records show it."""
    return float(format(record.scores[score.name], score.form or f".{DIGITS}f"))


def _breaks(records: Sequence[Record]) -> set[int]:
    """Rows at which a new group begins."""
    return {i for i in range(1, len(records)) if records[i].group != records[i - 1].group}


def _escaped(text: str) -> str:
    commands = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ABSENT: "--"}
    commands["σ"] = r"$\sigma$"  # which pdfLaTeX has no letter for
    return re.sub(r"[\\~^&%$#_{}–σ]", lambda found: commands.get(found[0], rf"\{found[0]}"), text)

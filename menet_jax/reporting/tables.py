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
        """Title and aligned columns, for a terminal or a log, without the notes; the best are marked with a star."""
        cells = self._cells(lambda number: f"{number}*")
        labels = len(cells[0]) - len(self.scores)
        # A plain number ends where a starred one does without its star, and a shorter one has its point where they do.
        blanks = [0, *(DIGITS - record.digits for record in self.records)]
        cells = [
            [text if text.endswith("*") or i < labels else text + " " * (1 + blank) for i, text in enumerate(row)]
            for row, blank in zip(cells, blanks, strict=True)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        head, *body = [
            "  ".join(
                text.ljust(width) if i < labels else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        lines = [self.title, ""] if self.title else []
        lines.append(head)
        for index, row in enumerate(body):
            lines += [*([""] if self._begins_group(index) else []), row]
        star = ["* best of its group"] * any(score.lower_is_better is not None for score in self.scores)
        return "\n".join([*lines, "", *star, *legend(self.scores)])

    def csv(self) -> str:
        """One line a record, numbers in full, absent ones empty."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self._heading())
        for record in self.records:
            writer.writerow([*record.labels.values(), *(record.scores.get(score.name, "") for score in self.scores)])
        return file.getvalue()

    def markdown(self) -> str:
        """A Markdown table, its legend and notes."""
        cells = self._cells(lambda number: f"**{number}**")
        head, *body = [[cell.replace("|", "\\|") for cell in row] for row in cells]
        sides = ["---"] * (len(head) - len(self.scores)) + ["---:"] * len(self.scores)
        rows = [f"| {' | '.join(row)} |" for row in (head, sides, *body)]
        return "\n".join([*rows, "", *(f"- {line}" for line in (*legend(self.scores), *self.notes)), ""])

    def latex(self) -> str:
        """A LaTeX `tabular` for the package booktabs, the legend and notes as comments."""
        # Bold is marked with a character that no text has, for the escapes to leave the command alone.
        cells = self._cells(lambda number: f"\0{number}")
        head, *body = [[re.sub(r"^\0(.*)", r"\\textbf{\1}", _escaped(cell)) for cell in row] for row in cells]
        columns = "l" * (len(head) - len(self.scores)) + "r" * len(self.scores)
        lines = [
            *(f"% {line}" for line in (*legend(self.scores), *self.notes)),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{' & '.join(head)} \\",
            r"\midrule",
        ]
        for index, row in enumerate(body):
            lines += [r"\midrule"] * self._begins_group(index) + [rf"{' & '.join(row)} \\"]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def files(self) -> dict[str, str]:
        """The table in all forms that are written: name of the file → what it holds."""
        return {
            f"{self.stem}.csv": self.csv(),
            f"{self.stem}.md": self.markdown(),
            f"{self.stem}.tex": self.latex(),
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

    def _heading(self) -> list[str]:
        return [*(self.records[0].labels if self.records else ()), *(score.name for score in self.scores)]

    def _cells(self, emphasised: Callable[[str], str]) -> list[list[str]]:
        """The heading and the rows as text."""
        bests = {score.name: best(self.records, score) for score in self.scores}
        rows = [self._heading()]
        for index, record in enumerate(self.records):
            row = [printable(label) for label in record.labels.values()]
            for score in self.scores:
                number = _shown(record, score) if score.name in record.scores else ABSENT
                row.append(emphasised(number) if bests[score.name][index] else number)
            rows.append(row)
        return rows

    def _begins_group(self, index: int) -> bool:
        """Whether this record, other than the first, is of another group than the one before."""
        return index > 0 and self.records[index].group != self.records[index - 1].group


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


def legend(scores: Sequence[Score]) -> list[str]:
    """The meanings of the columns, a line each."""
    better = {None: "", True: "; lower is better", False: "; higher is better"}
    return [f"{score.name}: {score.about}{better[score.lower_is_better]}" for score in scores]


def _shown(record: Record, score: Score) -> str:
    text = format(record.scores[score.name], score.form or f".{record.digits}f")
    return text.removeprefix("-") if float(text) == 0 else text


def _rounded(record: Record, score: Score) -> float:
    """The score as the table shows it; for a record with fewer digits, as other records show it."""
    return float(format(record.scores[score.name], score.form or f".{DIGITS}f"))


def _escaped(text: str) -> str:
    commands = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ABSENT: "--"}
    commands["σ"] = r"$\sigma$"  # which pdfLaTeX has no letter for
    return re.sub(r"[\\~^&%$#_{}–σ]", lambda found: commands.get(found[0], rf"\{found[0]}"), text)

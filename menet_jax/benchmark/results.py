"""What a benchmark found: a table to print and to write."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menet_jax.reporting import tables
from menet_jax.reporting.tables import Record, Score

WALL = Score("wall s", "seconds that pass, median over the rounds", None, ".4g")
CPU = Score("CPU s", "seconds that all threads of the process compute, together, median over the rounds", None, ".4g")
MEBIBYTE = 2**20
RESULTS = "benchmark.json"


@dataclass(frozen=True)
class Table:
    """What a benchmark found.

    Attributes:
        stem: names it in files.
        title: what was measured, and how.
        records: the rows.
        scores: the columns of numbers.
        notes: what is to be known besides.
    """

    stem: str
    title: str
    records: Sequence[Record]
    scores: Sequence[Score]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([self.title, tables.as_text(self.records, self.scores), *self.notes])

    def markdown(self) -> str:
        """With its title as a heading."""
        return f"## {self.title}\n\n{tables.as_markdown(self.records, self.scores, self.notes)}"

    def content(self) -> dict[str, Any]:
        """For JSON, numbers in full."""
        return {
            "title": self.title,
            "rows": [{**record.labels, **record.scores} for record in self.records],
            "legend": {score.name: score.about for score in self.scores},
            "notes": list(self.notes),
        }


def write(dest: Path, written: Sequence[Table], where: str, settings: Mapping[str, Any]) -> list[Path]:
    """Write `benchmark.md` and `benchmark.json` into a folder that exists.

    Args:
        dest: the folder.
        written: the tables.
        where: the machine.
        settings: with which the tables can be made again.
    """
    markdown, json_file = dest / "benchmark.md", dest / RESULTS
    markdown.write_text("\n".join([f"# Benchmarks\n\n{where}\n", *(table.markdown() for table in written)]))
    content = {
        "machine": where,
        "settings": dict(settings),
        "tables": {table.stem: table.content() for table in written},
    }
    json_file.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return [markdown, json_file]

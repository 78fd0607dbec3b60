"""Results of a benchmark: a table to print and to write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from menet_jax.benchmark.options import RESULTS
from menet_jax.reporting.files import json_text
from menet_jax.reporting.tables import Score, Table
from menet_jax.runtime.whole_files import written_whole

WALL = Score("wall s", "seconds that pass, median over the rounds", None, ".4g")
CPU = Score("CPU s", "seconds that all threads of the process compute, together, median over the rounds", None, ".4g")
MEBIBYTE = 2**20


def write(dest: Path, written: Sequence[Table], where: str, settings: Mapping[str, Any]) -> list[Path]:
    """Write `benchmark.md` and `benchmark.json` into a folder that exists: tables, the machine, and the settings."""
    markdown, json_file = dest / "benchmark.md", dest / RESULTS
    text = "\n".join([f"# Benchmarks\n\n{where}\n", *(f"## {table.title}\n\n{table.markdown()}" for table in written)])
    content = {
        "machine": where,
        "settings": dict(settings),
        "tables": {table.stem: table.content() for table in written},
    }
    for path, whole in ((markdown, text), (json_file, json_text(content))):
        with written_whole(path) as unfinished:
            unfinished.write_text(whole)
    return [markdown, json_file]

"""Files of results: tables, the numbers of every image, figures, and all of it as JSON."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from menet_jax.reporting.plots.page import save
from menet_jax.reporting.tables import RESULTS, Table
from menet_jax.runtime.json_values import finite
from menet_jax.runtime.whole_files import written_whole

IMAGES = "images.csv"


def write_results(
    dest: Path,
    tables: Sequence[Table],
    images: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, Figure]],
    content: Mapping[str, Any],
    columns: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> list[Path]:
    """Write everything into a folder that exists. `results.json` comes last: where it is, everything is.

    It lists the files of the results, and the files that the folder's earlier results listed are deleted: whatever
    tables and figures lie there are of these results.

    Args:
        dest: the folder.
        tables: each becomes `<stem>.csv`, `.md` and `.tex`.
        images: the lines of `images.csv`, column → value, of the same columns; None is left empty.
        figures: each with its stem, any text, of which `file_name` makes the name of a `.png` and a `.pdf`.
        content: what `results.json` holds: settings, results, notes.
        columns: of `images.csv`, that it has also without any line.
        others: files in the folder that were written for these results already.

    Returns:
        the files written here.
    """
    texts = {name: text for table in tables for name, text in table.files().items()}
    texts |= {IMAGES: csv_text(images, columns)}
    _delete_results(dest, others)
    for name, text in texts.items():
        _write(dest / name, text)
    taken, drawn = set[str](), list[Path]()
    for stem, figure in figures:
        drawn += save(figure, dest / file_name(stem, taken))
    written = [*(dest / name for name in texts), *drawn]
    listed = [path.relative_to(dest).as_posix() for path in [*written, *others]]
    _write(dest / RESULTS, json_text({**content, "files": listed}))
    return [*written, dest / RESULTS]


def _delete_results(dest: Path, but: Sequence[Path]) -> None:
    """Delete `results.json` and the files that it lists: never one outside of the folder."""
    try:
        listed = json.loads((dest / RESULTS).read_bytes()).get("files", ())
        earlier = {dest / name for name in listed if Path(dest, name).resolve().is_relative_to(dest.resolve())}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):  # nothing is there, or not what was written here
        earlier = set()
    (dest / RESULTS).unlink(missing_ok=True)
    for path in earlier.difference(but):
        if path.is_file():
            path.unlink()


def _write(path: Path, text: str) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_text(text, "utf-8", "backslashreplace")  # names of files may be no UTF-8


def json_text(content: Mapping[str, Any]) -> str:
    """Content for a file that people read too; numbers that are not finite become null, for JSON has none."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()


def csv_text(rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> str:
    """Rows as CSV, numbers in full; what a row lacks is empty. Columns: the first ones, then in order of appearance."""
    columns = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def file_name(name: str, taken: set[str]) -> str:
    """The name in characters that files may have, different from all in `taken`; it is added to them."""
    name = re.sub(r"-?_-?", "_", re.sub(r"[^\w.-]+", "-", name)).strip("-_")
    while name in taken:  # two datasets may have names that differ in such characters only
        name += "_"
    taken.add(name)
    return name

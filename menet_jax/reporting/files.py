"""Files of results: tables, the numbers of every image, figures, and all of it as JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from menet_jax.reporting.plots.page import save
from menet_jax.reporting.tables import RESULTS, Table
from menet_jax.runtime.json_values import finite
from menet_jax.runtime.whole_files import written_whole

IMAGES = "images.csv"

LISTED = "menet_jax_files"
"""In `results.json`: the tables and figures of the results, as paths in their folder."""

WRITTEN = (".csv", ".md", ".tex", ".png", ".pdf")
"""What such files end in."""


def write_results(
    dest: Path,
    tables: Sequence[Table],
    images: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, Figure]],
    content: Mapping[str, Any],
    columns: Sequence[str] = (),
    others: Callable[[], Sequence[Path]] = list,
) -> list[Path]:
    """Write everything into a folder that exists. `results.json` comes last: where it is, everything is.

    It lists the tables and figures, and those that the `results.json` which it replaces lists are deleted first: no
    figure of the earlier results stays beside the new ones.

    Args:
        dest: the folder.
        tables: each becomes `<stem>.csv`, `.md` and `.tex`.
        images: the lines of `images.csv`, column → value, of the same columns; None is left empty.
        figures: each with its stem, any text, of which `file_name` makes the name of a `.png` and a `.pdf`.
        content: what `results.json` holds: settings, results, notes.
        columns: of `images.csv`, that it has also without any line.
        others: writes further figures into the folder, and returns their files.

    Returns:
        the files written.
    """
    texts = {name: text for table in tables for name, text in table.files().items()}
    texts |= {IMAGES: csv_text(images, columns)}
    _delete_results(dest)
    for name, text in texts.items():
        _write(dest / name, text)
    taken, drawn = set[str](), list[Path]()
    for stem, figure in figures:
        drawn += save(figure, dest / file_name(stem, taken))
    written = [*(dest / name for name in texts), *drawn, *others()]
    listed = [path.relative_to(dest).as_posix() for path in written]
    _write(dest / RESULTS, json_text({**content, LISTED: listed}))
    return [*written, dest / RESULTS]


def _delete_results(dest: Path) -> None:
    """Delete `results.json` and the tables and figures that it lists, in this folder alone; never a link."""
    try:
        listed = json.loads((dest / RESULTS).read_bytes())[LISTED]
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # nothing is there, or not what is written here
        listed = []
    (dest / RESULTS).unlink(missing_ok=True)
    for name in listed if isinstance(listed, list) else []:
        with suppress(OSError, RuntimeError, TypeError, ValueError):  # no name of a file, or none that can be deleted
            path = dest / name
            inside = path.resolve().is_relative_to(dest.resolve())
            if inside and path.suffix in WRITTEN and path.is_file() and not path.is_symlink():
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

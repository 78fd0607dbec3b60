"""The paper's published numbers, Tables I to V, to print beside measured ones.

`published.toml` holds them, with the table and section each comes from, and says what they are scores of.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from menet_jax.reporting.tables import ABSENT, Record

TABLES = ("table_1", "table_2", "table_3", "table_4", "table_5")

DECIMALS = 3
"""Decimals of F and MAE as published."""

CLEAN_TABLES = ("table_1", "table_4", "table_5")
"""Tables with scores on undistorted images, `adaptive_f` and `mae`."""

AWGN, JPEG = "awgn", "jpeg"
"""Columns of Table II, AWGN and compression: both are `adaptive_f`."""


@dataclass(frozen=True)
class Published:
    """The paper's numbers of one method on one dataset, in one table.

    Attributes:
        dataset: the paper's name for it (Section IV-A).
        method: the paper's name for it.
        kind: of map: metric or probability for networks of the paper, given for other methods.
        values: by name. Tables I, IV and V: `adaptive_f` and `mae`. Table II: `awgn` and `jpeg`, both adaptive F on
            images distorted so. Table III: `max`, `min`, `median`, `mean` and `variance` of |g|.
        source: the table and section.
    """

    dataset: str
    method: str
    kind: str
    values: Mapping[str, float]
    source: str


def table(name: str) -> list[Published]:
    """One of `TABLES`, in the order of the paper: by dataset, then by method."""
    content = _read()
    columns: dict[str, dict[str, dict[str, float]]] = {
        column: rows for column, rows in content[name].items() if column != "source"
    }
    first = next(iter(columns.values()))
    return [
        Published(
            dataset,
            method,
            content["maps"].get(method, "given"),
            {column: rows[dataset][method] for column, rows in columns.items()},
            content[name]["source"],
        )
        for dataset, methods in first.items()
        for method in methods
    ]


def dataset_name(name: str) -> str | None:
    """The paper's name for a dataset, however it is spelled; None if the paper has no numbers for it.

    >>> dataset_name("dut_omron"), dataset_name("msra-1000"), dataset_name("horses")
    ('DUT-OMRON', 'MSRA1K', None)
    """
    for known, others in _read()["datasets"].items():
        if _plain(name) in map(_plain, (known, *others)):
            return str(known)
    return None


def dataset_names() -> list[str]:
    """The datasets that the paper has numbers for."""
    return list(_read()["datasets"])


def rows(name: str, tables: Sequence[str]) -> list[Published]:
    """The entries of some of `TABLES` on a dataset, however it is spelled; none for an empty name.

    It is of each method once, for Table V repeats some of Table I.
    """
    wanted, found = dataset_name(name), dict[str, Published]()
    for each in tables:
        for row in table(each):
            if row.dataset == wanted:
                found.setdefault(row.method, row)
    return list(found.values())


def content(names: Mapping[str, str], groups: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """For JSON, of each ground truth by what the paper may call it: the `rows` of each group of tables, in order."""
    return [
        {"ground_truth": truth, **asdict(row)}
        for truth, name in names.items()
        for tables in groups
        for row in rows(name, tables)
    ]


def record(group: str, dataset: str, row: Published, scores: Mapping[str, float], source: str) -> Record:
    """A row of a table of results, in the group of the results it stands beside.

    It never counts as the best: of which images exactly it is, and scored by which program, the paper does not say.
    """
    labels = {
        "dataset": dataset,
        "method": row.method,
        "map": row.kind,
        "images": ABSENT,
        "source": f"published, {source}",
    }
    return Record(group, labels, scores, competes=False, digits=DECIMALS)


def _read() -> dict[str, Any]:
    return tomllib.loads((resources.files("menet_jax.reporting") / "published.toml").read_text(encoding="utf-8"))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

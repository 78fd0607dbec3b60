"""The published numbers: against the paper's text, and against what was noted from it by hand elsewhere."""

import re
from pathlib import Path

import pytest

from menet_jax.reporting import published
from menet_jax.reporting.published import Published, dataset_name, rows, table
from menet_jax.reporting.tables import Score, Table, best

PAPER = Path(__file__).parents[2] / "shared" / "paper.txt"
DATASETS = ["DUT-OMRON", "HKU-IS", "ECSSD", "MSRA1K", "SOD"]
METHODS = ["MC", "ELD", "DHSNet", "DS", "DCL", "UCF", "Amulet", "NLDF", "SRM", "MEnet"]
MENET = {
    "DUT-OMRON": (0.732, 0.074), "HKU-IS": (0.879, 0.044), "ECSSD": (0.880, 0.060),
    "MSRA1K": (0.928, 0.028), "SOD": (0.594, 0.139),
}  # fmt: skip


def values(name: str) -> dict[tuple[str, str], Published]:
    found = {(row.dataset, row.method): row for row in table(name)}
    assert len(found) == len(table(name))
    return found


def test_every_table_has_its_cells() -> None:
    counts = {name: sum(len(row.values) for row in table(name)) for name in published.TABLES}
    # Ten methods on five datasets, but for DHSNet on two and UCF, Amulet and NLDF on one.
    assert counts == {"table_1": 90, "table_2": 90, "table_3": 50, "table_4": 20, "table_5": 12}
    for name in ("table_1", "table_2"):
        absent = {(d, m) for d in DATASETS for m in METHODS} - values(name).keys()
        assert absent == {("DUT-OMRON", "DHSNet"), *(("MSRA1K", m) for m in ("DHSNet", "UCF", "Amulet", "NLDF"))}


def test_menet_in_table_1() -> None:
    for dataset, (f, mae) in MENET.items():
        row = values("table_1")[dataset, "MEnet"]
        assert (row.values["adaptive_f"], row.values["mae"], row.kind) == (f, mae, "metric")
        assert row.source.startswith("Table I,")
    for dataset in ("ECSSD", "MSRA1K"):
        assert tuple(values("table_5")[dataset, "MEnet"].values.values()) == MENET[dataset]


def test_distortions_lower_every_score() -> None:
    clean = values("table_1")
    for key, row in values("table_2").items():
        assert set(row.values) == {published.AWGN, published.JPEG}
        assert max(row.values.values()) < clean[key].values["adaptive_f"]


@pytest.mark.skipif(not PAPER.exists(), reason="no ../shared/paper.txt beside the repository")
def test_tables_against_the_text_of_the_paper() -> None:
    """Cell by cell, by position: what the text has lost (labels of the index column) is not needed for it."""
    lines = PAPER.read_text().splitlines()

    def numbers(line: str) -> list[float | None]:
        cells = [cell.strip() for cell in line.split("|")]
        found = [cell for cell in cells if re.fullmatch(r"–|\d\.\d+(E-\d\d)?", cell)]
        return [None if cell == "–" else float(cell) for cell in found]

    def after(heading: str, count: int) -> list[list[float | None]]:
        """The rows with numbers that follow a heading."""
        [start] = [i for i, line in enumerate(lines) if line.startswith(heading)]
        return [found for line in lines[start + 1 : start + 14] if (found := numbers(line))][:count]

    def check(name: str, found: list[list[float | None]], columns: list[str], methods: list[str]) -> None:
        datasets = DATASETS if len(found) == 10 else ["ECSSD", "MSRA1K"]
        for i, dataset in enumerate(datasets):
            for j, column in enumerate(columns):
                for k, method in enumerate(methods):
                    row = values(name).get((dataset, method))
                    assert found[2 * i + j][k] == (row.values[column] if row else None), (dataset, column, method)

    check("table_1", after("Data | Index | MC", 10), ["adaptive_f", "mae"], METHODS)
    check("table_2", after("Data | Distortion | MC", 10), ["awgn", "jpeg"], METHODS)
    check("table_4", after("Data | Indexes | CE-plain", 10), ["adaptive_f", "mae"], ["CE-plain", "CE-only"])
    check("table_5", after("Data | Indexs | AML", 4), ["adaptive_f", "mae"], ["AML", "Lu's", "MEnet"])

    statistics = ["max", "min", "median", "mean", "variance"]
    [start] = [i for i, line in enumerate(lines) if line.startswith("Data | max(abs(g))")]
    for line in lines[start + 2 : start + 7]:
        dataset = dataset_name(line.split("|")[0].strip())
        assert dataset is not None
        by_method = [values("table_3")[dataset, method].values for method in ("MEnet", "NLDF")]
        assert numbers(line) == [of[statistic] for statistic in statistics for of in by_method]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("dut_omron", "DUT-OMRON"), ("DUT-O", "DUT-OMRON"), ("hku_is", "HKU-IS"), ("MSRA-1000", "MSRA1K"), ("sod", "SOD"),
     ("sod_awgn-sigma-5-50", None), ("sod (train)", None), ("msra10k", None), ("", None)],
)  # fmt: skip
def test_datasets_are_recognised_however_they_are_spelled(spelling: str, name: str | None) -> None:
    assert dataset_name(spelling) == name


def test_rows_beside_results() -> None:
    found = rows("ecssd", published.CLEAN_TABLES)
    assert [row.method for row in found] == [*METHODS, "CE-plain", "CE-only", "AML", "Lu's"]
    assert [row.kind for row in found[-5:]] == ["metric", "probability", "probability", "given", "given"]
    assert rows("horses", published.CLEAN_TABLES) == []
    records = [published.record("g", "ecssd", row, row.values, row.source) for row in found]
    columns = [Score("adaptive_f", "an F"), Score("mae", "an error", lower_is_better=True)]
    text = Table("results", "", records, columns).text()
    assert text.count("published, Table I,") == 10
    assert "0.880 " in text and "0.8800" not in text  # no more decimals than were published
    assert not any(best(records, columns[0]))

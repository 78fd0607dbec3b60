"""Means over runs that differ by their seed alone, and which runs do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_cases import outcome, write_discs

from menet_jax.evaluate import main
from menet_jax.evaluation.inputs import NamedRun, recipes
from menet_jax.model.initialisation import initial_variables
from menet_jax.model.menet import MENet
from menet_jax.reporting.seeds import over_seeds
from menet_jax.reporting.tables import Record, Score, Table
from menet_jax.training.checkpoint_format import TrainedVariables
from menet_jax.training.config import Config, DataConfig, LossConfig, ModelConfig
from menet_jax.training.run import TrainedRun, write_run

pytestmark = pytest.mark.usefixtures("shallow")

CONFIG = Config(run=Path("a"), steps=9, data=DataConfig(train=("here/set",)))


def named(name: str, config: Config) -> NamedRun:
    return NamedRun(name, "", TrainedRun(config, TrainedVariables(9, {}, {}, None, {})))


def test_means_and_standard_errors_by_hand() -> None:
    f, mae = Score("f", "an F"), Score("mae", "an error", lower_is_better=True)
    values = {"a-0": 0.5, "a-1": 0.7, "a-2": 0.6, "b-0": 0.1, "b-1": 0.3, "lone": 0.9}
    rows = [
        Record("g", {"method": name, "map": "m", "source": name}, {"f": x, "mae": 1 - x}) for name, x in values.items()
    ]
    table = Table("results", "", rows, [f, mae], ["a note"])
    [found] = over_seeds(table, {name: name[0] for name in values if name != "lone"})
    assert found.stem == "results_seeds" and found.notes == ["a note"]
    assert [score.name for score in found.scores] == ["f", "± f", "mae", "± mae"]
    assert [dict(record.labels) for record in found.records] == [
        {"method": "a", "map": "m", "source": "3 seeds"},
        {"method": "b", "map": "m", "source": "2 seeds"},
    ]
    first, second = (record.scores for record in found.records)
    assert first["f"] == pytest.approx(0.6) and first["± f"] == pytest.approx(0.1 / np.sqrt(3))
    assert second["mae"] == pytest.approx(0.8) and second["± mae"] == pytest.approx(0.1)
    assert over_seeds(table, {}) == []


def test_rows_of_other_groups_or_maps_are_not_mixed() -> None:
    rows = [
        Record(group, {"method": name, "map": kind, "source": name}, {"f": 0.5}, competes=name != "a2")
        for group in ("sod", "ecssd")
        for name in ("a1", "a2")
        for kind in ("metric", "probability")
    ]
    [found] = over_seeds(Table("t", "", rows, [Score("f", "an F")]), {"a1": "a", "a2": "a"})
    assert len(found.records) == 4 and all(record.scores["± f"] == 0 for record in found.records)
    assert not any(record.competes for record in found.records)  # one was not scored on all images


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (replace(CONFIG, seed=1, run=Path("b"), save_every=7), True),
        (replace(CONFIG, seed=1, data=DataConfig(train=("there/set",), threads=9)), True),
        (replace(CONFIG, seed=1, data=DataConfig(train=("there/other",))), False),
        (replace(CONFIG, seed=1, steps=10), False),
        (replace(CONFIG, seed=1, loss=LossConfig(metric=0.5)), False),
        (replace(CONFIG, seed=1, model=ModelConfig(width=4)), False),
        (replace(CONFIG, seed=1, origin="elsewhere"), False),
    ],
)
def test_what_a_recipe_is(other: Config, alike: bool) -> None:
    assert recipes([named("net-0", CONFIG), named("net-1", other)]) == (
        {"net-0": "net", "net-1": "net"} if alike else {}
    )


def test_what_runs_are_called_together() -> None:
    wide = replace(CONFIG, model=ModelConfig(width=4))
    runs = [named(f"net{n}", replace(config, seed=n)) for n, config in enumerate((CONFIG, CONFIG, wide, wide))]
    assert recipes(runs) == {"net0": "net0, net1", "net1": "net0, net1", "net2": "net2, net3", "net3": "net2, net3"}
    assert recipes([named("one", CONFIG), named("two", replace(CONFIG, seed=1))])["one"] == "one, two"


def test_evaluate_tells_them(tmp_path: Path) -> None:
    data, config = write_discs(tmp_path / "discs", 2), replace(CONFIG, model=ModelConfig(width=1))
    for seed in (0, 1):
        write_run(replace(config, run=tmp_path / f"net-{seed}", seed=seed), initial_variables(MENet(width=1), seed))
    runs = ("--run", tmp_path / "net-0", tmp_path / "net-1")
    flags = ("--data", data, "--split", "all", "--cache", tmp_path / "cache", "--dest", tmp_path / "dest")
    done = outcome(main, *runs, *flags)
    assert done.code == 0, done.err
    assert "Means over seeds" in done.out and "2 seeds" in done.out
    lines = (tmp_path / "dest" / "results_seeds.csv").read_text().splitlines()
    assert len(lines) == 3 and all(",net," in line for line in lines[1:])

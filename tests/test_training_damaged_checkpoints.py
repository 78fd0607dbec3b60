"""Damaged checkpoints are reported, and never come back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_cases import assert_same, make_checkpoint, no_report, record_of, save_all, templates

from menet_jax.training.checkpoint_format import DamagedCheckpointError, read_checkpoint
from menet_jax.training.checkpoints import CheckpointStore, load_best_variables, load_newest_variables
from menet_jax.training.run_folder import saved_steps


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def fill_with_garbage(file: Path) -> None:
    file.write_bytes(b'{"garbage": [')


def delete(file: Path) -> None:
    file.unlink()


def largest(folder: Path, item: str) -> Path:
    return max((path for path in (folder / item).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


PLACES: dict[str, Callable[[Path], Path]] = {
    "variables": lambda folder: largest(folder, "variables"),
    "training": lambda folder: largest(folder, "training"),
    "index": lambda folder: folder / "variables" / "manifest.ocdbt",
    "tree": lambda folder: folder / "training" / "_METADATA",
    "record": record_of,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty, fill_with_garbage, delete])
def test_damage_is_reported_and_the_step_before_used(
    tmp_path: Path, place: str, damage: Callable[[Path], None]
) -> None:
    older, newer = make_checkpoint(1, score=0.1), make_checkpoint(2, score=0.2)
    save_all(tmp_path, older, newer)
    damage(PLACES[place](tmp_path / "2"))
    variables, optimizer = templates(newer)

    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(tmp_path / "2", variables, optimizer)
    if place != "training" and place != "tree":
        for load in (
            lambda report: load_newest_variables(tmp_path, report=report),
            lambda report: load_best_variables(tmp_path, "f", report=report),
        ):
            reports: list[str] = []
            assert_same(load(reports.append).variables, older.variables)
            assert len(reports) == 1 and "step 2" in reports[0] and "step 1 is used" in reports[0]
    assert saved_steps(tmp_path) == [1, 2]

    reports = []
    with CheckpointStore(tmp_path, best="f") as store:
        found = store.restore(variables, optimizer, report=reports.append)
        assert found.step == 1
        assert_same(found.variables, older.variables)
        assert len(reports) == 1
        assert all(part in reports[0] for part in ("step 2", str(tmp_path / "2"), "damaged (", "step 1 is used"))
        assert (tmp_path / "damaged" / "2").is_dir()
        assert store.save(newer)
        assert_same(store.restore(variables, optimizer, report=no_report).variables, newer.variables)
    assert saved_steps(tmp_path) == [1, 2]


def test_a_flipped_bit_in_any_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    saved = make_checkpoint(5)
    save_all(tmp_path / "sound", saved)
    files = [path.relative_to(tmp_path) for path in (tmp_path / "sound").rglob("*") if path.is_file()]
    assert len(files) > 10
    for file in files:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "sound", tmp_path / "copy")
        flip_a_bit(tmp_path / "copy" / file.relative_to("sound"))
        try:
            found = read_checkpoint(tmp_path / "copy" / "5", *templates(saved))
        except DamagedCheckpointError:
            continue
        assert_same(found.variables, saved.variables)
        assert_same(found.optimizer, saved.optimizer)
        assert file.name not in ("metadata", "_METADATA")


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty, fill_with_garbage, delete])
def test_damage_to_what_orbax_notes_for_itself_stops_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    saved = make_checkpoint(2, score=0.2)
    save_all(tmp_path, make_checkpoint(1, score=0.1), saved)
    for step in ("1", "2"):
        damage(tmp_path / step / "_CHECKPOINT_METADATA")
    with CheckpointStore(tmp_path, best="f") as store:
        assert_same(store.restore(*templates(saved), report=no_report).variables, saved.variables)
        assert store.save(make_checkpoint(3, score=0.3))
    assert saved_steps(tmp_path) == [2, 3]


def test_a_whole_folder_can_be_missing_or_foreign(tmp_path: Path) -> None:
    saved = make_checkpoint(1)
    save_all(tmp_path, saved)
    (tmp_path / "2").mkdir()
    shutil.copytree(tmp_path / "1", tmp_path / "3")
    reports: list[str] = []
    with CheckpointStore(tmp_path, best="f") as store:
        assert store.restore(*templates(saved), report=reports.append).step == 1
    assert ["step 3" in reports[0], "saved as step 1" in reports[0], "step 2" in reports[1]] == [True] * 3


@pytest.mark.parametrize("stray", ["notes", "0007", "\N{ARABIC-INDIC DIGIT SEVEN}", "2 (copy)", "-1"])
def test_a_stray_folder_is_no_checkpoint(stray: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = make_checkpoint(2)
    save_all(tmp_path, make_checkpoint(1), saved)
    (tmp_path / stray).mkdir()
    with CheckpointStore(tmp_path, best="f") as store:
        assert store.restore(*templates(saved), report=no_report).step == 2
        assert store.save(make_checkpoint(7))
    assert saved_steps(tmp_path) == [2, 7] and (tmp_path / stray).is_dir()
    assert load_newest_variables(tmp_path, report=no_report).step == 7
    assert capfd.readouterr().err == ""


def test_damaged_twice_keeps_both(tmp_path: Path) -> None:
    older, newer = make_checkpoint(1), make_checkpoint(2)
    save_all(tmp_path, older, newer)
    for _ in range(2):
        delete(record_of(tmp_path / "2"))
        with CheckpointStore(tmp_path, best="f") as store:
            store.restore(*templates(older), report=lambda message: None)
            store.save(newer)
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "2-2"]


def test_nothing_sound_is_one_error_and_moves_nothing(tmp_path: Path) -> None:
    saved = make_checkpoint(1)
    save_all(tmp_path, saved, make_checkpoint(2))
    for step in ("1", "2"):
        truncate(record_of(tmp_path / step))
    with (
        CheckpointStore(tmp_path, best="f") as store,
        pytest.raises(DamagedCheckpointError, match=f"no sound checkpoint in {tmp_path}: .*step 2.*step 1"),
    ):
        store.restore(*templates(saved), report=no_report)
    assert saved_steps(tmp_path) == [1, 2]


def test_no_checkpoint_at_all_names_the_folder(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path, best="f") as store, pytest.raises(FileNotFoundError, match=str(tmp_path)):
        store.restore({}, (), report=no_report)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_best_variables(tmp_path / "nowhere", "f", report=no_report)

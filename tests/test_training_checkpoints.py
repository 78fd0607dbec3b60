"""Checkpoints come back bit by bit, and damaged ones never do."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from menet_jax.training.checkpoint_format import (
    Checkpoint,
    DamagedCheckpointError,
    MismatchedCheckpointError,
    read_checkpoint,
)
from menet_jax.training.checkpoints import CheckpointStore, load_best_variables, load_newest_variables
from menet_jax.training.run_folder import saved_steps

OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.masked(optax.add_decayed_weights(1e-4), lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)),
    optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.9, accumulator_dtype=jnp.bfloat16),
)


def make_checkpoint(step: int, width: int = 64, score: float | None = None) -> Checkpoint:
    draw = np.random.default_rng(step)
    params = {
        "encoder": {
            "kernel": jnp.asarray(draw.normal(size=(3, 3, 8, width)), jnp.float32),
            "bias": jnp.asarray(draw.normal(size=width), jnp.bfloat16),
        },
        "odd": {
            "scalar": jnp.float32(-0.0),
            "nan": jnp.asarray([jnp.nan, jnp.inf]),
            "flags": jnp.asarray([True]),
        },
    }
    return Checkpoint(
        step=step,
        variables={"params": params, "batch_stats": {"mean": jnp.arange(width, dtype=jnp.int32), "none": {}}},
        optimizer=OPTIMIZER.init(params),
        rng=jax.random.key_data(jax.random.key(step)),
        data_position={"next_index": 7, "workers": {"0": [1, 2]}},
        config={"model": {"width": width}, "rate": 0.1},
        scores=None if score is None else {"f": score, "mae": float("nan")},
    )


def save_all(folder: Path, *checkpoints: Checkpoint) -> None:
    with CheckpointStore(folder, best="f") as store:
        for checkpoint in checkpoints:
            assert store.save(checkpoint)


def assert_same(found: Any, expected: Any) -> None:
    chex.assert_trees_all_equal_structs(found, expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def templates(checkpoint: Checkpoint) -> tuple[Any, Any]:
    shape = jax.eval_shape(lambda: (checkpoint.variables, checkpoint.optimizer))
    return shape[0], shape[1]


def no_report(message: str) -> None:
    pytest.fail(message)


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    saved = make_checkpoint(3, score=0.5)
    with CheckpointStore(tmp_path / "run", best="f") as store:
        store.save(saved)
        found = store.restore(*templates(saved), report=no_report)
    for name in ("variables", "optimizer", "rng"):
        assert_same(getattr(found, name), getattr(saved, name))
    for name in ("step", "data_position", "config", "versions"):
        assert getattr(found, name) == getattr(saved, name)
    assert found.scores is not None and saved.scores is not None
    assert found.scores["f"] == saved.scores["f"]
    assert {"python", "jax", "numpy", "menet_jax"} <= set(found.versions)
    assert_same(read_checkpoint(tmp_path / "run" / "3", *templates(saved)).optimizer, saved.optimizer)


def test_an_optimizer_without_state_round_trips(tmp_path: Path) -> None:
    saved = dataclasses.replace(make_checkpoint(1), optimizer=optax.sgd(0.1).init({}))
    save_all(tmp_path, saved)
    assert_same(read_checkpoint(tmp_path / "1", *templates(saved)).optimizer, saved.optimizer)


def test_newest_two_and_best_are_kept_also_by_a_later_run(tmp_path: Path) -> None:
    save_all(tmp_path, *[make_checkpoint(step, score=score) for step, score in [(1, 0.5), (2, 0.9), (3, 0.4)]])
    assert saved_steps(tmp_path) == [2, 3]
    save_all(tmp_path, make_checkpoint(4), make_checkpoint(5, score=float("nan")), make_checkpoint(6, score=0.1))
    assert saved_steps(tmp_path) == [2, 5, 6]
    assert load_best_variables(tmp_path, "f", report=no_report).step == 2
    assert load_newest_variables(tmp_path, report=no_report).step == 6
    save_all(tmp_path, make_checkpoint(7, score=0.95), make_checkpoint(8))
    assert saved_steps(tmp_path) == [7, 8]


def test_without_scores_the_best_is_the_newest(tmp_path: Path) -> None:
    save_all(tmp_path, *[make_checkpoint(step) for step in (1, 2, 3)])
    assert saved_steps(tmp_path) == [2, 3]
    assert load_best_variables(tmp_path, "f", report=no_report).step == 3


def test_scores_without_the_best_one_are_refused(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path, best="F") as store, pytest.raises(ValueError, match=r"'F'.*'f', 'mae'"):
        store.save(make_checkpoint(1, score=0.5))


def test_a_saved_step_is_left_as_it_is(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path, best="f") as store:
        assert store.save(make_checkpoint(1, score=0.5))
        assert not store.save(make_checkpoint(1))
    assert load_newest_variables(tmp_path, report=no_report).scores


def test_variables_alone_are_numpy_without_templates_or_optimizer(tmp_path: Path) -> None:
    saved = make_checkpoint(2)
    save_all(tmp_path, saved)
    shutil.rmtree(tmp_path / "2" / "training")
    found = load_newest_variables(tmp_path, report=no_report)
    assert_same(found.variables, saved.variables)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(found.variables))
    assert found.config == saved.config


def test_relative_folders_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_all(Path("run"), make_checkpoint(1))
    assert load_newest_variables(Path("run"), report=no_report).step == 1


def test_other_devices_can_read_it(tmp_path: Path) -> None:
    sharded = jax.device_put(jnp.arange(8.0), jax.sharding.SingleDeviceSharding(jax.devices()[3]))
    save_all(tmp_path, dataclasses.replace(make_checkpoint(1), variables={"params": sharded}))
    code = """if True:
        import sys, pathlib, jax
        from menet_jax.training.checkpoints import load_newest_variables
        assert len(jax.devices()) == 1
        print(load_newest_variables(pathlib.Path(sys.argv[1]), report=print).variables)
    """
    environment = {**os.environ, "XLA_FLAGS": os.environ["QUICK_FLAGS"], "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True)
    assert "[0., 1., 2., 3., 4., 5., 6., 7.]" in done.stdout, done.stderr


# Damage ---------------------------------------------------------------------------------------------------


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


def record_of(folder: Path) -> Path:
    return folder / "record" / "metadata"


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


# Mismatch -------------------------------------------------------------------------------------------------


def test_another_width_names_the_array_and_both_shapes(tmp_path: Path) -> None:
    save_all(tmp_path, make_checkpoint(1, width=64))
    expected = r"batch_stats/mean is int32 \(64,\) in the checkpoint and int32 \(32,\) in the program"
    with (
        CheckpointStore(tmp_path, best="f") as store,
        pytest.raises(MismatchedCheckpointError, match=expected),
    ):
        store.restore(*templates(make_checkpoint(1, width=32)), report=no_report)


def test_another_optimizer_names_the_array(tmp_path: Path) -> None:
    saved = make_checkpoint(1)
    save_all(tmp_path, saved)
    adam = optax.adam(0.1).init(saved.variables["params"])
    with pytest.raises(
        MismatchedCheckpointError, match=r"optimizer/0/count is missing in the checkpoint and int32 \(\)"
    ):
        read_checkpoint(tmp_path / "1", saved.variables, adam)
    with pytest.raises(MismatchedCheckpointError, match=r"optimizer/.*trace/.* and missing in the program"):
        read_checkpoint(tmp_path / "1", saved.variables, optax.sgd(0.1).init(saved.variables["params"]))


# Saving while the run goes on -----------------------------------------------------------------------------


def test_donated_and_overwritten_arrays_are_saved_as_they_were(tmp_path: Path) -> None:
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    variables = {"params": {"a": jnp.zeros((512, 2048)), "b": jnp.ones(3)}}
    on_host = {"count": np.zeros(100_000, np.int32)}
    empty_checkpoint = make_checkpoint(0)
    with CheckpointStore(tmp_path, best="f") as store:
        for number in range(3):
            store.save(dataclasses.replace(empty_checkpoint, step=number, variables=variables, optimizer=on_host))
            variables = step(variables)
            on_host["count"] += 1
    for number in (1, 2):
        found = read_checkpoint(tmp_path / str(number), variables, on_host)
        assert (found.variables["params"]["a"] == number).all()
        assert (found.optimizer["count"] == number).all()


def test_a_save_that_fails_is_not_silent(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, best="f")
    with pytest.raises(TypeError, match="JSON"):
        store.save(dataclasses.replace(make_checkpoint(1), config={"path": Path("x")}))
    assert store.save(make_checkpoint(1))
    store.close()
    assert saved_steps(tmp_path) == [1]


def test_a_full_disk_is_one_error(
    tmp_path: Path, small_disk: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints = Mock()
    monkeypatch.setattr(sys, "unraisablehook", complaints)
    with (
        pytest.raises(OSError, match=f"^{tmp_path}: a checkpoint cannot be written .File too large.*--resume"),
        CheckpointStore(tmp_path, best="f") as store,
    ):
        assert store.save(make_checkpoint(1, width=2000))
        store.wait()
    sys.unraisablehook(Mock(exc_value=RuntimeError("Event loop is closed")))  # as of arrays that are still under way
    assert not complaints.called
    assert capfd.readouterr().err == ""
    assert saved_steps(tmp_path) == []


KILLED = """if True:
    import pathlib, sys
    import numpy as np
    from menet_jax.training.checkpoint_format import Checkpoint
    from menet_jax.training.checkpoints import CheckpointStore

    store = CheckpointStore(pathlib.Path(sys.argv[1]), best="f")
    for step in range(1, 1000):
        variables = {str(i): np.random.default_rng([step, i]).normal(size=2000) for i in range(50)}
        store.save(Checkpoint(step, variables, {}, np.zeros(2, np.uint32), {}, {}))
"""


def test_kill_in_mid_save_leaves_nothing_wrong(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], env={**os.environ, "JAX_PLATFORMS": "cpu"})
    unfinished: list[str] = []
    deadline = time.monotonic() + 60
    while not unfinished and time.monotonic() < deadline and child.poll() is None:
        if len(saved_steps(tmp_path)) == 2:
            unfinished = [path.name for path in tmp_path.iterdir() if "tmp" in path.name]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert unfinished

    template = {str(i): np.zeros(2000) for i in range(50)}
    with CheckpointStore(tmp_path, best="f") as store:
        found = store.restore(template, {}, report=no_report)
        assert found.step == max(saved_steps(tmp_path))
        for step in (found.step + 1, found.step + 2):
            assert store.save(dataclasses.replace(found, step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(found.step + 1), str(found.step + 2)]
    assert_same(read_checkpoint(tmp_path / str(found.step + 2), template, {}).variables, found.variables)


TOGETHER = """if True:
    import pathlib, sys
    import jax
    import numpy as np

    address, index, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    jax.distributed.initialize(address, num_processes=2, process_id=index)
    from jax.experimental import multihost_utils
    from menet_jax.training.checkpoint_format import Checkpoint
    from menet_jax.training.checkpoints import CheckpointStore
    from menet_jax.training.run_folder import saved_steps

    variables = {"params": np.arange(3000.0)}
    with CheckpointStore(folder, best="f") as store:
        for step in (1, 2, 3):
            assert store.save(Checkpoint(step, variables, {}, np.zeros(2, np.uint32), {}, {}))
        store.wait()
        multihost_utils.sync_global_devices("saved")
        if index == 0:
            (folder / "3" / "record" / "metadata").unlink()
        multihost_utils.sync_global_devices("damaged")
        reports = []
        found = store.restore(variables, {}, report=reports.append)
        assert found.step == 2 and len(reports) == 1
        np.testing.assert_array_equal(found.variables["params"], variables["params"])
        assert store.save(Checkpoint(3, variables, {}, found.rng, {}, {}))
    assert saved_steps(folder) == [2, 3]
"""


def test_two_processes_save_and_fall_back_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ["QUICK_FLAGS"]}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, address, str(index), tmp_path],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    save_all(tmp_path, make_checkpoint(1))
    content = json.loads(record_of(tmp_path / "1").read_text())["content"]
    assert content["arrays"]["variables"]["params/encoder/bias"]["dtype"] == "bfloat16"

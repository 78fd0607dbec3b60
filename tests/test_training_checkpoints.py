"""Checkpoints come back bit by bit, also of what was interrupted, and by several processes."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_cases import assert_same, make_checkpoint, no_report, record_of, save_all, templates

from menet_jax.training.checkpoint_format import MismatchedCheckpointError, read_checkpoint
from menet_jax.training.checkpoints import CheckpointStore, load_best_variables, load_newest_variables
from menet_jax.training.run_folder import saved_steps


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

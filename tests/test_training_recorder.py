"""Records of a run: whole lines, readable by TensorBoard, and never what a training ends of."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from menet_jax.model.inference import Maps
from menet_jax.training.recorder import Recorder
from menet_jax.training.validation import Sample

GRAY = np.full((8, 8), 0.5, np.float32)
SAMPLE = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), Maps(GRAY, GRAY))


def events(run: Path) -> list[Event]:
    [path] = (run / "logs").glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        [length] = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "logs" / "log.jsonl").read_text().splitlines()]


def test_a_full_disk_costs_records_and_nothing_else(tmp_path: Path, small_disk: None) -> None:
    said: list[str] = []
    recorder = Recorder(tmp_path, 0, said.append)
    for step in range(1, 2000):
        recorder.scalars("train", step, {"loss": 1.0})
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    flat = np.zeros((300, 300), np.float32)
    assert recorder.samples(2000, [Sample(noise, flat > 0, Maps(flat, flat))]) is None
    [sentence] = said
    assert str(tmp_path / "logs") in sentence and "File too large" in sentence
    steps = logged(tmp_path)
    assert 1000 < len(steps) < 1999 or (len(steps) > 0 and steps == list(range(1, len(steps) + 1)))
    assert all(each.summary.value[0].tag == "train/loss" for each in events(tmp_path)[1:])


def test_records_are_read_by_tensorboard_and_start_anew_where_a_run_resumes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 0, pytest.fail)
    recorder.scalars("train", 1, {"loss": 2.0, "learning_rate": 0.5})
    recorder.scalars("train", 2, {"loss": 1.0})
    assert recorder.samples(2, [SAMPLE]) == tmp_path / "samples" / "step_000002.png"
    assert (tmp_path / "samples" / "step_000002.png").exists()
    first, loss, rate, _, picture = events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert [(each.step, each.summary.value[0].simple_value) for each in (loss, rate)] == [(1, 2.0), (1, 0.5)]
    assert picture.summary.value[0].image.height == 8
    Recorder(tmp_path, 1, pytest.fail)
    assert logged(tmp_path) == [1]
    assert events(tmp_path)[-1].session_log.status == 1 and events(tmp_path)[-1].step == 2


def test_a_damaged_line_of_the_log_is_said_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    Recorder(tmp_path, 0, said.append).scalars("train", 1, {"loss": 2.0})
    with (tmp_path / "logs" / "log.jsonl").open("ab") as log:
        log.write(b'{"step": 2, "lo\xff\n[3]\n{"step": 4}\n{"st')
    Recorder(tmp_path, 4, said.append)
    assert logged(tmp_path) == [1, 4]
    assert said == [f"2 damaged lines of {tmp_path / 'logs' / 'log.jsonl'} cannot be read; the log goes on without"]


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    """Which has no word for what is not finite."""
    Recorder(tmp_path, 0, pytest.fail).scalars("train", 1, {"loss": 0.5, "gradient": math.inf})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    [line] = (tmp_path / "logs" / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "kind": "train", "loss": 0.5, "gradient": None}

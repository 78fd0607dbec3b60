"""Records of a run for people: one JSON line per log step, TensorBoard scalars, pictures of sample maps."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import image, scalar

from menet_jax.images.files import resize_mask
from menet_jax.images.pictures import grid
from menet_jax.runtime.json_values import finite
from menet_jax.runtime.text import counted
from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.validation import Sample


class Recorder:
    """Writes `logs/log.jsonl`, TensorBoard events beside it, and `samples/step_<n>.png`, under a run directory.

    A resumed run's records of steps after `step`, which it is about to repeat, are dropped. What cannot be recorded,
    as on a full disk, is reported once and must not cost the training that it records.

    Raises:
        OSError: nothing can be written from the start.
    """

    def __init__(self, run: Path, step: int, report: Callable[[str], None]) -> None:
        logs, self._samples = run / "logs", run / "samples"
        logs.mkdir(parents=True, exist_ok=True)
        self._samples.mkdir(exist_ok=True)
        self._report, self._failed = report, False
        self._log = logs / "log.jsonl"
        # By SummaryWriter's names, but without its thread, which dies of a full disk and then blocks whoever records.
        self._board = logs / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        lines = _lines(self._log)
        kept = [line for line, its_step in lines if its_step is not None and its_step <= step]
        damaged = sum(its_step is None for _, its_step in lines)
        if damaged:
            report(f"{counted(damaged, 'damaged line')} of {self._log} cannot be read; the log goes on without")
        with written_whole(self._log) as rewritten:  # nothing is lost if the run is killed here
            rewritten.write_text("".join(line + "\n" for line in kept))
        _append(self._board, _event(Event(file_version="brain.Event:2")))
        if step:
            _append(self._board, _event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))))

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step; `kind` is train or validation."""
        with self._spared():
            record = finite({"step": step, "kind": kind, **values})
            _append(self._log, json.dumps(record, allow_nan=False).encode() + b"\n")
            events = [Event(step=step, summary=scalar(f"{kind}/{name}", value)) for name, value in values.items()]
            _append(self._board, b"".join(map(_event, events)))

    def samples(self, step: int, samples: Sequence[Sample]) -> Path | None:
        """Write a picture, see `sample_grid`; where it is, or None if it cannot be written."""
        picture = sample_grid(samples)
        path = self._samples / f"step_{step:06d}.png"
        with self._spared():
            with written_whole(path) as unfinished:
                Image.fromarray(picture).save(unfinished, compress_level=3)  # half the default's time, little larger
            event = Event(step=step, summary=image("validation/samples", picture, dataformats="HWC"))
            _append(self._board, _event(event))
        return path if path.exists() else None

    @contextmanager
    def _spared(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failed:
                self._report(
                    f"{error.filename}: cannot be written ({error.strerror}); training goes on without records"
                )
            self._failed = True


def sample_grid(samples: Sequence[Sample]) -> np.ndarray:
    """Two samples a row, each as image, ground truth, probability map and metric map, if there is one; uint8 RGB."""
    pictures = []
    for sample in samples:
        size = sample.image.shape[0], sample.image.shape[1]
        gray = [resize_mask(sample.mask, size), *reversed(sample.maps.named().values())]
        pictures.append(sample.image)
        pictures += [np.repeat(np.rint(255.0 * g).astype(np.uint8)[..., None], 3, axis=-1) for g in gray]
    return grid(np.stack(pictures), columns=2 * len(pictures) // len(samples))


def _lines(path: Path) -> list[tuple[str, int | None]]:
    """The lines of a log, each with its step, None of a damaged one. If the run was killed while writing the last one,
    it is cut off and left out.
    """
    if not path.exists():
        return []
    *whole, _ = path.read_text(errors="replace").split("\n")
    return [(line, _step(line)) for line in whole]


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, LookupError):
        return None


def _append(path: Path, data: bytes) -> None:
    """Add to the end of a file all of the data, or nothing.

    Raises:
        OSError: it cannot be written; it names the path.
    """
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def _event(event: Event) -> bytes:
    """An event in the form of a TensorBoard file."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    header = struct.pack("<Q", len(data))
    return b"".join((header, _checksum(header), data, _checksum(data)))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))

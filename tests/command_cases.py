"""What the tests of several commands share: how one is run, a small dataset, and a run of a narrow network."""

import io
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from menet_jax.training import config as configuration
from menet_jax.training.checkpoint_format import Checkpoint
from menet_jax.training.checkpoints import CheckpointStore
from menet_jax.training.config import Config, DataConfig, ModelConfig
from menet_jax.training.step import create_state


class Outcome(NamedTuple):
    """A command's exit status, and what it printed."""

    code: int | str | None
    out: str
    err: str


def outcome(main: Callable[[Sequence[str]], int], *arguments: str | Path) -> Outcome:
    """Run a command in this process."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code: int | str | None = main([str(argument) for argument in arguments])
        except SystemExit as end:  # how tyro refuses what it cannot parse
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def write_discs(folder: Path, count: int, black: Collection[int] = ()) -> Path:
    """Write `0.png`, `1.png`, … of a disc before noise, all of other sizes, and their masks; some black all over."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        height, width = 60 + 5 * index, 70
        rows, columns = np.ogrid[:height, :width]
        disc = (rows - 30) ** 2 + (columns - 20 - 5 * index) ** 2 < 300
        image = np.where(disc[..., None], (200, 60, 40), rng.integers(0, 120, (height, width, 3))).astype(np.uint8)
        Image.fromarray(image * np.uint8(index not in black)).save(folder / "images" / f"{index}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / "masks" / f"{index}.png")
    return folder


def write_narrow_run(folder: Path, multi_scale: bool = True, **data: Any) -> Path:
    """Write a run of a network of width 1 as it is drawn, with one checkpoint, of step 2 and score 0.5."""
    folder.mkdir()
    config = Config(run=folder, steps=2, model=ModelConfig(width=1, multi_scale=multi_scale), data=DataConfig(**data))
    configuration.write(config, folder / "config.json")
    state = create_state(config)
    variables = jax.device_get(state.variables)
    with CheckpointStore(folder / "checkpoints", config.best_score) as store:
        record = configuration.to_dict(config)
        store.save(Checkpoint(2, variables, {}, np.zeros(2), {}, record, {config.best_score: 0.5}))
    return folder

"""One checkpoint on the disk: what it holds, and that it still holds what was saved.

It is a folder named after its step, written by Orbax, with three items:

- `variables`: parameters and batch statistics, nested dictionaries of arrays, all that prediction reads;
- `training`: what only resuming needs, the random key and the optimizer state, the latter as a flat
  dictionary of its leaves by path, so that it can be read without the optimizer that wrote it;
- `record`: JSON: step, run configuration, data position, scores, versions, and the digest of every array.

Arrays are written from host memory and come back as numpy arrays, whatever devices either machine has. The
storage format does not notice every flipped byte, so nothing is handed out before its digest agrees.
"""

import asyncio
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

Tree = Any
"""A pytree of arrays."""


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or that is not what was saved."""


class MismatchedCheckpointError(ValueError):
    """A sound checkpoint, but of another network or optimizer than the program's."""


@cache  # to look for them takes longer than some steps
def library_versions() -> dict[str, str]:
    """The versions of Python and of every library that has a say in the numbers."""
    versions = {"python": platform.python_version()}
    for name in ("menet_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree that was never installed
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run: with it, the run goes on as if it had never stopped.

    Arrays may be on the host or on a device; replicated ones are to be unreplicated before they are saved.
    """

    step: int
    variables: Tree
    """Nested dictionaries: `params` and `batch_stats`."""
    optimizer: Tree
    """The optax state."""
    rng: Any
    """The data of the random key: `jax.random.key_data`."""
    data_position: Mapping[str, Any]
    config: Mapping[str, Any]
    scores: Mapping[str, float] | None = None
    """Validation scores; None where there are none, as when a signal caused the save."""
    versions: Mapping[str, str] = field(default_factory=library_versions)


@dataclass(frozen=True)
class TrainedVariables:
    """The part of a checkpoint that prediction needs."""

    step: int
    variables: Tree
    config: Mapping[str, Any]
    scores: Mapping[str, float] | None
    versions: Mapping[str, str]


def to_items(checkpoint: Checkpoint) -> ocp.args.Composite:
    """The arrays and the record for Orbax to write."""
    training = {"rng": checkpoint.rng, "optimizer": _leaves(checkpoint.optimizer)}
    on_host = jax.device_get({"variables": checkpoint.variables, "training": training})
    trees = jax.tree.map(np.asarray, on_host)  # scalars too: only arrays have a dtype to keep
    scores = checkpoint.scores
    record = {
        "step": checkpoint.step,
        "data_position": checkpoint.data_position,
        "config": checkpoint.config,
        "scores": None if scores is None else {name: float(score) for name, score in scores.items()},
        "versions": checkpoint.versions,
        "arrays": {name: describe(tree) for name, tree in trees.items()},
    }
    return ocp.args.Composite(
        variables=ocp.args.PyTreeSave(trees["variables"]),
        training=ocp.args.PyTreeSave(trees["training"]),
        record=ocp.args.JsonSave(seal(record)),
    )


@contextmanager
def _damage_is_one_error() -> Iterator[None]:
    """Damage shows as any of a dozen exceptions; a full memory and a lack of permission are none."""
    try:
        yield
    except (DamagedCheckpointError, MismatchedCheckpointError, MemoryError, PermissionError):
        raise
    except Exception as error:
        raise DamagedCheckpointError(brief(error)) from error


def brief(error: Exception) -> str:
    """Its kind and first line; those of Orbax are long."""
    first_line = str(error).strip().split("\n")[0][:300]
    return f"{type(error).__name__}: {first_line}"


def read_checkpoint(folder: Path, variables: Tree, optimizer: Tree) -> Checkpoint:
    """The whole checkpoint in the structure of the given trees, whose leaves need only shape and dtype."""
    record = read_record(folder)
    with _damage_is_one_error():
        # Before the arrays are read: another width should not take minutes to notice.
        saved = record["arrays"]["variables"] | record["arrays"]["training"]
        del saved["rng"]  # the same for every network and optimizer
        _check_match(folder, saved, _leaves(variables) | _leaves({"optimizer": _leaves(optimizer)}))
        leaves = _leaves(_read_arrays(folder, "variables", record))
        training = _read_arrays(folder, "training", record)
        return Checkpoint(
            step=record["step"],
            variables=_like(variables, leaves),
            optimizer=_like(optimizer, training["optimizer"]),
            rng=training["rng"],
            data_position=record["data_position"],
            config=record["config"],
            scores=record["scores"],
            versions=record["versions"],
        )


def read_variables(folder: Path) -> TrainedVariables:
    """The variables alone, in nested dictionaries; DamagedCheckpointError if they are not as they were saved."""
    record = read_record(folder)
    with _damage_is_one_error():
        variables = _read_arrays(folder, "variables", record)
        return TrainedVariables(record["step"], variables, record["config"], record["scores"], record["versions"])


def read_record(folder: Path) -> dict[str, Any]:
    """The record alone, which takes no time; DamagedCheckpointError if it is not as it was saved."""
    with _damage_is_one_error():
        record = unseal(ocp.JsonCheckpointHandler().restore(epath.Path(folder / "record")))
        if record["step"] != int(folder.name):
            raise DamagedCheckpointError(f"it was saved as step {record['step']}")
        return record


def _read_arrays(folder: Path, item: str, record: Mapping[str, Any]) -> Tree:
    kinds = (np.ndarray, _Patient()), (jax.Array, ocp.type_handlers.ArrayHandler())  # warns if it lacks the other
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=ocp.type_handlers.create_type_handler_registry(*kinds))
    try:
        tree = handler.restore(epath.Path(folder.resolve() / item))
    finally:
        handler.close()
    found, saved = describe(tree), record["arrays"][item]
    for path in saved | found:
        if saved.get(path) != found.get(path):
            raise DamagedCheckpointError(f"array {path} of its {item} is not what was saved")
    return tree


class _Patient(ocp.type_handlers.NumpyHandler):
    """Reads every array to its end, also where one fails; those still under way would miss their event loop."""

    async def deserialize(self, infos: Sequence[Any], args: Sequence[Any] | None = None) -> Sequence[np.ndarray]:
        """Read the arrays as Orbax does, but wait for all of them before an error is raised."""
        read = super().deserialize
        each = zip(infos, args or [None] * len(infos), strict=True)
        outcomes = await asyncio.gather(
            *(read([info], None if arg is None else [arg]) for info, arg in each), return_exceptions=True
        )
        found = list[np.ndarray]()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            found += outcome
        return found


def _leaves(tree: Tree) -> dict[str, Any]:
    """The leaves by their path, `params/encoder/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _like(template: Tree, leaves: Mapping[str, Any]) -> Tree:
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[path] for path in _leaves(template)])


def describe(tree: Tree) -> dict[str, dict[str, Any]]:
    """JSON: dtype, shape and digest of every array, by path."""
    leaves = _leaves(tree)
    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter lock
        digests = threads.map(_digest, leaves.values())
        return {
            path: {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}
            for (path, array), digest in zip(leaves.items(), digests, strict=True)
        }


def _digest(array: np.ndarray) -> str:
    # As bytes, because bfloat16 has no buffer that could be hashed.
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content, as JSON will give it back, with its digest, which covers the digests of the arrays."""
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return {"content": json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
    """The content; DamagedCheckpointError if it is not what was sealed."""
    content: dict[str, Any] = sealed["content"]
    if sealed["sha256"] != seal(content)["sha256"]:
        raise DamagedCheckpointError("its record is not what was saved")
    return content


def _check_match(folder: Path, saved: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Any]) -> None:
    theirs = {path: f"{array['dtype']} {tuple(array['shape'])}" for path, array in saved.items()}
    ours = {path: f"{array.dtype} {tuple(array.shape)}" for path, array in expected.items()}
    for path in ours | theirs:
        if ours.get(path) != theirs.get(path):
            raise MismatchedCheckpointError(
                f"{folder} does not fit this program: {path} is {theirs.get(path, 'missing')} "
                f"in the checkpoint and {ours.get(path, 'missing')} in the program"
            )

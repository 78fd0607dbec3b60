"""A trained network in one file, to carry and to ship: it serves prediction, and cannot be resumed.

The file is of the safetensors format. A tensor is named by its place, as in `params/stem_conv/kernel`. Parameters are
float16, which halves the file and moves maps by less than their rounding; batch statistics are float32, because a
variance may be too small for float16. The metadata hold, as `record`, what the record of a checkpoint holds: step,
configuration, scores, versions, and the digest of every array.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import save

from menet_jax.runtime.whole_files import written_whole
from menet_jax.training.checkpoint_format import DamagedCheckpointError, TrainedVariables, describe, seal, unseal

RECORD = "record"
LARGEST = float(np.finfo(np.float16).max)


def write_weights(path: Path, trained: TrainedVariables) -> None:
    """Write a trained network into one file, whose suffix should be `.safetensors`.

    Raises:
        ValueError: a parameter is too large for float16.
        OSError: the file cannot be written.
    """
    tensors = _to_half(trained.variables)
    record = {
        "step": trained.step,
        "config": trained.config,
        "scores": trained.scores,
        "versions": trained.versions,
        "arrays": describe(tensors),
    }
    with written_whole(path) as unfinished:
        unfinished.write_bytes(save(tensors, {RECORD: json.dumps(seal(record))}))


def read_weights(path: Path) -> TrainedVariables:
    """Read what `write_weights` wrote; all arrays are float32.

    Raises:
        ValueError: the file is damaged, or of another kind.
        OSError: it cannot be opened.
    """
    path.open("rb").close()  # for an error that names the file
    try:
        with safe_open(path, "numpy") as file:
            sealed = (file.metadata() or {}).get(RECORD)
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    except Exception as error:  # whatever the library finds wrong
        raise ValueError(f"{path}: damaged, or no safetensors file ({error})") from error
    if sealed is None:
        raise ValueError(
            f"{path}: does not say how its network was trained, so menet_jax.export did not write it; weights of the "
            "authors' code become a run by python -m menet_jax.authors import"
        )
    try:
        record = unseal(json.loads(sealed))
        if record["arrays"] != describe(tensors):
            raise DamagedCheckpointError("an array is not what was written")
        variables = unflatten_dict({name: each.astype(np.float32) for name, each in tensors.items()}, sep="/")
        return TrainedVariables(record["step"], variables, record["config"], record["scores"], record["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error


def _to_half(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    tensors = {}
    for name, array in flatten_dict(variables, sep="/").items():
        values = np.ascontiguousarray(array)
        if name.startswith("params/"):
            if np.abs(values).max(initial=0) > LARGEST:
                raise ValueError(f"{name} holds {np.abs(values).max()}, and float16 ends at {LARGEST}")
            values = values.astype(np.float16)
        tensors[name] = values
    return tensors

"""Preparing on a full disk, after a kill, and beside those who use what was prepared before."""

import subprocess
import sys
from pathlib import Path

import benchmark_archives as small
import numpy as np
import pytest
from PIL import Image

from menet_jax.data.pipeline import training_batches
from menet_jax.data.sources import Source, open_split
from menet_jax.data.specs import Places
from menet_jax.datasets.preparing import InUse, remove_unused
from menet_jax.datasets.sod.sod_dataset_builder import Sod

USED = """if True:
    import pathlib, sys
    from menet_jax.datasets.preparing import InUse

    in_use = InUse(pathlib.Path(sys.argv[1]))
    print("in use", flush=True)
    sys.stdin.read()
"""


HELD = """if True:
    import pathlib, sys
    from menet_jax.data.sources import open_split
    from menet_jax.data.specs import Places

    source = open_split(sys.argv[1], "train", Places(pathlib.Path(sys.argv[2])))
"""


def write(folder: Path, count: int = 8) -> Path:
    """Images of noise, listed for training, in PNG files that nothing compresses."""
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (90, 90, 3), np.uint8)
        for kind, picture in (("images", noise), ("masks", noise[..., 0] // 200 * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / kind / f"{index}.png")
    (folder / "train.txt").write_text("\n".join(map(str, range(count))))
    return folder


def open_train(folder: Path, cache: Path) -> Source:
    return open_split(str(folder), "train", Places(cache))


def caches(cache: Path) -> list[Path]:
    return sorted((cache / "saliency_folders").iterdir())


def test_a_full_disk_is_named(tmp_path: Path, small_disk: None) -> None:
    with pytest.raises(OSError, match=f"^{tmp_path}/cache/.*: a dataset cannot be prepared there .*File too large.*--"):
        open_train(write(tmp_path / "data"), tmp_path / "cache")


def test_a_disk_without_any_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorflow_datasets.core.utils.has_sufficient_disk_space", lambda *_, **__: False)
    with pytest.raises(OSError, match=f"^{tmp_path}/cache/.*: a dataset cannot be prepared there .Not enough .* Make"):
        open_train(write(tmp_path / "data", 1), tmp_path / "cache")


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_shard_is_named_while_training(damage: str, tmp_path: Path) -> None:
    source = open_train(write(tmp_path / "data"), tmp_path / "cache")
    [shard] = (tmp_path / "cache").rglob("*-train.array_record*")
    content = bytearray(shard.read_bytes())
    if damage == "flipped":
        content[:: len(content) // 50] = bytes(len(content[:: len(content) // 50]))
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    batches = training_batches([source], batch_size=8, seed=0)
    with pytest.raises(OSError, match=f"^{shard.parent}: the prepared dataset is damaged .*remove that folder"):
        next(batches)
    batches.close()


@pytest.mark.parametrize("file", ["dataset_info.json", "metadata.json"])
def test_a_damaged_description_is_named(file: str, tmp_path: Path) -> None:
    folder, cache = write(tmp_path / "data", 2), tmp_path / "cache"
    open_train(folder, cache)
    [path] = cache.rglob(file)
    path.write_text("")
    with pytest.raises(OSError, match=f"^({folder}|{path.parent}): .* damaged .*remove"):
        open_train(folder, cache)


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    folder, cache = write(tmp_path / "data", 2), tmp_path / "cache"
    open_train(folder, cache)
    [prepared] = cache.rglob("1.0.0")
    left = prepared.with_name(f"incomplete.ABCDEF_{prepared.name}")
    prepared.rename(left)
    open_train(folder, cache)
    assert prepared.exists() and not left.exists()


def test_a_cache_in_use_stays(tmp_path: Path) -> None:
    """Its folder changes, and another command opens it, while a training reads what it was prepared to."""
    folder, cache = write(tmp_path / "data"), tmp_path / "cache"
    trained = open_train(folder, cache)
    [before] = caches(cache)
    (folder / "train.txt").write_text("0\n1\n2")
    assert len(open_train(folder, cache)) == 3
    assert before in caches(cache) and len(trained) == 8
    np.testing.assert_array_equal(trained[7].image, np.asarray(Image.open(folder / "images" / "7.png")))
    del trained
    open_train(folder, cache)
    assert before not in caches(cache) and len(caches(cache)) == 1


def test_other_processes_count_until_they_are_gone(tmp_path: Path) -> None:
    prepared = tmp_path / "1.0.0"
    prepared.mkdir()
    user = subprocess.Popen(
        [sys.executable, "-c", USED, str(prepared)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None and user.stdout.readline() == "in use\n"
    assert not remove_unused(prepared) and prepared.exists()
    user.kill()
    user.communicate()
    also_here = InUse(prepared)
    assert not remove_unused(prepared) and prepared.exists()
    del also_here
    assert remove_unused(prepared) and not prepared.exists()


def test_a_benchmark_in_use_is_not_built_anew(tmp_path: Path) -> None:
    manual = tmp_path / "manual"
    small.write(manual, small.sod(range(8)))
    builder = Sod(manual_dir=manual, data_dir=tmp_path / "cache", skip_bad=True)
    in_use = builder.prepare()
    small.write(manual, small.sod(range(7)))
    again = Sod(manual_dir=manual, data_dir=tmp_path / "cache", skip_bad=True)
    with pytest.raises(ValueError, match=r"is in use, perhaps by a training.*--data\.cache"):
        again.prepare()
    assert Path(builder.data_path).exists()
    del in_use
    again.prepare()


def test_a_script_ends_without_a_word_of_the_dataset_that_it_holds(tmp_path: Path) -> None:
    """Python takes modules apart before it lets go of some objects: what they close then must not need one."""
    folder, cache = write(tmp_path / "mine", 2), tmp_path / "cache"
    open_train(folder, cache)
    command = [sys.executable, "-c", HELD, str(folder), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Exception ignored" not in done.stderr, done.stderr

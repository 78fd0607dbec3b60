"""Run directories, and their contents as far as the names of files tell."""

from pathlib import Path

from menet_jax.runtime.regular_files import real

RELEASED = Path("released")
"""Name of the trained network that comes with the package, wherever a flag takes a trained run."""
SHIPPED = Path(__file__).parents[1] / "weights" / "menet_width8_duts.safetensors"
"""The file of that network (`weights_file.py`); the model card beside it is `README.md`."""
CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"


def check_run(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise ValueError if the run directory holds a run that is neither to be resumed nor to be overwritten, or holds
    something else.
    """
    if run.exists() and not run.is_dir():
        raise ValueError(f"--run {run}: is a file")
    occupied = run.is_dir() and any(run.iterdir())
    if occupied and not (run / CONFIG_FILE).exists():
        raise ValueError(f"--run {run}: holds files, but no run; name another directory")
    if occupied and not (resume or overwrite):
        raise ValueError(
            f"--run {run}: holds a run already. Go on with it: --resume. Delete it and start anew: --overwrite. "
            "Or name another directory: --run DIRECTORY."
        )


def locate(run: Path) -> Path:
    """The path of a trained run: for `released`, of the file that comes with the package.

    Raises:
        ValueError: there is something of that name in the current folder, and both could be meant.
    """
    if run != RELEASED:
        return run
    if RELEASED.exists():
        raise ValueError(
            f"{RELEASED}: means the network that comes with menet_jax, and there is a {RELEASED} in this folder too; "
            f"name that one {RELEASED.absolute()}"
        )
    return SHIPPED


def check_trained(run: Path) -> None:
    """Raise ValueError or FileNotFoundError if there is no run there, or one without a checkpoint."""
    folder = locate(run)
    if folder.is_file():
        if folder.suffix != ".safetensors":
            raise ValueError(f"{folder}: is neither a run directory nor a .safetensors file of menet_jax.export")
        return
    if folder == SHIPPED:
        raise FileNotFoundError(f"{run}: this copy of menet_jax came without {SHIPPED.name}; name a run of yours")
    if not (folder / CONFIG_FILE).is_file():
        found = "holds no run" if folder.is_dir() else "is not a directory"
        raise FileNotFoundError(
            f"{folder} {found}: name the directory that training wrote, as its --run says, or {RELEASED}, the network "
            "that comes with menet_jax"
        )
    if not saved_steps(folder / CHECKPOINTS):
        raise FileNotFoundError(f"the run {folder} has no checkpoint yet: train it further with --resume")


def check_new(folder: Path) -> None:
    """Raise ValueError if there is something at the place of a new run directory."""
    if real(folder) == Path.cwd():
        raise ValueError(f"{folder}: is the folder that you are in; name another directory")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder}: is there already, and nothing is overwritten; name another directory")


def saved_steps(folder: Path) -> list[int]:
    """The steps saved in the folder, ascending. Unfinished saves have longer names, and other folders mean nothing."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

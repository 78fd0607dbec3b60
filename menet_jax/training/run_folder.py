"""What is in a run directory, as far as the names of its files tell."""

from pathlib import Path

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


def check_trained(folder: Path) -> None:
    """Raise FileNotFoundError if there is no run there, or one without a checkpoint."""
    if not (folder / CONFIG_FILE).is_file():
        found = "holds no run" if folder.is_dir() else "is not a directory"
        raise FileNotFoundError(f"{folder} {found}: name the directory that training wrote, as its --run says")
    if not saved_steps(folder / CHECKPOINTS):
        raise FileNotFoundError(f"the run {folder} has no checkpoint yet: train it further with --resume")


def check_new(folder: Path) -> None:
    """Raise ValueError if there is something at the place of a new run directory."""
    if folder.resolve() == Path.cwd():
        raise ValueError(f"{folder}: is the folder that you are in; name another directory")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder}: is there already, and nothing is overwritten; name another directory")


def saved_steps(folder: Path) -> list[int]:
    """The steps saved in the folder, ascending. Unfinished saves have longer names."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())

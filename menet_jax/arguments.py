"""NAME=FOLDER arguments, which name methods and runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def named(flag: str, specs: Sequence[str]) -> list[tuple[str, Path]]:
    """NAME=FOLDER → both; of a folder alone, the name of the folder.

    Raises:
        ValueError: one is neither.
    """
    pairs = []
    for spec in specs:
        name, separator, folder = spec.partition("=")
        if not separator or Path(spec).expanduser().exists():  # a folder may have the sign in its name
            name, folder = Path(spec).expanduser().resolve().name, spec
        if not name or not folder:
            raise ValueError(f"{flag} {spec}: want NAME=FOLDER, or a folder")
        pairs.append((name, Path(folder).expanduser()))
    return pairs


def refuse_doubles(what: str, names: Sequence[str], advice: str) -> None:
    """Raise ValueError, with the advice, if a name occurs twice."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise ValueError(f"two {what} are called {doubled[0]}: {advice}")

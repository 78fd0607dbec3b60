"""Flags, refusals, start and end of commands."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_origin, get_type_hints, runtime_checkable

import tyro

from menet_jax.runtime import memory
from menet_jax.runtime.interrupts import interruptible
from menet_jax.runtime.regular_files import at_home, real
from menet_jax.runtime.text import printable

Work = TypeVar("Work")


@runtime_checkable
class Options(Protocol):
    """The options of a command line."""

    def check(self) -> None:
        """Raise ValueError or OSError for what can be refused at once."""


BAD_INPUT = 2
FAILED = 1

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""How the text of JAX's error begins; its class, a RuntimeError, is not asked for, since JAX is imported late."""

WITH_LESS_MEMORY = (
    "Smaller batches take less, where the command has a --batch-size, and a narrower network. On a GPU another process "
    "may hold it: a JAX program takes three quarters at its start, unless XLA_PYTHON_CLIENT_PREALLOCATE=false is set"
)


def run_command(
    prepare: Callable[[], Work],
    do: Callable[[Work], int],
    left: Callable[[Work], str] = lambda _: "nothing was computed",
    failures: tuple[type[Exception], ...] = (OSError,),
    refusals: tuple[type[Exception], ...] = (),
) -> int:
    """Prepare and do the work of a command; its exit status, 2 for bad input, 1 if writing fails.

    Args:
        prepare: opens and checks everything; ValueError and OSError say what cannot be used.
        do: the work.
        left: what there is of work that was interrupted, in words.
        failures: errors of the work that say what to do.
        refusals: others that say so of bad input which the work alone finds.

    Raises:
        SystemExit: with status 130 after Ctrl-C.
    """
    try:
        with interruptible(lambda: "stopped before anything was computed"):
            work = prepare()
    except (ValueError, OSError) as error:
        complain_of(error)
        return BAD_INPUT
    try:
        with interruptible(lambda: f"stopped; {left(work)}"):
            return do(work)
    except failures as error:
        complain_of(error)
        return FAILED
    except refusals as error:
        complain_of(error)
        return BAD_INPUT
    except RuntimeError as error:
        if not str(error).startswith(OUT_OF_MEMORY):
            raise
        heading = str(error).splitlines()[0].rstrip(".")
        said = f"the device has no memory left ({heading}). {WITH_LESS_MEMORY}; {left(work)}"
        complain_of(RuntimeError(said))
        return FAILED


def run_options(
    arguments: Sequence[str],
    commands: Mapping[type[Options], str],
    module: str,
    description: str | None = None,
    **ends: Any,
) -> int:
    """Parse and check a command's options, and do what they ask for; the exit status, see `run_command`.

    Args:
        arguments: of the command line.
        commands: class of the options → module whose `run` does the work; of several, each is a subcommand. The module
            imports JAX, which would keep waiting who only asks for help: it is imported last. What its `run` returns is
            the exit status; nothing is 0.
        module: that runs the command.
        description: of a command with subcommands.
        ends: `left`, `failures` and `refusals` of `run_command`, where the work does not call it again.
    """

    def parse() -> Options:
        refuse_repeats(arguments, *commands)
        kinds: Any = reduce(or_, commands)
        options: Options = tyro.cli(kinds, args=words(arguments), prog=f"python -m {module}", description=description)
        options.check()
        return options

    def work(options: Options) -> int:
        memory.set_up()
        status: int | None = import_module(commands[type(options)]).run(options)
        return status or 0

    return run_command(parse, work, **ends)


def complain_of(error: Exception) -> None:
    """Print an error, line by line; names in it may hold what a terminal would obey."""
    heading, *lines = str(error).splitlines() or [type(error).__name__]
    print("\n".join([f"error: {printable(heading)}", *map(printable, lines)]), file=sys.stderr)


def refuse_repeats(arguments: Sequence[str], *options: type) -> None:
    """Raise ValueError if a flag that takes several values is given twice: the last one alone would count."""
    several = {flag for each in options for flag in _flags_of_several(each)}
    given = Counter(argument.split("=")[0].replace("_", "-") for argument in arguments)
    twice = sorted(flag for flag in several if given[flag] > 1)
    if twice:
        raise ValueError(f"{', '.join(twice)}: given twice; name all values after one flag")


def words(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line, with the homes that shells leave as they are in `--flag=~/folder`.

    Raises:
        ValueError: one is empty, as of a variable that is not set: a path would be the current folder.
        FileNotFoundError: the current folder is gone, from which all other paths go.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise FileNotFoundError(
            "the current folder is gone: it was deleted or replaced; go to one that is there"
        ) from None
    parts = [argument.rpartition("=") if argument.startswith("-") else ("", "", argument) for argument in arguments]
    for before, (flag, _, value) in zip(["", *arguments], parts, strict=False):
        if not value:
            raise ValueError(f"{flag or before} '': is empty; give a value, or leave it out")
    return [flag + sign + _with_home(value) for flag, sign, value in parts]


def named(flag: str, specs: Sequence[str]) -> list[tuple[str, Path]]:
    """NAME=FOLDER → both; of a folder alone, the name of the folder.

    Raises:
        ValueError: one is neither.
    """
    pairs = []
    for spec in specs:
        name, separator, folder = spec.partition("=")
        if not separator or at_home(spec).exists():  # a folder may have the sign in its name
            name, folder = real(at_home(spec)).name, spec
        if not name or not folder:
            raise ValueError(f"{flag} {spec}: want NAME=FOLDER, or a folder")
        pairs.append((name, at_home(folder)))
    return pairs


def check_there(flag: str, path: Path) -> None:
    """Raise FileNotFoundError, naming the flag, if there is nothing there."""
    if not path.exists():
        raise FileNotFoundError(f"{flag} {path}: there is no such file or folder")


def check_file(file: Path) -> None:
    """Raise FileNotFoundError if there is nothing; what reads the file says what else may be wrong."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: there is no such file")


def check_folder(folder: Path) -> None:
    """Raise FileNotFoundError if it is not a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")


def refuse_doubles(what: str, names: Sequence[str], advice: str) -> None:
    """Raise ValueError, with the advice, if a name occurs twice."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise ValueError(f"two {what} are called {doubled[0]}: {advice}")


def _with_home(value: str) -> str:
    """The value with a leading `~` or `~user` replaced, if the user is known."""
    if value.startswith("~"):
        with suppress(ValueError):
            return str(at_home(value))
    return value


def _flags_of_several(options: type, prefix: str = "--") -> list[str]:
    flags = []
    for name, kind in get_type_hints(options).items():
        flag = prefix + name.replace("_", "-")
        if isinstance(kind, type) and is_dataclass(kind):
            flags += _flags_of_several(kind, f"{flag}.")
        elif get_origin(kind) is tuple:
            flags.append(flag)
    return flags


def check_counts(**counts: int) -> None:
    """Raise ValueError, naming the flag, for a count below 1, or one that JAX cannot hold."""
    for name, count in counts.items():
        if not 1 <= count < 2**31:
            raise ValueError(f"--{name.replace('_', '-')} {count}: must be at least 1, and less than 2**31")

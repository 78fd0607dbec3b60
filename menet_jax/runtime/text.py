"""Messages of commands, in one form for all of them."""

import sys
import unicodedata
from collections.abc import Sequence

LISTED = 20
"""Names in one line, at most."""


def say(*texts: str) -> None:
    """Print lines for people; names in them may hold what a terminal would obey."""
    print(*map(shown, texts), sep="\n")


def warn(message: str) -> None:
    """Print a warning: the work goes on."""
    print(f"warning: {shown(message)}", file=sys.stderr)


def complain(heading: str, lines: Sequence[str] = ()) -> None:
    """Print an error: a heading, and the lines that it is about."""
    print(f"error: {printable(heading)}", *(f"  {printable(line)}" for line in lines), sep="\n", file=sys.stderr)


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first of what may be many names, printable, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return separator.join(map(printable, names[:LISTED])) + more


def shown(text: str) -> str:
    """Lines of text, each `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def composed(name: str) -> str:
    """A name in its shortest form in Unicode: systems write é as one letter or as two, and both look the same."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """The text, with escapes in the place of what a terminal cannot show or would obey: names of files hold both."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def counted(number: int, noun: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

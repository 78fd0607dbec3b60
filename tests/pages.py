"""The README and the pages, as text, blocks of code, and code within lines."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "menet_jax"
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "datasets").glob("*/README.md"))]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of code in these languages."""
    return [code for _, language, code in FENCED.findall(page.read_text()) if language in languages]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCED.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Code within lines."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]

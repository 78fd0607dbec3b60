"""Write the repository's address, `url` in setup.cfg, into the badges and install cells: python notebooks/address.py"""

import configparser
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLAB = "https://colab.research.google.com"
BADGE = re.compile(r"\[!\[Open in Colab\]\((.+)\)\]\(.+\)")
UPLOAD = "*(Colab asks which notebook: upload this file.)*"


def repository() -> str:
    """The repository's address, as `git clone` takes it; "" where it is not known."""
    setup = configparser.ConfigParser()
    setup.read(HERE.parent / "setup.cfg")
    return setup["metadata"]["url"]


def addressed(text: str, name: str, url: str) -> str:
    """A cell's text with the badge and the install cell's REPOSITORY for this address.

    Args:
        text: of any cell; others stay as they are.
        name: the notebook's file name.
        url: the address. Colab opens notebooks from GitHub; of others, and of none, the badge leads to its upload.
    """
    github = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?/?", url)
    target = f"{COLAB}/github/{github[1]}/blob/main/notebooks/{name}" if github else f"{COLAB}/"
    lines = []
    for line in text.split("\n"):
        if line.startswith("REPOSITORY = "):
            line = re.sub('".*?"', f'"{url}"', line, count=1)
        if badge := BADGE.fullmatch(line):
            lines += [f"[![Open in Colab]({badge[1]})]({target})", *([] if github else [UPLOAD])]
        elif line != UPLOAD:
            lines.append(line)
    return "\n".join(lines)


def rewritten(path: Path, url: str) -> str:
    """What a notebook's file is to hold."""
    notebook: dict[str, Any] = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["source"] = addressed("".join(cell["source"]), path.name, url).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in sorted(HERE.glob("*.ipynb")):
        path.write_text(rewritten(path, repository()))

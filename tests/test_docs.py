"""The README and the pages say what is so: their commands, flags, links, names and Python are tried."""

import configparser
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from command_cases import write_discs, write_narrow_run
from pages import PACKAGE, PAGES, README, ROOT, blocks, prose, spans
from PIL import Image
from test_commands import COMMANDS as SUBCOMMANDS

import menet_jax
from menet_jax import __main__ as listing
from menet_jax import authors, draw, evaluate, export, metric_loss, predict, train
from menet_jax.benchmark import __main__ as benchmark
from menet_jax.data import __main__ as data
from menet_jax.data.sources import NAMED
from menet_jax.demo import __main__ as demo
from menet_jax.robustness import __main__ as robustness
from menet_jax.runtime import cli
from menet_jax.training import config as configuration
from menet_jax.training.presets import PRESETS
from menet_jax.training.run_folder import CONFIG_FILE

SHELL = ("", "bash", "sh")
LOOP = re.compile(r"\s*for (\w+) in (.+); do$")
VARIABLE = re.compile(r"\$\{?(\w+)\}?")

PARSE: dict[str, Callable[[list[str]], object]] = {
    "menet_jax": lambda arguments: sys.exit(listing.main(arguments)),
    "menet_jax.train": train.parse,
    "menet_jax.data": data.main,
    "menet_jax.predict": predict.main,
    "menet_jax.demo": demo.main,
    "menet_jax.evaluate": evaluate.main,
    "menet_jax.draw": draw.main,
    "menet_jax.robustness": robustness.main,
    "menet_jax.export": export.main,
    "menet_jax.authors": authors.main,
    "menet_jax.benchmark": benchmark.main,
}
"""What parses the flags of commands, where `run_command` only prepares."""

WITHOUT_FLAGS = ("menet_jax.datasets.synthetic.samples",)

FILE_CHECKS = {
    "menet_jax.data.options": ("check_data",),
    "menet_jax.evaluation.options": ("check_data", "check_folder", "check_runs", "check_there", "check_trained"),
    "menet_jax.evaluation.draw_options": ("check_data", "check_folder", "check_runs"),
    "menet_jax.robustness.summary_options": ("check_written",),
    "menet_jax.demo.options": ("check_trained",),
    "menet_jax.benchmark.options": ("check_data", "check_folder"),
    "menet_jax.training.authors_options": ("check_file", "check_trained"),
}
"""What refuses files that are not there, as those of the pages are not."""


def simple_commands(line: str) -> list[list[str]]:
    """The commands of a line of the shell, as words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    groups = itertools.groupby(lexer, lambda word: set(word) <= set("&|;"))
    return [list(words) for between, words in groups if not between]


def substituted(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words with the values of variables; others stay."""
    return [VARIABLE.sub(lambda found: values.get(found[1], found[0]), word) for word in words]


def own_commands(script: Sequence[str]) -> Iterator[list[str]]:
    """Module and arguments of every command of this package, once for every turn of the loops around it."""
    loops: dict[str, list[str]] = {}
    for line in script:
        if loop := LOOP.match(line):
            loops[loop[1]] = loop[2].split()
            continue
        for words in simple_commands(line):
            if "-m" in words and words[words.index("-m") + 1].startswith("menet_jax"):
                used = [name for name in loops if any(name in VARIABLE.findall(word) for word in words)]
                for values in itertools.product(*(loops[name] for name in used)):
                    known = dict(zip(used, values, strict=True))
                    yield substituted(words[words.index("-m") + 1 :], known)


def commands_of(page: Path) -> Iterator[list[str]]:
    """The commands of this package in a page, in blocks and within lines."""
    for script in blocks(page, *SHELL):
        yield from own_commands(script.replace("\\\n", " ").splitlines())
    for code in spans(page):
        if code.startswith("python -m "):
            yield from own_commands([code])


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page)]


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Parses a command by its own parser, as if all files that it names were there; SystemExit or ValueError if it
    would be refused. Nothing is done.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "run_command", lambda prepare, _, **ends: bool(prepare()) and 0)
    for place, names in FILE_CHECKS.items():
        for name in names:
            monkeypatch.setattr(f"{place}.{name}", lambda *_: None)

    def parse_command(command: list[str]) -> None:
        module, *arguments = command
        if "--resume" in arguments:
            run = Path(arguments[arguments.index("--run") + 1])
            run.mkdir(parents=True)
            configuration.write(replace(PRESETS["quickstart"].config, run=run), run / CONFIG_FILE)
        if module in WITHOUT_FLAGS:
            assert not arguments
        else:
            PARSE[module](arguments)

    return parse_command


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{page.relative_to(ROOT)}: {' '.join(command)}" for page, command in COMMANDS]
)
def test_a_command_is_taken(page: Path, command: list[str], parse: Callable[[list[str]], None]) -> None:
    try:
        parse(command)
    except SystemExit as end:
        assert end.code in (0, None), f"{page}: {' '.join(command)}"


CHEAP = [
    "menet_jax",
    "menet_jax.data show path/to/folder --dest batch.png",
    "menet_jax.robustness distortion --data path/to/folder --save-images distorted",
    "menet_jax.predict --run runs/mine --source photographs --dest maps",
    "menet_jax.predict --run runs/mine --source photograph.jpg --dest maps --probability --overlay --cutout",
    "menet_jax.evaluate --maps DSS=maps/DSS PiCANet=maps/PiCANet --masks path/to/masks --dest published",
    "menet_jax.evaluate --run runs/mine --data path/to/folder --dest scores",
    "menet_jax.draw worst --run RUN --data DATASET --count 5 --dest worst.png",
    "menet_jax.draw scales --run RUN --data DATASET --image 0017 --dest scales.png",
    "menet_jax.export runs/mine --dest mine.safetensors",
    "menet_jax.authors export runs/mine --dest mine.pt",
]
"""Commands of the pages that take little time where the files that they name are small."""


def test_cheap_commands_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(CHEAP) <= {" ".join(command) for _, command in COMMANDS}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))
    discs = write_discs(Path("path/to/folder"), 12)
    for kind in ("images", "masks"):
        (discs / kind / "0.png").rename(discs / kind / "0017.png")
    for split, names in {"train": range(1, 9), "validation": [9], "test": [10, 11, "0017"]}.items():
        (discs / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    Path("runs").mkdir()
    write_narrow_run(Path("runs/mine"))
    for link, there in {"RUN": "runs/mine", "DATASET": f"{discs}", "photographs": f"{discs}/images"}.items():
        Path(link).symlink_to(there)
    for link in ("maps/DSS", "maps/PiCANet", "path/to/masks"):
        Path(link).parent.mkdir(exist_ok=True)
        Path(link).symlink_to(tmp_path / discs / "masks")
    Image.open(discs / "images" / "1.png").save("photograph.jpg")
    for command in CHEAP:
        module, *arguments = command.split()
        try:
            code = PARSE[module](arguments)
        except SystemExit as end:
            code = end.code
        assert not code, f"{command}: {capsys.readouterr().err}"
    made = "batch.png published/results.md scores/results.md worst.png scales.png mine.safetensors mine.pt"
    made += " maps/0017.png maps/photograph.png maps/photograph_cutout.png"
    assert [name for name in made.split() if not Path(name).exists()] == []


@pytest.mark.parametrize(
    "command",
    [
        "menet_jax.train --model.breadth 8",
        "menet_jax.train paper --model.width wide",
        "menet_jax.train papier",
        "menet_jax.train --run runs/mine --resume --model.width 8",
        "menet_jax.predict --run runs/mine --source photographs",
        "menet_jax.evaluate --run runs/mine --dest scores",
        "menet_jax.draw grid --run RUN --data DATASET --dest grid.png --noise 20 --jpeg 10",
        "menet_jax.robustness distortion --data DATASET --save-images FOLDER --qualities 0",
        "menet_jax.robustness norms --run RUN --data DATASET",
        "menet_jax.data show FOLDER --destination batch.png",
        "menet_jax.authors export runs/mine",
        "menet_jax.benchmark training --precision float16",
        "menet_jax trian",
    ],
)
def test_a_wrong_command_is_not_taken(command: str, parse: Callable[[list[str]], None]) -> None:
    with pytest.raises((SystemExit, ValueError)) as refused:
        parse(command.split())
    assert not isinstance(refused.value, SystemExit) or refused.value.code == 2


def test_the_shell_is_read_as_it_is_meant() -> None:
    script = ["for name in a b; do", "  python -m menet_jax.train $name --run runs/$name && python -m pytest", "done"]
    assert list(own_commands(script)) == [["menet_jax.train", name, "--run", f"runs/{name}"] for name in "ab"]
    assert list(own_commands(['.venv/bin/python -m menet_jax.x "a b" $other  # c'])) == [
        ["menet_jax.x", "a b", "$other"]
    ]
    assert len(COMMANDS) > 50


def test_every_command_is_in_the_pages() -> None:
    known = {f"menet_jax.{name}": subcommands for name, subcommands in SUBCOMMANDS.items()}
    assert set(known) == {f"menet_jax.{name}" for name in listing.COMMANDS}
    shown = {tuple(command[: 1 + bool(known.get(command[0]))]) for _, command in COMMANDS}
    for module, subcommands in known.items():
        assert {(module, *([each] if each else [])) for each in subcommands or [""]} <= shown


def test_flags_within_lines_are_flags_of_commands(
    parse: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name, subcommands in SUBCOMMANDS.items():
        for subcommand in subcommands or [""]:
            with pytest.raises(SystemExit):
                parse([f"menet_jax.{name}", *([subcommand] if subcommand else []), "--help"])
    flags = set(re.findall(r"--[a-z][\w.-]*\w", capsys.readouterr().out)) | {"--version"}
    assert len(flags) > 100
    written = {(page.name, code.split()[0]) for page in PAGES for code in spans(page) if code.startswith("--")}
    assert {(page, flag) for page, flag in written if flag not in flags} == set()
    assert len(written) > 40


def test_the_two_numbered_commands_can_be_found() -> None:
    """Continuous integration runs them as they are."""
    found = re.findall(r"^<!-- command (\d) -->\n```bash\n(.+)\n```$", README.read_text(), re.MULTILINE)
    assert [number for number, _ in found] == ["1", "2"]
    fresh = "python3 -m venv .venv && .venv/bin/pip install -e "
    assert [command for _, command in found] == [
        f"{fresh}. && .venv/bin/python -m menet_jax.train",
        f'{fresh}".[test]" && .venv/bin/python -m pytest',
    ]


def headings(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not link.startswith(("http://", "https://")):
            name, _, heading = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists() and target.is_relative_to(ROOT), link
            assert not heading or heading in headings(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\(([^)\s#]+)\)", prose(README))}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def file_of(page: Path, code: str) -> Path | None:
    """The file of the project that a page calls so: from the top, within the package, or beside the page."""
    found = [ROOT / code, PACKAGE / code, page.parent / code, *([] if "/" in code else PACKAGE.rglob(code))]
    return next((path for path in found if path.exists()), None)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_files_of_the_project_exist(page: Path) -> None:
    named = [code for code in spans(page) if re.fullmatch(r"[\w./]+\.(py|toml|cfg)", code)]
    assert [code for code in named if file_of(page, code) is None] == []


NAMES_OF_A_FILE = re.compile(r"((?:`\w+`(?:,\s+|\s+and\s+)?)+)\s+(?:in\s+|\()`([\w/]+\.py)`")
"""`name` (`file.py`), `name` and `name` in `file.py`: how pages say where something is."""


def test_what_is_said_to_be_in_a_file_is_there() -> None:
    found = [
        (page, file, name)
        for page in PAGES
        for names, file in NAMES_OF_A_FILE.findall(prose(page))
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(found) > 90
    wrong = []
    for page, file, name in found:
        path = file_of(page, file)
        defined = re.compile(rf"^\s*(?:(?:def|class) {name}\b|{name}(?:: [^=]+)? = )", re.MULTILINE)
        if path is None or not defined.search(path.read_text()):
            wrong.append((page.name, file, name))
    assert not wrong


def section(page: Path, heading: str) -> str:
    """A page from a heading to the next one of its level."""
    [found] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def first_column(table: str) -> set[str]:
    """The names in the first cells of a table."""
    return {
        name for cell in re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", cell)
    }


def test_the_architecture_is_that_of_the_package() -> None:
    page, setup = ROOT / "docs" / "architecture.md", configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    [layers] = blocks(page, "")
    assert layers.split() == setup["importlinter:contract:layers"]["layers"].split()
    required = {re.split(r"[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    assert first_column(section(page, "Dependencies")) == required
    folders = {str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("__init__.py")}
    folders = {folder for folder in folders if not folder.startswith("datasets")} - {"."} | {"datasets"}
    assert first_column(section(page, "Subpackages")) == folders


def test_every_preset_and_every_dataset_is_described() -> None:
    assert set(PRESETS) <= set(spans(ROOT / "docs" / "training.md"))
    assert set(NAMED) == first_column(section(ROOT / "docs" / "datasets.md", "Published benchmarks"))


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    predicting, learning, measuring = blocks(README, "python")

    predictor = create_autospec(menet_jax.Predictor, instance=True, return_value=np.zeros((4, 5), np.float32))
    monkeypatch.setattr(menet_jax, "load_predictor", create_autospec(menet_jax.load_predictor, return_value=predictor))
    names: dict[str, Any] = {}
    exec(predicting, names)
    assert names["saliency"].shape == (4, 5)

    params = jax.random.normal(jax.random.key(0), (3, 4))
    images = jax.random.uniform(jax.random.key(1), (2, 4, 5, 3), maxval=255.0)
    labels = jnp.zeros((2, 4, 5), bool).at[:, 1:3, 1:3].set(True)
    names = {"network": lambda params, images: images @ params, "params": params, "images": images, "labels": labels}
    exec(learning, names)
    one_by_one = [metric_loss(image @ params, mask) for image, mask in zip(images, labels, strict=True)]
    assert float(names["value"]) == pytest.approx(float(np.mean(one_by_one)), abs=1e-6)
    assert names["gradient"].shape == params.shape and 0 < float(jnp.linalg.norm(names["gradient"])) < np.inf

    names["image"] = images[0]
    exec(measuring, names)
    # The Jacobian is block diagonal: the matrix `params`, once for each of the 20 pixels.
    assert names["spectral"].value == pytest.approx(float(jnp.linalg.norm(params, 2)), rel=1e-4)
    assert names["frobenius"].value == pytest.approx(float(jnp.linalg.norm(params)) * 20**0.5, rel=0.1)

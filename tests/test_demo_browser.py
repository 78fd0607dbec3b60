"""The demo in a browser: Chromium, which nothing but the demo answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from command_cases import write_discs, write_narrow_run
from PIL import Image
from test_demo import bomb

from menet_jax.demo.photographs import distort
from menet_jax.images.files import read_picture

playwright: Any = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium to try the demo in: apt-get install chromium"
)

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo of a network of width 1, in a folder of its own for temporary files."""
    run, here = write_narrow_run(tmp_path / "run"), tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "menet_jax.demo", "--run", str(run), "--port", "0"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C is heard wherever the tests run
    pipe = subprocess.PIPE
    environment = {**os.environ, "TMPDIR": str(here)}
    with subprocess.Popen(command, env=environment, cwd=here, stdout=pipe, stderr=pipe, text=True) as process:
        signal.signal(signal.SIGINT, before)
        yield process
        process.kill()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of the browser that fails where a script fails, or anything but this machine is asked."""
    asked, failed = set[str](), list[str]()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        made = browser.new_page()
        made.set_default_timeout(120_000)  # of a machine that does much else
        made.on("request", lambda request: asked.add(request.url))
        made.on("pageerror", lambda error: failed.append(str(error)))
        made.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        yield made
        browser.close()
    assert not failed
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("blob:", "data:"))} == {"127.0.0.1"}


def downloaded(page: Any, picture: str) -> tuple[str, np.ndarray]:
    """The name and the pixels of what is downloaded under a picture."""
    with page.expect_download() as download:
        page.click(f"{picture} .save")
    return download.value.suggested_filename, np.asarray(Image.open(download.value.path()))


def refuses_what_is_no_photograph(page: Any, folder: Path) -> None:
    folder.mkdir()
    files = {
        "text.png": (b"I am a text", "text.png: not an image of a known format"),
        "bomb.png": (bomb(60_000, 50_000), "bomb.png: 3,000.0 megapixels; the demo takes photographs of up to 16"),
        "large.png": (b"\0" * 33_000_000, "large.png: 33.0 MB; the demo takes files of up to 32 MB"),
        "<img src=x>.png": (b"", "<img src=x>.png: the file is empty"),
    }
    for name, (data, says) in files.items():
        (folder / name).write_bytes(data)
        page.set_input_files("#file", folder / name)
        page.wait_for_selector(f"#error:text-is('{says}')")
        page.wait_for_selector("main", state="hidden")


def shows_maps_at_full_size(page: Any, photograph: Path) -> None:
    page.set_input_files("#file", photograph)
    page.wait_for_selector("#maps [data-picture=cutout] img[src]")
    assert page.is_hidden("#error") and page.is_hidden("#distorted .pictures")
    pixels = np.asarray(Image.open(photograph))
    name, metric = downloaded(page, "#maps [data-picture=metric]")
    assert name == "0_metric.png" and metric.shape == pixels.shape[:2]
    name, cut = downloaded(page, "#maps [data-picture=cutout]")
    assert name == "0_cutout.png" and (cut == np.dstack([pixels, metric])).all()
    before = page.get_attribute("#maps [data-picture=cutout] img", "src")
    page.click("[name=kind][value=probability]")
    page.wait_for_selector(f"#maps [data-picture=cutout] img:not([src='{before}'])")
    page.wait_for_selector("#maps .state:empty", state="attached")
    probability = downloaded(page, "#maps [data-picture=probability]")[1]
    assert (downloaded(page, "#maps [data-picture=cutout]")[1][..., 3] == probability).all()


def slides(page: Any, photograph: Path) -> None:
    page.focus("#sigma")
    for key in ("PageUp", "ArrowRight", "ArrowRight"):  # ten, and one each
        page.keyboard.press(key)
    page.focus("#quality")
    page.keyboard.press("Home")
    page.wait_for_selector("#distorted [data-picture=photograph] [download*=_noise12_jpeg1_]", state="attached")
    page.wait_for_selector("#distorted .state:empty", state="attached")
    assert (page.inner_text("#sigma-value"), page.inner_text("#quality-value")) == ("12", "1")
    assert page.inner_text("#f-metric").startswith("F")
    name, pixels = downloaded(page, "#distorted [data-picture=photograph]")
    assert name == "0_noise12_jpeg1_photograph.png"
    assert (pixels == distort(read_picture(photograph), "0.png", 12.0, 1).rgb).all()
    page.press("#quality", "End")
    page.press("#sigma", "Home")
    page.wait_for_selector("#distorted .pictures", state="hidden")


def measures(page: Any) -> None:
    """The sensitivity map as it is computed; the norms, which take longer, as they could be told."""
    page.click("#measure")
    page.wait_for_selector("#jacobian .state:text('of at most 32 products')")
    page.wait_for_selector("#brightest:not(:empty)")
    assert downloaded(page, "#jacobian [data-picture=sensitivity]")[1].shape == (60, 70, 3)
    assert page.is_disabled("#measure")


def tells_norms(page: Any) -> None:
    lines = [
        {"stage": "spectral norm", "done": 3, "most": 64},
        {"norm": "spectral", "value": 0.12345, "converged": False},
        {"norm": "frobenius", "value": 0.34567, "standard_error": 0.0123, "converged": True},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    page.route("**/jacobian?*", lambda route: route.fulfill(body=text))
    page.click("#measure")
    page.wait_for_selector("#measure:enabled")
    page.unroute("**/jacobian?*")
    assert page.inner_text("#spectral") == "0.123 (not converged)"
    assert page.inner_text("#frobenius") == "0.346 ± 0.01"


def shows_a_sample_and_forgets_the_rest(page: Any) -> None:
    page.click("[data-sample=rocket]")
    page.wait_for_selector("#name:text-is('rocket.png')")
    page.wait_for_selector("#maps [data-picture=cutout] img[src]")
    assert page.is_enabled("#measure") and page.is_hidden("#jacobian .result")


def test_a_session(server: subprocess.Popen[str], page: Any, tmp_path: Path) -> None:
    assert server.stdout is not None
    address = next(line.split()[1] for line in server.stdout if line.startswith("page"))
    photograph = write_discs(tmp_path / "discs", 1) / "images" / "0.png"
    page.goto(address)
    refuses_what_is_no_photograph(page, tmp_path / "refused")
    shows_maps_at_full_size(page, photograph)
    slides(page, photograph)
    measures(page)
    shows_a_sample_and_forgets_the_rest(page)
    tells_norms(page)
    assert not list((tmp_path / "here").iterdir())  # nothing of a photograph, not even for a while

    page.click("#measure")  # what is computed does not hold up the end
    page.wait_for_selector("#jacobian .state:text('of at most')")
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=10)
    assert (errors, server.returncode) == ("stopped; nothing of the photographs is kept\n", 130)

"""The demo without a browser: what it computes, how it answers, what it refuses and how it ends."""

import asyncio
import base64
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import tornado.httpclient
import tornado.httpserver
from command_cases import outcome
from jacobian_cases import SmallNet, small_variables
from PIL import Image
from tornado.netutil import bind_sockets
from tornado.simple_httpclient import HTTPTimeoutError

from menet_jax.demo import __main__ as demo
from menet_jax.demo import options
from menet_jax.demo.answers import Networks, Question, distorted, jacobian, maps
from menet_jax.demo.photographs import agreement, distort, read
from menet_jax.demo.server import TYPE, application
from menet_jax.evaluation.predictor import Predictor
from menet_jax.images.distortions import Jpeg, Noise
from menet_jax.images.files import png, read_image, read_picture
from menet_jax.images.opening import UnreadableImageError
from menet_jax.model.inference import Maps
from menet_jax.model.saliency import border_background
from menet_jax.robustness.analysis.networks import MeasuredNetwork, random_key
from menet_jax.robustness.jacobian.image_function import network_map
from menet_jax.robustness.jacobian.norms import frobenius_norm

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def predictor() -> Any:
    """One whose metric map is the red of the image, and whose probability map is half of that."""

    def red(image: np.ndarray) -> Maps:
        metric = image[..., 0].astype(np.float32) / np.float32(255)
        return Maps(metric, metric / np.float32(2))

    made = create_autospec(Predictor, instance=True)
    made.maps.side_effect = red
    return made


@pytest.fixture
def networks() -> Networks:
    f = network_map(SmallNet(), small_variables(0))
    return Networks(predictor(), MeasuredNetwork(f, border_background, 8, Maps._fields, {}))


def told(answer: Callable[..., None], networks: Networks, **question: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    answer(networks, png(PHOTOGRAPH), Question(name="photo.png", **question), lines.append)
    return lines


def shown(lines: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    files = {line["picture"]: base64.b64decode(line["png"]) for line in lines if "picture" in line}
    return {name: np.asarray(Image.open(io.BytesIO(file))) for name, file in files.items()}


def bomb(width: int, height: int) -> bytes:
    """A PNG file that says that it is so large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"this is a text", "x.png: not an image of a known format"),
        (b"", "x.png: the file is empty"),
        (png(PHOTOGRAPH)[:300], "x.png: image file is truncated"),
        (bomb(60_000, 50_000), "x.png: 3,000.0 megapixels; the demo takes photographs of up to 16"),
        (bomb(4_001, 4_000), "x.png: 16.1 megapixels; the demo takes photographs of up to 16"),
        (b"\0" * 32_100_000, "x.png: 32.1 MB; the demo takes files of up to 32 MB"),
        (b"\0" * 32_010_000, "x.png: 32.1 MB; the demo takes files of up to 32 MB"),
    ],
    ids=["text", "empty", "truncated", "bomb", "just too many pixels", "large", "just too large"],
)
def test_what_is_no_photograph_is_refused_in_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableImageError) as refused:
        read(data, "x.png")
    assert str(refused.value).startswith(says) and "\n" not in str(refused.value)


def test_pictures_are_those_that_predict_writes(networks: Networks) -> None:
    pictures = shown(told(maps, networks, kind="metric"))
    red = PHOTOGRAPH[..., 0]
    assert list(pictures) == ["photograph", "metric", "probability", "overlay", "cutout"]
    assert (pictures["photograph"] == PHOTOGRAPH).all() and (pictures["metric"] == red).all()
    assert (pictures["cutout"] == np.dstack([PHOTOGRAPH, red])).all()
    by_probability = shown(told(maps, networks))
    assert (by_probability["cutout"][..., 3] == by_probability["probability"]).all()
    assert not (by_probability["overlay"] == pictures["overlay"]).all()


def test_a_network_without_a_metric_space(networks: Networks) -> None:
    both = networks.predictor.maps
    one = create_autospec(Predictor, instance=True)
    one.maps.side_effect = lambda image: both(image)._replace(metric=None)
    networks = networks._replace(predictor=one)
    assert list(shown(told(maps, networks))) == ["photograph", "probability", "overlay", "cutout"]
    [line] = [line for line in told(distorted, networks, sigma=40) if "f" in line]
    assert list(line["f"]) == ["probability"]


def test_distorted_as_robustness_distortion_does_it() -> None:
    picture = read_picture(png(PHOTOGRAPH))
    noisy = distort(picture, "photo.png", 20.0, None)
    assert (noisy.rgb == Noise(20.0, 20.0)(PHOTOGRAPH, "photo", 0)).all()
    assert (distort(picture, "photo.png", 0.0, 30).rgb == Jpeg(30, 30)(PHOTOGRAPH, "photo", 0)).all()
    both = distort(picture, "photo.png", 20.0, 30)
    assert (both.colours == Jpeg(30, 30)(noisy.rgb, "photo", 0)).all()


def test_agreement_is_the_f_of_one_map_against_the_cut_of_the_other() -> None:
    clean = np.array([[0, 0, 0, 0, 255, 200]], np.uint8)  # twice the mean is 152
    assert agreement(clean, clean) == 1
    half = np.array([[0, 0, 0, 0, 255, 0]], np.uint8)  # finds one of both: P = 1, R = ½
    assert agreement(clean, half) == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    for constant in (0, 100, 255):
        assert agreement(np.full_like(half, constant), half) is None


def test_the_answer_to_a_distortion_has_f_and_pictures(networks: Networks) -> None:
    lines = told(distorted, networks, sigma=40, quality=20)
    [scores] = [line["f"] for line in lines if "f" in line]
    picture = distort(read_picture(png(PHOTOGRAPH)), "photo.png", 40.0, 20)
    clean, noisy = (np.ascontiguousarray(each[..., 0]) for each in (PHOTOGRAPH, picture.rgb))
    assert set(scores) == {"metric", "probability"} and scores["metric"] == agreement(clean, noisy)
    assert (shown(lines)["photograph"] == picture.rgb).all()


def test_the_jacobian_is_told_with_its_progress(networks: Networks) -> None:
    lines = told(jacobian, networks)
    assert shown(lines)["sensitivity"].shape == PHOTOGRAPH.shape
    of, key = networks.measured, random_key(0, "photo.png")
    direct = frobenius_norm(of.f, of.seen(PHOTOGRAPH), key, relative_error=0.05, max_samples=128)
    norms = {line["norm"]: line for line in lines if "norm" in line}
    assert norms["frobenius"]["value"] == direct.value and norms["frobenius"]["standard_error"] == direct.standard_error
    assert norms["spectral"]["value"] < norms["frobenius"]["value"]
    counts: dict[str, list[int]] = {}
    for line in lines:
        if "stage" in line:
            counts.setdefault(line["stage"], []).append(line["done"])
    assert list(counts) == ["sensitivity map", "spectral norm", "Frobenius norm"]
    assert all(done == list(range(len(done))) for done in counts.values())
    assert counts["Frobenius norm"][-1] == direct.samples
    json.dumps(lines)


@pytest.mark.parametrize("question", [{"sigma": -1}, {"sigma": "nan"}, {"quality": 0}, {"kind": "photograph"}])
def test_questions_that_mean_nothing_are_refused(question: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(question))):
        Question(**question)


# --- the server


class Served:
    """The application in this process, answering by a function."""

    def __init__(self, answer: Callable[..., object]) -> None:
        self.answer = answer

    def fetch(self, path: str, **request: Any) -> tornado.httpclient.HTTPResponse:
        async def ask() -> tornado.httpclient.HTTPResponse:
            with ThreadPoolExecutor(1) as pool:
                server = tornado.httpserver.HTTPServer(application("<mine>", Maps._fields, self.answer, pool))
                sockets = bind_sockets(0, "127.0.0.1")
                server.add_sockets(sockets)
                url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}{path}"
                client = tornado.httpclient.AsyncHTTPClient(force_instance=True)
                try:
                    return await client.fetch(url, raise_error=False, **request)
                finally:
                    client.close()
                    server.stop()
                    await server.close_all_connections()

        return asyncio.run(ask())

    def post(self, path: str, body: bytes = b"x") -> list[dict[str, Any]]:
        response = self.fetch(path, method="POST", body=body, headers={"Content-Type": TYPE})
        assert response.code == 200 and response.headers["Cache-Control"] == "no-store"
        return [json.loads(line) for line in response.body.splitlines()]


def test_the_page_and_the_samples_are_served() -> None:
    served = Served(lambda *_: None)
    page = served.fetch("/")
    assert b"The network is &lt;mine&gt;" in page.body and b"up to 32 MB and 16 megapixels" in page.body
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert served.fetch("/page.js").code == served.fetch("/page.css").code == 200
    assert read_image(served.fetch("/samples/coffee.png").body).shape == (400, 600, 3)
    for path in ("/samples/none.png", "/index.html", "/../server.py", "/maps/x"):
        assert served.fetch(path).code == 404
    assert served.fetch("/maps", method="POST", body=b"x").code == 415  # as a form of another page could send it


def test_answers_come_line_by_line(capfd: pytest.CaptureFixture[str]) -> None:
    def answer(what: str, data: bytes, question: Question, tell: Callable[[Any], object]) -> None:
        tell({"what": what, "data": data.decode(), "sigma": question.sigma})
        if data == b"no":
            raise UnreadableImageError(question.name, "not an image")
        if data == b"fault":
            raise RuntimeError("a fault")

    served = Served(answer)
    lines = served.post("/distorted?sigma=5", b"yes")
    assert lines == [{"stage": "computing"}, {"what": "distorted", "data": "yes", "sigma": 5}]
    assert served.post("/maps?name=a%2Fb", b"no")[-1] == {"error": "a/b: not an image"}
    assert "sigma" in served.post("/distorted?sigma=-5")[-1]["error"]
    assert capfd.readouterr().err == ""
    assert served.post("/maps", b"fault")[-1] == {"error": "The demo itself failed; its terminal says how."}
    assert "RuntimeError: a fault" in capfd.readouterr().err


def test_what_nobody_waits_for_is_given_up() -> None:
    ended: list[type[BaseException]] = []

    def answer(what: str, data: bytes, question: Question, tell: Callable[[Any], object]) -> None:
        try:
            while True:
                tell({"stage": "on and on"})
                time.sleep(0.01)
        except BaseException as error:
            ended.append(type(error))
            raise

    served, form = Served(answer), {"method": "POST", "body": b"x", "headers": {"Content-Type": TYPE}}
    with pytest.raises(HTTPTimeoutError):
        served.fetch("/maps", **form, request_timeout=0.5)
    assert len(ended) == 1


# --- the command


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None if name == "tornado" else name)
    found = outcome(demo.main)
    assert found.code == 2
    assert found.err == 'error: what serves the page is not installed: pip install "menet_jax[demo]"\n'


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = outcome(demo.main, "--port", port)
    assert found.code == 2
    assert found.err.startswith(f"error: --host 127.0.0.1 --port {port}: Address already in use")

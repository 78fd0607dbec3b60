"""The server of the page: its files, sample photographs, and answers to its questions.

The server keeps nothing. The page sends the photograph with every question, and the answer is a line of JSON for
each result, as it comes. One question is answered at a time; one that the page no longer waits for is
given up.
"""

import asyncio
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import skimage.data
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from menet_jax.demo.answers import ANSWERS, Question, Tell
from menet_jax.demo.photographs import MEGABYTES, MEGAPIXELS
from menet_jax.images.files import png

PAGE = Path(__file__).parent / "page"

SAMPLES = ("astronaut", "coffee", "cat", "rocket")
"""Photographs that come with scikit-image."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the browser may load for the page: nothing from elsewhere."""

TYPE = "application/octet-stream"
"""Content type of questions. Browsers ask before other sites' pages may send it, and the server refuses."""


def application(
    about: str, kinds: Sequence[str], answer: Callable[[str, bytes, Question, Tell], object], pool: Executor
) -> Application:
    """The server's application, of a network in words and the kinds of map that it gives.

    `answer` takes a name of `ANSWERS`, and then what those take besides the network; the pool's only thread calls it.
    """
    return Application(
        [
            ("/", _Page, {"about": about, "kinds": kinds}),
            (r"/(page\.js|page\.css)", StaticFileHandler, {"path": PAGE}),
            (rf"/samples/({'|'.join(SAMPLES)})\.png", _Sample),
            (f"/({'|'.join(ANSWERS)})", _Answer, {"answer": answer, "pool": pool}),
        ],
        log_function=lambda _: None,
    )


class _Page(RequestHandler):
    def initialize(self, about: str, kinds: Sequence[str]) -> None:
        self.about, self.kinds = about, kinds

    def get(self) -> None:
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        maps = {kind: f"{kind} map" for kind in self.kinds}
        self.render(
            str(PAGE / "index.html"),
            about=self.about,
            samples=SAMPLES,
            kinds=self.kinds,
            pictures={"photograph": "photograph", **maps, "overlay": "overlay", "cutout": "cut-out"},
            megabytes=MEGABYTES,
            megapixels=MEGAPIXELS,
        )


class _Sample(RequestHandler):
    def get(self, name: str) -> None:
        self.set_header("Content-Type", "image/png")
        self.finish(png(np.ascontiguousarray(getattr(skimage.data, name)()[..., :3])))


class _Answer(RequestHandler):
    def initialize(self, answer: Callable[[str, bytes, Question, Tell], object], pool: Executor) -> None:
        self.answer, self.pool, self.gone = answer, pool, Event()

    def on_connection_close(self) -> None:
        self.gone.set()

    async def post(self, what: str) -> None:
        if self.request.headers.get("Content-Type") != TYPE:
            raise HTTPError(415)
        query = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        data, lines = self.request.body, asyncio.Queue[Mapping[str, Any] | None]()
        loop = asyncio.get_running_loop()

        def put(line: Mapping[str, Any] | None) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        def tell(line: Mapping[str, Any]) -> None:
            if self.gone.is_set():
                raise _GoneError
            put(line)

        def work() -> None:
            try:
                tell({"stage": "computing"})
                self.answer(what, data, Question.model_validate(query), tell)
            except _GoneError:
                pass
            except ValueError as error:
                put({"error": str(error)})
            except Exception:
                traceback.print_exc()
                put({"error": "The demo itself failed; its terminal says how."})
            put(None)

        self.set_header("Content-Type", "application/x-ndjson")
        self.set_header("Cache-Control", "no-store")
        self.pool.submit(work)
        try:
            while (line := await lines.get()) is not None:
                self.write(json.dumps(line) + "\n")
                await self.flush()
        except (StreamClosedError, asyncio.CancelledError):  # the page is gone, or the demo ends
            self.gone.set()


class _GoneError(Exception):
    """The page no longer waits for the answer."""

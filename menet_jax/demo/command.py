"""The command `python -m menet_jax.demo`: its work and its messages."""

import asyncio
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import NamedTuple

import jax
import numpy as np
from tornado.httpserver import HTTPServer

from menet_jax.demo.answers import ANSWERS, Networks, Question, Tell
from menet_jax.demo.options import Demo
from menet_jax.demo.photographs import MEGABYTES
from menet_jax.demo.server import application
from menet_jax.evaluation.predictor import Predictor
from menet_jax.robustness.analysis.networks import measured_network
from menet_jax.robustness.options import Jacobian
from menet_jax.runtime import devices
from menet_jax.runtime.cli import run_command
from menet_jax.runtime.text import say, warn
from menet_jax.training.run import load_run


class Work(NamedTuple):
    """The network, opened and checked, and where the page is asked for."""

    networks: Networks
    socket: socket.socket
    about: str
    used: Sequence[jax.Device]


def prepare(options: Demo) -> Work:
    """Open and check everything; ValueError or OSError says what cannot be used."""
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listening = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise OSError(f"--host {options.host} --port {options.port}: {error.strerror}; name others") from error
    listening.setblocking(False)
    used = devices.start(options.device)[:1]
    run = load_run(options.run, report=warn)
    networks = Networks(Predictor(run.config, run.variables, used), measured_network(run, Jacobian().map))
    return Work(networks, listening, f"{options.run}, {run.history}, {run.validated}", used)


def serve(work: Work) -> int:
    """Serve the page until Ctrl-C."""
    host, port = work.socket.getsockname()[:2]
    if not ip_address(host).is_loopback:
        warn("everyone who can reach this machine can use the demo: it has no password")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    say(devices.line(work.used), f"run      {work.about}", f"page     http://{address}/ until Ctrl-C")
    sys.stdout.flush()
    asyncio.run(_serve(work))
    return 0


async def _serve(work: Work) -> None:
    # Not closed: an answer that is being computed is not waited for.
    pool = ThreadPoolExecutor(1)
    size = work.networks.predictor.size
    pool.submit(work.networks.predictor.evaluate, [np.zeros((size, size, 3), np.uint8)])  # compiles meanwhile

    def answer(what: str, data: bytes, question: Question, tell: Tell) -> None:
        ANSWERS[what](work.networks, data, question, tell)

    most = int(MEGABYTES * 1e6) + 1  # the page, and `read`, say that a file is too large; this is against floods
    served = application(work.about, work.networks.predictor.kinds, answer, pool)
    server = HTTPServer(served, max_body_size=most, max_buffer_size=most)
    server.add_socket(work.socket)
    await asyncio.Event().wait()


def run(options: Demo) -> int:
    """Do what the command line asks for; the exit status, see `Demo`."""
    return run_command(lambda: prepare(options), serve, lambda _: "nothing of the photographs is kept")

"""Processes of several hosts meet, are compared, and end together: each case with processes that import no JAX."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from menet_jax.runtime.hosts import Hosts, check_same
from menet_jax.runtime.meeting import lasting

HERE = socket.gethostname()

SCRIPT = """
import json, sys, time
from menet_jax.runtime import hosts as rules
from menet_jax.runtime.meeting import meet
address, count, index, facts, limit, silence, then = sys.argv[1:]
rules.BEAT, rules.SILENCE = float(silence) / 6, float(silence)
try:
    hosts = meet(address, int(count), int(index), json.loads(facts), limit=float(limit))
except (ValueError, OSError) as error:
    sys.exit(f"refused: {error}")
print("met", flush=True)
with hosts.ending_together(2):
    exec(then)
    hosts.part()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def start(address: str) -> Iterator[Start]:
    """Starts a process of a run."""
    with ExitStack() as stack:

        def start(
            index: int, count: int = 2, limit: float = 30, silence: float = 60, then: str = "", **facts: Any
        ) -> subprocess.Popen[str]:
            words = [address, str(count), str(index), json.dumps(facts), str(limit), str(silence), then]
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def ends(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Their exit statuses, and what they say on stderr."""
    errors = [process.communicate(timeout=30)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def test_they_wait_for_one_another_and_say_so(start: Start, address: str) -> None:
    compare = "time.sleep(0.3 * int(index)); hosts.compare({'data': [1, None]}); print('done')"
    processes = [start(index, 3, then=compare) for index in (2, 1, 0)]
    for process, index in zip(processes, (2, 1, 0), strict=True):
        out, err = process.communicate(timeout=30)
        waiting, *rest = out.splitlines()
        assert waiting.startswith(f"process {index} ({HERE}) of 3 waits for the others at {address}, until ")
        assert (rest, err, process.returncode) == (["met", "done"], "", 0)


def test_other_flags_are_refused_on_every_host(start: Start) -> None:
    said = (
        "refused: the processes of a run must be alike, but for their id: "
        f"--seed is 0 on process 0 ({HERE}), 1 on process 1 ({HERE})\n"
    )
    assert ends(start(0, **{"--seed": 0}), start(1, **{"--seed": 1})) == [(1, said)] * 2


def test_other_data_are_refused_on_every_host(start: Start) -> None:
    for _, said in ends(*(start(index, then="hosts.compare({'data': index})") for index in range(2))):
        assert f"data is 0 on process 0 ({HERE}), 1 on process 1 ({HERE})" in said


def test_two_with_one_id_are_refused(start: Start) -> None:
    processes = start(1, 3), start(1, 3)
    time.sleep(0.5)
    said = f"refused: two processes have one --distributed.process-id: process 1 ({HERE}) and process 1 ({HERE})\n"
    assert ends(start(0, 3), *processes) == [(1, said)] * 3


def test_one_that_does_not_come_is_named(start: Start, address: str) -> None:
    comes = start(1, 3)
    assert comes.stdout is not None and "waits" in comes.stdout.readline()
    (status, missing), (_, told) = ends(start(0, 3, limit=1), comes)
    assert status == 1 and missing == told and missing.startswith(f"refused: process 2 did not come to {address}. ")


def test_nobody_at_the_address(start: Start, address: str) -> None:
    [(status, said)] = ends(start(1, limit=0.1))
    assert status == 1 and f"{address}: no process 0 answers there (Connection refused)" in said


def test_something_else_at_the_address(start: Start, address: str) -> None:
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))) as other:
        process = start(1)
        connection = other.accept()[0]
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        [(status, said)] = ends(process)
        connection.close()
        assert status == 1 and f"{address}: what answers there takes no process 1" in said
        assert "process 0 cannot listen there: Address already in use" in ends(start(0))[0][1]


@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_the_others_and_is_named(victim: int, start: Start) -> None:
    processes = [start(index, 3, then="hosts.compare({}); time.sleep(30)") for index in range(3)]
    for process in processes:
        assert process.stdout is not None and "met" in [process.stdout.readline().strip() for _ in range(2)]
    processes[victim].kill()
    said = f"error: process {victim} ({HERE}) is gone: it was killed, or its machine or the network failed. --resume "
    for status, error in ends(*(process for process in processes if process is not processes[victim])):
        assert status == 1 and error == f"{said}goes on from the last checkpoint\n"


@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_vanishes_ends_the_others_and_is_named(victim: int, start: Start) -> None:
    """Its connections stay open, as of a machine without power or network; the others beat meanwhile."""
    processes = [start(index, 3, silence=0.6, then="hosts.compare({}); time.sleep(30)") for index in range(3)]
    for process in processes:
        assert process.stdout is not None and "met" in [process.stdout.readline().strip() for _ in range(2)]
    processes[victim].send_signal(signal.SIGSTOP)
    said = f"error: process {victim} ({HERE}) has not answered for 1 s. --resume goes on from the last checkpoint\n"
    assert ends(*(process for process in processes if process is not processes[victim])) == [(1, said)] * 2


def test_the_error_of_one_ends_the_others(start: Start) -> None:
    fails = start(1, then="raise ValueError('--run x: holds a run already')")
    (status, said), (_, error) = ends(start(0, then="hosts.compare({})"), fails)
    assert (status, said) == (2, f"error: process 1 ({HERE}) stopped: --run x: holds a run already\n")
    assert error.endswith("ValueError: --run x: holds a run already\n") and error.count("Error: ") == 1


def test_what_differs_is_named() -> None:
    alike = {"jax": "0.10", "--data.train": ["a", "b"]}
    check_same({"process 0 (a)": alike, "process 1 (b)": dict(alike)})
    with pytest.raises(ValueError, match=r"id: jax is 0.10 on process 0 \(a\), 0.9 on process 2 \(c\); new is None on"):
        check_same({"process 0 (a)": alike, "process 1 (b)": alike, "process 2 (c)": alike | {"jax": "0.9", "new": 1}})


def test_one_alone_waits_for_nobody() -> None:
    hosts = Hosts()
    hosts.compare({"anything": 1})
    hosts.part()
    with pytest.raises(ValueError), hosts.ending_together(2):
        raise ValueError


def test_a_connection_that_lasts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = lasting(f"127.0.0.1:{other.getsockname()[1]}").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as here:
            there = other.accept()[0]
            here.sendall(b"question")
            assert there.recv(8) == b"question"
            there.sendall(b"answer")
            there.close()
            assert here.recv(6) == b"answer"
            here.settimeout(0.2)
            with pytest.raises(TimeoutError):
                here.recv(1)

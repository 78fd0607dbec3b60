"""Connections between the processes of a run over several hosts, made before JAX starts.

JAX says nothing while it waits for them, and aborts where one does not come. So they meet at the coordinator's address
before JAX listens there.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Thread

from menet_jax.runtime.hosts import Hosts, Line, Message, check_same

LIMIT = 300.0
"""Seconds that processes wait for one another."""


def meet(address: str, count: int, index: int, facts: Mapping[str, object], *, limit: float = LIMIT) -> Hosts:
    """Wait for all processes of a run, say so, and see that they are started alike.

    Args:
        address: HOST:PORT of process 0.
        count: how many processes there are.
        index: which of them this one is.
        facts: what is to be the same for all of them; for JSON.
        limit: seconds to wait.

    Raises:
        ValueError: not all processes have come in time, two have one index, or their facts are not the same.
        OSError: process 0 cannot listen at the address.
    """
    deadline = time.monotonic() + limit
    until = time.strftime("%H:%M:%S", time.localtime(time.time() + limit))
    label = f"process {index} ({socket.gethostname()})"
    print(f"{label} of {count} waits for the others at {address}, until {until}")
    hello: Message = json.loads(json.dumps({"hello": index, "label": label, "facts": facts, "count": count}))
    if index:
        line, labels = _call(address, hello, deadline)
        return Hosts(index, labels, [line])
    called = _gather(address, hello, deadline)
    labels = [label, *(name for name, _ in called)]
    for _, line in called:
        line.send(labels=labels)
    return Hosts(0, labels, [line for _, line in called])


def lasting(address: str) -> str:
    """An address in this process that forwards to the given one, and stays when that one is gone.

    JAX aborts this process as soon as the connection to its coordinator is closed, before anything can be said.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(_split(address), timeout=LIMIT)
            except OSError:  # it does not listen yet
                near.close()
                continue
            far.settimeout(None)
            for ends in ((near, far), (far, near)):
                Thread(target=_pump, args=ends, daemon=True).start()

    Thread(target=serve, daemon=True).start()
    if any(name.lower().endswith("_proxy") for name in os.environ):
        os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)


def _gather(address: str, mine: Message, deadline: float) -> list[tuple[str, Line]]:
    """The other processes, in order, as process 0 is called by them."""
    called = dict[int, tuple[str, Line]]()
    lines = list[Line]()
    try:
        with _listening(address) as listener:
            while missing := sorted(set(range(1, mine["count"])) - set(called)):
                listener.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    line = Line(listener.accept()[0], timeout=5)
                except TimeoutError:
                    raise ValueError(_absent(missing, address)) from None
                if (hello := _hello(line)) is not None:
                    lines.append(line)
                    _check_caller(mine, hello, called)
                    called[hello["hello"]] = hello["label"], line
    except ValueError as error:
        for line in lines:
            line.send(end=str(error))
        raise
    return [called[index] for index in sorted(called)]


def _hello(line: Line) -> Message | None:
    try:
        message = line.receive()
    except (OSError, ValueError):  # whoever that was
        message = {}
    if "hello" in message:
        return message
    line.close()
    return None


def _check_caller(mine: Message, hello: Message, called: Mapping[int, tuple[str, Line]]) -> None:
    count = "--distributed.processes"
    check_same({each["label"]: {count: each["count"], **each["facts"]} for each in (mine, hello)})
    if hello["hello"] in called:
        first = called[hello["hello"]][0]
        raise ValueError(f"two processes have one --distributed.process-id: {first} and {hello['label']}")


def _absent(missing: Sequence[int], address: str) -> str:
    who = " and ".join(f"process {index}" for index in missing)
    return (
        f"{who} did not come to {address}. Start one process on each host, all with the same flags, but "
        "--distributed.process-id 0, 1, …; or a single one, with --distributed.coordinator None "
        "--distributed.processes 1 --distributed.process-id 0"
    )


def _call(address: str, hello: Message, deadline: float) -> tuple[Line, list[str]]:
    """The line to process 0, and what all processes are called, once they are all there."""
    while True:
        try:
            line = Line(socket.create_connection(_split(address), timeout=5), max(deadline - time.monotonic(), 0) + 5)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"--distributed.coordinator {address}: no process 0 answers there ({error.strerror or error})"
                ) from None
            time.sleep(0.2)
    line.send(**hello)
    try:
        answer = line.receive()
    except (OSError, ValueError):
        raise ValueError(
            f"--distributed.coordinator {address}: what answers there takes no process {hello['hello']}; "
            "process 0 was stopped, or the run has all its processes, or this is another program"
        ) from None
    if "end" in answer:
        raise ValueError(answer["end"])
    return line, answer["labels"]


def _listening(address: str) -> socket.socket:
    port = _split(address)[1]
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise OSError(f"--distributed.coordinator {address}: process 0 cannot listen there: {error.strerror}") from None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)

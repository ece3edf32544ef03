"""Attack a server in one way after another, all from one address; says on stdout when each began and ended.

    python tests/benchmarks/attackers.py PORT MINUTES

The soak starts it as a process of its own: what an attacker computes is no burden of those who measure.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import websocket
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from digits.app import server  # noqa: E402
from strangers import Visitor, Web  # noqa: E402

ADDRESS = "172.16.0.1"
LENGTH, REST = 40, 10  # seconds of an attack, and of peace after it
SLEEP = 130  # seconds that a laptop is away: the server has given its connection up after 120
TROUBLE = OSError, websocket.WebSocketException, AssertionError, TimeoutError, AttributeError


@contextlib.contextmanager
def guests(port: int, number: int) -> Iterator[list[Visitor]]:
    """Visitors with a pad each, who leave at last."""
    here = []
    try:
        for _ in range(number):
            here.append(Visitor(port, ADDRESS))
            here[-1].socket.settimeout(2)
        yield here
    finally:
        for one in here:
            with contextlib.suppress(*TROUBLE):
                one.leave()


def flood(port: int, until: float, pads: int, frame: Callable[[Visitor], None]) -> None:
    """Send as fast as the server reads; who is shown out comes back."""
    while time.monotonic() < until:
        with contextlib.suppress(*TROUBLE), guests(port, pads) as all_of_them:
            for one in cycle(all_of_them):
                frame(one)
                if time.monotonic() > until:
                    break
        time.sleep(1)


def small_messages(port: int, until: float) -> None:
    flood(port, until, 1, lambda one: one.report([["ping"]]))


def large_messages(port: int, until: float) -> None:
    key = "x" * 950_000
    flood(port, until, 1, lambda one: one.event({"event": "key_down", "key": key}))


def broken_frames(port: int, until: float) -> None:
    header = b'{"msg_type": "comm_msg", "msg_id": "1"}'
    parts = [
        [header, b"[]", b"{}", b"{}"],
        [header, b"{}", b"7", b"{}"],
        ["\ufeff{}".encode("utf-16")] * 4,
        [b"\xef\xbb\xbf{}"] * 4,
        [b"[" * 100_000] * 4,
    ]
    frames = cycle([serialize_msg_to_ws_v1(one, "shell") for one in parts] + [os.urandom(5_000)])
    flood(port, until, 1, lambda one: one.socket.send_binary(next(frames)))


def never_reads(port: int, until: float) -> None:
    def ask(one: Visitor) -> None:
        control = uuid.uuid4().hex
        version = {"version": "1.0.0"}
        opened = {"comm_id": control, "target_name": server.CONTROL, "data": {}}
        one.send("comm_open", opened, version)
        for _ in range(50):
            one.send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})

    flood(port, until, 3, ask)


def draws_hard(port: int, until: float) -> None:
    strokes = [
        operation
        for k in range(9)
        for operation in (
            ["down", 20 + 28 * k, 40, None],
            ["move", 30 + 28 * k, 240, 25 + 28 * k, 140],
            ["up"],
        )
    ]

    def draw(one: Visitor) -> None:
        one.report([["clear"], *strokes])
        time.sleep(0.005)

    flood(port, until, 3, draw)


def takes_every_pad(port: int, until: float) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(*TROUBLE):
            Web(port, ADDRESS).ask("/")


def connections(port: int, until: float) -> None:
    links = []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            links.append(socket.create_connection(("127.0.0.1", port), 2, ("127.0.0.9", 0)))
            links[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        if len(links) > 150:
            links.pop(0).close()
        time.sleep(0.002)
    for link in links:
        link.close()


def slow_lines(port: int, until: float) -> None:
    """Ten that fetch the page's largest script, at most 20 kB/s each, and begin again."""
    ask = (
        b"GET /voila/static/9684.voila.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    links: list[socket.socket] = []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if len(links) < 10:
                links.append(socket.create_connection(("127.0.0.1", port), 2, ("127.0.0.9", 0)))
                links[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                links[-1].sendall(ask)
        for link in list(links):
            with contextlib.suppress(OSError):
                if link.recv(1000):
                    continue
            link.close()
            links.remove(link)
        time.sleep(0.05)
    for link in links:
        link.close()


def requests(port: int, until: float) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(*TROUBLE):
            Web(port, ADDRESS).ask("/voila/templates/digits/static/../index.html.j2")


ATTACKS = [
    small_messages,
    large_messages,
    broken_frames,
    never_reads,
    draws_hard,
    takes_every_pad,
    connections,
    slow_lines,
    requests,
]


def sleeper(port: int, end: float) -> None:
    """A laptop that answers no ping for two minutes, and then speaks: again and again."""
    while time.monotonic() < end:
        with contextlib.suppress(*TROUBLE):
            one = Visitor(port, "172.16.0.2")
            time.sleep(max(min(SLEEP, end - time.monotonic()), 0))
            one.event({"event": "client_ready"})
            one.leave()
        time.sleep(1)


def main() -> None:
    port, end = int(sys.argv[1]), time.monotonic() + 60 * float(sys.argv[2])
    threading.Thread(target=sleeper, args=(port, end), daemon=True).start()
    for attack in cycle(ATTACKS):
        began = time.perf_counter()
        until = min(time.monotonic() + LENGTH, end)
        attack(port, until)
        name = attack.__name__.replace("_", " ")
        print(json.dumps([name, began, time.perf_counter()]), flush=True)
        if time.monotonic() + REST > end:
            return
        time.sleep(REST)


if __name__ == "__main__":
    main()

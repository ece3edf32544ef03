"""A visitor without a browser, as the benchmarks send them by the dozen: what the app's page sends and waits for."""

import asyncio
import base64
import bisect
import contextlib
import html
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence

import numpy as np
import psutil
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httputil import url_concat
from tornado.websocket import WebSocketClosedError, websocket_connect

from digits.app import SCRIPT

RATE = 60  # moves a second, as a screen reports them
PATIENCE = 2.0  # seconds after which a move counts as not answered
PATH = [
    (140 + 90 * np.cos(t), 140 + 100 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 61)
]  # a slow zero

# How the page's script paces what it sends.
FRAME, WINDOW, BUSY, PIECE, PING, LOST = (
    int(re.search(rf"\b{name} = (\d+)", SCRIPT)[1])
    for name in ("FRAME", "WINDOW", "BUSY", "PIECE", "PING", "LOST")
)
# In a message as it comes: data for the page's script, JSON in an attribute.
DEALT_WITH = re.compile(rb'data-(?:reading|state)=\\"\{&quot;seq&quot;: (\d+)')
ANSWER = re.compile(rb'data-reading=\\"(.*?)\\"')
PHOTO = b"&quot;source&quot;: &quot;photo"
PROTOCOL = "v1.kernel.websocket.jupyter.org"

AsyncHTTPClient.configure(None, max_clients=200)


class Refused(Exception):
    """The server has no pad for this visitor: ``reply`` is what it said."""

    def __init__(self, reply: HTTPResponse):
        super().__init__(f"{reply.code} {reply.reason}")
        self.reply = reply


class Lost(Exception):
    """The kernel does not answer any more."""


class Visitor:
    """A page without a browser: it asks for the page, connects to its kernel, draws, and waits for answers.

    It sends as the page's script does: what the pen did since the last message goes together, moves wait while
    ``WINDOW`` messages are unanswered, but never longer than ``BUSY``. ``address`` is what a proxy would say of it.
    """

    def __init__(self, url: str, address: str | None = None):
        self.url, self.headers, self.cookies = (
            url,
            {"X-Forwarded-For": address} if address else {},
            {},
        )
        self.moves: list[
            list
        ] = []  # when the pen moved, and the number of the message that said so
        self.answers: list[
            tuple[int, float]
        ] = []  # the last message that an answer is based on, and when it came
        self.seq = self.received = 0  # the last message; bytes that came

    # --- Coming and going ---------------------------------------------------------------------------------------------

    async def arrive(self) -> "Visitor":
        """Get a kernel and know its widgets. Refused when there is none to be had."""
        while True:  # in line, under the name in the cookie
            reply = await self._fetch("", request_timeout=120)
            for cookie in reply.headers.get_list("Set-Cookie"):
                name, value = cookie.split(";")[0].split("=", 1)
                self.cookies[name] = value
            if reply.code != 202:
                break
            await asyncio.sleep(int(reply.headers["Retry-After"]))
        if reply.code != 200:
            raise Refused(reply)
        config = re.search(
            r'id="jupyter-config-data"[^>]*>(.*?)</script>', reply.body.decode(), re.DOTALL
        )[1]
        self.kernel, self.session = json.loads(config)["kernelId"], uuid.uuid4().hex
        self.queue, self.waiting, self.hopes, self.last_sent, self.timer = [], [], [], 0.0, None
        self.dealt_with, self.answer = (
            self.seq,
            (0, "", ""),
        )  # points, text and source of the answer that is shown
        url = url_concat(
            f"{self.url.replace('http', 'ws')}api/kernels/{self.kernel}/channels",
            {"session_id": self.session},
        )
        self.socket = await websocket_connect(
            HTTPRequest(url, headers=self._given()),
            subprotocols=[PROTOCOL],
            max_message_size=1 << 26,
        )
        control = uuid.uuid4().hex
        self._send(
            "comm_open",
            {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}},
            {"version": "1.0.0"},
        )
        self._send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})
        while (frame := await asyncio.wait_for(self.socket.read_message(), 60)) is not None:
            _, parts = deserialize_msg_from_ws_v1(frame)
            data = json.loads(parts[3]).get("data", {})
            if data.get("method") == "update_states":
                break
        else:
            raise Lost
        self.canvas = next(
            key for key, model in data["states"].items() if model["model_name"] == "CanvasModel"
        )
        self._event(event="client_ready")
        self.listener = asyncio.ensure_future(self._listen())
        await self.ask("hello")
        return self

    async def leave(self) -> int:
        """Close the page, which says farewell; the answer's status, 204 when the kernel was ended."""
        self._stop()
        self.socket.close()
        reply = await self._fetch(
            f"voila/api/shutdown/{self.kernel}", method="POST", body=b"", request_timeout=60
        )
        return reply.code

    def drop(self) -> None:
        """The connection breaks off, without a word."""
        self._stop()
        if self.socket.protocol:  # else the server was quicker
            self.socket.protocol.stream.close()

    def vanish(self) -> Callable[[], None]:
        """The connection stays, and nobody is there any more, not even to answer a ping; returns what ends it at last."""
        self._stop()
        stream = self.socket.protocol.stream
        held = os.dup(stream.socket.fileno())  # nobody reads it, and it keeps the connection
        stream.close()
        return lambda: os.close(held)

    def _stop(self) -> None:
        self.listener.cancel()
        if self.timer:
            self.timer.cancel()
        self.queue = []

    # --- What a visitor does --------------------------------------------------------------------------------------------

    async def draw(self, seconds: float) -> None:
        """Draw zeros at 60 moves a second, each after wiping the last, and wait for the last answers."""
        began = time.perf_counter()
        for number in range(round(seconds * RATE)):
            x, y = PATH[number % len(PATH)]
            self._pen(None if number % len(PATH) else [["up"], ["clear"]], x, y)
            await asyncio.sleep(max(began + (number + 1) / RATE - time.perf_counter(), 0))
        await asyncio.sleep(PATIENCE)

    def _pen(self, before: list[list] | None, x: float, y: float) -> None:
        """The pen moves, or is put down after the operations in ``before``; moves in a row go as one, as the page has it."""
        self.moves.append([time.perf_counter(), None])
        if before is not None:
            self.queue += [*before, ["down", x, y, None]]
        elif self.queue and self.queue[-1][0] == "move":
            self.queue[-1] += [x, y]
        else:
            self.queue.append(["move", x, y])
        self._flush(now=before is not None)

    async def write(self, strokes: Sequence[np.ndarray], pause: float = 0.15) -> str:
        """Draw on an empty pad, a point each sixtieth of a second and ``pause`` seconds between strokes; what is read."""
        await self.ask("clear")
        for stroke in strokes:
            next_at = time.perf_counter()
            for index, (x, y) in enumerate(stroke.tolist()):
                self._pen(None if index else [], x, y)
                next_at += 1 / RATE
                await asyncio.sleep(max(next_at - time.perf_counter(), 0))
            self.queue.append(["up"])
            self._flush(now=True)
            await asyncio.sleep(pause)
        await self._until(lambda _: self.dealt_with >= self.seq and not self.queue)
        return self.answer[1]

    async def ask(self, name: str, *values: object) -> None:
        """Report one operation and wait until the kernel has dealt with it. Lost when it does not."""
        self.queue.append([name, *values])
        self._flush(now=True)
        number = self.seq
        await self._until(lambda _: self.dealt_with >= number)

    async def example(self, strokes: list) -> str:
        """Put an example on the pad; what is read of it."""
        points = sum(map(len, strokes))
        await self.ask("put", True, *[one.round(1).ravel().tolist() for one in strokes])
        await self._until(lambda _: self.answer[0] == points)
        return self.answer[1]

    async def upload(self, name: str, content: bytes) -> str:
        """Send a picture; what is read."""
        seen = asyncio.ensure_future(self._until(lambda frame: PHOTO in frame, 20))
        for offset in range(0, len(content), PIECE):
            piece = base64.b64encode(content[offset : offset + PIECE]).decode()
            self.queue.append(["file", name, len(content), offset, piece, False])
            self._flush(now=True)
            await self._until(lambda _: len(self.waiting) <= WINDOW)
        await seen
        return self.answer[1]

    async def say(self, verdict: str, digit: int | None, agree: bool) -> None:
        """Tell whether the answer is right, agree to have it kept if that is asked, and see that it was."""
        kept = asyncio.ensure_future(self._until(lambda frame: b"It is kept." in frame, 20))
        await self.ask("verdict", verdict, digit)
        if agree:
            await self.ask("consent", True)
        await kept

    async def idle(self, seconds: float) -> None:
        """Look at the page, which asks now and then whether the kernel is there."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(left, PING / 1000))
            await self.ask("ping")

    def latencies(self) -> list[float | None]:
        """For each move, the milliseconds until an answer was based on it; None when none came in time."""
        numbers = [number for number, _ in self.answers]
        waits = []
        for moved, number in self.moves:
            index = bisect.bisect_left(numbers, number) if number else len(numbers)
            waits.append(1000 * (self.answers[index][1] - moved) if index < len(numbers) else None)
        return [wait if wait is not None and wait <= 1000 * PATIENCE else None for wait in waits]

    # --- To the kernel and back -----------------------------------------------------------------------------------------

    async def _fetch(self, path: str, **options) -> HTTPResponse:
        return await AsyncHTTPClient().fetch(
            HTTPRequest(self.url + path, headers=self._given(), **options), raise_error=False
        )

    def _given(self) -> dict[str, str]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {
            **self.headers,
            **({"Cookie": cookie, "X-XSRFToken": self.cookies["_xsrf"]} if cookie else {}),
        }

    async def _until(self, seen: Callable[[bytes], bool], seconds: float = 2 * LOST / 1000) -> None:
        """Wait until ``seen`` is true of a message that comes, or at once of none; Lost when it is not."""
        if self.listener.done():
            raise Lost
        if seen(b""):
            return
        hope = asyncio.get_running_loop().create_future()
        self.hopes.append((seen, hope))
        try:
            await asyncio.wait_for(hope, seconds)
        except TimeoutError:
            raise Lost from None
        finally:
            self.hopes = [one for one in self.hopes if one[1] is not hope]

    def _flush(self, now: bool = False) -> None:
        if self.timer:
            self.timer.cancel()
        wait = (
            self.last_sent
            + (FRAME if len(self.waiting) < WINDOW else BUSY) / 1000
            - time.perf_counter()
        )
        if self.queue and (now or wait <= 0):
            self.seq, self.last_sent = self.seq + 1, time.perf_counter()
            for move in reversed(self.moves):
                if move[1]:
                    break
                move[1] = self.seq
            self.waiting.append(self.seq)
            key, self.queue = json.dumps({"seq": self.seq, "ops": self.queue}), []
            self._event(event="key_down", key=key, shift_key=False, ctrl_key=False, meta_key=False)
        elif self.queue:
            self.timer = asyncio.get_running_loop().call_later(wait, self._flush)

    def _event(self, **content) -> None:
        self._send(
            "comm_msg", {"comm_id": self.canvas, "data": {"method": "custom", "content": content}}
        )

    def _send(self, kind: str, content: dict, metadata: dict | None = None) -> None:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "session": self.session,
            "username": "",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        parts = [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
        try:
            self.socket.write_message(serialize_msg_to_ws_v1(parts, "shell"), binary=True)
        except WebSocketClosedError:
            raise Lost from None

    async def _listen(self) -> None:
        while frame := await self.socket.read_message():
            self.received += len(frame)
            if found := DEALT_WITH.search(frame):
                number = int(found[1])
                if shown := ANSWER.search(frame):
                    self.answers.append((number, time.perf_counter()))
                    told = json.loads(html.unescape(shown[1].decode()))
                    self.answer = told["points"], told["text"], told["source"]
                self.dealt_with = max(self.dealt_with, number)
                self.waiting = [one for one in self.waiting if one > number]
                self._flush()
            for seen, hope in self.hopes:
                if not hope.done() and seen(frame):
                    hope.set_result(None)
        for _, hope in self.hopes:  # the server has closed the connection
            if not hope.done():
                hope.set_exception(Lost())


# --- Figures ----------------------------------------------------------------------------------------------------------


def summary(milliseconds: Sequence[float | None]) -> dict:
    """Median, 95th percentile, greatest, and how many were not answered."""
    good = [value for value in milliseconds if value is not None]
    if not good:
        return {"n": len(milliseconds), "unanswered": len(milliseconds)}
    p50, p95 = np.percentile(good, [50, 95])
    return {
        "n": len(milliseconds),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "max_ms": round(max(good), 1),
        "unanswered": len(milliseconds) - len(good),
    }


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """What they have used so far."""
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def kernels(server: psutil.Process) -> list[tuple[psutil.Process, str]]:
    """A server's kernels, each with its command, which names the file of its connection; without those that just end."""
    found = []
    for one in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append((one, " ".join(one.cmdline())))
    return [(one, command) for one, command in found if "ipykernel" in command]


def memory(process: psutil.Process) -> dict[str, int]:
    """Bytes of a process: ``rss``, all that it sees; ``pss`` (Linux, else ``rss`` again), its share of what several see."""
    full = process.memory_full_info()
    return {"rss": full.rss, "pss": getattr(full, "pss", full.rss)}

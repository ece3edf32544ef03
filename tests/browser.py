"""A real Chromium and a real server for tests: found, started and stopped here."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright

from digits import files

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLACES = ("/usr/bin/chromium", "chromium", "google-chrome", "google-chrome-stable", "chrome")
READY = ".digits-app[data-ready=true]"


def executable() -> str | None:
    """The browser that ``DIGITS_CHROMIUM`` names or the system has; None for Playwright's own."""
    return os.environ.get("DIGITS_CHROMIUM") or next(filter(None, map(shutil.which, PLACES)), None)


def needs(condition: object, reason: str) -> None:
    """Skip for want of something that not every machine has; where ``CI`` is set it must be there."""
    if not condition:
        (pytest.fail if os.environ.get("CI", "").lower() in ("1", "true") else pytest.skip)(reason)


def launch(playwright: Playwright, *flags: str) -> Browser:
    """A fresh headless Chromium; without one the test is skipped, or fails in CI."""
    try:
        return playwright.chromium.launch(executable_path=executable(), args=[*FLAGS, *flags])
    except Error as error:
        needs(
            False,
            f"No Chromium could be started ({error.message.splitlines()[0]}). Set DIGITS_CHROMIUM to one.",
        )


class Server:
    """A Voila (or JupyterLab) that serves the app on a free port of this machine."""

    def __init__(
        self, command: Sequence[str], port: int, path: str, log: Path, environment: dict[str, str]
    ):
        self.url, self.log = f"http://127.0.0.1:{port}{path}", log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=files.PROJECT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float = 90) -> "Server":
        """Until it answers; RuntimeError with its log when it does not."""
        until(
            lambda: answers(self.url) or self.process.poll() is not None,
            seconds,
            "the server's first answer",
        )
        if self.process.poll() is not None:
            raise RuntimeError(f"The server ended:\n{self.log.read_text()[-3000:]}")
        return self

    def stop(self) -> None:
        """End it with its kernels."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kernels(self) -> list[int]:
        """The process ids of its kernels."""
        import psutil

        children = psutil.Process(self.process.pid).children(recursive=True)
        return [
            child.pid for child in children if any("ipykernel" in word for word in child.cmdline())
        ]


@contextlib.contextmanager
def voila(*options: str, port: int | None = None, **environment: str) -> Iterator[Server]:
    """The app as ``voila notebooks/05_draw.ipynb`` serves it from the project's root."""
    port, folder = port or free_port(), tempfile.mkdtemp()
    command = [
        sys.executable,
        "-m",
        "voila",
        "notebooks/05_draw.ipynb",
        "--no-browser",
        f"--port={port}",
        *options,
    ]
    server = Server(
        command,
        port,
        "/",
        Path(folder) / "log",
        {"DIGITS_FEEDBACK_URL": f"sqlite:///{folder}/feedback.sqlite", **environment},
    )
    try:
        # waiting for the front page would take a kernel out of the pool
        until(lambda: listens(port) or server.process.poll() is not None, 90, "the server")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def lab(**environment: str) -> Iterator[Server]:
    """JupyterLab with a copy of the notebooks and nothing remembered, so that what it saves changes nothing here."""
    port, folder = free_port(), tempfile.mkdtemp()
    shutil.copytree(files.NOTEBOOKS, Path(folder) / "notebooks")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--port={port}",
        f"--ServerApp.root_dir={folder}",
        "--IdentityProvider.token=",
        "--allow-root",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    own = {
        "JUPYTERLAB_WORKSPACES_DIR": f"{folder}/workspaces",
        "JUPYTERLAB_SETTINGS_DIR": f"{folder}/settings",
    }
    server = Server(
        command,
        port,
        "/lab/tree/notebooks/05_draw.ipynb",
        Path(folder) / "log",
        {**own, **environment},
    )
    try:
        yield server.wait()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class SlowLine:
    """A server at the other end of a slow line: ``seconds`` there and back, ``rate`` bytes a second down and ``up`` up for
    all of its connections together, and a stop of ``held`` seconds before whatever contains ``words``. While ``broken``,
    nothing arrives on either side.

    A proxy, since Chromium's own throttling lets websockets pass.
    """

    def __init__(
        self,
        server: Server,
        rate: float = 1.5e6 / 8,
        seconds: float = 0.3,
        words: bytes = b"",
        held: float = 0,
        up: float = 1e9,
    ):
        self._target, self._rate, self._seconds, self._words, self._held = (
            server.url,
            rate,
            seconds,
            words,
            held,
        )
        self._up, self._up_free, self.up, self.broken = up, 0.0, 0, False
        self._port, self._free, self.down = free_port(), 0.0, 0
        self.url = f"http://127.0.0.1:{self._port}/"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "SlowLine":
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        ours = asyncio.all_tasks() - {asyncio.current_task()}
        for one in ours:
            one.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # asyncio would report it
            await asyncio.sleep(self._seconds)  # the handshake
            there = await asyncio.open_connection(
                "127.0.0.1", int(self._target.rsplit(":")[-1].strip("/"))
            )
            await asyncio.gather(
                self._carry(reader, there[1]),
                self._carry(there[0], writer, True),
                return_exceptions=True,
            )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, down: bool = False
    ) -> None:
        under_way: asyncio.Queue = asyncio.Queue()
        delivery = asyncio.ensure_future(self._deliver(under_way, writer))
        last = b""
        with contextlib.suppress(OSError):
            while piece := await reader.read(4096):
                if down:
                    if self._words and self._words in last + piece:
                        await asyncio.sleep(self._held)
                    last = piece[-len(self._words) :]
                    self.down += len(piece)
                    self._free = max(self._free, time.monotonic()) + len(piece) / self._rate
                    await asyncio.sleep(self._free - time.monotonic())
                else:
                    self.up += len(piece)
                    self._up_free = max(self._up_free, time.monotonic()) + len(piece) / self._up
                    await asyncio.sleep(self._up_free - time.monotonic())
                under_way.put_nowait((time.monotonic() + self._seconds / 2, piece))
        under_way.put_nowait((0, b""))
        await delivery

    async def _deliver(self, under_way: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (due := await under_way.get())[1]:
                await asyncio.sleep(due[0] - time.monotonic())
                while self.broken:
                    await asyncio.sleep(0.05)
                writer.write(due[1])
                await writer.drain()
        writer.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    """Whether a page comes."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Wait for a true value and return it; TimeoutError when it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds} s for {what}")


def wait(page: Page, expression: str, argument: object = None, seconds: float = 30) -> None:
    """Wait for a true value of a JavaScript expression or function: Playwright's own way needs eval, which the page's
    Content-Security-Policy forbids."""
    until(lambda: page.evaluate(expression, argument), seconds, expression)


# --- What a visitor does --------------------------------------------------------------------------------------------


def visit(page: Page, server: Server, ready: str = READY) -> Page:
    """Open the app and wait until it can be used."""
    page.goto(server.url, timeout=60_000)
    page.wait_for_selector(ready, timeout=60_000)
    return page


def on_pad(page: Page, stroke: Sequence) -> list[tuple[float, float]]:
    """Points on a canvas 280 pixels high as points of the page."""
    pad = page.locator(".digits-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    scale = box["height"] / 280
    return [(box["x"] + float(x) * scale, box["y"] + float(y) * scale) for x, y in stroke]


def draw(page: Page, strokes: Sequence) -> None:
    """Draw with the mouse; ``strokes`` are points on a canvas 280 pixels high."""
    for stroke in strokes:
        first, *rest = on_pad(page, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for point in rest:
            page.mouse.move(*point)
        page.mouse.up()


def answer(page: Page) -> dict[str, str]:
    """The attributes of the answer."""
    return page.locator(".digits-answer").evaluate("element => ({...element.dataset})")


def settled(page: Page, points: int) -> dict[str, str]:
    """The answer once it is based on ``points`` points."""
    page.wait_for_selector(
        f'.digits-answer[data-points="{points}"]', state="attached", timeout=10_000
    )
    return answer(page)


def draw_at_once(page: Page, strokes: Sequence, kind: str = "pen") -> None:
    """Draw with pointer events made by a script: fast, and with coordinates between the screen's pixels."""
    page.evaluate(
        """([strokes, kind]) => {
        const pad = document.querySelector(".digits-pad canvas"), box = pad.getBoundingClientRect();
        const send = (type, [x, y]) => pad.dispatchEvent(new PointerEvent(type, {bubbles: true, cancelable: true,
            pointerId: 77, pointerType: kind, isPrimary: true, button: type === "pointermove" ? -1 : 0,
            buttons: type === "pointerup" ? 0 : 1,
            clientX: box.left + x * box.height / 280, clientY: box.top + y * box.height / 280}));
        for (const stroke of strokes) {
            send("pointerdown", stroke[0]);
            for (const point of stroke.slice(1)) send("pointermove", point);
            send("pointerup", stroke[stroke.length - 1]);
        }
    }""",
        [[[[float(x), float(y)] for x, y in stroke] for stroke in strokes], kind],
    )


def clear(page: Page) -> None:
    """Empty the pad."""
    page.click(".digits-clear")
    settled(page, 0)


def until_state(page: Page, name: str, value: object) -> None:
    """Wait until the kernel says that a control stands so."""
    wait(
        page,
        """([name, value]) => {
        const state = document.querySelector(".digits-state");
        return JSON.parse(state.dataset.state)[name] === value;
    }""",
        [name, value],
    )

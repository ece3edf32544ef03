"""What Voila needs to serve the app: named by ``voila.json``, imported by the server before it reads its templates.

``guard`` says what is served, ``channel`` what passes between a page and its kernel, ``limits`` how much, ``health`` tells.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_server.auth.identity import User
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import PeriodicCallback
from voila.request_info_handler import RequestInfoSocketHandler
from voila.tornado import kernel_websocket_handler

from digits import guard, health
from digits.limits import Pace, Rate, Settings, SettingsError, is_loopback

QUICK_KERNEL = ["--IPKernelApp.kernel_class=digits.kernel.Kernel", "--IPKernelApp.outstream_class=digits.kernel.Stream"]
LINGER = 120  # seconds that a kernel is kept for a page that is not connected: a phone's screen was off
LOOK_ROUND = 5  # seconds between two looks for such kernels
RETRY = 30  # seconds after which one visitor too many may ask again
SOCKET_NAME, MOST_SOCKET_NAME = 65, 103  # characters of a kernel's socket in its folder's folder, and of any (macOS)
HANDSHAKES = 1, 30  # a second, and at once, for one kernel's websockets; each keeps its memory for a minute
UNREADY = 60  # seconds without a kernel in the pool after which we do not believe that there will be one

_read_header = kernel_websocket_handler.read_header_from_binary_message


def read_header(message: bytes) -> dict | None:
    """The header of a frame of the v1 protocol; None for any other frame.

    A client that does not ask for the protocol gets frames of another layout. Voila reads a count of up to 2**64 from
    them and loops that often, which ends the server; a real count fits into its frame.
    """
    count = int.from_bytes(message[:8], "little")
    return _read_header(message) if 8 * (count + 1) <= len(message) else None


def install() -> None:
    """Put the guard in its place and let Voila find the app's page template in ``jupyter/``."""
    kernel_websocket_handler.read_header_from_binary_message = read_header
    folder = str(Path(__file__).parent / "jupyter")
    known = os.environ.get("JUPYTER_PATH", "")
    if folder not in known.split(os.pathsep):
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (folder, known)))


def check_address(ip: str, settings: Settings) -> None:
    """SettingsError when the server would listen to strangers and nobody said by which name they come."""
    if not is_loopback(ip) and not settings.public_hosts:
        raise SettingsError(
            f"The app would listen on {ip or 'every address'} for everybody, but DIGITS_PUBLIC_HOSTS is not set. Name what "
            "people reach it by, for example DIGITS_PUBLIC_HOSTS=digits.example.org, and read \"Public\" in README.md; or "
            "leave --Voila.ip away to serve this computer only.")


@dataclass
class Visit:
    """A kernel in use."""

    owner: str  # whom the page was made for: the name in a signed cookie
    away_since: float | None  # when its page was last seen, None while it is connected
    ending: bool = False
    handshakes: Pace = field(default_factory=lambda: Pace(*HANDSHAKES))


class KernelManager(AsyncMappingKernelManager):
    """One kernel for each visitor, of the kind in ``digits.kernel``, and no more than there is room for.

    What Voila adds to it (a pool of kernels that wait for visitors) it adds in a subclass of its own.
    """

    def __init__(self, **options: Any):
        try:
            self.settings = Settings.read()
            check_address(options["parent"].ip, self.settings)
        except SettingsError as error:
            raise SystemExit(str(error)) from None
        self.most_visitors = self.settings.visitors
        self._visits: dict[str, Visit] = {}
        self._arriving: set[guard.Page] = set()  # those that have no kernel yet
        self._died = 0
        self._rate = Rate(self.settings.visits_per_minute)
        self._last_ready = time.monotonic()
        super().__init__(**options)
        self.config.KernelManager.transport = transport(self.parent.connection_dir_root)
        guard.protect(self.parent, self, self.settings)
        self._round = PeriodicCallback(self._look_round, 1000 * LOOK_ROUND)
        self._round.start()
        health.VISITORS_MOST.set(self.most_visitors)
        health.VISITORS.set_function(lambda: self.visitors)
        health.POOL.set_function(self._ready)

    # --- Visitors -----------------------------------------------------------------------------------------------------

    @property
    def visitors(self) -> int:
        """How many there are; kernels of the pool are nobody's yet."""
        return len(self._visits) + len(self._arriving)

    @contextlib.contextmanager
    def arrival(self, page: guard.Page) -> Iterator[None]:
        """A seat for somebody whose page is being made; ``guard.Refused`` when there is none."""
        if self.visitors >= self.most_visitors:
            raise guard.Refused(503, "full", RETRY)
        if wait := self._rate.wait(page.request.remote_ip):
            raise guard.Refused(429, "rate", wait)
        self._arriving.add(page)
        try:
            yield
        finally:
            self._arriving.discard(page)

    def welcome(self, kernel_id: str, page: guard.Page) -> None:
        """A kernel is a page's visitor's from now on."""
        self._arriving.discard(page)
        self._visits[kernel_id] = Visit(page.current_user.username, time.monotonic())

    def belongs(self, kernel_id: str, visitor: User | None) -> bool:
        """Whether a kernel is this visitor's."""
        visit = self._visits.get(kernel_id)
        return visit is not None and visitor is not None and visit.owner == visitor.username

    def may_connect(self, kernel_id: str) -> bool:
        """Whether a page may try once more to reach its kernel; no network breaks off so often that this is a no."""
        visit = self._visits.get(kernel_id)
        return visit is not None and visit.handshakes.now()

    def notify_connect(self, kernel_id: str) -> None:
        """A page is there."""
        super().notify_connect(kernel_id)
        if visit := self._visits.get(kernel_id):
            visit.away_since = None

    def notify_disconnect(self, kernel_id: str) -> None:
        """A page is not there any more, or not for now."""
        super().notify_disconnect(kernel_id)
        visit = self._visits.get(kernel_id)
        if visit and not self._kernel_connections.get(kernel_id):
            visit.away_since = time.monotonic()

    async def _look_round(self) -> None:
        if self._ready():
            self._last_ready = time.monotonic()
        for kernel_id, visit in list(self._visits.items()):
            gone = visit.away_since is not None and time.monotonic() - visit.away_since > LINGER
            if gone and not visit.ending:
                visit.ending = True
                await self._end(kernel_id)

    # --- Kernels ------------------------------------------------------------------------------------------------------

    async def start_kernel(self, **options: Any) -> str:
        """Start one; ``options`` as in jupyter_server."""
        kernel_id = await super().start_kernel(**{"extra_arguments": QUICK_KERNEL, **options})
        health.KERNELS_STARTED.inc()
        with contextlib.suppress(psutil.Error):
            confine(psutil.Process(self.get_kernel(kernel_id).provisioner.pid), self.settings.kernel_memory_mb << 20)
        return kernel_id

    def remove_kernel(self, kernel_id: str) -> object:
        """Forget a kernel that has ended."""
        self._visits.pop(kernel_id, None)
        RequestInfoSocketHandler._cache.pop(kernel_id, None)  # Voila keeps what it has for each for ever
        return super().remove_kernel(kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        health.KERNELS_DIED.inc()
        self._died += 1
        self.log.warning("Kernel %s died.", kernel_id)
        asyncio.ensure_future(self._end(kernel_id, now=True)).add_done_callback(lambda _: self.refill())

    async def _end(self, kernel_id: str, **options) -> None:
        try:
            await self.shutdown_kernel(kernel_id, **options)
        except Exception:  # it ended meanwhile, in one of several ways
            self.log.info("Kernel %s had ended.", kernel_id)
        self._visits.pop(kernel_id, None)

    # --- Voila's pool -------------------------------------------------------------------------------------------------

    def refill(self) -> None:
        """Have the pool as large as it shall be."""
        if hasattr(self, "fill_if_needed"):
            self.fill_if_needed(notebook_name=self.notebook_path)

    def _ready(self) -> int:
        """How many kernels of the pool have executed the notebook."""
        entries = [entry for pool in getattr(self, "_pools", {}).values() for entry in pool]
        return sum(_succeeded(one) and _succeeded(one.result()["task"]) for one in entries)

    def state(self) -> dict:
        """What a load balancer wants to know."""
        ready = self._ready()
        pooled = hasattr(self, "fill_if_needed") and self.get_pool_size(self.notebook_path) > 0
        return {"visitors": self.visitors, "most_visitors": self.most_visitors, "pool_ready": ready,
                "kernels_died": self._died,
                "kernels_start": not pooled or ready > 0 or time.monotonic() - self._last_ready < UNREADY}


def _succeeded(task: asyncio.Future) -> bool:
    return task.done() and not task.cancelled() and not task.exception()


def transport(folder: str) -> str:
    """How kernels are spoken with: "ipc", sockets that are files in a subfolder of ``folder``, or "tcp" where that cannot be.

    A kernel's ports are looked for by the server and taken by the kernel a second later. In between another server beside
    it can take them; then the kernel dies, and ZeroMQ, which the other's kernel answers, can stop this server for ever.
    """
    known = sys.platform != "win32" and len(os.fsencode(folder)) + SOCKET_NAME <= MOST_SOCKET_NAME
    return "ipc" if known else "tcp"


def confine(process: psutil.Process, memory: int) -> None:
    """Let a kernel have no more than ``memory`` bytes of data, and be the first to go when the computer has none left.

    What exceeds it fails in the kernel, which says so on the page or ends. Only Linux can do this to another process.
    """
    if hasattr(process, "rlimit"):
        process.rlimit(psutil.RLIMIT_DATA, (memory, memory))
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("500")


install()

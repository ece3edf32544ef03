"""What Voila needs to serve the app to strangers: named by ``voila.json``, imported by Voila first.

Here stands which requests are answered and with which headers, what passes between a page and its
kernel and how fast, and who gets a kernel. Only requests for widgets' states and events pass to a
kernel: no code, no new widget, no shutdown; only answers and widgets pass to a page: nothing that a
kernel logs. What nginx and systemd limit better is in ``deployment/``.
"""

import asyncio
import base64
import contextlib
import functools
import gzip
import hashlib
import ipaddress
import itertools
import json
import os
import re
import sys
import time
import weakref
from collections.abc import Awaitable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.jsonutil import extract_dates
from jupyter_server.auth.identity import User
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate
from tornado.ioloop import PeriodicCallback
from tornado.iostream import IOStream, StreamBufferFullError
from tornado.routing import HostMatches, Rule
from tornado.websocket import WebSocketClosedError
from voila.app import Voila
from voila.paths import collect_static_paths
from voila.request_info_handler import RequestInfoSocketHandler
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from digits.app import CONTROL, SCRIPT, Pace

VISITOR_MEMORY = 150_000_000  # bytes of a visitor's kernel when nobody means harm, and some more
VISITORS_PER_CORE = 10  # drawing at once; see tests/benchmarks/app.py
LOOPBACK = "127.0.0.0/8", "::1"
LINGER = 120  # seconds that a kernel is kept for a page that is away: a phone's screen was off
UNUSED = 20  # the same, when room is short, for a page that never came and asks for nothing
LOOK_ROUND = 5  # seconds between two looks for such kernels
RETRY = 30  # seconds after which one visitor too many may ask again
SOON = 2  # the same, for whom a pad is being made ready; who asks no more for three times that left
NICE = 30  # seconds of CPU after each of which a kernel's turn comes somewhat later
UNREADY = 60  # seconds without a kernel in the pool after which we do not believe in one
CONNECTIONS, CONNECTIONS_OF_ONE = 800, 200  # that have not become websockets; a browser opens six
PATIENCE = 30, 10  # seconds for a request's headers, and for its body
MOST_UNSENT = 2_000_000  # bytes that wait for a client to read them
PIECE = 65_536  # bytes of a file that do
SOCKET_NAME = 65  # characters of a kernel's socket in its folder's folder
MOST_SOCKET_NAME = 103  # characters that one may have (macOS)
QUICK_KERNEL = [
    "--IPKernelApp.kernel_class=digits.app.kernel.Kernel",
    "--IPKernelApp.outstream_class=digits.app.kernel.Stream",
]

PROTOCOL = "v1.kernel.websocket.jupyter.org"
TO_PAGE = re.compile(
    "status|comm_(open|msg|close)|(update_)?display_data|clear_output|(kernel|comm)_info_reply"
)
SOCKETS = 3  # on one kernel: a page needs one, and another while it reconnects
HANDSHAKES = 1, 30  # a second, and at once, for one kernel; each keeps its memory for a minute
RATE, BURST = 200, 400  # messages a second; a pen sends 60, and 120 for a moment
BYTES_RATE, BYTES_BURST = 1_000_000, 4_000_000  # of messages a second; a photograph has 3 MB
VERDICTS = 500  # messages a day with what visitors of one address say of answers
MOST_WAITING = 128  # messages that the kernel has not dealt with; an upload keeps 3
MOST_WAITING_BYTES = 4_000_000
STATES = 1_000_000  # bytes that a question for widgets' states counts as: its answer is as heavy
MOST_UNREAD = 250_000  # bytes that a page has not read, after which its messages wait
MOST_PARTS = 32  # dictionaries and lists in a message, and items in each; a touch has a few
HEADER = {"msg_id", "msg_type", "session", "username", "version", "date"}  # all of them words

VISITORS = Gauge("digits_visitors", "Visitors with a kernel of their own.")
VISITORS_MOST = Gauge("digits_visitors_most", "How many there may be at once.")
VISITORS_REFUSED = Counter("digits_visitors_refused", "Visitors who got no kernel.", ["reason"])
POOL = Gauge("digits_pool_ready", "Kernels that wait for a visitor with the page ready.")
KERNELS_STARTED = Counter("digits_kernels_started", "Kernels started, for the pool or a visitor.")
KERNELS_DIED = Counter("digits_kernels_died", "Kernels that ended without being told to.")
MESSAGES_REFUSED = Counter("digits_messages_refused", "Messages not passed on.", ["reason"])
MESSAGES_DELAYED = Counter("digits_messages_delayed", "Messages that came too fast and waited.")


# --- Settings -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the environment says: each field as ``DIGITS_`` and its name, lists with commas."""

    public_hosts: tuple[str, ...] = ()  # names that strangers come by; none: this computer only
    proxies: tuple[str, ...] = ()  # addresses whose X-Forwarded-For and -Proto are believed
    max_visitors: int = 0  # kernels in use at once; 0: what memory and cores allow
    metrics_from: tuple[str, ...] = LOOPBACK  # networks that may read /metrics

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings in ``environment``. ValueError for what cannot be read."""
        values: dict[str, Any] = {}
        for one in fields(cls):
            name = f"DIGITS_{one.name.upper()}"
            words = tuple(filter(None, map(str.strip, environment.get(name, "").split(","))))
            try:
                if one.name in ("proxies", "metrics_from"):
                    list(map(ipaddress.ip_network, words))
                if words:
                    values[one.name] = int(words[0]) if one.name == "max_visitors" else words
            except ValueError as error:
                raise ValueError(f"{name} cannot be used: {error}.") from None
        return cls(**values)

    @property
    def visitors(self) -> int:
        """How many visitors there may be at once."""
        fitting = psutil.virtual_memory().total // 2 // VISITOR_MEMORY
        default = max(min(fitting, VISITORS_PER_CORE * (os.cpu_count() or 1)), 1)
        return self.max_visitors if self.max_visitors > 0 else default

    @property
    def hosts(self) -> frozenset[str]:
        """Every name that a request may be for, in lower case and without a port."""
        public = (host.lower() for host in self.public_hosts)
        return frozenset(("localhost", "127.0.0.1", "[::1]", *public))

    def check_address(self, ip: str) -> None:
        """ValueError when strangers would be heard and nobody said by which name they come."""
        if ip != "localhost" and not is_within(ip, LOOPBACK) and not self.public_hosts:
            raise ValueError(
                f"The app would listen on {ip or 'every address'} for everybody, but "
                "DIGITS_PUBLIC_HOSTS is not set. Name what people reach it by, for example "
                "DIGITS_PUBLIC_HOSTS=digits.example.org, and read lib/digits/app/deployment/"
                "README.md; or leave --Voila.ip away to serve this computer only."
            )


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Whether ``address`` is a number in one of ``networks``.

    >>> is_within("192.168.1.20", ("192.168.0.0/16",)), is_within("a name", ("0.0.0.0/0",))
    (True, False)
    """
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    number = getattr(number, "ipv4_mapped", None) or number  # ::ffff:192.0.2.1 is the older kind
    return any(number in ipaddress.ip_network(network) for network in networks)


def customer(address: str) -> str:
    """Whom an address belongs to: with IPv6, one customer has a network of 64 bits."""
    if "." in address:
        return address.removeprefix("::ffff:")
    return ":".join(ipaddress.ip_address(address).exploded.split(":")[:4])


# --- The doors ------------------------------------------------------------------------------------

# As strict as the page allows. Scripts are files of this server, and the one inline script with
# this hash, which comes as a cell's output. Inline styles cannot be forbidden: JupyterLab and the
# widgets write them. Voila's heartbeat, an inline script, is: a line in the browser's console.
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' 'sha256-{_HASH}'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Headers(web.OutputTransform):
    """The headers of every answer, whoever gives it."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple:
        headers.update(HEADERS)
        headers.pop("Server", None)
        return status_code, headers, chunk


class Listener(HTTPServer):
    """An HTTP server without room for the slow and the many, that believes known proxies only."""

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        """Take a connection, when there is room for it."""
        of_one = sum(one.context.address[0] == address[0] for one in self._connections)
        is_proxy = is_within(address[0], self.trusted_downstream)
        too_many = of_one >= CONNECTIONS_OF_ONE and not is_proxy
        if len(self._connections) >= CONNECTIONS or too_many:
            stream.close()
            return
        stream.max_write_buffer_size = MOST_UNSENT
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Take a request; a proxy says in X-Forwarded-For and -Proto whom it is from."""
        self.xheaders = is_within(request_conn.context.address[0], self.trusted_downstream)
        delegate = super().start_request(server_conn, request_conn)
        receive = delegate.headers_received

        def headers_received(start_line, headers: HTTPHeaders):
            # Tornado would prefer these, which a proxy may hand on from a stranger.
            for name in ("X-Real-Ip", "X-Scheme"):
                headers.pop(name, None)
            return receive(start_line, headers)

        delegate.headers_received = headers_received
        return delegate


# --- Files ----------------------------------------------------------------------------------------


@functools.cache
def packed(path: str, _changed: float) -> bytes:
    """A file compressed as well as can be, which takes a while: once for all visitors."""
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


class FileHandler(MultiStaticFileHandler):
    """A file of the page, compressed for a browser that takes it so.

    The browser keeps it for good when its name changes with its content.
    """

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """As Tornado does; of a compressed file no part can be had alone."""
        if not os.path.isfile(absolute_path):
            raise web.HTTPError(404)  # without a word: what Voila would say fills a log
        found = super().validate_absolute_path(root, absolute_path)
        if found and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            content = packed(found, os.stat(found).st_mtime)
            pieces = (content[k : k + PIECE] for k in range(0, len(content), PIECE))
            self.get_content_size = lambda: len(content)
            self.get_content = lambda *_: pieces
            self.set_header("Content-Encoding", "gzip")
            self.request.headers.pop("Range", None)
        return found

    def set_headers(self) -> None:
        """As Tornado does, but for how long a browser may keep it."""
        super().set_headers()
        if re.search(r"\.[0-9a-f]{16,}\.js$", self.path):  # how webpack names its scripts
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")


# --- The page -------------------------------------------------------------------------------------


class Desk:
    """The kernel manager for one page: the kernel that it hands out is that page's visitor's."""

    def __init__(self, manager: Any, page: "PageHandler"):
        self._manager, self._page = manager, page

    def __getattr__(self, name: str) -> object:
        return getattr(self._manager, name)

    async def get_rendered_notebook(self, *arguments: Any, **options: Any) -> tuple:
        try:
            found = await self._manager.get_rendered_notebook(*arguments, **options)
        except Exception:  # it could not be started; Voila would not start another
            self._manager.refill()
            raise
        self._manager.welcome(found[2], self._page)
        return found

    async def start_kernel(self, **options: Any) -> str:
        kernel_id = await self._manager.start_kernel(**options)
        self._manager.welcome(kernel_id, self._page)
        return kernel_id


class PageHandler(TornadoVoilaHandler):
    """The app, with a kernel for each time that it is asked for."""

    kernel_manager = property(lambda self: self._desk)

    async def prepare(self) -> None:
        self._desk = self.settings["kernel_manager"]
        await super().prepare()
        # The page has no parameters; Voila's own choose templates and reach the kernel.
        self.request.query, self.request.arguments, self.request.uri = "", {}, self.request.path
        self.request.query_arguments = {}
        # The page's farewell needs this cookie, and its script must read it (so no HttpOnly).
        secure = self.request.protocol == "https"
        self.settings["xsrf_cookie_kwargs"] = {"samesite": "Lax", "secure": secure}
        self.xsrf_token  # noqa: B018  reading it sets the cookie

    async def get(self, path: str | None = None) -> None:
        """The page, or a friendly no."""
        if self.request.headers.get("Sec-Fetch-Dest", "document") != "document":
            # another site's page asks for it as an image or a script, to take a kernel
            raise web.HTTPError(403)
        manager = self._desk
        with manager.arrival(self):
            self._desk = Desk(manager, self)
            await super().get(path)

    def write_error(self, status_code: int, **about: Any) -> None:
        """A page that says what to do, and nothing of what went wrong inside."""
        seconds = {202: SOON, 429: RETRY, 503: RETRY}.get(status_code)
        if seconds:
            self.set_header("Retry-After", seconds)
        self.finish(sorry(self, status_code, seconds))


class NothingHandler(web.ErrorHandler):
    """For every address that the page does not use."""

    def write_error(self, status_code: int, **_: Any) -> None:
        """A page that says no, whatever the method was."""
        self.finish(sorry(self, status_code))


def sorry(handler: web.RequestHandler, status_code: int, seconds: int | None = None) -> str:
    """The page for an error; it asks for itself again after ``seconds``."""
    template = handler.settings["voila_jinja2_env"].get_template("sorry.html")
    home = handler.settings["base_url"]
    return template.render(status_code=status_code, seconds=seconds, home=home)


class OwnerOnly(JupyterHandler):
    """For handlers of a kernel: nobody but its owner hears of it."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self.kernel_manager.belongs(self.path_kwargs["kernel_id"], self.current_user):
            raise web.HTTPError(404)


class OwnKernelHandler(OwnerOnly, KernelHandler):
    """Tells a page that its kernel is there."""

    SUPPORTED_METHODS = ("GET",)


class FarewellHandler(OwnerOnly, VoilaShutdownKernelHandler):
    """Ends a page's kernel when the page is left."""

    SUPPORTED_METHODS = ("POST",)


# --- Frames ---------------------------------------------------------------------------------------


class RefusedError(ValueError):
    """A frame that the page does not send; the message is a word or two, never the visitor's."""


def read_frame(frame: bytes | str) -> dict:
    """The header of a frame that may pass. RefusedError for any other.

    jupyter_server would read as many offsets as a frame claims to have, up to 2**64, and the kernel
    logs a traceback for whatever it cannot read: they must not see what is not checked.
    """
    if not isinstance(frame, bytes):
        raise RefusedError("text")
    # channel, header, parent, metadata, content, end: no binary buffers
    if int.from_bytes(frame[:8], "little") != 6:
        raise RefusedError("layout")
    offsets = [int.from_bytes(frame[8 * k : 8 * k + 8], "little") for k in range(1, 7)]
    if offsets != sorted(offsets) or offsets[0] < 56 or offsets[-1] != len(frame):
        raise RefusedError("layout")
    channel, *parts = (frame[begin:end] for begin, end in itertools.pairwise(offsets))
    if channel != b"shell":
        raise RefusedError("channel")
    try:  # as text: from bytes it would take UTF-16, too
        values = [json.loads(part.decode("utf-8")) for part in parts]
    except (ValueError, RecursionError):
        raise RefusedError("json") from None
    if not all(isinstance(value, dict) for value in values):
        raise RefusedError("json")
    header, parent, metadata, content = values
    if not _is_header(header) or not header.get("msg_id"):
        raise RefusedError("header")
    if parent and not _is_header(parent):
        raise RefusedError("parent")
    if len(metadata) > MOST_PARTS or not all(map(_is_word, metadata.values())):
        raise RefusedError("metadata")
    if not _is_small(content):
        raise RefusedError("content")
    kind, data = header.get("msg_type"), content.get("data")
    if kind == "comm_open":
        fits = content.get("target_name") == CONTROL
    elif kind == "comm_msg":
        methods = "request_states", "request_state", "custom"
        fits = isinstance(data, dict) and data.get("method") in methods
    else:
        fits = kind in ("comm_close", "comm_info_request", "kernel_info_request")
    if not fits:
        raise RefusedError("type")
    return header


def _is_word(value: object) -> bool:
    return value is None or isinstance(value, str) and len(value) <= 100 and value.isprintable()


def _is_header(header: dict) -> bool:
    """Whether the kernel can read it: a subshell that is not there stops it, a bad date fails."""
    others = {name for name in header.keys() - HEADER if header[name] is not None}
    if others or not all(map(_is_word, header.values())):
        return False
    try:
        extract_dates(header)
    except (ValueError, OverflowError):
        return False
    return True


def _is_small(content: dict) -> bool:
    """Whether it has few parts, and so is not nested too deep for the kernel."""
    todo: list = [content]
    parts = 0
    while todo:
        one = todo.pop()
        parts += 1
        if parts > MOST_PARTS or len(one) > MOST_PARTS:
            return False
        inner = one.values() if isinstance(one, dict) else one
        todo += [value for value in inner if isinstance(value, dict | list)]
    return True


# --- The websocket --------------------------------------------------------------------------------


class Connection(ZMQChannelsWebsocketConnection):
    """Between one websocket and its kernel's sockets."""

    # Said once: jupyter_server asks the websocket each time, takes its end for the older layout,
    # and then reads a count of a hundred million from an ordinary frame.
    subprotocol = PROTOCOL

    # jupyter_server takes out those that were open; what was refused would stay for ever.
    _open_sessions: MutableMapping = weakref.WeakValueDictionary()

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.is_over = False
        self._waiting: dict[str, int] = {}  # bytes of what the kernel has not dealt with
        self._log_pace = Pace(1, 20)

    @property
    def is_behind(self) -> bool:
        """Whether the kernel has more to deal with than a page ever sends."""
        waiting = self._waiting.values()
        return len(waiting) >= MOST_WAITING or sum(waiting) >= MOST_WAITING_BYTES

    def handle_incoming_message(self, incoming_msg: bytes) -> None:
        """Pass a message on to the kernel when it may."""
        try:
            identity = read_frame(incoming_msg)["msg_id"]
            if identity in self._waiting:
                raise RefusedError("repeated")
            hides = rb"\u00" in incoming_msg
            says = hides or b"verdict" in incoming_msg
            if says and not self.multi_kernel_manager.may_judge(self.kernel_id):
                raise RefusedError("verdicts")
        except RefusedError as error:
            MESSAGES_REFUSED.labels(str(error)).inc()
            return
        asks = hides or b"request_state" in incoming_msg
        self._waiting[identity] = max(len(incoming_msg), STATES * asks)
        super().handle_incoming_message(incoming_msg)

    def handle_outgoing_message(self, stream: str, outgoing_msg: list) -> None:
        """Pass a message on to the page when it may."""
        _, (_, header, parent, _, content, *_) = self.session.feed_identities(outgoing_msg)
        kind = json.loads(bytes(header))["msg_type"]
        if kind == "status" and json.loads(bytes(content)).get("execution_state") == "idle":
            self._waiting.pop(json.loads(bytes(parent)).get("msg_id"), None)
        if TO_PAGE.fullmatch(kind):
            super().handle_outgoing_message(stream, outgoing_msg)
        elif self._log_pace.now():
            self.log.warning("Kernel %s: %.2000r", self.kernel_id, bytes(content))

    def disconnect(self) -> None:
        """Let go of the kernel's sockets, once: twice would count another page that left."""
        if not self.is_over:
            self.is_over = True
            self._open_sockets.add(self)  # out of which it is taken, even if it never got in
            super().disconnect()


class ChannelHandler(VoilaKernelWebsocketHandler):
    """The websocket: for the visitor whom the kernel belongs to, at a bearable pace."""

    kernel_websocket_connection_class = Connection

    async def pre_get(self) -> None:
        """Before the handshake: whose kernel is it, and does the client speak the protocol?"""
        self._pace, self._bytes_pace = Pace(RATE, BURST), Pace(BYTES_RATE, BYTES_BURST)
        self._unread = 0  # bytes on their way to the page
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if not self.kernel_manager.belongs(self.kernel_id, self.current_user):
            raise web.HTTPError(404)
        session = self.get_argument("session_id", "")  # it becomes a socket's name
        # the older protocol has another layout, and holes
        speaks = PROTOCOL in map(str.strip, offered)
        if not speaks or not re.fullmatch(r"[\w-]{1,100}", session, re.ASCII):
            raise web.HTTPError(400)
        sockets = self.kernel_manager.kernel_model(self.kernel_id)["connections"]
        if sockets >= SOCKETS or not self.kernel_manager.may_connect(self.kernel_id):
            raise web.HTTPError(429)
        await super().pre_get()

    async def open(self, kernel_id: str) -> None:
        """After the handshake: listen to the kernel."""
        try:
            await super().open(kernel_id)
        except Exception:  # Tornado tells nobody, and the kernel would be kept for a page
            self.on_connection_close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether it is over, for server or page; frames that still come nobody may read."""
        link, wire = self.connection, self.ws_connection
        return link is None or link.is_over or wire is None or wire.is_closing()

    @property
    def is_behind(self) -> bool:
        """Whether the kernel has too much to deal with, or the page too much to read."""
        return self.connection.is_behind or self._unread > MOST_UNREAD

    def on_message(self, ws_message: bytes | str) -> Awaitable[None] | None:
        """Take a message; what this returns is waited for before the next one is read."""
        if self.has_ended:
            MESSAGES_REFUSED.labels("ended").inc()
            return None
        wait = max(self._pace.wait(), self._bytes_pace.wait(len(ws_message)))
        if wait or self.is_behind:
            return self._later(ws_message, wait)
        return super().on_message(ws_message)

    async def _later(self, ws_message: bytes | str, wait: float) -> None:
        MESSAGES_DELAYED.inc()
        await asyncio.sleep(wait)
        while not self.has_ended and self.is_behind:  # Tornado waits for us before it looks
            await asyncio.sleep(0.02)
        if not self.has_ended:
            super().on_message(ws_message)

    def write_message(
        self, message: bytes | str | dict, binary: bool = False
    ) -> Awaitable[None] | None:
        """Send to the page, unless it is gone or has stopped to read."""
        try:
            sending = super().write_message(message, binary)
        except WebSocketClosedError:  # since the kernel said it; ZMQ would log an error of ours
            return None
        except StreamBufferFullError:
            self.log.warning("A page does not read what it is sent; its connection is closed.")
            self.ws_connection.stream.close()
            return None
        if sending is not None:
            size = len(message)
            self._unread += size

            def sent(sending: asyncio.Future) -> None:
                self._unread -= size
                if not sending.cancelled():
                    sending.exception()  # the page is gone; asyncio would log what nobody asks for

            sending.add_done_callback(sent)
        return sending

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say no, and no more."""
        self.finish()


# --- For those who look after the server ----------------------------------------------------------


@functools.lru_cache(maxsize=1)
def has_model(_minute: int) -> bool:
    """Whether a new kernel would have a model; looked up once a minute."""
    from digits.recognizer import Recognizer, RecognizerError  # a server nobody asks needs none

    try:
        Recognizer.load()
    except RecognizerError:
        return False
    return True


class HealthHandler(web.RequestHandler):
    """``/healthz``: 200 when the next visitor will be served, else 503; as JSON the reasons.

    ``/livez`` says 200 when the server is full, too: a container that is called unhealthy for that
    would be started again, and throw everybody out.
    """

    def initialize(self, full_is_well: bool) -> None:
        self._full_is_well = full_is_well

    async def get(self) -> None:
        state = self.settings["kernel_manager"].state()
        state["model"] = await asyncio.to_thread(has_model, int(time.monotonic() // 60))
        room = self._full_is_well or state["visitors"] < state["most_visitors"]
        good = room and state["kernels_start"] and state["model"]
        self.set_status(200 if good else 503)
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok" if good else "unavailable", **state})


class MetricsHandler(web.RequestHandler):
    """``/metrics``: for Prometheus, from networks that may read it."""

    def get(self) -> None:
        settings = self.settings["kernel_manager"].settings
        peer = self.request.connection.context.address[0]
        # an undeclared proxy on this computer would make every stranger look local
        forwarded = {"X-Forwarded-For", "Forwarded"} & set(self.request.headers)
        hidden = forwarded and not is_within(peer, settings.proxies)
        if hidden or not is_within(self.request.remote_ip, settings.metrics_from):
            raise web.HTTPError(403)
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


# --- All of it ------------------------------------------------------------------------------------


def routes(voila: Voila, hosts: frozenset[str], handlers: list) -> list:
    """The server's routes: of Voila's ``handlers`` those that the page uses, with little room."""
    options = {handler: given[0] for _, handler, *given in handlers if given}
    extensions = "|".join(map(re.escape, voila.voila_configuration.extension_allowlist))
    kernel = r"(?P<kernel_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    script = r"[\w.-]+\.js"
    templates = collect_static_paths(["voila", "nbconvert"], "digits")
    labs = rf"voila/labextensions/((?:{extensions})/static/{script})"
    root, names = re.escape(voila.server_url), "|".join(map(re.escape, hosts))
    return [
        # A load balancer asks for these by number, not by name.
        (rf"{root}healthz", HealthHandler, {"full_is_well": False}),
        (rf"{root}livez", HealthHandler, {"full_is_well": True}),
        (rf"{root}metrics", MetricsHandler),
        # Any other name can be made to lead here, too (DNS rebinding).
        Rule(HostMatches(rf"(?!(?:{names})$).*"), NothingHandler, {"status_code": 421}),
        (root, PageHandler, options[TornadoVoilaHandler]),
        (rf"{root}api/kernels/{kernel}", OwnKernelHandler),
        (rf"{root}api/kernels/{kernel}/channels", ChannelHandler),
        (rf"{root}voila/api/shutdown/{kernel}", FarewellHandler),
        (rf"{root}voila/templates/digits/static/({script})", FileHandler, {"paths": templates}),
        (rf"{root}voila/static/({script})", FileHandler, options[MultiStaticFileHandler]),
        (rf"{root}{labs}", FileHandler, {"paths": options[FileFindHandler]["path"]}),
        (r".*", NothingHandler, {"status_code": 404}),
    ]


def protect(voila: Voila, manager: "KernelManager", settings: Settings) -> None:
    """Have ``voila``, which has not started to listen yet, serve through these doors."""
    all_handlers = voila.init_handlers

    def listen(port: int, address: str) -> Listener:
        server = Listener(
            voila.app,
            trusted_downstream=list(settings.proxies),
            idle_connection_timeout=PATIENCE[0],
            body_timeout=PATIENCE[1],
            max_header_size=16_384,
            max_body_size=65_536,
        )
        server.listen(port, address)
        return server

    def init_handlers() -> list:
        # No answer repeats what a visitor says, so its length does not tell what is in it (BREACH).
        voila.app.add_transform(web.GZipContentEncoding)
        voila.app.add_transform(Headers)
        voila.app.listen = listen
        # In place of a line for each request that was refused, with which anybody can fill a log.
        voila.app.settings["log_function"] = lambda one: manager.heard_from(one.request.remote_ip)
        return routes(voila, settings.hosts, all_handlers())

    voila.init_handlers = init_handlers
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        # Every connection is a file, and each kernel needs a dozen; the usual limit is for few.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


# --- Visitors and their kernels -------------------------------------------------------------------


@dataclass
class Visit:
    """A kernel in use, or one that is being made ready."""

    owner: str  # whom the page was made for: the name in a signed cookie
    customer: str  # whom the address belongs to
    heard: float  # when that customer last asked for anything
    away_since: float | None = None  # when its page was last seen, None while it is connected
    has_connected: bool = False
    ending: bool = False
    handshakes: Pace = field(default_factory=lambda: Pace(*HANDSHAKES))


class KernelManager(AsyncMappingKernelManager):
    """A kernel of the kind in ``digits.app.kernel`` for each visitor, while there is room.

    What Voila adds (a pool of kernels that wait for visitors) it adds in a subclass of its own.
    """

    def __init__(self, **options: Any):
        try:
            self.settings = Settings.read()
            self.settings.check_address(options["parent"].ip)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        self.most_visitors = self.settings.visitors
        self._visits: dict[Any, Visit] = {}  # by kernel, or by page while it has none
        self._line: dict[str, float] = {}  # who waits for a kernel, and when they last asked
        self._making = 0  # pages that are being made
        self._verdicts: dict[str, Pace] = {}  # by customer
        self._last_ready = time.monotonic()
        super().__init__(**options)
        self.config.KernelManager.transport = transport(self.parent.connection_dir_root)
        protect(self.parent, self, self.settings)
        self._round = PeriodicCallback(self._look_round, 1000 * LOOK_ROUND)
        self._round.start()
        VISITORS_MOST.set(self.most_visitors)
        VISITORS.set_function(lambda: self.visitors)
        POOL.set_function(self._ready)

    @property
    def visitors(self) -> int:
        """How many there are; kernels of the pool are nobody's yet."""
        return len(self._visits)

    @contextlib.contextmanager
    def arrival(self, page: PageHandler) -> Iterator[None]:
        """A seat for somebody whose page is being made; 503 or 429 when there is none.

        Strangers share: the fewer pads are free, the fewer an address may have (alone three of
        four), and the last one is for an address that has none. When many come at once, kernels
        are started in turn, one for each core; who waits gets a page that says so (202).
        """
        who, free = customer(page.request.remote_ip), self.most_visitors - self.visitors
        has = sum(visit.customer == who for visit in self._visits.values())
        greedy = self.settings.public_hosts and has and (free == 1 or has >= 3 * free)
        if free <= 0 or greedy:
            VISITORS_REFUSED.labels("full" if free <= 0 else "share").inc()
            raise web.HTTPError(503 if free <= 0 else 429)
        name, now = page.current_user.username, time.monotonic()
        self._line = {one: at for one, at in self._line.items() if now - at < 3 * SOON}
        self._line[name] = now
        if list(self._line).index(name) >= self._ready() + (os.cpu_count() or 1) - self._making:
            raise web.HTTPError(202)
        del self._line[name]
        self._visits[page] = Visit(name, who, now)
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1
            self._visits.pop(page, None)

    def welcome(self, kernel_id: str, page: PageHandler) -> None:
        """A kernel is a page's visitor's from now on."""
        visit = self._visits.pop(page)
        visit.away_since = visit.heard = time.monotonic()
        self._visits[kernel_id] = visit

    def belongs(self, kernel_id: str, visitor: User | None) -> bool:
        """Whether a kernel is this visitor's."""
        visit = self._visits.get(kernel_id)
        return visit is not None and visitor is not None and visit.owner == visitor.username

    def may_connect(self, kernel_id: str) -> bool:
        """Whether a page may try once more to reach its kernel; no network breaks off so often."""
        visit = self._visits.get(kernel_id)
        return visit is not None and visit.handshakes.now()

    def may_judge(self, kernel_id: str) -> bool:
        """Whether its address may still say what was right, so that no one fills the store."""
        if len(self._verdicts) > 10_000:
            self._verdicts.clear()
        visit, pace = self._visits.get(kernel_id), Pace(VERDICTS / 86_400, VERDICTS)
        return visit is not None and self._verdicts.setdefault(visit.customer, pace).now()

    def heard_from(self, address: str) -> None:
        """Somebody was answered: a page that is still being loaded over a slow line, perhaps."""
        for visit in self._visits.values():
            if visit.customer == customer(address):
                visit.heard = time.monotonic()

    def notify_connect(self, kernel_id: str) -> None:
        super().notify_connect(kernel_id)
        if visit := self._visits.get(kernel_id):
            visit.away_since, visit.has_connected = None, True

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        visit = self._visits.get(kernel_id)
        if visit and not self._kernel_connections.get(kernel_id):
            visit.away_since = time.monotonic()

    async def _look_round(self) -> None:
        now = time.monotonic()
        if self._ready():
            self._last_ready = now
        is_tight = 2 * self.visitors > self.most_visitors
        for kernel_id, visit in list(self._visits.items()):
            with contextlib.suppress(psutil.Error, AttributeError, web.HTTPError):
                process = psutil.Process(self.get_kernel(kernel_id).provisioner.pid)
                used = int(sum(process.cpu_times()[:2]) // NICE)
                process.nice(max(min(used, 19), process.nice()))
            if visit.ending or visit.away_since is None:
                continue
            unused = is_tight and not visit.has_connected and now - visit.heard > UNUSED
            if unused or now - visit.away_since > LINGER:
                visit.ending = True
                await self._end(kernel_id)

    async def start_kernel(self, **options: Any) -> str:
        kernel_id = await super().start_kernel(**{"extra_arguments": QUICK_KERNEL, **options})
        KERNELS_STARTED.inc()
        return kernel_id

    def remove_kernel(self, kernel_id: str) -> object:
        """Forget a kernel that has ended, and what Voila keeps of each for ever.

        The sockets of a page that went while its kernel ended are among that: it might come back.
        """
        if kernel_id in self:
            self.stop_buffering(kernel_id)
        self._visits.pop(kernel_id, None)
        RequestInfoSocketHandler._cache.pop(kernel_id, None)
        return super().remove_kernel(kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        KERNELS_DIED.inc()
        self.log.warning("Kernel %s died.", kernel_id)
        ending = asyncio.ensure_future(self._end(kernel_id, now=True))
        ending.add_done_callback(lambda _: self.refill())

    async def _end(self, kernel_id: str, **options: Any) -> None:
        try:
            await self.shutdown_kernel(kernel_id, **options)
        except Exception:  # it ended meanwhile, in one of several ways
            self.log.info("Kernel %s had ended.", kernel_id)
        self._visits.pop(kernel_id, None)

    def refill(self) -> None:
        """Have Voila's pool as large as it shall be."""
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
        hoping = time.monotonic() - self._last_ready < UNREADY
        return {
            "visitors": self.visitors,
            "most_visitors": self.most_visitors,
            "pool_ready": ready,
            "kernels_start": not pooled or ready > 0 or hoping,
        }


def _succeeded(task: asyncio.Future) -> bool:
    return task.done() and not task.cancelled() and not task.exception()


def transport(folder: str) -> str:
    """How kernels are spoken with: "ipc", socket files in a folder in ``folder``, or else "tcp".

    A kernel's ports are looked for by the server and taken by the kernel a second later. In between
    another server beside it can take them; then the kernel dies, and ZeroMQ, which the other's
    kernel answers, can stop this server for ever.
    """
    fits = len(os.fsencode(folder)) + SOCKET_NAME <= MOST_SOCKET_NAME
    return "ipc" if fits and sys.platform != "win32" else "tcp"


# Voila finds the app's page template in ``jupyter/``.
_folders = [str(Path(__file__).parent / "jupyter"), os.environ.get("JUPYTER_PATH", "")]
if _folders[0] not in _folders[1].split(os.pathsep):
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, _folders))

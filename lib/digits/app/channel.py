"""The websocket between a page and its kernel: what may pass, and how fast.

The page's script asks for the widgets' states and then reports events. Nothing else passes to
the kernel: no code, no widget's state, no new widget, no shutdown. Nothing but answers and widgets
passes to the page: no output stream, which would show what the kernel logs.
"""

import asyncio
import functools
import itertools
import json
import re
import time
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from jupyter_client.jsonutil import extract_dates
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from prometheus_client import Counter
from tornado import web
from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketClosedError
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler
from zmq.eventloop.zmqstream import ZMQStream

MESSAGES_REFUSED = Counter(
    "digits_messages_refused", "Messages that were not passed on to a kernel.", ["reason"]
)
MESSAGES_DELAYED = Counter(
    "digits_messages_delayed", "Messages that came too fast and had to wait."
)

PROTOCOL = "v1.kernel.websocket.jupyter.org"
CONTROL = "jupyter.widget.control"  # the comm target that tells a page all widgets' states
TO_PAGE = set(
    [
        "status",
        "comm_open",
        "comm_msg",
        "comm_close",
        "display_data",
        "update_display_data",
        "clear_output",
        "kernel_info_reply",
        "comm_info_reply",
    ]
)
RATE, BURST = 200, 400  # messages a second; a pen sends 60, and 120 for a moment
BYTES_RATE, BYTES_BURST = 1_000_000, 4_000_000  # of messages a second; a photograph has 3 MB
MOST_WAITING = 128  # messages that the kernel has not dealt with; an upload keeps 3
MOST_WAITING_BYTES = 4_000_000
MOST_UNREAD = 250_000  # bytes that a page has not read, after which its messages wait
MOST_PARTS = 32  # dictionaries and lists in a message, and items in each; a touch has a few
HEADER = {"msg_id", "msg_type", "session", "username", "version", "date"}  # all of them words
SOCKETS = 3  # on one kernel: a page needs one, and another while it reconnects


class Pace:
    """``rate`` a second, after ``burst`` that may come at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._ahead, self._clock, self._next = rate, burst / rate, clock, 0.0

    def wait(self, amount: float = 1) -> float:
        """Take so many turns; the seconds until they come, 0 for at once."""
        now = self._clock()
        self._next = max(self._next, now - self._ahead) + amount / self._rate
        return max(self._next - now, 0)

    def now(self) -> bool:
        """Take a turn if it comes at once, else none."""
        if max(self._next, self._clock() - self._ahead) + 1 / self._rate > self._clock():
            return False
        self.wait()
        return True


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
    header, parent, metadata, content = map(_json, parts)
    if not _is_header(header) or not header.get("msg_id"):
        raise RefusedError("header")
    if parent and not _is_header(parent):
        raise RefusedError("parent")
    if len(metadata) > MOST_PARTS or not all(map(_is_word, metadata.values())):
        raise RefusedError("metadata")
    if not _is_small(content):
        raise RefusedError("content")
    if not _may_pass(header.get("msg_type"), content):
        raise RefusedError("type")
    return header


def _may_pass(kind: object, content: dict) -> bool:
    if kind == "comm_open":
        return content.get("target_name") == CONTROL
    if kind == "comm_msg":
        data = content.get("data")
        methods = "request_states", "request_state", "custom"
        return isinstance(data, dict) and data.get("method") in methods
    return kind in ("comm_close", "comm_info_request", "kernel_info_request")


def _json(part: bytes) -> dict:
    try:
        value = json.loads(part.decode("utf-8"))  # which from bytes would take UTF-16, too
    except (ValueError, RecursionError):
        raise RefusedError("json") from None
    if not isinstance(value, dict):
        raise RefusedError("json")
    return value


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
    todo, parts = [content], 0
    while todo:
        one = todo.pop()
        if isinstance(one, dict | list):
            parts += 1
            if parts > MOST_PARTS or len(one) > MOST_PARTS:
                return False
            todo += one.values() if isinstance(one, dict) else one
    return True


# --- The connection -------------------------------------------------------------------------------


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
        except RefusedError as error:
            MESSAGES_REFUSED.labels(str(error)).inc()
            return
        self._waiting[identity] = len(incoming_msg)
        super().handle_incoming_message(incoming_msg)

    def handle_outgoing_message(self, stream: ZMQStream, outgoing_msg: list) -> None:
        """Pass a message on to the page when it may."""
        _, (_, header, parent, _, content, *_) = self.session.feed_identities(outgoing_msg)
        kind = json.loads(bytes(header))["msg_type"]
        if kind == "status" and json.loads(bytes(content)).get("execution_state") == "idle":
            self._waiting.pop(json.loads(bytes(parent)).get("msg_id"), None)
        if kind in TO_PAGE:
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
        if PROTOCOL not in map(str.strip, offered):  # the older one has another layout and holes
            raise web.HTTPError(400)
        session = self.get_argument("session_id", "")  # it becomes a socket's name
        if not re.fullmatch(r"[\w-]{1,100}", session, re.ASCII):
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
        """Whether it is over, for the server or for the page.

        For five seconds more frames can come, which nobody may read.
        """
        return (
            self.connection is None
            or self.connection.is_over
            or self.ws_connection is None
            or self.ws_connection.is_closing()
        )

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
            self._unread += len(message)
            sending.add_done_callback(functools.partial(self._sent, len(message)))
        return sending

    def _sent(self, size: int, sending: asyncio.Future) -> None:
        self._unread -= size
        if not sending.cancelled():
            sending.exception()  # the page is gone; asyncio would log what nobody asks for

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say no, and no more."""
        self.finish()

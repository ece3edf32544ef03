"""The websocket between a page and its kernel: what may pass, and how fast.

The page's script asks for the widgets' states and then reports events. Nothing else passes to the kernel: no code, no
widget's state, no new widget, no shutdown. Nothing but answers and widgets passes to the page: no output stream, which
would show what the kernel logs.
"""

import asyncio
import json
import re
import time
import weakref
from collections.abc import Awaitable, MutableMapping
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import web
from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketClosedError
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler
from zmq.eventloop.zmqstream import ZMQStream

from digits import health
from digits.limits import Pace

PROTOCOL = "v1.kernel.websocket.jupyter.org"
CONTROL = "jupyter.widget.control"  # the comm target that tells a page all widgets' states
TO_PAGE = ("status", "comm_open", "comm_msg", "comm_close", "display_data", "update_display_data", "clear_output",
           "kernel_info_reply", "comm_info_reply")
RATE, BURST = 200, 400  # messages a second; a pen sends 60, and 120 for a moment
MOST_WAITING, MOST_WAITING_BYTES = 128, 4_000_000  # messages that the kernel has not dealt with; an upload keeps 3
SOCKETS = 3  # on one kernel: a page needs one, and another while it reconnects


class RefusedError(ValueError):
    """A frame that the page's script does not send; the message is one of a few words, never the visitor's."""


def read_frame(frame: bytes | str) -> dict:
    """The header of a frame that may pass. RefusedError for any other.

    jupyter_server would read as many offsets as a frame claims to have, up to 2**64: it must not see what is not checked.
    """
    if not isinstance(frame, bytes):
        raise RefusedError("text")
    if int.from_bytes(frame[:8], "little") != 6:  # channel, header, parent, metadata, content, end: no binary buffers
        raise RefusedError("layout")
    offsets = [int.from_bytes(frame[8 * k:8 * k + 8], "little") for k in range(1, 7)]
    if offsets != sorted(offsets) or offsets[0] < 56 or offsets[-1] > len(frame):
        raise RefusedError("layout")
    channel, header, _, _, content = (frame[begin:end] for begin, end in zip(offsets, offsets[1:], strict=False))
    if channel != b"shell":
        raise RefusedError("channel")
    header, content = _json(header), _json(content)
    if not isinstance(header.get("msg_id"), str) or len(header["msg_id"]) > 100:
        raise RefusedError("header")
    if not _may_pass(header.get("msg_type"), content):
        raise RefusedError("type")
    return header


def _may_pass(kind: object, content: dict) -> bool:
    if kind == "comm_open":
        return content.get("target_name") == CONTROL
    if kind == "comm_msg":
        data = content.get("data")
        return isinstance(data, dict) and data.get("method") in ("request_states", "request_state", "custom")
    return kind in ("comm_close", "comm_info_request", "kernel_info_request")


def _json(part: bytes) -> dict:
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        raise RefusedError("json") from None
    if not isinstance(value, dict):
        raise RefusedError("json")
    return value


class Connection(ZMQChannelsWebsocketConnection):
    """Between one websocket and its kernel's sockets."""

    # Said once: jupyter_server asks the websocket each time, takes its end for the older layout, and then reads a count of a
    # hundred million from an ordinary frame.
    subprotocol = PROTOCOL

    # jupyter_server takes out those that were open; what was refused after that entry would stay for ever.
    _open_sessions: MutableMapping = weakref.WeakValueDictionary()

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.is_over = False
        self._waiting: dict[str, tuple[int, float]] = {}  # what the kernel has not dealt with: bytes, and since when
        self._log_pace = Pace(1, 20)

    @property
    def is_behind(self) -> bool:
        """Whether the kernel has more to deal with than a page ever sends."""
        return (len(self._waiting) >= MOST_WAITING
                or sum(size for size, _ in self._waiting.values()) >= MOST_WAITING_BYTES)

    def handle_incoming_message(self, incoming_msg: bytes) -> None:
        """Pass a message on to the kernel when it may."""
        try:
            identity = read_frame(incoming_msg)["msg_id"]
            if identity in self._waiting:
                raise RefusedError("repeated")
        except RefusedError as error:
            health.MESSAGES_REFUSED.labels(str(error)).inc()
            return
        self._waiting[identity] = len(incoming_msg), time.perf_counter()
        super().handle_incoming_message(incoming_msg)

    def handle_outgoing_message(self, stream: ZMQStream, outgoing_msg: list) -> None:
        """Pass a message on to the page when it may."""
        _, (_, header, parent, _, content, *_) = self.session.feed_identities(outgoing_msg)
        kind = json.loads(bytes(header))["msg_type"]
        if kind == "status" and json.loads(bytes(content)).get("execution_state") == "idle":
            self._dealt_with(json.loads(bytes(parent)).get("msg_id"))
        if kind in TO_PAGE:
            super().handle_outgoing_message(stream, outgoing_msg)
        elif self._log_pace.now():
            self.log.warning("Kernel %s: %.2000r", self.kernel_id, bytes(content))

    def disconnect(self) -> None:
        """Let go of the kernel's sockets, once: whoever comes second would be counted as another page that left."""
        if not self.is_over:
            self.is_over = True
            self._open_sockets.add(self)  # it is taken out, and is not there when the sockets could not be made
            super().disconnect()

    def _dealt_with(self, identity: str | None) -> None:
        _, since = self._waiting.pop(identity, (0, None))
        if since is not None:
            health.MESSAGE_SECONDS.observe(time.perf_counter() - since)


class Channel(VoilaKernelWebsocketHandler):
    """The websocket's side of the server: for the visitor whom the kernel belongs to, at a bearable pace."""

    kernel_websocket_connection_class = Connection

    async def pre_get(self) -> None:
        """Before the handshake: whose kernel is it, and does the client speak the protocol?"""
        self._pace = Pace(RATE, BURST)
        offered = [one.strip() for one in self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if not self.kernel_manager.belongs(self.kernel_id, self.current_user):
            raise web.HTTPError(404)
        if PROTOCOL not in offered:  # the older one has another layout, and other holes
            raise web.HTTPError(400)
        if not re.fullmatch(r"[\w-]{1,100}", self.get_argument("session_id", ""), re.ASCII):  # it becomes a socket's name
            raise web.HTTPError(400)
        if not self.kernel_manager.may_connect(self.kernel_id):
            raise web.HTTPError(429)
        if self.kernel_manager.kernel_model(self.kernel_id)["connections"] >= SOCKETS:
            raise web.HTTPError(429)
        await super().pre_get()

    async def open(self, kernel_id: str) -> None:
        """After the handshake: listen to the kernel."""
        try:
            await super().open(kernel_id)
        except Exception:  # Tornado ends it and tells nobody; the kernel would have a page that is not there, and be kept
            self.on_connection_close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether it is over, for the server or for the page; for five seconds more frames can come, which nobody may read."""
        return (self.connection is None or self.connection.is_over
                or self.ws_connection is None or self.ws_connection.is_closing())

    def on_message(self, ws_message: bytes | str) -> Awaitable[None] | None:
        """Take a message; what this returns is waited for before the next one is read."""
        if self.has_ended:
            health.MESSAGES_REFUSED.labels("ended").inc()
            return None
        wait = self._pace.wait()
        if wait or self.connection.is_behind:
            return self._later(ws_message, wait)
        return super().on_message(ws_message)

    async def _later(self, ws_message: bytes | str, wait: float) -> None:
        health.MESSAGES_DELAYED.inc()
        await asyncio.sleep(wait)
        while not self.has_ended and self.connection.is_behind:  # Tornado waits for us before it looks whether it is over
            await asyncio.sleep(0.02)
        if not self.has_ended:
            super().on_message(ws_message)

    def write_message(self, message: bytes | str | dict, binary: bool = False) -> Awaitable[None] | None:
        """Send to the page, unless it is gone or has stopped to read."""
        try:
            return super().write_message(message, binary)
        except WebSocketClosedError:  # since the kernel said it; ZMQ would log an error of ours
            return None
        except StreamBufferFullError:
            self.log.warning("A page does not read what it is sent; its connection is closed.")
            self.ws_connection.stream.close()
            return None

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say no, and no more."""
        self.finish()

"""The kernel as Voila starts it for the app: it hears only what the page says, and speaks only when there is something
to say.

Every widget lets whoever has its number change it, and anybody can have new ones made. The app's page does neither: it
asks for the state of all widgets, or of one after the other when that takes more than four seconds to come, and then
reports what the pen does. ``expected`` knows those messages; all others end here. What is logged goes to the server's log:
ipykernel would send it to the visitor's browser.

ipykernel is made for cells, a few a minute. A pen sends sixty messages a second, and for each one ipykernel announces
that it is busy and flushes both output streams, which wakes another thread and waits for it, twice. That takes longer
than reading the digit. ``digits.server`` has Voila use the two classes below instead; in JupyterLab, whose user owns the
kernel, all works without them, only slower.
"""

import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from comm import get_comm_manager
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel

CONTROL = "jupyter.widget.control"  # the channel on which a page asks for all widgets
MOST_CONTROLS = 8  # of these channels, since each reload opens one
_log = logging.getLogger(__name__)


def expected(kind: str, content: object) -> bool:
    """Whether the app's page sends such a message: ``kind`` is comm_open, comm_msg or comm_close."""
    if not isinstance(content, dict) or not isinstance(content.get("comm_id"), str):
        return False
    channels, data = get_comm_manager().comms, content.get("data")
    if kind == "comm_msg":
        if content["comm_id"] not in channels or not isinstance(data, dict):
            return False
        of_all = channels[content["comm_id"]].target_name == CONTROL
        return data.get("method") in (("request_states",) if of_all else ("request_state", "custom"))
    controls = [one for one, channel in channels.items() if channel.target_name == CONTROL]
    if kind == "comm_close":
        return content["comm_id"] in controls
    new = content.get("target_name") == CONTROL and content["comm_id"] not in channels
    return new and len(content["comm_id"]) < 100 and len(controls) < MOST_CONTROLS


class Stream(OutStream):
    """An output stream that is flushed when something was written, and else not."""

    _written = False

    def write(self, string: str) -> int | None:
        self._written = True
        return super().write(string)

    def flush(self) -> None:
        if self._written:
            self._written = False
            super().flush()


def log_to_the_server() -> None:
    """Log lines go to the process's own error output, wherever ipykernel has put it; none repeats what a visitor sent."""
    for name in ("Comm", "ipykernel.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # "No such comm: ..."
    try:
        logging.basicConfig(stream=os.fdopen(sys.stderr.fileno(), "w", buffering=1, closefd=False))
    except (io.UnsupportedOperation, OSError):
        logging.basicConfig(stream=sys.__stderr__)


class Kernel(IPythonKernel):
    """A kernel that says "busy" for cells only; that it is done ("idle") is still said of every message, which the page
    waits for."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        log_to_the_server()
        self._refused = False
        for kind in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[kind] = self._only_expected(kind, self.shell_handlers[kind])

    def _only_expected(self, kind: str, handle: Callable) -> Callable:
        def gate(stream, ident, message):
            if expected(kind, message["content"]):
                return handle(stream, ident, message)
            if not self._refused:  # said once: a flood must not fill the log
                _log.warning("A %s that the page does not send was refused; more will not be mentioned.", kind)
            self._refused = True
        return gate

    def pre_handler_hook(self) -> None:
        """Nothing: a server interrupts a kernel before it ends it, and ipykernel would have that break off a message. It
        changes nothing but the log."""

    def post_handler_hook(self) -> None:
        """Nothing to put back."""

    def _publish_status(self, status: str, channel: str, parent: dict | None = None) -> None:
        about = (parent or self.get_parent(channel)).get("header", {}).get("msg_type")
        if status != "busy" or about != "comm_msg":
            super()._publish_status(status, channel, parent)

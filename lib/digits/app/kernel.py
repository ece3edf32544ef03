"""The kernel as Voila starts it for the app: it hears only what the page says, and says little.

Every widget lets whoever has its number change it, and anybody can have new ones made. The page
asks for the states of all widgets, or of one after the other on a slow line, and reports what the
pen does; nothing else is heard, and the log goes to the server's, not to the browser. ipykernel
would announce and flush for each of sixty messages a second, which takes longer than reading the
digit. In JupyterLab, whose user owns the kernel, all works without this module, only slower.
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
from IPython import get_ipython
from IPython.display import HTML, display

from digits.app import CONTROL, Pace

MOST_CONTROLS = 8  # of these channels, since each reload opens one
MOST_LINES = 1, 20  # in the log, a second and at once
_log = logging.getLogger(__name__)


def expected(kind: str, content: object) -> bool:
    """Whether the app's page sends it: ``kind`` is comm_open, comm_msg or comm_close."""
    if not isinstance(content, dict) or not isinstance(content.get("comm_id"), str):
        return False
    channels, data = get_comm_manager().comms, content.get("data")
    known = channels.get(content["comm_id"])
    if kind == "comm_msg":
        of_all = known is not None and known.target_name == CONTROL
        methods = ("request_states",) if of_all else ("request_state", "custom")
        return known is not None and isinstance(data, dict) and data.get("method") in methods
    if kind == "comm_close":
        return known is not None and known.target_name == CONTROL
    if content.get("target_name") != CONTROL or known or len(content["comm_id"]) >= 100:
        return False
    return sum(one.target_name == CONTROL for one in channels.values()) < MOST_CONTROLS


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


class Kernel(IPythonKernel):
    """A kernel that says "busy" for cells only, and "idle", which a page waits for, always."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for name in ("Comm", "ipykernel.comm"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they repeat what a visitor sent
        try:  # the process's own error output, wherever ipykernel has put it
            stream = os.fdopen(sys.stderr.fileno(), "w", buffering=1, closefd=False)
        except (io.UnsupportedOperation, OSError):
            stream = sys.__stderr__
        handler = logging.StreamHandler(stream)
        handler.addFilter(Pace(*MOST_LINES).now)
        logging.basicConfig(handlers=[handler])
        self._refused = False
        for kind in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[kind] = self._only_expected(kind, self.shell_handlers[kind])

    def _only_expected(self, kind: str, handle: Callable) -> Callable:
        def gate(stream, ident, message):
            if expected(kind, message["content"]):
                return handle(stream, ident, message)
            if not self._refused:  # said once: a flood must not fill the log
                _log.warning("A %s that no page sends was refused; this is said once.", kind)
            self._refused = True

        return gate

    def pre_handler_hook(self) -> None:
        """Nothing: ipykernel lets an interrupt, which comes before the end, break off a message."""

    def post_handler_hook(self) -> None:
        """Nothing to put back."""

    def _publish_status(self, status: str, channel: str, parent: dict | None = None) -> None:
        about = (parent or self.get_parent(channel)).get("header", {}).get("msg_type")
        if status != "busy" or about != "comm_msg":
            super()._publish_status(status, channel, parent)


def require_guard() -> None:
    """RuntimeError when Voila serves the app without ``voila.json``, which names every protection.

    It is said on the page, too: Voila shows no traceback.
    """
    is_voila = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")
    if is_voila and not isinstance(getattr(get_ipython(), "kernel", None), Kernel):
        words = "This server was started without the protections that voila.json names. Start it "
        words += "in the project's folder: voila notebooks/NAME.ipynb"
        display(HTML(f'<p role="alert">{words}</p>'))
        raise RuntimeError(words)

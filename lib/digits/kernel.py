"""The kernel as Voila starts it for the app: it speaks only when there is something to say.

ipykernel is made for cells, a few a minute. A pen sends sixty messages a second, and for each one ipykernel announces
that it is busy and flushes both output streams, which wakes another thread and waits for it, twice. That takes longer
than reading the digit. ``digits.server`` has Voila use these two classes instead; without them all works, only slower.
"""

from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel


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
    """A kernel that says "busy" for cells only; that it is done ("idle") is still said of every message, which the page
    waits for."""

    def _publish_status(self, status: str, channel: str, parent: dict | None = None) -> None:
        about = (parent or self.get_parent(channel)).get("header", {}).get("msg_type")
        if status != "busy" or about != "comm_msg":
            super()._publish_status(status, channel, parent)

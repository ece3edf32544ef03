"""The drawing page: pad, page, feedback, server."""

import time
from collections.abc import Callable
from pathlib import Path

STATIC = Path(__file__).parent / "static"
SCRIPT = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("view.js", "app.js"))
CONTROL = "jupyter.widget.control"  # the channel on which a page asks for all widgets' states


class Pace:
    """``rate`` a second, after ``burst`` that may come at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._ahead, self._clock = rate, burst / rate, clock
        self._next = float("-inf")  # when the turn after the last one that was taken comes

    def wait(self, amount: float = 1) -> float:
        """Take so many turns; the seconds until they come, 0 for at once."""
        now = self._clock()
        self._next = max(self._next, now - self._ahead) + amount / self._rate
        return max(self._next - now, 0)

    def now(self, _: object = None) -> bool:
        """Take a turn if it comes at once, else none; so a filter of log records, too."""
        if max(self._next, self._clock() - self._ahead) + 1 / self._rate > self._clock():
            return False
        self.wait()
        return True


def __getattr__(name: str) -> object:
    """``App``, loaded when asked for: the server, which needs another part, never does."""
    if name == "App":
        from digits.app.app import App

        return App
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

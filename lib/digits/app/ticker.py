"""When the app does what: on the kernel's event loop, often enough to feel immediate, seldom enough to keep up."""

import asyncio
import time
from collections.abc import Callable

SHARE = 0.5  # of the time at most is spent in a ticker's work


class Ticker:
    """Does work soon after it was asked for, however often it is asked: at most once in ``interval`` seconds.

    When the work itself takes long, or the machine is busy, the pauses grow with it, so that what arrives in between
    still gets its turn.
    """

    def __init__(self, work: Callable[[], None], interval: float):
        self._work, self._interval = work, interval
        self._free_at = 0.0  # of time.monotonic(): not before then
        self._handle: asyncio.TimerHandle | None = None

    @property
    def due(self) -> bool:
        """Whether the work is going to be done."""
        return self._handle is not None

    def ask(self) -> None:
        """Have the work done soon."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(
                max(self._free_at - time.monotonic(), 0), self._run
            )

    def _run(self) -> None:
        self._handle = None
        started = time.monotonic()
        try:
            self._work()
        finally:
            ended = time.monotonic()
            self._free_at = max(
                started + self._interval, ended + (ended - started) * (1 / SHARE - 1)
            )


class Timer:
    """Does work once, when nobody has asked for it for a while."""

    def __init__(self, work: Callable[[], None], delay: float):
        self._work, self._delay = work, delay
        self._handle: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Have the work done after the delay; asking again begins it anew."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(self._delay, self._work)

    def cancel(self) -> None:
        """Forget it."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

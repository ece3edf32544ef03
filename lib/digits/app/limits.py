"""How much the server takes from how many: its settings, and two ways to say "not so fast"."""

import contextlib
import ipaddress
import os
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil

VISITOR_MEMORY = (
    150_000_000  # bytes that a visitor's kernel takes when nobody means harm, with some to spare
)
VISITORS_PER_CORE = 10  # drawing at once; see tests/benchmarks/app.py
LOOPBACK = "127.0.0.0/8", "::1"


LEAST_KERNEL_MEMORY = (
    400  # MB of data: a kernel has 270 from the start, most of it unused, and draws with the rest
)


class SettingsError(ValueError):
    """A setting that cannot be; the message says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the environment says about the server: each field as ``DIGITS_`` and its name in capitals.

    Lists are separated by commas. SettingsError for what cannot be read.
    """

    public_hosts: tuple[
        str, ...
    ] = ()  # names that strangers reach the server by; without them it serves this computer
    proxies: tuple[
        str, ...
    ] = ()  # addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed
    max_visitors: int = 0  # kernels in use at once; 0: what memory and cores allow
    visits_per_minute: int = 30  # new kernels for one address; a school class is one address
    kernel_memory_mb: int = 768  # of data a kernel may have; see ``LEAST_KERNEL_MEMORY``
    metrics_from: tuple[str, ...] = LOOPBACK  # networks that may read /metrics

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings in ``environment``."""
        given = {
            one.name: environment.get(f"DIGITS_{one.name.upper()}", "").strip()
            for one in fields(cls)
        }
        values: dict[str, Any] = {
            name: _value(name, text, getattr(cls, name)) for name, text in given.items() if text
        }
        settings = cls(**values)
        if not settings.visits_per_minute:
            raise SettingsError("DIGITS_VISITS_PER_MINUTE is 0, so that nobody could come.")
        if settings.kernel_memory_mb < LEAST_KERNEL_MEMORY:
            raise SettingsError(
                f"DIGITS_KERNEL_MEMORY_MB is {settings.kernel_memory_mb}; a kernel needs at least "
                f"{LEAST_KERNEL_MEMORY}."
            )
        for name in ("proxies", "metrics_from"):
            for network in getattr(settings, name):
                _network(name, network)
        return settings

    @property
    def visitors(self) -> int:
        """How many visitors there may be at once."""
        fitting = min(memory() // 2 // VISITOR_MEMORY, VISITORS_PER_CORE * (os.cpu_count() or 1))
        return self.max_visitors or max(fitting, 1)

    @property
    def hosts(self) -> frozenset[str]:
        """Every name that a request may be for, in lower case and without a port."""
        return frozenset(
            ("localhost", "127.0.0.1", "[::1]", *(host.lower() for host in self.public_hosts))
        )


def _value(name: str, text: str, default: object) -> object:
    if isinstance(default, tuple):
        return tuple(filter(None, (part.strip() for part in text.split(","))))
    if not text.isdecimal():
        raise SettingsError(f"DIGITS_{name.upper()} is {text!r}, which is no whole number.")
    return int(text)


def _network(name: str, text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise SettingsError(
            f"DIGITS_{name.upper()} names {text!r}, which is no address or network."
        ) from None


def memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this computer, or the container or systemd unit that we are in, has: the least that any of the control
    groups around us allows, whose folders lie in ``groups`` and of which ``own`` names ours."""
    allowed = [psutil.virtual_memory().total]
    with contextlib.suppress(OSError):  # another system, or none of the second version
        inner = re.search(r"^0::/(.*)$", own.read_text(), re.MULTILINE)
        folder = groups / (inner[1] if inner else "")
        for one in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):  # no limit: no file, or "max"
                allowed.append(int((one / "memory.max").read_text()))
    return min(allowed)


def is_loopback(address: str) -> bool:
    """Whether only this computer reaches what listens on ``address``, a name or a number."""
    return address == "localhost" or is_within(address, LOOPBACK)


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Whether ``address`` is a number in one of ``networks``.

    >>> is_within("192.168.1.20", ("127.0.0.0/8", "192.168.0.0/16")), is_within("a name", ("0.0.0.0/0",))
    (True, False)
    """
    try:
        number = _number(address)
    except ValueError:
        return False
    return any(number in ipaddress.ip_network(network) for network in networks)


class Rate:
    """At most ``limit`` times in ``window`` seconds for each address; an IPv6 customer (/64) counts as one."""

    def __init__(self, limit: int, window: float = 60, clock: Callable[[], float] = time.monotonic):
        self._limit, self._window, self._clock = limit, window, clock
        self._times: OrderedDict[str, deque[float]] = (
            OrderedDict()
        )  # the address that came last stands last

    def wait(self, address: str) -> float:
        """0, and this time counts; or the seconds until there is room, and it does not."""
        now = self._clock()
        self._forget(now - self._window)
        times = self._times.setdefault(_customer(address), deque())
        while times and times[0] <= now - self._window:
            times.popleft()
        if len(times) >= self._limit:
            return times[0] + self._window - now
        times.append(now)
        self._times.move_to_end(_customer(address))
        return 0

    def _forget(self, before: float) -> None:
        while self._times and (first := next(iter(self._times.values()))) and first[-1] <= before:
            self._times.popitem(last=False)


def _customer(address: str) -> str:
    try:
        number = _number(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((number, 64), strict=False) if number.version == 6 else number)


def _number(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    number = ipaddress.ip_address(address)
    return (
        getattr(number, "ipv4_mapped", None) or number
    )  # ::ffff:192.0.2.1 is how a socket for both kinds writes the older


class Pace:
    """``rate`` a second, after ``burst`` that may come at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._step, self._ahead, self._clock, self._next = 1 / rate, burst / rate, clock, 0.0

    def wait(self) -> float:
        """Take a turn; the seconds until it comes, 0 for at once."""
        now = self._clock()
        self._next = max(self._next, now - self._ahead) + self._step
        return max(self._next - now, 0)

    def now(self) -> bool:
        """Take a turn if it comes at once, else none."""
        if max(self._next, self._clock() - self._ahead) + self._step > self._clock():
            return False
        self.wait()
        return True

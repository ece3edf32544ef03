"""What the server tells those who look after it: a load balancer (``/healthz``) and Prometheus (``/metrics``)."""

import asyncio
import json
import time
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from tornado.web import RequestHandler

from digits.app import limits

VISITORS = Gauge("digits_visitors", "Visitors with a kernel of their own.")
VISITORS_MOST = Gauge("digits_visitors_most", "How many there may be at once.")
POOL = Gauge("digits_pool_ready", "Kernels that wait for a visitor with the page ready.")
KERNELS_STARTED = Counter(
    "digits_kernels_started", "Kernels started, for the pool or for a visitor."
)
KERNELS_DIED = Counter("digits_kernels_died", "Kernels that ended without being told to.")
VISITORS_REFUSED = Counter("digits_visitors_refused", "Visitors who got no kernel.", ["reason"])
MESSAGES_REFUSED = Counter(
    "digits_messages_refused", "Messages that were not passed on to a kernel.", ["reason"]
)
MESSAGES_DELAYED = Counter(
    "digits_messages_delayed", "Messages that came too fast and had to wait."
)
MESSAGE_SECONDS = Histogram(
    "digits_message_seconds",
    "From a page's message to its kernel being done with it.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5),
)
MODEL_CHECK = 60  # seconds between two looks at the model


class Model:
    """Whether the model can be loaded, looked up once a minute at most and away from the event loop."""

    def __init__(self):
        self._check: asyncio.Future | None = None
        self._at = 0.0

    async def is_good(self) -> bool:
        """Whether a new kernel would have a model."""
        if self._check is None or time.monotonic() - self._at > MODEL_CHECK:
            self._at = time.monotonic()
            self._check = asyncio.get_running_loop().run_in_executor(None, _loads)
        return await asyncio.shield(self._check)  # who asks meanwhile waits for the same look


def _loads() -> bool:
    from digits.recognizer.model import (  # LiteRT: a server that nobody asks never loads it
        Recognizer,
        RecognizerError,
    )

    try:
        Recognizer.load()
    except RecognizerError:
        return False
    return True


class Health(RequestHandler):
    """200 when the next visitor will be served, else 503; the figures that say why as JSON."""

    model = Model()

    def initialize(self, manager: Any) -> None:
        """``manager`` is the kernel manager."""
        self._manager = manager

    async def get(self) -> None:
        """Answer a load balancer."""
        state = self._manager.state()
        state["model"] = await self.model.is_good()
        good = (
            state["visitors"] < state["most_visitors"] and state["kernels_start"] and state["model"]
        )
        self.set_status(200 if good else 503)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"status": "ok" if good else "unavailable", **state}))


class Metrics(RequestHandler):
    """The metrics, for those who may read them."""

    def initialize(self, networks: tuple[str, ...], proxies: tuple[str, ...]) -> None:
        """Who may read them, and which proxies are believed who they speak for."""
        self._networks, self._proxies = networks, proxies

    def get(self) -> None:
        """Answer Prometheus."""
        peer = self.request.connection.context.address[0]
        # a proxy on this computer that is not declared as one would make every stranger look local
        forwarded = {"X-Forwarded-For", "Forwarded"} & set(self.request.headers)
        hidden = forwarded and not limits.is_within(peer, self._proxies)
        if hidden or not limits.is_within(self.request.remote_ip, self._networks):
            self.send_error(403)
            return
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))

"""The container's health check: whether the server can give its visitors pads, now or when one is free again.

``/healthz`` says 503 when the server is full, too, so that a load balancer sends nobody. A container that is called
unhealthy for that may be started again, and throws everybody out.
"""

import json
import sys
import urllib.error
import urllib.request


def is_alive(url: str) -> bool:
    """Whether the server at ``url`` (its ``/healthz``) has a model and kernels that start; OSError when it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=8) as reply:
            state = json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            state = json.load(error)
    return state["model"] and state["kernels_start"]


if __name__ == "__main__":
    sys.exit(not is_alive(*sys.argv[1:] or ["http://127.0.0.1:8866/healthz"]))

"""How many visitors a core and a gigabyte bear, and what 1,000 or 100,000 at once would take: reckoned from what was measured.

    python tests/benchmarks/app.py --output app.json
    python tests/benchmarks/soak.py --output soak.json
    python tests/benchmarks/capacity.py app.json [soak.json]

The unit is one server process with its kernels on the machine of ``app.json``; servers keep nothing in common but the
feedback's database, so that more visitors need more of them and nothing else. Two kinds of crowd are reckoned with: all
draw without a pause, as in ``app.json``; or people come, draw, look, try things and leave, as in ``soak.json``.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

LIMIT = 100.0  # milliseconds from pen to answer that 95 of 100 moves must keep to
RATE = 60  # moves a second of a visitor who draws
CROWDS = 1_000, 100_000


def bearable(at_once: list[dict], limit: float = LIMIT) -> tuple[float, bool]:
    """How many can draw at once with a 95th percentile of at most ``limit`` ms, in a straight line between the measured
    crowds; and whether that is a lower bound, because the largest one kept to it. 0 when not even the smallest did."""
    before = {"visitors": 0, "p95_ms": limit}
    for one in sorted(at_once, key=lambda one: one["visitors"]):
        if one["unanswered"] or one["p95_ms"] > limit:
            part = (
                (limit - before["p95_ms"]) / (one["p95_ms"] - before["p95_ms"])
                if one["p95_ms"] > limit
                else 0
            )
            return before["visitors"] + part * (one["visitors"] - before["visitors"]), False
        before = one
    return before["visitors"], True


def model(app: dict, soak: dict | None = None) -> dict:
    """The figures below from those of ``app.py`` and, when there are, of ``soak.py``. ValueError when the machine could not
    bear a single visitor."""
    crowds = sorted(app["at_once"], key=lambda one: one["visitors"])
    most, at_least = bearable(crowds)
    if not most:
        raise ValueError(
            f"Already {crowds[0]['visitors']} drawing at once waited longer than {LIMIT:.0f} ms (95th percentile "
            f"{crowds[0]['p95_ms']} ms): measure on a quiet machine."
        )

    def at_most(read) -> float:
        return float(
            np.interp(most, [one["visitors"] for one in crowds], [read(one) for one in crowds])
        )

    cores, gigabytes = app["machine"]["cores"], app["machine"]["memory_gib"] * 2**30 / 1e9
    cpu = {
        name: at_most(lambda one, name=name: one["cpu_ms_a_move"][name]) * RATE / 1000
        for name in ("server", "kernels")
    }
    size = max(one["kernel_pss_mb"] for one in crowds)
    fixed = app["memory"]["server_rss_mb"] + 2 * size  # the server, and the pool
    busy = most * sum(cpu.values()) / cores  # of the cores, when the limit is reached
    found = {
        "limit_ms": LIMIT,
        "draw_at_once": round(most, 1),
        "is_lower_bound": at_least,
        "a_core": round(most / cores, 1),
        "mb_a_visitor": size,
        "a_gb": round(1000 / size, 1),
        "mb_a_server": round(fixed, 1),
        "cores_busy": round(busy, 2),
        "server_process_busy": round(most * cpu["server"], 2),
        "kb_a_second": round(RATE * at_most(lambda one: one["kb_a_move"]), 1),
        "cpu_a_visitor": {"drawing": round(sum(cpu.values()), 4)},
        "takes": [],
    }
    if soak:
        found["cpu_a_visitor"]["as people are"] = soak["cpu_a_visitor"]
        found["mb_a_visitor"] = size = max(size, soak["mb_a_visitor"])
        found["a_gb"] = round(1000 / size, 1)
    for kind, seconds in found["cpu_a_visitor"].items():
        for crowd in CROWDS:
            wanted = crowd * seconds / busy  # cores, no busier than where the limit was reached
            servers = max(
                math.ceil(wanted / cores), math.ceil(crowd * size / (1000 * gigabytes - fixed))
            )
            found["takes"].append(
                {
                    "visitors": crowd,
                    "who": kind,
                    "cores": math.ceil(wanted),
                    "servers": servers,
                    "memory_gb": math.ceil((crowd * size + servers * fixed) / 1000),
                }
            )
    return found


def show(found: dict, machine: dict) -> None:
    """The figures as a table."""
    bound = "at least " if found["is_lower_bound"] else ""
    print(
        f"95th percentile up to {found['limit_ms']:.0f} ms on {machine['cores']} cores ({machine['processor']}): {bound}"
        f"{found['draw_at_once']:g} drawing at once, {found['a_core']:g} a core; cores then {found['cores_busy']:.0%} busy, "
        f"the server's one thread {found['server_process_busy']:.0%}; {found['kb_a_second']:g} kB/s to each who draws"
    )
    print(
        f"memory: {found['mb_a_visitor']:g} MB a visitor, {found['a_gb']:g} visitors a GB, and {found['mb_a_server']:g} MB a "
        "server"
    )
    print(
        f"{'visitors at once':>18}  {'who':14} {'cores':>8} {'memory, GB':>11} {'servers like this':>18}"
    )
    for row in found["takes"]:
        print(
            f"{row['visitors']:>18,}  {row['who']:14} {row['cores']:>8,} {row['memory_gb']:>11,} {row['servers']:>18,}"
        )


def main() -> None:
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit("usage: python tests/benchmarks/capacity.py app.json [soak.json]")
    app, *soak = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:])
    try:
        show(model(app, *soak), app["machine"])
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

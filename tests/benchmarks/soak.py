"""Do hours of visitors leave anything behind? People come and go at the real server, and in the end all must be as before.

    python tests/benchmarks/soak.py [--minutes 30] [--visitors 5] [--cap 12] [--seed 1] [--attackers] [--output FILE.json]
        [--plot FILE.png]

Each visitor draws digits at the pace of a pen, plays examples, sends a picture, says what was right, looks at the page,
reloads it; and then closes it, or the connection breaks, or stays open with nobody behind it, or the kernel is killed. Now
and then so many come that the last one finds no room. Every answer is compared with what the recognizer says here. Exits
with 1 when a criterion of ``judged`` fails. With ``--attackers`` strangers sleep, stall, flood and never read meanwhile (see
``attackers.py``), and what the visitors waited is told for each attack. All of it happens on this computer's loopback address, and ends by itself:
some six minutes after the last visit, since a visitor who is only silent keeps a place for four.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import psutil
from PIL import Image
from scipy import stats
from tornado.httpclient import AsyncHTTPClient
from visitors import Lost, Refused, Visitor, cpu_seconds, kernels, memory, summary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import browser  # noqa: E402  the tests' own helper
from digits.app import server  # noqa: E402
from digits.app.feedback import Store  # noqa: E402
from digits.recognizer import ink
from digits.recognizer.model import Recognizer  # noqa: E402
from digits.report import plots
from digits.run import comparison

POOL = 2  # kernels that wait, as voila.json says
SAMPLE, BLOCK = (
    5,
    30,
)  # seconds between two samples, and that one point of the regression stands for
LONG_ENOUGH = 10  # minutes from which on the slope of the memory is judged
GROWTH_MB_AN_HOUR = 25.0  # upper end of the slope's 95% interval: with 600 visits an hour, 40 kB that one leaves behind
GROWTH_MB = 10.0  # from the first to the last tenth of the last two thirds
FILES = 6  # descriptors more than before that may be open in the end
UNANSWERED = 0.001  # of all moves
UNDER_ATTACK_MS, MOST_MB = 150, 250  # 95th percentile of the others' waiting; the server at the end
ACTS = {"write": 10, "example": 4, "upload": 2, "feedback": 3, "look": 4, "reload": 1, "why": 1}
ENDS = {"leave": 62, "drop": 18, "vanish": 8, "kill": 12}
# Seconds after which a place must be free again, by how it was left: Voila asks after a silent websocket for 90 seconds,
# every 30; then the kernel is kept for a while.
FREE_AFTER = {
    "leave": 10,
    "drop": server.LINGER + 30,
    "vanish": 120 + server.LINGER + 30,
    "kill": 20,
}
TROUBLE = re.compile(
    r"ERROR|CRITICAL|Traceback|Exception|Error:|never (?:awaited|retrieved)|was destroyed"
)
KILLED = re.compile(
    r"ERROR \| kernel [-0-9a-f]{36} restarted failed!"
)  # what jupyter_client says when a kernel is killed

FLOODED = re.compile(  # what a kernel says when it ends with messages before it
    r"ERROR:asyncio:Task was destroyed but it is pending!\ntask: .*shell_channel_thread_main.*\n"
    r"|ERROR:(?:tornado\.general|asyncio):.*\n(?:(?!ERROR:|\[Voila\]).*\n){1,80}?"
    r"RuntimeError: zmq gc socket requested during shutdown\n"
)


def chosen(random_: random.Random, weights: dict[str, int]) -> str:
    """One of the names, as often as its weight says."""
    return random_.choices(list(weights), list(weights.values()))[0]


class Known:
    """What the recognizer says of all that is drawn or sent, so that an answer can be called wrong."""

    def __init__(self):
        recognizer = Recognizer.load()
        self.drawings = {
            one.name: (list(one.strokes), recognizer.read_strokes(one.strokes).text)
            for one in ink.examples()
        }
        self.pictures = {}
        for name in ("2", "5", "8", "2026", "1749"):
            paper = 255 - ink.rasterize(self.drawings[name][0])
            for suffix, kind in ((".png", "PNG"), (".jpg", "JPEG")):
                Image.fromarray(np.kron(paper, np.ones((3, 3), np.uint8))).save(
                    file := io.BytesIO(), kind
                )
                content = file.getvalue()
                self.pictures[name + suffix] = content, recognizer.read_photo(content).text


class Soak:
    """The visitors of one run, and what is seen of the server meanwhile."""

    def __init__(
        self, running: browser.Server, minutes: float, cap: int, seed: int, attackers: bool = False
    ):
        self.server, self.process, self.cap, self.seed = (
            running,
            psutil.Process(running.process.pid),
            cap,
            seed,
        )
        self.known, self.minutes, self.addresses, self.began = (
            Known(),
            minutes,
            itertools.count(1),
            time.monotonic(),
        )
        self.here: set[Visitor] = set()  # who is there, or is about to be
        self.leaving: list[float] = []  # until when the places of those who have left may be taken
        self.silent = []  # ends the connections behind which nobody is
        self.strangers = attackers * (3 + cap * 3 // 4)  # places that attackers may take at most
        self.attacks: list[tuple[str, float, float]] = []  # what they did, from when until when
        self.tally, self.waits, self.problems, self.samples, self.arrivals = (
            Counter(),
            [],
            [],
            [],
            [],
        )
        self.processes: set[psutil.Process] = set()  # every one that the server ever had

    async def run(self, visitors: int) -> dict:
        """All of it; the figures."""
        for _ in range(90):
            if (await self._health())["pool_ready"] == POOL:
                break
            await asyncio.sleep(1)
        await asyncio.sleep(5)
        before = await self._sample()
        self.began = time.monotonic()
        self.end = self.began + 60 * self.minutes
        sampler = asyncio.ensure_future(self._watch())
        await asyncio.gather(
            self._under_attack(),
            self._rushes(),
            *(self._people(random.Random(1000 * self.seed + number)) for number in range(visitors)),
        )
        visited = time.monotonic() - self.began
        emptied = await self._until_empty()
        sampler.cancel()
        after = await self._sample()
        for end in self.silent:
            end()
        return {
            "visited_s": round(visited, 1),
            "empty_after_s": emptied,
            "before": before,
            "after": after,
        }

    # --- People -------------------------------------------------------------------------------------------------------

    async def _people(self, random_: random.Random) -> None:
        """One after the other, until the time is over."""
        await asyncio.sleep(random_.uniform(0, 10))
        while time.monotonic() < self.end:
            await self._visit(random_)
            await asyncio.sleep(random_.uniform(1, 8))

    async def _visit(self, random_: random.Random) -> None:
        visitor = await self._arrive()
        if visitor is None:
            await asyncio.sleep(10)
            return
        way = chosen(random_, ENDS)
        try:
            for _ in range(random_.randint(2, 7)):
                if time.monotonic() > self.end:
                    break
                await self._act(visitor, chosen(random_, ACTS), random_)
        except Exception as error:
            self._problem(
                "a kernel did not answer any more" if isinstance(error, Lost) else repr(error)
            )
            way = "drop"
        try:
            await self._part(visitor, way)
        except Exception as error:
            self._problem(f"the end of a visit ({way}): {error!r}")
            self.here.discard(visitor)

    async def _arrive(self) -> Visitor | None:
        """Somebody comes, from an address of their own; None when there was no room, as there may not have been."""
        number = next(self.addresses)
        visitor = Visitor(self.server.url, f"10.{number >> 8}.{number & 255}.1")
        self.here.add(visitor)
        started = time.monotonic()
        try:
            await visitor.arrive()
        except Exception as error:
            self.here.discard(visitor)
            if (
                isinstance(error, Refused)
                and error.reply.code == 503
                and self._taken_at_most() >= self.cap
            ):
                self.tally["rightly refused"] += 1
                if b"All pads are taken" not in error.reply.body:
                    self._problem("refused without the friendly page")
            else:
                self._problem(
                    f"could not arrive ({type(error).__name__}: {error}) with at most {self._taken_at_most()} of "
                    f"{self.cap} places taken"
                )
            return None
        self.tally["arrived"] += 1
        self.arrivals.append(time.monotonic() - started)
        visitor.drawn = 0
        return visitor

    def _taken_at_most(self) -> int:
        self.leaving = [until for until in self.leaving if until > time.monotonic()]
        return len(self.here) + len(self.leaving) + self.strangers

    async def _part(self, visitor: Visitor, way: str) -> None:
        """The visit ends."""
        if way == "kill":
            await self._kill(visitor)
        self._count(visitor)
        self.tally[way] += 1
        if way == "leave":
            if (status := await visitor.leave()) != 204:
                self._problem(f"the farewell was answered with {status}")
        elif way == "vanish":
            self.silent.append(visitor.vanish())
        else:
            visitor.drop()
        self.here.discard(visitor)
        self.leaving.append(time.monotonic() + FREE_AFTER[way])

    async def _kill(self, visitor: Visitor) -> None:
        """The visitor's kernel dies; the page must notice."""
        self._count(visitor)
        kernel = next(
            (one for one, command in kernels(self.process) if visitor.kernel in command), None
        )
        if kernel is None:
            self._problem("a visitor's kernel was not there")
            return
        kernel.kill()
        try:
            await visitor.write(self.known.drawings["7"][0])
            self._problem("a killed kernel answered")
        except Lost:
            visitor.moves.clear()

    def _count(self, visitor: Visitor) -> None:
        self.waits += zip((moved for moved, _ in visitor.moves), visitor.latencies(), strict=True)
        visitor.moves.clear()
        visitor.answers.clear()

    def _problem(self, text: str) -> None:
        self.problems.append([round(time.monotonic() - self.began, 1), text])

    async def _under_attack(self) -> None:
        """Let attackers do what they do, in a process that yields to all others, as another computer would."""
        if not self.strangers:
            return
        script = str(Path(__file__).with_name("attackers.py"))
        port = self.server.url.rsplit(":")[-1].strip("/")
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", "15", sys.executable, script, port, f"{self.minutes}"),
            stdout=asyncio.subprocess.PIPE,
        )
        async for line in process.stdout:
            self.attacks.append(tuple(json.loads(line)))
        self.leaving.append(time.monotonic() + FREE_AFTER["drop"])
        if code := await process.wait():
            self._problem(f"the attackers ended with {code}")

    async def _rushes(self) -> None:
        """Now and then (every eight minutes, and once at least) so many come that one finds no room."""
        for number in range(count := max(round(self.minutes / 8), 1)):
            await asyncio.sleep(
                max(self.began + (number + 0.5) / count * 60 * self.minutes - time.monotonic(), 0)
            )
            guests = []
            for _ in range(self.cap + 1):
                if (guest := await self._arrive()) is None:
                    break
                guests.append(guest)
            else:
                self._problem("nobody was refused when all places were taken")
            for guest in guests:
                await self._part(guest, "leave")

    # --- What they do ---------------------------------------------------------------------------------------------------

    async def _act(self, visitor: Visitor, act: str, random_: random.Random) -> None:
        self.tally[act] += 1
        await getattr(self, f"_{act}")(visitor, random_)
        await visitor.idle(random_.uniform(0.3, 2))

    def _expect(self, what: str, wanted: str, got: str) -> None:
        self.tally["answers"] += 1
        if wanted != got:
            self._problem(f"{what} was read as {got!r} instead of {wanted!r}")

    async def _write(self, visitor: Visitor, random_: random.Random) -> None:
        for _ in range(random_.randint(1, 3)):
            name = random_.choice(list(self.known.drawings))
            strokes, text = self.known.drawings[name]
            self._expect(name, text, await visitor.write(strokes))
            await visitor.idle(random_.uniform(0.3, 1.5))

    async def _example(self, visitor: Visitor, random_: random.Random) -> None:
        name = random_.choice(list(self.known.drawings))
        strokes, text = self.known.drawings[name]
        await visitor.ask("clear")
        self._expect(f"example {name}", text, await visitor.example(strokes))

    async def _upload(self, visitor: Visitor, random_: random.Random) -> None:
        name = random_.choice(list(self.known.pictures))
        content, text = self.known.pictures[name]
        self._expect(f"picture {name}", text, await visitor.upload(name, content))

    async def _feedback(self, visitor: Visitor, random_: random.Random) -> None:
        aside = random_.uniform(-15, 15), random_.uniform(-15, 15)  # the same ink is kept once
        strokes = [stroke + aside for stroke in self.known.drawings["7"][0]]
        self._expect("7", "7", await visitor.write(strokes))
        await visitor.say("right", None, agree=not visitor.drawn)
        visitor.drawn += 1
        self.tally["acknowledged"] += 1

    async def _look(self, visitor: Visitor, random_: random.Random) -> None:
        await visitor.idle(random_.uniform(2, 15))

    async def _why(self, visitor: Visitor, random_: random.Random) -> None:
        await visitor.ask("why", True)
        await self._write(visitor, random_)
        await visitor.ask("why", False)

    async def _reload(self, visitor: Visitor, random_: random.Random) -> None:
        self._count(visitor)
        if await visitor.leave() != 204:
            self._problem("the farewell before a reload was refused")
        self.leaving.append(time.monotonic() + FREE_AFTER["leave"])
        for _ in range(30):
            try:
                await visitor.arrive()
                break
            except Refused as error:  # somebody else was quicker
                if error.reply.code != 503 or self._taken_at_most() < self.cap:
                    self._problem(f"wrongly refused after a reload: {error}")
                await asyncio.sleep(5)
        else:
            raise Lost
        visitor.drawn = 0

    # --- What is seen ---------------------------------------------------------------------------------------------------

    async def _health(self) -> dict:
        reply = await AsyncHTTPClient().fetch(self.server.url + "healthz", raise_error=False)
        return json.loads(reply.body)

    async def _metrics(self) -> dict[str, float]:
        reply = await AsyncHTTPClient().fetch(self.server.url + "metrics")
        return {
            name: float(value)
            for name, value in re.findall(
                r"^(digits_\w+) (\S+)$", reply.body.decode(), re.MULTILINE
            )
        }

    async def _watch(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self.samples.append(await self._sample())
            except Exception as error:
                self._problem(f"no figures to be had: {error!r}")
            await asyncio.sleep(max(started + SAMPLE - time.monotonic(), 0))

    async def _sample(self) -> dict:
        health, metrics = await self._health(), await self._metrics()
        seen = await asyncio.to_thread(self._processes)
        return {
            "s": round(time.monotonic() - self.began, 1),
            **{name: round(value, 2) for name, value in seen.items()},
            "visitors": health["visitors"],
            "visitors_metric": metrics["digits_visitors"],
            "people": len(self.here),
            "pool_ready": health["pool_ready"],
            "kernels_died": metrics["digits_kernels_died_total"],
            "kernels_started": metrics["digits_kernels_started_total"],
        }

    def _processes(self) -> dict:
        """What the operating system says of the server and its kernels; bytes as MB."""
        children, sizes, cpu = self.process.children(recursive=True), [], 0.0
        self.processes |= set(children)
        for one, _ in kernels(self.process):
            with contextlib.suppress(psutil.Error):  # it has just ended
                cpu += cpu_seconds([one])
                sizes.append(memory(one))
        times, own = self.process.cpu_times(), memory(self.process)
        return {
            "server_rss_mb": own["rss"] / 1e6,
            "server_pss_mb": own["pss"] / 1e6,
            "fds": self.process.num_fds(),
            "kernels": len(sizes),
            "processes": len(children),
            **{
                f"kernels_{kind}_mb": sum(one[kind] for one in sizes) / 1e6
                for kind in ("rss", "pss")
            },
            "largest_kernel_rss_mb": max((one["rss"] for one in sizes), default=0) / 1e6,
            "server_cpu_s": times.user + times.system,
            "kernels_cpu_s": cpu + times.children_user + times.children_system,
            "load": os.getloadavg()[0],
        }

    async def _until_empty(self) -> float | None:
        """Wait until nobody is there and the pool is full; the seconds that it took, None when it did not happen."""
        started = time.monotonic()
        while time.monotonic() < started + max(FREE_AFTER.values()) + 60:
            health = await self._health()
            if (
                health["visitors"] == 0
                and health["pool_ready"] == POOL
                and len(kernels(self.process)) == POOL
            ):
                await asyncio.sleep(5)
                return round(time.monotonic() - started - 5, 1)
            await asyncio.sleep(2)
        return None


# --- Figures and criteria ---------------------------------------------------------------------------------------------


def slope(samples: list[dict]) -> dict:
    """MB an hour by which the server grew over the last two thirds, with a 95% interval, and first against last.

    Neighbouring samples are alike, so that the interval of a line through them would be too narrow: the line goes through
    means of half a minute.
    """
    late = [one for one in samples if one["s"] >= samples[-1]["s"] / 3]
    blocks = [[one["s"], one["server_rss_mb"]] for one in late]
    blocks = np.array(
        [
            np.mean(list(group), axis=0)
            for _, group in itertools.groupby(blocks, lambda one: one[0] // BLOCK)
        ]
    )
    tenth = max(len(late) // 10, 1)
    first, last = (
        float(np.median([one["server_rss_mb"] for one in part]))
        for part in (late[:tenth], late[-tenth:])
    )
    found = {"first_mb": round(first, 2), "last_mb": round(last, 2), "blocks": len(blocks)}
    if len(blocks) < 3:
        return found | {"mb_an_hour": None, "interval": None, "at_zero": None}
    line = stats.linregress(blocks[:, 0] / 3600, blocks[:, 1])
    reach = float(stats.t.ppf(0.975, len(blocks) - 2) * line.stderr)
    return found | {
        "mb_an_hour": round(float(line.slope), 2),
        "at_zero": round(float(line.intercept), 2),
        "interval": [round(float(line.slope) - reach, 2), round(float(line.slope) + reach, 2)],
    }


def figures(soak: Soak, found: dict, log: str, folder: Path) -> dict:
    """Everything that is judged, shown or reckoned with."""
    visited = [one for one in soak.samples if one["s"] <= found["visited_s"]]
    first, last = visited[0], visited[-1]
    seconds = last["s"] - first["s"]
    used = sum(last[name] - first[name] for name in ("server_cpu_s", "kernels_cpu_s"))
    people = float(np.mean([one["people"] for one in visited]))
    waits = [wait for _, wait in soak.waits]
    return {
        **found,
        "machine": comparison.machine(),
        "minutes": soak.minutes,
        "cap": soak.cap,
        "seed": soak.seed,
        "did": dict(soak.tally),
        "moves": summary(waits),
        "under_attack": _by_attack(soak),
        "arrival_s": _spread(soak.arrivals),
        "problems": soak.problems,
        "server": slope(visited),
        "kept": len(Store.open(f"sqlite:///{folder}/feedback.sqlite").records()),
        "people": round(people, 2),
        "cpu_a_visitor": round(used / seconds / people, 4),
        "mb_a_visitor": round(
            float(np.mean([one["kernels_pss_mb"] / max(one["kernels"], 1) for one in visited])), 1
        ),
        "largest_kernel_rss_mb": round(max(one["largest_kernel_rss_mb"] for one in visited), 1),
        "most_at_once": max(one["visitors"] for one in visited),
        **log_trouble(log),
        "files_left": len(list(folder.rglob("kernel-*.json"))),
        "load": {"mean": round(float(np.mean([one["load"] for one in visited])), 1)},
        "waits": _by_time(soak.waits, soak.began),
        "samples": soak.samples,
    }


def _spread(seconds: list[float]) -> dict:
    return {
        "n": len(seconds),
        "p50": round(float(np.median(seconds)), 2),
        "p95": round(float(np.percentile(seconds, 95)), 2),
        "max": round(max(seconds), 2),
    }


def _by_attack(soak: Soak) -> dict[str, dict]:
    """What visitors waited during each attack, and in peace between them."""
    if not soak.attacks:
        return {}
    found: dict[str, list] = {"in peace": []}
    for moved, wait in soak.waits:
        during = (name for name, began, ended in soak.attacks if began <= moved <= ended)
        found.setdefault(next(during, "in peace"), []).append(wait)
    return {name: summary(some) for name, some in sorted(found.items())}


def _by_time(waits: list[tuple], began: float) -> list[dict]:
    """p50 and p95 of each half minute."""
    ordered = sorted((moved, wait) for moved, wait in waits if wait is not None)
    offset = time.perf_counter() - time.monotonic()
    groups = itertools.groupby(ordered, lambda one: (one[0] - offset - began) // BLOCK)
    return [
        {"s": (block + 0.5) * BLOCK, **summary([wait for _, wait in group])}
        for block, group in groups
    ]


def log_trouble(log: str) -> dict:
    """The lines of the server's log that tell of an error, and how many only tell of a killed kernel."""
    log = FLOODED.sub("", log)
    lines = [line for line in log.splitlines() if TROUBLE.search(line)]
    return {
        "errors": [line[:300] for line in lines if not KILLED.search(line)][:50],
        "kernels_killed_by_the_log": sum(bool(KILLED.search(line)) for line in lines),
    }


def judged(found: dict, survivors: int) -> list[tuple[str, bool | None, str]]:
    """The criteria: each with whether it holds (None: not to be told from this run) and the figures."""
    after, before, grown, did, moves = (
        found[name] for name in ("after", "before", "server", "did", "moves")
    )
    long_enough = found["minutes"] >= LONG_ENOUGH
    interval = grown["interval"] or [None, None]
    missing = moves["unanswered"] / max(moves["n"], 1)
    return [
        (
            "the server's memory is flat",
            interval[1] < GROWTH_MB_AN_HOUR if long_enough else None,
            f"{grown['mb_an_hour']} MB an hour over the last two thirds, 95% interval {interval[0]} to {interval[1]}; at most "
            f"{GROWTH_MB_AN_HOUR:g} (judged from {LONG_ENOUGH} minutes on)",
        ),
        (
            "it is no larger at the end",
            grown["last_mb"] - grown["first_mb"] < GROWTH_MB if long_enough else None,
            f"{grown['first_mb']} MB after a third, {grown['last_mb']} MB when the last one left; at most {GROWTH_MB:g} more",
        ),
        (
            "everybody's place is free again",
            found["empty_after_s"] is not None,
            f"after {found['empty_after_s']} s",
        ),
        (
            "only the pool's kernels are left",
            after["kernels"] == after["processes"] == POOL,
            f"{after['kernels']} kernels, {after['processes']} processes",
        ),
        ("no process outlives the server", survivors == 0, f"{survivors}"),
        (
            "no kernel's file is left",
            found["files_left"] == after["kernels"],
            f"{found['files_left']} files",
        ),
        (
            "files are closed",
            after["fds"] <= before["fds"] + FILES,
            f"{before['fds']} open before, {after['fds']} after",
        ),
        (
            "never more visitors than places",
            found["most_at_once"] <= found["cap"],
            f"{found['most_at_once']} of {found['cap']}",
        ),
        (
            "one too many was refused",
            did.get("rightly refused", 0) > 0,
            f"{did.get('rightly refused', 0)} times",
        ),
        (
            "only the killed kernels died",
            after["kernels_died"] == did.get("kill", 0),
            f"{after['kernels_died']:g} died, {did.get('kill', 0)} were killed",
        ),
        (
            "all feedback that was acknowledged is kept",
            found["kept"] == did.get("acknowledged", 0),
            f"{did.get('acknowledged', 0)} acknowledged, {found['kept']} kept",
        ),
        (
            "no wrong answer, no wrong refusal, nobody lost",
            not found["problems"],
            f"{did.get('answers', 0)} answers; {found['problems'][:5] or 'no problem'}",
        ),
        ("moves are answered", missing <= UNANSWERED, f"{moves}"),
        (
            "the server is small at the end",
            after["server_rss_mb"] <= MOST_MB,
            f"{after['server_rss_mb']} MB; at most {MOST_MB}",
        ),
        *(
            (f"others wait no longer: {name}", waits["p95_ms"] <= UNDER_ATTACK_MS, f"{waits}")
            for name, waits in found["under_attack"].items()
        ),
        (
            "no error in the log but of killed kernels",
            not found["errors"] and found["kernels_killed_by_the_log"] <= did.get("kill", 0),
            f"{found['errors'][:3] or 'none'}; {found['kernels_killed_by_the_log']} of killed kernels",
        ),
    ]


def figure(found: dict) -> plt.Figure:
    """Memory, processes, open files and waiting over the minutes of the run."""
    plots.use_style()
    drawing, axes = plt.subplots(4, 1, figsize=(plots.style.WIDTH, 8.4), sharex=True)
    samples = found["samples"]
    minutes = [one["s"] / 60 for one in samples]
    over = found["visited_s"] / 60

    def line(ax, name: str, label: str, color: str) -> None:
        ax.plot(minutes, [one[name] for one in samples], color=color, linewidth=1.4, label=label)

    line(axes[0], "server_rss_mb", "server", plots.ACCENT)
    grown = found["server"]
    if grown["interval"]:
        ends = np.array([over / 3, over])
        axes[0].plot(
            ends,
            grown["at_zero"] + grown["mb_an_hour"] * ends / 60,
            "--",
            color="black",
            linewidth=1.2,
            label="{:+.1f} MB an hour ({:+.1f} to {:+.1f})".format(
                grown["mb_an_hour"], *grown["interval"]
            ),
        )
    axes[0].set(ylabel="memory (MB)", title="The server's memory")
    line(axes[1], "kernels_pss_mb", "all kernels", plots.GOOD)
    line(axes[1], "largest_kernel_rss_mb", "the largest, with what is shared", plots.PALETTE[3])
    axes[1].set(ylabel="memory (MB)", ylim=(0, None), title="Its kernels' memory")
    line(axes[2], "kernels", "kernels", plots.GOOD)
    line(axes[2], "visitors", "places taken", plots.ACCENT)
    line(axes[2], "people", "people there", plots.PALETTE[1])
    files = axes[2].twinx()
    files.plot(
        minutes,
        [one["fds"] for one in samples],
        ":",
        color=plots.MUTED,
        linewidth=1.2,
        label="open files (right)",
    )
    files.set(ylabel="open files", ylim=(0, None))
    files.grid(False)
    axes[2].set(ylabel="number", ylim=(0, None), title="Who and what is there")
    axes[2].plot([], [], ":", color=plots.MUTED, label="open files (right)")
    waits = found["waits"]
    for name, color in (("p50_ms", plots.ACCENT), ("p95_ms", plots.BAD)):
        axes[3].plot(
            [one["s"] / 60 for one in waits],
            [one[name] for one in waits],
            "o-",
            markersize=3,
            color=color,
            linewidth=1,
            label={"p50_ms": "median", "p95_ms": "95th percentile"}[name],
        )
    axes[3].set(
        ylabel="pen to answer (ms)",
        xlabel="minutes",
        ylim=(0, None),
        title="How long answers took, by half minutes",
    )
    for ax in axes:
        ax.axvline(over, color=plots.MUTED, linewidth=1)
        ax.legend(
            loc="lower right", bbox_to_anchor=(1, 0.97), ncols=4, columnspacing=1.2, borderpad=0
        )
    axes[0].annotate(
        "the last one left",
        (over, 0),
        (3, 3),
        xycoords=("data", "axes fraction"),
        fontsize=8.5,
        textcoords="offset points",
        color=plots.MUTED,
    )
    return drawing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="how long people keep coming")
    parser.add_argument(
        "--visitors",
        type=int,
        default=5,
        help="how many at once, besides those who make it too many",
    )
    parser.add_argument("--cap", type=int, default=12, help="places")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attackers", action="store_true", help="strangers who mean harm, too")
    parser.add_argument(
        "--output", type=Path, help="where the figures go as JSON, and beside it the server's log"
    )
    parser.add_argument("--plot", type=Path, help="where the plot goes as PNG")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "DIGITS_MAX_VISITORS": str(options.cap),
            "DIGITS_PROXIES": "127.0.0.1",
            "TMPDIR": name,
            "DIGITS_FEEDBACK_URL": f"sqlite:///{folder}/feedback.sqlite",
        }
        with browser.voila(**settings) as running:  # on 127.0.0.1
            soak = Soak(running, options.minutes, options.cap, options.seed, options.attackers)
            found = asyncio.run(soak.run(options.visitors))
            log = running.log.read_text(encoding="utf-8", errors="replace")
            found = figures(soak, found, log, folder)
        _, alive = psutil.wait_procs(soak.processes, timeout=5)
    verdicts = judged(found, len(alive))
    found["verdicts"] = {name: {"holds": holds, "figures": text} for name, holds, text in verdicts}
    print(
        f"{found['machine']['processor']}, {found['machine']['cores']} cores, mean load {found['load']['mean']}; "
        f"{found['minutes']:g} minutes, {found['people']} people at once; {found['did']}"
    )
    print(
        f"arrival {found['arrival_s']}; {found['cpu_a_visitor']} cores and {found['mb_a_visitor']} MB a visitor; largest "
        f"kernel {found['largest_kernel_rss_mb']} MB"
    )
    for title, holds, text in verdicts:
        print(f"{ {True: 'holds', False: 'FAILS', None: 'open'}[holds]:6} {title}: {text}")
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".log").write_text(log, encoding="utf-8")
    if options.plot:
        figure(found).savefig(options.plot)
    return int(any(holds is False for _, holds, _ in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())

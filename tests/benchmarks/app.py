"""How fast the app is, in one run: ink, answers, first use, memory, inference, and many visitors at once.

    python tests/benchmarks/app.py [--quick] [--output FILE.json]

Run it on a quiet machine. Browser, server, kernels and simulated visitors share its cores, as the figures must be read.
"""

import argparse
import asyncio
import bisect
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from playwright.sync_api import sync_playwright
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import browser  # noqa: E402  the tests' own helper
from digits import page, provenance  # noqa: E402
from digits.recognizer import Recognizer, available  # noqa: E402

RATE = 60  # moves a second, as a screen reports them
PATIENCE = 2.0  # seconds after which a move counts as not answered
PATH = [(140 + 90 * np.cos(t), 140 + 100 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 61)]  # a slow zero

# How the page's script paces what it sends.
FRAME, WINDOW, BUSY = (int(re.search(rf"\b{name} = (\d+)", page.assets())[1]) for name in ("FRAME", "WINDOW", "BUSY"))
DEALT_WITH = re.compile(rb'data-seq=\\"(\d+)')  # in a message as it comes

INK = """async ([path, rate]) => {
    const pad = document.querySelector(".digits-pad canvas"), shown = document.querySelector(".digits-overlay");
    const box = pad.getBoundingClientRect(), context = shown.getContext("2d", {willReadFrequently: true}), frames = [];
    const send = (type, [x, y]) => pad.dispatchEvent(new PointerEvent(type, {bubbles: true, cancelable: true,
        pointerId: 9, button: type === "pointerdown" ? 0 : -1, buttons: 1, clientX: box.left + x * box.width / 280,
        clientY: box.top + y * box.height / 280}));
    const inked = ([x, y]) => context.getImageData(x * shown.width / 280, y * shown.width / 280, 1, 1).data[3] > 0;
    send("pointerdown", path[0]);
    for (const point of path.slice(1)) {
        await new Promise(done => setTimeout(done, 1000 / rate));
        send("pointermove", point);
        let count = 0;
        while (true) {
            await new Promise(requestAnimationFrame);
            if (inked(point)) break;
            count += 1;
        }
        frames.push(count);
    }
    send("pointerup", path[path.length - 1]);
    return frames;
}"""

ANSWERS = """async ([path, strokes, rate]) => {
    const pad = document.querySelector(".digits-pad canvas"), box = pad.getBoundingClientRect();
    const times = [], seen = [];
    const points = () => Number(document.querySelector(".digits-answer").dataset.points);
    const observer = new MutationObserver(() => {
        for (let n = points(); seen.length < n; ) seen.push(performance.now());
    });
    observer.observe(document.querySelector(".digits-result"), {childList: true, subtree: true});
    const send = (type, [x, y]) => {
        if (type !== "pointerup") times.push(performance.now());
        pad.dispatchEvent(new PointerEvent(type, {bubbles: true, cancelable: true, pointerId: 9, buttons: 1,
            button: type === "pointerdown" ? 0 : -1, clientX: box.left + x * box.width / 280,
            clientY: box.top + y * box.height / 280}));
    };
    let next = performance.now();
    for (let stroke = 0; stroke < strokes; stroke++) {
        for (let k = 0; k < path.length; k++) {
            next += 1000 / rate;
            await new Promise(done => setTimeout(done, Math.max(next - performance.now(), 0)));
            send(k ? "pointermove" : "pointerdown", path[k]);
        }
        send("pointerup", path[path.length - 1]);
    }
    await new Promise(done => setTimeout(done, 2000));
    observer.disconnect();
    return times.map((time, k) => k < seen.length ? seen[k] - time : null);
}"""


def summary(milliseconds: list[float | None]) -> dict:
    """Median, 95th percentile, greatest, and how many were not answered."""
    good = [value for value in milliseconds if value is not None]
    if not good:
        return {"n": len(milliseconds), "unanswered": len(milliseconds)}
    p50, p95 = np.percentile(good, [50, 95])
    return {"n": len(milliseconds), "p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1),
            "max_ms": round(max(good), 1), "unanswered": len(milliseconds) - len(good)}


def drawing(chromium, server: browser.Server, strokes: int) -> dict:
    """Pointer to ink and pointer to answer for one visitor."""
    page = browser.visit(chromium.new_page(viewport={"width": 1400, "height": 900}), server)
    page.wait_for_timeout(3000)  # the pool fills again behind this visitor
    path = [[float(x), float(y)] for x, y in PATH]
    frames = page.evaluate(INK, [path, RATE])
    browser.clear(page)
    answers = page.evaluate(ANSWERS, [path, strokes, RATE])
    page.close()
    return {"pointer_to_ink_frames": {"n": len(frames), "median": float(np.median(frames)), "max": int(max(frames))},
            "pointer_to_answer": summary(answers)}


def first_use(chromium, server: browser.Server, times: int, pause: float) -> dict:
    """GET to usable, in seconds, each time for a visitor whom the server does not know."""
    taken = []
    for _ in range(times):
        context = chromium.new_context()
        page = context.new_page()
        started = time.perf_counter()
        browser.visit(page, server)
        taken.append(time.perf_counter() - started)
        page.goto("about:blank")
        context.close()
        time.sleep(pause)
    return {"n": times, "median_s": round(float(np.median(taken)), 2), "max_s": round(max(taken), 2)}


def memory(chromium, server: browser.Server) -> dict:
    """What a kernel takes after some drawing, and the server."""
    page = browser.visit(chromium.new_page(), server)
    identity = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    for _ in range(3):
        browser.draw_at_once(page, [PATH])
        browser.settled(page, len(PATH))
        browser.clear(page)
    page.wait_for_timeout(2000)
    kernel = next(one for one in psutil.Process(server.process.pid).children(recursive=True)
                  if identity in " ".join(one.cmdline()))
    full = kernel.memory_full_info()
    page.close()
    return {"kernel_rss_mb": round(full.rss / 1e6, 1), "kernel_unshared_mb": round(full.uss / 1e6, 1),
            "server_rss_mb": round(psutil.Process(server.process.pid).memory_info().rss / 1e6, 1)}


# --- Inference --------------------------------------------------------------------------------------------------------

TENSORFLOW = """
import json, sys, time, warnings
import numpy as np
import keras
from digits import models, paths
path = paths.OUTPUTS / sys.argv[1] / "models" / "model.keras"
model = keras.models.load_model(path) if path.exists() else models.build("compact")
image = np.random.default_rng(1).random((1, 28, 28, 1), np.float32)
def median(call, times):
    call(); call(); taken = []
    for _ in range(times):
        started = time.perf_counter(); call(); taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken))
print(json.dumps({"model(x)": median(lambda: model(image, training=False).numpy(), 100),
                  "model.predict": median(lambda: model.predict(image, verbose=0), 30)}))
"""


def inference(recognizer: Recognizer) -> dict:
    """Milliseconds for one image on each way; TensorFlow in a process of its own."""
    image, found = np.random.default_rng(1).random((28, 28), np.float32), {}
    for name in available(recognizer.run):
        model, taken = Recognizer.load(recognizer.run, name).model, []
        for _ in range(300):
            started = time.perf_counter()
            model.logits(image)
            taken.append(time.perf_counter() - started)
        found[f"LiteRT {name}"] = 1000 * float(np.median(taken))
    reply = subprocess.run([sys.executable, "-c", TENSORFLOW, recognizer.run], capture_output=True, text=True,
                           env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if reply.returncode == 0:
        found |= json.loads(reply.stdout.splitlines()[-1])
    fastest = found["LiteRT float32"]
    return {name: {"ms": round(value, 3), "times_float32": round(value / fastest, 1)} for name, value in found.items()}


# --- Many visitors ----------------------------------------------------------------------------------------------------

class Visitor:
    """A page without a browser: it asks for the page, connects to its kernel, draws, and waits for answers.

    It sends as the page's script does: what the pen did since the last message goes together, moves wait while
    ``WINDOW`` messages are unanswered, but never longer than ``BUSY``. A drawn zero is wiped before the next.
    """

    def __init__(self, url: str):
        self.url, self.session = url, uuid.uuid4().hex
        self.moves: list[list] = []  # when the pen moved, and the number of the message that said so
        self.answers: list[tuple[int, float]] = []  # the last message that an answer is based on, and when it came
        self.queue, self.waiting, self.seq, self.last_sent, self.timer = [], [], 0, 0.0, None

    async def arrive(self) -> "Visitor":
        """Get a kernel and know its widgets."""
        reply = await AsyncHTTPClient().fetch(HTTPRequest(self.url, request_timeout=120))
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', reply.body.decode(), re.DOTALL)[1]
        kernel = json.loads(config)["kernelId"]
        cookies = "; ".join(cookie.split(";")[0] for cookie in reply.headers.get_list("Set-Cookie"))
        url = f"{self.url.replace('http', 'ws')}api/kernels/{kernel}/channels?session_id={self.session}"
        self.socket = await websocket_connect(
            HTTPRequest(url, headers={"Cookie": cookies}), subprotocols=["v1.kernel.websocket.jupyter.org"],
            max_message_size=1 << 26)
        control = uuid.uuid4().hex
        self._send("comm_open", {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}},
                   {"version": "1.0.0"})
        self._send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})
        while True:
            _, parts = deserialize_msg_from_ws_v1(await self.socket.read_message())
            data = json.loads(parts[3]).get("data", {})
            if data.get("method") == "update_states":
                break
        self.canvas = next(key for key, model in data["states"].items() if model["model_name"] == "CanvasModel")
        self._event(event="client_ready")
        self.listener = asyncio.ensure_future(self._listen())
        return self

    async def draw(self, seconds: float) -> None:
        """Draw zeros at 60 moves a second."""
        began = time.perf_counter()
        for number in range(round(seconds * RATE)):
            x, y = PATH[number % len(PATH)]
            self.moves.append([time.perf_counter(), None])
            if number % len(PATH) == 0:
                self.queue += [["up"], ["clear"], ["down", x, y, None]]
                self._flush(now=True)
            else:
                self.queue.append(["move", x, y])
                self._flush()
            await asyncio.sleep(max(began + (number + 1) / RATE - time.perf_counter(), 0))
        await asyncio.sleep(PATIENCE)
        self.listener.cancel()
        self.socket.close()

    def latencies(self) -> list[float | None]:
        """For each move, the milliseconds until an answer was based on it; None when none came in time."""
        numbers = [number for number, _ in self.answers]
        waits = []
        for moved, number in self.moves:
            index = bisect.bisect_left(numbers, number) if number else len(numbers)
            waits.append(1000 * (self.answers[index][1] - moved) if index < len(numbers) else None)
        return [wait if wait is not None and wait <= 1000 * PATIENCE else None for wait in waits]

    def _flush(self, now: bool = False) -> None:
        if self.timer:
            self.timer.cancel()
        wait = self.last_sent + (FRAME if len(self.waiting) < WINDOW else BUSY) / 1000 - time.perf_counter()
        if self.queue and (now or wait <= 0):
            self.seq, self.last_sent = self.seq + 1, time.perf_counter()
            for move in reversed(self.moves):
                if move[1]:
                    break
                move[1] = self.seq
            self.waiting.append(self.seq)
            key, self.queue = json.dumps({"seq": self.seq, "ops": self.queue}), []
            self._event(event="key_down", key=key, shift_key=False, ctrl_key=False, meta_key=False)
        elif self.queue:
            self.timer = asyncio.get_running_loop().call_later(wait, self._flush)

    def _event(self, **content) -> None:
        self._send("comm_msg", {"comm_id": self.canvas, "data": {"method": "custom", "content": content}})

    def _send(self, kind: str, content: dict, metadata: dict | None = None) -> None:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self.session, "username": "",
                  "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        parts = [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
        self.socket.write_message(serialize_msg_to_ws_v1(parts, "shell"), binary=True)

    async def _listen(self) -> None:
        while frame := await self.socket.read_message():
            if found := DEALT_WITH.search(frame):
                number = int(found[1])
                if b"digits-answer" in frame:
                    self.answers.append((number, time.perf_counter()))
                self.waiting = [one for one in self.waiting if one > number]
                self._flush()


async def crowd(server: browser.Server, visitors: int, seconds: float) -> dict:
    """``visitors`` arrive one after the other and then draw at once."""
    people = [await Visitor(server.url).arrive() for _ in range(visitors)]
    await asyncio.sleep(2 + visitors / 4)  # the pool fills again
    process = psutil.Process(server.process.pid)
    programs = {"kernels": process.children(recursive=True), "server": [process], "visitors": [psutil.Process()]}
    before = {name: cpu_seconds(some) for name, some in programs.items()}
    await asyncio.gather(*(one.draw(seconds) for one in people))
    waits = [wait for one in people for wait in one.latencies()]
    used = {name: round(1000 * (cpu_seconds(some) - before[name]) / len(waits), 2) for name, some in programs.items()}
    messages = sum(one.seq for one in people)
    return {"visitors": visitors, **summary(waits), "moves_a_message": round(len(waits) / messages, 1),
            "cpu_ms_a_move": used}


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """What they have used so far."""
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look: few repetitions, at most five visitors")
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    recognizer = Recognizer.load()
    result = {"machine": provenance.machine(), "load_before": [round(load, 1) for load in os.getloadavg()],
              "packages": {name: version for name, version in provenance.packages().items()
                           if name in ("voila", "ipycanvas", "ipywidgets", "ai-edge-litert", "tensorflow", "numpy")},
              "run": recognizer.run, "model_sha256": recognizer.sha256}
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        result["browser"] = chromium.version
        with browser.voila() as server:
            time.sleep(5)
            result |= drawing(chromium, server, 2 if options.quick else 6)
            result["get_to_usable_warm"] = first_use(chromium, server, 2 if options.quick else 7, 6)
            result["memory"] = memory(chromium, server)
        with browser.voila("--preheat_kernel=False") as server:
            result["get_to_usable_cold"] = first_use(chromium, server, 1 if options.quick else 5, 1)
        chromium.close()
    result["inference"] = inference(recognizer)
    result["at_once"] = []
    for visitors in (1, 5) if options.quick else (1, 5, 10, 20):
        with browser.voila() as server:
            time.sleep(5)
            result["at_once"].append(asyncio.run(crowd(server, visitors, 3 if options.quick else 10)))
    show(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict) -> None:
    """The figures as a table."""
    machine = result["machine"]
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; load before "
          f"{result['load_before']}; Chromium {result['browser']}; {result['packages']}")
    rows = [("pointer to ink, frames", result["pointer_to_ink_frames"]),
            ("pointer to answer", result["pointer_to_answer"]),
            ("GET to usable, warm pool", result["get_to_usable_warm"]),
            ("GET to usable, cold", result["get_to_usable_cold"]), ("memory", result["memory"]),
            *((f"inference, {name}", value) for name, value in result["inference"].items()),
            *((f"{one['visitors']} visitors at once", one) for one in result["at_once"])]
    for name, values in rows:
        print(f"{name:32}", "  ".join(f"{key} {value}" for key, value in values.items() if key != "visitors"))


if __name__ == "__main__":
    main()

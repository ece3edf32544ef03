"""How fast the app is, in one run: ink, answers, first use, memory, inference, and many visitors at once.

    python tests/benchmarks/app.py [--quick] [--output FILE.json]

Run it on a quiet machine. Browser, server, kernels and simulated visitors share its cores, as the figures must be read.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import capacity
import numpy as np
import psutil
from playwright.sync_api import sync_playwright
from visitors import PATH, RATE, Refused, Visitor, cpu_seconds, kernels, memory, summary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import browser  # noqa: E402  the tests' own helper
from digits.recognizer.model import Recognizer, available  # noqa: E402
from digits.run import comparison  # noqa: E402

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

ANSWERS = """async ([strokes, rate]) => {
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
    for (const path of strokes) {
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


def drawing(chromium, server: browser.Server, strokes: int) -> dict:
    """Pointer to ink and pointer to answer for one visitor."""
    page = browser.visit(chromium.new_page(viewport={"width": 1400, "height": 900}), server)
    page.wait_for_timeout(3000)  # the pool fills again behind this visitor
    path = [[float(x), float(y)] for x, y in PATH]
    frames = page.evaluate(INK, [path, RATE])
    browser.clear(page)
    answers = page.evaluate(ANSWERS, [[path] * strokes, RATE])
    page.close()
    return {
        "pointer_to_ink_frames": {
            "n": len(frames),
            "median": float(np.median(frames)),
            "max": int(max(frames)),
        },
        "pointer_to_answer": summary(answers),
    }


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
    return {
        "n": times,
        "median_s": round(float(np.median(taken)), 2),
        "max_s": round(max(taken), 2),
    }


def memory_of_one(chromium, server: browser.Server) -> dict:
    """What a kernel takes after some drawing, and the server."""
    page = browser.visit(chromium.new_page(), server)
    identity = page.evaluate(
        "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
    )
    for _ in range(3):
        browser.draw_at_once(page, [PATH])
        browser.settled(page, len(PATH))
        browser.clear(page)
    page.wait_for_timeout(2000)
    kernel = next(
        one
        for one in psutil.Process(server.process.pid).children(recursive=True)
        if identity in " ".join(one.cmdline())
    )
    full = kernel.memory_full_info()
    page.close()
    return {
        "kernel_rss_mb": round(full.rss / 1e6, 1),
        "kernel_unshared_mb": round(full.uss / 1e6, 1),
        "server_rss_mb": round(psutil.Process(server.process.pid).memory_info().rss / 1e6, 1),
    }


# --- Inference --------------------------------------------------------------------------------------------------------

TENSORFLOW = """
import json, sys, time, warnings
import numpy as np
import keras
from digits.training import networks as models; from digits import files
path = files.OUTPUTS / sys.argv[1] / "models" / "model.keras"
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
    reply = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, recognizer.run],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if reply.returncode:
        raise SystemExit(f"TensorFlow's part failed:\n{reply.stderr[-2000:]}")
    found |= json.loads(reply.stdout.splitlines()[-1])
    fastest = found["LiteRT float32"]
    return {
        name: {"ms": round(value, 3), "times_float32": round(value / fastest, 1)}
        for name, value in found.items()
    }


# --- Many visitors ----------------------------------------------------------------------------------------------------


async def crowd(
    server: browser.Server, visitors: int, seconds: float, others: bool = False
) -> dict:
    """``visitors`` arrive one after the other and then draw at once; with ``others``, who find no room, while they do."""
    people = [await Visitor(server.url).arrive() for _ in range(visitors)]
    await asyncio.sleep(2 + visitors / 4)  # the pool fills again
    alone = await draw_at_once(server, people, seconds)
    taken = re.compile("|".join(one.kernel for one in people))
    sizes = [
        memory(one)
        for one, command in kernels(psutil.Process(server.process.pid))
        if taken.search(command)
    ]
    share = {
        f"kernel_{kind}_mb": round(float(np.mean([one[kind] for one in sizes])) / 1e6, 1)
        for kind in ("rss", "pss")
    }
    found = {"visitors": visitors, **alone, **share}
    if others:
        found["full"] = await one_too_many(server, people, seconds)
    await asyncio.gather(*(one.leave() for one in people))
    return found


async def draw_at_once(server: browser.Server, people: list[Visitor], seconds: float) -> dict:
    """How long ``people`` wait for their answers, and what each move costs."""
    process = psutil.Process(server.process.pid)
    programs = {
        "kernels": process.children(recursive=True),
        "server": [process],
        "visitors": [psutil.Process()],
    }
    before, received = (
        {name: cpu_seconds(some) for name, some in programs.items()},
        sum(one.received for one in people),
    )
    first = {one: (len(one.moves), one.seq) for one in people}
    await asyncio.gather(*(one.draw(seconds) for one in people))
    waits = [wait for one in people for wait in one.latencies()[first[one][0] :]]
    used = {
        name: round(1000 * (cpu_seconds(some) - before[name]) / len(waits), 2)
        for name, some in programs.items()
    }
    messages = sum(one.seq - first[one][1] for one in people)
    return {
        **summary(waits),
        "moves_a_message": round(len(waits) / messages, 1),
        "cpu_ms_a_move": used,
        "kb_a_move": round((sum(one.received for one in people) - received) / len(waits) / 1000, 2),
    }


async def one_too_many(server: browser.Server, people: list[Visitor], seconds: float) -> dict:
    """What somebody gets who comes while all pads are taken and all draw, and as soon as somebody has left."""
    refused = []

    async def knock() -> None:
        for _ in range(max(round(seconds), 3)):
            started = time.perf_counter()
            try:
                await Visitor(server.url).arrive()
            except Refused as error:
                refused.append((error.reply, 1000 * (time.perf_counter() - started)))
            await asyncio.sleep(1)

    others, _ = await asyncio.gather(draw_at_once(server, people, seconds), knock())
    await people.pop().leave()
    started = time.perf_counter()
    people.append(await Visitor(server.url).arrive())
    friendly = sum(
        reply.code == 503 and b"All pads are taken" in reply.body and "Retry-After" in reply.headers
        for reply, _ in refused
    )
    return {
        "came": max(round(seconds), 3),
        "refused": len(refused),
        "with_503_and_the_friendly_page": friendly,
        "refusal": summary([milliseconds for _, milliseconds in refused]),
        "those_who_draw": others,
        "in_after_one_left_s": round(time.perf_counter() - started, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a look: few repetitions, at most five visitors"
    )
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    recognizer = Recognizer.load()
    result = {
        "machine": comparison.machine(),
        "load_before": [round(load, 1) for load in os.getloadavg()],
        "packages": {
            name: version
            for name, version in comparison.packages().items()
            if name in ("voila", "ipycanvas", "ipywidgets", "ai-edge-litert", "tensorflow", "numpy")
        },
        "run": recognizer.run,
        "model_sha256": recognizer.sha256,
    }
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        result["browser"] = chromium.version
        with browser.voila() as server:
            time.sleep(5)
            result |= drawing(chromium, server, 2 if options.quick else 6)
            result["get_to_usable_warm"] = first_use(chromium, server, 2 if options.quick else 7, 6)
            result["memory"] = memory_of_one(chromium, server)
        with browser.voila("--preheat_kernel=False") as server:
            result["get_to_usable_cold"] = first_use(chromium, server, 1 if options.quick else 5, 1)
        chromium.close()
    result["inference"] = inference(recognizer)
    result["at_once"] = []
    for visitors in (1, 5) if options.quick else (1, 5, 10, 20):
        with browser.voila(DIGITS_MAX_VISITORS=str(visitors)) as server:
            time.sleep(5)
            full = visitors == (5 if options.quick else 20)
            result["at_once"].append(
                asyncio.run(crowd(server, visitors, 3 if options.quick else 10, full))
            )
    show(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict) -> None:
    """The figures as a table."""
    machine = result["machine"]
    print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; load before "
        f"{result['load_before']}; Chromium {result['browser']}; {result['packages']}"
    )
    rows = [
        ("pointer to ink, frames", result["pointer_to_ink_frames"]),
        ("pointer to answer", result["pointer_to_answer"]),
        ("GET to usable, warm pool", result["get_to_usable_warm"]),
        ("GET to usable, cold", result["get_to_usable_cold"]),
        ("memory", result["memory"]),
        *((f"inference, {name}", value) for name, value in result["inference"].items()),
        *((f"{one['visitors']} visitors at once", one) for one in result["at_once"]),
        *(
            (f"one more than {one['visitors']}", one["full"])
            for one in result["at_once"]
            if "full" in one
        ),
    ]
    for name, values in rows:
        print(
            f"{name:32}",
            "  ".join(
                f"{key} {value}" for key, value in values.items() if key not in ("visitors", "full")
            ),
        )
    try:
        capacity.show(capacity.model(result), machine)
    except ValueError as error:
        print(f"capacity: {error}")


if __name__ == "__main__":
    main()

"""The reader without a server: its size, how soon it can be used, how fast it answers, and whether it answers as Python does.

    DIGITS_DATA=FOLDER python tests/benchmarks/without_server.py [--all] [--voila]

Prints the targets beside what was measured, with the network off but where its speed is measured. ``--all`` compares every
pen digit, 10,000 generated strokes and all test images with Python's, ``--voila`` measures the served page in the same run.
"""

import argparse
import functools
import json
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from visitors import PATH, RATE, summary

from app import ANSWERS, drawing

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import browser  # noqa: E402  the tests' own helpers
import twins  # noqa: E402
from digits import data, files  # noqa: E402
from digits.recognizer import Recognizer, ink  # noqa: E402
from digits.report import html  # noqa: E402

TIMES = 5  # that the page is opened, by a browser that does not know it
SLOW = {"offline": False, "latency": 150, "downloadThroughput": 2e5, "uploadThroughput": 1e5}
TARGETS = {
    "bytes_one_model": "600,000",
    "open_from_disk_s": "0.3",
    "open_at_1.6_mbit_s": "4",
    "one_digit": "median 10 ms, p95 25 ms",
    "row_of_four": "p95 50 ms",
}


def opened(chromium: Browser, address: str, slow: bool = False) -> tuple[float, Page]:
    """Seconds until the page can be drawn on, in a window of its own."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=not slow)
    page = context.new_page()
    if slow:
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(browser.READY)
    return time.perf_counter() - started, page


def first_use(chromium: Browser, address: str, slow: bool = False) -> dict:
    """The median and the longest of several times."""
    taken = []
    for _ in range(TIMES):
        seconds, page = opened(chromium, address, slow)
        taken.append(seconds)
        page.context.close()
    return {"median": round(float(np.median(taken)), 2), "max": round(max(taken), 2)}


def answers(chromium: Browser, address: str, strokes: list, times: int) -> dict:
    """Pointer to answer, at a screen's pace; the first drawing warms the browser up.

    Each drawing is moved a little, since the page remembers its answers to what it has seen.
    """
    _, page = opened(chromium, address)
    taken = []
    for k in range(times + 1):
        browser.clear(page)
        moved = [[[x + k, y] for x, y in stroke] for stroke in strokes]
        found = page.evaluate(ANSWERS, [moved, RATE])
        taken += found if k else []
    page.context.close()
    return summary(taken)


def agreement(chromium: Browser, everything: bool) -> dict:
    """How many pictures, logits and answers are Python's."""
    recognizer, page = Recognizer.load("reference", "float16"), chromium.new_page()
    twins.load(page, recognizer)
    pen = [twins.drawn(one) for name in ("tra", "tes") for one in data.load_pen_digits(name)]
    step, rng = 1 if everything else 50, np.random.default_rng(0)
    pen = pen[::step]
    generated = [twins.random_strokes(rng) for _ in range(10_000 // step)]
    rows = [twins.row(pen[k : k + 2 + k % 3], (5, 0, -4)[k % 3]) for k in range(0, len(pen) - 4, 4)]
    examples = [[stroke.tolist() for stroke in one.strokes] for one in ink.examples()]
    found = {}
    for name, drawings in (("pen digits", pen), ("generated strokes", generated)):
        ours = [ink.strokes_to_image([np.array(stroke) for stroke in one]) for one in drawings]
        same = (twins.images(page, drawings) == np.stack(ours)).all((1, 2))
        found[f"pictures of {name}"] = f"{same.sum()} of {len(same)} identical"
    images = data.load("mnist", download=False).x_test[::step, ..., 0]
    theirs, ours = twins.logits(page, images), recognizer.model.logits(images)
    apart, same = np.abs(theirs - ours).max(), (theirs.argmax(1) == ours.argmax(1)).sum()
    found["logits of test images"] = f"{apart:.1e} apart, {same} of {len(images)} the same digit"
    groups = {"pen digits": pen, "rows": rows, "examples": examples, "generated": generated[:1000]}
    for name, drawings in groups.items():
        pairs = zip(
            twins.answers(page, drawings), twins.expected(recognizer, drawings), strict=True
        )
        same = [a == b for a, b in pairs]
        found[f"answers to {name}"] = f"{sum(same)} of {len(same)} the same"
    page.close()
    return found


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="compare everything: half an hour")
    parser.add_argument("--voila", action="store_true", help="the served page's answers, too")
    options = parser.parse_args()
    record, metrics = (
        files.read_json(files.REFERENCE / f"{name}.json") for name in ("run", "metrics")
    )
    one, several = html.readers(files.REFERENCE, record, metrics)
    row = next(one.strokes for one in ink.examples() if one.name == "2026")
    row = [stroke.tolist() for stroke in row]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "draw.html"
        path.write_text(one, encoding="utf-8")
        handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/draw.html"
        chromium, file = browser.launch(playwright), path.as_uri()
        zero = [[list(map(float, point)) for point in PATH]]
        result = {
            "targets": TARGETS,
            "bytes_one_model": len(one.encode()),
            "bytes_published": len(several.encode()),
            "open_from_disk_s": first_use(chromium, file),
            "open_at_1.6_mbit_s": first_use(chromium, address, slow=True),
            "one_digit": answers(chromium, file, zero, 5),
            "row_of_four": answers(chromium, file, row, 3),
        }
        server.shutdown()
        if options.voila:
            with browser.voila() as served:
                result["voila_one_digit"] = drawing(chromium, served, 5)["pointer_to_answer"]
        result["as_python"] = agreement(chromium, options.all)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

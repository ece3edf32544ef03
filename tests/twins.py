"""What Python and the page's scripts must agree on: strokes of every kind, and both sides' answers to them."""

from collections.abc import Sequence

import numpy as np
from playwright.sync_api import Page

from digits import files
from digits.app import STATIC
from digits.data import TABLET, PenDigit
from digits.recognizer import Recognizer, ink, segmentation
from digits.report import html

SCRIPTS = ("ink", "network", "segmentation", "occlusion")
BATCH = 500  # drawings that go to the browser at a time
Strokes = list[list[list[float]]]


def random_strokes(rng: np.random.Generator) -> Strokes:
    """Short and long, off the pad, duplicate points, one point, huge and tiny."""
    found = []
    for _ in range(rng.integers(1, 4)):
        n, spread = rng.integers(1, 30), rng.choice([0.01, 1, 8, 30, 100, 1000])
        stroke = rng.uniform(-40, 320, 2) + np.cumsum(rng.normal(0, spread, (n, 2)), 0)
        stroke = np.round(stroke) if rng.random() < 0.3 else stroke
        found.append(np.repeat(stroke, 2 if rng.random() < 0.3 else 1, 0).tolist())
    return found


def drawn(digit: PenDigit) -> Strokes:
    """A pen digit on the pad."""
    return [(stroke * (ink.CANVAS / TABLET)).tolist() for stroke in digit.strokes]


def row(digits: Sequence[Strokes], gap: float = 5) -> Strokes:
    """Drawings of one digit each, side by side across the pad."""
    width = (ink.CANVAS - 20) / len(digits) - gap
    found = []
    for k, strokes in enumerate(digits):
        points = np.concatenate([np.array(stroke) for stroke in strokes])
        low, scale = points.min(0), width / max(np.ptp(points, axis=0).max(), 1)
        found += [
            ((np.array(s) - low) * scale + (10 + k * (width + gap), 100)).tolist() for s in strokes
        ]
    return found


def load(page: Page, recognizer: Recognizer) -> None:
    """Put the scripts and the recognizer's network into an empty page."""
    for name in SCRIPTS:
        page.add_script_tag(content=(STATIC / f"{name}.js").read_text(encoding="utf-8"))
    stored = html.stored_network(files.REFERENCE / "models" / f"{recognizer.name}.tflite")
    stored["calibration"] = vars(recognizer.calibration)
    page.evaluate("async stored => { window.model = await network.unpacked(stored); }", stored)


def _batches(page: Page, expression: str, values: Sequence) -> list:
    found = []
    for start in range(0, len(values), BATCH):
        found += page.evaluate(
            f"values => values.map({expression})", list(values[start : start + BATCH])
        )
    return found


def images(page: Page, drawings: Sequence[Strokes]) -> np.ndarray:
    """The browser's pictures, (n, 28, 28)."""
    found = _batches(page, "one => Array.from(ink.strokesToImage(one))", drawings)
    return np.array(found, np.float32).reshape(-1, ink.SIDE, ink.SIDE)


def logits(page: Page, pictures: np.ndarray) -> np.ndarray:
    """The browser's logits, (n, 10)."""
    flat = [picture.ravel().tolist() for picture in pictures]
    call = "one => Array.from(network.logits(model, Float32Array.from(one)))"
    return np.array(_batches(page, call, flat))


def answers(page: Page, drawings: Sequence[Strokes]) -> list[list]:
    """The browser's answers: the text, the digits' reason, doubt, candidates and box each, and the one that was drawn last."""
    call = """strokes => {
        const { parts, chosen } = segmentation.read(strokes, group => network.predictStrokes(model, group));
        return [segmentation.textOf(parts), parts.map(({ box, doubt, prediction: p }) =>
            [p.reason || (doubt && "unsure"), doubt, p.candidates, box]), chosen];
    }"""
    return _batches(page, call, drawings)


def expected(recognizer: Recognizer, drawings: Sequence[Strokes]) -> list[list]:
    """Python's answers in the same form."""
    found = []
    for strokes in drawings:
        read = segmentation.read(
            recognizer.predict_strokes, [np.array(s).reshape(-1, 2) for s in strokes]
        )
        parts = [
            [part.reason, part.doubt, list(part.prediction.candidates), list(part.box)]
            for part in read.parts
        ]
        found.append([read.text, parts, read.chosen])
    return found

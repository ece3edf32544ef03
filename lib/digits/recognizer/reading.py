"""Ink or a photo to the answer that the page shows: one digit or several, each accepted or not."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from digits.recognizer import ink, segmentation
from digits.recognizer.model import Prediction, Recognizer
from digits.recognizer.segmentation import Box

MEMORY = 500  # groups of strokes whose answer is remembered


@dataclass(frozen=True)
class Part:
    """One digit that was read."""

    prediction: Prediction
    reason: str = ""  # why it is withheld at the visitor's threshold; "" when it is accepted
    box: Box | None = None  # left, top, right, bottom in canvas pixels
    strokes: tuple[np.ndarray, ...] = ()  # (n, 2) each, canvas pixels; none for a photo

    @property
    def text(self) -> str:
        """The best guess; "" for a blank."""
        return "" if self.prediction.digit is None else str(self.prediction.digit)


@dataclass(frozen=True)
class Answer:
    """What the page shows: the parts from left to right, and which of them is looked at."""

    parts: tuple[Part, ...] = ()
    chosen: int = 0
    points: int = 0  # of ink that it is based on
    seconds: float = 0.0  # from ink to answer
    source: str = "drawing"  # or "photo"

    @property
    def part(self) -> Part | None:
        """The part whose probabilities are shown."""
        return self.parts[self.chosen] if self.parts else None

    @property
    def text(self) -> str:
        """The whole number."""
        return "".join(part.text for part in self.parts)

    @property
    def reason(self) -> str:
        """Why the answer is withheld; "" when every part is accepted."""
        if not self.text:
            return "blank"
        return next((part.reason for part in self.parts if part.reason), "")

    def choosing(self, index: int) -> "Answer":
        """The same answer with another part looked at."""
        return replace(self, chosen=index)

    def judged(self, threshold: float) -> "Answer":
        """The same answer at another threshold in [0, 1]."""
        parts = tuple(
            replace(part, reason=withheld(part.prediction, threshold)) for part in self.parts
        )
        return replace(self, parts=parts)


def withheld(prediction: Prediction, threshold: float) -> str:
    """Why a prediction is withheld when answers need a confidence of ``threshold``; "" when it is not."""
    if prediction.reason in ("blank", "not a digit"):
        return prediction.reason
    return "" if prediction.confidence >= threshold else "unsure"


class Reader:
    """A recognizer that remembers, since of a drawing that grows only the last digit changes."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self._known: OrderedDict[tuple, Prediction] = OrderedDict()

    def predict_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Prediction:
        """As ``Recognizer.predict_strokes``."""
        key = (
            size,
            *(sha256(np.asarray(stroke, float).tobytes()).digest() for stroke in strokes),
        )  # ink may be large
        if key not in self._known:
            self._known[key] = self.recognizer.predict_strokes(strokes, size)
            if len(self._known) > MEMORY:
                self._known.popitem(last=False)
        return self._known[key]

    def drawing(self, strokes: Sequence[np.ndarray]) -> Answer:
        """The answer for the strokes on the pad; the part that was drawn last is looked at."""
        started = time.perf_counter()
        parts = segmentation.read(self, strokes, ink.CANVAS).parts if len(strokes) else ()  # type: ignore[arg-type]
        parts = tuple(Part(part.prediction, box=part.box, strokes=part.strokes) for part in parts)
        parts = tuple(part for part in parts if part.prediction.digit is not None)
        chosen = _latest(parts, strokes[-1][-1]) if parts else 0
        seconds = time.perf_counter() - started if parts else 0.0
        return Answer(parts, chosen, sum(map(len, strokes)), seconds)

    def pictures(self, images: Sequence[np.ndarray]) -> Answer:
        """The answer for pictures (28, 28) in MNIST's form, in reading order."""
        started = time.perf_counter()
        parts = tuple(Part(self.recognizer.predict(np.asarray(image))) for image in images)
        return Answer(parts, seconds=time.perf_counter() - started, source="photo")


def _latest(parts: tuple[Part, ...], point: np.ndarray) -> int:
    """The part nearest to where the pen was last."""

    def distance(part: Part) -> float:
        left, top, right, bottom = part.box
        return float(
            np.hypot(
                max(left - point[0], point[0] - right, 0), max(top - point[1], point[1] - bottom, 0)
            )
        )

    return min(range(len(parts)), key=lambda index: distance(parts[index]))

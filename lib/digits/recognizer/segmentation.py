"""Strokes across the pad to digits, left to right: which strokes belong together, and what number they make.

Strokes, ordered from left to right, are parted into consecutive groups. Each group gets a score from its geometry and
from how sure the recognizer is of it, and the best sum wins (a dynamic programme, as in the segmentation lattices of
LeCun et al. 1998, section V). The weights are those of a log-linear model over all partitions of a row, fitted by
``tests/benchmarks/rows.py`` on rows and single digits of the training writers of the pen digits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from digits.recognizer import ink

if TYPE_CHECKING:
    from digits.recognizer.model import Prediction, Recognizer

FARTHEST = 0.3  # of the row's height: strokes with a wider gap between them are never one digit
WIDEST = 2.0  # of the row's height: several strokes that are wider together are never one digit
MOST_STROKES = 6  # that one digit is made of
MOST_PARTS = 24  # strokes on the pad; with more it is a drawing, and read as one
SPECK = 0.08  # of the row's height: a stroke smaller than this, far from any other, is no digit
WEIGHTS = np.array([-12.6, -1.6, -18.6, -19.6, 10.2])  # of ``features``
CONFIDENCE_WEIGHT = 2.8  # of the logarithm of the recognizer's confidence
REFUSED_WEIGHT = -1.2  # of its answer "not a digit"
HOPELESS = 12.0  # geometry that is worse than that of single strokes by this much is not shown to the recognizer
CUT_COST = 3.0  # what cutting a stroke in two must gain
CUTS = (
    (0.0, 1.0),
    (0.5, 0.5),
    (1.0, 1.0),
    (0.0, 0.0),
)  # ways to share the stretch between two joined digits
NARROWEST_PAIR = 0.7  # of its height: a stroke through two digits is wider
LEAST_SHARE = 0.5  # of its height, that each of the digits which a stroke runs through has

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Part:
    """One digit of a row."""

    box: Box  # left, top, right, bottom of the pen's path in canvas pixels
    strokes: tuple[
        np.ndarray, ...
    ]  # (n, 2) each; a stroke that runs through two digits is in pieces here
    prediction: "Prediction"


@dataclass(frozen=True)
class Reading:
    """What was written across the pad."""

    text: str  # the best guess for each part, "" for a blank; whether to believe it is each part's ``accepted``
    parts: tuple[Part, ...]  # left to right


def group_boxes(
    boxes: np.ndarray, confidence: Callable[[list[int]], float] | None = None
) -> list[list[int]]:
    """Which strokes, or pieces of ink in a picture, make which digit: the indices of each, digits from left to right.

    boxes: (n, 4) left, top, right, bottom in pixels; specks far from any digit are in none. confidence: how sure the
    recognizer is that the pieces with these indices are one digit, in [0, 1]; without it geometry decides alone.
    """
    row = _Row(np.asarray(boxes, float).reshape(-1, 2, 2), most=len(boxes))

    def evidence(i: int, j: int) -> float:
        return confidence_score(confidence(row.order[i:j])) if confidence else 0.0

    return [sorted(row.order[i:j]) for i, j in row.best_partition(evidence)]


def confidence_score(confidence: float) -> float:
    """What the recognizer's confidence in [0, 1] adds to a group's score."""
    return CONFIDENCE_WEIGHT * float(np.log(max(confidence, 0.1)))


def read(
    recognizer: "Recognizer", strokes: Sequence[np.ndarray], size: int = ink.CANVAS
) -> Reading:
    """Read one digit or a number.

    strokes: (n, 2) arrays of canvas pixels, y downwards, in any order, on a canvas of ``size`` pixels. Digits may touch
    or overlap a little; a digit may have several strokes; a stroke may run through two digits. ValueError for other
    shapes.
    """
    reader, pieces = _Reader(recognizer, size), _pieces(strokes, size)
    best = reader.read(pieces)
    for shares in CUTS:
        cut = _cut_joined(pieces, *shares)
        if len(cut) == len(pieces):
            break
        other = reader.read(cut)
        if other.score - CUT_COST * (len(cut) - len(pieces)) > best.score:
            best = other
    return best.reading


class _Scored(NamedTuple):
    score: float
    reading: Reading


class _Reader:
    """One reading: the recognizer, asked once for each group of strokes."""

    def __init__(self, recognizer: "Recognizer", size: int):
        self.recognizer, self.size = recognizer, size
        self._known: dict[
            tuple[int, ...], tuple[list[np.ndarray], Prediction]
        ] = {}  # by the strokes' identity

    def read(self, pieces: list[np.ndarray]) -> _Scored:
        row = _Row(pieces)

        def evidence(i: int, j: int) -> float:
            answer = self._answer(row.strokes[i:j])
            return confidence_score(answer.confidence) + REFUSED_WEIGHT * (
                answer.reason == "not a digit"
            )

        groups = row.best_partition(evidence)
        parts = tuple(
            Part(row.box(i, j), tuple(row.strokes[i:j]), self._answer(row.strokes[i:j]))
            for i, j in groups
        )
        text = "".join(
            str(part.prediction.digit) for part in parts if part.prediction.digit is not None
        )
        return _Scored(row.score, Reading(text, parts))

    def _answer(self, strokes: list[np.ndarray]) -> "Prediction":
        key = tuple(map(id, strokes))
        if (
            key not in self._known
        ):  # the strokes are kept too, so that no other array can get their identity
            self._known[key] = strokes, self.recognizer.predict_strokes(strokes, self.size)
        return self._known[key][1]


class _Row:
    """Strokes in order from left to right, and the dynamic programme over them."""

    def __init__(self, strokes: Sequence[np.ndarray] | np.ndarray, most: int = MOST_PARTS):
        self.most = most
        boxes = np.array([[*points.min(0), *points.max(0)] for points in strokes]).reshape(-1, 4)
        self.height = row_height(boxes)
        kept = [
            k
            for k in range(len(boxes))
            if len(boxes) > most or not _is_speck(boxes, k, self.height)
        ]
        kept = kept or list(range(len(boxes)))  # nothing but dots
        self.order = sorted(kept, key=lambda k: boxes[k, 0] + boxes[k, 2])
        self.boxes = boxes[self.order]
        self.strokes = [strokes[k] for k in self.order]
        self.score = 0.0

    def box(self, i: int, j: int) -> Box:
        left, top = map(float, self.boxes[i:j, :2].min(0))
        right, bottom = map(float, self.boxes[i:j, 2:].max(0))
        return left, top, right, bottom

    def candidates(self) -> list[tuple[int, int, float]]:
        """Groups [i, j) of neighbours that could be one digit with their score by geometry, by their right ends."""
        n = len(self.boxes)
        if n > self.most:
            return [(0, n, 0.0)]
        alone = np.concatenate([[0.0], np.cumsum([self._geometry(k, k + 1) for k in range(n)])])
        found = []
        for j in range(1, n + 1):
            for i in range(max(j - MOST_STROKES, 0), j):
                score = self._geometry(i, j)
                if j - i == 1 or score > alone[j] - alone[i] - HOPELESS and self._possible(i, j):
                    found.append((i, j, score))
        return found

    def _geometry(self, i: int, j: int) -> float:
        return float(WEIGHTS @ features(self.boxes, self.height, i, j))

    def _possible(self, i: int, j: int) -> bool:
        left, _, right, _ = self.box(i, j)
        return (
            right - left < WIDEST * self.height
            and max(_gaps(self.boxes[i:j])) < FARTHEST * self.height
        )

    def best_partition(self, evidence: Callable[[int, int], float]) -> list[tuple[int, int]]:
        """The groups [i, j) with the highest sum of geometry and ``evidence(i, j)``."""
        scored = ((i, j, geometry + evidence(i, j)) for i, j, geometry in self.candidates())
        self.score, groups = best_partition(len(self.boxes), scored)
        return groups


def best_partition(
    n: int, scored: Iterable[tuple[int, int, float]]
) -> tuple[float, list[tuple[int, int]]]:
    """The highest sum of scores over ways to part 0 ... n - 1 into groups [i, j), and its groups.

    scored: (i, j, score) of each possible group, sorted by j. Every i from 0 to n - 1 must be reachable.
    """
    best, start = [0.0] + [-np.inf] * n, [0] * (n + 1)
    for i, j, score in scored:
        if best[i] + score > best[j]:
            best[j], start[j] = best[i] + score, i
    groups, j = [], n
    while j:
        groups.append((start[j], j))
        j = start[j]
    return best[n], groups[::-1]


def features(boxes: np.ndarray, height: float, i: int, j: int) -> np.ndarray:
    """How unlike one whole digit the strokes [i, j) are, in units of the row's height.

    boxes: (n, 4) left, top, right, bottom of all strokes from left to right. Returns (5,): width beyond a height; what
    is missing of a full height; gaps between the strokes (overlap counts as negative); how far the strokes stand side by
    side at the same height, as those of two digits do; number of joins.
    """
    group = boxes[i:j]
    width, tall = group[:, 2].max() - group[:, 0].min(), group[:, 3].max() - group[:, 1].min()
    gaps = np.clip(np.array(_gaps(group)) / height, -0.5, 0.5).sum()
    beside = sum(
        max(_shared_height(group[k], other) for other in group[:k]) for k in range(1, j - i)
    )
    return np.array(
        [max(width / height - 1, 0), np.clip(1 - tall / height, 0, 0.5), gaps, beside, j - i - 1]
    )


def row_height(boxes: np.ndarray) -> float:
    """The usual height of a digit, in pixels, from the strokes' boxes (n, 4): the median over runs that overlap in x."""
    if not len(boxes):
        return 1.0
    runs: list[np.ndarray] = []
    for box in boxes[np.argsort(boxes[:, 0])]:
        if runs and box[0] <= runs[-1][2]:
            runs[-1] = np.r_[np.minimum(runs[-1][:2], box[:2]), np.maximum(runs[-1][2:], box[2:])]
        else:
            runs.append(box)
    left, top, right, bottom = np.array(runs).T
    heights, widths = bottom - top, right - left
    # A flat line is no row of digits: its width bounds the height from below.
    return float(max(np.median(heights[heights >= heights.max() / 2]), np.median(widths) / 6, 1.0))


def even_steps(points: np.ndarray, step: float, most: int = 2000) -> np.ndarray:
    """The same path (n, 2) with a point every ``step`` pixels, from its first point to its last; at most ``most`` points."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    places = np.linspace(0, along[-1], min(int(along[-1] / step) + 2, most))
    return np.column_stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)])


def _pieces(strokes: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    return [np.clip(points, 0, size) for points in ink.check_strokes(strokes)]


def _is_speck(boxes: np.ndarray, k: int, height: float) -> bool:
    """Whether stroke ``k`` is a dot that stands alone while there is something larger."""
    left, top, right, bottom = boxes[k]
    others = np.delete(boxes, k, axis=0)
    if not len(others) or max(right - left, bottom - top) > SPECK * height:
        return False
    return bool((np.maximum(others[:, 0] - right, left - others[:, 2]) > FARTHEST * height).all())


def _gaps(group: np.ndarray) -> list[float]:
    """How far each stroke, from the second on, begins to the right of all before it; negative when they overlap."""
    ends = np.maximum.accumulate(group[:, 2])
    return list(group[1:, 0] - ends[:-1])


def _shared_height(a: np.ndarray, b: np.ndarray) -> float:
    """Of the height that two boxes span, how much both have: near 1 for neighbours on a line, 0 for one above the other."""
    shared = min(a[3], b[3]) - max(a[1], b[1])
    return max(shared, 0.0) / max(max(a[3], b[3]) - min(a[1], b[1]), 1e-9)


def _cut_joined(pieces: list[np.ndarray], left: float, right: float) -> list[np.ndarray]:
    """The pieces, (n, 2) each, every stroke that runs on to the right from one digit to the next cut where it does.

    On its way between two digits a pen passes every x once. Of that passage the digit before it keeps the share
    ``left``, the digit after it what follows the share ``right``.
    """
    return [part for points in pieces for part in _cut(points, left, right)]


def _cut(points: np.ndarray, left: float, right: float) -> list[np.ndarray]:
    extent = np.ptp(points, axis=0)
    if len(points) < 8 or extent[0] < NARROWEST_PAIR * extent[1]:
        return [points]
    path = even_steps(points, max(extent) / 100)
    if path[0, 0] > path[-1, 0]:
        path = path[::-1]
    passages = [
        (a, b)
        for a, b in _passages(path[:, 0])
        if _tall(path[: a + 1], extent) and _tall(path[b:], extent)
    ]
    starts = [0] + [round(a + (b - a) * right) for a, b in passages]
    ends = [round(a + (b - a) * left) + 1 for a, b in passages] + [len(path)]
    parts = [path[start:end] for start, end in zip(starts, ends, strict=True)]
    return parts if len(parts) > 1 and all(_tall(part, extent) for part in parts) else [points]


def _passages(x: np.ndarray) -> list[tuple[int, int]]:
    """Stretches [a, b] of a path along which all before lies to the left and all after to the right."""
    before, after = np.maximum.accumulate(x), np.minimum.accumulate(x[::-1])[::-1]
    once = np.concatenate([[False], before[:-1] <= after[1:], [False]])
    changes = np.flatnonzero(np.diff(once.astype(int)))
    return list(zip(changes[::2], changes[1::2], strict=True))


def _tall(path: np.ndarray, extent: np.ndarray) -> bool:
    return np.ptp(path[:, 1]) > LEAST_SHARE * extent[1]

"""Strokes across the pad to digits, left to right: which belong together, what number they make.

Strokes, ordered from left to right, are parted into consecutive groups. Each group gets a score
from its geometry and from how sure the recognizer is of it, and the best sum wins (a dynamic
programme, as in the segmentation lattices of LeCun et al. 1998, section V). The weights are those
of a log-linear model over all partitions of a row, fitted by ``tests/benchmarks/rows.py`` on rows
and single digits of the training writers of the pen digits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from digits.recognizer import ink

if TYPE_CHECKING:
    from digits.recognizer.model import Prediction

# Lengths are shares of the row's height, the usual height of its digits.
FARTHEST = 0.3  # strokes with a wider gap between them are never one digit
WIDEST = 2.0  # several strokes that are wider together are never one digit
SPECK = 0.08  # a stroke smaller than this, far from any other, is no digit
MOST_STROKES = 6  # that one digit is made of
MOST_PIECES = 24  # strokes on the pad; with more it is a drawing, and read as one
WEIGHTS = np.array([-12.6, -1.6, -18.6, -19.6, 10.2])  # of ``features``
CONFIDENCE_WEIGHT = 2.8  # of the logarithm of the recognizer's confidence
REFUSED_WEIGHT = -1.2  # of its answer "not a digit"
HOPELESS = 12.0  # geometry that is worse by this than single strokes' is not looked at
CUT_COST = 3.0  # what cutting a stroke in two must gain
CUTS = ((0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0))  # ways to share what joins two digits
NARROWEST_PAIR = 0.7  # of its height: a stroke through two digits is wider
LEAST_SHARE = 0.5  # of its height, that each of the digits which a stroke runs through has

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Part:
    """One digit that was read."""

    prediction: "Prediction"
    reason: str = ""  # why it is withheld; "" when it is accepted
    box: Box | None = None  # of the pen's path on the canvas; of a photo, in its preview
    strokes: tuple[np.ndarray, ...] = ()  # (n, 2) each, canvas pixels; none of a photo

    @property
    def text(self) -> str:
        """The best guess; "" for a blank."""
        return "" if self.prediction.digit is None else str(self.prediction.digit)


@dataclass(frozen=True)
class Answer:
    """What was written, its digits in reading order."""

    parts: tuple[Part, ...] = ()
    chosen: int = 0  # the part that is looked at: of strokes, the one that was drawn last
    points: int = 0  # of the pen, that it is based on
    seconds: float = 0.0  # from ink to answer
    preview: bytes = b""  # of a photo: a PNG with numbered boxes
    note: str = ""  # of a photo: what was done to it, and what is doubtful
    doubtful: bool = False  # of a photo: the row may be another one, however clear its digits are

    @property
    def text(self) -> str:
        """The whole number, the best guess for each part; "" for a blank."""
        return "".join(part.text for part in self.parts)

    @property
    def reason(self) -> str:
        """Why it is withheld, "blank", "unsure" or "not a digit"; "" when all are accepted."""
        if not self.text:
            return "blank"
        doubt = "unsure" if self.doubtful else ""
        return next((part.reason for part in self.parts if part.reason), doubt)

    @property
    def accepted(self) -> bool:
        """Whether there are parts and all of them are accepted."""
        return not self.reason

    @property
    def part(self) -> Part | None:
        """The part that is looked at."""
        return self.parts[self.chosen] if self.parts else None

    def judged(self, threshold: float) -> "Answer":
        """The same answer when a confidence of ``threshold`` in [0, 1] is asked of each part."""
        judged = (replace(part, reason=part.prediction.reason_at(threshold)) for part in self.parts)
        return replace(self, parts=tuple(judged))


Predict = Callable[[list[np.ndarray]], "Prediction"]  # strokes as one digit


def read(predict: Predict, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Answer:
    """One digit or a number; ValueError for strokes of other shapes.

    strokes: (n, 2) arrays of canvas pixels, y downwards, in any order; what lies outside the canvas
    of ``size`` pixels is taken at its edge. Digits may touch or overlap a little; a digit may have
    several strokes; a stroke may run through two digits. predict: is often asked the same again.
    """
    pieces = [np.clip(points, 0, size) for points in ink.check_strokes(strokes)]
    if not pieces:
        return Answer()
    best, groups = _best_groups(predict, pieces)
    for shares in CUTS:
        cut = [part for points in pieces for part in _cut_joined(points, *shares)]
        if len(cut) == len(pieces) or len(cut) > MOST_PIECES:
            break
        score, others = _best_groups(predict, cut)
        if score - CUT_COST * (len(cut) - len(pieces)) > best:
            best, groups = score, others

    parts, distances, (x, y) = [], [], pieces[-1][-1]
    for group in groups:
        prediction, points = predict(group), np.concatenate(group)
        left, top, right, bottom = box = (*points.min(0).tolist(), *points.max(0).tolist())
        parts.append(Part(prediction, prediction.reason, box, tuple(group)))
        distances.append(np.hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0)))
    return Answer(tuple(parts), int(np.argmin(distances)), sum(map(len, pieces)))


def _best_groups(
    predict: Predict, pieces: list[np.ndarray]
) -> tuple[float, list[list[np.ndarray]]]:
    """The best way to part strokes into digits, with its score."""
    if len(pieces) > MOST_PIECES:
        return 0.0, [pieces]

    def evidence(group: list[int]) -> float:
        answer = predict([pieces[k] for k in group])
        refused = REFUSED_WEIGHT * (answer.reason == "not a digit")
        return confidence_score(answer.confidence) + refused

    boxes = np.array([[*points.min(0), *points.max(0)] for points in pieces])
    score, groups = group_boxes(boxes, evidence)
    return score, [[pieces[k] for k in group] for group in groups]


def group_boxes(
    boxes: np.ndarray, evidence: Callable[[list[int]], float]
) -> tuple[float, list[list[int]]]:
    """Which pieces of ink make which digit: a score and the indices of each, from left to right.

    boxes: (n, 4) left, top, right, bottom in pixels; specks far from any digit are in none.
    evidence: a score, beside geometry's, for the pieces with these indices being one digit.
    """
    order, boxes, height = arrange(boxes)
    scored = ((i, j, g + evidence(sorted(order[i:j]))) for i, j, g in candidates(boxes, height))
    score, spans = best_partition(len(order), scored)
    return score, [sorted(order[i:j]) for i, j in spans]


def confidence_score(confidence: float) -> float:
    """What the recognizer's confidence in [0, 1] adds to a group's score."""
    return CONFIDENCE_WEIGHT * float(np.log(max(confidence, 0.1)))


def arrange(boxes: np.ndarray) -> tuple[list[int], np.ndarray, float]:
    """From left to right without specks: indices into ``boxes`` (n, 4), these boxes, row's height.

    A speck is a dot that stands alone while there is something larger.
    """
    height = row_height(boxes)
    left, top, right, bottom = boxes.T
    gaps = np.maximum(left - right[:, None], left[:, None] - right)
    np.fill_diagonal(gaps, np.inf)
    small = np.maximum(right - left, bottom - top) <= SPECK * height
    speck = small & (gaps > FARTHEST * height).all(1)
    kept = np.flatnonzero(speck.all() | ~speck).tolist()
    order = sorted(kept, key=lambda k: left[k] + right[k])
    return order, boxes[order], height


def row_height(boxes: np.ndarray) -> float:
    """A digit's usual height in pixels: the median over runs of ``boxes`` that overlap in x."""
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


def candidates(boxes: np.ndarray, height: float) -> Iterator[tuple[int, int, float]]:
    """Groups [i, j) of neighbours that could be one digit, with geometry's score, sorted by j.

    boxes: (n, 4) from left to right; height: the row's, in pixels.
    """

    def geometry(i: int, j: int) -> float:
        return float(WEIGHTS @ features(boxes[i:j], height))

    alone = np.cumsum([0.0, *(geometry(k, k + 1) for k in range(len(boxes)))])
    for j in range(1, len(boxes) + 1):
        for i in range(max(j - MOST_STROKES, 0), j):
            group, score = boxes[i:j], geometry(i, j)
            possible = j - i == 1 or (
                score > alone[j] - alone[i] - HOPELESS
                and group[:, 2].max() - group[:, 0].min() < WIDEST * height
                and _gaps(group).max() < FARTHEST * height
            )
            if possible:
                yield i, j, score


def features(group: np.ndarray, height: float) -> np.ndarray:
    """How unlike one whole digit strokes are, (5,), in units of the row's height.

    group: (n, 4) boxes from left to right. The features: width beyond a height; what is missing of
    a full height; gaps between the strokes (overlap counts as negative); how far they stand side by
    side at the same height, as those of two digits do; number of joins.
    """
    left, top, right, bottom = group.T
    width, tall = right.max() - left.min(), bottom.max() - top.min()
    beside = 0.0
    for k in range(1, len(group)):  # of the height that two strokes span, how much both have
        shared = np.minimum(bottom[k], bottom[:k]) - np.maximum(top[k], top[:k])
        spanned = np.maximum(bottom[k], bottom[:k]) - np.minimum(top[k], top[:k])
        beside += (np.maximum(shared, 0.0) / np.maximum(spanned, 1e-9)).max()
    beyond, missing = max(width / height - 1, 0), np.clip(1 - tall / height, 0, 0.5)
    gaps = np.clip(_gaps(group) / height, -0.5, 0.5).sum()
    return np.array([beyond, missing, gaps, beside, len(group) - 1])


def _gaps(group: np.ndarray) -> np.ndarray:
    """How far each stroke but the first begins to the right of all before it, (n - 1,)."""
    return group[1:, 0] - np.maximum.accumulate(group[:, 2])[:-1]


def best_partition(
    n: int, scored: Iterable[tuple[int, int, float]]
) -> tuple[float, list[tuple[int, int]]]:
    """The highest sum of scores over ways to part 0 ... n - 1 into groups [i, j), and its groups.

    scored: (i, j, score) of possible groups, sorted by j; every i from 0 to n - 1 is reachable.
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


def _cut_joined(points: np.ndarray, left: float, right: float) -> list[np.ndarray]:
    """A stroke (n, 2), cut where it runs on to the right from one digit to the next.

    On its way between two digits a pen passes every x once. Of that passage the digit before it
    keeps the share ``left``, the digit after it what follows the share ``right``.
    """
    extent = np.ptp(points, axis=0)
    if len(points) < 8 or extent[0] <= NARROWEST_PAIR * extent[1]:
        return [points]
    lengths = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))  # as in a browser, to the bit
    along = np.concatenate([[0], np.cumsum(lengths)])
    steps = min(int(along[-1] / (max(extent) / 100)) + 2, 2000)
    even = np.linspace(0, along[-1], steps)
    path = np.column_stack([np.interp(even, along, points[:, axis]) for axis in (0, 1)])
    if path[0, 0] > path[-1, 0]:
        path = path[::-1]

    def tall(part: np.ndarray) -> bool:
        return np.ptp(part[:, 1]) > LEAST_SHARE * extent[1]

    x = path[:, 0]
    before, after = np.maximum.accumulate(x), np.minimum.accumulate(x[::-1])[::-1]
    once = np.concatenate([[False], before[:-1] <= after[1:], [False]])
    changes = np.flatnonzero(np.diff(once.astype(int)))
    starts, ends = [0], []
    for a, b in zip(changes[::2], changes[1::2], strict=True):
        if tall(path[: a + 1]) and tall(path[b:]):
            starts.append(round(a + (b - a) * right))
            ends.append(round(a + (b - a) * left) + 1)
    parts = [path[i:j] for i, j in zip(starts, [*ends, len(path)], strict=True)]
    return parts if len(parts) > 1 and all(map(tall, parts)) else [points]

"""Strokes on the pad to digits: which belong together, what number they make in each line.

Lines are read from top to bottom. A line's strokes, from left to right, are parted into consecutive
groups. Each group gets a score from its geometry and from how sure the recognizer is of it, and the
best sum wins (a dynamic programme, as in the segmentation lattices of LeCun et al. 1998, section
V). The weights are those of a log-linear model over all partitions of a row, fitted by
``tests/benchmarks/rows.py`` on rows and single digits of the training writers of the pen digits.
Signs, exponents and what may be a letter are withheld by rules, chosen on the same writers.
"""

import itertools
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
LINE_GAP = 0.1  # of a line's height, between it and what is below it
CLEAR_GAP = 0.35  # the same: with less, a 5 below its roof is no two lines
RING_GAPS = 0.25, 0.5  # of the higher ring's: with less two rings are an 8, with more two lines
LEAST_LINE = 0.35  # of the other's height: what is less tall is a roof or a dot, and no line
SMALL, APART = 0.5, 0.06  # of a digit's height: a stroke that is both is no part of it
RAISED = 0.65  # of its neighbour's height: a digit less tall that is off the line is an exponent
TOUCH = 0.06  # digits that come as near touch
SURE = 0.95  # the confidence that is asked of digits that touch and together look like a letter
LETTER = 1.2  # of its height: nothing wider is one
POINT = 0.12  # of a digit's height: a stroke between two digits that is no larger is a point
STRAIGHT = 1.25  # of the way from end to end: the length of a stroke that may be a sign
MARKS = {
    "-": "a minus: only digits are read",
    ",": "a comma: only digits are read",
    ".": "a point: only digits are read",
    "/": "a slash: only digits are read",
}
RULE = "_"  # what underlines a number, or parts it from another: no digit, and read past
EXPONENT = "one is small and off the line, like an exponent"
EXTRA = "there is more than the digit needs"
RINGS = "two rings may be an 8 or two lines"
JOINED = "one stroke runs through two digits: lift the pen between them"
LIKE_LETTER = "strokes that touch may be a letter"

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Part:
    """One digit that was read."""

    prediction: "Prediction"
    reason: str = ""  # why it is withheld; "" when it is accepted
    box: Box | None = None  # of the pen's path on the canvas; of a photo, in its preview
    strokes: tuple[np.ndarray, ...] = ()  # (n, 2) each, canvas pixels; none of a photo
    line: int = 0  # counted from the top
    mark: str = ""  # one of ``MARKS`` when it is such a sign, and no digit
    doubt: str = ""  # in words, why it is withheld for what is around it; "" when it is not

    @property
    def text(self) -> str:
        """The best guess; "" for a blank."""
        return self.mark or ("" if self.prediction.digit is None else str(self.prediction.digit))

    def withheld(self, reason: str) -> "Part":
        """The same for this ``reason``, or for its ``doubt``."""
        return replace(self, reason=reason or ("unsure" if self.doubt else ""))


@dataclass(frozen=True)
class Answer:
    """What was written, its digits in reading order."""

    parts: tuple[Part, ...] = ()
    chosen: int = 0  # the part that is looked at: of strokes, the one that was drawn last
    points: int = 0  # of the pen, that it is based on
    seconds: float = 0.0  # from ink to answer
    preview: bytes = b""  # of a photo: a PNG, upright
    note: str = ""  # of a photo: what was done to it, and what is doubtful
    doubtful: bool = False  # of a photo: the row may be another one, however clear its digits are

    @property
    def text(self) -> str:
        """The whole number, the best guess for each part, a line of text for each; "" for none."""
        lines = sorted({part.line for part in self.parts})
        return "\n".join("".join(p.text for p in self.parts if p.line == n) for n in lines)

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
        reasons = (part.prediction.reason_at(threshold) for part in self.parts)
        judged = zip(self.parts, reasons, strict=True)
        return replace(self, parts=tuple(part.withheld(reason) for part, reason in judged))


Predict = Callable[[list[np.ndarray]], "Prediction"]  # strokes as one digit


def read(predict: Predict, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Answer:
    """One digit or a number, or several lines of them; ValueError for strokes of other shapes.

    strokes: (n, 2) arrays of canvas pixels, y downwards, in any order; what lies outside a canvas
    ``size`` pixels high is taken at its edge. Digits may touch or overlap a little; they may have
    several strokes; a stroke may run through two digits. predict: is often asked the same again.
    """
    pieces = ink.on_canvas(strokes, size)
    if not pieces:
        return Answer()
    lines = [_read_line(predict, one, n) for n, one in enumerate(_lines(predict, pieces))]
    parts = _with_doubtful_rings(lines)
    (x, y), distances = pieces[-1][-1], []
    for left, top, right, bottom in (part.box for part in parts):
        distances.append(np.hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0)))
    return Answer(tuple(parts), int(np.argmin(distances)), sum(map(len, pieces)))


def _box(pieces: Iterable[np.ndarray]) -> Box:
    points = np.concatenate(list(pieces))
    return (*points.min(0).tolist(), *points.max(0).tolist())


def _lines(predict: Predict, pieces: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Strokes by the line that they are in, from top to bottom, each line in their order."""
    gap, *parted = _parted(pieces)
    if gap <= LINE_GAP or gap < CLEAR_GAP and _is_stacked(predict, pieces, parted):
        return [pieces]
    return [line for some in parted for line in _lines(predict, some)]


def _is_stacked(predict: Predict, pieces: list[np.ndarray], parted: list[list[np.ndarray]]) -> bool:
    """Whether it is surely one digit in two strokes: an 8 of two rings, a 5 below its roof."""
    whole = predict(pieces)
    if not whole.accepted or whole.digit not in (5, 8):
        return False
    parts = [predict(some) for some in parted]
    if {part.digit for part in parts} == {0}:
        return _ring_gap(*map(_box, parted)) < RING_GAPS[0]
    return whole.digit == 5 and not all(part.accepted for part in parts)


def _ring_gap(upper: Box, lower: Box) -> float:
    """How far two rings are apart from top to bottom, in units of the higher one."""
    return (lower[1] - upper[3]) / max(upper[3] - upper[1], lower[3] - lower[1], 1.0)


def _with_doubtful_rings(lines: list[list[Part]]) -> list[Part]:
    """All parts; a 0 above a 0 is withheld where both may be the rings of an 8."""
    for upper, lower in itertools.pairwise(lines):
        for i, j in itertools.product(range(len(upper)), range(len(lower))):
            pair, (a, b) = (upper[i], lower[j]), (upper[i].box, lower[j].box)
            alike = pair[0].text == pair[1].text == "0" and max(a[0], b[0]) < min(a[2], b[2])
            if 1 in (len(upper), len(lower)) and alike and _ring_gap(a, b) < RING_GAPS[1]:
                upper[i], lower[j] = (replace(p, doubt=RINGS).withheld(p.reason) for p in pair)
    return [part for line in lines for part in line]


def _parted(pieces: list[np.ndarray]) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """The widest gap between what is above and what is below, as ``_line_gap`` has it, and both."""
    boxes, best = [_box([points]) for points in pieces], (-1.0, pieces, pieces[:0])
    order = sorted(range(len(boxes)), key=lambda k: boxes[k][1] + boxes[k][3])
    for k in range(1, len(order) if len(order) <= MOST_PIECES else 0):
        above, below = sorted(order[:k]), sorted(order[k:])
        gap = _line_gap([boxes[i] for i in above], [boxes[i] for i in below])
        if gap > best[0]:
            best = gap, [pieces[i] for i in above], [pieces[i] for i in below]
    return best


def _line_gap(upper: list[Box], lower: list[Box]) -> float:
    """How far these are apart, in units of the lower of both; -1 when they are no two lines.

    In a line that slopes, only what stands one above the other is clear of each other.
    """
    gap, above, below = np.inf, [], []
    for a in upper:
        for b in lower:
            if min(a[2], b[2]) >= max(a[0], b[0]):  # one above the other
                gap = min(gap, b[1] - a[3])
                above.append(a)
                below.append(b)
            elif 2 * a[3] > b[1] + b[3] or 2 * b[1] < a[1] + a[3]:  # beside each other
                return -1.0
    if not above:
        return -1.0
    tall = [max(box[3] for box in some) - min(box[1] for box in some) for some in (above, below)]
    return gap / max(min(tall), 1.0) if min(tall) >= LEAST_LINE * max(tall) else -1.0


def _read_line(predict: Predict, strokes: list[np.ndarray], line: int) -> list[Part]:
    """The digits and signs of one line, from left to right."""
    marks = _marks(strokes)
    pieces = [points for k, points in enumerate(strokes) if k not in marks]
    best, groups = _best_groups(predict, pieces)
    whole: dict[int, int] = {}  # of each part of a stroke that was cut, which stroke
    for shares in CUTS:
        cut = [_cut_joined(points, *shares) for points in pieces]
        parts = [part for some in cut for part in some]
        if len(parts) == len(pieces) or len(parts) > MOST_PIECES:
            break
        score, others = _best_groups(predict, parts)
        if score - CUT_COST * (len(parts) - len(pieces)) > best:
            best, groups = score, others
            whole = {id(part): k for k, some in enumerate(cut) for part in some if len(some) > 1}
    read = [(predict(group), group) for group in groups]
    doubts = _doubts(predict, read, whole)
    found = [
        Part(one, "", _box(group), tuple(group), line, "", doubt).withheld(one.reason)
        for (one, group), doubt in zip(read, doubts, strict=True)
    ]
    for k, mark in marks.items():
        if mark == RULE:
            continue
        why, alone = "not a digit", [strokes[k]]
        one = replace(predict(alone), accepted=False, reason=why)
        found.append(Part(one, why, _box(alone), tuple(alone), line, mark, MARKS[mark]))
    return sorted(found, key=lambda part: part.box[0] + part.box[2]) if marks else found


def _marks(strokes: list[np.ndarray]) -> dict[int, str]:
    """Which strokes of a line are no digits: straight ones beside them, points between them."""
    if len(strokes) > MOST_PIECES:
        return {}
    boxes, found = [_box([points]) for points in strokes], {}
    for k, (left, top, right, bottom) in enumerate(boxes):
        others, rest = boxes[:k] + boxes[k + 1 :], strokes[:k] + strokes[k + 1 :]
        tallest = max((bottom - top for _, top, _, bottom in others), default=0.0)
        tall = [b for b in others if 2 * (b[3] - b[1]) >= max(tallest, b[2] - b[0])]
        wide, high, (x, y) = right - left, bottom - top, strokes[k][-1] - strokes[k][0]
        if not tall:
            continue
        near = min(tall, key=lambda box: abs(box[0] + box[2] - left - right))
        height, middle = near[3] - near[1], (top + bottom) / 2 - near[1]
        centres = [box[0] + box[2] for box in tall]
        between = min(centres) < left + right < max(centres)
        clear, mark = all(b[0] >= right or b[2] <= left for b in others), ""
        if max(wide, high) <= POINT * height:
            mark = "." if between and all(b[0] >= right or b[2] <= left for b in tall) else ""
        elif _along(strokes[k])[-1] > STRAIGHT * np.sqrt(x * x + y * y):
            continue
        elif 3 * high <= wide >= height / 10 and height <= 4 * middle <= 3 * height:
            mark = "-" if clear else ""
        elif 3 * high <= wide and _is_rule(boxes[k], tall):
            mark = RULE
        elif 2 * max(wide, high) <= height and 5 * middle >= 4 * height:
            mark = "," if between else ""
        elif 5 * high >= 4 * height and (3 if clear else 2.5) * wide >= high and x * y < 0:
            mark = "/" if between else ""
        if mark and (mark in "-." or not _touch([strokes[k]], rest, height)):
            found[k] = mark
    return found if len(found) < len(strokes) else {}


def _is_rule(box: Box, digits: list[Box]) -> bool:
    """Whether a flat stroke runs below the middles of all these, or above two or more of them.

    What is above a single digit is the roof of a 5.
    """
    left, top, right, bottom = box
    lefts, tops, rights, bottoms = zip(*digits, strict=True)
    centres = [one[0] + one[2] for one in digits]
    if top > max(bottoms):
        return 2 * left <= min(centres) and 2 * right >= max(centres)
    return len(digits) > 1 and bottom < min(tops) and left < min(lefts) and right > max(rights)


def _doubts(
    predict: Predict, read: list[tuple["Prediction", list[np.ndarray]]], whole: dict[int, int]
) -> list[str]:
    """Why each digit of a line is withheld for what is around it; "" where nothing speaks against.

    read: from left to right. whole: of each part of a stroke that was cut, by its id, which stroke.
    """
    boxes = [_box(group) for _, group in read]
    doubts = [EXTRA if _has_extra(predict, *one) else "" for one in read]
    for k in range(1, len(read)):
        low, high = sorted(boxes[k - 1 : k + 1], key=lambda box: box[3] - box[1])
        tall = high[3] - high[1]
        if low[3] - low[1] < RAISED * tall and abs(low[3] - high[3]) > 0.35 * tall:
            doubts[k] = EXPONENT
    start = 0
    for end in range(1, len(read) + 1):
        run = read[start:end]
        left, top, right, bottom = _box(points for _, group in run for points in group)
        if end < len(read) and _touch(read[end - 1][1], read[end][1], bottom - top):
            continue
        weak = any(one.digit == 1 or one.confidence < SURE for one, _ in run)
        if len(run) > 1 and weak and right - left <= LETTER * (bottom - top):
            doubts[start:end] = [LIKE_LETTER] * len(run)
        start = end
    cut = [{whole[id(points)] for points in group if id(points) in whole} for _, group in read]
    for k in range(1, len(read)):
        if cut[k - 1] & cut[k]:
            doubts[k - 1 : k + 1] = JOINED, JOINED
    return doubts


def _has_extra(predict: Predict, whole: "Prediction", group: list[np.ndarray]) -> bool:
    """Whether a small curled stroke is a digit itself, and the others are ``whole`` without it.

    So is an exponent that hangs over its number; bars, roofs and slashes are straight.
    """
    height = np.ptp(np.concatenate(group)[:, 1])
    for k, points in enumerate(group if len(group) > 1 else ()):
        x, y = points[-1] - points[0]
        curled = _along(points)[-1] > 2 * np.sqrt(x * x + y * y)
        small = POINT * height < np.ptp(points[:, 1]) < RAISED * height
        if curled and small and predict([points]).accepted:
            rest = predict(group[:k] + group[k + 1 :])
            if rest.accepted and rest.digit == whole.digit:
                return True
    return False


def _touch(a: Sequence[np.ndarray], b: Sequence[np.ndarray], height: float) -> bool:
    """Whether strokes come as near to others as ``TOUCH`` of the height, in pixels."""

    def points(strokes: Sequence[np.ndarray]) -> np.ndarray:
        length = np.cumsum([_along(one)[-1] for one in strokes])[-1]
        step = max(height / 20, length / 500)  # a scribble is looked at coarsely
        return np.concatenate([_even(one, step) for one in strokes])

    apart = ((points(a)[:, None] - points(b)) ** 2).sum(-1).min()
    return bool(apart < (TOUCH * height) ** 2)


def _best_groups(
    predict: Predict, pieces: list[np.ndarray]
) -> tuple[float, list[list[np.ndarray]]]:
    """The best way to part strokes into digits, with its score."""
    if len(pieces) > MOST_PIECES:
        return 0.0, [pieces]

    def evidence(group: list[int]) -> float:
        answer = predict([pieces[k] for k in group])
        refused = REFUSED_WEIGHT * (answer.reason == "not a digit")
        return confidence_score(answer.confidence) + refused - 100 * _torn(boxes[group])

    boxes = np.array([[*points.min(0), *points.max(0)] for points in pieces])
    score, groups = group_boxes(boxes, evidence)
    return score, [[pieces[k] for k in group] for group in groups]


def _torn(group: np.ndarray) -> bool:
    """Whether boxes (n, 4) have something small, and no flat line, beside all else: no one digit.

    So are an exponent and a digit a quarter as tall. The roof of a 5 is flat.
    """
    group = group[np.argsort(group[:, 0])]
    height = np.ptp(group[:, 1::2])
    for k in np.flatnonzero(_gaps(group) > APART * height) + 1:
        for side in (group[:k], group[k:]):
            wide, tall = np.ptp(side[:, ::2]), np.ptp(side[:, 1::2])
            if tall < SMALL * height and 3 * tall > wide:
                return True
    return False


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
    boxes = boxes[np.argsort(boxes[:, 0])]
    starts = np.flatnonzero(np.append(True, _gaps(boxes) > 0))
    low = np.minimum.reduceat(boxes[:, :2], starts)
    widths, heights = (np.maximum.reduceat(boxes[:, 2:], starts) - low).T
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
    side at the same height, as those of two digits do, and not one in the middle of the other, as a
    slash in its zero; number of joins.
    """
    left, top, right, bottom = group.T
    width, tall = right.max() - left.min(), bottom.max() - top.min()
    beside = 0.0
    for k in range(1, len(group)):  # of the height that two strokes span, how much both have
        shared = np.minimum(bottom[k], bottom[:k]) - np.maximum(top[k], top[:k])
        spanned = np.maximum(bottom[k], bottom[:k]) - np.minimum(top[k], top[:k])
        away = np.abs(left[k] + right[k] - left[:k] - right[:k])
        inside = 2 * away <= np.maximum(right[k] - left[k], right[:k] - left[:k])
        shared = np.where(inside, 0.0, np.maximum(shared, 0.0))
        beside += (shared / np.maximum(spanned, 1e-9)).max()
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
    path = _even(points, max(extent) / 100)
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


def _along(points: np.ndarray) -> np.ndarray:
    """How far along its path each point (n, 2) is, (n,)."""
    lengths = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))  # as in a browser, to the bit
    return np.concatenate([[0], np.cumsum(lengths)])


def _even(points: np.ndarray, step: float) -> np.ndarray:
    """The same path (n, 2) with a point every ``step`` pixels."""
    along = _along(points)
    even = np.linspace(0, along[-1], min(int(along[-1] / max(step, 1e-3)) + 2, 2000))
    return np.column_stack([np.interp(even, along, points[:, axis]) for axis in (0, 1)])

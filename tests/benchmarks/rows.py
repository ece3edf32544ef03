"""Numbers written across the pad: rows generated from real pen digits, read by ``Recognizer.read_strokes``.

    python tests/benchmarks/rows.py                      rows of the test writers, and every single pen digit
    python tests/benchmarks/rows.py --split tra          the same for the training writers, for development
    python tests/benchmarks/rows.py --split tra --only "what else is drawn"     what is no row of digits of one size
    python tests/benchmarks/rows.py --fit                weights for ``segmentation``, from the training writers

Rows are made of one writer's digits, with uneven sizes, base line and slope, gaps from wide to overlapping, and as an
extra test with a stroke that runs from one digit into the next. Needs the pen digits (see ``data.load_pen_digits``).
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import layouts
import numpy as np
from scipy.optimize import minimize

from digits import data
from digits.evaluation import proportion
from digits.recognizer import Recognizer, ink, segmentation

GAPS = (0.4, 0.25, 0.15, 0.08, 0.0, -0.08)  # of a digit's height; negative: they overlap
MARGIN = 15  # pixels of the pad
ELSE = "what else is drawn"


@dataclass(frozen=True)
class Row:
    """A number as someone could write it across the pad."""

    strokes: list[np.ndarray]  # (n, 2) canvas pixels
    owners: list[int]  # of each stroke: the digit it belongs to, counted from the left
    text: str
    gap: float
    joined: bool = False  # whether the pen stayed down between digits


def pen_digits_by_writer(split: str) -> dict[int, list[data.PenDigit]]:
    writers = defaultdict(list)
    for digit in data.load_pen_digits(split):
        writers[digit.writer].append(digit)
    return dict(writers)


def row_of(
    digits: list[data.PenDigit], gap: float, rng: np.random.Generator, joined: bool = False
) -> Row:
    """Digits side by side at about the same height, somewhere on the pad."""
    strokes, owners, x = [], [], 0.0
    slope = np.tan(np.radians(rng.uniform(-8, 8)))
    for number, digit in enumerate(digits):
        points = np.concatenate(digit.strokes)
        low, high = points.min(0), points.max(0)
        scale = rng.uniform(0.8, 1.2) / max(high[1] - low[1], 0.6 * (high[0] - low[0]))
        x += (gap + rng.uniform(-0.04, 0.04)) * bool(number)
        lift = rng.uniform(-0.1, 0.1) + slope * x - (high[1] - low[1]) * scale / 2
        strokes += [(stroke - low) * scale + (x, lift) for stroke in digit.strokes]
        owners += [number] * len(digit.strokes)
        x += (high[0] - low[0]) * scale
    if joined:
        strokes, owners = join(strokes, owners)
    return Row(
        _placed(strokes, rng), owners, "".join(str(digit.label) for digit in digits), gap, joined
    )


def join(strokes: list[np.ndarray], owners: list[int]) -> tuple[list[np.ndarray], list[int]]:
    """The pen stays down between the first digit's last stroke and the second's first."""
    last = owners.index(1) - 1
    a, b = strokes[last], strokes[last + 1]
    between = np.linspace(a[-1], b[0], 8)[1:-1]
    return strokes[:last] + [np.concatenate([a, between, b])] + strokes[last + 2 :], owners[
        : last + 1
    ] + owners[last + 2 :]


def _placed(strokes: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    points = np.concatenate(strokes)
    low, extent = points.min(0), np.ptp(points, axis=0)
    room = ink.CANVAS - 2 * MARGIN
    scale = min(room / max(extent[0], 1e-6), rng.uniform(0.3, 0.8) * ink.CANVAS / extent[1])
    corner = MARGIN + rng.uniform(0, 1, 2) * np.maximum(room - extent * scale, 0)
    return [((stroke - low) * scale + corner).astype(np.float32) for stroke in strokes]


def make_rows(
    split: str, n: int, seed: int, lengths=(1, 2, 3, 4), joined: bool = False
) -> list[Row]:
    """``n`` rows, lengths and gaps in turn, each by one writer drawn at random."""
    rng, writers = np.random.default_rng(seed), pen_digits_by_writer(split)
    names, rows = sorted(writers), []
    for k in range(n):
        own = writers[names[rng.integers(len(names))]]
        length, gap = lengths[k % len(lengths)], GAPS[k // len(lengths) % len(GAPS)]
        rows.append(row_of([own[i] for i in rng.integers(len(own), size=length)], gap, rng, joined))
    return rows


def singles(split: str) -> list[Row]:
    """Every pen digit alone, where it was written on the tablet."""
    return [
        Row(
            [stroke * (ink.CANVAS / 500) for stroke in digit.strokes],
            [0] * len(digit.strokes),
            str(digit.label),
            0,
        )
        for digit in data.load_pen_digits(split)
    ]


# Measuring


def measure(recognizer: Recognizer, rows: list[Row], key) -> dict:
    """Exact numbers, right groupings and, as the bound, digits read one by one as they were written, per ``key(row)``."""
    exact, counted, bound, seconds = (defaultdict(list) for _ in range(4))
    for row in rows:
        answer = recognizer.read_strokes(row.strokes)
        seconds[key(row)].append(answer.seconds)
        exact[key(row)].append(answer.text == row.text)
        counted[key(row)].append(len(answer.parts) == len(row.text))
        if not row.joined:
            groups = [
                [s for s, owner in zip(row.strokes, row.owners, strict=True) if owner == k]
                for k in range(len(row.text))
            ]
            alone = "".join(str(recognizer.predict_strokes(group).digit) for group in groups)
            bound[key(row)].append(alone == row.text)
    return {
        str(k): {
            "exact": proportion(sum(exact[k]), len(exact[k])),
            "right_number_of_digits": proportion(sum(counted[k]), len(counted[k])),
            **({"read_one_by_one": proportion(sum(bound[k]), len(bound[k]))} if bound[k] else {}),
            "milliseconds_median": 1000 * float(np.median(seconds[k])),
            "milliseconds_p95": 1000 * float(np.quantile(seconds[k], 0.95)),
        }
        for k in sorted(exact)
    }


def report(recognizer: Recognizer, split: str, n: int, seed: int, only: str | None = None) -> dict:
    if only:
        return {ELSE: what_else(recognizer, split, seed)}
    rows = make_rows(split, n, seed)
    joined = make_rows(split, n // 4, seed + 1, lengths=(2, 3), joined=True)
    return {
        "by_length": measure(recognizer, rows, lambda row: len(row.text)),
        "by_gap": measure(
            recognizer, [row for row in rows if len(row.text) > 1], lambda row: row.gap
        ),
        "one_stroke_through_two": measure(recognizer, joined, lambda row: len(row.text)),
        "single_pen_digits": measure(recognizer, singles(split), lambda row: "all"),
        ELSE: what_else(recognizer, split, seed),
    }


TARGETS = {  # of issue 17: counts of as many as are drawn
    "two lines of one digit": "right >= 180, wrong <= 4",
    "letters and symbols": "wrong <= 30",
}


def what_else(recognizer: Recognizer, split: str, seed: int) -> dict:
    """Lines, small digits, signs and letters: answered right, withheld, and wrong without a warning.

    What is no number (an exponent, a sign, a letter) has no right answer: it is to be withheld.
    """
    rng, writers = np.random.default_rng(seed), pen_digits_by_writer(split)
    names, drawn = sorted(writers), defaultdict(list)
    for kind, (n, make) in layouts.KINDS.items():
        for _ in range(n):
            own = writers[names[rng.integers(len(names))]]
            strokes, text = make([own[i] for i in rng.integers(len(own), size=6)], rng)
            drawn[kind].append((_placed(strokes, rng), text))
    for kind, glyphs in (
        ("letters and symbols", layouts.LETTERS | layouts.SYMBOLS),
        ("letters like digits", layouts.LIKE_DIGITS),
    ):
        drawn[kind] = [(strokes, "") for _, strokes in layouts.characters(glyphs, 8, seed)]
    result = {}
    for kind, cases in drawn.items():
        answers = [(recognizer.read_strokes(strokes), text) for strokes, text in cases]
        accepted, n = [(a.text, text) for a, text in answers if a.accepted], len(cases)
        right = sum(read == text for read, text in accepted)
        result[kind] = {
            "right": proportion(right, n),
            "withheld": proportion(n - len(accepted), n),
            "wrong": proportion(len(accepted) - right, n),
            "text_right": proportion(sum(a.text == text for a, text in answers), n),
            "target": TARGETS.get(kind, ""),
        }
    return result


# Fitting


def lattice(recognizer: Recognizer, row: Row) -> tuple[np.ndarray, int] | None:
    """Features of every partition (m, 7) and which is right; None when there is nothing to choose."""
    boxes = np.array([[*stroke.min(0), *stroke.max(0)] for stroke in row.strokes], float)
    order, boxes, height = segmentation.arrange(boxes)
    owners = [row.owners[k] for k in order]
    values = {}
    for i, j, _ in segmentation.candidates(boxes, height):
        answer = recognizer.predict_strokes([row.strokes[k] for k in order[i:j]])
        sure = np.log(max(answer.confidence, 0.1)), answer.reason == "not a digit"
        values[i, j] = np.r_[segmentation.features(boxes[i:j], height), sure]
    partitions = list(_partitions(values, len(owners)))
    right = [
        k
        for k, groups in enumerate(partitions)
        if all(len(set(owners[i:j])) == 1 for i, j in groups) and len(groups) == len(set(owners))
    ]
    if len(partitions) < 2 or not right:
        return None
    return np.array([sum(values[group] for group in groups) for groups in partitions]), right[0]


def _partitions(values: dict, n: int, start: int = 0):
    if start == n:
        yield ()
        return
    for end in range(start + 1, n + 1):
        if (start, end) in values:
            for rest in _partitions(values, n, end):
                yield ((start, end), *rest)


def fit(recognizer: Recognizer, rows: list[Row], ridge: float = 0.02) -> np.ndarray:
    """Weights (7,) by maximum conditional likelihood of the right partition."""
    segmentation.HOPELESS = np.inf  # nothing is left out that today's weights would not choose
    cases = [case for row in rows if len(row.strokes) > 1 and (case := lattice(recognizer, row))]
    print(f"{len(cases):,} rows with a choice")

    def loss(weights):
        value, gradient = ridge * weights @ weights, 2 * ridge * weights
        for features, right in cases:
            scores = features @ weights
            top = scores.max()
            chances = np.exp(scores - top)
            value -= scores[right] - top - np.log(chances.sum())
            gradient = gradient - features[right] + chances @ features / chances.sum()
        return value, gradient

    return minimize(loss, np.zeros(7), jac=True, method="L-BFGS-B").x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["tra", "tes"], default="tes")
    parser.add_argument("--rows", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--run", default="reference")
    parser.add_argument("--only", choices=[ELSE], help="this table alone")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recognizer = Recognizer.load(run=options.run)
    if options.fit:
        rows = make_rows("tra", options.rows, options.seed) + singles("tra")
        print(np.round(fit(recognizer, rows), 1))
        return
    result = {
        "split": options.split,
        "seed": options.seed,
        "model_sha256": recognizer.sha256,
        **report(recognizer, options.split, options.rows, options.seed, options.only),
    }
    for title, table in (
        (title, table) for title, table in result.items() if isinstance(table, dict)
    ):
        print(title)
        for key, values in table.items():
            print(f"  {key:30}", "  ".join(_shown(name, value) for name, value in values.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _shown(name: str, value) -> str:
    if isinstance(value, dict):
        low, high = value["interval"]
        return (
            f"{name} {value['count']}/{value['n']} = {value['share']:.2%} ({low:.2%} to {high:.2%})"
        )
    return f"{name} {value}" if isinstance(value, str) else f"{name} {value:.1f}"


if __name__ == "__main__":
    main()

"""What else is drawn on the pad: rows in two lines, small digits, signs between digits, and letters.

Digits are one pen writer's; letters and symbols are strokes of our own, in no font and in no training.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.interpolate import CubicSpline

from digits.data import PenDigit

Strokes = list[np.ndarray]

# Lines "xy xy …" on a grid of 4 by 6, y downwards, run together where they meet when the pen stays down; ~ is a curve.
LETTERS = {
    "A": "0620 2046 1434", "C": "~4120032645", "E": "0006 0040 0333 0646", "F": "0006 0040 0333",
    "H": "0006 4046 0343", "K": "0006 4003 0346", "L": "0006 0646", "M": "0600 0024 2440 4046",
    "N": "0600 0046 4640", "P": "0006 ~0030413303", "R": "0006 ~0030413303 0346",
    "U": "~0004264440", "V": "0026 2640", "W": "0016 1622 2236 3640", "X": "0046 4006",
    "a": "~4322042644 4246", "d": "~4322042644 4046", "e": "~04444322042645",
    "f": "~41302126 0343", "h": "0006 ~04224446", "k": "0006 4204 0446",
    "m": "0206 ~04122426 ~24324446", "n": "0206 ~04224446", "p": "0208 ~0322442605",
    "u": "~0205264442 4246", "v": "0226 2642", "w": "0216 1623 2336 3642", "x": "0246 4206",
}  # fmt: skip
SYMBOLS = {
    "#": "1016 3036 0242 0444", "%": "4006 ~1001122110 ~3425364534", "&": "~46122031041644",
    "@": "~332213243334444220032645", "*": "2026 0145 4105", "+": "2125 0343", "=": "0242 0444",
    "<": "4103 0345", ">": "0143 4305", "~": "~0312233443", "π": "0141 1116 3136",
}  # fmt: skip
LIKE_DIGITS = {  # to the eye, alone or (B as 13) in two pieces
    "B": "0006 ~0030413303 ~0334453606", "D": "0006 ~003042453606", "G": "~4120032645 4543 4323",
    "I": "2026", "J": "~4044261604", "O": "~2003264320", "Q": "~2003264320 3446",
    "S": "~41200123452605", "T": "0040 2026", "Y": "0023 4023 2326", "Z": "0040 4006 0646",
    "b": "0006 ~0422442605", "c": "~4322042645", "g": "~4322042644 ~42472807", "i": "2226 2020",
    "j": "~22271807 2020", "l": "2026", "o": "~2204264422", "q": "~4322042644 4248",
    "r": "0206 ~041242", "s": "~4322133435 2605", "t": "2026 0242", "y": "0224 4217",
    "z": "0242 4206 0646",
}  # fmt: skip


def letter(lines: str, rng: np.random.Generator) -> Strokes:
    """One character by an unsteady hand, slanted and stretched, of any size on the pad of 280."""
    pieces: Strokes = []
    for line in lines.split():
        points = np.array([int(value) for value in line.strip("~")], float).reshape(-1, 2)
        if line[0] == "~":
            at = np.arange(len(points))
            points = CubicSpline(at, points)(np.linspace(0, at[-1], 8 * len(points)))
        if pieces and (pieces[-1][-1] == points[0]).all() and rng.random() < 0.5:
            pieces[-1] = np.concatenate([pieces[-1], points[1:]])
        else:
            pieces.append(points)
    pieces = [piece + rng.normal(0, 0.12, 2) for piece in pieces]  # where the pen comes down
    size, slant, turn = rng.uniform(60, 200) / 6, rng.normal(0, 0.12), rng.normal(0, 0.06)
    matrix = [[rng.uniform(0.8, 1.1), -slant], [turn, rng.uniform(0.9, 1.1)]] @ (np.eye(2) * size)
    found = []
    for piece in pieces:
        steps = np.r_[0, np.hypot(*np.diff(piece, axis=0).T).cumsum()]
        even = np.linspace(0, steps[-1], max(int(steps[-1] * size / 4), 2))
        path = np.column_stack([np.interp(even, steps, piece[:, axis]) for axis in (0, 1)])
        bend = rng.normal(0, 0.08, 2) * np.sin(np.linspace(0, np.pi, len(path)))[:, None]
        found.append((path + bend + rng.normal(0, 0.02, path.shape)) @ matrix.T)
    points = np.concatenate(found)
    low, extent = points.min(0), np.ptp(points, axis=0)
    scale = min(1, 250 / extent.max())
    corner = rng.uniform(10, np.maximum(270 - extent * scale, 11))
    return [((stroke - low) * scale + corner).astype(np.float32) for stroke in found]


def characters(glyphs: dict[str, str], each: int, seed: int) -> Iterator[tuple[str, Strokes]]:
    """``each`` drawings of every character."""
    rng = np.random.default_rng(seed)
    return ((name, letter(lines, rng)) for name, lines in glyphs.items() for _ in range(each))


# --- Layouts of digits: a digit's height is 1 ---------------------------------------------------


def scaled(digit: PenDigit, height: float) -> Strokes:
    """A digit of this height with its upper left corner at 0."""
    points = np.concatenate(digit.strokes)
    low, extent = points.min(0), np.ptp(points, axis=0)
    scale = height / max(extent[1], 0.6 * extent[0])
    return [(stroke - low) * scale for stroke in digit.strokes]


def beside(pieces: list[Strokes], gap: float, rng, bottoms: list[float]) -> Strokes:
    """From left to right; ``bottoms``: where each ends, y downwards, the line being at 0."""
    found, x = [], 0.0
    for piece, bottom in zip(pieces, bottoms, strict=True):
        low = max(stroke[:, 1].max() for stroke in piece)
        found += [stroke + (x, bottom - low + rng.uniform(-0.05, 0.05)) for stroke in piece]
        x = max(stroke[:, 0].max() for stroke in found) + gap + rng.uniform(-0.04, 0.04)
    return found


def line_of(digits: list[PenDigit], rng: np.random.Generator) -> Strokes:
    pieces = [scaled(digit, rng.uniform(0.85, 1.15)) for digit in digits]
    return beside(pieces, rng.choice([0.15, 0.25, 0.4]), rng, [0.0] * len(digits))


def two_lines(n: int, digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    """``n`` digits above ``n`` others, the lines apart by 0.15 to 0.6 of a height."""
    upper, lower = line_of(digits[:n], rng), line_of(digits[n : 2 * n], rng)
    gap = rng.uniform(0.15, 0.6) - min(stroke[:, 1].min() for stroke in lower)
    gap += max(stroke[:, 1].max() for stroke in upper)
    shift = rng.uniform(-0.15, 0.15), gap
    labels = [str(digit.label) for digit in digits]
    return upper + [s + shift for s in lower], "\n".join(
        ["".join(labels[:n]), "".join(labels[n : 2 * n])]
    )


def small_second(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    """A digit and one a quarter as tall, on the line."""
    pieces = [scaled(digits[0], 1), scaled(digits[1], rng.uniform(0.2, 0.3))]
    return beside(pieces, 0.15, rng, [0, 0]), f"{digits[0].label}{digits[1].label}"


def exponent(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    """A digit and a raised one: no number of two digits."""
    pieces = [scaled(digits[0], 1), scaled(digits[1], rng.uniform(0.3, 0.5))]
    return beside(pieces, 0.1, rng, [0, -rng.uniform(0.65, 0.9)]), ""


def _sign(points: list[tuple[float, float]], rng) -> Strokes:
    corners = np.array(points) + rng.normal(0, 0.02, (len(points), 2))
    return [np.linspace(corners[0], corners[-1], 12) + rng.normal(0, 0.004, (12, 2))]


def minus(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    pieces = [_sign([(0, 0), (rng.uniform(0.35, 0.7), 0)], rng)]
    pieces += [scaled(digit, rng.uniform(0.85, 1.15)) for digit in digits[:2]]
    text = "".join(str(digit.label) for digit in digits[:2])
    return beside(pieces, 0.2, rng, [-rng.uniform(0.4, 0.6), 0, 0]), f"-{text}"


def comma(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    pieces = [scaled(digit, rng.uniform(0.85, 1.15)) for digit in digits[:2]]
    pieces.insert(1, _sign([(0.08, 0), (0, rng.uniform(0.15, 0.3))], rng))
    text = f"{digits[0].label},{digits[1].label}"
    return beside(pieces, 0.12, rng, [0, rng.uniform(0.05, 0.2), 0]), text


def point(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    pieces = [scaled(digit, rng.uniform(0.85, 1.15)) for digit in digits[:2]]
    pieces.insert(1, [rng.uniform(0, 0.08, (6, 2)).cumsum(0) % 0.08])
    text = f"{digits[0].label}.{digits[1].label}"
    return beside(pieces, 0.12, rng, [0, 0, 0]), text


def underline(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    strokes = line_of(digits[:2], rng)
    points = np.concatenate(strokes)
    (left, _), (right, low) = points.min(0), points.max(0)
    rule = _sign([(left - rng.uniform(-0.05, 0.15), 0), (right + rng.uniform(-0.05, 0.15), 0)], rng)
    rule = [stroke + (0, low + rng.uniform(0.1, 0.3)) for stroke in rule]
    return strokes + rule, "".join(str(digit.label) for digit in digits[:2])


def slash(digits: list[PenDigit], rng) -> tuple[Strokes, str]:
    pieces = [scaled(digit, rng.uniform(0.85, 1.15)) for digit in digits[:2]]
    pieces.insert(1, _sign([(rng.uniform(0.55, 0.8), 0), (0, rng.uniform(1.1, 1.4))], rng))
    text = f"{digits[0].label}/{digits[1].label}"
    return beside(pieces, 0.12, rng, [0, rng.uniform(0.05, 0.2), 0]), text


KINDS: dict[str, tuple[int, Callable]] = {  # how many are drawn, and how
    "two lines of one digit": (200, lambda digits, rng: two_lines(1, digits, rng)),
    "two lines of two": (100, lambda digits, rng: two_lines(2, digits, rng)),
    "two lines of three": (100, lambda digits, rng: two_lines(3, digits, rng)),
    "second digit a quarter as tall": (150, small_second),
    "exponent": (150, exponent),
    "minus": (100, minus),
    "comma": (100, comma),
    "point": (100, point),
    "slash": (100, slash),
    "underlined": (100, underline),
}

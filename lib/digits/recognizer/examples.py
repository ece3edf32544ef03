"""Drawn examples for the app's gallery: ink that we made ourselves, taken from no data set.

Each digit is a few points that a smooth curve (Catmull-Rom) runs through, drawn again with a slight, seeded tremor, size
and slant, so that it looks like a hand's and is the same on every computer.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from digits.recognizer import ink
from digits.recognizer.segmentation import even_steps

CELL = (100, 140)  # width and height of the grid that the points below lie on
STEP = 4.0  # pixels between the points of a finished stroke: what a moving mouse reports
TREMOR = 1.3  # pixels: how far the hand strays
CORNER = None  # between two points of a stroke: the pen turns sharply at the first

# Name -> strokes -> points on the grid.
GLYPHS = {
    "0": [[(62, 14), (30, 26), (14, 68), (28, 118), (56, 126), (82, 98), (86, 52), (70, 20), (54, 12)]],
    "0-slashed": [
        [(56, 10), (24, 30), (14, 72), (30, 120), (56, 128), (82, 102), (86, 56), (72, 20), (50, 10)],
        [(92, 12), (10, 130)],
    ],
    "0-open": [[(70, 20), (42, 12), (18, 42), (16, 92), (38, 128), (68, 118), (86, 80), (84, 44), (76, 28)]],
    "0-flat": [[(50, 42), (16, 52), (2, 78), (18, 102), (54, 108), (92, 94), (100, 66), (78, 44), (48, 42)]],
    "1": [[(56, 8), (52, 70), (50, 132)]],
    "1-flag": [[(18, 52), (40, 34), (60, 8), CORNER, (58, 70), (56, 132)]],
    "1-flag-foot": [[(26, 38), (54, 8), CORNER, (54, 128)], [(26, 129), (84, 127)]],
    "1-slanted": [[(76, 8), (54, 66), (28, 132)]],
    "2": [[(20, 38), (34, 14), (62, 10), (80, 32), (70, 66), (42, 100), (16, 128), CORNER, (52, 124), (90, 126)]],
    "2-loop": [[(20, 40), (32, 14), (60, 8), (80, 30), (68, 72), (38, 114), (16, 122), (18, 104), (40, 108), (64, 126),
                (92, 116)]],
    "2-swan": [[(14, 48), (26, 16), (56, 8), (76, 30), (64, 74), (34, 112), (8, 128), (50, 118), (70, 128), (94, 120)]],
    "3": [[(20, 26), (46, 8), (74, 22), (72, 48), (44, 64), CORNER, (74, 74), (84, 102), (60, 128), (32, 126), (14, 110)]],
    "3-flat": [[(16, 14), (82, 12), CORNER, (44, 58), CORNER, (74, 70), (84, 98), (62, 126), (34, 128), (14, 114)]],
    "4": [[(34, 10), (26, 50), (14, 86), CORNER, (50, 84), (92, 82)], [(68, 44), (64, 90), (62, 134)]],
    "4-closed": [[(70, 134), (70, 70), (68, 8), CORNER, (42, 50), (8, 92), CORNER, (50, 90), (96, 90)]],
    "4-hooked": [[(24, 12), (18, 50), (30, 72), (60, 68), (78, 52)], [(80, 10), (78, 70), (68, 134)]],
    "5": [[(32, 16), (28, 44), (24, 62), CORNER, (54, 54), (80, 72), (78, 106), (52, 128), (16, 120)], [(32, 14), (82, 12)]],
    "5-hooked": [[(84, 10), (58, 14), (36, 12), CORNER, (30, 56), CORNER, (62, 54), (84, 80), (74, 116), (44, 130), (14, 118)]],
    "5-round": [[(88, 14), (56, 8), (34, 22), (32, 48), (56, 62), (80, 80), (82, 108), (56, 130), (20, 122)]],
    "6": [[(70, 8), (38, 40), (20, 86), (30, 122), (58, 128), (78, 104), (64, 78), (38, 82), (22, 104)]],
    "6-curled": [[(82, 26), (62, 8), (34, 30), (18, 78), (26, 120), (56, 130), (80, 108), (72, 80), (46, 74), (24, 94)]],
    "7": [[(14, 16), (50, 14), (86, 12), CORNER, (64, 66), (44, 132)]],
    "7-crossed": [[(14, 18), (50, 14), (88, 14), CORNER, (64, 70), (46, 134)], [(34, 74), (60, 72), (88, 70)]],
    "7-serif": [[(14, 34), (16, 16), CORNER, (52, 18), (88, 14), CORNER, (60, 62), (48, 132)]],
    "8": [[(74, 28), (52, 8), (26, 22), (32, 50), (60, 72), (80, 100), (62, 128), (32, 126), (20, 102), (38, 76), (66, 52),
           (76, 28)]],
    "8-snowman": [
        [(52, 10), (28, 22), (28, 50), (52, 62), (74, 48), (74, 20), (50, 10)],
        [(50, 64), (20, 78), (16, 112), (50, 130), (82, 114), (82, 80), (50, 64)],
    ],
    "9": [[(78, 34), (56, 10), (28, 22), (22, 52), (44, 70), (72, 52), (80, 26), CORNER, (74, 80), (66, 132)]],
    "9-curled": [[(78, 36), (58, 10), (28, 20), (20, 50), (44, 68), (74, 50), (80, 24), CORNER, (82, 84), (62, 126), (34, 128),
                  (18, 112)]],
    "letter-a": [[(8, 132), (30, 68), (50, 8), CORNER, (72, 70), (94, 132)], [(24, 88), (78, 86)]],
    "letter-e": [[(84, 16), (20, 16), CORNER, (20, 126), CORNER, (86, 126)], [(20, 70), (72, 68)]],
    "plus": [[(50, 20), (50, 120)], [(4, 70), (96, 70)]],
    "wave": [[(0, 70), (14, 40), (28, 70), (42, 100), (56, 70), (70, 40), (84, 70), (98, 100)]],
    "star": [[(20, 126), (50, 10), CORNER, (80, 126), CORNER, (4, 54), CORNER, (96, 52), CORNER, (22, 124)]],
    "heart": [[(50, 46), (34, 18), (8, 30), (12, 70), (50, 124), CORNER, (88, 72), (94, 30), (68, 16), (50, 44)]],
    "scribble": [[(4, 70), (30, 20), (22, 110), (52, 16), (44, 126), (72, 22), (62, 118), (92, 30), (84, 100), (18, 44),
                  (88, 72), (10, 96), (70, 40), (36, 130), (50, 60)]],
    "spiral": [[(54, 72), (48, 66), (42, 74), (50, 86), (66, 80), (66, 58), (48, 48), (28, 60), (26, 88), (48, 106), (76, 98),
                (88, 68), (76, 36), (46, 26), (14, 44)]],
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One drawing of the gallery."""

    name: str  # for addresses and tests, unique
    title: str  # for people
    style: str  # "American", "European", "by hand", "number" or "no digit"
    expected: str | None  # what it shows; None when it is no digit
    strokes: tuple[
        np.ndarray, ...
    ]  # (n, 2) float each, pixels of a 280 canvas, y downwards, points evenly spaced


def curve(points: list) -> np.ndarray:
    """A smooth curve through ``points`` with its corners kept, (n, 2), densely sampled.

    Catmull and Rom, A class of local interpolating splines, 1974; uniform, with a free start and end.
    """
    parts: list[np.ndarray] = []
    part: list = []
    for point in [*points, CORNER]:
        if point is CORNER:
            parts.append(_smooth(np.array(part, float)))
            part = part[-1:]
        else:
            part.append(point)
    return np.concatenate(parts)


def _smooth(points: np.ndarray) -> np.ndarray:
    tangents = np.gradient(points, axis=0)
    t = np.linspace(0, 1, 24)[:, None]
    before, after = 2 * t**3 - 3 * t**2 + 1, 3 * t**2 - 2 * t**3  # Hermite's basis
    rising, falling = t**3 - 2 * t**2 + t, t**3 - t**2
    return np.concatenate([
        before * a + after * b + rising * u + falling * v
        for a, b, u, v in zip(points[:-1], points[1:], tangents[:-1], tangents[1:], strict=True)
    ])  # fmt: skip


def tremble(path: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A hand's version of ``path`` (n, 2): slow drifts of about ``strength`` pixels with random phases, never jagged."""
    along = np.arange(len(path)) * STEP
    drift = np.zeros_like(path)
    for length in (180, 75, 32):  # pixels of path that one swing takes
        phases = rng.uniform(0, 2 * np.pi, 2)
        drift += (
            strength * (length / 180) ** 0.6 * np.sin(2 * np.pi * along[:, None] / length + phases)
        )
    return path + drift


def draw(
    glyph: str, centre: tuple[float, float], height: float, seed: int, tremor: float = TREMOR
) -> list[np.ndarray]:
    """The strokes of ``GLYPHS[glyph]``, ``height`` pixels tall around ``centre``, as the hand ``seed`` draws them."""
    rng = np.random.default_rng([seed, crc32(glyph.encode())])
    scale = height / CELL[1]
    slant, stretch = rng.normal(0, 0.05), rng.normal(1, 0.04)
    strokes = []
    for points in GLYPHS[glyph]:
        path = (curve(points) - np.array(CELL) / 2) * (scale * stretch, scale)
        path[:, 0] -= slant * path[:, 1]
        strokes.append(tremble(even_steps(path + centre, STEP), rng, tremor * min(height / 200, 1)))
    return strokes


def _single(
    glyph: str,
    title: str,
    style: str,
    expected: str | None,
    tremor: float = TREMOR,
    height: float = 200,
) -> Example:
    middle = ink.CANVAS / 2
    return Example(
        glyph, title, style, expected, tuple(draw(glyph, (middle, middle), height, 1, tremor))
    )


def _number(name: str, title: str, glyphs: list[str], height: float, spacing: float) -> Example:
    """Glyphs side by side, ``spacing`` pixels from middle to middle."""
    first = ink.CANVAS / 2 - spacing * (len(glyphs) - 1) / 2
    strokes = [
        stroke
        for k, glyph in enumerate(glyphs)
        for stroke in draw(glyph, (first + k * spacing, ink.CANVAS / 2 + (-1) ** k * 4), height, k)
    ]
    return Example(name, title, "number", "".join(glyph[0] for glyph in glyphs), tuple(strokes))


EXAMPLES = (
    _single("0", "Zero", "American", "0"),
    _single("0-slashed", "Slashed zero", "European", "0"),
    _single("0-open", "Zero that does not close", "hard", "0", 2.5),
    _single("0-flat", "Wide zero", "hard", "0"),
    _single("1", "One", "American", "1"),
    _single("1-flag", "One with a flag", "European", "1"),
    _single("1-flag-foot", "One with a flag and a foot", "European", "1"),
    _single("1-slanted", "Slanted one, small", "hard", "1", height=70),
    _single("2", "Two", "American", "2"),
    _single("2-loop", "Two with a loop", "American", "2"),
    _single("2-swan", "Two like a swan", "European", "2"),
    _single("3", "Three", "American", "3"),
    _single("3-flat", "Three with a flat top", "European", "3"),
    _single("4", "Open four", "American", "4"),
    _single("4-closed", "Closed four", "European", "4"),
    _single("4-hooked", "Hooked four", "hard", "4"),
    _single("5", "Five with a roof of its own", "American", "5"),
    _single("5-hooked", "Five in one stroke", "European", "5"),
    _single("5-round", "Round five", "hard", "5", 2.5),
    _single("6", "Six", "American", "6"),
    _single("6-curled", "Curled six", "European", "6"),
    _single("7", "Seven", "American", "7"),
    _single("7-crossed", "Crossed seven", "European", "7"),
    _single("7-serif", "Seven with a hook", "hard", "7"),
    _single("8", "Eight", "American", "8"),
    _single("8-snowman", "Eight like a snowman", "European", "8"),
    _single("9", "Nine", "American", "9"),
    _single("9-curled", "Curled nine", "European", "9"),
    _number("2026", "A year", ["2", "0", "2-loop", "6"], 92, 62),
    _number("1749", "A year with a crossed seven", ["1-flag", "7-crossed", "4", "9-curled"], 92, 64),
    _number("58", "Two digits that nearly touch", ["5", "8"], 150, 104),
    _single("letter-a", "The letter A", "no digit", None),
    _single("letter-e", "The letter E", "no digit", None),
    _single("plus", "A plus sign", "no digit", None),
    _single("wave", "A wave", "no digit", None),
    _single("star", "A star", "no digit", None),
    _single("heart", "A heart", "no digit", None),
    _single("scribble", "A scribble", "no digit", None),
    _single("spiral", "A spiral", "no digit", None),
)  # fmt: skip

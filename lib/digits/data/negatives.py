"""Ink that is no digit, generated: what the network must learn to refuse.

Scribbles, shapes, letters and symbols, several digits as one, and training digits turned or torn into nonsense. Letters
that are digits to the eye (O, I, l, S, Z, b, g, q and their like) are left out, and so is whatever might pass for a digit.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from scipy.interpolate import CubicSpline
from skimage.morphology import skeletonize

from digits.recognizer import ink

LETTERS = "ACEFHKLMNPRUVWXadefhkmnpuvwx"  # not: B b 8, D O o Q 0, G 6, g q y Y 4 9, I i j J l r t T 1 7, S s 5, Z z 2
SYMBOLS = "#%&@*+=<>{}~^€£♥★→←△◇♪ΣΩπλ≠≈±÷"
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono", "DejaVuSerif-Italic")
UNSEEN_FONTS = ("cmr10", "cmss10", "cmtt10", "STIXGeneral", "STIXGeneralItalic")  # for ``unseen``


# --- Strokes: lists of (n, 2) points on the 280-pixel canvas ----------------------------------------------------------


def _smooth(points: np.ndarray, n: int = 60) -> np.ndarray:
    """A smooth curve through ``points`` (m, 2)."""
    return CubicSpline(np.arange(len(points)), points)(np.linspace(0, len(points) - 1, n))


def _scribble(rng):
    """One or two strokes through random places: curved or jagged, too long for a digit."""
    strokes = []
    for _ in range(rng.integers(1, 3)):
        points = rng.uniform(30, 250, (rng.integers(7, 15), 2))
        strokes.append(_smooth(points) if rng.random() < 0.7 else points)
    return strokes


def _hatching(rng):
    """A pen that goes to and fro."""
    n = int(rng.integers(5, 12))
    along, across = (
        np.linspace(40, 240, n),
        np.where(np.arange(n) % 2, 1, -1) * rng.uniform(30, 100),
    )
    points = np.column_stack([along, 140 + across + rng.normal(0, 12, n)])
    points = points if rng.random() < 0.6 else _smooth(points)
    return [_turned(points, rng.uniform(0, 360))]


def _dashes(rng):
    """Lines that are no 1: level or slanting far, two or more of them, or crossing each other."""
    kind = rng.integers(4)
    half = rng.uniform(50, 100)
    line = np.array([[-half, 0], [half, 0]]) + 140
    if kind == 0:
        return [_turned(line + rng.normal(0, 4, (2, 2)), rng.uniform(-30, 30))]
    if kind == 1:  # parallel
        gap, n, angle = rng.uniform(35, 80), int(rng.integers(2, 5)), rng.uniform(0, 180)
        return [_turned(line + (0, gap * (k - (n - 1) / 2)), angle) for k in range(n)]
    if kind == 2:  # crossing in the middle: plus, x, star
        n, angle = int(rng.integers(2, 5)), rng.uniform(0, 180)
        return [_turned(line * 1.0 + rng.normal(0, 6, 2), angle + 180 * k / n) for k in range(n)]
    near, far = rng.uniform(85, 120, 2), rng.uniform(160, 195, 2)  # a grid
    return [_turned(np.array([[v, 35], [v, 245]]), 0) for v in (near[0], far[0])] + [
        np.array([[35, v], [245, v]]) for v in (near[1], far[1])
    ][: rng.integers(1, 3)]


def _spiral(rng):
    turns = np.linspace(0, 2 * np.pi * rng.uniform(1.8, 4.5), 120)
    radius = 100 * (turns / turns[-1]) ** rng.uniform(0.7, 1.4)
    sign = rng.choice((-1, 1))
    return [
        140
        + np.column_stack(
            [radius * np.cos(turns), sign * radius * np.sin(turns) * rng.uniform(0.6, 1)]
        )
    ]


def _loops(rng):
    """A pen that goes round and round on its way: coils, flowers."""
    t = np.linspace(0, 2 * np.pi * rng.integers(3, 7), 160)
    if rng.random() < 0.5:
        radius = rng.uniform(18, 45)
        return [
            _turned(
                np.column_stack(
                    [np.linspace(50, 230, 160) + radius * np.cos(t), 140 + radius * np.sin(t)]
                ),
                rng.uniform(0, 360),
            )
        ]
    petals, r = rng.integers(3, 7), 95
    turn = np.linspace(0, 2 * np.pi, 160)
    reach = r * (0.55 + 0.45 * np.cos(petals * turn))
    return [140 + np.column_stack([reach * np.cos(turn), reach * np.sin(turn)])]


def _wave(rng):
    x = np.linspace(-110, 110, 80)
    y = rng.uniform(20, 60) * np.sin(x / 220 * 2 * np.pi * rng.uniform(1.2, 4) + rng.uniform(0, 6))
    return [_turned(140 + np.column_stack([x, y]), rng.uniform(-30, 30))]


def _polygon(rng):
    """Triangles, stars, arrows, hearts, boxes with something in them, any corners joined."""
    kind = rng.integers(6)
    if kind == 0:
        corners = np.array([[-90, 80], [0, -90], [90, 80], [-90, 80]])
    elif kind == 1:
        angle = np.pi / 2 + np.arange(6) * 4 * np.pi / 5  # a star drawn in one go
        corners = 100 * np.column_stack([np.cos(angle), -np.sin(angle)])
    elif kind == 2:
        tip, angle = rng.uniform(30, 60), rng.uniform(0, 360)
        return [
            _turned(140 + np.array([[-100, 0], [100, 0]]), angle),
            _turned(140 + np.array([[100 - tip, -tip], [100, 0], [100 - tip, tip]]), angle),
        ]
    elif kind == 3:
        t = np.linspace(0, 2 * np.pi, 80)  # a heart
        corners = 6 * np.column_stack(
            [
                16 * np.sin(t) ** 3,
                -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)),
            ]
        )
    elif kind == 4:  # a box with a diagonal or a cross
        corners = np.array([[-80, -80], [80, -80], [80, 80], [-80, 80], [-80, -80], [80, 80]])
        if rng.random() < 0.5:
            return [_jittered(rng, corners), _jittered(rng, np.array([[80, -80], [-80, 80]]))]
    else:
        corners = rng.uniform(-100, 100, (rng.integers(5, 8), 2))
        corners = np.concatenate([corners, corners[:1]])
    return [_jittered(rng, corners)]


def _face(rng):
    t = np.linspace(0, 2 * np.pi, 60)
    head = 140 + 100 * np.column_stack([np.cos(t), np.sin(t)])
    eyes = [np.array([[x, rng.uniform(100, 120)]] * 2) + ((0, 0), (2, 8)) for x in (105, 175)]
    smile = 140 + rng.uniform(45, 60) * np.column_stack([np.cos(t[3:28]), np.sin(t[3:28])])
    return [head, *eyes, smile]


def _dots(rng):
    """Several taps."""
    return [
        rng.uniform(40, 240, (1, 2)) + rng.uniform(-2, 2, (2, 2)) for _ in range(rng.integers(2, 8))
    ]


def _jittered(rng, corners: np.ndarray) -> np.ndarray:
    return _turned(
        140 + corners * rng.uniform(0.7, 1, 2) + rng.normal(0, 6, corners.shape),
        rng.uniform(-25, 25),
    )


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """``points`` turned about the canvas's centre."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (np.asarray(points, float) - 140) @ turn.T + 140


DRAWN: tuple[Callable, ...] = (
    _scribble,
    _scribble,
    _hatching,
    _dashes,
    _dashes,
    _spiral,
    _loops,
    _wave,
    _polygon,
    _polygon,
    _face,
    _dots,
)


def _from_strokes(rng) -> np.ndarray:
    """A drawn non-digit as the app would show it to the network, with a pen of any width."""
    strokes = [
        stroke + rng.normal(0, 1.5, np.shape(stroke))
        for stroke in DRAWN[rng.integers(len(DRAWN))](rng)
    ]
    if rng.random() < 0.5:
        return ink.strokes_to_image([np.clip(stroke, 0, ink.CANVAS) for stroke in strokes])
    return ink.normalize(ink.rasterize(strokes, brush=rng.uniform(10, 40)))


# --- Letters and symbols ----------------------------------------------------------------------------------------------


@cache
def _fonts(names: tuple[str, ...]) -> tuple[FontProperties, ...]:
    folder = (
        Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    )  # they come with matplotlib: the same everywhere
    return tuple(FontProperties(fname=folder / f"{name}.ttf") for name in names)


@cache
def glyph(character: str, font: FontProperties, size: int = 80) -> np.ndarray | None:
    """``character`` as (n, m) uint8, light on dark, about ``size`` pixels; None when the font has no picture of it."""
    path = TextPath((0, 0), character, size=100, prop=font)
    if not len(path.vertices):
        return None
    polygons = path.to_polygons(closed_only=True)
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    scale = size / max((high - low).max(), 1e-6)
    moved = [np.round(((p - low) * scale + 4) * 16).astype(np.int32) for p in polygons]
    width, height = np.ceil((high - low) * scale + 8).astype(int)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, moved, 255, cv2.LINE_AA, 4)  # even-odd: holes stay open
    return canvas[::-1].copy()  # fonts count upwards


def letter(
    rng: np.random.Generator, fonts: tuple[str, ...] = FONTS, characters: str = LETTERS
) -> np.ndarray:
    """A character as (28, 28): as printed, or as its bare lines written with an even pen; slanted and bent a little."""
    picture = None
    while picture is None:  # some fonts lack some characters
        picture = glyph(
            characters[rng.integers(len(characters))], _fonts(fonts)[rng.integers(len(fonts))]
        )
    if rng.random() < 0.75:
        lines = skeletonize(np.pad(picture, 10) > 127).astype(np.uint8) * 255
        pen = int(rng.integers(5, 15))
        picture = cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
    height, width = picture.shape
    slant, stretch = rng.normal(0, 0.12), np.exp(rng.uniform(-0.25, 0.25, 2))
    matrix = np.array(
        [[stretch[0], slant, 20 - slant * height / 2], [rng.normal(0, 0.06), stretch[1], 20]]
    )
    moved = cv2.warpAffine(picture, matrix, (int(width * 1.4) + 60, int(height * 1.4) + 60))
    return ink.normalize(moved)


# --- From training digits ---------------------------------------------------------------------------------------------


def _row(rng, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Two or three digits side by side, as if they were one."""
    chosen = rng.integers(len(images), size=2 if rng.random() < 0.7 else 3)
    trimmed = [image[:, np.flatnonzero(image.max(0) > 0.2)] for image in images[chosen]]
    gap = int(rng.integers(-2, 4))
    width = sum(part.shape[1] + max(gap, 0) for part in trimmed)
    canvas = np.zeros((34, width + 4), np.float32)
    left = 2
    for part in trimmed:
        top = int(rng.integers(1, 6))
        end = left + part.shape[1]
        canvas[top : top + 28, left:end] = np.maximum(canvas[top : top + 28, left:end], part)
        left = max(end + gap, left + 1)
    return ink.normalize(np.clip(canvas, 0, 1))


TURNS = {2: (1, 3), 3: (1, 2, 3), 4: (2,), 7: (2,)}  # quarter turns that leave no digit


def _turned_digit(rng, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A digit turned until it is none: a 3 on its back, a 7 on its head."""
    which = rng.choice(np.flatnonzero(np.isin(labels, list(TURNS))))
    return ink.normalize(np.rot90(images[which], rng.choice(TURNS[int(labels[which])])).copy())


def _torn(rng, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The quarters of two digits in the wrong places."""
    first, second = images[rng.integers(len(images), size=2)]
    quarters = [
        image[r : r + 14, c : c + 14] for image in (first, second) for r in (0, 14) for c in (0, 14)
    ]
    mixed = [np.rot90(quarters[i], rng.integers(4)) for i in rng.permutation(8)[:4]]
    return ink.normalize(np.block([[mixed[0], mixed[1]], [mixed[2], mixed[3]]]).copy())


def _struck(rng, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A digit that was crossed out."""
    image = cv2.resize(
        images[rng.integers(len(images))], (112, 112), interpolation=cv2.INTER_LINEAR
    )
    image = np.ascontiguousarray(np.clip(image, 0, 1))
    for _ in range(rng.integers(2, 5)):
        start, end = rng.uniform((0, 10), (25, 102)), rng.uniform((87, 10), (112, 102))
        cv2.line(
            image,
            start.astype(int).tolist(),
            end.astype(int).tolist(),
            1.0,
            int(rng.integers(6, 14)),
            cv2.LINE_AA,
        )
    return ink.normalize(image)


def unseen(each: int, seed: int) -> dict[str, np.ndarray]:
    """Letters and symbols in fonts that ``generate`` never uses, (each, 28, 28) float32: to examine with, not to train."""
    rng = np.random.default_rng(seed)
    return {
        "letter": np.stack([letter(rng, UNSEEN_FONTS) for _ in range(each)]),
        "symbol": np.stack([letter(rng, UNSEEN_FONTS[-2:], "#%&@*+=<>{}~") for _ in range(each)]),
    }


KINDS = {
    "drawn": 0.4,
    "letters": 0.25,
    "symbols": 0.08,
    "several digits": 0.1,
    "turned digits": 0.07,
    "torn digits": 0.04,
    "struck digits": 0.06,
}  # and the share of each


def generate(
    n: int, rng: np.random.Generator, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` pictures of ink that is no digit, (n, 28, 28, 1) float32 in [0, 1], and the kind of each, (n,) of strings.

    images (m, 28, 28[, 1]) float32 in [0, 1] and labels (m,): training digits, of which some kinds are made. They are
    only read.
    """
    digits = np.asarray(images, np.float32).reshape(-1, 28, 28)
    makers: dict[str, Callable[..., np.ndarray]] = {
        "drawn": lambda: _from_strokes(rng),
        "letters": lambda: letter(rng),
        "symbols": lambda: letter(rng, FONTS[:3], SYMBOLS),
    }
    for kind, maker in (
        ("several digits", _row),
        ("turned digits", _turned_digit),
        ("torn digits", _torn),
        ("struck digits", _struck),
    ):
        makers[kind] = lambda maker=maker: maker(rng, digits, labels)
    kinds = rng.choice(list(KINDS), size=n, p=list(KINDS.values()))
    out = np.stack([makers[kind]() for kind in kinds]) if n else np.zeros((0, 28, 28), np.float32)
    return out[..., None], kinds

"""Ink that is no digit, generated, in two halves that share no drawing code.

To train: scribbles, shapes, letters and symbols, several digits as one, digits turned or torn into
nonsense. To examine: other drawings, and characters in fonts that training never sees. Letters that
are digits to the eye (O, I, l, S, Z, b, g, q and their like) are left out of both.
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

# Not: B b 8, D O o Q 0, G 6, g q y Y 4 9, I i j J l r t T 1 7, S s 5, Z z 2.
LETTERS = "ACEFHKLMNPRUVWXadefhkmnpuvwx"
SYMBOLS = "#%&@*+=<>{}~^€£♥★→←△◇♪ΣΩπλ≠≈±÷"
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono", "DejaVuSerif-Italic")
UNSEEN_FONTS = ("cmr10", "cmss10", "cmtt10", "STIXGeneral", "STIXGeneralItalic")  # to examine with


# To train, drawn: strokes are lists of (n, 2) points on the 280-pixel canvas


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
    along = np.linspace(40, 240, n)
    across = np.where(np.arange(n) % 2, 1, -1) * rng.uniform(30, 100)
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
    upright = [_turned(np.array([[v, 35], [v, 245]]), 0) for v in (near[0], far[0])]
    level = [np.array([[35, v], [245, v]]) for v in (near[1], far[1])]
    return upright + level[: rng.integers(1, 3)]


def _spiral(rng):
    turns = np.linspace(0, 2 * np.pi * rng.uniform(1.8, 4.5), 120)
    radius = 100 * (turns / turns[-1]) ** rng.uniform(0.7, 1.4)
    sign = rng.choice((-1, 1))
    x, y = radius * np.cos(turns), sign * radius * np.sin(turns) * rng.uniform(0.6, 1)
    return [140 + np.column_stack([x, y])]


def _loops(rng):
    """A pen that goes round and round on its way: coils, flowers."""
    t = np.linspace(0, 2 * np.pi * rng.integers(3, 7), 160)
    if rng.random() < 0.5:
        radius = rng.uniform(18, 45)
        x, y = np.linspace(50, 230, 160) + radius * np.cos(t), 140 + radius * np.sin(t)
        return [_turned(np.column_stack([x, y]), rng.uniform(0, 360))]
    petals = rng.integers(3, 7)
    turn = np.linspace(0, 2 * np.pi, 160)
    reach = 95 * (0.55 + 0.45 * np.cos(petals * turn))
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
        shaft = np.array([[-100, 0], [100, 0]])
        head = np.array([[100 - tip, -tip], [100, 0], [100 - tip, tip]])
        return [_turned(140 + shaft, angle), _turned(140 + head, angle)]
    elif kind == 3:
        t = np.linspace(0, 2 * np.pi, 80)  # a heart
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        corners = 6 * np.column_stack([16 * np.sin(t) ** 3, -y])
    elif kind == 4:  # a box with a diagonal or a cross
        corners = np.array([[-80, -80], [80, -80], [80, 80], [-80, 80], [-80, -80], [80, 80]])
        if rng.random() < 0.5:
            return [_jittered(rng, corners), _jittered(rng, np.array([[80, -80], [-80, 80]]))]
    else:
        corners = rng.uniform(-100, 100, (rng.integers(5, 8), 2))
        corners = np.concatenate([corners, corners[:1]])
    return [_jittered(rng, corners)]


def _outline(rng):
    """A closed line, smooth or angular, that goes in and out: stars, clouds, arrowheads, beans."""
    while True:
        n = int(rng.integers(5, 12))
        angle = 2 * np.pi * (np.arange(n) + rng.uniform(-0.3, 0.3, n)) / n
        reach = rng.uniform(0.3, 1, n) if rng.random() < 0.6 else np.where(np.arange(n) % 2, 1, 0.6)
        corners = 100 * reach[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
        points = np.concatenate([corners, corners[:1]]) * (1, rng.uniform(0.5, 1))
        if rng.random() < 0.6:
            curve = CubicSpline(np.arange(n + 1), points, bc_type="periodic")
            points = curve(np.linspace(0, n, 90))
        drawn = points.astype(np.float32)
        if cv2.contourArea(drawn) < 0.85 * cv2.contourArea(cv2.convexHull(drawn)):  # else a zero
            return [_turned(140 + points, rng.uniform(0, 360))]


def _wheel(rng):
    """A ring with two or more lines in it, not all alike: a slashed zero has one."""
    t = np.linspace(0, 2 * np.pi, 60)
    size = rng.uniform(60, 100, 2)
    ring, spokes = 140 + size * np.column_stack([np.cos(t), np.sin(t)]), []
    for angle in rng.uniform(0, 180) + np.cumsum(rng.uniform(40, 75, rng.integers(2, 4))):
        along = size * (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle)))
        spokes.append(140 + along * rng.choice((-1, 0)) * rng.uniform(0.8, 1.1) * [[1], [0]])
        spokes[-1][1] += along * rng.uniform(0.8, 1.1)
    return [ring, *spokes]


def _angle(rng):
    """Two arms that open upwards or to the right, or an arc that opens upwards."""
    arc = rng.random() < 0.4
    opening, half = rng.uniform(-110, -60 if arc else 20), rng.uniform(20, 60)
    arms = np.deg2rad([opening - half, opening + half])
    length = 120 * np.array([rng.uniform(0.3, 1), 1])[rng.permutation(2)]
    tips = length[:, None] * np.column_stack([np.cos(arms), np.sin(arms)])
    points = np.array([tips[0], (0, 0), tips[1]])
    points = _smooth(points) if arc else points
    return [points - (points.min(0) + points.max(0)) / 2 + 140]


def _face(rng):
    t = np.linspace(0, 2 * np.pi, 60)
    head = 140 + 100 * np.column_stack([np.cos(t), np.sin(t)])
    eyes = [np.array([[x, rng.uniform(100, 120)]] * 2) + ((0, 0), (2, 8)) for x in (105, 175)]
    smile = 140 + rng.uniform(45, 60) * np.column_stack([np.cos(t[3:28]), np.sin(t[3:28])])
    return [head, *eyes, smile]


def _dots(rng):
    """Several taps."""
    taps = range(rng.integers(2, 8))
    return [rng.uniform(40, 240, (1, 2)) + rng.uniform(-2, 2, (2, 2)) for _ in taps]


def _jittered(rng, corners: np.ndarray) -> np.ndarray:
    points = 140 + corners * rng.uniform(0.7, 1, 2) + rng.normal(0, 6, corners.shape)
    return _turned(points, rng.uniform(-25, 25))


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """``points`` turned about the canvas's centre."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (np.asarray(points, float) - 140) @ turn.T + 140


_DRAWN = (_scribble, _scribble, _hatching, _dashes, _dashes, _spiral, _loops, _wave)
_DRAWN += (_polygon, _polygon, _outline, _outline, _outline, _wheel, _angle, _face, _dots)


def _from_strokes(rng) -> np.ndarray:
    """A drawn non-digit as the app would show it to the network, with a pen of any width."""
    drawing = _DRAWN[rng.integers(len(_DRAWN))](rng)
    strokes = [stroke + rng.normal(0, 1.5, np.shape(stroke)) for stroke in drawing]
    if rng.random() < 0.5:
        return ink.strokes_to_image([np.clip(stroke, 0, ink.CANVAS) for stroke in strokes])
    return ink.normalize(ink.rasterize(strokes, brush=rng.uniform(10, 40)))


# Letters and symbols, to train and to examine


@cache
def _fonts(names: tuple[str, ...]) -> tuple[FontProperties, ...]:
    # they come with matplotlib: the same everywhere
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(FontProperties(fname=folder / f"{name}.ttf") for name in names)


@cache
def glyph(character: str, font: FontProperties, size: int = 80) -> np.ndarray | None:
    """``character`` as (n, m) uint8, light on dark; None when the font lacks it."""
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
    """A character as (28, 28), as printed or as written, slanted and bent a little."""
    picture = None
    while picture is None:  # some fonts lack some characters
        character = characters[rng.integers(len(characters))]
        picture = glyph(character, _fonts(fonts)[rng.integers(len(fonts))])
    if rng.random() < 0.75:
        lines = skeletonize(np.pad(picture, 10) > 127).astype(np.uint8) * 255
        pen = int(rng.integers(5, 15))
        picture = cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
    height, width = picture.shape
    slant, stretch = rng.normal(0, 0.12), np.exp(rng.uniform(-0.25, 0.25, 2))
    along = [stretch[0], slant, 20 - slant * height / 2]
    matrix = np.array([along, [rng.normal(0, 0.06), stretch[1], 20]])
    moved = cv2.warpAffine(picture, matrix, (int(width * 1.4) + 60, int(height * 1.4) + 60))
    return ink.normalize(moved)


# To train, from training digits


def _row(rng, images: np.ndarray) -> np.ndarray:
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


def _torn(rng, images: np.ndarray) -> np.ndarray:
    """The quarters of two digits in the wrong places."""
    first, second = images[rng.integers(len(images), size=2)]
    halves = slice(0, 14), slice(14, 28)
    quarters = [image[r, c] for image in (first, second) for r in halves for c in halves]
    mixed = [np.rot90(quarters[i], rng.integers(4)) for i in rng.permutation(8)[:4]]
    return ink.normalize(np.block([[mixed[0], mixed[1]], [mixed[2], mixed[3]]]).copy())


def _struck(rng, images: np.ndarray) -> np.ndarray:
    """A digit that was crossed out."""
    image = images[rng.integers(len(images))]
    image = cv2.resize(image, (112, 112), interpolation=cv2.INTER_LINEAR)
    image = np.ascontiguousarray(np.clip(image, 0, 1))
    for _ in range(rng.integers(2, 5)):
        start, end = rng.uniform((0, 10), (25, 102)), rng.uniform((87, 10), (112, 102))
        start, end = start.astype(int).tolist(), end.astype(int).tolist()
        cv2.line(image, start, end, 1.0, int(rng.integers(6, 14)), cv2.LINE_AA)
    return ink.normalize(image)


KINDS = {  # and the share of each
    "drawn": 0.45,
    "letters": 0.2,
    "symbols": 0.08,
    "several digits": 0.1,
    "turned digits": 0.07,
    "torn digits": 0.04,
    "struck digits": 0.06,
}


def generate(
    n: int, rng: np.random.Generator, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Training pictures, (n, 28, 28, 1) float32 in [0, 1], and the kind of each, (n,) of strings.

    images (m, 28, 28[, 1]) float32 in [0, 1] and labels (m,): training digits, of which some kinds
    are made. They are only read.
    """
    digits = np.asarray(images, np.float32).reshape(-1, 28, 28)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "drawn": lambda: _from_strokes(rng),
        "letters": lambda: letter(rng),
        "symbols": lambda: letter(rng, FONTS[:3], SYMBOLS),
        "several digits": lambda: _row(rng, digits),
        "turned digits": lambda: _turned_digit(rng, digits, labels),
        "torn digits": lambda: _torn(rng, digits),
        "struck digits": lambda: _struck(rng, digits),
    }
    kinds = rng.choice(list(KINDS), size=n, p=list(KINDS.values()))
    out = np.stack([makers[kind]() for kind in kinds]) if n else np.zeros((0, 28, 28), np.float32)
    return out[..., None], kinds


# To examine, drawn: nothing here may be used to train


def _dot(rng):
    return [rng.uniform(60, 220, (1, 2)) + rng.uniform(-0.5, 0.5, (3, 2))]  # a tap


def _flat_line(rng):
    y, tilt = rng.uniform(90, 190), rng.uniform(-12, 12)
    return [np.array([[rng.uniform(30, 70), y - tilt], [rng.uniform(210, 250), y + tilt]])]


def _cross(rng):
    middle, arm = rng.uniform(120, 160, 2), rng.uniform(60, 95)
    falling, rising = np.array([[-arm, -arm], [arm, arm]]), np.array([[-arm, arm], [arm, -arm]])
    return [middle + falling, middle + rising]


def _zigzag(rng):
    teeth = int(rng.integers(6, 11))
    y = np.where(np.arange(teeth) % 2, 70, 210) + rng.uniform(-20, 20, teeth)
    return [np.column_stack([np.linspace(35, 245, teeth), y])]


def _round_spiral(rng):
    turn = np.linspace(0, 2 * np.pi * rng.uniform(2.6, 3.6), 90)
    angle, radius = turn + rng.uniform(0, 2 * np.pi), 100 * turn / turn[-1]
    return [140 + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])]


def _angular_scribble(rng):
    corners = rng.uniform(35, 245, (int(rng.integers(9, 14)), 2))
    place, at = np.linspace(0, len(corners) - 1, 120), np.arange(len(corners))
    return [np.column_stack([np.interp(place, at, corners[:, axis]) for axis in (0, 1)])]


def _grid(rng):
    near, far = rng.uniform(85, 115, 2), rng.uniform(165, 195, 2)
    upright = [np.array([[x, 40], [x, 240]]) for x in (near[0], far[0])]
    level = [np.array([[40, y], [240, y]]) for y in (near[1], far[1])]
    return upright + level


def _check_mark(rng):
    knee, reach = rng.uniform((85, 170), (115, 215)), rng.uniform(80, 120)
    start = knee - rng.uniform((30, 35), (55, 60))
    return [np.array([start, knee, knee + (reach, -reach * rng.uniform(0.9, 1.4))])]


def _house(rng):
    left, right, eaves, floor = 70, rng.uniform(190, 215), rng.uniform(110, 135), 240
    walls = np.array([[left, eaves], [left, floor], [right, floor], [right, eaves], [left, eaves]])
    roof = np.array([[left, eaves], [(left + right) / 2, rng.uniform(35, 65)], [right, eaves]])
    door = np.array([[120, floor], [120, 190], [150, 190], [150, floor]])
    return [stroke + rng.normal(0, 4, stroke.shape) for stroke in (walls, roof, door)]


def _stick_figure(rng):
    turn, radius = np.linspace(0, 2 * np.pi, 40), rng.uniform(18, 28)
    head = np.column_stack([140 + radius * np.cos(turn), 60 + radius * np.sin(turn)])
    body = np.array([[140, 60 + radius], [140, 170]])
    left = [rng.uniform(80, 100), rng.uniform(100, 140)]
    arms = np.array([left, [140, 115], [rng.uniform(180, 200), rng.uniform(100, 140)]])
    legs = np.array([[rng.uniform(90, 110), 245], [140, 170], [rng.uniform(170, 190), 245]])
    return [head, body, arms, legs]


def _moon(rng):
    turn = np.linspace(-1.5, 1.5, 40)
    outer = np.column_stack([90 + 120 * np.cos(turn), 140 + 100 * np.sin(turn)])
    inner = outer * (rng.uniform(0.3, 0.6), 1) + (90 * 0.5, 0)
    return [np.concatenate([outer, inner[::-1], outer[:1]])]


DRAWINGS: dict[str, Callable] = {
    "dot": _dot,
    "flat line": _flat_line,
    "cross": _cross,
    "zigzag": _zigzag,
    "spiral": _round_spiral,
    "scribble": _angular_scribble,
    "grid": _grid,
    "check mark": _check_mark,
    "house": _house,
    "stick figure": _stick_figure,
    "moon": _moon,
}
NEVER_SHOWN = ("house", "stick figure")  # nothing like these in training


def drawings(each: int, seed: int) -> dict[str, list[list[np.ndarray]]]:
    """``each`` drawings of every kind: strokes, (n, 2) float32 on a 280 x 280 canvas."""
    rng = np.random.default_rng(seed)
    return {
        kind: [[np.asarray(stroke, np.float32) for stroke in draw(rng)] for _ in range(each)]
        for kind, draw in DRAWINGS.items()
    }


def characters(each: int, seed: int) -> dict[str, np.ndarray]:
    """Letters and symbols in fonts that training never uses, (each, 28, 28) float32."""
    rng = np.random.default_rng(seed)
    return {
        "letter": np.stack([letter(rng, UNSEEN_FONTS) for _ in range(each)]),
        "symbol": np.stack([letter(rng, UNSEEN_FONTS[-2:], "#%&@*+=<>{}~") for _ in range(each)]),
    }


def side_by_side(drawings: list[list[np.ndarray]], each: int, seed: int) -> list[list[np.ndarray]]:
    """``each`` pairs of single digits (strokes), side by side as if they were one."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(each):
        strokes, left = [], 20.0
        for i in rng.integers(len(drawings), size=2):
            points = np.concatenate(drawings[i])
            low, high = points.min(0), points.max(0)
            scale = 110 / max((high - low).max(), 1)
            strokes += [(stroke - low) * scale + (left, 80) for stroke in drawings[i]]
            left += (high[0] - low[0]) * scale + 15
        pairs.append(strokes)
    return pairs

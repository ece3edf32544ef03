"""What a test set lacks: digits made harder by degrees, and ink that is no digit at all. NumPy and OpenCV."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

UPSCALE = 4  # stroke width changes on a picture enlarged this much, so that half pixels count


@dataclass(frozen=True)
class Corruption:
    """One way to make digits harder; call it as ``corruption(images, severity, rng)``.

    Images are (n, 28, 28) float32 in [0, 1] and come back alike, as a new array. ``severities`` holds ``neutral``,
    the severity that changes nothing.
    """

    name: str  # as in metrics.json
    label: str  # the axis of a plot, with its unit
    severities: tuple[float, ...]  # ascending
    neutral: float  # identity
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # one image (28, 28) to another

    def __call__(self, images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        if severity == self.neutral:
            return np.array(images, np.float32)
        return np.stack([np.clip(self.apply(image, severity, rng), 0, 1) for image in images]).astype(np.float32)


def shift(image: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Move by ``pixels`` to the left, right, top or bottom; ink that leaves the picture is lost."""
    direction = rng.integers(4)
    dx, dy = ((-1, 0), (1, 0), (0, -1), (0, 1))[direction]
    return _affine(image, np.array([[1, 0, dx * pixels], [0, 1, dy * pixels]], np.float64))


def rotate(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn about the centre, clockwise or counter-clockwise at random."""
    angle = degrees * rng.choice((-1, 1))
    return _affine(image, cv2.getRotationMatrix2D(_centre(image), angle, 1.0))


def scale(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarge (above 1) or shrink (below 1) about the centre; shrinking averages, so thin ink fades, not vanishes."""
    smooth = cv2.GaussianBlur(image, (0, 0), 0.4 / factor, borderType=cv2.BORDER_CONSTANT) if factor < 0.75 else image
    return _affine(smooth, cv2.getRotationMatrix2D(_centre(image), 0, factor))


def noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with this standard deviation to every pixel; the result is clipped to [0, 1]."""
    return image + rng.normal(0, deviation, image.shape)


def blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur with ``sigma`` pixels; the amount of ink stays, up to what leaves the picture."""
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)


def contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Pull every pixel towards the picture's mean (Hendrycks and Dietterich 2019): ink pales and paper turns grey."""
    return image.mean() + factor * (image - image.mean())


def stroke_width(image: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Make strokes wider by about ``pixels`` (thinner where negative); a stroke thinner than that disappears."""
    side = 2 * round(abs(pixels) * UPSCALE / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    large = cv2.resize(image, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_LINEAR)
    changed = (cv2.dilate if pixels > 0 else cv2.erode)(large, disc)
    return cv2.resize(changed, image.shape[::-1], interpolation=cv2.INTER_AREA)


def _centre(image: np.ndarray) -> tuple[float, float]:
    return (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2


def _affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=0)


CORRUPTIONS = (
    Corruption("shift", "shift (pixels)", (0, 1, 2, 3, 4, 6, 8), 0, shift),
    Corruption("rotation", "rotation (degrees)", (0, 10, 20, 30, 45, 60), 0, rotate),
    Corruption("scale", "scale (factor)", (0.4, 0.55, 0.7, 0.85, 1, 1.2, 1.4), 1, scale),
    Corruption("noise", "noise (standard deviation)", (0, 0.1, 0.2, 0.3, 0.45, 0.6), 0, noise),
    Corruption("blur", "blur (sigma, pixels)", (0, 0.5, 1, 1.5, 2, 3), 0, blur),
    Corruption("contrast", "contrast (factor)", (0.1, 0.2, 0.3, 0.5, 0.75, 1), 1, contrast),
    Corruption("stroke width", "stroke width (change in pixels)", (-1.5, -1, -0.5, 0, 1, 2, 3), 0, stroke_width),
)


# --- Ink that is no digit ---------------------------------------------------------------------------------------------

def _dot(rng):
    return [rng.uniform(60, 220, (1, 2)) + rng.uniform(-0.5, 0.5, (3, 2))]  # a tap


def _flat_line(rng):
    y, tilt = rng.uniform(90, 190), rng.uniform(-12, 12)
    return [np.array([[rng.uniform(30, 70), y - tilt], [rng.uniform(210, 250), y + tilt]])]


def _cross(rng):
    middle, arm = rng.uniform(120, 160, 2), rng.uniform(60, 95)
    return [middle + np.array([[-arm, -arm], [arm, arm]]), middle + np.array([[-arm, arm], [arm, -arm]])]


def _zigzag(rng):
    teeth = int(rng.integers(6, 11))
    y = np.where(np.arange(teeth) % 2, 70, 210) + rng.uniform(-20, 20, teeth)
    return [np.column_stack([np.linspace(35, 245, teeth), y])]


def _spiral(rng):
    turn = np.linspace(0, 2 * np.pi * rng.uniform(2.6, 3.6), 90)
    angle, radius = turn + rng.uniform(0, 2 * np.pi), 100 * turn / turn[-1]
    return [140 + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])]


def _scribble(rng):
    corners = rng.uniform(35, 245, (int(rng.integers(9, 14)), 2))
    place = np.linspace(0, len(corners) - 1, 120)
    return [np.column_stack([np.interp(place, np.arange(len(corners)), corners[:, i]) for i in (0, 1)])]


def _grid(rng):
    near, far = rng.uniform(85, 115, 2), rng.uniform(165, 195, 2)
    upright = [np.array([[x, 40], [x, 240]]) for x in (near[0], far[0])]
    level = [np.array([[40, y], [240, y]]) for y in (near[1], far[1])]
    return upright + level


def _check_mark(rng):
    knee, reach = rng.uniform((85, 170), (115, 215)), rng.uniform(80, 120)
    return [np.array([knee - rng.uniform((30, 35), (55, 60)), knee, knee + (reach, -reach * rng.uniform(0.9, 1.4))])]


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
    arms = np.array([[rng.uniform(80, 100), rng.uniform(100, 140)], [140, 115], [rng.uniform(180, 200), rng.uniform(100, 140)]])
    legs = np.array([[rng.uniform(90, 110), 245], [140, 170], [rng.uniform(170, 190), 245]])
    return [head, body, arms, legs]


def _moon(rng):
    turn = np.linspace(-1.5, 1.5, 40)
    outer = np.column_stack([90 + 120 * np.cos(turn), 140 + 100 * np.sin(turn)])
    inner = outer * (rng.uniform(0.3, 0.6), 1) + (90 * 0.5, 0)
    return [np.concatenate([outer, inner[::-1], outer[:1]])]


NON_DIGITS = {"dot": _dot, "flat line": _flat_line, "cross": _cross, "zigzag": _zigzag, "spiral": _spiral,
              "scribble": _scribble, "grid": _grid, "check mark": _check_mark, "house": _house,
              "stick figure": _stick_figure, "moon": _moon}
NEVER_SHOWN = ("check mark", "house", "stick figure", "moon")  # nothing like these is among ``digits.negatives``


def non_digits(each: int, seed: int) -> dict[str, list[list[np.ndarray]]]:
    """``each`` drawings of every kind in ``NON_DIGITS``: lists of strokes, (n, 2) float32 on a 280 x 280 canvas."""
    rng = np.random.default_rng(seed)
    return {kind: [[np.asarray(stroke, np.float32) for stroke in draw(rng)] for _ in range(each)]
            for kind, draw in NON_DIGITS.items()}


def side_by_side(drawings: list[list[np.ndarray]], each: int, seed: int) -> list[list[np.ndarray]]:
    """``each`` pairs of ``drawings``, strokes (n, 2) of single digits, next to each other on the canvas as if they were one."""
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

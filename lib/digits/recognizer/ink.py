"""Ink to MNIST's 28 x 28: the one normalization that app, uploads, benchmarks and notebooks share.

MNIST's rule (LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist): scale the ink's bounding box
into 20 x 20 keeping its aspect ratio, with anti-aliasing, then place its centre of mass at the
centre of 28 x 28. Strokes are (n, 2) arrays of x and y in canvas pixels, y downwards.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 280  # pixels: the pad's side
BRUSH = 20  # pixels: the pad's default pen on that canvas
EXTENT = 200  # pixels: how large strokes are drawn before they are shrunk to MNIST's 20
PEN = 0.12  # of that extent: MNIST's pen; best of 0.12 to 0.18 on the training writers' pen digits
DOT = 1 / 25  # of the canvas: a drawing smaller than this is a dot, which enlarged looks like more
SMALLEST = 1 / 50  # of the canvas: nothing is enlarged as if it were smaller than this
BOX, SIDE = 20, 28  # pixels of MNIST
MINIMUM_INK = 0.02  # of full ink: what is fainter is paper, or lost in 8 bits


def check_strokes(strokes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Strokes as finite (n, 2) float64 arrays, without empty ones; ValueError for other shapes."""
    checked = [np.asarray(stroke, dtype=float) for stroke in strokes]
    for number, stroke in enumerate(checked, 1):
        if stroke.size and (stroke.ndim != 2 or stroke.shape[1] != 2):
            raise ValueError(
                f"Stroke {number} has shape {stroke.shape}; a stroke is an (n, 2) array of x and y."
            )
        if not np.isfinite(stroke).all():
            raise ValueError(f"Stroke {number} holds a coordinate that is not a finite number.")
    return [stroke for stroke in checked if stroke.size]


def extent(strokes: Sequence[np.ndarray], size: int = CANVAS) -> float:
    """The longer side of the strokes' bounding box within a canvas of ``size`` pixels."""
    points = [np.clip(stroke, 0, size) for stroke in check_strokes(strokes)]
    return float(np.ptp(np.concatenate(points), axis=0).max()) if points else 0.0


def rasterize(
    strokes: Sequence[np.ndarray], size: int = CANVAS, brush: float = BRUSH
) -> np.ndarray:
    """Draw strokes with a round pen; one point is a dot. ValueError for other shapes.

    size: the canvas's side, brush: the pen's width, both in pixels. Returns (size, size) uint8,
    light ink (255) on dark.
    """
    canvas = Image.new("L", (size, size))
    draw = ImageDraw.Draw(canvas)
    radius = brush / 2
    for stroke in check_strokes(strokes):
        points = np.clip(stroke, -size, 2 * size)  # Pillow's coordinates stay small
        if len(points) > 1:
            draw.line([tuple(point) for point in points], fill=255, width=round(brush))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas)


def bounding_box(ink: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom (the last two exclusive) of the ink, (H, W) in [0, 1]; or None.

    >>> tuple(map(int, bounding_box(np.eye(5))))
    (0, 0, 5, 5)
    """
    inked = ink > MINIMUM_INK
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def normalize(image: np.ndarray) -> np.ndarray:
    """Any ink image to MNIST's form, (28, 28) float32 in [0, 1]; zeros for a blank.

    image: (H, W), light ink on dark, uint8 or float in [0, 1]; ValueError otherwise.
    """
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"An ink image is (H, W); this one has shape {image.shape}.")
    ink = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    if not np.isfinite(ink).all() or ink.min(initial=0) < 0 or ink.max(initial=0) > 1:
        raise ValueError("An ink image is uint8, or float in [0, 1] without NaN.")

    result = np.zeros((SIDE, SIDE), np.float32)
    box = bounding_box(ink)
    if box is None:
        return result
    left, top, right, bottom = box
    scale = BOX / max(right - left, bottom - top)
    width, height = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(ink[top:bottom, left:right]).resize((width, height), way))
    total = small.sum()
    x, y = (small.sum(0) @ np.arange(width)) / total, (small.sum(1) @ np.arange(height)) / total
    # As near as whole pixels allow; MNIST's centre is column 14, row 14, counted from 0.
    left = int(np.clip(round(SIDE / 2 - x), 0, SIDE - width))
    top = int(np.clip(round(SIDE / 2 - y), 0, SIDE - height))
    result[top : top + height, left : left + width] = np.clip(small, 0, 1)
    return result


def strokes_to_image(strokes: Sequence[np.ndarray], size: int = CANVAS) -> np.ndarray:
    """Strokes as MNIST would hold them, (28, 28) float32 in [0, 1]; zeros for none.

    The pad's brush may be thin or thick and the digit small or large; the path of the pen is what
    was meant. So the path is enlarged to a fixed extent, drawn with MNIST's relative pen width, and
    given to ``normalize``. What lies outside the canvas of ``size`` pixels is taken at its edge.
    ValueError for other shapes.
    """
    strokes = [np.clip(stroke, 0, size) for stroke in check_strokes(strokes)]
    if not strokes:
        return np.zeros((SIDE, SIDE), np.float32)
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = EXTENT / max((high - low).max(), size * SMALLEST)
    # Rounded: a coordinate that should be whole must not fall into another pixel by its last bit.
    moved = [np.round((stroke - (low + high) / 2) * scale + CANVAS / 2, 3) for stroke in strokes]
    return normalize(rasterize(moved, CANVAS, PEN * EXTENT))


@dataclass(frozen=True)
class Example:
    """A drawing of our own, taken from no data set."""

    name: str  # unique
    title: str  # for people
    expected: str | None  # the digits that it shows; None when it shows none
    strokes: tuple[np.ndarray, ...]  # (n, 2) each, on a canvas of 280, points about 4 apart


@cache
def examples() -> tuple[Example, ...]:
    """Digits in several styles, numbers, and drawings that are no digits."""
    found = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
    for one in found:
        one["strokes"] = tuple(np.array(stroke, float) for stroke in one["strokes"])
    return tuple(Example(**one) for one in found)

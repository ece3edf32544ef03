"""Ink to MNIST's 28 x 28: the one normalization that app, uploads, benchmarks and notebooks share.

Strokes become a picture by whole numbers alone, thousandths of a pixel. Their sums and products are
exact: every processor and, in a browser, ``app/static/ink.js`` draw the same picture, to the bit.

MNIST's rule (LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist): scale the ink's bounding box
into 20 x 20 keeping its aspect ratio, with anti-aliasing, then place its centre of mass at the
centre of 28 x 28. Strokes are (n, 2) arrays of x and y in canvas pixels, y downwards.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

CANVAS, WIDEST = 280, 2  # pixels: the pad's height; how many times as wide it is at most
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


def on_canvas(strokes: Sequence[np.ndarray], size: int = CANVAS) -> list[np.ndarray]:
    """Checked strokes; what lies outside a canvas ``size`` pixels high is taken at its edge."""
    return [np.clip(stroke, 0, (WIDEST * size, size)) for stroke in check_strokes(strokes)]


def extent(strokes: Sequence[np.ndarray], size: int = CANVAS) -> float:
    """The longer side of the strokes' bounding box within a canvas ``size`` pixels high."""
    points = on_canvas(strokes, size)
    return float(np.ptp(np.concatenate(points), axis=0).max()) if points else 0.0


def rasterize(
    strokes: Sequence[np.ndarray], size: int = CANVAS, brush: float = BRUSH, width: int = 0
) -> np.ndarray:
    """Draw strokes with a round pen; one point is a dot. ValueError for other shapes.

    In pixels, size: the canvas's height, and its width unless ``width`` says another; brush: the
    pen's width. Returns (size, width) uint8, 255 ink.
    """
    strokes = [np.clip(stroke, -size, 2 * size) for stroke in check_strokes(strokes)]
    # +1 where ink begins in a row, -1 behind its end
    edges = np.zeros((size, (width or size) + 1), int)
    for points in (np.floor(1000 * stroke + 0.5) for stroke in strokes):
        lines = np.column_stack([points[: max(len(points) - 1, 1)], points[-len(points) + 1 :]])
        for some in np.array_split(lines, len(lines) // 1000 + 1):  # 30 MB at a time
            _draw_lines(edges, some, float(math.floor(500 * brush)))
    return np.where(edges[:, :-1].cumsum(1) > 0, 255, 0).astype(np.uint8)


def _draw_lines(edges: np.ndarray, lines: np.ndarray, radius: float) -> None:
    """Mark in ``edges`` the pixels within ``radius`` of lines (n, 4), all in thousandths.

    Of each line in each row of pixels: the discs around its ends and the band between them, spans
    of x whose bounds whole numbers decide.
    """
    low, high = np.sort(lines[:, 1::2], axis=1).T
    rows, columns = len(edges), edges.shape[1] - 1
    first = np.clip(np.ceil((low - radius) / 1000), 0, rows).astype(int)
    last = np.clip(np.floor((high + radius) / 1000) + 1, first, rows).astype(int)
    counts = last - first
    row = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts - first, counts)
    ax, ay, bx, by = np.repeat(lines, counts, axis=0).T
    spans = []
    for x, y in ((ax, ay), (bx, by)):
        reach = radius**2 - (1000 * row - y) ** 2
        half = np.where(reach >= 0, np.floor(np.sqrt(np.abs(reach))), -np.inf)
        spans.append((x - half, x + half))

    def solve(factor: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Bounds of u for whole ``low`` <= ``factor`` u <= ``high``: the halves change nothing.

        They keep the bounds off the whole numbers, and have all or no u fit where the factor is 0.
        """
        factor = np.where(factor == 0, 1e-9, factor)
        return np.sort([(low - 0.5) / factor, (high + 0.5) / factor], axis=0)

    dx, dy, v = bx - ax, by - ay, 1000 * row - ay  # (u, v): from the line's start to the pixel
    length = dx * dx + dy * dy
    aside = np.floor(radius * np.sqrt(length))
    along = solve(dx, -v * dy, length - v * dy)
    across = solve(dy, v * dx - aside, v * dx + aside)
    left = np.where(length > 0, np.maximum(along[0], across[0]), np.inf)
    spans.append((ax + left, ax + np.minimum(along[1], across[1])))
    for left, right in spans:
        begin = np.clip(np.ceil(left / 1000), 0, columns)
        end = np.clip(np.floor(right / 1000) + 1, begin, columns)
        np.add.at(edges, (row, begin.astype(int)), 1)
        np.add.at(edges, (row, end.astype(int)), -1)


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
    fitted into MNIST's form as ``normalize`` does. What lies outside a canvas ``size`` pixels high
    is taken at its edge. ValueError for other shapes.
    """
    strokes = on_canvas(strokes, size)
    result = np.zeros((SIDE, SIDE), np.float32)
    if not strokes:
        return result
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = EXTENT / max((high - low).max(), size * SMALLEST)
    moved = [(stroke - (low + high) / 2) * scale + CANVAS / 2 for stroke in strokes]
    drawn = rasterize(moved, CANVAS, PEN * EXTENT) > 0
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    crop = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    longest = max(crop.shape)
    h, w = (max((2 * BOX * n + longest) // (2 * longest), 1) for n in crop.shape)
    # Averages of areas and the centre of mass, from sums of whole numbers.
    sums = _add_up(_add_up(crop, h).T, w).T
    total, x, y = sums.sum(), sums.sum(0) @ np.arange(w), sums.sum(1) @ np.arange(h)
    left, top = ((SIDE + 1) * total - 2 * np.array([x, y])) // (2 * total)  # rounded
    left, top = int(np.clip(left, 0, SIDE - w)), int(np.clip(top, 0, SIDE - h))
    result[top : top + h, left : left + w] = sums / crop.size
    return result


def _add_up(values: np.ndarray, m: int) -> np.ndarray:
    """(m, k): what each m-th part of the column holds of ``values`` (n, k), times m: whole."""
    end, rest = np.divmod(np.arange(m + 1) * len(values), m)
    values = np.pad(values, ((1, 1), (0, 0)))
    return np.diff(m * values.cumsum(0)[end] + rest[:, None] * values[end + 1], axis=0)


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

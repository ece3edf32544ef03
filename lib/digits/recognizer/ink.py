"""Ink to MNIST's 28 x 28: the one normalization that the app, uploads, benchmarks and the notebooks share.

MNIST's rule (LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist): scale the ink's bounding box into 20 x 20 keeping
its aspect ratio, with anti-aliasing, then place its centre of mass at the centre of 28 x 28.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 280  # pixels: the pad's side
BRUSH = 20  # pixels: the pad's default pen on that canvas
EXTENT = 200  # pixels: how large strokes are drawn before they are shrunk to MNIST's 20
PEN = 0.12  # of that extent: MNIST's pen, and the best of 0.12 to 0.18 on the pen digits of the training writers
DOT = (
    1 / 25
)  # of the canvas: a drawing smaller than this is a dot, whatever its enlarged picture looks like
SMALLEST = 1 / 50  # of the canvas: nothing is enlarged as if it were smaller than this
BOX, SIDE = 20, 28  # pixels of MNIST
MINIMUM_INK = 0.02  # of full ink: what is fainter is paper, or lost in 8 bits


def check_strokes(strokes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """``strokes`` as a list of finite (n, 2) float arrays, empty ones left out; ValueError for anything else."""
    checked = [np.asarray(stroke, dtype=float) for stroke in strokes]
    for number, stroke in enumerate(checked, 1):
        if stroke.size and (stroke.ndim != 2 or stroke.shape[1] != 2):
            raise ValueError(
                f"Stroke {number} has shape {stroke.shape}; a stroke is an (n, 2) array of x and y."
            )
        if not np.isfinite(stroke).all():
            raise ValueError(f"Stroke {number} holds a coordinate that is not a finite number.")
    return [stroke for stroke in checked if stroke.size]


def rasterize(
    strokes: Sequence[np.ndarray], size: int = CANVAS, brush: float = BRUSH
) -> np.ndarray:
    """Draw strokes with a round pen.

    strokes: (n, 2) arrays of x and y in canvas pixels, y downwards; one point is a dot. size: the canvas's side.
    brush: the pen's width in pixels. Returns (size, size) uint8, light ink (255) on dark. ValueError for other shapes.
    """
    canvas = Image.new("L", (size, size))
    draw = ImageDraw.Draw(canvas)
    radius = brush / 2
    for stroke in check_strokes(strokes):
        points = np.clip(
            stroke, -size, 2 * size
        )  # far outside is outside; Pillow's coordinates stay small
        if len(points) > 1:
            draw.line([tuple(point) for point in points], fill=255, width=round(brush))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas)


def _to_ink(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1] from uint8 or float; ValueError when it is no single grey image in range."""
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim != 2:
        raise ValueError(f"An ink image is (H, W); this one has shape {image.shape}.")
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255
    image = image.astype(np.float32)
    if not np.isfinite(image).all() or image.min(initial=0) < 0 or image.max(initial=0) > 1:
        raise ValueError("An ink image is uint8, or float in [0, 1] without NaN.")
    return image


def bounding_box(ink: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom (right and bottom exclusive) of what is darker than paper, or None for a blank.

    >>> tuple(map(int, bounding_box(np.eye(5))))
    (0, 0, 5, 5)
    """
    inked = ink > MINIMUM_INK
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def normalize(image: np.ndarray) -> np.ndarray:
    """Any ink image to MNIST's form.

    image: (H, W[, 1]), light ink on dark, uint8 or float in [0, 1]. Returns (28, 28) float32 in [0, 1]; a blank gives
    zeros.
    """
    ink = _to_ink(image)
    box = bounding_box(ink)
    result = np.zeros((SIDE, SIDE), np.float32)
    if box is None:
        return result
    left, top, right, bottom = box
    scale = BOX / max(right - left, bottom - top)
    width, height = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    crop = Image.fromarray(ink[top:bottom, left:right])
    small = np.asarray(
        crop.resize(
            (width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        )
    )
    return _centre(small)


def _centre(small: np.ndarray) -> np.ndarray:
    """``small`` (at most 20 x 20) on 28 x 28 with its centre of mass as near to the centre as whole pixels allow."""
    height, width = small.shape
    total = small.sum()
    if not total:
        return np.zeros((SIDE, SIDE), np.float32)
    x = (small.sum(0) @ np.arange(width)) / total
    y = (small.sum(1) @ np.arange(height)) / total
    left = int(
        np.clip(round(SIDE / 2 - x), 0, SIDE - width)
    )  # MNIST's centre is column 14, row 14, counted from 0
    top = int(np.clip(round(SIDE / 2 - y), 0, SIDE - height))
    result = np.zeros((SIDE, SIDE), np.float32)
    result[top : top + height, left : left + width] = np.clip(small, 0, 1)
    return result


def extent(strokes: Sequence[np.ndarray], size: int = CANVAS) -> float:
    """The longer side of the strokes' bounding box on a canvas of ``size`` pixels, which cuts them off; 0 for none.

    >>> extent([[(20, 10), (80, 10)], [(50, 10), (40, 110)]])
    100.0
    """
    checked = check_strokes(strokes)
    return (
        float(np.ptp(np.clip(np.concatenate(checked), 0, size), axis=0).max()) if checked else 0.0
    )


def strokes_to_image(strokes: Sequence[np.ndarray], size: int = CANVAS) -> np.ndarray:
    """Strokes as MNIST would hold them, drawn again with an even pen.

    The pad's brush may be thin or thick and the digit small or large; the path of the pen is what was meant. So the
    path is enlarged to a fixed extent, drawn with MNIST's relative pen width, and given to ``normalize``.

    strokes: (n, 2) arrays of canvas pixels, y downwards, on a canvas of ``size`` pixels; what lies outside is taken at
    its edge. Returns (28, 28) float32 in [0, 1], zeros for no strokes. ValueError for other shapes.
    """
    strokes = [np.clip(stroke, 0, size) for stroke in check_strokes(strokes)]
    if not strokes:
        return np.zeros((SIDE, SIDE), np.float32)
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = EXTENT / max(
        (high - low).max(), size * SMALLEST
    )  # what is smaller is a dot, not a tiny digit
    # Rounded, so that a coordinate that should be whole does not fall into another pixel by its last bit.
    moved = [np.round((stroke - (low + high) / 2) * scale + CANVAS / 2, 3) for stroke in strokes]
    return normalize(rasterize(moved, CANVAS, PEN * EXTENT))

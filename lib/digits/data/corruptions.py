"""What a test set lacks: digits made harder by degrees. NumPy and OpenCV."""

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
    apply: Callable[
        [np.ndarray, float, np.random.Generator], np.ndarray
    ]  # one image (28, 28) to another

    def __call__(self, images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        if severity == self.neutral:
            return np.array(images, np.float32)
        return np.stack(
            [np.clip(self.apply(image, severity, rng), 0, 1) for image in images]
        ).astype(np.float32)


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
    smooth = (
        cv2.GaussianBlur(image, (0, 0), 0.4 / factor, borderType=cv2.BORDER_CONSTANT)
        if factor < 0.75
        else image
    )
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
    Corruption(
        "stroke width",
        "stroke width (change in pixels)",
        (-1.5, -1, -0.5, 0, 1, 2, 3),
        0,
        stroke_width,
    ),
)

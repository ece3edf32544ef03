"""What happens to training images: geometry, stroke width, and writing styles that MNIST lacks.

Everything is drawn from the generator that is passed in, image by image, so that the same seed gives the same bits.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from digits.ink import normalize

cv2.setNumThreads(1)  # images are tiny; training keeps the cores, and one thread keeps the order of sums


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are changed. Zero everywhere changes nothing."""

    rotation: float = 12.0  # degrees, standard deviation is a half of it: people tilt digits, but 6 must not become 9
    scale: float = 0.18  # fraction, each axis on its own: aspect ratios differ between writers
    shear: float = 0.25  # tangent of the slant; 01_eda measures the slant of MNIST's writers
    shift: float = 1.5  # pixels: the centre of mass moves with a hook or a foot
    elastic: float = 0.7  # pixels, root mean square of the smooth displacement (Simard et al. 2003)
    stroke_width: float = 0.9  # 0 to 1: how far towards one step of erosion or dilation; thin pens and thick markers
    contrast: float = 0.5  # 0 to 1: the part of its strength that ink may lose; pencils and photographs are grey
    noise: float = 0.12  # standard deviation, in units of full ink: paper is not clean
    styles: float = 0.25  # probability of a writing style that MNIST lacks, for the digits that have one

    def scaled(self, strength: float) -> "Augmentation":
        """The same mixture, every amount multiplied by ``strength`` (0 to 2)."""
        return replace(self, **{name: value * strength for name, value in vars(self).items()})


NONE = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


def only(part: str, a: Augmentation) -> Augmentation:
    """``a`` with every part but one switched off."""
    return replace(NONE, **{part: getattr(a, part)})


def _affine(rng: np.random.Generator, a: Augmentation) -> np.ndarray:
    """A random 2 x 3 matrix about the image's centre that rotates, scales, shears and shifts."""
    angle = np.deg2rad(a.rotation) * np.clip(rng.normal(0, 0.5), -1.5, 1.5)
    sx, sy = np.exp(a.scale * rng.uniform(-1, 1, 2))
    shear = a.shear * np.clip(rng.normal(0, 0.5), -1.5, 1.5)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[sx, shear * sy], [0, sy]])
    centre = np.array([13.5, 13.5])
    offset = centre - linear @ centre + a.shift * rng.uniform(-1, 1, 2)
    return np.column_stack([linear, offset])


_GRID = np.stack(np.meshgrid(np.arange(28), np.arange(28)), -1).astype(np.float32)  # (28, 28, 2), x then y


def _elastic(rng: np.random.Generator, amount: float) -> np.ndarray:
    """A smooth random displacement, (28, 28, 2) in pixels: coarse noise enlarged by cubic interpolation."""
    coarse = rng.normal(0, amount, (5, 5, 2)).astype(np.float32)
    return cv2.resize(coarse, (28, 28), interpolation=cv2.INTER_CUBIC)


def geometry(image: np.ndarray, rng: np.random.Generator, a: Augmentation) -> np.ndarray:
    """One (28, 28) image moved by a random affine map and, if asked, a smooth elastic displacement."""
    matrix = _affine(rng, a).astype(np.float32)
    if not a.elastic:
        return cv2.warpAffine(image, matrix, (28, 28), flags=cv2.INTER_LINEAR)
    inverse = cv2.invertAffineTransform(matrix)
    where = _GRID @ inverse[:, :2].T + inverse[:, 2] + _elastic(rng, a.elastic)
    return cv2.remap(image, where.astype(np.float32), None, cv2.INTER_LINEAR)


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def stroke_width(image: np.ndarray, amount: float) -> np.ndarray:
    """Thicken (amount up to 1) or thin (down to -1) by a part of one step of grey dilation or erosion.

    A thin stroke is not eroded away: erosion stops at 0.7 of a step, and what it leaves is brought back to full ink.
    """
    if amount > 0:
        return image + np.float32(min(amount, 1)) * (cv2.dilate(image, _CROSS) - image)
    thinned = image + np.float32(min(-amount, 0.7)) * (cv2.erode(image, _CROSS) - image)
    peak = thinned.max()
    return thinned if peak <= 0 else thinned * np.float32(min(image.max() / peak, 2.0))


def paper(image: np.ndarray, rng: np.random.Generator, a: Augmentation) -> np.ndarray:
    """Paler ink, and for every third image the grain of paper or of a camera."""
    if a.contrast:
        image = image * np.float32(1 - a.contrast * rng.random())
    if a.noise and rng.random() < 0.3:
        image = image + rng.normal(0, a.noise, image.shape).astype(np.float32)
    return image


def _box(image: np.ndarray) -> tuple[float, float, float, float]:
    """The ink's bounding box: left, top, right, bottom in pixels."""
    ys, xs = np.nonzero(image > 0.3)
    return (xs.min(), ys.min(), xs.max(), ys.max()) if len(xs) else (10.0, 10.0, 18.0, 18.0)


def _line(image: np.ndarray, points, width: float) -> np.ndarray:
    """``image`` with an anti-aliased pen line through ``points`` (n, 2); ``width`` and points in its pixels."""
    height, breadth = image.shape
    big = np.zeros((4 * height, 4 * breadth), np.uint8)  # four times larger, then averaged: even edges at any width
    path = np.round((np.asarray(points, float) + 0.5) * 4 * 16).astype(np.int32)
    cv2.polylines(big, [path.reshape(-1, 1, 2)], False, 255, max(round(width * 4), 1), cv2.LINE_AA, 4)
    return np.maximum(image, cv2.resize(big, (breadth, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)


def _slashed_zero(image, rng, width):
    left, top, right, bottom = _box(image)
    reach = rng.uniform(-0.1, 0.25, 2) * (right - left)
    tilt = rng.uniform(-0.15, 0.15, 2) * (bottom - top)
    start = (left - reach[0], bottom - 0.15 * (bottom - top) + tilt[0])
    end = (right + reach[1], top + 0.15 * (bottom - top) + tilt[1])
    return _line(image, [start, end], width)


def _dotted_zero(image, rng, width):
    left, top, right, bottom = _box(image)
    x, y = (left + right) / 2 + rng.uniform(-1, 1), (top + bottom) / 2 + rng.uniform(-1.5, 1.5)
    return _line(image, [(x, y), (x + 0.1, y + 0.1)], width * rng.uniform(1.0, 1.5))


def _european_one(image, rng, width):
    """A flag before the stem and sometimes a base line under it."""
    ys, xs = np.nonzero(image > 0.3)
    if not len(xs):
        return image
    left, top, right, bottom = _box(image)
    head_x, foot_x = xs[ys == ys.min()].mean(), xs[ys == ys.max()].mean()
    height = bottom - top
    length, angle = height * rng.uniform(0.2, 1.0), np.deg2rad(rng.uniform(25, 75))
    tip = (head_x - length * np.sin(angle), top + length * np.cos(angle))
    out = _line(image, [tip, (head_x, top)], width)
    if rng.random() < 0.4:
        half = height * rng.uniform(0.15, 0.35)
        drop = rng.uniform(-1, 1)
        out = _line(out, [(foot_x - half, bottom + drop), (foot_x + half, bottom - drop)], width)
    return out


def _crossed_seven(image, rng, width):
    """A bar through the stem, at about the middle of the height, and sometimes a serif on the roof."""
    left, top, right, bottom = _box(image)
    if rng.random() < 0.4:
        image = _line(image, [(left, top + 1), (left + rng.uniform(-1.5, 0.5), top + rng.uniform(2.5, 6))], width)
    y = top + (bottom - top) * rng.uniform(0.4, 0.65)
    row = np.nonzero(image[int(round(y))] > 0.3)[0]
    x = row.mean() if len(row) else (left + right) / 2
    half, tilt = (right - left) * rng.uniform(0.22, 0.5), rng.uniform(-1.2, 1.2)
    return _line(image, [(x - half, y + tilt), (x + half, y - tilt)], width)


def _curled_nine(image, rng, width):
    """The tail goes on in a curve to the left, as in a g."""
    ys, xs = np.nonzero(image > 0.3)
    if not len(xs):
        return image
    left, top, right, bottom = _box(image)
    foot = np.array([xs[ys == ys.max()].mean(), bottom - width / 3])
    length = (bottom - top) * rng.uniform(0.25, 0.8)
    middle = foot + (-0.45 * length, rng.uniform(0.15, 0.45) * length)
    end = foot + (-length, rng.uniform(-0.35, 0.15) * length)
    t = np.linspace(0, 1, 9)[:, None]  # a quadratic Bézier curve through three control points
    return _line(image, (1 - t) ** 2 * foot + 2 * t * (1 - t) * middle + t**2 * end, width)


def _narrow(image, rng, width):
    """Written narrowly: down to half as broad as before."""
    del width  # nothing is added
    height, breadth = image.shape
    return cv2.resize(image, (int(breadth * rng.uniform(0.5, 0.75)), height), interpolation=cv2.INTER_AREA)


_STYLES = {
    0: (_slashed_zero, _slashed_zero, _dotted_zero), 1: (_european_one,), 4: (_narrow,), 7: (_crossed_seven,),
    8: (_narrow,), 9: (_curled_nine,),
}
STYLED = tuple(_STYLES)  # the digits that have a style of their own


def estimate_width(image: np.ndarray) -> float:
    """The pen's width in pixels: twice the area over the outline's length, good enough to match an added stroke."""
    area = image.sum()
    edges = np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()
    return float(np.clip(2.4 * area / max(edges, 1e-6), 1.2, 4.5))


def style(image: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
    """Redraw one (28, 28) digit in a style that MNIST lacks, if it has one.

    Slashed or dotted 0, flagged or footed 1, crossed 7, curled 9, narrow 4 and 8. The pen of an added stroke is about
    as wide as the pen that wrote the digit; the result is normalised as every other ink.
    """
    choices = _STYLES.get(int(label))
    if not choices:
        return image
    draw = choices[rng.integers(len(choices))]
    roomy = np.pad(image, 8)  # added strokes may reach beyond the 28 pixels
    return normalize(np.clip(draw(roomy, rng, estimate_width(image) * rng.uniform(0.8, 1.1)), 0, 1))


def augment(images: np.ndarray, rng: np.random.Generator, a: Augmentation, labels: np.ndarray | None = None
            ) -> np.ndarray:
    """A changed copy of ``images``, (n, 28, 28, 1) float32 in [0, 1]; ``labels`` (n,) are needed for writing styles.

    Every image has a strength of its own between nothing and all of ``a``: most stay near to what was written, a few
    go far.
    """
    out = np.empty_like(images)
    for i, image in enumerate(images[..., 0]):
        if labels is not None and a.styles and rng.random() < a.styles:
            image = style(image, labels[i], rng)
        own = a.scaled(rng.random())
        image = geometry(image, rng, own)
        if a.stroke_width:
            image = stroke_width(image, own.stroke_width * rng.uniform(-1, 1))
        out[i, ..., 0] = paper(image, rng, own)
    return np.clip(out, 0, 1, out=out)

"""What happens to images: changes to learn from, with writing styles that MNIST lacks, and
corruptions, digits made harder by degrees, to examine with.

Everything is drawn from the generator that is passed in, so that the same seed gives the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from digits.recognizer.ink import SIDE, normalize

# Images are tiny: training keeps the cores, and one thread keeps the order of sums.
cv2.setNumThreads(1)


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are changed. Zero everywhere changes nothing."""

    rotation: float = 12.0  # degrees, twice the standard deviation: a 6 must not become a 9
    scale: float = 0.18  # fraction, each axis on its own: aspect ratios differ between writers
    shear: float = 0.25  # tangent of the slant, as MNIST's writers differ in it
    shift: float = 1.5  # pixels: the centre of mass moves with a hook or a foot
    elastic: float = 0.7  # pixels, root mean square of the smooth displacement (Simard et al. 2003)
    stroke_width: float = 0.9  # 0 to 1: how far towards one step of erosion or dilation
    contrast: float = 0.5  # 0 to 1: the part of its strength that ink may lose; pencils are grey
    noise: float = 0.12  # standard deviation, in units of full ink: paper is not clean
    styles: float = 0.3  # probability of a style that MNIST lacks, times ``OFTEN``

    def scaled(self, strength: float) -> "Augmentation":
        """The same mixture, every amount multiplied by ``strength`` (0 to 2)."""
        return replace(self, **{name: value * strength for name, value in vars(self).items()})

    def amounts(self) -> dict[str, str]:
        """How much of each, in words."""
        return {name.replace("_", " "): UNITS[name].format(n) for name, n in vars(self).items()}


UNITS = {
    "rotation": "{:g}°, two standard deviations",
    "scale": "± {:.0%}, each axis on its own",
    "shear": "a slant of {:g} (tangent), two standard deviations",
    "shift": "± {:g} pixels",
    "elastic": "bent by {:g} pixels, root mean square",
    "stroke_width": "{:.0%} of one pixel thicker or thinner",
    "contrast": "ink up to {:.0%} paler",
    "noise": "{:.0%} of full ink, every third image",
    "styles": "{:.0%} of the digits that have one, on average",
}
NONE = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


def only(part: str, a: Augmentation) -> Augmentation:
    """``a`` with every part but one switched off."""
    return replace(NONE, **{part: getattr(a, part)})


def _linear(rng: np.random.Generator, a: Augmentation, strength: np.ndarray) -> np.ndarray:
    """Random matrices (n, 2, 2) that rotate, scale and shear; ``strength`` (n,) from 0 to 1."""
    n = len(strength)
    angle = np.deg2rad(a.rotation) * strength * np.clip(rng.normal(0, 0.5, n), -1.5, 1.5)
    sx, sy = np.exp(a.scale * strength * rng.uniform(-1, 1, (2, n)))
    shear = a.shear * strength * np.clip(rng.normal(0, 0.5, n), -1.5, 1.5)
    cos, sin = np.cos(angle), np.sin(angle)
    entries = [cos * sx, (cos * shear - sin) * sy, sin * sx, (sin * shear + cos) * sy]
    return np.stack(entries, -1).reshape(n, 2, 2)


# Images are stacked with empty rows between them, so that OpenCV handles a batch in one call.
GAP = 2
_AXIS = np.arange(SIDE, dtype=np.float32)
_GRID = np.stack(np.meshgrid(_AXIS, _AXIS), -1).reshape(-1, 2)  # x then y
_ENLARGE = cv2.resize(np.eye(5, dtype=np.float32), (5, SIDE), interpolation=cv2.INTER_CUBIC)


def _stack(images: np.ndarray) -> np.ndarray:
    """(n, 28, 28) as one tall picture with empty rows around each."""
    return np.pad(images, ((0, 0), (GAP // 2, GAP // 2), (0, 0))).reshape(-1, SIDE)


def _unstack(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(-1, SIDE + GAP, SIDE)[:, GAP // 2 : -GAP // 2]


def geometry(
    images: np.ndarray, rng: np.random.Generator, a: Augmentation, strength: np.ndarray
) -> np.ndarray:
    """Images (n, 28, 28), each moved by a random affine map about its centre and smoothly bent."""
    n, middle = len(images), np.float32(13.5)
    inverse = np.linalg.inv(_linear(rng, a, strength)).astype(np.float32)
    shift = (a.shift * strength[:, None] * rng.uniform(-1, 1, (n, 2))).astype(np.float32)
    where = (_GRID - middle - shift[:, None]) @ inverse.transpose(0, 2, 1) + middle  # (n, 784, 2)
    if a.elastic:  # coarse noise, enlarged by cubic interpolation along both axes
        noise = rng.normal(0, 1, (n, 2, 5, 5)).astype(np.float32)
        coarse = noise * (a.elastic * strength)[:, None, None, None]
        bent = _ENLARGE @ coarse.astype(np.float32) @ _ENLARGE.T
        where = where + bent.reshape(n, 2, -1).transpose(0, 2, 1)
    top = (SIDE + GAP) * np.arange(n)[:, None]  # of each image in the stack
    rows = np.clip(where[..., 1], -GAP / 2, SIDE - 1 + GAP / 2) + top + GAP / 2
    columns, rows = (axis.astype(np.float32).reshape(-1, SIDE) for axis in (where[..., 0], rows))
    moved = cv2.remap(_stack(images), columns, rows, cv2.INTER_LINEAR)
    return moved.reshape(n, SIDE, SIDE)


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def stroke_width(images: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Thicken (amount up to 1) or thin (down to -1) by a part of one step of dilation or erosion.

    images (n, 28, 28), amount (n,). A thin stroke is not eroded away: erosion stops at 0.7 of a
    step, and what it leaves is brought back to full ink.
    """
    amount = np.asarray(amount, np.float32)[:, None, None]
    stacked = _stack(images)
    thicker = images + np.clip(amount, 0, 1) * (_unstack(cv2.dilate(stacked, _CROSS)) - images)
    thinner = images + np.clip(-amount, 0, 0.7) * (_unstack(cv2.erode(stacked, _CROSS)) - images)
    peak, before = thinner.max((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    thinner = thinner * np.clip(before / np.maximum(peak, 1e-6), 1, 2)
    return np.where(amount > 0, thicker, thinner)


def paper(
    images: np.ndarray, rng: np.random.Generator, a: Augmentation, strength: np.ndarray
) -> np.ndarray:
    """Paler ink, and for every third image the grain of paper or of a camera."""
    if a.contrast:  # some ink is left at any strength
        loss = min(a.contrast, 0.8) * strength * rng.random(len(images))
        images = images * (1 - loss)[:, None, None].astype(np.float32)
    if a.noise:
        grainy = np.flatnonzero(rng.random(len(images)) < 0.3)
        grain = rng.standard_normal((len(grainy), SIDE, SIDE), np.float32)
        images = images.copy()
        images[grainy] += grain * (a.noise * strength[grainy]).astype(np.float32)[:, None, None]
    return images


def _box(image: np.ndarray) -> tuple[float, float, float, float]:
    """The ink's bounding box: left, top, right, bottom in pixels."""
    ys, xs = np.nonzero(image > 0.3)
    return (xs.min(), ys.min(), xs.max(), ys.max()) if len(xs) else (10.0, 10.0, 18.0, 18.0)


FINE = 3  # times larger, while a line is drawn: even edges at any width


def _line(image: np.ndarray, points, width: float) -> np.ndarray:
    """``image`` with an anti-aliased pen line through ``points`` (n, 2), in its pixels."""
    height, breadth = image.shape
    big = np.zeros((FINE * height, FINE * breadth), np.uint8)
    path = np.round((np.asarray(points, float) + 0.5) * FINE * 16).astype(np.int32)
    cv2.polylines(big, [path[:, None]], False, 255, max(round(width * FINE), 1), cv2.LINE_AA, 4)
    line = cv2.resize(big, (breadth, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.maximum(image, line / 255)


def _slashed_zero(image, rng, width):
    """A slash at any angle but flat, from well within the ring to far beyond it; often narrow."""
    left, top, right, bottom = _box(image)
    if width < 3 and right - left > 0.7 * (bottom - top) and rng.random() < 0.3:  # else it closes
        image = _narrow(image, rng, width)
        left, top, right, bottom = _box(image)
    angle = np.deg2rad(rng.uniform(25, 105) if rng.random() < 0.85 else rng.uniform(105, 150))
    along = np.array([np.cos(angle), -np.sin(angle)])  # upwards; the first ones lean to the right
    half = np.array([right - left, bottom - top]) / 2
    ring = 1 / np.linalg.norm(along / np.maximum(half, 1))  # from the middle to the ellipse
    middle = np.array([left + right, top + bottom]) / 2 + rng.normal(0, 0.1, 2) * half
    ends = [middle + side * along * ring * rng.uniform(0.6, 1.6) for side in (-1, 1)]
    return _line(image, ends, width)


def _dotted_zero(image, rng, width):
    left, top, right, bottom = _box(image)
    x, y = (left + right) / 2 + rng.uniform(-1, 1), (top + bottom) / 2 + rng.uniform(-1.5, 1.5)
    return _line(image, [(x, y), (x + 0.1, y + 0.1)], width * rng.uniform(1.0, 1.5))


def _curve(start, middle, end) -> np.ndarray:
    """A quadratic Bézier curve through three control points, (9, 2)."""
    t = np.linspace(0, 1, 9)[:, None]
    start, middle, end = (np.asarray(point) for point in (start, middle, end))
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end


def _european_one(image, rng, width):
    """A flag before the stem, a tick or nearly as long as it, and sometimes a base line."""
    ys, xs = np.nonzero(image > 0.3)
    if not len(xs):
        return image
    left, top, right, bottom = _box(image)
    head_x, foot_x = xs[ys == ys.min()].mean(), xs[ys == ys.max()].mean()
    height = bottom - top
    length, angle = height * rng.uniform(0.2, 1.0), np.deg2rad(rng.uniform(15, 65))
    head = np.array([head_x, top])
    tip = (head_x - length * np.sin(angle), top + length * np.cos(angle))
    bend = (head + tip) / 2 + rng.normal(0, 0.1 * length, 2)
    out = _line(image, _curve(tip, bend, head), width)
    if rng.random() < 0.4:
        half = height * rng.uniform(0.15, 0.4)
        drop = rng.uniform(-1, 1)
        out = _line(out, [(foot_x - half, bottom + drop), (foot_x + half, bottom - drop)], width)
    return out


def _crossed_seven(image, rng, width):
    """A bar through the stem and sometimes a hook before the roof."""
    left, top, right, bottom = _box(image)
    breadth, height = right - left, bottom - top
    if rng.random() < 0.5:
        end = (left + rng.uniform(-3, 1), top + height * rng.uniform(0.12, 0.4))
        bend = (left + rng.uniform(-2, 2), top + rng.uniform(0, 3))
        image = _line(image, _curve((left, top + 1), bend, end), width)
    y = top + height * rng.uniform(0.4, 0.78)
    row = np.nonzero(image[int(round(y))] > 0.3)[0]
    x = row.mean() + rng.normal(0, 0.08 * breadth) if len(row) else (left + right) / 2
    half, tilt = breadth * rng.uniform(0.22, 0.6), rng.uniform(-2, 2)
    return _line(image, [(x - half, y + tilt), (x + half, y - tilt)], width)


def _curled_nine(image, rng, width):
    """The tail goes on in a curve to the left, as in a g; sometimes under a small head."""
    if rng.random() < 0.5:  # the upper half is pressed together, and the ink below moves up
        _, top, _, bottom = _box(image)
        top, half, breadth = int(top), int((bottom - top) / 2), image.shape[1]
        size = (breadth, max(int(half * rng.uniform(0.4, 0.8)), 1))
        head = cv2.resize(image[top : top + half], size, interpolation=cv2.INTER_AREA)
        below = np.zeros((half - len(head), breadth), np.float32)
        image = np.concatenate([image[:top], head, image[top + half :], below])
    ys, xs = np.nonzero(image > 0.3)
    if not len(xs):
        return image
    left, top, right, bottom = _box(image)
    foot = np.array([xs[ys == ys.max()].mean(), bottom - width / 3])
    length = (bottom - top) * rng.uniform(0.25, 1.0)
    middle = foot + (rng.uniform(-0.5, 0.15) * length, rng.uniform(0.15, 0.7) * length)
    end = foot + (-length, rng.uniform(-0.4, 0.35) * length)
    return _line(image, _curve(foot, middle, end), width)


def _small_headed_nine(image, rng, width):
    """A head shrunk to a loop, and a new stem that swings out to the right and back under it.

    Drawn enlarged, or the loop would close; made small again like all ink.
    """
    left, top, right, bottom = (int(side) for side in _box(image))
    height = bottom - top
    head = image[top : top + max(int(0.6 * height), 4), left : right + 1]
    shrink = rng.uniform((0.55, 0.45), (0.95, 0.8))
    enlarge = {"fx": FINE * shrink[0], "fy": FINE * shrink[1], "interpolation": cv2.INTER_LINEAR}
    head = np.clip(cv2.resize(head, None, **enlarge), 0, 1)
    out = np.pad(head, FINE * height)
    inked = np.argwhere(head > 0.5)
    if not len(inked):
        return image
    y, x = inked[inked[:, 1].argmax()] + FINE * height - (0, width)
    length = FINE * height * rng.uniform(0.5, 1.0)
    turn = (x - rng.uniform(-0.15, 0.35) * length, y + length)
    end = turn - np.array([rng.uniform(0.15, 0.6), rng.uniform(-0.05, 0.2)]) * length
    swing = (x + rng.uniform(0.0, 0.35) * length, y + rng.uniform(0.3, 0.7) * length)
    stem = _curve((x, y), swing, turn)
    hook = _curve(turn, turn + np.array([-0.1, rng.uniform(0, 0.12)]) * length, end)
    return _line(out, np.concatenate([stem, hook]), FINE * width * shrink.mean())


def _short_four(image, rng, width):
    """An open 4 whose stem begins lower than its first stroke, and is short."""
    left, top, right, bottom = (int(side) for side in _box(image))
    row = image[top + (bottom - top) // 5] > 0.3
    starts = np.flatnonzero(np.diff(row.astype(int)) == 1)
    if len(starts) != 2:  # a closed one
        return _narrow(image, rng, width)
    out = image.copy()
    cut = top + int((bottom - top) * rng.uniform(0.15, 0.5))
    out[:cut, starts[1] - 1 :] = 0
    out[cut, starts[1] - 1 :] *= 0.5
    if rng.random() < 0.3:  # which does not reach far down, either
        out[bottom - int((bottom - top) * rng.uniform(0.1, 0.25)) :] = 0
    return _narrow(out, rng, width) if rng.random() < 0.6 else out


def _roofed_five(image, rng, width):
    """The roof is drawn further to the right."""
    left, top, right, bottom = _box(image)
    upper = np.argwhere(image[int(top) : int(top) + 5] > 0.3)
    if not len(upper):
        return image
    y, x = upper[upper[:, 1].argmax()] + (int(top), 0)
    reach = (right - left) * rng.uniform(0.2, 0.7)
    return _line(image, [(x - 1, y), (x + reach, y + rng.uniform(-0.25, 0.1) * reach)], width)


def _narrow(image, rng, width):
    """Written narrowly: down to less than half as broad as before."""
    height, breadth = image.shape
    size = (int(breadth * rng.uniform(0.45, 0.75)), height)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _slanted(image, rng, width):
    """Leaning far to the right."""
    height, breadth = image.shape
    slant = rng.uniform(0.25, 0.6)
    matrix = np.array([[1, -slant, slant * height / 2 + 4], [0, 1, 0]], np.float32)
    return cv2.warpAffine(image, matrix, (breadth + 8, height))


_STYLES = {
    0: (_slashed_zero, _slashed_zero, _dotted_zero),
    1: (_european_one,),
    4: (_short_four, _short_four, _slanted),
    5: (_roofed_five,),
    7: (_crossed_seven,),
    8: (_narrow,),
    9: (_curled_nine, _curled_nine, _small_headed_nine, _small_headed_nine, _slanted),
}
STYLED = tuple(_STYLES)  # the digits that have a style of their own
# How often, by label: a bare 1 is soon learnt, but its sisters look like 7s; the last one is -1.
OFTEN = np.array([1, 2, 0, 0, 1, 1, 0, 1, 1, 1.5, 0])


def estimate_width(image: np.ndarray) -> float:
    """The pen's width in pixels, about: twice the area over the outline's length."""
    area = image.sum()
    edges = np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()
    return float(np.clip(2.4 * area / max(edges, 1e-6), 1.2, 4.5))


def style(image: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
    """Redraw one (28, 28) digit in a style that MNIST lacks, if it has one.

    An added stroke is about as wide as the digit's pen; the result is normalised as all ink is.
    """
    choices = _STYLES.get(int(label))
    if not choices:
        return image
    draw = choices[rng.integers(len(choices))]
    roomy = np.pad(image, 8)  # added strokes may reach beyond the 28 pixels
    return normalize(np.clip(draw(roomy, rng, estimate_width(image) * rng.uniform(0.8, 1.1)), 0, 1))


def augment(
    images: np.ndarray, rng: np.random.Generator, a: Augmentation, labels: np.ndarray | None = None
) -> np.ndarray:
    """A changed copy of ``images``, (n, 28, 28, 1) float32 in [0, 1].

    Every image has a strength of its own between nothing and all of ``a``: most stay near to what
    was written, a few go far. ``labels`` (n,) are needed for writing styles; -1, what is no digit,
    has none.
    """
    out = np.array(images[..., 0], np.float32)
    if labels is not None and a.styles:
        for i in np.flatnonzero(rng.random(len(out)) < a.styles * OFTEN[labels]):
            out[i] = style(out[i], labels[i], rng)
    strength = rng.random(len(out))
    out = geometry(out, rng, a, strength)
    if a.stroke_width:
        out = stroke_width(out, a.stroke_width * strength * rng.uniform(-1, 1, len(out)))
    return np.clip(paper(out, rng, a, strength), 0, 1, dtype=np.float32)[..., None]


# Corruptions: what a test set lacks, to examine with


@dataclass(frozen=True)
class Corruption:
    """One way to make digits harder; call it as ``corruption(images, severity, rng)``.

    Images are (n, 28, 28) float32 in [0, 1] and come back alike, as a new array.
    """

    name: str  # as in metrics.json
    label: str  # the axis of a plot, with its unit
    severities: tuple[float, ...]  # ascending
    neutral: float  # the severity that changes nothing
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # (28, 28) to another

    def __call__(self, images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        if severity == self.neutral:
            return np.array(images, np.float32)
        harder = [np.clip(self.apply(image, severity, rng), 0, 1) for image in images]
        return np.stack(harder).astype(np.float32)


_CENTRE = ((SIDE - 1) / 2, (SIDE - 1) / 2)


def shift(image: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Move by ``pixels`` to the left, right, top or bottom; ink that leaves the picture is lost."""
    dx, dy = ((-1, 0), (1, 0), (0, -1), (0, 1))[rng.integers(4)]
    return _affine(image, np.array([[1, 0, dx * pixels], [0, 1, dy * pixels]], np.float64))


def rotate(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn about the centre, clockwise or counter-clockwise at random."""
    return _affine(image, cv2.getRotationMatrix2D(_CENTRE, degrees * rng.choice((-1, 1)), 1.0))


def scale(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarge or shrink about the centre; shrinking averages, so that thin ink only fades."""
    smooth = blur(image, 0.4 / factor, rng) if factor < 0.75 else image
    return _affine(smooth, cv2.getRotationMatrix2D(_CENTRE, 0, factor))


def noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with this standard deviation to every pixel."""
    return image + rng.normal(0, deviation, image.shape)


def blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur with ``sigma`` pixels; the amount of ink stays."""
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)


def contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Pull every pixel towards the mean (Hendrycks and Dietterich 2019): ink pales, paper greys."""
    return image.mean() + factor * (image - image.mean())


def pen_width(image: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Make strokes wider by about ``pixels``; where negative, thinner, and thin ones vanish.

    On a picture enlarged four times, so that half pixels count.
    """
    side = 2 * round(abs(pixels) * 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    changed = (cv2.dilate if pixels > 0 else cv2.erode)(large, disc)
    return cv2.resize(changed, image.shape[::-1], interpolation=cv2.INTER_AREA)


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
        "stroke width", "stroke width (change, pixels)", (-1.5, -1, -0.5, 0, 1, 2, 3), 0, pen_width
    ),
)

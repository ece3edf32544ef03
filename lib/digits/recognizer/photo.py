"""An uploaded picture of handwriting to the digits in it, each in MNIST's form.

Decode within limits, tell ink from paper by its colour, take out printed lines and what else is no
handwriting, put the pieces of each digit together, turn the page upright, and give each digit an
even pen. OpenCV does the image work. An app whose visitors upload nothing never imports this.
"""

import contextlib
import io
import warnings
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFilter, ImageOps

from digits.recognizer import ink, segmentation
from digits.recognizer.model import LARGEST_FILE, PhotoError, Recognizer, energy, quiet_stderr
from digits.recognizer.segmentation import Answer, Part

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
LARGEST_JPEG, LARGEST_OTHER = 50_000_000, 25_000_000  # pixels; a JPEG is decoded reduced
LONGEST_SIDE, NARROWEST = 30_000, 60  # pixels; a row of forty digits is less than 60 times as long
MOST_CHUNKS = 10_000  # of a PNG: Pillow takes 5 microseconds for each
WORK_SIDE = 1600  # pixels: the longer side of the picture that is searched for ink
PREVIEW_SIDE = 800
MOST_DIGITS, MOST_PIECES = 40, 200  # with more pieces of connected ink it is no handwriting

LEAST_CONTRAST = 0.12  # of the paper's brightness: what differs less is no ink
NOISE = 5.0  # times the noise of the paper, likewise
LEAST_INK = 0.4  # of the usual ink, that each piece reaches somewhere
VISIBLE, DARKER = 0.25, 1.6  # of the ink nearby; of printed lines: what is written over them
PALE, INKED = 0.38, 0.5  # strength: a stroke goes on while it is pale, and is inked somewhere
BORDER = 0.15  # by which a small picture's paper may differ along its border
FRAME = 0.11  # of what lies within the border: if less of it has that colour, it is a frame's
DARKEST_PAPER = 0.5  # of the usual brightness: what is darker is the desk beside the page
STARK = 0.35  # by which a thick pen's ink differs from the paper at the picture's border
SMALLEST_DESK = 350  # pixels: smaller pictures are crops and show none
SMALLEST_FRAMED = 20  # pixels: of less a frame would leave nothing
SMALLEST_RULED, MOST_LINES = 40, 300  # pixels; pieces of lines in one direction, the longest
STEEPEST, LONG_LINE = 0.4, 0.5  # slope of a printed line; of the picture's longer side
# Of a digit's height: no pen is as thick; nothing of a digit is as far; what is narrower is not two
# digits that touch, or not if it is known for sure; they are parted at columns with no more ink,
# and not through a loop that is as high
SOLID, FARTHEST_SPECK, NARROWEST_PAIR, WIDEST_SURE, THINNEST = 0.3, 0.5, 0.8, 1.2, 0.4
LOOP = 0.2
# Each cut, a height beyond one, a height below 0.85, a height of doubtful ink take from the score
MOST_CUTS, CUT_COST, TOO_WIDE, TOO_LOW, DOUBT = 8, 0.5, 2.0, 8.0, 12.0
FEWEST_TURNED, MOST_TURNED = 3, 20  # digits: of fewer, nobody can tell how the page lies
STRAIGHT, STEEPEST_ROW = 12.0, 60.0  # degrees
TURN_GAIN = 0.3  # of the score, that turning the page must bring
# Of 200 pixels: a pen that is off by less is left; thickened further, a digit's gaps would close
PEN_TOLERANCE, MOST_THICKER, MOST_THINNER = 3.0, 3, 8

SMALLER = "Crop it, or save it smaller."
CROWDED = f"There is too much here, or more than {MOST_DIGITS} digits. Crop it to those you mean."
LEFT_OUT = "Something as large as a digit was left out: look at the boxes, or crop the picture."
AT_EDGE = "The picture's edge cuts a digit: part of it may be missing."
NO_INK = (
    "No ink was found in this picture. Write with a dark pen on plain paper, fill most of the "
    "picture with the digits, and avoid strong shadows."
)
NO_PICTURE = (
    "This is no picture that can be read here. Save it as PNG, JPEG, WebP, BMP, TIFF or GIF; of a "
    "HEIC photo or a PDF take a screenshot."
)


class _Piece(NamedTuple):
    """Ink that belongs together."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels
    ink: np.ndarray  # (bottom - top, right - left) float32 in [0, 1], nothing but this piece's ink


_Found = tuple[list[_Piece], str]  # digits or pieces, and why they may not be all or not be right


class _Opinion(NamedTuple):
    """Of a recognizer, on ink that may be one whole digit."""

    confidence: float
    doubt: float  # how far its energy is below that of clearly drawn digits, 0 to 1
    sure: bool


class _Judge:
    """Asks a recognizer about ink, each piece once."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer, self._known = recognizer, dict[tuple, _Opinion]()

    def __call__(self, piece: _Piece) -> _Opinion:
        key = *piece.box, float(piece.ink.sum())
        if key not in self._known:
            logits = self.recognizer.model.logits(_mnist_form(piece)[None])[0]
            calibration, usual = self.recognizer.calibration, self.recognizer.usual_energy
            self._known[key] = _Opinion(
                float(calibration.probabilities(logits).max()),
                float(np.clip(1 - energy(logits) / usual, 0, 1)),
                not calibration.reason(logits),
            )
        return self._known[key]

    def score(self, pieces: list[_Piece]) -> float:
        """How well it knows all of them; -inf for none."""
        known = [opinion.confidence - opinion.doubt for opinion in map(self, pieces)]
        return float(np.mean(known)) + min(known) if known else -np.inf


def read_photo(content: bytes, recognizer: Recognizer, upright: bool = False) -> Answer:
    """Read the digits in a picture: one digit, or a row or several rows of them, in this order.

    content: a PNG, JPEG, WebP, BMP, TIFF or GIF file (its first frame), at most 12 MB and 25
    million pixels (JPEG 50 million), dark ink on light or light on dark. recognizer: asked, too,
    which pieces of ink make a digit, where digits that touch part and how the page lies. upright:
    whether somebody has turned it, so that no quarter turn is tried. The boxes are in pixels of
    the preview, the upright picture, at most 800 pixels wide and high.
    PhotoError when the file is too large, damaged or no picture, and when there is no ink in it.
    """
    picture, judge = _unframed(_decode(content)), _Judge(recognizer)
    strength, seen = _ink_strength(picture)
    found, printed = _without_print(strength, seen, judge)
    angle, (digits, doubt) = _turned(strength * ~printed, found, judge, upright)
    if not digits:
        raise PhotoError(NO_INK)
    note = f"Turned by {abs((angle + 180) % 360 - 180):.0f} degrees." if angle else ""
    paper = tuple(int(value) for value in np.median(np.asarray(picture), (0, 1)))
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, True, fillcolor=paper)
    boxes, preview = _preview(picture, [piece.box for piece in digits])
    read = [recognizer.predict(_mnist_form(piece)) for piece in digits]
    parts = tuple(Part(one, one.reason, box) for one, box in zip(read, boxes, strict=True))
    return Answer(parts, preview=preview, note=f"{note} {doubt}".strip(), doubtful=bool(doubt))


def _without_print(
    strength: np.ndarray, seen: np.ndarray, judge: _Judge
) -> tuple[_Found, np.ndarray]:
    """The digits, and the printed lines between them: those that leave what reads best.

    Dark lines stand out by their ink, and pale ones, of squared paper, in all that is ``seen``, the
    contrast (H, W); what is much darker than those is written over them. A single line may be
    the stroke of a digit.
    """
    tries = [_printed(mask) for mask in (strength > INKED, seen > 0)]
    if (pale := tries[1][0]).any():
        pale &= seen < DARKER * np.median(seen[pale & (seen > 0)])
    if any(printed.any() and not certain for printed, certain in tries):
        tries.append((np.zeros_like(pale), True))
    read: list[tuple[float, _Found, np.ndarray]] = []
    for k, (printed, _) in enumerate(tries):
        if any(np.array_equal(printed, other) for other, _ in tries[:k]):
            continue
        with contextlib.suppress(PhotoError):  # so it is full of pieces
            found = _find_digits(strength * ~printed, judge)
            read.append((judge.score(found[0]) - bool(found[1]), found, printed))
    if not read:
        raise PhotoError(CROWDED)
    return max(read, key=lambda one: one[0])[1:]


def _turned(
    strength: np.ndarray, found: _Found, judge: _Judge, upright: bool
) -> tuple[float, _Found]:
    """By how many degrees to the left the page must be turned, and its digits then."""

    def turn(angle: float) -> _Found:
        turned = Image.fromarray(strength).rotate(angle, Image.Resampling.BILINEAR, True)
        return _find_digits(np.asarray(turned), judge)

    if angle := _skew(found[0]):
        found = turn(angle)
    unsure = [not judge(piece).sure for piece in found[0]]
    best, chosen = judge.score(found[0]) + TURN_GAIN, (angle, found)
    enough = FEWEST_TURNED <= len(unsure) <= MOST_TURNED
    if enough and np.mean(unsure) >= 0.25 and not upright:
        for more in (90, 270, 180):
            with contextlib.suppress(PhotoError):  # that way up it is full of pieces
                found = turn(angle + more)
                if len(found[0]) >= FEWEST_TURNED and judge.score(found[0]) > best:
                    best, chosen = judge.score(found[0]), (angle + more, found)
    return chosen


def _skew(digits: list[_Piece]) -> float:
    """By how many degrees a row is askew; 0 when it is level, on its side, or no row."""
    if len(digits) < FEWEST_TURNED:
        return 0.0
    middles = np.array([np.add(piece.box[:2], piece.box[2:]) / 2 for piece in digits], np.float32)
    dx, dy, x, y = cv2.fitLine(middles, cv2.DIST_L2, 0, 0.01, 0.01).ravel()
    along, across = np.ptp((middles - (x, y)) @ np.array([[dx, -dy], [dy, dx]]), axis=0)
    angle = float(np.degrees(np.arctan(dy / dx))) if dx else 90.0
    return angle if across < 0.15 * along and STRAIGHT < abs(angle) < STEEPEST_ROW else 0.0


# The file


def _decode(content: bytes) -> Image.Image:
    """The upright picture, RGB, its longer side at most WORK_SIDE; PhotoError when it is none."""
    if not content or isinstance(content, str):
        raise PhotoError("The file is empty. Choose another one.")
    if len(content) > LARGEST_FILE:
        raise PhotoError(f"The file has more than {LARGEST_FILE // 1_000_000} MB. {SMALLER}")
    place, chunks = 8, 0
    while content[:4] == b"\x89PNG" and place < len(content):
        place, chunks = place + 12 + int.from_bytes(content[place : place + 4]), chunks + 1
        if chunks > MOST_CHUNKS:
            raise PhotoError("This picture is put together in far too many parts. Save it again.")
    try:
        with quiet_stderr(), warnings.catch_warnings():  # what decoders say of damaged files
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(picture)
                return _upright(picture)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(f"This picture has far too many pixels. {SMALLER}") from None
    except Image.UnidentifiedImageError:
        raise PhotoError(NO_PICTURE) from None
    except Exception as error:  # decoders fail on damaged files with errors of any kind
        raise PhotoError(
            "This picture is damaged or incomplete. Save it again, or choose another one."
        ) from error


def _check_size(picture: Image.Image) -> None:
    short, long = sorted(picture.size)
    limit = LARGEST_JPEG if picture.format in ("JPEG", "MPO") else LARGEST_OTHER
    if short * long > limit or long > LONGEST_SIDE:
        raise PhotoError(
            f"This picture has {picture.width:,} x {picture.height:,} pixels; "
            f"{limit // 1_000_000} million is the limit. {SMALLER}"
        )
    if short < 4 or long > NARROWEST * short:
        raise PhotoError("This picture is too small or too narrow to hold a digit.")


def _upright(picture: Image.Image) -> Image.Image:
    """The first frame, reduced, turned as EXIF says, without transparency, RGB."""
    size = WORK_SIDE, WORK_SIDE
    picture.draft(None, size)  # JPEG can be decoded smaller
    picture.load()
    exif = {"exif": picture.info.get("exif")}
    if picture.mode[0] in "IF":  # deeper grey, of scanners: perhaps 12 bits in 16
        if picture.mode in "IF":
            picture.thumbnail(size)  # four bytes a pixel are worked on below
        values = np.nan_to_num(np.asarray(picture, np.float32), nan=0, posinf=0, neginf=0).clip(0)
        picture = Image.fromarray((values * (255 / max(values.max(), 1e-9))).astype(np.uint8))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode == "1":
        picture = picture.convert("L")
        if min(picture.size) > 100:  # dots of a coarse scan to grey
            picture = picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 500 + 1))
    elif picture.mode not in ("L", "CMYK"):
        picture = picture.convert("RGB")
    picture.info = exif
    if (factor := int(max(picture.size) / WORK_SIDE / 1.5)) > 1:
        picture = picture.reduce(factor)  # whole pixels first, which is far quicker
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    with contextlib.suppress(Exception):  # a damaged block is no reason to refuse the picture
        picture = ImageOps.exif_transpose(picture)
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    pixels = np.asarray(picture, np.float32)
    painted = np.average(pixels[..., :3].mean(2), weights=pixels[..., 3] + 1e-9)
    ground = Image.new("RGBA", picture.size, "black" if painted > 150 else "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


# The ink


def _ink_strength(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """0 paper to 1 full ink, (H, W) float32; and the contrast, 0 where it is none worth looking at.

    Full ink is the darkest nearby, so that pale strokes count beside dark ones; what nowhere
    reaches LEAST_INK of the usual ink is none.
    """
    difference, floor = _contrast(np.asarray(picture, np.float32) / 255)
    strong = difference[difference > floor]
    if strong.size < 4:
        return np.zeros_like(difference), np.zeros_like(difference)
    full = float(np.quantile(strong, 0.9))
    near = np.ones(2 * (2 * round(max(difference.shape) / 120) + 3,), np.uint8)
    nearby = cv2.dilate(difference, near).clip(2 * floor, max(full, 2 * floor))
    strength = ((difference / nearby - 0.25) / 0.5).clip(0, 1).astype(np.float32)
    n, labels = cv2.connectedComponents((strength > 0.5).astype(np.uint8), connectivity=8)
    sure = np.zeros(n, np.float32)
    sure[labels[difference > LEAST_INK * full]] = sure[0] = 1
    return strength * sure[labels], difference * (difference > np.maximum(floor, VISIBLE * nearby))


def _contrast(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each pixel's colour is from the paper's, (H, W) float32, and what is no ink."""
    if min(rgb.shape[:2]) > 200:
        rgb = cv2.GaussianBlur(rgb, (0, 0), max(rgb.shape) / 1600)
    paper = _paper(rgb)
    beyond = rgb[::3, ::3] - paper[::3, ::3]
    beyond[np.abs(beyond) < max(0.1, float(np.abs(beyond).max()) / 3)] = 0
    if beyond.sum() > 0:  # light ink
        rgb, paper = 1 - rgb, 1 - paper
    brightness = paper.mean(2)
    even = np.median(brightness)
    desk = (brightness < DARKEST_PAPER * even) & (min(brightness.shape) >= SMALLEST_DESK)
    paper = np.where(desk[..., None], even, np.maximum(paper, 0.1))
    difference = 1 - cv2.divide(rgb, paper).min(2)
    faint = difference[::2, ::2][difference[::2, ::2] < LEAST_CONTRAST]  # paper
    usual = float(np.median(faint)) if faint.size else 0.0
    noise = 1.4826 * float(np.median(usual - faint[faint <= usual])) if faint.size else 0.0
    return np.where(desk, 0, difference - usual), max(LEAST_CONTRAST, NOISE * noise)


def _border(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _like_border(rgb: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where a picture has its border's colour, (H, W), and whether that is only a frame's."""
    tones = np.quantile(_border(rgb), (0.25, 0.5, 0.75), 0, method="nearest")
    alike = [np.abs(rgb - tone).max(2) < BORDER for tone in tones]
    like = max(alike, key=lambda some: _border(some).sum())
    depths = (round(share * min(like.shape)) or 1 for share in (0.1, 0.15))
    within = [_border(like[deep:-deep, deep:-deep]).mean() for deep in depths]
    return like, bool(np.mean(within) < FRAME)


def _unframed(picture: Image.Image) -> Image.Image:
    """A sheet without the desk, a small cell of a form or a puzzle without the frame around it."""
    short, long = sorted(picture.size)
    if long >= SMALLEST_DESK:
        return picture.crop(_sheet(picture))
    if short < SMALLEST_FRAMED or long > 1.4 * short:
        return picture
    like, is_frame = _like_border(np.asarray(picture, np.float32) / 255)
    if not is_frame:
        return picture
    outer, ways = round(0.15 * short), (like.T, like, like.T[::-1], like[::-1])
    dark = [np.flatnonzero(way[:outer].mean(1) > 0.5) for way in ways]
    left, top, right, bottom = (int(rows[-1]) + 3 if len(rows) else 0 for rows in dark)
    return picture.crop((left, top, picture.width - right, picture.height - bottom))


def _sheet(picture: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a sheet of paper on a bare desk, or of the whole picture.

    It has straight sides and lies within the picture; a shadow reaches its edge, a box is hollow.
    """
    factor = max(picture.size) / 400
    rgb = np.asarray(ImageOps.scale(picture, 1 / factor), np.float32) / 255
    other = np.pad((~_like_border(rgb)[0]).astype(np.uint8), 1)
    shapes, _ = cv2.findContours(other, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    shape = max(shapes, key=cv2.contourArea, default=np.zeros((1, 1, 2), np.int32))
    area, (short, long) = cv2.contourArea(shape), sorted(cv2.minAreaRect(shape)[1])
    left, top, wide, tall = cv2.boundingRect(shape)
    within = other[top : top + tall, left : left + wide].sum()
    straight = area > max(0.15 * other.size, 0.88 * short * long) and 3 * short > long
    solid = within > 0.5 * area and other.sum() - within < 0.005 * other.size
    if straight and solid and not _border(other[1:-1, 1:-1]).any():
        sides = left + 1, top + 1, left + wide - 3, top + tall - 3
        return tuple(round(factor * side) for side in sides)
    return 0, 0, *picture.size


def _paper(rgb: np.ndarray) -> np.ndarray:
    """The paper without the ink, (H, W, 3): the median over a wide neighbourhood, which keeps a
    shadow's edge; where a digit may fill that, or all of a small picture, a plane through the
    picture's border.
    """
    height, width = rgb.shape[:2]
    scale = min(400 / max(height, width), 1)
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    shortest = min(small.shape[:2])
    window = max(int(max(shortest / 2.5, min(shortest, 120))) | 1, 3)
    like, is_frame = _like_border(small)
    on = _border(like)
    if not is_frame and on.mean() > 0.4:
        y, x = np.mgrid[: small.shape[0], : small.shape[1]]
        places = np.stack([np.ones_like(x), x, y], -1)
        plane = np.linalg.lstsq(_border(places)[on], _border(small)[on], rcond=None)[0]
        even = (places @ plane).astype(np.float32)
        if max(height, width) < SMALLEST_DESK:
            return even
        small = np.where(_bold(np.abs(small - even).max(2) > STARK, window)[..., None], even, small)
    pad = window // 2
    small = cv2.copyMakeBorder((small * 255).astype(np.uint8), *4 * (pad,), cv2.BORDER_REFLECT)
    middle = cv2.medianBlur(small, window)[pad:-pad, pad:-pad]
    return cv2.resize(middle, (width, height), interpolation=cv2.INTER_LINEAR) / np.float32(255)


def _bold(stark: np.ndarray, window: int) -> np.ndarray:
    """What of ``stark`` (H, W) may be a pen so thick that a median over ``window`` drowns in it."""
    own = stark.astype(np.uint8)
    n, labels, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
    depth, pens = cv2.distanceTransform(np.pad(own, 1), cv2.DIST_L2, 3)[1:-1, 1:-1], np.zeros(n)
    np.maximum.at(pens, labels, depth)
    edge = np.bincount(_border(labels), minlength=n) / len(_border(labels))
    # No thinner one, no sheet, and no shadow, which lies along the picture's edge
    bold = (2 * pens > window / 8) & (2 * pens < 0.45 * stats[:, 2:4].max(1)) & (edge < 0.2)
    return cv2.dilate(bold[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


# Printed lines


def _printed(mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """The ink of rules, boxes and grids, without what crosses them; whether that is certain.

    A printed line ends at the picture's edges or at lines across it, where a digit's stroke has a
    free end, or it is long and has parallels. One alone may be the stroke of a large digit.
    """
    printed, near = np.zeros_like(mask), np.zeros(mask.shape, np.uint8)
    if min(mask.shape) < SMALLEST_RULED or not mask.any():
        return printed, True
    thick = int(np.clip(min(mask.shape) / 6, 2, max(12, max(mask.shape) / 100)))
    edge = round(max(0.04 * min(mask.shape), thick + 1))
    found, certain = [_straight_lines(way, thick) for way in (mask, mask.T)], False
    for way, own, across, out, seen in zip(
        (mask, mask.T), found, found[::-1], (printed, printed.T), (near, near.T), strict=True
    ):
        stops = np.zeros(np.subtract(way.shape, 2 * edge), np.uint8)
        stops = np.pad(stops, edge, constant_values=1)
        _draw(stops, across[:, [1, 0, 3, 2]], thick + 6)
        x0, y0, x1, y1 = own.T
        long, slope = x1 - x0 > LONG_LINE * max(mask.shape), (y1 - y0) / np.maximum(x1 - x0, 1)
        parallels = ((np.abs(slope[:, None] - slope) < 0.05) & long).sum(1)
        lines = own[(stops[y0, x0] & stops[y1, x1]).astype(bool) | long & (parallels > 2)]
        if not len(lines):
            continue
        drawn = _draw(np.zeros(way.shape, np.uint8), lines, 1)
        depth = cv2.distanceTransform(np.ascontiguousarray(way, np.uint8), cv2.DIST_L2, 3)
        pen = min(2 * float(np.quantile(depth[drawn > 0], 0.75)), thick)
        band = _draw(np.zeros(way.shape, np.uint8), lines, 2 * round(pen) + 3)
        out |= _flat(way, round(1.5 * pen) + 1) & (band > 0)
        seen |= band
        certain |= len(lines) > 1
    left = (mask & ~printed).astype(np.uint8)
    n, labels, stats, _ = cv2.connectedComponentsWithStats(left, connectivity=8)
    crumbs = np.bincount(labels[near > 0], minlength=n) > 0.6 * stats[:, 4]
    crumbs &= stats[:, 2:4].min(1) < 3 * thick  # a digit on fine squares lies near lines, too
    crumbs[0] = False
    printed |= crumbs[labels]
    soft = cv2.dilate(printed.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # edges, too
    return printed | soft & ~mask, certain


def _straight_lines(mask: np.ndarray, thick: int) -> np.ndarray:
    """Thin lines across at least a third of the picture, (n, 4) x, y of both ends."""
    width = mask.shape[1]
    step = max(round(width / 400), 1)  # few columns show a line as well, and sooner
    found = cv2.HoughLinesP(
        np.ascontiguousarray(_flat(mask, thick)[:, ::step], np.uint8),
        1,
        np.pi / 360,
        max(round(width / 8 / step), 8),
        minLineLength=width / 3 / step,
        maxLineGap=width / 15 / step,
    )
    found = (np.empty((0, 4), int) if found is None else found.reshape(-1, 4)) * (step, 1, step, 1)
    columns, near = np.arange(width), cv2.dilate(mask.astype(np.uint8), np.ones((5, 1), np.uint8))
    lines, known = [], list[np.ndarray]()
    for x0, y0, x1, y1 in found[np.argsort(found[:, 0] - found[:, 2], kind="stable")][:MOST_LINES]:
        slope = (y1 - y0) / max(x1 - x0, 1)
        rows = np.round(y0 + slope * (columns - x0)).astype(int)
        same = any(np.abs(rows - other)[[0, -1]].sum() < 4 * thick for other in known)
        if same or abs(slope) > STEEPEST:
            continue
        known.append(rows)
        # As far as its ink goes on: digits may stand in the way
        inside = (rows >= 0) & (rows < len(mask))
        inked = columns[inside & (near[rows.clip(0, len(mask) - 1), columns] > 0)]
        run = max(np.split(inked, np.flatnonzero(np.diff(inked) > width / 30) + 1), key=len)
        lines.append((run[0], rows[run[0]], run[-1], rows[run[-1]]))
    return np.array(lines, int).reshape(-1, 4)


def _flat(mask: np.ndarray, thick: int) -> np.ndarray:
    """What of the ink is at most as thick from top to bottom."""
    own, high = np.ascontiguousarray(mask, np.uint8), np.ones((thick + 1, 1), np.uint8)
    # Beyond the picture there is nothing
    tall = cv2.morphologyEx(own, cv2.MORPH_OPEN, high, None, None, 1, cv2.BORDER_CONSTANT, 0)
    return mask & (tall == 0)


def _draw(canvas: np.ndarray, lines: np.ndarray, thick: int) -> np.ndarray:
    return cv2.polylines(canvas, list(lines.reshape(-1, 2, 2).astype(np.int32)), False, 1, thick)


# The digits


def _find_digits(strength: np.ndarray, judge: _Judge) -> _Found:
    """The digits in reading order, and why they may not be all."""
    pieces, doubt = _pieces(strength)
    digits: list[_Piece] = []
    for line in _lines(np.array([piece.box for piece in pieces])):
        digits += _digits_of([pieces[k] for k in line], judge)
        if len(digits) > MOST_DIGITS:
            raise PhotoError(CROWDED)
    return digits, doubt


def _pieces(strength: np.ndarray) -> _Found:
    """Connected pieces that can be handwriting, and why they may not be all or not whole."""
    mask = strength > PALE
    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    size = stats[1:, 2:4].max(1)
    inked = np.bincount(labels[strength > INKED], minlength=n)[1:] > 0
    good = np.flatnonzero(inked & (size >= max(3, max(mask.shape) / 100))) + 1
    if len(good) > MOST_PIECES:
        good = good[np.argsort(-size[good - 1], kind="stable")][: MOST_PIECES + 1]
    pens = np.zeros(n, np.float32)  # half of each
    np.maximum.at(pens, labels[mask], depth[mask])
    edges = labels[0], labels[-1], labels[:, 0], labels[:, -1]
    cut = np.bincount(np.concatenate(edges), minlength=n)
    keep, doubt = _is_handwriting(stats[good], pens[good], cut[good], mask.shape)
    if keep.sum() > MOST_PIECES:
        raise PhotoError(CROWDED)
    good = good[keep]
    # A picture that was cropped at the ink has it on three or four of its sides
    if 0 < sum(np.isin(edge, good).any() for edge in edges) < 3:
        doubt = doubt or AT_EDGE
    pieces = []
    low = np.maximum(stats[:, :2] - 2, 0)  # with the soft edge that anti-aliasing left around each
    high = np.minimum(stats[:, :2] + stats[:, 2:4] + 2, mask.shape[::-1])
    for k in good:
        (left, top), (right, bottom) = low[k].tolist(), high[k].tolist()
        own = (labels[top:bottom, left:right] == k).astype(np.uint8)
        own = cv2.dilate(own, np.ones((3, 3), np.uint8))
        pieces.append(_Piece((left, top, right, bottom), strength[top:bottom, left:right] * own))
    return pieces, doubt


def _is_handwriting(
    stats: np.ndarray, pens: np.ndarray, cut: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Which pieces are, (n,) bool, and why they may not be all.

    stats: (n, 5) as OpenCV gives them; pens: (n,) each piece's greatest half thickness; cut: (n,)
    how many of its pixels lie on the picture's edge. The largest group of pieces that are alike
    tells how large the writing is and how thick the pen.
    """
    size, area, tall = stats[:, 2:4].max(1, initial=0), stats[:, 4], stats[:, 3]
    stroke = pens < SOLID * size
    inside = (cut == 0) & (size >= max(shape) / 50) & stroke
    tight = stroke & (tall >= 0.8 * shape[0]) & (cut > 0) & (cut < 0.8 * size)
    if (inside & (size >= 0.5 * shape[0])).any():
        tight &= stats[:, 2] > 0.3 * tall  # no line beside a digit
    if tight.any():
        cut, inside = np.zeros_like(cut), stroke  # the picture was cropped at the ink
    typical = inside if inside.any() else np.ones(len(stats), bool)
    if not typical.any():
        return typical, ""
    alike = np.outer(typical, typical)
    for values in (size, pens):
        alike &= (values[:, None] < 2.5 * values) & (values < 2.5 * values[:, None])
    main = alike[np.argmax(alike @ np.sqrt(stats[:, 2] * tall))]
    largest, usual, pen = size[main].max(), np.median(size[main]), np.median(pens[main])
    keep = (size >= 0.12 * largest) & (size < 4 * largest) & (area >= 0.004 * largest**2)
    keep &= (stroke | (cut == 0)) & (pens > 0.3 * pen) & (tall < 2.5 * usual)
    keep &= pens < np.where(size > 0.5 * usual, 3.5, 2.5) * pen
    digit = stroke & (size > 0.55 * usual) & (size < 1.5 * usual) & (pens < 1.5 * pen)
    if inside.any():
        keep &= (cut == 0) | (digit & (cut < 0.4 * size))
    on_a_line = stroke & (cut == 0) & (size > 2 * usual)  # that was not taken out
    missed = (digit | on_a_line) & ~keep & (tall > 0.6 * usual)
    return keep, LEFT_OUT if missed.any() else ""


def _lines(boxes: np.ndarray) -> list[list[int]]:
    """Indices of the pieces of each written line, from top to bottom; a line may slope.

    Small pieces join the nearest; farther than half a digit's height from any they are specks.
    """
    if not len(boxes):
        return []
    heights, middles = boxes[:, 3] - boxes[:, 1], boxes[:, 1::2].mean(1)
    rising = np.sort(heights)
    usual = rising[np.searchsorted(rising.cumsum(), rising.sum() / 2)]  # of the ink, not of pieces
    tall = [int(k) for k in np.argsort(boxes[:, 0]) if heights[k] >= usual / 2]
    lines = [tall[:1]]
    for k in tall[1:]:
        last = [line[-1] for line in lines]
        off = np.abs(middles[last] - middles[k]) / np.maximum(heights[last], heights[k])
        if off.min() < 0.7:
            lines[off.argmin()].append(k)
        else:
            lines.append([k])
    lines.sort(key=lambda line: middles[line].mean())
    for k in sorted(set(range(len(boxes))) - set(tall)):
        x0, y0, x1, y1 = boxes[k]
        gaps = np.maximum(boxes[:, :2] - (x1, y1), (x0, y0) - boxes[:, 2:]).clip(0)
        distances = [np.hypot(*gaps[line].T).min() for line in lines]
        nearest = lines[int(np.argmin(distances))]
        if min(distances) <= FARTHEST_SPECK * np.median(heights[nearest]):
            nearest.append(k)
    return lines


def _digits_of(line: list[_Piece], judge: _Judge) -> list[_Piece]:
    """The digits of one written line: what touches is parted, what belongs together joined."""
    height = segmentation.row_height(np.array([piece.box for piece in line]))
    wide = [piece.ink.shape[1] >= NARROWEST_PAIR * height for piece in line]
    if sum(wide) > MOST_DIGITS:  # to part one takes up to a tenth of a second
        raise PhotoError(CROWDED)
    parted: list[_Piece] = []
    for piece, several in zip(line, wide, strict=True):
        parted += _part(piece, height, judge) if several else [piece]

    def grouped(pieces: list[_Piece]) -> tuple[float, list[_Piece]]:
        def evidence(group: list[int]) -> float:
            joined = _join([pieces[k] for k in group])
            return segmentation.confidence_score(judge(joined).confidence)

        boxes = np.array([piece.box for piece in pieces], float)
        score, groups = segmentation.group_boxes(boxes, evidence)
        return score, [_join([pieces[k] for k in group]) for group in groups]

    cut, digits = grouped(parted)
    # What a dry pen broke may be one digit for sure, and its largest piece be wide enough for two
    uncut, whole = grouped(line) if len(parted) > len(line) else (cut, digits)
    return whole if uncut > cut and all(judge(piece).sure for piece in whole) else digits


def _part(piece: _Piece, height: float, judge: _Judge) -> list[_Piece]:
    """A piece that may be several digits which touch, parted at thin columns where that makes
    better digits; what is known for sure is left, and no loop is cut.
    """
    own, width = piece.ink.shape
    if width < WIDEST_SURE * max(height, own) and judge(piece).sure:
        return [piece]
    inked = piece.ink > INKED
    profile = np.convolve(inked.sum(0), np.ones(3) / 3, "same")
    apart = np.pad((~inked).astype(np.uint8), 1, constant_values=1)
    _, _, holes, _ = cv2.connectedComponentsWithStats(apart, connectivity=4)
    for left, _, wide, tall, _ in holes[2:]:  # after the ink and what is around it
        if tall > LOOP * height:
            profile[left - 1 : left + wide - 1] = np.inf
    margin = max(round(0.2 * height), 1)
    cuts: list[int] = []
    for column in np.argsort(profile, kind="stable")[: np.sum(profile < THINNEST * height)]:
        if all(abs(column - other) >= margin for other in (0, width, *cuts)):
            cuts.append(int(column))
    columns = [0, *sorted(cuts[:MOST_CUTS]), width]
    spans = [(i, j) for j in range(1, len(columns)) for i in range(j)]

    def between(start: int, end: int) -> _Piece:
        own, x, y = piece.ink[:, start:end], piece.box[0] + start, piece.box[1]
        left, top, right, bottom = ink.bounding_box(own) or (0, 0, end - start, len(own))
        return _Piece((x + left, y + top, x + right, y + bottom), own[top:bottom, left:right])

    def score(part: _Piece) -> float:
        tall, wide = np.array(part.ink.shape) / height
        geometry = TOO_WIDE * max(wide - 1, 0) + TOO_LOW * max(0.85 - tall, 0)
        return -geometry - DOUBT * wide * judge(part).doubt

    parts = {(i, j): between(columns[i], columns[j]) for i, j in spans}
    scored = ((i, j, score(parts[i, j]) - CUT_COST * bool(i)) for i, j in spans)
    return [parts[span] for span in segmentation.best_partition(len(columns) - 1, scored)[1]]


def _join(pieces: list[_Piece]) -> _Piece:
    boxes = np.array([piece.box for piece in pieces])
    (left, top), (right, bottom) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    together = np.zeros((bottom - top, right - left), np.float32)
    for (x0, y0, x1, y1), own in pieces:
        part = together[y0 - top : y1 - top, x0 - left : x1 - left]
        np.maximum(part, own, out=part)
    return _Piece((left, top, right, bottom), together)


def _mnist_form(piece: _Piece) -> np.ndarray:
    """The digit enlarged, its pen brought nearer to MNIST's, and normalised."""
    scale = ink.EXTENT / max(piece.ink.shape)
    way = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(piece.ink, None, fx=scale, fy=scale, interpolation=way).clip(0, 1)
    large = np.pad(large, MOST_THICKER)
    depth = cv2.distanceTransform((large > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    ridge = depth[(depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))]
    change = ink.PEN * ink.EXTENT / 2 - (float(np.median(ridge)) if ridge.size else 0)
    if abs(change) >= PEN_TOLERANCE:
        radius = round(abs(np.clip(change, -MOST_THINNER, MOST_THICKER)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        large = (cv2.dilate if change > 0 else cv2.erode)(large, disc)
    return ink.normalize(large)


# The preview


def _preview(picture: Image.Image, boxes: list[tuple]) -> tuple[list[tuple], bytes]:
    """Boxes in the preview's pixels, and the preview."""
    scale = min(PREVIEW_SIDE / max(picture.size), 1 if max(picture.size) > 200 else 8)
    way = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    buffer = io.BytesIO()
    preview = ImageOps.scale(picture, scale, way)
    preview.save(buffer, "PNG", compress_level=1)  # noise hardly shrinks; a fifth of the time
    return [tuple(round(value * scale) for value in box) for box in boxes], buffer.getvalue()

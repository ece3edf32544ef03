"""An uploaded picture of handwriting to the digits in it, each in MNIST's form.

Decode within limits, tell ink from paper by its colour, take out printed lines and what else is no
handwriting, put the pieces of each digit together, turn the page upright, and give each digit an
even pen. OpenCV does the image work and is imported where it is used, so that an app whose visitors
upload nothing never loads it.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from digits.recognizer import ink, segmentation
from digits.recognizer.model import energy, quiet_stderr

if TYPE_CHECKING:
    from digits.recognizer.model import Recognizer

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
LIST = "PNG, JPEG, WebP, BMP, TIFF or GIF"
LARGEST_FILE = 12_000_000  # bytes
LARGEST_JPEG = 50_000_000  # pixels, known before anything is decoded; a JPEG is decoded reduced,
LARGEST_OTHER = 25_000_000  # anything else in full
LONGEST_SIDE = 30_000  # pixels
NARROWEST = 60  # times as long as wide, at most: a row of forty digits is less
MOST_CHUNKS = 10_000  # of a PNG: Pillow takes 5 microseconds for each
WORK_SIDE = 1600  # pixels: the longer side of the picture that is searched for ink
PREVIEW_SIDE, PREVIEW_COLOUR = 800, (213, 94, 0)
MOST_DIGITS, MOST_PIECES = 40, 200  # with more pieces of connected ink it is no handwriting

# Ink
LEAST_CONTRAST = 0.12  # of the paper's brightness: what differs less is no ink
NOISE = 5.0  # times the noise of the paper, likewise
LEAST_INK = 0.4  # of the usual ink, that each piece reaches somewhere
DARKEST_PAPER = 0.5  # of the usual brightness: what is darker is the desk beside the page
SMALLEST_DESK = 350  # pixels: smaller pictures are crops and show none
# Printed lines
SMALLEST_RULED = 40  # pixels
STEEPEST, MOST_LINES = 0.4, 80  # slope; lines of one direction, the longest
LONG_LINE = 0.5  # of the picture's side
# Handwriting
SOLID = 0.3  # of its size: what is half as thick is no stroke but a blot or a shadow
FARTHEST_SPECK = 0.5  # of a digit's height
NARROWEST_PAIR = 0.8  # of a digit's height: what is narrower is not two digits that touch
WIDEST_SURE = 1.0  # of a digit's height: what is no wider, and known for sure, is one digit
MOST_CUTS, CUT_COST = 8, 0.5  # what parting ink in two must gain, in units of the scores below
# per height beyond one, per height below 0.85, per height of doubtful ink
TOO_WIDE, TOO_LOW, DOUBT = 2.0, 8.0, 12.0
THINNEST = 0.4  # of a digit's height: digits that touch are parted at columns with no more ink
FEWEST_TURNED, MOST_TURNED = 3, 20  # digits: of fewer, nobody can tell how the page lies
STRAIGHT = 12.0  # degrees
TURN_GAIN = 0.3  # of the score, that turning the page must bring
# A digit of 200 pixels: a pen that is off by less is left, and corrected by no more on each side
PEN_TOLERANCE, MOST_CHANGE = 3.0, 8.0

LEFT_OUT = "Something as large as a digit was left out: look at the boxes, or crop the picture."
AT_EDGE = "The picture's edge cuts a digit: part of it may be missing."
ALONG = "A printed line runs along a digit and may be part of it."


class PhotoError(Exception):
    """The picture cannot be read; the message tells the visitor what to do."""


@dataclass(frozen=True)
class Photo:
    """The digits of one picture in reading order."""

    images: list[np.ndarray]  # (28, 28) float32 in [0, 1] each, MNIST's form
    boxes: list[tuple[int, int, int, int]]  # left, top, right, bottom, in pixels of the preview
    preview_png: bytes  # the upright picture with numbered boxes, at most 800 pixels wide and high
    note: str = ""  # what was done to the picture, and what is doubtful
    doubtful: bool = False  # whether the row may be another one, however clear its digits are


class _Piece(NamedTuple):
    """Ink that belongs together."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels
    ink: np.ndarray  # (bottom - top, right - left) float32 in [0, 1], nothing but this piece's ink


class _Found(NamedTuple):
    """Digits in reading order, and why they may not be all or not be right."""

    digits: list[_Piece]
    doubt: str = ""


class _Judge:
    """What a recognizer thinks of ink that may be one whole digit."""

    def __init__(self, recognizer: "Recognizer"):
        self.recognizer, self._known = recognizer, dict[tuple, np.ndarray]()

    def logits(self, piece: _Piece) -> np.ndarray:
        key = *piece.box, float(piece.ink.sum())
        if key not in self._known:
            self._known[key] = self.recognizer.model.logits(_mnist_form(piece)[None])[0]
        return self._known[key]

    def confidence(self, piece: _Piece) -> float:
        return float(self.recognizer.calibration.probabilities(self.logits(piece)).max())

    def doubt(self, piece: _Piece) -> float:
        """How far its energy is below that of digits that were drawn clearly, 0 to 1."""
        return float(np.clip(1 - energy(self.logits(piece)) / self.recognizer.usual_energy, 0, 1))

    def is_sure(self, piece: _Piece) -> bool:
        return not self.recognizer.calibration.reason(self.logits(piece))

    def score(self, pieces: list[_Piece]) -> float:
        """How well it knows all of them; -inf for none."""
        known = [self.confidence(piece) - self.doubt(piece) for piece in pieces]
        return float(np.mean(known)) + min(known) if known else -np.inf


def read_photo(content: bytes, name: str = "", recognizer: "Recognizer | None" = None) -> Photo:
    """Find the digits in a picture: one digit, or a row or several rows of them.

    content: a PNG, JPEG, WebP, BMP, TIFF or GIF file (its first frame), at most 12 MB and 25
    million pixels (JPEG 50 million), dark ink on light or light on dark. name: the file's name, for
    a better message only. recognizer: asked which pieces of ink make a digit, where digits that
    touch part and how the page lies; without it geometry decides. PhotoError when the file is too
    large, damaged or no picture, and when there is no ink in it.
    """
    picture, note = _decode(content, name), ""
    judge = _Judge(recognizer) if recognizer else None
    found = _read(picture, judge)
    if judge:
        picture, found, note = _turned(picture, found, judge)
    if not found.digits:
        raise PhotoError(
            "No ink was found in this picture. Write with a dark pen on plain paper, fill most of "
            "the picture with the digits, and avoid strong shadows."
        )
    images = [_mnist_form(piece) for piece in found.digits]
    shown = _preview(picture, [piece.box for piece in found.digits])
    return Photo(images, *shown, " ".join(filter(None, (note, found.doubt))), bool(found.doubt))


def _turned(picture: Image.Image, found: _Found, judge: _Judge) -> tuple[Image.Image, _Found, str]:
    """The picture and its digits, turned where the page lies askew, on its side or on its head."""
    note = ""
    if angle := _skew(found.digits):
        paper = tuple(int(value) for value in np.median(np.asarray(picture), (0, 1)))
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, True, fillcolor=paper)
        found, note = _read(picture, judge), f"Turned by {abs(angle):.0f} degrees."
    sure = sum(map(judge.is_sure, found.digits))
    if not FEWEST_TURNED <= len(found.digits) <= MOST_TURNED or sure > 0.75 * len(found.digits):
        return picture, found, note
    best, chosen = judge.score(found.digits) + TURN_GAIN, (picture, found, note)
    for degrees in (90, 270, 180):
        other = picture.rotate(degrees, expand=True)
        try:
            turned = _read(other, judge)
        except PhotoError:  # that way up it is full of pieces
            continue
        score = judge.score(turned.digits)
        if len(turned.digits) >= FEWEST_TURNED and score > best:
            best, chosen = score, (other, turned, f"Turned by {degrees} degrees to the left.")
    return chosen


def _skew(digits: list[_Piece]) -> float:
    """By how many degrees a row is askew; 0 when it is level, on its side, or no row."""
    import cv2

    if len(digits) < FEWEST_TURNED:
        return 0.0
    middles = np.array([np.add(piece.box[:2], piece.box[2:]) / 2 for piece in digits], np.float32)
    _, (wide, tall), angle = cv2.minAreaRect(middles)
    if wide < tall:
        wide, tall, angle = tall, wide, angle + 90
    angle = (angle + 90) % 180 - 90
    straight = tall < 0.15 * wide and STRAIGHT < abs(angle) < 90 - STRAIGHT
    return float(angle) if straight else 0.0


# The file


def _decode(content: bytes, name: str) -> Image.Image:
    """The upright picture, RGB, its longer side at most WORK_SIDE; PhotoError when it is none."""
    if not isinstance(content, bytes | bytearray | memoryview) or not len(content):
        raise PhotoError("The file is empty. Choose another one.")
    if len(content) > LARGEST_FILE:
        raise PhotoError(
            f"The file has {len(content) / 1e6:.0f} MB; {LARGEST_FILE // 1_000_000} MB is the "
            "limit. Crop it, or save it smaller."
        )
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
        raise PhotoError(
            "This picture has far too many pixels. Crop it, or save it smaller."
        ) from None
    except Image.UnidentifiedImageError:
        raise PhotoError(_no_picture(bytes(content[:32]), str(name).lower())) from None
    except Exception as error:  # decoders fail on damaged files with errors of any kind
        raise PhotoError(
            "This picture is damaged or incomplete and cannot be opened. Save it again, or choose "
            "another one."
        ) from error


def _check_size(picture: Image.Image) -> None:
    short, long = sorted(picture.size)
    limit = LARGEST_JPEG if picture.format in ("JPEG", "MPO") else LARGEST_OTHER
    if short * long > limit or long > LONGEST_SIDE:
        raise PhotoError(
            f"This picture has {picture.width:,} x {picture.height:,} pixels; "
            f"{limit // 1_000_000} million is the limit. Crop it, or save it smaller."
        )
    if short < 4:
        raise PhotoError("This picture is too small to hold a digit.")
    if long > NARROWEST * short:
        raise PhotoError("This picture is too narrow to hold a digit.")


def _no_picture(start: bytes, name: str) -> str:
    if start[4:8] == b"ftyp" or name.endswith((".heic", ".heif", ".avif")):
        return f"HEIC, AVIF and video files cannot be read here. Save the photo as {LIST}."
    if start.startswith(b"%PDF") or name.endswith(".pdf"):
        return f"A PDF is no picture. Take a screenshot of it, or save the page as {LIST}."
    return f"This is no picture that can be read here. Choose a {LIST} file."


def _upright(picture: Image.Image) -> Image.Image:
    """The first frame, reduced, turned as EXIF says, without transparency, RGB."""
    picture.draft(None, (WORK_SIDE, WORK_SIDE))  # JPEG can be decoded smaller
    picture.load()
    if picture.mode not in ("RGB", "RGBA", "LA", "CMYK") or "transparency" in picture.info:
        eight = _in_eight_bits(picture)
        eight.info, picture = {"exif": picture.info.get("exif")}, eight
    if (factor := int(max(picture.size) / WORK_SIDE / 1.5)) > 1:
        picture = picture.reduce(factor)  # whole pixels first, which is far quicker
    picture.thumbnail((WORK_SIDE, WORK_SIDE), Image.Resampling.LANCZOS)
    with contextlib.suppress(Exception):  # a damaged block is no reason to refuse the picture
        picture = ImageOps.exif_transpose(picture)
    if picture.mode not in ("RGBA", "LA"):
        return picture.convert("RGB")
    pixels = np.asarray(picture.convert("RGBA"), np.float32) / 255
    grey, alpha = pixels[..., :3].mean(2), pixels[..., 3]
    light = (grey * alpha).sum() > 0.6 * max(alpha.sum(), 1e-9)  # what is painted
    ground = Image.new("RGBA", picture.size, "black" if light and alpha.min() < 0.5 else "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """L, RGB or RGBA; deeper grey is brought to eight bits, dots of a coarse scan to grey."""
    if picture.mode == "1" and min(picture.size) > 100:
        return picture.convert("L").filter(ImageFilter.GaussianBlur(max(picture.size) / 500 + 1))
    if picture.mode[0] not in "IF":
        return picture.convert(
            "RGBA" if picture.has_transparency_data else "L" if picture.mode in "1L" else "RGB"
        )
    if picture.mode in "IF":
        picture.thumbnail((WORK_SIDE, WORK_SIDE))  # four bytes a pixel are worked on below
    values = np.nan_to_num(np.asarray(picture), nan=0, posinf=0, neginf=0)
    if picture.mode == "F":
        values = values / max(float(values.max()), 1e-9) * 255
    else:
        values = values >> max(int(values.max()).bit_length() - 8, 0)  # scanners: 12 bits in 16
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


# The ink


def _ink_strength(picture: Image.Image) -> np.ndarray:
    """0 paper to 1 full ink, (H, W) float32.

    Full ink is the darkest nearby, so that pale strokes count beside dark ones; what nowhere
    reaches LEAST_INK of the usual ink is none.
    """
    import cv2

    difference, floor = _contrast(np.asarray(picture, np.float32) / 255)
    strong = (difference > floor).astype(np.uint8)
    if strong.sum() < 4:
        return np.zeros_like(difference)
    blot = np.ones(2 * (max(strong.shape) // 20 + 1,), np.uint8)
    strokes = strong & ~cv2.morphologyEx(strong, cv2.MORPH_OPEN, blot)
    full = float(np.quantile(difference[(strokes if strokes.any() else strong) > 0], 0.9))
    near = np.ones(2 * (2 * round(max(strong.shape) / 120) + 3,), np.uint8)
    nearby = cv2.dilate(difference, near).clip(2 * floor, max(full, 2 * floor))
    strength = ((difference / nearby - 0.25) / 0.5).clip(0, 1).astype(np.float32)
    n, labels = cv2.connectedComponents((strength > 0.5).astype(np.uint8), connectivity=8)
    sure = np.zeros(n, np.float32)
    sure[labels[difference > LEAST_INK * full]] = sure[0] = 1
    return strength * sure[labels]


def _contrast(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each pixel's colour is from the paper's, (H, W) float32, and what is no ink."""
    import cv2

    if min(rgb.shape[:2]) > 200:
        rgb = cv2.GaussianBlur(rgb, (0, 0), max(rgb.shape) / 1600)
    paper = _paper(rgb)
    beyond = rgb[::3, ::3] - paper[::3, ::3]
    beyond[np.abs(beyond) < max(0.1, float(np.abs(beyond).max()) / 3)] = 0
    if beyond.sum() > 0:  # light ink
        rgb, paper = 1 - rgb, 1 - paper
    brightness = cv2.transform(paper, np.full((1, 3), 1 / 3, np.float32))
    even = _evenly_lit(brightness)
    desk = brightness < DARKEST_PAPER * even
    paper = np.where(desk[..., None], even[..., None], np.maximum(paper, 0.1))
    difference = 1 - cv2.divide(rgb, paper).min(2)
    if min(desk.shape) < SMALLEST_DESK:
        desk[:] = False
    faint = difference[::2, ::2][difference[::2, ::2] < LEAST_CONTRAST]  # paper
    usual = float(np.median(faint)) if faint.size else 0.0
    noise = 1.4826 * float(np.median(usual - faint[faint <= usual])) if faint.size else 0.0
    return np.where(desk, 0, difference - usual), max(LEAST_CONTRAST, NOISE * noise)


def _paper(rgb: np.ndarray) -> np.ndarray:
    """The paper without the ink, (H, W, 3): the median over a wide neighbourhood, which keeps a
    shadow's edge; of a picture that a digit fills, over its border, unless that is a frame.
    """
    import cv2

    height, width = rgb.shape[:2]
    if max(height, width) < SMALLEST_DESK:
        border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
        paper = np.median(border, 0)
        usual = np.median(rgb, (0, 1))
        off = np.abs(usual - paper).max()
        share = (np.abs(rgb - paper).max(2) < np.abs(rgb - usual).max(2)).mean()
        digit = share > 0.36 or off < LEAST_CONTRAST  # else the border is a frame
        if digit and (off > 0.3 or max(height, width) <= 64):
            return np.broadcast_to(paper, rgb.shape).astype(np.float32)
    scale = min(400 / max(height, width), 1)
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    shortest = min(small.shape[:2])
    window = max(int(max(shortest / 2.5, min(shortest, 120))) | 1, 3)
    pad = window // 2
    small = cv2.copyMakeBorder((small * 255).astype(np.uint8), *4 * (pad,), cv2.BORDER_REFLECT)
    middle = cv2.medianBlur(small, window)[pad:-pad, pad:-pad]
    return cv2.resize(middle, (width, height), interpolation=cv2.INTER_LINEAR) / np.float32(255)


def _evenly_lit(paper: np.ndarray) -> np.ndarray:
    """The plane of light that most of the picture's paper lies on, (H, W)."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in paper.shape)
    values = np.log(np.maximum(paper[::12, ::12], 0.02)).ravel()
    across = [one.ravel() for one in np.meshgrid(x[::12], y[::12])]
    terms = np.column_stack([np.ones(values.size), *across])
    weights = np.array([np.median(values), 0, 0])
    for _ in range(5):
        kept = np.abs(values - terms @ weights) < 0.5
        if kept.sum() < 10:
            break
        weights = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
    plane = weights[0] + weights[1] * x + weights[2] * y[:, None]
    return np.exp(plane.clip(-2.3, 0)).astype(np.float32)


# Printed lines


class _Line(NamedTuple):
    """A long straight line across: y = start + slope x from ``left`` to ``right``."""

    left: float
    right: float
    start: float
    slope: float

    def y(self, x: float) -> float:
        return self.start + self.slope * x


def _printed(mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """The ink of printed lines, rules, boxes and grids, without what crosses them; whether that is
    certain.

    A printed line runs from edge to edge of the picture, or has parallels, or ends at lines that
    do. One alone may also be the stroke of a large digit.
    """
    import cv2

    printed = np.zeros_like(mask)
    if min(mask.shape) < SMALLEST_RULED or not mask.any():
        return printed, True
    thick = int(np.clip(min(mask.shape) / 6, 2, max(12, max(mask.shape) / 100)))
    ways = (mask, np.ascontiguousarray(mask.T))
    found = [_straight_lines(way, thick) for way in ways]
    kept = [
        [line for line in lines if _is_rule(line, lines, across, way.shape, thick)]
        for way, lines, across in zip(ways, found, found[::-1], strict=True)
    ]
    for way, lines, own, across in zip(ways, found, kept, kept[::-1], strict=True):
        posts = [line for line in lines if _is_post(line, across, way.shape, thick)]
        own += [line for line in posts if line not in own]
    near = printed.astype(np.uint8)  # where lines run
    for way, lines, seen in zip(ways, kept, (near, near.T), strict=True):
        for line in lines:
            rows, columns, _, flat = _traced(way, line, thick)
            (printed if way is mask else printed.T)[rows[flat], columns[flat]] = True
            ends = [(x, round(line.y(x))) for x in (0, way.shape[1])]
            drawn = np.zeros(way.shape, np.uint8)
            cv2.line(drawn, *ends, 1, 2 * thick + 1)
            seen |= drawn
    n, labels = cv2.connectedComponents((mask & ~printed).astype(np.uint8), connectivity=8)
    crumbs = np.bincount(labels[near > 0], minlength=n) > 0.6 * np.bincount(labels.ravel())
    crumbs[0] = False
    return printed | crumbs[labels], max(map(len, kept)) > 1


def _straight_lines(mask: np.ndarray, thick: int) -> list[_Line]:
    """Thin lines across at least a third of the picture, the longest first."""
    import cv2

    width = mask.shape[1]
    high = np.ones((thick + 1, 1), np.uint8)
    tall = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, high, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    step = max(round(width / 400), 1)  # few columns show a line as well, and sooner
    found = cv2.HoughLinesP(
        np.ascontiguousarray((mask & ~tall.astype(bool))[:, ::step]).astype(np.uint8),
        1,
        np.pi / 360,
        max(round(width / 8 / step), 8),
        minLineLength=width / 3 / step,
        maxLineGap=width / 15 / step,
    )
    lines: list[_Line] = []
    segments = (found if found is not None else np.empty((0, 4))).reshape(-1, 4)
    for x0, y0, x1, y1 in segments[np.argsort(segments[:, 0] - segments[:, 2], kind="stable")]:
        slope = float(y1 - y0) / max(float(x1 - x0) * step, 1)
        line = _Line(float(x0) * step, float(x1) * step, float(y0) - slope * x0 * step, slope)
        same = [
            other
            for other in lines
            if abs(line.start - other.start) + abs(line.y(width) - other.y(width)) < 4 * thick
        ]
        if same:
            left, right = min(same[0].left, line.left), max(same[0].right, line.right)
            lines[lines.index(same[0])] = same[0]._replace(left=left, right=right)
        elif abs(slope) <= STEEPEST and len(lines) < MOST_LINES:
            lines.append(line)
    return [_fitted(mask, line, thick) for line in lines]


def _fitted(mask: np.ndarray, line: _Line, thick: int) -> _Line:
    """The line through the middle of its ink, as far as that goes on."""
    rows, columns, _, own = _traced(mask, line, thick)
    counts = own.sum(0) * ((columns[0] >= line.left) & (columns[0] <= line.right))
    x, y = columns[0, counts > 0], ((rows * own).sum(0) / np.maximum(counts, 1))[counts > 0]
    if len(x) < 9:
        return line
    slope, start = (float(value) for value in np.polyfit(x, y, 1))
    fitted = line._replace(start=start, slope=slope)
    inked = np.flatnonzero(_traced(mask, fitted, 2)[2].any(0))
    gaps = np.flatnonzero(np.diff(inked) > mask.shape[1] / 15)
    runs = np.split(inked, gaps + 1)
    longest = max(runs, key=len)
    if len(longest) < 9:
        return line
    return fitted._replace(left=float(longest[0]), right=float(longest[-1]))


def _is_rule(line: _Line, lines: list, across: list, shape: tuple[int, int], thick: int) -> bool:
    """Whether a line runs from edge to edge, or is long and has parallels as long."""
    height, width = shape
    near = max(0.04 * min(shape), thick + 1)
    if line.right - line.left < LONG_LINE * width:
        return False
    if all(min(x, line.y(x), width - x, height - line.y(x)) < near for x in line[:2]):
        return True
    parallel = [
        other
        for other in lines
        if other.right - other.left > LONG_LINE * max(shape)
        and abs(other.slope - line.slope) < 0.05
    ]
    if line not in parallel:
        return False
    return len(parallel) > 2 or (len(parallel) == 2 and _is_post(line, across, shape, thick))


def _is_post(line: _Line, across: list, shape: tuple[int, int], thick: int) -> bool:
    """Whether a line ends, on both sides, at lines square to it or at the picture's edge."""
    square = [other for other in across if abs(other.slope + line.slope) < 0.08]
    return bool(square) and all(
        any(
            abs(place - x) <= thick / 2 + 3
            for place in (0, shape[1], *(o.y(line.y(x)) for o in square))
        )
        for x in line[:2]
    )


def _traced(mask: np.ndarray, line: _Line, thick: int) -> tuple[np.ndarray, ...]:
    """The ink along a line: rows and columns, and where nothing else is there."""
    columns = np.arange(mask.shape[1])  # beyond its ends, too: it may be faint there
    rows = np.round(line.y(columns)).astype(int) + np.arange(-thick, thick + 1)[:, None]
    inside = (rows >= 0) & (rows < len(mask))
    rows, columns = rows.clip(0, len(mask) - 1), np.broadcast_to(columns, rows.shape)
    inked = mask[rows, columns] & inside
    counts = inked.sum(0)
    usual = float(np.median(counts[counts > 0])) if counts.any() else 1.0
    return rows, columns, inked, inked & (counts <= 1.5 * usual + 1)


# The digits


def _read(picture: Image.Image, judge: _Judge | None) -> _Found:
    """The digits of an upright picture, without its printed lines."""
    strength = _ink_strength(picture)
    mask = strength > 0.5
    printed, certain = _printed(mask)
    found = _find_digits(strength * ~printed, mask & ~printed, judge)
    if not printed.any():
        return found
    if not certain:  # a stroke, perhaps
        whole = _find_digits(strength, mask, judge)
        if not found.digits or (judge and judge.score(whole.digits) > judge.score(found.digits)):
            return whole
    along = judge and any(_runs_along(piece, strength, printed, judge) for piece in found.digits)
    return _Found(found.digits, ALONG if along else found.doubt)


def _runs_along(piece: _Piece, strength: np.ndarray, printed: np.ndarray, judge: _Judge) -> bool:
    """Whether a digit is another one with the printed line that it touches."""
    left, top, right, bottom = piece.box
    margin = max(round(0.06 * (bottom - top)), 2)
    top, bottom = max(top - margin, 0), bottom + margin
    line = strength[top:bottom, left:right] * printed[top:bottom, left:right]
    line[3 * margin : -3 * margin] = 0
    if not line.any():
        return False
    both = _join([piece, _Piece((left, top, right, top + len(line)), line)])
    other = judge.logits(both)
    return other.argmax() != judge.logits(piece).argmax() and judge.is_sure(both)


def _find_digits(strength: np.ndarray, mask: np.ndarray, judge: _Judge | None) -> _Found:
    """The digits in reading order."""
    pieces, doubt = _pieces(strength, mask)
    if len(pieces) > MOST_PIECES:
        raise PhotoError(
            "There is too much in this picture besides digits. Crop it to them, or write on plain "
            "paper."
        )
    digits: list[_Piece] = []
    for line in _lines(np.array([piece.box for piece in pieces])):
        digits += _digits_of([pieces[k] for k in line], judge)
        _check_count(len(digits))
    # A picture that was cropped at the ink has it on three or four of its sides
    ways = [np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]]
    inked = _join(digits + [_Piece((0, 0, *mask.shape[::-1]), np.zeros(mask.shape, np.float32))])
    if 0 < sum((inked.ink[way] > 0.5).any() for way in ways) < 3:
        doubt = doubt or AT_EDGE
    return _Found(digits, doubt)


def _check_count(digits: int) -> None:
    if digits > MOST_DIGITS:
        raise PhotoError(
            f"This picture seems to hold more than {MOST_DIGITS} digits. Crop it to the ones you "
            "mean."
        )


def _pieces(strength: np.ndarray, mask: np.ndarray) -> tuple[list[_Piece], str]:
    """Connected pieces that can be handwriting, and why they may not be all."""
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    size = stats[1:, 2:4].max(1)
    good = np.flatnonzero(size >= max(3, max(mask.shape) / 100)) + 1
    good = good[np.argsort(-stats[good, 2:4].max(1), kind="stable")][: MOST_PIECES + 1]
    pens = np.array(
        [
            depth[y : y + h, x : x + w][labels[y : y + h, x : x + w] == k].max()
            for k, (x, y, w, h) in zip(good, stats[good, :4], strict=True)
        ]
    )
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    cut = np.bincount(edge, minlength=n)[good]
    keep, doubt = _is_handwriting(stats[good], pens, cut, mask.shape)
    pieces = []
    for k in np.sort(good[keep]):  # with the soft edge that anti-aliasing left around each
        left, top = (int(value) for value in np.maximum(stats[k, :2] - 2, 0))
        right, bottom = (
            int(value) for value in np.minimum(stats[k, :2] + stats[k, 2:4] + 2, mask.shape[::-1])
        )
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
    if tight.any() and not (inside & (size >= 0.5 * shape[0])).any():
        cut, inside = np.zeros_like(cut), stroke  # the picture was cropped at the ink
    else:
        low, high = stats[:, :2], stats[:, :2] + stats[:, 2:4]
        corner = (low == 0).sum(1) + (high == shape[::-1]).sum(1) > 1
        stroke &= ~corner | (tall >= 0.8 * shape[0])
    slim = 12 * stats[:, 2:4].min(1, initial=0) < size  # perhaps what is left of a printed line
    ways = (inside & ~slim, inside, np.ones(len(stats), bool))
    typical = next((way for way in ways if way.any()), ways[-1])
    if not typical.any():
        return typical, ""
    alike = np.outer(typical, typical)
    for values in (size, pens):
        alike &= (values[:, None] < 2.5 * values) & (values < 2.5 * values[:, None])
    main = alike[np.argmax(alike @ np.sqrt(stats[:, 2] * tall))]
    largest, usual, pen = size[main].max(), np.median(size[main]), np.median(pens[main])
    keep = (size >= 0.12 * largest) & (size < 4 * largest) & (area >= 0.004 * largest**2)
    keep &= (stroke | (cut == 0)) & (pens > 0.3 * pen)
    keep &= pens < np.where(size > 0.5 * usual, 3.5, 2.5) * pen
    digit = stroke & (size > 0.55 * usual) & (size < 1.5 * usual) & (pens < 1.5 * pen)
    if inside.any():
        keep &= (cut == 0) | (digit & (cut < 0.4 * size))
    return keep, LEFT_OUT if (digit & ~keep & (tall > 0.6 * usual)).any() else ""


def _lines(boxes: np.ndarray) -> list[list[int]]:
    """Indices of the pieces of each written line, from top to bottom; a line may slope.

    Small pieces join the nearest; farther than half a digit's height from any they are specks.
    """
    if not len(boxes):
        return []
    heights, middles = boxes[:, 3] - boxes[:, 1], boxes[:, 1::2].mean(1)
    tall = [int(k) for k in np.argsort(boxes[:, 0]) if heights[k] >= heights.max() / 2]
    lines: list[list[int]] = []
    for k in tall:
        near = [
            line
            for line in lines
            if abs(middles[line[-1]] - middles[k]) < 0.7 * max(heights[line[-1]], heights[k])
        ]
        if near:
            min(near, key=lambda line: abs(middles[line[-1]] - middles[k])).append(k)
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


def _digits_of(line: list[_Piece], judge: _Judge | None) -> list[_Piece]:
    """The digits of one written line: what touches is parted, what belongs together joined."""
    height = segmentation.row_height(np.array([piece.box for piece in line]))
    wide = [piece.ink.shape[1] >= NARROWEST_PAIR * height for piece in line]
    _check_count(sum(wide))  # to part one takes up to a tenth of a second
    parted: list[_Piece] = []
    for piece, several in zip(line, wide, strict=True):
        parted += _part(piece, height, judge) if several else [piece]

    def evidence(group: list[int]) -> float:
        joined = _join([parted[k] for k in group])
        return segmentation.confidence_score(judge.confidence(joined)) if judge else 0.0

    _, groups = segmentation.group_boxes(np.array([piece.box for piece in parted], float), evidence)
    return [_join([parted[k] for k in group]) for group in groups]


def _part(piece: _Piece, height: float, judge: _Judge | None) -> list[_Piece]:
    """A piece that may be several digits which touch, parted at thin columns where that makes
    better digits; what is known for sure is left.
    """
    width = piece.ink.shape[1]
    if judge and width < WIDEST_SURE * height and judge.is_sure(piece):
        return [piece]
    profile = np.convolve((piece.ink > 0.5).sum(0), np.ones(3) / 3, "same")
    margin = max(round(0.2 * height), 1)
    cuts: list[int] = []
    for column in np.argsort(profile, kind="stable")[: np.sum(profile < THINNEST * height)]:
        if all(abs(column - other) >= margin for other in (0, width, *cuts)):
            cuts.append(int(column))
    columns = [0, *sorted(cuts[:MOST_CUTS]), width]
    spans = [(i, j) for j in range(1, len(columns)) for i in range(j)]
    parts = {(i, j): _trimmed(piece, columns[i], columns[j]) for i, j in spans}

    def score(part: _Piece) -> float:
        tall, wide = np.array(part.ink.shape) / height
        geometry = TOO_WIDE * max(wide - 1, 0) + TOO_LOW * max(0.85 - tall, 0)
        return -geometry - (DOUBT * wide * judge.doubt(part) if judge else 0.0)

    scored = ((i, j, score(parts[i, j]) - CUT_COST * bool(i)) for i, j in spans)
    return [parts[span] for span in segmentation.best_partition(len(columns) - 1, scored)[1]]


def _trimmed(piece: _Piece, start: int, end: int) -> _Piece:
    """The columns [start, end) of a piece, without the empty rows and columns around their ink."""
    x, y = piece.box[0] + start, piece.box[1]
    whole = (0, 0, end - start, piece.ink.shape[0])
    box = ink.bounding_box(piece.ink[:, start:end]) or whole
    left, top, right, bottom = (int(value) for value in box)
    own = piece.ink[top:bottom, start + left : start + right]
    return _Piece((x + left, y + top, x + right, y + bottom), own)


def _join(pieces: list[_Piece]) -> _Piece:
    boxes = np.array([piece.box for piece in pieces])
    left, top, right, bottom = (
        int(value) for value in (*boxes[:, :2].min(0), *boxes[:, 2:].max(0))
    )
    together = np.zeros((bottom - top, right - left), np.float32)
    for (x0, y0, x1, y1), own in pieces:
        part = together[y0 - top : y1 - top, x0 - left : x1 - left]
        np.maximum(part, own, out=part)
    return _Piece((left, top, right, bottom), together)


def _mnist_form(piece: _Piece) -> np.ndarray:
    """The digit enlarged, drawn with about MNIST's pen, a thin line thickened and a thick one
    thinned, and normalised.
    """
    import cv2

    scale = ink.EXTENT / max(piece.ink.shape)
    way = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(piece.ink, None, fx=scale, fy=scale, interpolation=way).clip(0, 1)
    depth = cv2.distanceTransform(np.pad((large > 0.5).astype(np.uint8), 1), cv2.DIST_L2, 5)
    ridge = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    change = ink.PEN * ink.EXTENT / 2 - (float(np.median(depth[ridge])) if ridge.any() else 0)
    if abs(change) >= PEN_TOLERANCE:
        radius = round(min(abs(change), MOST_CHANGE))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        if change > 0:
            large = cv2.copyMakeBorder(large, *4 * (radius,), cv2.BORDER_CONSTANT)
        large = cv2.dilate(large, disc) if change > 0 else cv2.erode(large, disc)
    return ink.normalize(large)


# The preview


def _preview(
    picture: Image.Image, boxes: list[tuple[int, int, int, int]]
) -> tuple[list[tuple[int, int, int, int]], bytes]:
    """Boxes in the preview's pixels, and the preview."""
    scale = min(PREVIEW_SIDE / max(picture.size), 8, 1 if max(picture.size) > 200 else 8)
    size = tuple(max(round(side * scale), 1) for side in picture.size)
    preview = picture.resize(
        size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    )
    scaled = [tuple(round(value * scale) for value in box) for box in boxes]
    draw = ImageDraw.Draw(preview)
    thickness = max(round(max(size) / 250), 1)
    font = ImageFont.load_default(
        max(round(max(size) / 24), 12)
    )  # to be read when the preview is as wide as a phone
    for number, (left, top, right, bottom) in enumerate(scaled, 1):
        draw.rectangle(
            (left - 2, top - 2, right + 2, bottom + 2), outline=PREVIEW_COLOUR, width=thickness
        )
        draw.text(
            (left, max(top - 2, 0)),
            str(number),
            fill=PREVIEW_COLOUR,
            font=font,
            anchor="lb",
            stroke_width=thickness,
            stroke_fill="white",
        )
    buffer = io.BytesIO()
    preview.save(buffer, "PNG", compress_level=1)  # noise hardly shrinks; a fifth of the time
    return scaled, buffer.getvalue()

"""An uploaded picture of handwriting to the digits in it, each in MNIST's form.

Decode within limits, even out the light, tell ink from paper, drop what is no handwriting (ruled
lines, specks, the page's edge), put the pieces of each digit together, and give each an even pen's
width. OpenCV does the image work and is imported where it is used, so that an app whose visitors
upload nothing never loads it.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.recognizer import ink, segmentation
from digits.recognizer.model import energy, quiet_stderr

if TYPE_CHECKING:
    from digits.recognizer.model import Recognizer

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
LARGEST_FILE = 12_000_000  # bytes
LARGEST_JPEG = 50_000_000  # pixels, known before anything is decoded; a JPEG is decoded reduced,
LARGEST_OTHER = 25_000_000  # anything else in full
LONGEST_SIDE = 30_000  # pixels
NARROWEST = 60  # times as long as wide, at most: a row of forty digits is less
WORK_SIDE = 1600  # pixels: the longer side of the picture that is searched for ink
PREVIEW_SIDE = 800
MOST_DIGITS = 40
MOST_CHUNKS = 10_000  # of a PNG: Pillow takes 5 microseconds for each
LEAST_CONTRAST = 0.12  # of the paper's brightness: what differs less is no ink
# of the usual brightness of the paper: what is darker is no shadow but the desk beside the page
DARKEST_PAPER = 0.5
NOISE = 5.0  # times the noise of the paper: what differs less is no ink
MOST_PIECES = 200  # of connected ink: with more it is no handwriting
PEN_TOLERANCE = (
    3.0  # pixels of a digit 200 pixels large: so much thicker or thinner is left as it is
)
MOST_CHANGE = 8.0  # pixels, likewise: a pen is not corrected by more on each side
NARROWEST_PAIR = 0.8  # of a digit's height: what is narrower is not two digits that touch
MOST_CUTS = 8
CUT_COST = 0.5  # what parting ink in two must gain, in units of the scores below
TOO_WIDE, TOO_LOW, DOUBT = (
    2.0,
    8.0,
    12.0,
)  # per height beyond one, per height below 0.85, per height of doubtful ink
# of a digit's height: two digits that touch are parted where no more ink than this is in a column
THINNEST = 0.4
TURNS = dict(
    enumerate(
        (
            None,
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        1,
    )
)  # EXIF orientation to what undoes it
PREVIEW_COLOUR = (213, 94, 0)
LIST = "PNG, JPEG, WebP, BMP, TIFF or GIF"


class PhotoError(Exception):
    """The picture cannot be read; the message tells the visitor what to do."""


@dataclass(frozen=True)
class Photo:
    """The digits of one picture in reading order."""

    images: list[np.ndarray]  # (28, 28) float32 in [0, 1] each, MNIST's form
    boxes: list[
        tuple[int, int, int, int]
    ]  # left, top, right, bottom of each, in pixels of the preview
    preview_png: bytes  # the upright picture with numbered boxes, at most 800 pixels wide and high


class _Piece(NamedTuple):
    """Ink that belongs together."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels
    ink: np.ndarray  # (bottom - top, right - left) float32 in [0, 1], nothing but this piece's ink


class _Judge:
    """What a recognizer thinks of ink that may be one whole digit."""

    def __init__(self, recognizer: "Recognizer"):
        self.recognizer, self.usual = recognizer, recognizer.usual_energy

    def confidence(self, piece: _Piece) -> float:
        return float(self.recognizer.predict_normalized(_mnist_form(piece)[None])[0].max())

    def doubt(self, piece: _Piece) -> float:
        """How far its energy is below that of digits that were drawn clearly, 0 to 1: two that
        touch are like none.
        """
        return float(
            np.clip(
                1 - energy(self.recognizer.model.logits(_mnist_form(piece)[None]))[0] / self.usual,
                0,
                1,
            )
        )


def read_photo(content: bytes, name: str = "", recognizer: "Recognizer | None" = None) -> Photo:
    """Find the digits in a picture: one digit, or a row or several rows of them.

    content: a PNG, JPEG, WebP, BMP, TIFF or GIF file (its first frame), at most 12 MB and 25
    million pixels (JPEG 50 million), dark ink on light or light on dark. name: the file's name, for
    a better message only. recognizer: asked which pieces of ink make a digit and where digits that
    touch part; without it their geometry decides. PhotoError when the file is too large, damaged or
    no picture, and when there is no ink in it.
    """
    picture = _decode(content, name)
    strength = _ink_strength(np.asarray(picture.convert("RGB"), np.float32) / 255)
    found = _find_digits(strength, _Judge(recognizer) if recognizer else None)
    if not found:
        raise PhotoError(
            "No ink was found in this picture. Write with a dark pen on plain paper, fill most of "
            "the picture with the digits, and avoid strong shadows."
        )
    return Photo(
        [_mnist_form(piece) for piece in found], *_preview(picture, [piece.box for piece in found])
    )


# The file


def _decode(content: bytes, name: str) -> Image.Image:
    """The upright picture, RGB, its longer side at most WORK_SIDE; PhotoError when it is none or
    too large.
    """
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
        with (
            quiet_stderr(),
            warnings.catch_warnings(),
        ):  # libtiff's and Pillow's, on damaged files: not for the page
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
    (width, height), limit = (
        picture.size,
        LARGEST_JPEG if picture.format in ("JPEG", "MPO") else LARGEST_OTHER,
    )
    if width * height > limit or max(width, height) > LONGEST_SIDE:
        raise PhotoError(
            f"This picture has {width:,} x {height:,} pixels; {limit // 1_000_000} million is the "
            "limit. Crop it, or save it smaller."
        )
    if min(width, height) < 4:
        raise PhotoError("This picture is too small to hold a digit.")
    if max(width, height) > NARROWEST * min(width, height):
        raise PhotoError("This picture is too narrow to hold a digit.")


def _no_picture(start: bytes, name: str) -> str:
    if start[4:8] == b"ftyp" or name.endswith((".heic", ".heif", ".avif")):
        return f"HEIC, AVIF and video files cannot be read here. Save the photo as {LIST}."
    if start.startswith(b"%PDF") or name.endswith(".pdf"):
        return f"A PDF is no picture. Take a screenshot of it, or save the page as {LIST}."
    return f"This is no picture that can be read here. Choose a {LIST} file."


def _upright(picture: Image.Image) -> Image.Image:
    """The first frame, reduced, without transparency, turned as EXIF says, RGB."""
    picture.draft(None, (WORK_SIDE, WORK_SIDE))  # JPEG can be decoded smaller
    picture.load()
    orientation = _orientation(
        picture
    )  # after loading: PNG may tell it last, and TIFF is turned by Pillow
    if picture.mode not in ("RGB", "RGBA", "LA", "CMYK") or "transparency" in picture.info:
        picture = _in_eight_bits(picture)
    if (factor := int(max(picture.size) / WORK_SIDE / 1.5)) > 1:
        picture = picture.reduce(factor)  # whole pixels first, which is far quicker
    picture.thumbnail((WORK_SIDE, WORK_SIDE), Image.Resampling.LANCZOS)
    small = _opaque(picture)
    return small.transpose(TURNS[orientation]) if orientation > 1 else small


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(0x0112)
    except Exception:  # a damaged block is no reason to refuse the picture
        return 1
    return value if value in TURNS else 1


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """L, RGB or RGBA; deeper grey is brought to eight bits."""
    if picture.mode in ("I", "F"):
        picture.thumbnail((WORK_SIDE, WORK_SIDE))  # four bytes a pixel are worked on below
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        return Image.fromarray(
            (values // 257 if values.max() > 255 else values).clip(0, 255).astype(np.uint8)
        )
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture), nan=0, posinf=0, neginf=0)
        return Image.fromarray(
            (values / max(float(values.max()), 1e-9) * 255).clip(0, 255).astype(np.uint8)
        )
    return picture.convert(
        "RGBA" if picture.has_transparency_data else "L" if picture.mode in "1L" else "RGB"
    )


def _opaque(picture: Image.Image) -> Image.Image:
    """Transparency laid on white, or on black when what is painted is light."""
    if picture.mode not in ("RGBA", "LA"):
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    pixels = np.asarray(picture, np.float32) / 255
    grey, alpha = pixels[..., :3].mean(2), pixels[..., 3]
    light = (grey * alpha).sum() > 0.6 * max(alpha.sum(), 1e-9)
    ground = Image.new(
        "RGBA",
        picture.size,
        (0, 0, 0, 255) if light and alpha.min() < 0.5 else (255, 255, 255, 255),
    )
    return Image.alpha_composite(ground, picture).convert("RGB")


# The ink


def _ink_strength(rgb: np.ndarray) -> np.ndarray:
    """How much each pixel differs from the paper around it, towards the ink, (H, W) float32: 0
    paper, 1 full ink.
    """
    import cv2

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if min(grey.shape) > 200:
        grey = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) / 1600)
    paper = _paper(grey)
    if _is_light_ink(grey, paper):
        grey, paper = 1 - grey, 1 - paper
    even = _evenly_lit(paper)
    beyond = (
        paper < DARKEST_PAPER * even
    )  # the desk beside the page: one solid piece that the edge of the picture cuts
    paper = np.where(beyond, even, np.maximum(paper, 0.1))
    difference = 1 - grey / paper
    noise = 1.4826 * np.median(np.abs(difference - np.median(difference)))
    floor = max(LEAST_CONTRAST, NOISE * noise)
    candidates = difference[(difference > floor) & ~beyond]
    if candidates.size < 4:
        return np.zeros_like(grey)
    full = np.quantile(candidates, 0.9)
    return np.clip((difference - full / 4) / (full / 2), 0, 1)


def _paper(grey: np.ndarray) -> np.ndarray:
    """The paper's brightness without the ink: the median over a wide neighbourhood, which keeps a
    shadow's edge.
    """
    import cv2

    height, width = grey.shape
    if max(height, width) <= 64:  # a digit fills such a picture: its paper is its border
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        return np.full_like(grey, np.median(border))
    scale = min(400 / max(height, width), 1)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    window = max(int(min(small.shape) / 2.5) | 1, 3)
    pad = window // 2
    small = cv2.copyMakeBorder(
        (small * 255).astype(np.uint8), pad, pad, pad, pad, cv2.BORDER_REFLECT
    )
    blurred = cv2.medianBlur(small, window)[pad:-pad, pad:-pad]
    return cv2.resize(
        blurred.astype(np.float32) / 255, (width, height), interpolation=cv2.INTER_LINEAR
    )


def _evenly_lit(paper: np.ndarray) -> np.ndarray:
    """The plane of light that most of the picture's paper lies on, (H, W): what is far below it is
    not paper.
    """
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in paper.shape)
    sparse = np.log(np.maximum(paper[::8, ::8], 0.02))
    terms = np.column_stack(
        [np.ones(sparse.size), *(a.ravel() for a in np.meshgrid(x[::8], y[::8]))]
    )
    values = sparse.ravel()
    fitted = np.full(len(values), np.median(values))
    weights = np.array([fitted[0], 0, 0])
    for _ in range(5):
        kept = np.abs(values - fitted) < 0.5
        if kept.sum() < 10:
            break
        weights = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        fitted = terms @ weights
    return np.exp(np.clip(weights[0] + weights[1] * x + weights[2] * y[:, None], -2.3, 0)).astype(
        np.float32
    )


def _is_light_ink(grey: np.ndarray, paper: np.ndarray) -> bool:
    """Whether what stands out from the paper is lighter than it rather than darker."""
    difference = grey - paper
    threshold = max(0.1, float(np.abs(difference).max()) / 3)
    return float(difference[difference > threshold].sum()) > -float(
        difference[difference < -threshold].sum()
    )


# The digits


def _find_digits(strength: np.ndarray, judge: _Judge | None) -> list[_Piece]:
    """The digits in reading order."""
    pieces = _pieces(strength, _without_rules(strength > 0.5))
    if len(pieces) > MOST_PIECES:
        raise PhotoError(
            "There is too much in this picture besides digits. Crop it to them, or write on plain "
            "paper."
        )
    digits: list[_Piece] = []
    for line in _lines(np.array([piece.box for piece in pieces])):
        digits += _digits_of([pieces[k] for k in line], judge)
        _check_count(len(digits))
    return digits


def _check_count(digits: int) -> None:
    if digits > MOST_DIGITS:
        raise PhotoError(
            f"This picture seems to hold more than {MOST_DIGITS} digits. Crop it to the ones you "
            "mean."
        )


def _digits_of(line: list[_Piece], judge: _Judge | None) -> list[_Piece]:
    """The digits of one written line: what touches is parted, what belongs together joined."""
    height = segmentation.row_height(np.array([piece.box for piece in line]))
    _check_count(
        sum(_may_be_several(piece, height) for piece in line)
    )  # to part one takes up to a tenth of a second
    parted = [part for piece in line for part in _part(piece, height, judge)]

    def evidence(group: list[int]) -> float:
        joined = _join([parted[k] for k in group])
        return segmentation.confidence_score(judge.confidence(joined)) if judge else 0.0

    _, groups = segmentation.group_boxes(np.array([piece.box for piece in parted], float), evidence)
    return [_join([parted[k] for k in group]) for group in groups]


def _part(piece: _Piece, height: float, judge: _Judge | None) -> list[_Piece]:
    """A piece that may be several digits which touch, parted at thin columns where that makes
    better digits.
    """
    cuts = _thin_columns(piece.ink, height) if _may_be_several(piece, height) else []
    columns = [0, *cuts, piece.ink.shape[1]]
    spans = [(i, j) for j in range(1, len(columns)) for i in range(j)]
    parts = {(i, j): _trimmed(piece, columns[i], columns[j]) for i, j in spans}
    scored = (
        (i, j, _whole_digit_score(parts[i, j], height, judge) - CUT_COST * bool(i))
        for i, j in spans
    )
    return [parts[span] for span in segmentation.best_partition(len(columns) - 1, scored)[1]]


def _may_be_several(piece: _Piece, height: float) -> bool:
    return piece.ink.shape[1] >= NARROWEST_PAIR * height


def _whole_digit_score(piece: _Piece, height: float, judge: _Judge | None) -> float:
    """What speaks against a piece being one whole digit: it is wide, it is low, the recognizer does
    not know it.
    """
    tall, wide = np.array(piece.ink.shape) / height
    geometry = TOO_WIDE * max(wide - 1, 0) + TOO_LOW * max(0.85 - tall, 0)
    return -geometry - (DOUBT * wide * judge.doubt(piece) if judge else 0.0)


def _thin_columns(ink_: np.ndarray, height: float) -> list[int]:
    """Columns at which digits that touch could be parted, from left to right."""
    inked = ink_ > 0.5
    profile = np.convolve(inked.sum(0), np.ones(3) / 3, "same")
    margin = max(round(0.2 * height), 1)
    columns: list[int] = []
    for column in np.argsort(profile, kind="stable"):
        inside = margin <= column < len(profile) - margin
        if (
            inside
            and profile[column] < THINNEST * height
            and all(abs(column - other) >= margin for other in columns)
        ):
            columns.append(int(column))
    return sorted(columns[:MOST_CUTS])


def _trimmed(piece: _Piece, start: int, end: int) -> _Piece:
    """The columns [start, end) of a piece, without the empty rows and columns around their ink."""
    x, y = piece.box[0] + start, piece.box[1]
    box = ink.bounding_box(piece.ink[:, start:end])
    left, top, right, bottom = (
        (int(value) for value in box) if box else (0, 0, end - start, piece.ink.shape[0])
    )
    return _Piece(
        (x + left, y + top, x + right, y + bottom),
        piece.ink[top:bottom, start + left : start + right],
    )


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


def _pieces(strength: np.ndarray, mask: np.ndarray) -> list[_Piece]:
    """Connected pieces that can be handwriting; specks, and what is not of the pen's thickness, are
    left out.
    """
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    stats = stats[1:]
    size = stats[:, 2:4].max(1)
    good = np.flatnonzero(size >= max(3, max(mask.shape) / 100))
    good = good[np.argsort(-size[good])][: MOST_PIECES + 1]
    pens = np.array([_most_within(depth, labels, stats, k) for k in good])
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    cut = np.bincount(edge, minlength=n)[1:][good]
    keep = _is_handwriting(stats[good], pens, cut, mask.shape)
    return [_cut_out(strength, labels, stats[k], k + 1) for k in sorted(good[keep])]


def _most_within(depth: np.ndarray, labels: np.ndarray, stats: np.ndarray, k: int) -> float:
    left, top, width, height = stats[k, :4]
    window = np.s_[top : top + height, left : left + width]
    return float(depth[window][labels[window] == k + 1].max())


def _is_handwriting(
    stats: np.ndarray, pens: np.ndarray, cut: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Which pieces are, (n,) bool.

    stats: (n, 5) as OpenCV gives them; pens: (n,) each piece's greatest half thickness; cut: (n,)
    how many of its pixels lie on the picture's edge. The pieces away from the edge tell how large
    the writing is and how thick the pen.
    """
    size, area = stats[:, 2:4].max(1, initial=0), stats[:, 4]
    inside = (cut == 0) & (size >= max(shape) / 50)
    typical = inside if inside.any() else np.ones(len(stats), bool)
    largest = size[typical].max(initial=0)
    main = typical & (size >= 0.4 * largest)
    pen, tall = (np.median(values[main]) if main.any() else 0 for values in (pens, size))
    keep = (
        (size >= 0.12 * largest)
        & (area >= 0.004 * largest**2)
        & (pens < 2.5 * pen)
        & (pens > 0.3 * pen)
    )
    if not inside.any():
        return keep
    whole = (size < 1.5 * tall) & (size > 0.5 * tall) & (pens < 1.5 * pen) & (cut < 0.3 * size)
    return keep & ((cut == 0) | whole)


def _lines(boxes: np.ndarray) -> list[list[int]]:
    """Indices of the pieces of each written line, from top to bottom; a line may slope, small
    pieces join the nearest.
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
        distances = [np.abs(boxes[line] - boxes[k]).sum(1).min() for line in lines]
        lines[int(np.argmin(distances))].append(k)
    return lines


def _cut_out(strength: np.ndarray, labels: np.ndarray, stats: np.ndarray, label: int) -> _Piece:
    """One connected piece with the soft edge that anti-aliasing left around it."""
    import cv2

    left, top = np.maximum(stats[:2] - 2, 0)
    right, bottom = np.minimum(stats[:2] + stats[2:4] + 2, strength.shape[::-1])
    own = cv2.dilate(
        (labels[top:bottom, left:right] == label).astype(np.uint8), np.ones((3, 3), np.uint8)
    )
    return _Piece(
        (int(left), int(top), int(right), int(bottom)), strength[top:bottom, left:right] * own
    )


def _without_rules(mask: np.ndarray) -> np.ndarray:
    """The mask without ruled lines: straight, thin, across most of the picture; where ink crosses
    them it stays.
    """
    return _without_flat_rules(np.ascontiguousarray(_without_flat_rules(mask).T)).T


def _without_flat_rules(mask: np.ndarray) -> np.ndarray:
    import cv2

    height, width = mask.shape
    if width < 100 or not mask.any():
        return mask
    thick = max(round(max(mask.shape) / 130), 2)
    tall = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((thick + 1, 1), np.uint8)
    )
    flat = mask.astype(np.uint8) & ~tall  # columns of ink no taller than a rule
    step = max(
        round(width / 400), 1
    )  # a rule is as clear in a few hundred columns, and sooner found
    found = cv2.HoughLinesP(
        np.ascontiguousarray(flat[:, ::step]),
        1,
        np.pi / 360,
        round(width / 8 / step),
        minLineLength=width / 3 / step,
        maxLineGap=width / 15 / step,
    )
    rules = np.zeros_like(flat)
    for x0, y0, x1, y1 in (found if found is not None else np.empty((0, 4))).reshape(-1, 4):
        if abs(y1 - y0) < 0.4 * abs(x1 - x0) * step:
            ends = (int(x0) * step, int(y0)), (int(x1) * step, int(y1))
            cv2.line(rules, *ends, 1, thick + 1)
    return mask & ~(flat & rules).astype(bool)


def _mnist_form(piece: _Piece) -> np.ndarray:
    return ink.normalize(_even_pen(piece.ink))


def _even_pen(crop: np.ndarray) -> np.ndarray:
    """The digit enlarged and drawn with about MNIST's pen: a thin line is thickened, a thick one
    thinned.
    """
    import cv2

    scale = ink.EXTENT / max(crop.shape)
    large = cv2.resize(
        crop,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA,
    )
    large = np.clip(large, 0, 1)  # interpolation overshoots by a rounding error
    change = (ink.PEN * ink.EXTENT - _pen_width(large > 0.5)) / 2
    if abs(change) < PEN_TOLERANCE:
        return large
    radius = round(min(abs(change), MOST_CHANGE))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    if change < 0:
        return cv2.erode(large, disc)
    return cv2.dilate(cv2.copyMakeBorder(large, *4 * (radius,), cv2.BORDER_CONSTANT), disc)


def _pen_width(mask: np.ndarray) -> float:
    """The usual width of the lines in a mask, in pixels: twice the distance from their middle to
    paper.
    """
    import cv2

    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)
    ridge = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    return 2 * float(np.median(depth[ridge])) if ridge.any() else 0.0


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

"""Uploaded pictures: every format and polarity gives the same digits, and no file of any kind does harm."""

import contextlib
import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import papers
from digits.recognizer import ink, photo
from digits.recognizer.model import Recognizer

DRAWN = {example.name: example for example in ink.examples()}
NAMES = {"0": "0-slashed", "1": "1-flag", "7": "7-crossed"}  # of the drawn examples
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


def page(name: str, brush: int = 12, paper: int = 235, pen: int = 40) -> Image.Image:
    """A drawn example as a grey picture of 280 x 280."""
    coverage = ink.rasterize(DRAWN[name].strokes, brush=brush) / 255
    return Image.fromarray(np.round(paper + (pen - paper) * coverage).astype(np.uint8))


def encoded(picture: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def text(recognizer, content: bytes) -> str:
    return photo.read_photo(content, recognizer).text


def refusal(content) -> str:
    """The words that a file is refused with."""
    with pytest.raises(photo.PhotoError) as caught:
        photo.read_photo(content, None)  # whom nobody asks
    words = str(caught.value)
    assert 20 < len(words) < 300 and "Error" not in words and "/" not in words
    return words


# What is read


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_reads_the_same(recognizer, format):
    assert text(recognizer, encoded(page("2026"), format)) == "2026"


@pytest.mark.parametrize(
    "name", ["0-slashed", "1-flag", "2", "3", "4", "5", "6", "7-crossed", "8", "9"]
)
def test_every_digit_in_one_piece(recognizer, name):
    """A roof, a bar and a stem belong to their digit."""
    content = encoded(page(name).convert("RGB"), "JPEG", quality=80)
    assert text(recognizer, content) == name[0]


def test_photo_has_the_promised_form(recognizer):
    found = photo.read_photo(encoded(page("58")), recognizer)
    assert len(found.parts) == 2
    for image in (part.prediction.image for part in found.parts):
        assert (
            image.shape == (28, 28)
            and image.dtype == np.float32
            and image.min() >= 0
            and 0.5 < image.max() <= 1
        )
        left, top, right, bottom = ink.bounding_box(image)
        assert max(right - left, bottom - top) == 20
    preview = Image.open(io.BytesIO(found.preview))
    assert preview.format == "PNG" and max(preview.size) <= 800
    for left, top, right, bottom in (part.box for part in found.parts):
        assert 0 <= left < right <= preview.width and 0 <= top < bottom <= preview.height
    assert found.parts[0].box[0] < found.parts[1].box[0]


@pytest.mark.parametrize("pen", [1, 4, 12, 24, 34])
def test_pen_width_does_not_matter(recognizer, pen):
    assert text(recognizer, encoded(page("2", brush=pen))) == "2"


@pytest.mark.parametrize(("paper", "pen"), [(255, 0), (20, 230), (120, 40), (90, 200), (255, 170)])
def test_dark_on_light_and_light_on_dark(recognizer, paper, pen):
    assert text(recognizer, encoded(page("58", paper=paper, pen=pen))) == "58"


@pytest.mark.parametrize("opaque", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency(recognizer, mode, opaque):
    """Black ink on nothing, and white ink on nothing, whatever colour the nothing has."""
    coverage = Image.fromarray(ink.rasterize(DRAWN["58"].strokes, brush=12))
    picture = Image.merge("LA", (Image.new("L", coverage.size, opaque), coverage))
    assert (
        text(
            recognizer,
            encoded(picture.convert("RGBA").quantize() if mode == "P" else picture.convert(mode)),
        )
        == "58"
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(recognizer, format, orientation):
    exif, stored = Image.Exif(), page("58")
    exif[0x0112] = orientation
    if orientation > 1:
        stored = stored.transpose(TURNS[orientation])
    assert text(recognizer, encoded(stored, format, exif=exif)) == "58"


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_exif_nonsense_is_ignored(recognizer, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert text(recognizer, encoded(page("58"), "JPEG", exif=exif)) == "58"
    assert (
        text(recognizer, encoded(page("58"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")) == "58"
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_every_mode(recognizer, mode):
    deep = {"I;16": np.uint16, "I": np.int32}
    picture = (
        Image.fromarray(np.asarray(page("58")).astype(deep[mode]) * 257)
        if mode in deep
        else page("58")
        .convert("RGB" if mode in ("P", "LAB") else "L")
        .convert(mode if mode != "LAB" else "RGB")
    )
    format = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    assert text(recognizer, encoded(picture, format)) == "58"


def test_first_frame_of_an_animation(recognizer):
    frames = [page(name) for name in ("58", "2", "7")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert text(recognizer, content) == "58"


def test_mnist_like_picture_comes_back_as_it_is(recognizer):
    """28 x 28, light on dark, and the same on white."""
    image = ink.strokes_to_image(DRAWN["3"].strokes)
    for grey in (image, 1 - image):
        content = encoded(Image.fromarray(np.round(grey * 255).astype(np.uint8)))
        (part,) = photo.read_photo(content, recognizer).parts
        assert np.corrcoef(part.prediction.image.ravel(), image.ravel())[0, 1] > 0.85
        assert text(recognizer, content) == "3"


def test_tight_crop_and_large_picture(recognizer):
    small = page("5").crop((70, 25, 205, 255))
    assert text(recognizer, encoded(small)) == "5"
    assert text(recognizer, encoded(page("2026").resize((4200, 4200)), "JPEG")) == "2026"


def test_uneven_light_rules_and_specks(recognizer):
    """A shadow across the digits, ruled paper, dirt, noise and strong JPEG."""
    rng = np.random.default_rng(1)
    picture = np.asarray(page("1749").resize((900, 900), Image.Resampling.BICUBIC), float)
    picture[np.arange(60, 900, 90)] = np.minimum(picture[np.arange(60, 900, 90)], 150)
    picture[rng.integers(0, 900, 60), rng.integers(0, 900, 60)] = 30
    x = np.linspace(0, 1, 900)
    picture = picture * np.where(x + x[:, None] > 1.1, 0.6, 1) * (1 - 0.3 * x) + rng.normal(
        0, 6, picture.shape
    )
    content = encoded(
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), "JPEG", quality=50
    )
    assert text(recognizer, content) == "1749"


NUMBER = {
    "half_dry": "2026", "pencil": "58", "boxes": "5", "grid": "1749", "tight": "58", "paint": "58",
    "specks": "58", "coloured": "2026", "dithered": "58", "deep": "58", "thin": "58", "ruled": "58",
    "reduced": "58",
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBER)
def test_every_kind_of_picture(recognizer, kind):
    """As markers, pencils, forms, puzzles, scanners and Paint make them."""
    text = NUMBER[kind]
    strokes = [DRAWN[NAMES.get(digit, digit)].strokes for digit in text]
    content = papers.KINDS[kind](strokes, np.random.default_rng(2))
    assert recognizer.read_photo(content).text == text


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["squared", "interrupted"])
def test_lines_between_the_digits_are_no_digits_and_take_none_with_them(recognizer, kind, seed):
    """Squares finer than the digits, pale ones that vanish beside dark ink, dashes, dots."""
    strokes = [DRAWN[NAMES.get(digit, digit)].strokes for digit in "2058"]
    content = papers.KINDS[kind](strokes, np.random.default_rng(seed))
    answer = recognizer.read_photo(content)
    assert answer.text == "2058" and answer.accepted


@pytest.mark.parametrize("digit", ["0", "5"])
def test_a_pale_stroke_holds_its_digit_together(recognizer, digit):
    """A thin line that is a little paler in places: no pieces of it read as more digits."""
    strokes = [DRAWN[NAMES.get(digit, digit)].strokes]
    assert text(recognizer, papers.reduced(strokes, np.random.default_rng(0))) == digit


def test_a_ring_that_a_dry_pen_left_open_twice_is_one_zero(recognizer):
    """Its right side is a piece of its own, and the rest is wide enough for two digits."""
    sheet = np.full((200, 360), 255, np.uint8)
    for middle in (90, 250):
        cv2.ellipse(sheet, (middle, 100), (48, 56), 0, 0, 360, 60, 8, cv2.LINE_AA)
    for y, end in ((76, 69), (128, 134)):
        cv2.line(sheet, (277, y), (299, end), 255, 7)
    assert text(recognizer, encoded(Image.fromarray(sheet))) == "00"


@pytest.mark.parametrize(("number", "seed"), [("2058", 3), ("5327", 1), ("2026", 0)])
def test_a_row_cropped_at_the_ink_loses_no_digit(recognizer, number, seed):
    """Digits of unequal height: some touch the picture's edges, others none."""
    strokes = [DRAWN[NAMES.get(digit, digit)].strokes for digit in number]
    assert text(recognizer, papers.tight(strokes, np.random.default_rng(seed))) == number


def test_a_thin_pen_is_not_thickened_until_gaps_close():
    lines = np.zeros((200, 24), np.float32)
    lines[:, [0, 1, -2, -1]] = 1
    form = photo._mnist_form(photo._Piece((0, 0, 24, 200), lines))
    left, _, right, _ = ink.bounding_box(form)
    columns = form[:, left:right].max(0)
    assert min(columns[0], columns[-1]) > 0.7 and columns.min() < 0.5


def test_an_error_names_the_file_when_it_is_told(recognizer):
    with pytest.raises(photo.PhotoError, match="^notes.pdf: This is no picture"):
        recognizer.read_photo(b"%PDF-1.7 and more", "notes.pdf")


@pytest.mark.parametrize("degrees", [0, 25, 90, 180, 270])
def test_turned_pages_are_read_and_the_turn_is_told(recognizer, degrees):
    picture = page("1749").resize((560, 560)).rotate(-degrees, expand=True, fillcolor=235)
    answer = recognizer.read_photo(encoded(picture))
    assert answer.text == "1749" and ("Turned" in answer.note) == (degrees > 0)


def test_what_a_hand_has_turned_stays_as_it_lies(recognizer):
    picture = page("1749").resize((560, 560)).rotate(-180, fillcolor=235)
    answer = recognizer.read_photo(encoded(picture), upright=True)
    assert answer.text != "1749" and "Turned" not in answer.note


def test_what_may_be_incomplete_is_withheld_with_the_reason(recognizer):
    """A digit that the picture's edge cuts, however clear what is left of it."""
    picture = page("58").crop((90, 0, 280, 280))
    answer = recognizer.read_photo(encoded(picture))
    assert answer.doubtful and not answer.accepted and "edge" in answer.note + answer.reason


def test_two_lines_are_read_from_top_to_bottom(recognizer):
    both = Image.new("L", (280, 400), 235)
    both.paste(page("2026").crop((0, 70, 280, 210)), (0, 20))
    both.paste(page("1749").crop((0, 70, 280, 210)), (0, 220))
    assert text(recognizer, encoded(both)) == "20261749"


@pytest.mark.parametrize(
    "points",
    [
        ((55, 50), (30, 50), (30, 290), (55, 290)),
        ((50, 50), (30, 100), (22, 170), (30, 240), (50, 290)),
        ((32, 40), (38, 170), (30, 300)),
    ],
    ids=["bracket", "parenthesis", "bar"],
)
def test_what_is_as_tall_as_all_lines_takes_no_digit_with_it(recognizer, points):
    """It is withheld, and all digits are there."""
    lines = Image.new("L", (370, 340), 235)
    for name, y in (("2026", 20), ("1749", 170)):
        lines.paste(page(name).crop((0, 65, 280, 215)), (80, y))
    picture = np.array(lines)
    path = np.array(points, np.int32)[:, None]
    cv2.polylines(picture, [path], False, 40, 10, cv2.LINE_AA)
    answer = recognizer.read_photo(encoded(Image.fromarray(picture)))
    assert answer.text == "20261749" and answer.doubtful and answer.note == photo.LEFT_OUT


@pytest.mark.slow
def test_digits_that_touch_are_parted_by_the_recognizer(recognizer):
    """Pairs whose pens run into each other: most are parted, and a digit that stands alone never is."""
    pairs = [(a, b) for a in "02345679" for b in "123578"]
    right = [text(recognizer, touching(a, b)) == a + b for a, b in pairs]
    assert np.mean(right) > 0.6
    for example in ink.examples():
        if len(example.expected or "") == 1:
            assert len(photo.read_photo(encoded(page(example.name)), recognizer).parts) == 1


def touching(a: str, b: str) -> bytes:
    left, right = DRAWN[a].strokes, DRAWN[b].strokes
    shift = (
        max(stroke[:, 0].max() for stroke in left) - min(stroke[:, 0].min() for stroke in right) + 6
    )
    strokes = [stroke * 0.6 for stroke in (*left, *(stroke + (shift, 0) for stroke in right))]
    edge = min(stroke[:, 0].min() for stroke in strokes) - 20
    return encoded(
        Image.fromarray(255 - ink.rasterize([stroke - (edge, 0) for stroke in strokes], brush=12))
    )


DIGITS = [name for name in DRAWN if len(DRAWN[name].expected or "") == 1]


def strokes(name: str) -> list[np.ndarray]:
    return list(DRAWN[name].strokes)


@pytest.mark.parametrize("name", DIGITS)
def test_a_thumbnail_on_shaded_paper(recognizer, name):
    """28 x 28 pixels, pencil, and the paper is darker on one side: that is no noise."""
    rng = np.random.default_rng(1)
    sheet = papers.paper(280, 280, rng) * np.linspace(1, 0.75, 280, dtype=np.float32)[None, :, None]
    papers.row(sheet, [strokes(name)], 220, 8, rng, ink=papers.GREY)
    small = papers.noisy(sheet, rng).resize((28, 28), Image.Resampling.BOX)
    assert text(recognizer, encoded(small)) == DRAWN[name].expected


@pytest.mark.parametrize("name", DIGITS)
def test_a_bold_digit_that_fills_its_picture(recognizer, name):
    rng = np.random.default_rng(1)
    sheet = papers.paper(400, 400, rng, (1, 1, 1))
    papers.row(sheet, [strokes(name)], 240, 38, rng)
    y, x = (np.flatnonzero((sheet.mean(2) < 0.5).any(axis)) for axis in (1, 0))
    tight = papers.noisy(sheet[y[0] : y[-1] + 1, x[0] : x[-1] + 1], rng)
    answer = photo.read_photo(encoded(tight), recognizer)
    assert answer.text == DRAWN[name].expected and answer.accepted


@pytest.mark.parametrize("margin", [0, 60])
@pytest.mark.parametrize("number", ["3", "4", "5", "6", "8", "85", "36"])
def test_a_thick_marker_fills_a_large_picture(recognizer, number, margin):
    """Wherever one looks there is more ink than paper."""
    page = papers.paper(1000, 700 * len(number), np.random.default_rng(1))
    digits = [list(DRAWN[NAMES.get(digit, digit)].strokes) for digit in number]
    papers.row(page, digits, 600, 120, np.random.default_rng(1))
    left, top, right, bottom = ink.bounding_box((page.mean(2) < 0.5).astype(np.float32))
    box = left - margin, top - margin, right + margin, bottom + margin
    picture = papers.noisy(page, np.random.default_rng(1)).crop(box)
    answer = photo.read_photo(encoded(picture), recognizer)
    assert (answer.text, answer.accepted) == (number, True)


def test_a_sheet_on_a_dark_desk_and_a_shadow_are_no_thick_pen(recognizer):
    page = papers.paper(700, 900, np.random.default_rng(1))
    papers.row(
        page, [list(DRAWN[name].strokes) for name in ("3", "8")], 200, 30, np.random.default_rng(1)
    )
    shadow, desk = page.copy(), np.full((1100, 1500, 3), 0.2, np.float32)
    shadow[:, 700:] *= 0.5  # of somebody beside the table
    desk[200:900, 300:1200] = page
    for scene in (shadow, desk):
        picture = papers.noisy(scene, np.random.default_rng(1))
        assert text(recognizer, encoded(picture)) == "38"


@pytest.mark.parametrize("name", DIGITS)
def test_the_frame_of_a_cell_is_no_ink(recognizer, name):
    rng = np.random.default_rng(1)
    sheet = papers.paper(64, 64, rng, (0.8, 0.82, 0.78))
    papers.draw(sheet, papers.placed(strokes(name), (18, 16, 46, 48)), 5)
    corners = np.array([(1, 1), (62, 1), (62, 62), (1, 62), (1, 1)])
    papers.draw(sheet, [corners], 5)
    answer = photo.read_photo(papers.jpeg(papers.noisy(sheet, rng)), recognizer)
    assert answer.text == DRAWN[name].expected and answer.accepted


@pytest.mark.parametrize("side", [4, 5, 6, 8, 12, 19, 20, 21, 40])
def test_a_frame_around_next_to_nothing(recognizer, side):
    """However small it is, it is read or refused in words."""
    for width in (1, 2, 3):
        framed = Image.new("L", (side, side + 1), 20)
        if side > 2 * width:
            framed.paste(230, (width, width, side - width, side + 1 - width))
        with contextlib.suppress(photo.PhotoError):
            photo.read_photo(encoded(framed), recognizer)


@pytest.mark.parametrize("rings", [1, 2, 3])
def test_no_loop_is_cut(rings):
    """Not even for a recognizer that knows every half and no whole; rings that touch are parted where they do."""
    canvas = np.zeros((120, 14 + 136 * rings), np.uint8)
    for k in range(rings):
        cv2.ellipse(canvas, (75 + 136 * k, 60), (65, 50), 0, 0, 360, 255, 9, cv2.LINE_AA)
    piece = photo._Piece((0, 0, canvas.shape[1], 120), canvas / np.float32(255))

    def judge(part) -> photo._Opinion:
        return photo._Opinion(1.0, float(part.ink.shape[1] > 0.7 * canvas.shape[1]), False)

    parts = photo._part(piece, 110, judge)
    assert len(parts) == rings
    assert max(part.ink.shape[1] for part in parts) < 160


# What is refused


def test_no_ink_is_said():
    assert "No ink" in refusal(encoded(Image.new("RGB", (600, 400), "white")))
    assert "No ink" in refusal(encoded(Image.new("RGB", (600, 400), "black"), "JPEG"))
    noise = np.random.default_rng(0).normal(128, 8, (400, 600)).clip(0, 255).astype(np.uint8)
    refusal(encoded(Image.fromarray(noise)))


@pytest.mark.parametrize(("content", "word"), [
    (b"", "empty"), (None, "empty"), ("text", "empty"), (bytes(12_000_001), "MB"), (b"hello", "PNG"), (b"GIF89a", "GIF"),
    (b"%PDF-1.7", "PDF"), (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG"),
])  # fmt: skip
def test_no_picture_is_refused_in_words(content, word):
    assert word in refusal(content)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files(format, share):
    noisy = Image.fromarray(
        np.random.default_rng(2).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    )
    content = encoded(noisy, format)
    refusal(content[: int(len(content) * share)])


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height"),
    [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (9_000, 9_000), (40_000, 20), (0, 0), (0, 5)],
)
def test_bombs_are_refused_before_they_are_decoded(width, height):
    start = time.perf_counter()
    refusal(png(width, height, bytes(1000)))
    assert time.perf_counter() - start < 1


def test_other_headers_that_claim_too_much():
    gif = (
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\2"
    )
    bmp = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    for content in (gif, bytes(bmp)):
        refusal(content)


def test_tiny_pictures():
    for size in ((1, 1), (1, 500), (3, 3)):
        assert "too small" in refusal(encoded(Image.new("L", size, 255)))
    refusal(encoded(Image.new("L", (5, 5), 255)))


def test_polyglots_are_only_their_picture(recognizer):
    """A picture with a web page or an archive behind or in it is read as a picture and comes out as clean PNG."""
    evil = b"<script>alert(1)</script>"
    for format, tail in (("GIF", evil), ("JPEG", b"PK\3\4" + evil)):
        content = encoded(page("58"), format, comment=evil) + tail
        found = photo.read_photo(content, recognizer)
        assert len(found.parts) == 2 and evil not in found.preview
    refusal(b"<html>" + encoded(page("58")))
    refusal(b"PK\3\4" + encoded(page("58")))


@pytest.mark.parametrize(
    "content",
    [
        b"P6 4 4 255 " + bytes(48),
        b"\xff\x4f\xff\x51" + bytes(200),
        b"8BPS" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"icns" + bytes(60),
    ],
)
def test_formats_off_the_list_are_not_opened(content):
    assert "PNG" in refusal(content)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_bytes_never_escape_as_another_error(recognizer, format):
    rng = np.random.default_rng(3)
    whole = np.frombuffer(encoded(page("58").resize((90, 90)), format), np.uint8)
    for _ in range(40):
        damaged = whole.copy()
        places = rng.integers(0, len(whole), rng.integers(1, 12))
        damaged[places] = rng.integers(0, 256, len(places))
        try:
            found = photo.read_photo(damaged.tobytes(), recognizer)
            assert all(np.isfinite(part.prediction.image).all() for part in found.parts)
        except photo.PhotoError:
            pass


@pytest.mark.parametrize("make", [
    lambda rng: rng.integers(0, 256, (300, 400)), lambda rng: np.indices((300, 400)).sum(0) // 4 % 2 * 255,
    lambda rng: (np.indices((300, 400)) // 6 % 2).all(0) * 255, lambda rng: np.linspace(0, 255, 300 * 400).reshape(300, 400),
    lambda rng: np.eye(400)[:300] * 255,
])  # fmt: skip
def test_patterns_end_quickly(recognizer, make):
    """Noise, stripes, a grid of dots, a ramp and a line: an answer or a refusal, soon."""
    content = encoded(Image.fromarray(make(np.random.default_rng(4)).astype(np.uint8)))
    start = time.perf_counter()
    try:
        found = photo.read_photo(content, recognizer)
        assert len(found.parts) <= photo.MOST_DIGITS
    except photo.PhotoError:
        pass
    assert time.perf_counter() - start < 10


def test_import_is_small():
    """OpenCV, scikit-image, SciPy and SQLAlchemy are loaded when they are needed, not when the app starts."""
    code = (
        "import sys, digits.recognizer, digits.recognizer.segmentation, digits.app.app\n"
        "print([name for name in ('cv2', 'skimage', 'scipy', 'sqlalchemy', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Pictures of handwriting as scanners, forms, puzzles and Paint make them, drawn from strokes."""

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Strokes = list[np.ndarray]  # (n, 2) each: x and y, y downwards
BLACK, GREY = (0.1, 0.1, 0.12), (0.5, 0.5, 0.52)
INKS = (
    (0.85, 0.45, 0.45),
    (0.45, 0.62, 0.9),
    (0.45, 0.75, 0.5),
    (0.8, 0.5, 0.8),
)  # about as bright


def placed(strokes: Strokes, box: tuple[float, float, float, float]) -> Strokes:
    """Strokes scaled into the middle of a box of left, top, right, bottom."""
    points, corners = np.concatenate(strokes), np.reshape(box, (2, 2))
    low, size = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-6)
    scale = float(min((corners[1] - corners[0]) / size))
    return [(stroke - low - size / 2) * scale + corners.mean(0) for stroke in strokes]


def paper(
    height: int, width: int, rng: np.random.Generator, colour=(0.93, 0.92, 0.9)
) -> np.ndarray:
    """Paper, (height, width, 3) in [0, 1], lighter on one side."""
    shade = 1 - rng.uniform(0, 0.2) * np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    return np.float32(colour) * shade * np.ones((height, 1, 1), np.float32)


def grain(shape: tuple[int, ...], rng: np.random.Generator, cell: float) -> np.ndarray:
    """Smooth noise (height, width) in [0, 1] with a grain of ``cell`` pixels."""
    small = rng.random((int(shape[0] / cell) + 2, int(shape[1] / cell) + 2)).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def draw(
    page: np.ndarray, strokes: Strokes, pen: float, ink=BLACK, dry: np.ndarray | float = 0.0
) -> None:
    """Write on a page with a round pen; ``dry`` in [0, 1] is what the pen leaves out, (H, W)."""
    coverage = np.zeros(page.shape[:2], np.uint8)
    for stroke in strokes:
        points = np.round(np.asarray(stroke) * 16).astype(np.int32)[:, None]
        cv2.polylines(coverage, [points], False, 255, max(round(pen), 1), cv2.LINE_AA, 4)
    cover = (coverage / np.float32(255) * (1 - dry))[..., None]
    page += cover * (np.float32(ink) - page)


def row(page: np.ndarray, digits: list[Strokes], tall: float, pen: float, rng, **pens) -> None:
    """Digits side by side across the page."""
    height, width = page.shape[:2]
    cell = min(1.05 * tall, 0.92 * width / len(digits))
    left = (width - cell * len(digits)) / 2
    for k, strokes in enumerate(digits):
        middle = height / 2 + rng.uniform(-0.08, 0.08) * tall
        box = (
            left + (k + 0.14) * cell,
            middle - tall / 2,
            left + (k + 0.86) * cell,
            middle + tall / 2,
        )
        draw(page, placed(strokes, box), pen, **pens)


def noisy(page: np.ndarray, rng: np.random.Generator, noise: float = 0.012) -> Image.Image:
    """The page as a camera or a scanner sees it."""
    page = cv2.GaussianBlur(page, (0, 0), 0.7) + rng.normal(0, noise, page.shape)
    return Image.fromarray((page.clip(0, 1) * 255).astype(np.uint8))


def encoded(picture: Image.Image, format: str = "PNG", **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(picture: Image.Image) -> bytes:
    return encoded(picture, "JPEG", quality=85)


def half_dry(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A marker that runs dry: streaks in each stroke, some of them much paler than the rest."""
    page = paper(420, 200 + 170 * len(digits), rng)
    dry = 0.75 * grain(page.shape, rng, 30) ** 2 + 0.3 * (grain(page.shape, rng, 2) > 0.6)
    row(page, digits, 190, rng.uniform(8, 18), rng, dry=dry.clip(0, 0.8))
    return jpeg(noisy(page, rng))


def pencil(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Thin grey lines with the paper's grain in them."""
    page = paper(420, 200 + 120 * len(digits), rng)
    dry = 0.35 * grain(page.shape, rng, 2) + 0.25 * grain(page.shape, rng, 40)
    row(page, digits, 120, rng.uniform(3, 6), rng, ink=GREY, dry=dry)
    return jpeg(noisy(page, rng))


def boxes(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Pencil in a form's printed boxes; one digit in three runs over a line; some boxes are empty."""
    empty, cell = int(rng.integers(0, 3)), 150
    line, pen = rng.uniform(3, 7), rng.uniform(4, 8)
    page = paper(cell + 40, 40 + cell * (len(digits) + empty), rng, (1, 1, 1))
    for k, strokes in enumerate(digits):
        over = 30 * float(rng.random() < 0.3)
        x, y = 20 + cell * k + rng.uniform(-8, 8), 20 + over
        box = x + 35, y + 22, x + cell - 35, y + cell - 22
        draw(page, placed(strokes, box), pen, GREY, 0.3 * grain(page.shape, rng, 2))
    frame = [np.array([(20, y), (page.shape[1] - 20, y)]) for y in (20, 20 + cell)]
    posts = [20 + cell * k for k in range(len(digits) + empty + 1)]
    draw(page, frame + [np.array([(x, 20), (x, 20 + cell)]) for x in posts], line)
    return jpeg(noisy(page, rng))


def ruled(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Dark printed rules that run through the digits."""
    page = paper(420, 200 + 140 * len(digits), rng)
    row(page, digits, 140, rng.uniform(5, 10), rng)
    slope, apart = rng.uniform(-0.02, 0.02) * page.shape[1], rng.uniform(70, 130)
    ends = [(y, y + slope) for y in np.arange(rng.uniform(0, apart), 420, apart)]
    draw(page, [np.array([(0, a), (page.shape[1], b)]) for a, b in ends], 2, (0.3, 0.3, 0.35))
    return jpeg(noisy(page, rng))


def squared(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Squared paper, pale or dark; a digit is three to five squares tall."""
    page, apart = paper(420, 200 + 140 * len(digits), rng), rng.uniform(30, 50)
    pen, shade = rng.uniform(1.5, 2.5), rng.uniform(0.35, 0.7)
    height, width = page.shape[:2]
    level = [
        np.array([(0, y), (width, y)]) for y in np.arange(rng.uniform(0, apart), height, apart)
    ]
    upright = [
        np.array([(x, 0), (x, height)]) for x in np.arange(rng.uniform(0, apart), width, apart)
    ]
    draw(page, level + upright, pen, (shade, shade, 0.9 * shade + 0.1))
    row(page, digits, 140, rng.uniform(6, 12), rng)
    return jpeg(noisy(page, rng))


def interrupted(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Dashed or dotted rules, under the digits and through them."""
    page, apart = paper(420, 200 + 140 * len(digits), rng), rng.uniform(70, 130)
    dash, gap = (0.5, rng.uniform(8, 14)) if rng.random() < 0.5 else (16.0, 11.0)
    for y in np.arange(rng.uniform(0, apart), 420, apart):
        starts = np.arange(0, page.shape[1], dash + gap)
        draw(page, [np.array([(x, y), (x + dash, y)]) for x in starts], rng.uniform(2, 4), GREY)
    row(page, digits, 140, rng.uniform(6, 12), rng)
    return jpeg(noisy(page, rng))


def grid(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A row that was cut out of a puzzle: lines at the edges and between the digits."""
    cell = int(rng.integers(48, 80))
    page = paper(cell + 4, cell * len(digits) + 4, rng, (0.8, 0.82, 0.78))
    for k, strokes in enumerate(digits):
        x, y = 2 + cell * (k + rng.uniform(0.27, 0.33)), 2 + cell * rng.uniform(0.2, 0.26)
        box = x, y, x + 0.42 * cell, y + 0.56 * cell
        draw(
            page,
            placed(strokes, box),
            0.07 * cell,
            BLACK if rng.random() < 0.6 else (0.6, 0.15, 0.15),
        )
    edges = [np.array([(0, y), (page.shape[1], y)]) for y in (2, 2 + cell)]
    posts = [2 + cell * k for k in range(len(digits) + 1)]
    draw(page, edges + [np.array([(x, 0), (x, cell + 4)]) for x in posts], 2, (0.2, 0.2, 0.2))
    return jpeg(noisy(page, rng))


def tight(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Cropped at the ink: it lies on every edge of the picture."""
    page = paper(400, 100 + 200 * len(digits), rng, (1, 1, 1))
    row(page, digits, 240, rng.uniform(14, 40), rng)
    inked = page.mean(2) < 0.5
    y, x = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    picture = noisy(page[y[0] : y[-1] + 1, x[0] : x[-1] + 1], rng)
    if rng.random() < 0.5:
        picture.thumbnail((28 * len(digits), 28), Image.Resampling.BOX)
    return encoded(picture)


def paint(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A small drawing with a pen of a pixel or two, with or without soft edges."""
    page = paper(30, 6 + 24 * len(digits), rng, (1, 1, 1))
    row(page, digits, 22, rng.integers(1, 3), rng, ink=(0, 0, 0))
    page = (page > 0.5).astype(float) if rng.random() < 0.5 else page
    return encoded(Image.fromarray((page * 255).astype(np.uint8)))


def specks(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A black and white scan with dirt all over and black corners."""
    page = paper(500, 200 + 90 * len(digits), rng)
    row(page, digits, 80, rng.uniform(5, 9), rng)
    for x, y in rng.uniform(0, 1, (60, 2)) * page.shape[1::-1]:
        cv2.circle(page, (int(x), int(y)), int(rng.integers(1, 4)), BLACK, -1)
    cv2.circle(page, (0, 500), int(rng.uniform(20, 70)), BLACK, -1)
    return encoded(
        noisy(page, rng).convert("L").point(lambda value: 255 * (value > 128)).convert("1")
    )


def turned(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A page that lies on its side or its head, or askew."""
    page = paper(420, 160 + 130 * len(digits), rng)
    row(page, digits, 120, rng.uniform(6, 12), rng)
    angle = (90, 180, 270, 20, -20, 30, -30)[rng.integers(7)]
    fill = tuple(int(255 * value) for value in page[0, 0])
    return jpeg(noisy(page, rng).rotate(angle, Image.Resampling.BICUBIC, True, fillcolor=fill))


def coloured(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Pale ink on tinted paper that is about as bright."""
    page = paper(420, 200 + 140 * len(digits), rng, (0.72, 0.74, 0.68))
    row(page, digits, 140, rng.uniform(8, 16), rng, ink=INKS[rng.integers(len(INKS))])
    return jpeg(noisy(page, rng, 0.006))


def dithered(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """A grey page in one bit: what is grey is dots."""
    page = paper(500, 200 + 190 * len(digits), rng, (0.85, 0.85, 0.85))
    row(page, digits, 190, rng.uniform(12, 24), rng, ink=(0.15, 0.15, 0.15))
    return encoded(noisy(page, rng).convert("1"))


def deep(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Twelve bits in a PNG of sixteen."""
    page = paper(420, 200 + 140 * len(digits), rng)
    row(page, digits, 140, rng.uniform(6, 14), rng)
    return encoded(
        Image.fromarray(np.asarray(noisy(page, rng).convert("L")).astype(np.uint16) * 16)
    )


def thin(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Large digits in a thin pen: their straight strokes are as long and as thin as rules."""
    page = paper(500, 120 + 330 * len(digits), rng)
    row(page, digits, 400, rng.uniform(2, 5), rng, ink=(0.15, 0.2, 0.6))
    return jpeg(noisy(page, rng))


def reduced(digits: list[Strokes], rng: np.random.Generator) -> bytes:
    """Pencil on paper, reduced to 28 pixels: lines of a pixel, here and there paler."""
    page = paper(280, 280 * len(digits), rng)
    row(page, digits, 220, rng.uniform(6, 11), rng, ink=GREY)
    picture = noisy(page, rng)
    return encoded(picture.resize((28 * len(digits), 28), Image.Resampling.BOX))


KINDS: dict[str, Callable[[list[Strokes], np.random.Generator], bytes]] = {
    make.__name__: make
    for make in (
        half_dry, pencil, boxes, ruled, squared, interrupted, grid, tight, paint, specks, turned, coloured, dithered, deep, thin,
        reduced,
    )
}  # fmt: skip

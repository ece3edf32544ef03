"""Photographs of handwriting with known answers: read right, answered wrongly, or withheld?

    python tests/benchmarks/photos.py                    everything, from the test writers
    python tests/benchmarks/photos.py --split tra        the same from the training writers
    python tests/benchmarks/photos.py --photos 0 --kinds 39 --only boxes grid    a part of it
    python tests/benchmarks/photos.py --keep FOLDER      leaves previews of what was misread

Three sets: photographs of plain and ruled pages (papers, pens, light, camera and file formats are
drawn from seeds), the kinds of picture in ``tests/papers.py``, and a folder of pictures with
``labels.csv`` (file, expected). Needs the pen digits (see ``data.load_pen_digits``).
"""

import argparse
import csv
import io
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rows
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import papers
from digits.evaluation import proportion
from digits.recognizer import PhotoError, Recognizer

SIZES = ((480, 640), (900, 1200), (1200, 900), (1500, 2000), (2400, 3200))  # height, width
FORMATS = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ZOOM = 1.4  # so that a turned picture has no empty corners
PAPERS = (
    "white",
    "cream",
    "coarse",
    "ruled",
    "squared",
    "board",
    "white",
    "ruled",
    "whiteboard",
    "desk",
)


@dataclass(frozen=True)
class Picture:
    """A generated photo."""

    content: bytes
    text: str  # what is written on it
    kind: str  # of PAPERS, or how the file is broken
    traits: dict


def layer(shape: tuple[int, int], strokes: list[np.ndarray], width: float) -> np.ndarray:
    """Ink coverage (H, W) in [0, 1] of strokes drawn with a round pen, anti-aliased."""
    canvas = np.zeros(shape, np.uint8)
    for stroke in strokes:
        points = np.round(stroke * 16).astype(np.int32)
        cv2.polylines(canvas, [points[:, None]], False, 255, max(round(width), 1), cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def clouds(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> np.ndarray:
    """Smooth noise (H, W) of unit variance whose grain is about ``cell`` pixels."""
    small = rng.normal(size=(int(shape[0] / cell) + 3, int(shape[1] / cell) + 3)).astype(np.float32)
    large = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return (large - large.mean()) / max(large.std(), 1e-6)


def paper(kind: str, shape: tuple[int, int], line: float, rng: np.random.Generator) -> np.ndarray:
    """Bare paper or board, (H, W, 3) in [0, 1]; ``line`` is the distance of ruled lines in pixels."""
    colours = {
        "cream": (0.95, 0.9, 0.78),
        "coarse": (0.78, 0.7, 0.58),
        "board": (0.13, 0.2, 0.17),
        "desk": (0.93, 0.92, 0.9),
    }
    image = np.ones((*shape, 3), np.float32) * np.array(
        colours.get(kind, (0.94, 0.95, 0.95)), np.float32
    )
    grain = {"coarse": 0.05, "board": 0.03}.get(kind, 0.01)
    image += (clouds(shape, rng, 3) * grain + clouds(shape, rng, 60) * grain / 2)[..., None]
    if kind in ("ruled", "squared"):
        ink = np.array((0.55, 0.68, 0.85) if rng.random() < 0.6 else (0.6, 0.6, 0.62), np.float32)
        mask, thickness = np.zeros(shape, np.float32), max(int(line / 45), 1)
        for y in np.arange(rng.uniform(0, line), shape[0], line):
            cv2.line(mask, (0, int(y)), (shape[1], int(y)), 1, thickness)
        for x in np.arange(rng.uniform(0, line), shape[1], line) if kind == "squared" else []:
            cv2.line(mask, (int(x), 0), (int(x), shape[0]), 1, thickness)
        image += mask[..., None] * 0.8 * (ink - image)
    return image


def light(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """What uneven light and a shadow's soft edge multiply the paper by, (H, W, 1)."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    field = 1 - rng.uniform(0, 0.45) * np.clip(
        0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1
    )
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        side = (x - rng.uniform(0.2, 0.8)) * np.cos(angle) + (y - rng.uniform(0.2, 0.8)) * np.sin(
            angle
        )
        field *= 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-side / rng.uniform(0.01, 0.08)))
    return field[..., None]


def camera(image: np.ndarray, rng: np.random.Generator, rotation: float) -> np.ndarray:
    """Rotation, perspective, blur and noise; (H, W, 3) uint8 from floats in [0, 1]."""
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    moved = corners + rng.uniform(-0.05, 0.05, (4, 2)).astype(np.float32) * (width, height)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rotation, ZOOM)
    moved = cv2.transform(moved[None], turn)[0].astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    image = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.0016 * width + 0.4))
    noise = rng.normal(0, rng.uniform(0.004, 0.04), (*image.shape[:2], 1)) + rng.normal(
        0, 0.008, image.shape
    )
    return np.clip((image + noise) * 255, 0, 255).astype(np.uint8)


def encode(image: np.ndarray, format: str, orientation: int, quality: int) -> bytes:
    """A file of the picture, stored so that EXIF ``orientation`` turns it upright (JPEG, PNG, WebP and TIFF)."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = Image.fromarray(image)
    options: dict = {}
    if orientation in undo and format in ("JPEG", "PNG", "WEBP", "TIFF"):
        picture = picture.transpose(undo[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    if format in ("JPEG", "WEBP"):
        options["quality"] = quality
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def page_on_desk(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A brown desk visible along one or two edges of the page."""
    height, width = image.shape[:2]
    desk = (
        np.array((0.35, 0.24, 0.16), np.float32)
        + clouds((height, width), rng, 25)[..., None] * 0.03
    )
    page = np.zeros((height, width), np.float32)
    left, top = 0.14 + rng.uniform(0.02, 0.06, 2) * rng.integers(0, 2, 2)
    cv2.fillConvexPoly(
        page,
        np.array(
            [
                (left * width, top * height),
                (width, top * height),
                (width, 0.82 * height),
                (left * width, 0.82 * height),
            ],
            np.int32,
        ),
        1,
    )
    return image * page[..., None] + desk * (1 - page[..., None])


def make(digits: list, kind: str, rng: np.random.Generator) -> Picture:
    """One photo of ``digits`` on paper of ``kind``."""
    shape = SIZES[rng.choice(len(SIZES), p=(0.2, 0.3, 0.2, 0.2, 0.1))]
    row = rows.row_of(digits, rng.uniform(0.12, 0.5), rng)
    points = np.concatenate(row.strokes)
    low, extent = points.min(0), np.ptp(points, axis=0)
    tall = rng.uniform(0.08, 0.4) * shape[0]
    scale = min(tall / max(extent[1], 1), 0.58 * shape[1] / max(extent[0], 1))
    corner = (np.array(shape[::-1]) - extent * scale) * rng.uniform(0.4, 0.6, 2)
    strokes = [(stroke - low) * scale + corner for stroke in row.strokes]
    high = extent[1] * scale
    pen = rng.uniform(0.03, 0.15) * high
    image = paper(kind, shape, rng.uniform(0.5, 1.2) * high, rng)
    if kind == "desk":
        image = page_on_desk(image, rng)
    chalk, blue, pencil = (
        np.array([0.88, 0.9, 0.86]),
        np.array([0.12, 0.16, 0.5]),
        np.array([0.42, 0.42, 0.43]),
    )
    pens = (np.array([0.08, 0.08, 0.1]), blue, pencil, np.array([0.6, 0.1, 0.12]))
    colour = chalk if kind == "board" else pens[rng.integers(4)]
    coverage = (
        layer(shape, strokes, pen)[..., None]
        * (1 - 0.12 * np.abs(clouds(shape, rng, 2)))[..., None]
    )
    image = image * (1 - coverage) + colour.astype(np.float32) * coverage
    rotation = rng.uniform(-10, 10)
    image = camera(image * light(shape, rng), rng, rotation)
    format, orientation, quality = (
        FORMATS[rng.integers(len(FORMATS))],
        int(rng.integers(1, 9)),
        int(rng.integers(35, 95)),
    )
    if max(shape) > 1200 and format in ("BMP", "TIFF", "PNG"):
        format = "JPEG"  # as cameras do: the others would be too large to upload
    content = encode(image, format, orientation, quality)
    traits = {
        "size": shape,
        "format": format,
        "orientation": orientation,
        "rotation": rotation,
        "pen": float(pen / high),
    }
    return Picture(content, row.text, kind, traits)


def photos(split: str, n: int, seed: int) -> Iterator[Picture]:
    """``n`` photos with one to five digits of one writer each, kinds of paper in turn."""
    writers = rows.pen_digits_by_writer(split)
    names = sorted(writers)
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        own = writers[names[rng.integers(len(names))]]
        row = rng.integers(len(own), size=1 + (k + k // len(PAPERS)) % 5)
        yield make([own[i] for i in row], PAPERS[k % len(PAPERS)], rng)


def kinds(split: str, n: int, seed: int, only: list[str]) -> Iterator[Picture]:
    """``n`` pictures of the kinds in ``papers``, in turn; every second one is a single digit."""
    writers = rows.pen_digits_by_writer(split)
    names, chosen = sorted(writers), only or sorted(papers.KINDS)
    for k in range(n):
        rng, kind = np.random.default_rng([seed, k, 7]), chosen[k % len(chosen)]
        own = writers[names[rng.integers(len(names))]]
        length = 1 if k // len(chosen) % 2 else int(rng.integers(2, 7))
        digits = [own[i] for i in rng.integers(len(own), size=length)]
        if kind == "turned":  # two thirds of the digits look like digits on their heads
            digits += [digit for digit in own if digit.label in (3, 4, 7)][:3]
        text = "".join(str(digit.label) for digit in digits)
        content = papers.KINDS[kind]([digit.strokes for digit in digits], rng)
        yield Picture(content, text, kind, {})


def stored(folder: Path) -> Iterator[Picture]:
    """The pictures of a folder with ``labels.csv``."""
    with (folder / "labels.csv").open(encoding="utf-8") as labels:
        for one in csv.DictReader(labels):
            yield Picture((folder / one["file"]).read_bytes(), one["expected"], one["file"], {})


def large() -> Picture:
    """One photograph of twelve megapixels."""
    rng, own = np.random.default_rng(5), rows.pen_digits_by_writer("tra")[1]
    page = papers.paper(750, 1000, rng)  # enlarged, so that the memory for drawing does not count
    papers.row(page, [digit.strokes for digit in own[:6]], 125, 10, rng)
    picture = papers.noisy(page, rng).resize((4000, 3000), Image.Resampling.BICUBIC)
    text = "".join(str(digit.label) for digit in own[:6])
    return Picture(papers.jpeg(picture), text, "12 megapixels", {})


def measure(
    name: str, pictures: Iterator[Picture], recognizer: Recognizer, keep: Path | None
) -> dict:
    """Read, print and count pictures: per kind and together."""
    counts: dict[str, list[int]] = {}  # right, answered wrongly, withheld
    single, seconds, failures = [0, 0], [], []
    for number, picture in enumerate(pictures):
        start = time.perf_counter()
        text, words, preview = _read(picture, recognizer)
        seconds.append(time.perf_counter() - start)
        outcome = 0 if text == picture.text else 1 if not words else 2
        for key in ("all", picture.kind):
            counts.setdefault(key, [0, 0, 0])[outcome] += 1
        if len(picture.text) == 1:
            single = [single[0] + (outcome == 0), single[1] + 1]
        if outcome:
            failures.append((number, picture.kind, picture.text, text, words, picture.traits))
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                label = f"{name}-{number:03d}-{picture.kind}-{picture.text}-{text}.png"
                (keep / label).write_bytes(preview or picture.content)
    if not counts:
        return {}
    total, median, slow = sum(counts["all"]), np.median(seconds), np.quantile(seconds, 0.95)
    print(f"{name}: {total} pictures, {median:.2f} s each (95% within {slow:.2f} s)")
    for key, (right, wrong, withheld) in counts.items() if len(counts) < 20 else ():
        print(f"  {key:11} right {right:3}  wrong {wrong:3}  withheld {withheld:3}")
    right, wrong, withheld = counts["all"]
    print(
        f"  right {right}/{total} = {right / total:.1%}, answered wrongly {wrong}, withheld {withheld}"
    )
    if single[1]:
        print(f"  single digits {single[0]}/{single[1]} = {single[0] / single[1]:.1%}")
    for failure in failures:
        print("   ", *failure)
    share = {"right": proportion(right, total), "wrong": proportion(wrong, total)}
    return {"counts": counts, "single": single, "seconds": seconds, "failures": failures, **share}


def _read(picture: Picture, recognizer: Recognizer) -> tuple[str, str, bytes]:
    """What was read, why it is withheld, and the preview."""
    try:
        answer = recognizer.read_photo(picture.content)
    except PhotoError as error:
        return "", str(error), b""
    return answer.text, answer.reason, answer.preview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["tra", "tes"], default="tes")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--kinds", type=int, default=416)
    parser.add_argument("--only", nargs="*", choices=sorted(papers.KINDS), default=[])
    parser.add_argument(
        "--folder", type=Path, default=Path(os.environ.get("DIGITS_DATA", ".")) / "photos"
    )
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--run", default="reference")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recognizer, keep, seed = Recognizer.load(run=options.run), options.keep, options.seed
    result = {"split": options.split, "seed": seed, "model_sha256": recognizer.sha256}
    sets = {
        "large": iter([large()]),
        "folder": stored(options.folder) if options.folder.is_dir() else iter(()),
        "kinds": kinds(options.split, options.kinds, seed, options.only),
        "photos": photos(options.split, options.photos, seed),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, pictures in sets.items():
        result[name] = measure(name, pictures, recognizer, keep)
        if name == "large":
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"  {(now - before) / 1000:.0f} MB more memory")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Hostile input, thousands of pieces of it: files, messages and widget traffic as no page would send them.

``DIGITS_FUZZ`` says how many files are tried (300 unless told; 10,000 before a release),
``DIGITS_FUZZ_SEED`` which ones.
"""

import ast
import asyncio
import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from jupyter_client import KernelManager
from PIL import Image

from digits.app import pad
from digits.app.app import App
from digits.app.server import QUICK_KERNEL
from digits.recognizer import ink, photo
from digits.recognizer.model import Recognizer, available

COUNT, SEED = int(os.environ.get("DIGITS_FUZZ", 300)), int(os.environ.get("DIGITS_FUZZ_SEED", 1))
SLOWEST = 5.0  # seconds of CPU for one file
MOST_MEMORY = 300e6  # bytes beyond what the program has before
DRAWN = {example.name: example.strokes for example in ink.examples()}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SCRIPT = b"/*<script>alert(1)</script>*/=1;"


# --- Seeds: every format in every dress ------------------------------------------------------------------------------


def page(name: str, side: int = 64) -> Image.Image:
    """A drawn example on paper, small, so that ten thousand take a minute."""
    coverage = ink.rasterize(DRAWN[name], brush=16)
    return Image.fromarray(255 - coverage).resize((side, side), Image.Resampling.BILINEAR)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    """Valid files by name."""
    grey, number = page("5"), page("2026", 90)
    deep = np.asarray(grey).astype(np.uint16) * 257
    alpha = Image.merge(
        "LA", (Image.new("L", grey.size), Image.eval(grey, lambda value: 255 - value))
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker" * 20
    found = {
        f"{kind} {mode}": encoded(grey.convert(mode), kind)
        for kind in FORMATS
        for mode in ("L", "RGB")
    }
    found |= {
        f"{kind} exif": encoded(grey, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")
    }
    found |= {
        f"{kind} frames": encoded(
            grey, kind, save_all=True, append_images=[number.resize(grey.size)] * 3
        )
        for kind in ("GIF", "WEBP", "PNG", "TIFF")
    }
    found |= {
        f"TIFF {packing}": encoded(number, "TIFF", compression=packing)
        for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    }
    return found | {
        "PNG 16": encoded(Image.fromarray(deep), "PNG"), "TIFF 32": encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"),
        "TIFF float": encoded(Image.fromarray(deep.astype(np.float32)), "TIFF"), "PNG alpha": encoded(alpha, "PNG"),
        "PNG palette": encoded(grey.convert("RGBA").quantize(), "PNG"), "PNG bits": encoded(grey.convert("1"), "PNG"),
        "PNG transparent": encoded(grey.convert("P"), "PNG", transparency=0), "BMP bits": encoded(grey.convert("1"), "BMP"),
        "JPEG CMYK": encoded(grey.convert("CMYK"), "JPEG"), "JPEG progressive": encoded(number, "JPEG", progressive=True),
        "TIFF CMYK": encoded(grey.convert("CMYK"), "TIFF"), "WEBP lossless": encoded(number, "WEBP", lossless=True),
        "GIF interlaced": encoded(number, "GIF", interlace=1), "PNG number": encoded(number, "PNG"),
    }  # fmt: skip


# --- Mutations -------------------------------------------------------------------------------------------------------


def flip_bits(rng, content: bytes, _other: bytes) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), rng.integers(1, 20)):
        data[place] ^= 1 << rng.integers(0, 8)
    return bytes(data)


def flip_header(rng, content: bytes, _other: bytes) -> bytes:
    """Most of what decoders decide on stands in the first bytes."""
    data = bytearray(content)
    for place in rng.integers(0, min(len(data), 64), rng.integers(1, 5)):
        data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(0, 256)])
    return bytes(data)


def numbers(rng, content: bytes, _other: bytes) -> bytes:
    """Sizes, counts and offsets as they must not be."""
    data = bytearray(content)
    for place in rng.integers(0, max(len(data) - 4, 1), rng.integers(1, 4)):
        value = int(rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
        data[place : place + 4] = struct.pack(rng.choice(["<I", ">I"]), value)
    return bytes(data)


def truncate(rng, content: bytes, _other: bytes) -> bytes:
    return content[: rng.integers(0, len(content))]


def splice(rng, content: bytes, other: bytes) -> bytes:
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def repeat(rng, content: bytes, _other: bytes) -> bytes:
    begin, end = sorted(rng.integers(0, len(content), 2))
    return content[:end] + content[begin:end] * int(rng.integers(1, 50)) + content[end:]


def insert(rng, content: bytes, _other: bytes) -> bytes:
    place = rng.integers(0, len(content))
    return content[:place] + rng.bytes(rng.integers(1, 200)) + content[place:]


def mended_png(rng, content: bytes, _other: bytes) -> bytes:
    """A PNG with a damaged chunk whose checksum is right again, so that the damage gets past it."""
    chunks = list(png_chunks(content)) if content.startswith(b"\x89PNG") else []
    if not chunks:
        return flip_bits(rng, content, b"")
    index = rng.integers(0, len(chunks))
    kind, body = chunks[index]
    chunks[index] = kind, numbers(rng, body, b"") if len(body) > 4 else rng.bytes(8)
    return content[:8] + b"".join(map(png_chunk, *zip(*chunks, strict=True)))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@cache
def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def png_claiming(rng, _content: bytes, _other: bytes) -> bytes:
    """Any size, depth and colour type, with a little data."""
    sides = [int(side) for side in rng.choice([1, 4, 90, 1600, 4999, 25_000, 65_535, 2**31 - 1], 2)]
    header = struct.pack(
        ">IIBBBBB",
        *sides,
        *(int(rng.choice(n)) for n in ([1, 2, 4, 8, 16], [0, 2, 3, 4, 6])),
        0,
        0,
        int(rng.integers(0, 2)),
    )
    extra = [
        (b"PLTE", rng.bytes(3 * rng.integers(0, 300))),
        (b"tRNS", rng.bytes(rng.integers(0, 300))),
        (b"zTXt", b"k\0\0" + zeros(3_000_000)),
        (b"eXIf", rng.bytes(90)),
        (b"acTL", rng.bytes(8)),
    ]
    chosen = [extra[k] for k in rng.permutation(len(extra))[: rng.integers(0, 3)]]
    chunks = [
        (b"IHDR", header),
        *chosen,
        (b"IDAT", zeros(int(rng.choice([0, 90, 9000, 300_000])))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def polyglot(rng, content: bytes, other: bytes) -> bytes:
    """A picture that is a script, an archive or a page as well."""
    tails = (
        SCRIPT,
        b"PK\3\4" + other,
        b"%PDF-1.7" + SCRIPT,
        b"<html>" + SCRIPT,
        b"\x7fELF" + other,
    )
    tail = tails[rng.integers(0, len(tails))]
    return [content + tail, tail + content, content[:6] + SCRIPT + content[6:]][rng.integers(0, 3)]


def exif_garbage(rng, content: bytes, _other: bytes) -> bytes:
    """A JPEG whose EXIF block is anything."""
    if not content.startswith(b"\xff\xd8"):
        return insert(rng, content, b"")
    block = (
        b"Exif\0\0"
        + [b"II*\0", b"MM\0*", b""][rng.integers(0, 3)]
        + rng.bytes(rng.integers(0, 300))
    )
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


MUTATIONS: tuple[Callable, ...] = (
    flip_bits,
    flip_header,
    numbers,
    truncate,
    splice,
    repeat,
    insert,
    mended_png,
    png_claiming,
    polyglot,
    exif_garbage,
)


# --- Files that took thought ----------------------------------------------------------------------------------------


def crafted() -> Iterator[tuple[str, bytes]]:
    """Bombs, animations and pictures that give the search for digits as much to do as can be."""
    for size in ((25_000, 4), (4, 25_000), (1000, 12), (600, 10)):
        yield f"{size}", encoded(Image.new("L", size, 255), "PNG")
    for kind, mode, side in (
        ("PNG", "RGBA", 5000),
        ("PNG", "P", 5000),
        ("TIFF", "F", 5000),
        ("WEBP", "RGB", 5000),
        ("GIF", "L", 5000),
        ("JPEG", "L", 7000),
    ):
        options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
        yield f"{side}² {kind} {mode}", encoded(Image.new(mode, (side, side)), kind, **options)
    first, *rest = [page(name).convert("P") for name in ("5", *["7", "2"] * 2000)]
    yield "4,001 frames", encoded(first, "GIF", save_all=True, append_images=rest, duration=20)
    for kind, place in (("GIF", 6), ("BMP", 18)):  # where the size stands
        content = bytearray(encoded(page("5"), kind))
        content[place : place + 2] = content[place + 2 : place + 4] = b"\xff\xff"
        yield f"{kind} that claims 65,535 pixels", bytes(content)
    webp = bytearray(encoded(page("5"), "WEBP", lossless=True))
    webp[21:25] = b"\xff\xff\xff\x0f"  # 14 bits of width, 14 of height
    yield "WebP that claims 16,384²", bytes(webp)
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(200_000_000), 9))
    whole = encoded(page("5"), "PNG")
    yield "200 MB of text in 200 kB", whole[:33] + text + whole[33:]
    yield "a million chunks", whole[:33] + png_chunk(b"tEXt", b"a\0b") * 700_000 + whole[33:]
    y, x = np.indices((1600, 1600))
    patterns = {
        "stripes": y % 6 < 2, "dots": (y % 8 < 3) & (x % 8 < 3), "grid": (y % 50 < 3) | (x % 50 < 3),
        "slope": (x + 9 * y) % 80 < 4,
        "noise": np.random.default_rng(1).random((1600, 1600)) < 0.5, "waves": waves(20, 9), "long waves": waves(20, 1),
    }  # fmt: skip
    for name, inked in patterns.items():
        yield name, encoded(Image.fromarray(np.where(inked, 30, 235).astype(np.uint8)), "PNG")


def waves(rows: int, columns: int) -> np.ndarray:
    """Curves that may each be several digits that touch."""
    inked = np.zeros((1600, 1600), bool)
    width = 1600 // columns - 15
    for row in range(rows):
        for column in range(columns):
            for k in range(width):
                y = 1600 // rows * row + 20 + int(25 + 22 * np.sin(k / 6))
                inked[min(y - 3, 1596) : y + 3, (width + 15) * column + 5 + k] = True
    return inked


# --- What is held against each file -----------------------------------------------------------------------------------

written: list[str] = []  # what the program under test opened for writing, or ran


def watch(event: str, arguments: tuple) -> None:
    """An audit hook: Python tells of every file that is opened and of every program that is started."""
    if event == "open":
        path, mode, flags = arguments
        if path != os.devnull and (
            (isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR)
        ):
            written.append(f"{event} {path}")
    elif event in (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "socket.connect",
        "tempfile.mkstemp",
        "exec",
        "compile",
    ):
        written.append(f"{event} {arguments[:1]}")


def read(content: bytes, recognizer: Recognizer) -> str:
    """ "read", or the words that the file is refused with; any other exception is a defect."""
    try:
        found = photo.read_photo(content, recognizer)
    except photo.PhotoError as error:
        words = str(error)
        assert (
            20 < len(words) < 300
            and words.isprintable()
            and "/" not in words
            and "Error" not in words
        ), words
        return words
    assert 1 <= len(found.parts) <= photo.MOST_DIGITS
    for image in (part.prediction.image for part in found.parts):
        assert (
            image.shape == (28, 28)
            and image.dtype == np.float32
            and 0 <= image.min() <= image.max() <= 1
        )
    assert found.preview.startswith(b"\x89PNG") and b"script" not in found.preview
    return "read"


def try_all(files: Iterator[tuple[str, bytes]]) -> Counter:
    """Read every file (label, content) and return what was said of how many."""
    recognizer = Recognizer.load(run="reference")
    read(encoded(page("5"), "PNG"), recognizer)  # what is imported at the first is no file's fault
    Image.init()
    sys.addaudithook(watch)
    said, memory, slowest = Counter(), peak(), (0.0, "")
    for label, content in files:
        written.clear()
        started = time.process_time()
        try:
            said[read(content, recognizer)] += 1
        except Exception as error:
            raise AssertionError(f"{label} ({len(content)} bytes) ended with {error!r}") from error
        slowest = max(slowest, (time.process_time() - started, label))
        assert not written, (label, written)
    print(
        json.dumps(
            {"said": said, "slowest": slowest, "memory": peak() - memory, "files": said.total()}
        )
    )
    return said


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """``count`` files; the same for the same seed."""
    rng, known = np.random.default_rng(seed), seeds()
    names, contents = list(known), list(known.values())
    for number in range(count):
        index, other = rng.integers(0, len(contents), 2)
        content = contents[index]
        chosen = rng.choice(len(MUTATIONS), rng.integers(1, 3))
        for mutation in chosen:
            content = MUTATIONS[mutation](rng, content or b"\0", contents[other])
        label = f"file {number} of seed {seed}: {names[index]}, {[MUTATIONS[k].__name__ for k in chosen]}"
        yield label, content


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def in_a_process_of_its_own(*arguments: str) -> dict:
    """This module as a program, so that its memory is its own and a crash of a decoder is seen; what it reports."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return json.loads(done.stdout)


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_in_words():
    """No other exception, no crash, no file written, nothing started, little memory, no file slow."""
    found = in_a_process_of_its_own("mutated", str(COUNT), str(SEED))
    assert (
        found["files"] == COUNT and found["slowest"][0] < SLOWEST and found["memory"] < MOST_MEMORY
    ), found
    assert (
        len(found["said"]) >= min(COUNT / 100, 6) and COUNT / 50 < found["said"]["read"] < COUNT
    ), found["said"]


@pytest.mark.slow
def test_files_made_to_be_slow_or_large_are_neither(tmp_path):
    for name, content in crafted():
        (tmp_path / name).write_bytes(content)
    found = in_a_process_of_its_own("folder", str(tmp_path))
    assert (
        found["slowest"][0] < SLOWEST and found["memory"] < MOST_MEMORY and found["files"] > 20
    ), found


@pytest.mark.slow
def test_the_watch_sees_what_is_written(tmp_path):
    """Without this, the two tests above could not fail for what is written."""
    code = (
        "import sys, pathlib, test_fuzz\nsys.addaudithook(test_fuzz.watch)\n"
        "pathlib.Path(sys.argv[1]).write_text('x')\nprint(len(test_fuzz.written))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(__file__),
    )
    assert int(done.stdout) >= 1


# --- Messages --------------------------------------------------------------------------------------------------------

HOSTILE = [None, True, -1, 0, 1, 3.5, 10**400, -10**400, 1e308, "", "pen", "\ud800", "\u202egnp.exe", "a\nb",
           "../../etc/passwd", "<script>alert(1)</script>", "'; DROP TABLE feedback_1; --", "{0.__class__}", "A" * 5000, [],
           [1, 2], {}, {"x": 1}, "float32", "int8", "5", "right", "AAAA", 2**53, 2**63]  # fmt: skip
RAW = [
    '{"seq": 1, "ops": [["brush", NaN]]}',
    '{"seq": 1, "ops": [["down", Infinity, 1, null]]}',
    '{"seq": NaN, "ops": []}',
    '{"seq": 1, "ops": ' + "[" * 50_000,
    '{"seq": 1, "ops": [["move", ' + "9" * 5000 + ", 1]]}",
    "\0",
    "\ud800",
    "null",
]


def hostile_messages(rng, count: int) -> Iterator[str]:
    """Messages in the page's form with values that the page never sends, some of them among honest ones."""
    names = [*pad.OPERATIONS, "move", "put", "_tick", "__init__", "", 5]
    for number in range(count):
        operations = []
        for _ in range(rng.integers(1, 6)):
            name = names[rng.integers(0, len(names))]
            length = (
                rng.integers(0, 6)
                if name == "move" or rng.random() < 0.1
                else len(pad.OPERATIONS.get(name, ()))
            )
            values = [HOSTILE[k] for k in rng.integers(0, len(HOSTILE), length)]
            if name == "move" and rng.random() < 0.7:
                values = rng.normal(140, 300, 2 * rng.integers(1, 60)).tolist()
            if name == "put" and rng.random() < 0.7:
                strokes = rng.normal(140, 300, (rng.integers(0, 5), 2 * rng.integers(1, 60)))
                values = [bool(rng.random() < 0.5), *strokes.tolist()]
            operations.append([name, *values])
        yield json.dumps(
            {
                "seq": number,
                "ops": operations if rng.random() < 0.9 else HOSTILE[rng.integers(0, len(HOSTILE))],
            }
        )
        yield json.dumps({"seq": number, "ops": [operations[0]]})
        if rng.random() < 0.05:
            yield RAW[rng.integers(0, len(RAW))]


def assert_sound(app: App) -> None:
    """What holds of an app whatever was said to it."""
    drawing = app.pad.drawing
    assert (
        sum(map(len, drawing.strokes)) <= pad.MAX_POINTS
        and len(drawing.strokes) <= 2 * pad.MAX_STROKES
    )
    for stroke in drawing.strokes:
        assert (
            stroke.shape == (len(stroke), 2)
            and np.isfinite(stroke).all()
            and stroke.min() >= 0
            and np.all(stroke.max(0) <= (pad.WIDTH, pad.SIZE))
        )
    assert type(drawing.brush) is float or drawing.brush == ink.BRUSH
    assert pad.BRUSHES[0] <= drawing.brush <= pad.BRUSHES[1] and drawing.tool in pad.TOOLS
    assert 0 <= app.limit <= 1 and app.recognizer.name in available("reference")
    assert app._wants_why in (True, False) and app.shown.chosen <= max(len(app.shown.parts) - 1, 0)
    assert (
        len(drawing.past) + len(drawing.future) <= pad.MAX_HISTORY + 1
        and len(app._upload._content) <= photo.LARGEST_FILE
    )
    for widget in app._data:
        widget.value.encode()  # half a character would keep the widget from being sent
        assert "<script>" not in widget.value and len(widget.value) < 2_000_000


@pytest.mark.slow
def test_no_message_makes_an_app_unsound(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("DIGITS_FEEDBACK_URL", f"sqlite:///{tmp_path / 'feedback.sqlite3'}")
    rng = np.random.default_rng(SEED)

    async def play():
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: escaped.append(context)
        )
        app = App(Recognizer.load(run="reference"))
        for number, text in enumerate([*RAW, *hostile_messages(rng, 1500)]):
            app.pad.canvas._handle_frontend_event(None, {"event": "key_down", "key": text}, [])
            if number % 10 == 0:
                await asyncio.sleep(0)
                app._tick()
                assert_sound(app)
        app._receive(
            json.dumps(
                {
                    "seq": 1,
                    "ops": [
                        ["clear"],
                        ["tool", "pen"],
                        ["down", 140, 40, None],
                        ["move", *[v for y in range(45, 240, 5) for v in (140, y)]],
                        ["up"],
                    ],
                }
            )
        )
        await asyncio.sleep(0.3)
        return app

    escaped = []
    app = asyncio.run(play())
    assert not escaped and app.shown.text == "1" and app._refused
    assert len(caplog.records) == 1, (
        caplog.records
    )  # the first refusal, and no word of what was refused
    assert not [path for path in tmp_path.rglob("*") if "feedback" not in path.name]


def test_ten_million_points_are_refused_at_once():
    text = '{"seq": 1, "ops": [["move"' + ", 1.5" * 20_000_000 + "]]}"
    within = '{"seq": 1, "ops": [["move"' + ",1" * 190_000 + "]]}"
    for message in (text, within):
        started = time.process_time()
        with pytest.raises(pad.MessageError):
            pad.parse(message)
        assert time.process_time() - started < 0.5


@pytest.mark.parametrize("operations", [
    [["down", 1, 1, None], ["move", *[v for k in range(4900) for v in (280 * (k % 2), k / 18)]],
     *[["down", 1, 1, "eraser"], ["move", 280, 280]] * 9],
    [["down", 1, 1, None], ["move", *[v for k in range(4900) for v in (280 * (k % 2), k / 18)]], *[["why", True]] * 18],
    [["model", name] for name in ("int8", "float16") * 10], [["put", True, *[[140, 40, 140, 240]] * 200], ["undo"]] * 10,
    [["file", "a.png", 3, 0, "AAAA", False]] * 20, [["verdict", "right", None], ["consent", True]] * 10,
], ids=["eraser", "why", "model", "put", "file", "verdict"])  # fmt: skip
def test_the_longest_messages_take_a_moment(operations):
    async def play():
        app = App(Recognizer.load(run="reference"))
        started = time.process_time()
        app._receive(json.dumps({"seq": 1, "ops": operations}))
        app._tick()
        return time.process_time() - started

    assert asyncio.run(play()) < 3


def test_a_flood_of_verdicts_and_files_is_bounded(monkeypatch):
    kept, read_names = [], []
    monkeypatch.setattr("digits.app.app.MOST_VERDICTS", 5)
    monkeypatch.setattr("digits.app.app.Feedback._store_all", lambda self, rows: kept.extend(rows))
    monkeypatch.setattr(
        App, "_read_photo", lambda self, content, name, upright: read_names.append(name) or 1 / 0
    )

    async def play():
        app = App(Recognizer.load(run="reference"))
        app._receive(
            json.dumps(
                {
                    "seq": 1,
                    "ops": [["down", 140, 40, None], ["move", 140, 240], ["up"], ["consent", True]],
                }
            )
        )
        app._tick()
        for seq in range(20):
            app._receive(
                json.dumps(
                    {
                        "seq": seq,
                        "ops": [
                            ["verdict", "right", None],
                            ["file", f"{seq}.png", 3, 0, "AAAA", False],
                        ],
                    }
                )
            )
        await asyncio.sleep(0.3)
        app._receive(json.dumps({"seq": 21, "ops": [["verdict", "right", None]]}))
        return app

    app = asyncio.run(play())
    assert "all that can be kept" in app._feedback.told["text"] and not app._upload._content
    assert len(kept) == 5 and read_names == ["19.png"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        "x",
        [],
        {},
        {"event": None},
        {"event": []},
        {"event": "key_down"},
        {"event": "key_down", "key": 5},
        {"event": "key_down", "key": []},
        {"event": "mouse_down"},
        {"event": "touch_move", "touches": 5},
        {"event": "mouse_wheel", "x": "1"},
    ],
)
def test_events_that_ipycanvas_would_choke_on_do_nothing(content):
    heard = []
    surface = pad.Pad(lambda *told: heard.append(told), lambda: heard.append("ready"))
    surface.canvas._handle_frontend_event(surface.canvas, content, [])
    assert not heard


# --- Widget traffic --------------------------------------------------------------------------------------------------

START = """
import ipywidgets
from digits.app.app import App
app = App.open("reference")
numbers = [app.pad.canvas.model_id, app._picture.model_id, app.pad.canvas.layout.model_id]
before = len(ipywidgets.widgets.widget._instances), app.pad.canvas.width
"""
AFTER = """
assert (len(ipywidgets.widgets.widget._instances), app.pad.canvas.width) == before
assert app.pad.drawing.strokes[0].shape == (2, 2) and app._picture.value == "" and not app.pad.canvas.sync_image_data
"""


def forged(canvas: str, html: str, layout: str) -> Iterator[tuple[str, object]]:
    """Kind and content of what a stranger with a socket would say."""

    def update(to: str, **state: object) -> tuple[str, dict]:
        return "comm_msg", {
            "comm_id": to,
            "data": {"method": "update", "state": state, "buffer_paths": []},
        }

    yield update(canvas, width=10**9)
    yield update(
        canvas, width="wide", height=None, sync_image_data=True, _dom_classes=[float("1e300")]
    )
    yield update(html, value="<script>alert(1)</script>")
    yield update(html, value=5)
    yield update(layout, display="none", width={"a": []})
    for data in (
        {},
        None,
        [],
        5,
        {"method": "update"},
        {"method": 5},
        {"method": "custom"},
        {"method": "none"},
        {"method": "custom", "content": None},
        {"method": "custom", "content": {"event": "touch_start"}},
    ):
        yield "comm_msg", {"comm_id": canvas, "data": data}
    for number in ("nobody", "a\nb", "", None, [], {}, 5):
        for kind in ("comm_msg", "comm_close", "comm_open"):
            yield (
                kind,
                {
                    "comm_id": number,
                    "target_name": "jupyter.widget",
                    "data": {"method": "request_states"},
                },
            )
    state = {
        "_model_module": "@jupyter-widgets/controls",
        "_model_module_version": "2.0.0",
        "_model_name": "FileUploadModel",
        "_view_module": "@jupyter-widgets/controls",
        "_view_module_version": "2.0.0",
        "_view_name": "FileUploadView",
    }
    for k in range(50):
        yield (
            "comm_open",
            {"comm_id": f"new{k}", "target_name": "jupyter.widget", "data": {"state": state}},
        )
        yield (
            "comm_open",
            {"comm_id": f"control{k}", "target_name": "jupyter.widget.control", "data": {}},
        )
    yield "comm_open", {"comm_id": canvas, "target_name": "jupyter.widget.control", "data": {}}
    for number in (canvas, html, layout):
        yield "comm_close", {"comm_id": number, "data": {}}
    yield "comm_msg", 5
    yield "comm_open", []


@pytest.mark.slow
@pytest.mark.service
def test_a_kernel_hears_only_what_the_page_says():
    """No widget changes, none is made, none is closed, nothing is said back of where the program lies, and the pad works."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(extra_arguments=QUICK_KERNEL, stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(60)
        reply = client.execute_interactive(
            START, user_expressions={"numbers": "numbers"}, timeout=60, output_hook=lambda _: None
        )
        numbers = ast.literal_eval(
            reply["content"]["user_expressions"]["numbers"]["data"]["text/plain"]
        )

        def say(kind: str, content: object) -> str:
            message = client.session.msg(
                kind, json.dumps(content).encode(), metadata={"version": "2.1.0"}
            )
            client.shell_channel.send(message)
            return message["msg_id"]

        for kind, content in forged(*numbers):
            say(kind, content)
        message = json.dumps(
            {"seq": 1, "ops": [["down", 140, 40, None], ["move", 140, 240], ["up"]]}
        )
        event = {"event": "key_down", "key": message}
        last = say(
            "comm_msg", {"comm_id": numbers[0], "data": {"method": "custom", "content": event}}
        )
        heard = [client.get_iopub_msg(timeout=60)]
        while not (
            heard[-1]["parent_header"].get("msg_id") == last
            and heard[-1]["content"].get("execution_state") == "idle"
        ):
            heard.append(client.get_iopub_msg(timeout=60))
        reply = client.execute_interactive(AFTER, timeout=60, output_hook=heard.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert not [one["content"] for one in heard if one["header"]["msg_type"] in ("error", "stream")]


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "mutated":
        try_all(mutated(*map(int, given)))
    else:
        try_all((file.name, file.read_bytes()) for file in sorted(Path(given[0]).iterdir()))

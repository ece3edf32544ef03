"""Hostile input, thousands of pieces of it: files, messages and widget traffic as no page would send them.

``DIGITS_FUZZ`` says how many files are tried (10,000 unless told), ``DIGITS_FUZZ_SEED`` which ones.
"""

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
from PIL import Image

from digits import ink, photo
from digits.examples import EXAMPLES
from digits.recognizer import Recognizer

COUNT, SEED = int(os.environ.get("DIGITS_FUZZ", 10_000)), int(os.environ.get("DIGITS_FUZZ_SEED", 1))
SLOWEST = 5.0  # seconds of CPU for one file
MOST_MEMORY = 300e6  # bytes beyond what the program has before
DRAWN = {example.name: example.strokes for example in EXAMPLES}
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
    alpha = Image.merge("LA", (Image.new("L", grey.size), Image.eval(grey, lambda value: 255 - value)))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker" * 20
    found = {f"{kind} {mode}": encoded(grey.convert(mode), kind) for kind in FORMATS for mode in ("L", "RGB")}
    found |= {f"{kind} exif": encoded(grey, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")}
    found |= {f"{kind} frames": encoded(grey, kind, save_all=True, append_images=[number.resize(grey.size)] * 3)
              for kind in ("GIF", "WEBP", "PNG", "TIFF")}
    found |= {f"TIFF {packing}": encoded(number, "TIFF", compression=packing)
              for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")}
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
        data[place:place + 4] = struct.pack(rng.choice(["<I", ">I"]), value)
    return bytes(data)


def truncate(rng, content: bytes, _other: bytes) -> bytes:
    return content[:rng.integers(0, len(content))]


def splice(rng, content: bytes, other: bytes) -> bytes:
    return content[:rng.integers(1, len(content))] + other[rng.integers(0, len(other)):]


def repeat(rng, content: bytes, _other: bytes) -> bytes:
    begin, end = sorted(rng.integers(0, len(content), 2))
    return content[:end] + content[begin:end] * int(rng.integers(1, 50)) + content[end:]


def insert(rng, content: bytes, _other: bytes) -> bytes:
    place = rng.integers(0, len(content))
    return content[:place] + rng.bytes(rng.integers(1, 200)) + content[place:]


def mended_png(rng, content: bytes, _other: bytes) -> bytes:
    """A PNG with a damaged chunk whose checksum is right again, so that the damage gets past it."""
    if not content.startswith(b"\x89PNG"):
        return flip_bits(rng, content, b"")
    chunks = list(png_chunks(content))
    index = rng.integers(0, len(chunks))
    kind, body = chunks[index]
    chunks[index] = kind, numbers(rng, body, b"") if len(body) > 4 else rng.bytes(8)
    return content[:8] + b"".join(map(png_chunk, *zip(*chunks, strict=True)))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place:place + 4], "big")
        yield content[place + 4:place + 8], content[place + 8:place + 8 + length]
        place += 12 + length


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@cache
def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def png_claiming(rng, _content: bytes, _other: bytes) -> bytes:
    """Any size, depth and colour type, with a little data."""
    sides = [int(side) for side in rng.choice([1, 4, 90, 1600, 4999, 25_000, 65_535, 2**31 - 1], 2)]
    header = struct.pack(">IIBBBBB", *sides, *(int(rng.choice(n)) for n in ([1, 2, 4, 8, 16], [0, 2, 3, 4, 6])), 0, 0,
                         int(rng.integers(0, 2)))
    extra = [(b"PLTE", rng.bytes(3 * rng.integers(0, 300))), (b"tRNS", rng.bytes(rng.integers(0, 300))),
             (b"zTXt", b"k\0\0" + zeros(3_000_000)), (b"eXIf", rng.bytes(90)), (b"acTL", rng.bytes(8))]
    chosen = [extra[k] for k in rng.permutation(len(extra))[:rng.integers(0, 3)]]
    chunks = [(b"IHDR", header), *chosen, (b"IDAT", zeros(int(rng.choice([0, 90, 9000, 300_000])))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def polyglot(rng, content: bytes, other: bytes) -> bytes:
    """A picture that is a script, an archive or a page as well."""
    tails = (SCRIPT, b"PK\3\4" + other, b"%PDF-1.7" + SCRIPT, b"<html>" + SCRIPT, b"\x7fELF" + other)
    tail = tails[rng.integers(0, len(tails))]
    return [content + tail, tail + content, content[:6] + SCRIPT + content[6:]][rng.integers(0, 3)]


def exif_garbage(rng, content: bytes, _other: bytes) -> bytes:
    """A JPEG whose EXIF block is anything."""
    if not content.startswith(b"\xff\xd8"):
        return insert(rng, content, b"")
    block = b"Exif\0\0" + [b"II*\0", b"MM\0*", b""][rng.integers(0, 3)] + rng.bytes(rng.integers(0, 300))
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


MUTATIONS: tuple[Callable, ...] = (flip_bits, flip_header, numbers, truncate, splice, repeat, insert, mended_png, png_claiming,
                                   polyglot, exif_garbage)


# --- Files that took thought ----------------------------------------------------------------------------------------

def crafted() -> Iterator[tuple[str, bytes]]:
    """Bombs, animations and pictures that give the search for digits as much to do as can be."""
    for size in ((25_000, 4), (4, 25_000), (1000, 12), (600, 10)):
        yield f"{size}", encoded(Image.new("L", size, 255), "PNG")
    for kind, mode, side in (("PNG", "RGBA", 5000), ("PNG", "P", 5000), ("TIFF", "F", 5000), ("WEBP", "RGB", 5000),
                             ("GIF", "L", 5000), ("JPEG", "L", 7000)):
        options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
        yield f"{side}² {kind} {mode}", encoded(Image.new(mode, (side, side)), kind, **options)
    first, *rest = [page(name).convert("P") for name in ("5", *["7", "2"] * 2000)]
    yield "4,001 frames", encoded(first, "GIF", save_all=True, append_images=rest, duration=20)
    for kind, place in (("GIF", 6), ("BMP", 18)):  # where the size stands
        content = bytearray(encoded(page("5"), kind))
        content[place:place + 2] = content[place + 2:place + 4] = b"\xff\xff"
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
        "stripes": y % 6 < 2, "dots": (y % 8 < 3) & (x % 8 < 3), "grid": (y % 50 < 3) | (x % 50 < 3), "slope": (x + 9 * y) % 80 < 4,
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
                inked[min(y - 3, 1596):y + 3, (width + 15) * column + 5 + k] = True
    return inked


# --- What is held against each file -----------------------------------------------------------------------------------

written: list[str] = []  # what the program under test opened for writing, or ran


def watch(event: str, arguments: tuple) -> None:
    """An audit hook: Python tells of every file that is opened and of every program that is started."""
    if event == "open":
        path, mode, flags = arguments
        if path != os.devnull and ((isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR)):
            written.append(f"{event} {path}")
    elif event in ("os.mkdir", "os.rename", "os.remove", "subprocess.Popen", "os.system", "os.exec", "socket.connect",
                   "tempfile.mkstemp", "exec", "compile"):
        written.append(f"{event} {arguments[:1]}")


def read(content: bytes, name: str, recognizer: Recognizer) -> str:
    """"read", or the words that the file is refused with; any other exception is a defect."""
    try:
        found = photo.read_photo(content, name, recognizer)
    except photo.PhotoError as error:
        words = str(error)
        assert 20 < len(words) < 300 and words.isprintable() and "/" not in words and "Error" not in words, words
        return words
    assert 1 <= len(found.images) == len(found.boxes) <= photo.MOST_DIGITS
    for image in found.images:
        assert image.shape == (28, 28) and image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1
    assert found.preview_png.startswith(b"\x89PNG") and b"script" not in found.preview_png
    return "read"


def try_all(files: Iterator[tuple[str, str, bytes]]) -> Counter:
    """Read every file (label, name, content) and return what was said of how many."""
    recognizer = Recognizer.load(run="reference")
    read(encoded(page("5"), "PNG"), "", recognizer)  # what is imported at the first picture is no file's fault
    Image.init()
    sys.addaudithook(watch)
    said, memory, slowest = Counter(), peak(), (0.0, "")
    for label, name, content in files:
        written.clear()
        started = time.process_time()
        try:
            said[read(content, name, recognizer)] += 1
        except Exception as error:
            raise AssertionError(f"{label} ({len(content)} bytes) ended with {error!r}") from error
        slowest = max(slowest, (time.process_time() - started, label))
        assert not written, (label, written)
    print(json.dumps({"said": said, "slowest": slowest, "memory": peak() - memory, "files": said.total()}))
    return said


def mutated(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """``count`` files; the same for the same seed."""
    rng, known = np.random.default_rng(seed), seeds()
    names, contents = list(known), list(known.values())
    for number in range(count):
        index, other = rng.integers(0, len(contents), 2)
        content = contents[index]
        chosen = rng.choice(len(MUTATIONS), rng.integers(1, 3))
        for mutation in chosen:
            content = MUTATIONS[mutation](rng, content or b"\0", contents[other])
        suffix = str(rng.choice(["png", "jpg", "gif", "heic", "pdf", "exe", "../x", "<b>"]))
        label = f"file {number} of seed {seed}: {names[index]}, {[MUTATIONS[k].__name__ for k in chosen]}"
        yield label, f"picture.{suffix}", content


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_a_process_of_its_own(*arguments: str) -> dict:
    """This module as a program, so that its memory is its own and a crash of a decoder is seen; what it reports."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return json.loads(done.stdout)


def test_ten_thousand_mutated_files_are_read_or_refused_in_words():
    """No other exception, no crash, no file written, nothing started, little memory, no file slow."""
    found = in_a_process_of_its_own("mutated", str(COUNT), str(SEED))
    assert found["files"] == COUNT and found["slowest"][0] < SLOWEST and found["memory"] < MOST_MEMORY, found
    assert len(found["said"]) >= min(COUNT / 100, 6) and COUNT / 50 < found["said"]["read"] < COUNT, found["said"]


def test_files_made_to_be_slow_or_large_are_neither(tmp_path):
    for name, content in crafted():
        (tmp_path / name).write_bytes(content)
    found = in_a_process_of_its_own("folder", str(tmp_path))
    assert found["slowest"][0] < SLOWEST and found["memory"] < MOST_MEMORY and found["files"] > 20, found


def test_the_watch_sees_what_is_written(tmp_path):
    """Without this, the two tests above could not fail for what is written."""
    code = ("import sys, pathlib, test_fuzz\nsys.addaudithook(test_fuzz.watch)\n"
            "pathlib.Path(sys.argv[1]).write_text('x')\nprint(len(test_fuzz.written))")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=True,
                          cwd=os.path.dirname(__file__))
    assert int(done.stdout) >= 1


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "mutated":
        try_all(mutated(*map(int, given)))
    else:
        try_all((file.name, file.name, file.read_bytes()) for file in sorted(Path(given[0]).iterdir()))

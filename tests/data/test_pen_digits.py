"""The pen digits: their text, the forms in which they are packed, damage, the download."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from digits import data
from digits.data import pen_digits

UNIPEN = """.INCLUDE        dene.doc

.LEXICON "0" "1"
.HIERARCHY      DIGIT

.SEGMENT DIGIT    0 ? "7"
.COMMENT 7 12  224
.PEN_DOWN
 100  400
 300  400
 200  100
.PEN_UP
.DT 100

.SEGMENT DIGIT    1-2 ? "4"
.PEN_DOWN
 0  500
.PEN_UP
.DT 100
.PEN_DOWN
 500  0
 499  1
.PEN_UP
.DT 100
"""


@pytest.fixture(autouse=True)
def no_other_data(cache):
    """Nothing on this machine but what a test makes."""


@pytest.fixture
def pen(monkeypatch):
    """Two small files that take the pen digits' place."""
    texts = {"tra": UNIPEN, "tes": UNIPEN.replace('"7"', '"1"').replace(".COMMENT 7", ".COMMENT 1")}
    known = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    monkeypatch.setattr(pen_digits, "SHA256", known)
    return {f"pendigits-orig.{name}": text.encode() for name, text in texts.items()}


def lzw(content):
    """As ``compress`` packs it: literals of 9 bits, the table cleared before codes grow longer."""
    codes = []
    for start in range(0, len(content), 247):
        codes += [*content[start : start + 247], 256]  # 248 codes: a whole number of bytes
    codes.pop()
    bits = sum(code << (9 * place) for place, code in enumerate(codes))
    return b"\x1f\x9d\x90" + bits.to_bytes((9 * len(codes) + 7) // 8, "little")


def pen_zip(files):
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.Z", lzw(content))
    return file.getvalue()


def write_pen(folder, files, form):
    if form == "zip":
        (folder / pen_digits.ARCHIVE).write_bytes(pen_zip(files))
        return folder / pen_digits.ARCHIVE
    for name, content in files.items():
        packed = lzw(content) if form == "Z" else content
        (folder / (f"{name}.Z" if form == "Z" else name)).write_bytes(packed)
    return next(path for path in folder.iterdir() if ".tra" in path.name)


def test_unipen():
    seven, four = data.parse_unipen(UNIPEN)
    assert (seven.label, seven.writer, four.label, four.writer) == (7, 12, 4, None)
    np.testing.assert_array_equal(seven.strokes[0], [[100, 100], [300, 100], [200, 400]])
    assert seven.strokes[0].dtype == np.float32
    assert [stroke.tolist() for stroke in four.strokes] == [[[0, 0]], [[500, 500], [499, 499]]]


@pytest.mark.parametrize("form", ["plain", "Z", "zip"])
def test_every_form(given, pen, form):
    write_pen(given, pen, form)
    assert [digit.label for digit in data.load_pen_digits("tra")] == [7, 4]
    assert [digit.label for digit in data.load_pen_digits("tes")] == [1, 4]


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count", "writers"), [("tra", 7494, 30), ("tes", 3498, 14)])
def test_the_real_ones(real_data, split, count, writers):
    digits = data.load_pen_digits(split)
    assert len(digits) == count
    assert {digit.writer for digit in digits} == set(range(1, writers + 1))
    points = np.concatenate([stroke for digit in digits for stroke in digit.strokes])
    assert points.min() >= 0 and points.max() <= data.TABLET
    seven = next(digit for digit in digits if digit.label == 7)
    first, last = seven.strokes[0][0], seven.strokes[0][-1]
    assert last[1] > first[1]  # a 7 is written from the top, and y grows downwards


def test_missing_and_unknown():
    with pytest.raises(data.DataMissing, match="pendigits-orig.tes could not be had"):
        data.load_pen_digits("tes")
    with pytest.raises(data.DataError, match="'test'"):
        data.load_pen_digits("test")


@pytest.mark.parametrize(
    ("form", "damage", "match"),
    [
        ("plain", lambda content: content[:-16], "not the published"),
        ("plain", lambda content: content.replace(b"300", b"301"), "not the published"),
        ("Z", lambda content: content[:60], "truncated|not the published"),
        ("zip", lambda content: content[:-40], "truncated, damaged or without"),
    ],
    ids=["cut", "changed", "cut.Z", "cut.zip"],
)
def test_damage(given, pen, form, damage, match):
    path = write_pen(given, pen, form)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DataError, match=match) as caught:
        data.load_pen_digits("tra")
    assert str(path) in str(caught.value) and not isinstance(caught.value, data.DataMissing)


def test_the_download_is_kept(server, pen, monkeypatch, cache):
    broken = server.add(pen_digits.ARCHIVE, pen_zip(pen)[:-40])
    parts = tuple(server.add(f"old/{name}.Z", lzw(content)) for name, content in pen.items())
    monkeypatch.setattr(pen_digits, "MIRRORS", ((broken,), parts))
    assert data.load_pen_digits("tes")[0].label == 1
    assert data.load_pen_digits("tra")[0].label == 7
    assert len(server.asked) == 3
    assert {path.name: path.read_bytes() for path in (cache / "pendigits").iterdir()} == pen

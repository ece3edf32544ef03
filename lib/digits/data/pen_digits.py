"""UCI's "Pen-Based Recognition of Handwritten Digits" (id 81, CC BY 4.0): digits as they were
drawn."""

import hashlib
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from digits.data.mnist import DamagedFile, DataError, obtain, read_bytes
from digits.files import download_cache, write_text

TABLET = 500  # both axes of the tablet run from 0 to here
SHA256 = {  # of the files, unpacked
    "tra": "a66225d68d7d68591e62944df1ad33b3f5aa608e2df2505844b41f5568a80da4",
    "tes": "ddb1c19e277a56c7ffe682cc024d6ab73696f9adcc1643ef9ed5aa753007e081",
}
ARCHIVE = "pen+based+recognition+of+handwritten+digits.zip"  # as UCI offers both files
_UCI = "https://archive.ics.uci.edu"
_OLD = f"{_UCI}/ml/machine-learning-databases/pendigits/pendigits-orig"
MIRRORS = ((f"{_UCI}/static/public/81/{ARCHIVE}",), (f"{_OLD}.tra.Z", f"{_OLD}.tes.Z"))


@dataclass(frozen=True)
class PenDigit:
    """One digit as it was written."""

    strokes: tuple[np.ndarray, ...]  # (n, 2) float32 each: x and y, tablet units, y downwards
    label: int  # 0 to 9
    writer: int | None  # numbered from 1 within a file; None when the file does not tell


def load_pen_digits(split: str) -> list[PenDigit]:
    """The pen digits from the folder ``DIGITS_DATA``, else the cache, else downloaded; verified.

    split: "tra", 7,494 digits of 30 writers, or "tes", 3,498 digits of 14 other writers. DataError
    when the file in ``DIGITS_DATA`` is damaged; `DataMissing` when it cannot be had.
    """
    if split not in SHA256:
        raise DataError(f"There are no pen digits {split!r}. Choose tra or tes.")
    cache = download_cache() / "pendigits"

    def keep(folder: Path, _text: str) -> None:
        for each in SHA256:
            write_text(cache / f"pendigits-orig.{each}", _read(folder, each))

    text, _ = obtain(f"pendigits-orig.{split}", partial(_read, split=split), keep, cache, MIRRORS)
    return parse_unipen(text)


def _read(folder: Path, split: str) -> str | None:
    """The text of one file: plain, packed by ``compress``, or in the archive that UCI offers."""
    from unlzw3 import unlzw

    plain, archive = folder / f"pendigits-orig.{split}", folder / ARCHIVE
    packed = plain.with_name(f"{plain.name}.Z")
    path = next((path for path in (plain, packed, archive) if path.exists()), None)
    if path is None:
        return None
    try:
        if path == archive:
            with zipfile.ZipFile(archive) as opened, opened.open(packed.name) as file:
                data = file.read()
        else:
            data = read_bytes(path)
        if path != plain:
            data = unlzw(data)
    except DamagedFile:
        raise
    except Exception as error:  # zipfile, zlib and unlzw have many kinds
        raise DamagedFile(path, f"truncated, damaged or without {packed.name} ({error})") from error
    if hashlib.sha256(data).hexdigest() != SHA256[split]:
        raise DamagedFile(path, f"not the published {plain.name}")
    return data.decode("ascii")


def parse_unipen(text: str) -> list[PenDigit]:
    """The digits of a UNIPEN text (Guyon et al., ICPR 1994), in the order of the file.

    In the text y grows upwards. A ``.COMMENT label writer sample`` names the writer. ValueError for
    a text that is no list of digits.
    """
    digits = []
    for segment in text.split(".SEGMENT")[1:]:
        head, *lines = segment.splitlines()
        label, writer = int(head.split()[-1].strip('"')), None
        strokes: list[list[tuple[int, int]]] = []
        for line in lines:
            match line.split():
                case [".COMMENT", told, who, sample] if f"{told}{who}{sample}".isdigit():
                    writer = int(who) if int(told) == label else None
                case [".PEN_DOWN"]:
                    strokes.append([])
                case [x, y] if not x.startswith("."):
                    strokes[-1].append((int(x), TABLET - int(y)))
        arrays = tuple(np.array(points, np.float32) for points in strokes)
        digits.append(PenDigit(arrays, label, writer))
    return digits

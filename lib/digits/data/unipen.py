"""UNIPEN ink: the text format in which UCI publishes the pen digits. Text in, strokes out; no files, no network."""

from dataclasses import dataclass

import numpy as np

TABLET = 500  # both axes of the tablet run from 0 to here
_IGNORED = {
    ".INCLUDE",
    ".LEXICON",
    ".HIERARCHY",
    ".DT",
}  # head of the file, and the pause after each stroke


@dataclass(frozen=True)
class PenDigit:
    """One digit as it was written."""

    strokes: tuple[
        np.ndarray, ...
    ]  # (n, 2) float32 each, x and y in tablet units 0 to 500, y downwards
    label: int  # 0 to 9
    writer: int | None  # numbered from 1 within a file; None when the file does not tell


def parse(text: str) -> list[PenDigit]:
    """Read the digits of a UNIPEN text, in the order of the file.

    Parameters
    ----------
    text
        Segments of pen strokes, y growing upwards. A ``.COMMENT label writer sample`` names the writer.

    Returns
    -------
    list of PenDigit
        y is turned to grow downwards, as on a canvas.

    Raises
    ------
    ValueError
        For a line that does not belong where it stands; the message begins with its number.

    Notes
    -----
    Format: Guyon et al., UNIPEN project of on-line data exchange and recognizer benchmarks, ICPR 1994.
    """
    reader = _Reader()
    number = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words:
            try:
                reader.take(words)
            except (ValueError, IndexError) as error:
                raise ValueError(f"line {number}, {line.strip()[:60]!r}: {error}") from None
    try:
        return reader.finish()
    except ValueError as error:
        raise ValueError(f"line {number}, the last one: {error}") from None


class _Reader:
    """The digits so far, the open digit and its open stroke."""

    def __init__(self):
        self.digits: list[PenDigit] = []
        self.label: int | None = None  # None before the first digit
        self.writer: int | None = None
        self.strokes: list[np.ndarray] = []
        self.points: list[tuple[int, int]] | None = None  # None while the pen is up

    def take(self, words: list[str]) -> None:
        match words[0]:
            case ".SEGMENT":
                self.close_digit()
                self.label = _label(words[-1].strip('"'))
            case ".COMMENT":
                self.writer = self.writer_of(words[1:])
            case ".PEN_DOWN":
                self.pen_down()
            case ".PEN_UP":
                self.pen_up()
            case keyword if keyword.startswith("."):
                if keyword not in _IGNORED:
                    raise ValueError("not a keyword of the pen digits")
            case _:
                self.add_point(words)

    def writer_of(self, words: list[str]) -> int | None:
        numbers = [int(word) for word in words if word.isdigit()]
        told = len(words) == len(numbers) == 3 and numbers[0] == self.label
        return numbers[1] if told else None

    def pen_down(self) -> None:
        if self.label is None:
            raise ValueError("a stroke before the first .SEGMENT")
        if self.points is not None:
            raise ValueError("the pen is down already")
        self.points = []

    def pen_up(self) -> None:
        if not self.points:
            raise ValueError("a stroke without a point")
        upwards = np.array(self.points, dtype=np.float32)
        self.strokes.append(np.column_stack([upwards[:, 0], TABLET - upwards[:, 1]]))
        self.points = None

    def add_point(self, words: list[str]) -> None:
        if self.points is None:
            raise ValueError("a point while the pen is up")
        x, y = (int(word) for word in words)
        if not (0 <= x <= TABLET and 0 <= y <= TABLET):
            raise ValueError(f"a point outside the tablet of {TABLET} x {TABLET}")
        self.points.append((x, y))

    def close_digit(self) -> None:
        if self.points is not None:
            raise ValueError("the stroke before has no .PEN_UP")
        if self.label is None:
            return
        if not self.strokes:
            raise ValueError("the digit before has no stroke")
        self.digits.append(PenDigit(tuple(self.strokes), self.label, self.writer))
        self.strokes, self.writer = [], None

    def finish(self) -> list[PenDigit]:
        self.close_digit()
        return self.digits


def _label(word: str) -> int:
    if len(word) != 1 or word not in "0123456789":
        raise ValueError("the label is not one of the ten digits")
    return int(word)

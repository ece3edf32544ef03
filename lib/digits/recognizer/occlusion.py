"""Which parts of the ink speak for an answer, and which against it: an occlusion map. NumPy only.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 3.2: cover a part of the
picture, look how the answer changes.
"""

from dataclasses import dataclass

import numpy as np

from digits.recognizer import ink
from digits.recognizer.model import Recognizer

PATCH, STRIDE = 5, 2  # pixels of 28: about two widths of MNIST's pen, moved by one
_REGIONS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)


@dataclass(frozen=True)
class Explanation:
    """What each pixel of the ink does for ``digit``."""

    digit: int
    image: np.ndarray  # (28, 28) float32 in [0, 1]
    effect: (
        np.ndarray
    )  # (28, 28): what the digit's log-odds lose without the ink around; 0 where there is none

    def place(self, sign: int) -> str:
        """In words, where the ink speaks most for (``sign`` 1) or against (-1) the digit; "" where none does."""
        strength = np.maximum(sign * self.effect, 0)
        if strength.max() < 0.1 * np.abs(self.effect).max() or not strength.any():
            return ""
        rows, columns = np.flatnonzero(self.image.any(1)), np.flatnonzero(self.image.any(0))
        bands = [np.array_split(np.arange(line[0], line[-1] + 1), 3) for line in (rows, columns)]
        sums = [
            [strength[np.ix_(rows, columns)].sum() for columns in bands[1]] for rows in bands[0]
        ]
        row, column = np.unravel_index(np.argmax(sums), (3, 3))
        return _REGIONS[row][column]


def explain(recognizer: Recognizer, image: np.ndarray, digit: int) -> Explanation:
    """Cover each part of ``image`` (28, 28), float32 in [0, 1], and see what ``digit`` loses."""
    covers = [cover for cover in _covers() if image[cover].any()]
    images = np.repeat(image[None], len(covers) + 1, axis=0)
    for picture, cover in zip(images[1:], covers, strict=True):
        picture[cover] = 0
    odds = _log_odds(recognizer.model.logits(images), digit)
    total, count = np.zeros((2, ink.SIDE, ink.SIDE))
    for cover, loss in zip(covers, odds[0] - odds[1:], strict=True):
        total[cover] += loss
        count[cover] += 1
    return Explanation(digit, image, np.where(image > 0, total / np.maximum(count, 1), 0))


def _covers() -> list[tuple[slice, slice]]:
    """Every place of the patch, those that reach over the edge included."""
    starts = range(1 - PATCH, ink.SIDE, STRIDE)
    spans = [slice(max(start, 0), start + PATCH) for start in starts]
    return [(rows, columns) for rows in spans for columns in spans]


def _log_odds(logits: np.ndarray, digit: int) -> np.ndarray:
    """(n,) log of the digit's probability over that of all others, from (n, 10)."""
    logits = logits.astype(float)
    others = np.delete(logits, digit, axis=1)
    peak = others.max(1)
    return logits[:, digit] - peak - np.log(np.exp(others - peak[:, None]).sum(1))

"""Which parts of the ink speak for an answer, and which against it: an occlusion map.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 3.2:
cover a part of the picture, look how the answer changes.
"""

from dataclasses import dataclass

import numpy as np

from digits.recognizer import ink
from digits.recognizer.model import LiteRTModel, energy

PATCH, STRIDE = 5, 2  # pixels of 28: about two widths of MNIST's pen, moved by one
REGIONS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)


@dataclass(frozen=True)
class OcclusionMap:
    """What each pixel of the ink does for ``digit``."""

    digit: int
    image: np.ndarray  # (28, 28) float32 in [0, 1]
    effect: np.ndarray  # (28, 28): what its log-odds lose without the ink around; 0 on paper

    def region(self, sign: int) -> str:
        """Where ink speaks most for (``sign`` 1) or against (-1) the digit, in words, or ""."""
        strength = np.maximum(sign * self.effect, 0)
        if strength.max() < 0.1 * np.abs(self.effect).max() or not strength.any():
            return ""
        inked = (np.flatnonzero(self.image.any(axis)) for axis in (1, 0))
        rows, columns = (np.array_split(np.arange(line[0], line[-1] + 1), 3) for line in inked)
        sums = [[strength[np.ix_(band, part)].sum() for part in columns] for band in rows]
        row, column = np.unravel_index(np.argmax(sums), (3, 3))
        return REGIONS[row][column]


def occlusion_map(model: LiteRTModel, image: np.ndarray, digit: int) -> OcclusionMap:
    """Cover each part of ``image`` (28, 28), float32 in [0, 1], and see what ``digit`` loses."""
    starts = range(1 - PATCH, ink.SIDE, STRIDE)  # some patches reach over the edge
    spans = [slice(max(start, 0), start + PATCH) for start in starts]
    covers = [cover for rows in spans for columns in spans if image[cover := (rows, columns)].any()]
    images = np.repeat(image[None], len(covers) + 1, axis=0)
    for picture, cover in zip(images[1:], covers, strict=True):
        picture[cover] = 0
    logits = model.logits(images).astype(float)
    odds = logits[:, digit] - energy(np.delete(logits, digit, axis=1))  # logarithms
    total, count = np.zeros((2, ink.SIDE, ink.SIDE))
    for cover, loss in zip(covers, odds[0] - odds[1:], strict=True):
        total[cover] += loss
        count[cover] += 1
    return OcclusionMap(digit, image, np.where(image > 0, total / np.maximum(count, 1), 0))

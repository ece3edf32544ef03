"""A process that gives feedback without end. Imports little, so that twenty start quickly."""

import os

import numpy as np

from digits.app.feedback import Store

STROKES = [np.array([(60.0, 60), (200, 60), (120, 230)])]
GIVEN = {
    "verdict": "wrong", "label": 7, "digit": 1, "confidence": 0.8, "accepted": True, "reason": "",
    "probabilities": [0, 0.8, 0, 0, 0, 0, 0, 0.2, 0, 0], "model": "float32", "model_sha256": "ab" * 32, "run": "reference",
    "app_version": "0.1.0",
}  # fmt: skip


def write(url: str, writer: int, n: int, acknowledged: int | None = None) -> None:
    """Add ``n`` records and write the number of each that was acknowledged to the descriptor ``acknowledged``."""
    store = Store.open(url)
    for k in range(n):
        number = store.add(
            **(
                GIVEN
                | {
                    "strokes": [STROKES[0] + (writer + k // 500 / 10, k % 500 / 10)],
                    "run": f"{writer}-{k}",
                }
            )
        )
        if acknowledged is not None:
            os.write(acknowledged, b"%d\n" % number)

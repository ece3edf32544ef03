"""What the kernel and the page's script say to each other: the page's pieces, and data as hidden
elements.

The static half is ``static/page.html``, what changes is drawn by ``static/view.js`` from the data
that stands here. What has ``data-do`` or ``data-set`` is reported to the kernel by
``static/app.js``; ``pad.OPERATIONS`` says what may be reported.
"""

import base64
import json
import re
from html import escape

import numpy as np

from digits.app import SCRIPT, STATIC
from digits.recognizer import Answer, Part
from digits.recognizer.occlusion import OcclusionMap

PIECES: dict[str, str] = dict(
    re.findall(
        r"<!-- (\w+) -->\n(.*?)\s*(?=<!-- |\Z)", (STATIC / "page.html").read_text("utf-8"), re.S
    )
)


def assets() -> str:
    """Style and script, to be shown once as the output of a cell."""
    style = (STATIC / "app.css").read_text(encoding="utf-8")
    return f"<style>{style}</style><script>{SCRIPT}</script>"


def data(kind: str, value: object) -> str:
    """``value`` for the script, which finds it as the JSON of ``.digits-KIND``."""
    return f'<i class="digits-{kind}" hidden data-{kind}="{escape(json.dumps(value))}"></i>'


def answer(shown: Answer, seq: int = 0) -> dict:
    """The answer with everything about it. ``seq`` is the last message that it is based on."""
    return {
        "seq": seq,
        "text": shown.text,
        "reason": shown.reason,
        "points": shown.points,
        "seconds": shown.seconds,
        "source": "photo" if shown.preview else "drawing",
        "chosen": shown.chosen,
        "parts": [_part(part) for part in shown.parts],
    }


def _part(part: Part) -> dict:
    prediction = part.prediction
    return {
        "text": part.text,
        "digit": prediction.digit,
        "confidence": prediction.confidence,
        "probabilities": [round(share, 4) for share in prediction.probabilities.tolist()],
        "reason": part.reason,
        "candidates": list(prediction.candidates),
        "box": part.box,
        "image": pixels(prediction.image),
    }


def reasons(found: OcclusionMap | None) -> dict | None:
    """The map of reasons, its effects as shares of the largest; None when there is nothing to
    explain.
    """
    if found is None:
        return None
    effect = found.effect / max(np.abs(found.effect).max(), 1e-9)
    return {
        "digit": found.digit,
        "image": pixels(found.image),
        "effect": effect.round(3).ravel().tolist(),
        "for": found.region(1),
        "against": found.region(-1),
    }


def pixels(image: np.ndarray) -> str:
    """(28, 28) float in [0, 1] as 784 bytes in Base64."""
    return base64.b64encode((np.clip(image, 0, 1) * 255).astype(np.uint8).tobytes()).decode()


def png_address(picture: bytes) -> str:
    """A PNG as the address of an embedded picture."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()

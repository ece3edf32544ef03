"""The app's page, piece by piece, as HTML. Pure functions: values in, markup out; nothing here knows a widget.

What has ``data-do`` or ``data-set`` is reported to the kernel by ``static/app.js``; ``pad.OPERATIONS`` says what may be
reported.
"""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from digits.app import pad
from digits.recognizer import Answer, Part, Prediction
from digits.recognizer.occlusion import OcclusionMap

_STATIC = Path(__file__).parent / "static"
_VOID = ("img", "input")
LABEL = 50, 18  # width and height of a box's label in canvas pixels, on a phone
MOST_CANDIDATES = 3  # that are named when the network is not sure; more would help nobody
REASONS = {"blank": "Nothing to read", "unsure": "Not sure", "not a digit": "Not a digit, I think"}


def tag(name: str, *content: str, kind: str | None = None, **attributes: object) -> str:
    """``<name attributes>content</name>``. Content is markup (see ``words``); values are escaped.

    ``kind="sure part"`` becomes ``class="digits-sure digits-part"``, ``data_do`` becomes ``data-do``; None and False
    are left out, True is an attribute without a value.
    """
    if kind:
        attributes = {"class": " ".join(f"digits-{one}" for one in kind.split())} | attributes
    given = "".join(
        f" {key.replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{name}{given}>" + ("" if name in _VOID else "".join(content) + f"</{name}>")


def words(text: object) -> str:
    """Any text as markup."""
    return escape(str(text))


def button(kind: str, label: str, *operation: object, **attributes: object) -> str:
    """A button that reports ``operation`` when it is pressed; ``label`` is markup."""
    if operation:
        attributes["data-do"] = json.dumps(operation)
    return tag("button", label, kind=kind, type="button", **attributes)


def slider(
    kind: str,
    low: float,
    high: float,
    step: float,
    value: float,
    name: str,
    said: str | None = None,
) -> str:
    """A slider whose value is reported as it moves; ``said`` is the value in words where the number says little."""
    return tag(
        "input",
        kind=kind,
        type="range",
        data_set=kind,
        min=low,
        max=high,
        step=step,
        value=value,
        aria_label=name,
        aria_valuetext=said,
    )


# --- What the whole page needs ----------------------------------------------------------------------------------------


def assets() -> str:
    """Style and script, to be shown once as the output of a cell."""
    style, script = ((_STATIC / name).read_text(encoding="utf-8") for name in ("app.css", "app.js"))
    return f"<style>{style}</style><script>{script}</script>"


def header(notice: str = "") -> str:
    """Title, a warning when there is one, and the line that screen readers are told answers in."""
    return tag(
        "header",
        tag("h1", "Draw a digit"),
        tag("p", "A small neural network reads along."),
        tag("p", words(notice), kind="notice") if notice else "",
    ) + tag("p", kind="live hidden", role="status", aria_live="polite")


def hint() -> str:
    """What an empty pad says."""
    two = '<svg viewBox="0 0 92 110"><path d="M22 30C26 8 66 8 68 32 70 56 30 70 20 98h54"/></svg>'
    return tag(
        "div",
        two,
        tag("span", "Draw here"),
        tag("small", "one digit or a whole number"),
        kind="hint",
        aria_hidden="true",
    )


def sending() -> str:
    """How far a picture is on its way, and why one was not sent; the script's part."""
    return tag("p", kind="upload-note", role="status") + tag(
        "progress", kind="progress", hidden=True, aria_label="Sending the picture"
    )


_ICONS = {
    "undo": "M8 4 4 8l4 4M4 8h9a5 5 0 0 1 0 10H9",
    "redo": "m14 4 4 4-4 4m4-4H9a5 5 0 0 0 0 10h4",
    "eraser": "m4 13 8.5-8.5a2 2 0 0 1 2.8 0l3.2 3.2a2 2 0 0 1 0 2.8L11 18H7.5L4 14.5a1 1 0 0 1 0-1.5Z"
    "m5-4.5 5.5 5.5",
    "clear": "M5 6h12M9 6V4h4v2m2 0v11a1 1 0 0 1-1 1H8a1 1 0 0 1-1-1V6",
    "right": "m4 12 5 5 9-11",
}


def _icon(name: str) -> str:
    return tag("svg", tag("path", d=_ICONS[name]), viewBox="0 0 22 22", aria_hidden="true")


def toolbar() -> str:
    """The controls below the pad. The script shows how they stand; they are never made anew."""
    brush = slider("brush", *pad.BRUSHES, 2, pad.Drawing.brush, "Brush size")
    return tag(
        "div",
        button("undo", _icon("undo") + "Undo", "undo", title="Undo (Z or Ctrl+Z)"),
        button("redo", _icon("redo") + "Redo", "redo", title="Redo (Y or Ctrl+Y)"),
        button(
            "eraser",
            _icon("eraser") + "Eraser",
            data_toggle="tool",
            aria_pressed="false",
            title="Eraser (E)",
        ),
        button("clear", _icon("clear") + "Clear", "clear", title="Clear the pad (C)"),
        tag("label", tag("span", "Brush"), brush, title="Brush size ([ and ])"),
        kind="tools",
        role="toolbar",
        aria_label="Pad",
    )


def state(values: dict, seq: int) -> str:
    """What the script has to know: how the controls stand, and the last message that the kernel has dealt with."""
    return tag("i", kind="state", hidden=True, data_seq=seq, data_state=json.dumps(values))


def message(text: str, kind: str = "note") -> str:
    """A line for the visitor; ``kind`` is "note" or "error". "" for no text."""
    return (
        tag("p", words(text), kind=f"message {kind}", role="alert" if kind == "error" else "status")
        if text
        else ""
    )


# --- The answer -------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share as a percentage that never claims certainty: "97%", "99.9%", "over 99.9%"."""
    if share > 0.999:
        return "over 99.9%"
    return f"{100 * share:.1f}%" if share >= 0.99 else f"{100 * share:.0f}%"


def short(share: float) -> str:
    """The same where there is little room: "97%", ">99%"."""
    return ">99%" if share > 0.99 else f"{100 * share:.0f}%"


def answer(shown: Answer, seq: int = 0) -> str:
    """The answer with everything about it: number, confidence, ten bars, what the network sees. ``seq`` is the last
    message that it is based on, so that what changes with every move of the pen travels in one piece."""
    prediction = shown.part.prediction if shown.part else None
    return tag(
        "div",
        _figure(shown),
        _verdict(shown),
        _bars(prediction),
        _network_view(shown),
        kind="answer",
        data_digit=shown.part.text if shown.part else "",
        data_confidence=f"{prediction.confidence if prediction else 0:.4f}",
        data_accepted="false" if shown.reason else "true",
        data_reason=shown.reason,
        data_points=shown.points,
        data_text=shown.text,
        data_source=shown.source,
        data_seq=seq,
        data_say=spoken(shown),
    )


def spoken(shown: Answer) -> str:
    """The answer as a sentence, for screen readers."""
    if not shown.text:
        return ""
    number = " ".join(shown.text)
    if shown.reason:
        either = _either(shown)
        return f"{REASONS[shown.reason]}{': ' if either else ''}{either}. Best guess {number}."
    return f"{number}, {_at_least(shown)}{_lowest(shown)} sure."


def _figure(shown: Answer) -> str:
    """The number, large; with several digits each can be chosen."""
    if not shown.text:
        return tag("div", tag("span", "?", kind="none"), kind="figure", aria_hidden="true")
    if len(shown.parts) == 1:
        part = shown.parts[0]
        return tag(
            "div", tag("span", part.text, kind=_trust(part)), kind="figure", aria_hidden="true"
        )
    parts = [_choice(part, index, index == shown.chosen) for index, part in enumerate(shown.parts)]
    return tag("div", *parts, kind="figure several", style=f"--count: {len(parts)}")


def _choice(part: Part, index: int, chosen: bool) -> str:
    confidence = part.prediction.confidence
    label = tag("span", part.text) + tag("small", words(short(confidence)))
    return button(
        f"part {_trust(part)}",
        label,
        "part",
        index,
        aria_pressed="true" if chosen else "false",
        aria_label=f"Digit {index + 1}: {part.text}, {percent(confidence)}",
    )


def _trust(part: Part) -> str:
    return "doubtful" if part.reason else "sure"


def _lowest(shown: Answer) -> str:
    """The confidence in the part of which the network is least sure."""
    return percent(min(part.prediction.confidence for part in shown.parts))


def _at_least(shown: Answer) -> str:
    """What goes before it, when it is not the confidence in all of them."""
    return (
        ""
        if len(shown.parts) == 1
        else "each "
        if _lowest(shown).startswith("over")
        else "each at least "
    )


def _verdict(shown: Answer) -> str:
    if not shown.text:
        return tag("p", "Your answer appears here while you draw.", kind="verdict")
    if not shown.reason:
        return tag("p", _at_least(shown), tag("strong", _lowest(shown)), " sure", kind="verdict")
    least = min(shown.parts, key=lambda part: (not part.reason, part.prediction.confidence))
    guess = f"best guess {least.text}, {percent(least.prediction.confidence)}"
    if (
        shown.reason == "not a digit"
    ):  # the percentage is a share of the ten digits and would say the opposite
        guess = f"closest digit: {least.text}"
    either = _either(shown)
    return tag(
        "p",
        tag("strong", REASONS[shown.reason], kind="no"),
        f"{either}, {guess}" if either else guess,
        kind="verdict",
    )


def _either(shown: Answer) -> str:
    """Which digits one doubtful digit may be, "7 or 1"; "" when that says nothing or too much to help."""
    digits = shown.part.prediction.candidates
    if len(shown.parts) > 1 or shown.reason != "unsure" or not 2 <= len(digits) <= MOST_CANDIDATES:
        return ""
    return f"{', '.join(map(str, digits[:-1]))} or {digits[-1]}"


def _bars(prediction: Prediction | None) -> str:
    best = prediction.digit if prediction else None
    probabilities = np.zeros(10) if best is None else prediction.probabilities
    rows = [
        tag(
            "li",
            tag("b", str(digit)),
            tag("i", tag("s", style=f"width:{100 * share:.1f}%")),
            tag("span", words(short(share))),
            kind="best" if digit == best else None,
        )
        for digit, share in enumerate(probabilities.tolist())
    ]
    return tag("ol", *rows, kind="bars", aria_label="Probability of each digit")


def _network_view(shown: Answer) -> str:
    image = shown.part.prediction.image if shown.part else np.zeros((28, 28), np.float32)
    what = (
        "cut out of your picture"
        if shown.source == "photo"
        else "your path, drawn again with an even pen"
    )
    took = f"Read in {1000 * shown.seconds:.1f} ms." if shown.seconds else ""
    return tag(
        "figure",
        tag("img", src=png(image), alt="The picture that the network gets, 28 by 28 pixels"),
        tag(
            "figcaption",
            tag("strong", "What the network sees"),
            f"<br>28 × 28 pixels, {what}. ",
            tag("span", took),
        ),
        kind="seen",
    )


def png(image: np.ndarray) -> str:
    """(H, W) float in [0, 1] as the address of an embedded PNG."""
    buffer = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).save(
        buffer, "png", compress_level=1
    )
    return _address(buffer.getvalue())


def _address(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def marks(shown: Answer, brush: float) -> str:
    """Boxes around the ink when several digits are read; ``brush`` is how wide the ink is.

    A label stands above its box, and below it where it would cover the one before; inside the box at the pad's edge.
    """
    if len(shown.parts) < 2:
        return ""
    made, before, low = [], -float(pad.SIZE), False
    for index, part in enumerate(shown.parts):
        if part.box is None:
            continue
        left, top, right, bottom = (
            value + side * brush / 2 for value, side in zip(part.box, (-1, -1, 1, 1), strict=True)
        )
        low = left - before < LABEL[0] and not low
        inside = bottom > pad.SIZE - LABEL[1] if low else top < LABEL[1]
        kind = f"box {_trust(part)} {'low' if low else ''} {'inner' if inside else ''}"
        kind += " end" if left > pad.SIZE - LABEL[0] else ""
        made.append(
            _mark(
                part,
                (left, top, right, bottom),
                f"{kind} {'chosen' if index == shown.chosen else ''}",
            )
        )
        before = left
    return "".join(made)


def _mark(part: Part, box: tuple[float, ...], kind: str) -> str:
    left, top, right, bottom = (100 * value / pad.SIZE for value in box)
    place = f"left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;height:{bottom - top:.1f}%"
    return tag(
        "div",
        tag("span", words(f"{part.text} {short(part.prediction.confidence)}")),
        kind=kind,
        style=place,
    )


def preview(picture: bytes, name: str) -> str:
    """An uploaded picture (PNG bytes) in the pad's place."""
    return tag("img", kind="preview", src=_address(picture), alt=f"Your picture {name}")


# --- The sections -----------------------------------------------------------------------------------------------------


def section(name: str, title: str, *content: str) -> str:
    """A section of the page."""
    return tag(
        "section",
        tag("h2", words(title), id=f"digits-{name}-title"),
        *content,
        kind=f"{name}-section",
        aria_labelledby=f"digits-{name}-title",
    )


def examples(gallery: Sequence) -> str:
    """A button with its drawing for each example."""
    buttons = [
        button(
            "example",
            _drawing(one.strokes),
            "example",
            one.name,
            title=one.title,
            aria_label=f"Example: {one.title}",
        )
        for one in gallery
    ]
    return section(
        "examples",
        "Examples",
        tag(
            "p",
            "Watch one being drawn. With the keyboard, this is the way to put ink on the pad: drawing "
            "itself needs a mouse, a finger or a pen.",
        ),
        tag("div", *buttons, kind="gallery"),
    )


def _drawing(strokes: Sequence[np.ndarray]) -> str:
    return tag(
        "svg", *map(_line, strokes), viewBox=f"0 0 {pad.SIZE} {pad.SIZE}", aria_hidden="true"
    )


def _line(stroke: np.ndarray) -> str:
    """A stroke as a picture's line; every other point is enough for its size."""
    points = np.concatenate([np.asarray(stroke)[:-1:2], np.asarray(stroke)[-1:]])
    return tag("polyline", points=" ".join(f"{x:.0f},{y:.0f}" for x, y in points.tolist()))


def feedback() -> str:
    """One click says whether the answer was right."""
    wrong = [
        button(
            "wrong",
            str(digit),
            "verdict",
            "wrong",
            digit,
            data_label=digit,
            aria_label=f"Wrong, it was a {digit}",
        )
        for digit in range(10)
    ]
    none = button(
        "wrong",
        "no digit",
        "verdict",
        "wrong",
        None,
        data_label="",
        aria_label="Wrong, it was no digit",
    )
    return section(
        "feedback",
        "Was it right?",  # the script names the digit when there are several
        tag(
            "div",
            button("right", _icon("right") + "Right", "verdict", "right", None),
            kind="verdicts",
        ),
        tag(
            "div",
            tag("span", "Wrong, it was"),
            *wrong,
            none,
            kind="verdicts",
            role="group",
            aria_label="Wrong, it was",
        ),
    )


def consent(description: str) -> str:
    """The question that is asked once, before anything is kept."""
    return tag(
        "div",
        tag("p", tag("strong", "May this be kept? "), words(description), id="digits-consent-text"),
        tag(
            "div",
            button("agree", "Agree and send", "consent", True),
            button("decline", "Do not keep it", "consent", False),
            kind="verdicts",
        ),
        kind="consent",
        role="group",
        tabindex=-1,
        aria_labelledby="digits-consent-text",
    )


def promise(agreed: bool) -> str:
    """What will become of the next verdict; it stands where the question and the thanks do, so that nothing moves."""
    return tag(
        "p",
        "Each verdict is kept, as you agreed." if agreed else "Nothing is kept before you agree.",
        kind="promise",
    )


def threshold(value: float) -> str:
    """The slider; what it means is said by ``threshold_meaning`` beside it."""
    share = f"{100 * value:.0f}%"
    control = slider(
        "threshold", 0, 0.99, 0.01, round(value, 2), "Least confidence for an answer", share
    )
    return section(
        "threshold",
        "How sure must it be?",
        tag("p", "Below this confidence, the network says that it is not sure."),
        tag("label", control, tag("output", share), kind="slider"),
    )


def threshold_meaning(answered: float | None, right: float | None, n: int = 0) -> str:
    """What the threshold means for digits drawn by people; None where the run has not measured it."""
    if answered is None or right is None:
        return tag(
            "p",
            "What this means for digits drawn by people was not measured in this run for this network file.",
            kind="meaning",
        )
    shares = [tag("strong", f"{100 * share:.1f}%") for share in (answered, right)]
    source = f" ({n:,} digits of unseen writers)" if n else ""
    return tag(
        "p",
        f"Of digits drawn by people, it answers {shares[0]}, and of those {shares[1]} are right.{source}",
        kind="meaning",
    )


def upload(limit: int) -> str:
    """Choosing a picture; dropping and pasting one is the script's part."""
    chooser = tag("input", kind="hidden", type="file", accept="image/*", data_limit=limit)
    return section(
        "upload",
        "Read a photo",
        tag(
            "p",
            "Handwriting on paper, one digit or a row of them. PNG, JPEG, WebP, BMP, TIFF or GIF up to "
            f"{limit / 1e6:.0f} MB; you can also drop it on this page or paste it.",
        ),
        tag("label", chooser, "Choose a picture", kind="upload"),
    )


def why() -> str:
    """The switch for the map."""
    return section(
        "why",
        "Why this answer?",
        tag("p", "Cover each part of the ink in turn and see what the answer loses."),
        button("why", "Show why", data_toggle="why", aria_pressed="false", title="Show why (W)"),
    )


def explanation(found: OcclusionMap | None) -> str:
    """The map with its legend; as large when there is nothing to explain. Ink that speaks for the digit is blue, against
    it orange and hatched."""
    answer_ = "it" if found is None else found.digit
    paper = tag("rect", kind="paper", width=28, height=28)
    picture = tag(
        "svg",
        paper,
        *(_cells(found) if found else ()),
        viewBox="0 0 28 28",
        role="img",
        aria_label=f"What speaks for and against {answer_}. {_most(found)}",
    )
    keys = [
        tag("p", tag("b", kind="key for"), f"speaks for {answer_}"),
        tag("p", tag("b", kind="key against"), f"speaks against {answer_} (hatched)"),
        tag("p", _most(found)),
    ]
    return tag("figure", picture, tag("figcaption", *keys), kind="map")


def _most(found: OcclusionMap | None) -> str:
    """The map in words."""
    if found is None:
        return "Draw something first."
    places = {"for": found.region(1), "against": found.region(-1)}
    return (
        " ".join(f"Most {side} it: {place}." for side, place in places.items() if place)
        or "No part stands out."
    )


def _cells(found: OcclusionMap) -> list[str]:
    """Each inked pixel: grey ink, over it the colour of its effect, over that a line when it speaks against."""
    strengths, cells = found.effect / max(np.abs(found.effect).max(), 1e-9), []
    for y, x in np.argwhere(found.image > 0.1).tolist():
        strength, place = strengths[y, x], {"x": x, "y": y, "width": 1, "height": 1}
        cells.append(tag("rect", kind="ink", opacity=f"{0.35 * found.image[y, x]:.2f}", **place))
        if abs(strength) >= 0.05:
            kind = "for" if strength > 0 else "against"
            cells.append(
                tag("rect", kind=kind, opacity=f"{min(abs(strength) ** 0.6, 1):.2f}", **place)
            )
        if strength <= -0.15:
            cells.append(tag("path", kind="hatch", d=f"M{x} {y + 1}l1 -1"))
    return cells


def models(names: dict[str, str], chosen: str) -> str:
    """Which of the run's files reads; ``names`` maps each to what is said of it."""
    options = [
        tag("option", words(label), value=name, selected=name == chosen)
        for name, label in names.items()
    ]
    return section(
        "model",
        "Model",
        tag(
            "p",
            "Other files of the same network, and smaller networks that learnt from it, which err more. The "
            "time is that of one inference on this server.",
        ),
        tag(
            "label",
            tag("span", "Network file"),
            tag("select", *options, kind="model", data_set="model"),
            kind="choice",
        ),
    )


def footer(facts: dict[str, str]) -> str:
    """Where the answers come from."""
    pairs = [
        tag("div", tag("dt", words(name)), tag("dd", words(value))) for name, value in facts.items()
    ]
    return tag("footer", tag("dl", *pairs))


def keys() -> str:
    """Which keys there are, and the switch for those who speak to their computer: a word would press many."""
    names = {"C": "clear", "Z": "undo", "Y": "redo", "E": "eraser", "[ ]": "brush", "W": "why"}
    switch = tag("label", tag("input", kind="keys", type="checkbox", checked=True), "Keys")
    pairs = [tag("span", tag("kbd", key), f" {name}") for key, name in names.items()]
    return tag("div", switch, *pairs, kind="shortcuts")

"""The dashboard: what a visitor does becomes ink, ink an answer that is shown while it changes.

One ``App`` for each kernel, so for each visitor; nothing is shared. The static half of the page is
``static/page.html``; what changes is drawn by ``static/view.js`` from data in hidden elements. What
has ``data-do`` or ``data-set`` is reported by ``static/app.js``; ``pad.OPERATIONS`` says what may
be. Voila hides tracebacks, so whatever goes wrong is said on the page.
"""

import asyncio
import base64
import json
import logging
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from importlib import metadata
from typing import Any

import numpy as np
from IPython.display import HTML as Output
from IPython.display import display
from ipywidgets import HTML, Box, Widget

from digits import files
from digits.app import SCRIPT, STATIC, kernel, pad
from digits.recognizer import Answer, Part, PhotoError, Recognizer, RecognizerError, ink, occlusion
from digits.recognizer.model import LARGEST_FILE, available

SHARE = 0.5  # of the time at most is spent in a ticker's work
TICK = 0.025  # seconds between two answers while ink arrives
REST = 0.3  # seconds without new ink before what is slow (the map of reasons) is computed
MOST_VERDICTS = 200  # that are kept of one visit, so that nobody fills the collection alone
VERSION = metadata.version("digits")
PROMISE = {"kind": "promise", "text": "Nothing is kept before you agree."}
AGREED = {"kind": "agreed", "text": "Each verdict is kept, as you agreed."}
PIECES = files.read_pieces(STATIC / "page.html")
_log = logging.getLogger(__name__)


class App:
    """The app for one visitor.

    >>> app = App.open()  # outputs/latest when it is good, else outputs/reference
    >>> app.show(app.header, (app.drawing, app.answer))  # from top to bottom, brackets abreast

    The pieces, each a widget: ``header``, ``drawing``, ``answer``, ``feedback``, ``send``,
    ``examples``, ``why``, ``threshold``, ``upload``, ``model``, ``footer``.
    """

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self.limit = recognizer.calibration.accept_confidence  # the visitor's threshold
        self.shown = Answer()
        self.pad = pad.Pad(self._receive, self._guarded(self._tick))
        folder = files.run_folder(recognizer.run)
        self.record = files.read_or_empty(folder / "run.json")
        self.metrics = files.read_or_empty(folder / "metrics.json")
        self._models = _model_labels(recognizer.run, self.metrics)
        self._photo = ""  # the name of the picture that is shown in the pad's place
        self._wants_why = False
        self._read: tuple[np.ndarray, ...] | None = ()  # the strokes that the answer is based on
        self._seq = 0  # the last message from the page that was dealt with
        self._note = {"kind": "note", "text": ""}  # a line for the visitor
        self._controls: dict = {}  # how they stood when the page was last told
        self._ticker = Ticker(self._guarded(self._tick), TICK)
        self._handles: dict[Callable, asyncio.TimerHandle] = {}
        self._upload = Upload()
        self._refused = False  # whether a message from the page was, ever
        self._feedback = Feedback(self)
        self._build()

    @classmethod
    def open(cls, run: str | None = None, model: str | None = None) -> "App":
        """The app with a run's model, as ``Recognizer.load`` finds it; else RecognizerError."""
        kernel.require_guard()
        return cls(Recognizer.load(run, model))

    # --- The page -------------------------------------------------------------------------------

    def show(self, *rows: Widget | tuple[Widget, ...]) -> None:
        """Put the pieces on the page, from top to bottom; those of a tuple stand side by side."""
        lines = [_box(row, "digits-row") if isinstance(row, tuple) else row for row in rows]
        display(Output(assets()), _box([*lines, *self._data], "digits-app"))

    def _build(self) -> None:
        changing = [HTML() for _ in range(5)]
        self._state, self._answer, self._picture, self._reasons, self._ink = changing
        examples = [
            {"name": one.name, "title": one.title, "strokes": [s.tolist() for s in one.strokes]}
            for one in ink.examples()
        ]
        mnist = self.record.get("dataset", {}).get("name", "mnist") == "mnist"
        notice = "" if mnist else "This network did not learn from MNIST. It errs more."
        setup = {"notice": notice, "limit": LARGEST_FILE, "examples": examples}
        self._data = [HTML(data("setup", setup)), *changing]
        pieces = {name: HTML(markup) for name, markup in PIECES.items()}
        marks = HTML('<div class="digits-marks"></div>')
        notes = _box([pieces["notes"]], "digits-notes")
        surface = _box([self.pad.canvas, marks, pieces["hint"], notes], "digits-pad")
        self.header, self.footer = pieces["header"], pieces["footer"]
        self.drawing = _box([surface, pieces["toolbar"]], "digits-drawing")
        self.answer = _card(pieces["answer"], "digits-result")
        self.why = _card(pieces["why"], "digits-reasons")
        self.feedback, self.send, self.examples, self.threshold, self.upload, self.model = (
            _card(pieces[name])
            for name in ("feedback", "send", "examples", "threshold", "upload", "model")
        )
        self._show_answer()
        self._show_state()

    def _show_state(self, answered: bool = False) -> None:
        """What the script goes by: which messages are dealt with, and how everything stands.

        When an answer has just said the former, nothing is sent unless the latter changed.
        """
        drawing, recognizer = self.pad.drawing, self.recognizer
        commit = (self.record.get("code") or {}).get("commit") or "not recorded"
        controls = {
            "ink": bool(drawing.strokes),
            "photo": bool(self._photo),
            "brush": drawing.brush,
            "eraser": pad.eraser_width(drawing.brush),
            "tool": drawing.tool,
            "undo": bool(drawing.past),
            "redo": bool(drawing.future),
            "threshold": self.limit,
            "why": self._wants_why,
            "model": recognizer.name,
            "models": self._models,
            "meaning": meaning(self.metrics, self.limit, recognizer),
            "facts": [
                ("Run", recognizer.run),
                ("Commit", commit[:12]),
                ("Model", f"{recognizer.name}, SHA-256 {recognizer.sha256[:12]}"),
                ("App", VERSION),
            ],
            "note": self._note,
            "told": self._feedback.told,
        }
        if not answered or controls != self._controls:
            self._controls = controls
            self._state.value = data("state", {"seq": self._seq, **controls})

    def _show_answer(self) -> None:
        self._answer.value = data("reading", reading(self.shown, self._seq))

    def _say(self, text: str, kind: str = "note") -> None:
        self._note = {"kind": kind, "text": text}

    # --- From ink to answer -----------------------------------------------------------------------

    def _tick(self) -> None:
        if not self.pad.drawing.is_open:  # until then the page's own ink is enough
            self.pad.draw()
        strokes = self.pad.drawing.strokes
        due = not self._photo and strokes is not self._read
        if due:
            self._answer_is(self.recognizer.read_strokes(strokes))
            self._read = strokes
        self._show_state(answered=due)

    def _answer_is(self, answer: Answer) -> None:
        self.shown = answer.judged(self.limit)
        self._show_answer()
        self._feedback.forget()
        self._later(REST, self._settle)

    def _later(self, delay: float, work: Callable, *arguments: Any) -> None:
        """Have ``work`` done after ``delay`` seconds; asking again begins them anew."""
        if work in self._handles:
            self._handles[work].cancel()
        loop = asyncio.get_running_loop()
        self._handles[work] = loop.call_later(delay, self._guarded(work), *arguments)

    def _settle(self) -> None:
        """What is done when the pen rests: the reasons, and the ink as a page keeps it."""
        part, found = self.shown.part, None
        if self._wants_why and part is not None:
            image, digit = part.prediction.image, part.prediction.digit
            found = occlusion.occlusion_map(self.recognizer.model, image, digit)
        self._reasons.value = data("reasons", reasons(found)) if self._wants_why else ""
        strokes = [np.round(one, 1).ravel().tolist() for one in self.pad.drawing.finished]
        self._ink.value = data("kept", {"seq": self._seq, "strokes": strokes})

    # --- What arrives from the page ---------------------------------------------------------------

    def _receive(self, text: str) -> None:
        try:
            seq, operations = pad.parse(text)
        except pad.MessageError as error:
            if not self._refused:  # said once: a flood must not fill the log
                _log.warning("A message from the page was refused: %s", error)
            self._refused = True
            self._say("That was not understood. Reload the page if it goes on.", "error")
            self._show_state()
            return
        for name, *arguments in operations:
            if name in pad.CHANGES:
                self._guarded(self._change)(name, *arguments)
            else:
                self._guarded(getattr(self, f"_do_{name}"))(*arguments)
        self._seq = seq
        if not self._ticker.due:  # else the answer will say that this was dealt with
            self._show_state()

    def _guarded(self, call: Callable) -> Callable:
        """``call``, with whatever goes wrong in it said on the page."""

        def guarded(*arguments):
            try:
                return call(*arguments)
            except (pad.PadFull, PhotoError, RecognizerError) as error:
                self._say(str(error), "resend" if isinstance(error, ResendError) else "error")
            except Exception as error:
                _log.exception("The app failed in %s", getattr(call, "__name__", call))
                self._say(
                    f"Something went wrong here ({type(error).__name__}). Clear the pad and try "
                    "again; if it stays, reload the page.",
                    "error",
                )
            self._show_state()  # the page must not take a failed call for a dead kernel

        return guarded

    def _do_hello(self) -> None:
        self.pad.draw(again=True)
        self._ticker.ask()

    def _do_ping(self) -> None:
        """The page asks whether anybody is there; the state says so."""

    def _do_up(self) -> None:
        self.pad.drawing.up()
        self._ticker.ask()

    def _change(self, name: str, *arguments: Any) -> None:
        """Have the pen or a button change the ink: an answer is due."""
        if name != "move":
            self._say("")
        if self._photo:
            self._photo, self._read, self._picture.value = "", None, ""
        self._ticker.ask()
        getattr(self.pad.drawing, name)(*arguments)

    def _do_tool(self, tool: str) -> None:
        self.pad.drawing.tool = tool

    def _do_brush(self, width: float) -> None:
        self.pad.drawing.brush = width
        self.pad.draw(again=True)

    def _do_part(self, index: int) -> None:
        if index < len(self.shown.parts):
            self._answer_is(replace(self.shown, chosen=index))

    def _do_drop(self, index: int) -> None:
        """A piece of a photograph is no digit, says the visitor."""
        parts = [part for k, part in enumerate(self.shown.parts) if k != index]
        if self._photo and parts:
            chosen = min(self.shown.chosen, len(parts) - 1)
            self._answer_is(replace(self.shown, parts=tuple(parts), chosen=chosen))

    def _do_threshold(self, value: float) -> None:
        self.limit = value
        self.shown = self.shown.judged(value)
        self._show_answer()

    def _do_model(self, name: str) -> None:
        current = self.recognizer
        if name == current.name or name not in available(current.run):
            return
        self.recognizer = Recognizer.load(current.run, name)
        if not self._photo:
            self._read = None
            self._ticker.ask()
            return
        predict, parts = self.recognizer.predict, self.shown.parts
        again = (replace(part, prediction=predict(part.prediction.image)) for part in parts)
        self._answer_is(replace(self.shown, parts=tuple(again)))

    def _do_why(self, wanted: bool) -> None:
        self._wants_why = wanted
        self._settle()

    def _do_verdict(self, verdict: str, digit: int | None) -> None:
        self._feedback.give(verdict, digit)

    def _do_consent(self, agreed: bool) -> None:
        self._feedback.answer(agreed)

    def _do_file(self, name: str, size: int, offset: int, piece: str, upright: bool) -> None:
        if not offset:
            self._say("")
        content = self._upload.add(name, size, offset, piece)
        if content is not None:
            self._say(f"Reading {name} …")  # shown before; of several that come at once the last
            self._later(0.05, self._read_photo, content, name, upright)  # one is read

    def _read_photo(self, content: bytes, name: str, upright: bool) -> None:
        answer = self.recognizer.read_photo(content, upright=upright)
        self.pad.drawing.clear()
        self.pad.draw()
        self._photo = name or "picture"
        source = "data:image/png;base64," + base64.b64encode(answer.preview).decode()
        size = struct.unpack(">II", answer.preview[16:24])  # of a PNG
        self._picture.value = data("picture", {"name": self._photo, "src": source, "size": size})
        self._say(answer.note)
        self._answer_is(answer)
        self._show_state()


# --- What the app consists of ---------------------------------------------------------------------


class Ticker:
    """Does work soon after it was asked for, however often: at most once in ``interval`` seconds.

    When the work itself takes long, or the machine is busy, the pauses grow with it, so that what
    arrives in between still gets its turn.
    """

    def __init__(self, work: Callable[[], None], interval: float):
        self._work, self._interval = work, interval
        self._free_at = 0.0  # of time.monotonic(): not before then
        self.due = False  # whether the work is going to be done

    def ask(self) -> None:
        """Have the work done soon."""
        if not self.due:
            self.due = True
            wait = max(self._free_at - time.monotonic(), 0)
            asyncio.get_running_loop().call_later(wait, self._run)

    def _run(self) -> None:
        self.due = False
        started = time.monotonic()
        try:
            self._work()
        finally:
            ended = time.monotonic()
            pause = (ended - started) * (1 / SHARE - 1)
            self._free_at = max(started + self._interval, ended + pause)


class ResendError(PhotoError):
    """A file that was lost on its way, and can be sent again."""


class Upload:
    """A file that arrives in pieces, in order, and no larger than it may be."""

    def __init__(self, limit: int = LARGEST_FILE):
        self._limit, self._content = limit, bytearray()
        self._expected: tuple[str, int] | None = None

    def add(self, name: str, size: int, offset: int, piece: str) -> bytes | None:
        """Take the next piece, Base64; returns the file when it is whole.

        PhotoError when it cannot become one; what still comes of it has nothing to join.
        """
        content, expected = self._content, self._expected
        if not offset:
            content, expected = bytearray(), (name, size)
        self._content, self._expected = bytearray(), None  # 12 MB are not kept for nothing
        if size > self._limit:
            raise PhotoError(
                f"{name} has {size / 1e6:.1f} MB; at most {self._limit / 1e6:.0f} MB can be read. "
                "Send a smaller copy or a part of it."
            )
        if offset != len(content) or expected != (name, size):
            raise ResendError(f"{name} did not arrive in one piece. Please send it again.")
        try:
            content += base64.b64decode(piece, validate=True)
        except ValueError:
            raise ResendError(f"{name} was damaged on its way. Please send it again.") from None
        if len(content) > size:
            raise PhotoError(f"{name} is longer than it said. Please send it again.")
        if len(content) == size:
            return bytes(content)
        self._content, self._expected = content, expected
        return None


class Feedback:
    """What the visitor says about an answer: kept once the visitor has agreed, never before."""

    def __init__(self, app: App):
        self.told = PROMISE
        self._app, self._agreed, self._count = app, False, 0
        self._lock = threading.Lock()
        self._store: Any = None  # a feedback.Store, once it is needed
        self._kept: dict[bytes, int] = {}  # the numbers of what was kept, by its ink
        self._pending: list[tuple[str, int | None, Part]] = []

    def give(self, verdict: str, label: int | None) -> None:
        """Right or wrong, about the part that is looked at, or "all" that are shown are right.

        Who has not agreed yet is asked first; what is said of the same ink again replaces it.
        """
        shown = self._app.shown
        parts = shown.parts if verdict == "all" else (shown.part,)
        pending = []
        for part in parts:
            if part is not None and part.prediction.digit is not None:
                is_right = verdict == "all" or label == part.prediction.digit
                pending.append(("right", None, part) if is_right else (verdict, label, part))
        if not pending:
            self._tell("No answer yet: draw something first.")
            return
        self._pending = pending
        if self._agreed:
            self._keep()
        else:
            from digits.app.feedback import describe

            self._tell(describe(), "consent")

    def answer(self, agreed: bool) -> None:
        """The visitor agreed, or did not, or no more."""
        self._agreed = agreed
        if agreed and self._pending:
            self._keep()
        elif not agreed:
            self._pending = []
            self._tell("Nothing is kept.")
            if self._kept:
                self._work([], "All that you gave was deleted, and nothing is kept.")

    def forget(self) -> None:
        """Another answer is shown: what was said of the last one is done with."""
        self._pending = []
        self.told = AGREED if self._agreed else PROMISE

    def _keep(self) -> None:
        pending, self._pending = self._pending, []
        self._count += len(pending)
        if self._count > MOST_VERDICTS:
            self._tell("That is all that can be kept of one visit. Thank you.")
            return
        self._tell("Keeping it …")
        recognizer, rows = self._app.recognizer, []
        for verdict, label, part in pending:
            prediction = part.prediction
            row = {
                "verdict": verdict,
                "label": label,
                "digit": prediction.digit,
                "confidence": prediction.confidence,
                "accepted": not part.reason,
                "reason": part.reason,
                "probabilities": prediction.probabilities,
                "strokes": list(part.strokes) or None,
                "crop": None if part.strokes else prediction.image,
                "model": recognizer.name,
                "model_sha256": recognizer.sha256,
                "run": recognizer.run,
                "app_version": VERSION,
            }
            drawn = part.strokes or (prediction.image,)
            rows.append((b"".join(np.asarray(one).tobytes() for one in drawn), row))
        self._work(rows, "Thank you. It is kept.")

    def _work(self, rows: list[tuple[bytes, dict]], words: str) -> None:
        def stored(done: asyncio.Future) -> None:
            from digits.app.feedback import FeedbackError  # the thread has loaded it

            try:
                done.result()
            except FeedbackError as error:
                self._tell(str(error), "error")
            else:
                self._tell(words, "agreed" if self._agreed else "note")
            self._app._show_state()

        done = asyncio.get_running_loop().run_in_executor(None, self._store_all, rows)
        done.add_done_callback(self._app._guarded(stored))

    def _store_all(self, rows: list[tuple[bytes, dict]]) -> None:
        """Keep these, or take all back, in a thread: a busy database must not stop the drawing."""
        from digits.app.feedback import Store  # SQLAlchemy: 12 MB that many visitors never need

        with self._lock:
            self._store = self._store or Store.open()
            gone = [key for key, _ in rows] if rows else list(self._kept)
            self._store.remove([self._kept[key] for key in gone if key in self._kept])
            for key in gone:  # not before: what could not be deleted can still be taken back
                self._kept.pop(key, None)
            for key, values in rows:
                number = self._store.add(**values)
                if number is not None:  # else this very ink is there already
                    self._kept[key] = number

    def _tell(self, text: str, kind: str = "note") -> None:
        self.told = {"kind": kind, "text": text}


# --- What the page's script gets ------------------------------------------------------------------


def assets() -> str:
    """Style and script, to be shown once as the output of a cell."""
    style = (STATIC / "app.css").read_text(encoding="utf-8")
    return f"<style>{style}</style><script>{SCRIPT}</script>"


def data(kind: str, value: object) -> str:
    """``value`` for the script, which finds it as the JSON of ``.digits-KIND``."""
    return f'<i class="digits-{kind}" hidden data-{kind}="{escape(json.dumps(value))}"></i>'


def reading(shown: Answer, seq: int = 0) -> dict:
    """The answer with everything about it. ``seq`` is the last message that it is based on."""
    return {
        "seq": seq,
        "text": shown.text,
        "reason": shown.reason,
        "points": shown.points,
        "seconds": shown.seconds,
        "source": "photo" if shown.preview else "drawing",
        "chosen": shown.chosen,
        "parts": [
            {
                "text": part.text,
                "digit": part.prediction.digit,
                "confidence": part.prediction.confidence,
                "probabilities": np.round(part.prediction.probabilities, 4).tolist(),
                "reason": part.reason,
                "line": part.line,
                "doubt": part.doubt,
                "candidates": list(part.prediction.candidates),
                "box": part.box,
                "image": _pixels(part.prediction.image),
            }
            for part in shown.parts
        ],
    }


def reasons(found: occlusion.OcclusionMap | None) -> dict | None:
    """The map of reasons, its effects as shares of the largest; None when there is none."""
    if found is None:
        return None
    effect = found.effect / max(np.abs(found.effect).max(), 1e-9)
    return {
        "digit": found.digit,
        "image": _pixels(found.image),
        "effect": effect.round(3).ravel().tolist(),
        "for": found.region(1),
        "against": found.region(-1),
    }


def _pixels(image: np.ndarray) -> str:
    """(28, 28) float in [0, 1] as 784 bytes in Base64."""
    return base64.b64encode((np.clip(image, 0, 1) * 255).astype(np.uint8).tobytes()).decode()


def _card(piece: Widget, *kinds: str) -> Widget:
    for kind in ("digits-card", *kinds):
        piece.add_class(kind)
    return piece


def _box(pieces: Sequence[Widget], kind: str) -> Widget:
    return Box(pieces, _dom_classes=[kind])


# --- What is known about the run ------------------------------------------------------------------


def meaning(metrics: dict, threshold: float, recognizer: Recognizer) -> list[float] | None:
    """What a threshold means for digits drawn by people: [share answered, share of those right, n].

    From what the run recorded about pen digits of unseen writers, for the float32 model and for the
    chosen one: a table of thresholds, or at least the calibrated one. None where it has not.
    """
    measured: dict = {}
    for chapter in metrics.values():
        measured |= {"float32": chapter["pen"]} if "pen" in chapter else {}
        if choice := chapter.get("chosen"):
            measured |= {choice["name"]: choice.get("pen")}
    pen = measured.get(recognizer.name) or {}
    if table := pen.get("thresholds"):
        at = [np.interp(threshold, table["threshold"], table[key]) for key in ("answered", "right")]
    elif abs(threshold - recognizer.calibration.accept_confidence) < 0.005 and "selective" in pen:
        at = [pen["selective"][key]["share"] for key in ("answered", "right")]
    else:
        return None
    return [*map(float, at), pen.get("n", 0)]


def _model_labels(run: str, metrics: dict) -> list[tuple[str, str]]:
    """Each model of the run, with its size and, where it was measured, its time."""
    measured: dict = next((part["files"] for part in metrics.values() if "files" in part), {})
    labels = []
    for name in available(run):
        size = (files.run_folder(run) / "models" / f"{name}.tflite").stat().st_size
        took = measured.get(name, {}).get("latency_ms_median")
        speed = f" · {took:.2f} ms in the run" if took else ""
        labels.append((name, f"{name} · {size / 1000:.0f} kB{speed}"))
    return labels

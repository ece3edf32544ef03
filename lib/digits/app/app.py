"""The dashboard: what a visitor does becomes ink, ink becomes an answer, and the answer is shown
while it changes.

One ``App`` for each kernel, so for each visitor; nothing is shared. Voila hides tracebacks, so
whatever goes wrong is said on the page.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from IPython.display import HTML as Output
from IPython.display import display
from ipywidgets import HTML, Box, Widget

from digits import files
from digits.app import kernel, pad, page
from digits.recognizer import (
    Answer,
    Part,
    PhotoError,
    Recognizer,
    RecognizerError,
    ink,
    occlusion,
)
from digits.recognizer.model import available
from digits.recognizer.photo import LARGEST_FILE

if TYPE_CHECKING:
    from digits.app.feedback import Store

SHARE = 0.5  # of the time at most is spent in a ticker's work
TICK = 0.025  # seconds between two answers while ink arrives
REST = 0.3  # seconds without new ink before what is slow (the map of reasons) is computed
REPLAY = 1.1  # seconds that an example takes to be drawn
MOST_VERDICTS = 200  # that are kept of one visit, so that nobody fills the collection alone
VERSION = metadata.version("digits")
PROMISE = {"kind": "promise", "text": "Nothing is kept before you agree."}
AGREED = {"kind": "promise", "text": "Each verdict is kept, as you agreed."}
_log = logging.getLogger(__name__)


class App:
    """The app for one visitor.

    >>> app = App.open()  # outputs/latest when it is good, else outputs/reference
    >>> app.show(app.header, (app.drawing, app.answer))  # from top to bottom, brackets abreast

    The pieces, each a widget: ``header``, ``drawing``, ``answer``, ``feedback``, ``examples``,
    ``why``, ``threshold``, ``upload``, ``model``, ``footer``.
    """

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self.limit = recognizer.calibration.accept_confidence  # the visitor's threshold
        self.shown = Answer()
        self.pad = pad.Pad(self._receive, self._on_ready)
        self.record, self.metrics = (_read(recognizer.run, name) for name in ("run", "metrics"))
        self._models = _model_labels(recognizer.run, self.metrics)
        self._photo = ""  # the name of the picture that is shown in the pad's place
        self._wants_why = self._less_motion = False
        self._read: tuple[np.ndarray, ...] | None = ()  # the strokes that the answer is based on
        self._seq = 0  # the last message from the page that was dealt with
        self._note = {"kind": "note", "text": ""}  # a line for the visitor
        self._controls: dict = {}  # how they stood when the page was last told
        self._ticker = Ticker(self._guarded(self._tick), TICK)
        self._rest = Timer(self._guarded(self._settle), REST)
        self._replay = Replay(self.pad.drawing, self._changed)
        self._upload = Upload()
        self._file = b"", ""  # what has arrived and is not read yet, with its name
        self._reading = Timer(self._guarded(self._read_photo), 0.05)
        self._refused = False  # whether a message from the page was, ever
        self._feedback = Feedback(self)
        self._build()

    @classmethod
    def open(cls, run: str | None = None, model: str | None = None) -> "App":
        """The app with a run's model, as ``Recognizer.load`` finds it.

        RecognizerError when it cannot be used.
        """
        kernel.require_guard()
        return cls(Recognizer.load(run, model))

    # --- The page -------------------------------------------------------------------------------

    def show(self, *rows: Widget | tuple[Widget, ...]) -> None:
        """Put the pieces on the page, from top to bottom; those of a tuple stand side by side."""
        lines = [_box(row, "digits-row") if isinstance(row, tuple) else row for row in rows]
        display(Output(page.assets()), _box([*lines, *self._data], "digits-app"))

    def _build(self) -> None:
        self._state, self._answer, self._picture, self._reasons = (HTML() for _ in range(4))
        examples = [
            {"name": one.name, "title": one.title, "strokes": [s.tolist() for s in one.strokes]}
            for one in ink.examples()
        ]
        setup = {"notice": _stand_in(self.record), "limit": LARGEST_FILE, "brushes": pad.BRUSHES}
        setup = HTML(page.data("setup", setup | {"examples": examples}))
        self._data = [setup, self._state, self._answer, self._picture, self._reasons]
        pieces = {name: HTML(markup) for name, markup in page.PIECES.items()}
        marks = HTML('<div class="digits-marks"></div>')
        notes = _box([pieces["notes"]], "digits-notes")
        surface = _box([self.pad.canvas, marks, pieces["hint"], notes], "digits-pad")
        self.header, self.footer = pieces["header"], pieces["footer"]
        self.drawing = _box([surface, pieces["toolbar"]], "digits-drawing")
        self.answer = _card(pieces["answer"], "digits-result")
        self.why = _card(pieces["why"], "digits-reasons")
        self.feedback, self.examples, self.threshold, self.upload, self.model = (
            _card(pieces[name]) for name in ("feedback", "examples", "threshold", "upload", "model")
        )
        self._show_answer()
        self._show_state()

    def _show_state(self, answered: bool = False) -> None:
        """What the script goes by: which messages are dealt with, and how everything stands.

        When an answer has just said the former, nothing is sent unless the latter changed.
        """
        drawing, recognizer = self.pad.drawing, self.recognizer
        controls = {
            "ink": bool(drawing.strokes),
            "photo": bool(self._photo),
            "brush": drawing.brush,
            "eraser": pad.eraser_width(drawing.brush),
            "tool": drawing.tool,
            "undo": drawing.can_undo,
            "redo": drawing.can_redo,
            "threshold": self.limit,
            "why": self._wants_why,
            "model": recognizer.name,
            "models": self._models,
            "meaning": meaning(self.metrics, self.limit, recognizer),
            "facts": _provenance(recognizer, self.record),
            "note": self._note,
            "told": self._feedback.told,
        }
        if not answered or controls != self._controls:
            self._controls = controls
            self._state.value = page.data("state", {"seq": self._seq, **controls})

    def _show_answer(self) -> None:
        self._answer.value = page.data("reading", page.answer(self.shown, self._seq))

    def origin(self) -> dict[str, str]:
        """What gave the answer, for whoever keeps it."""
        recognizer = self.recognizer
        return {
            "model": recognizer.name,
            "model_sha256": recognizer.sha256,
            "run": recognizer.run,
            "app_version": VERSION,
        }

    def _say(self, text: str, kind: str = "note") -> None:
        self._note = {"kind": kind, "text": text}

    # --- From ink to answer -----------------------------------------------------------------------

    def _changed(self) -> None:
        """The ink is another one: an answer is due."""
        if self._photo:
            self._photo, self._read, self._picture.value = "", None, ""
        self._ticker.ask()

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
        self._rest.ask()

    def _settle(self) -> None:
        """What is done when the pen rests."""
        part, found = self.shown.part, None
        if self._wants_why and part is not None:
            prediction = part.prediction
            found = occlusion.occlusion_map(
                self.recognizer.model, prediction.image, prediction.digit
            )
        self._reasons.value = page.data("reasons", page.reasons(found)) if self._wants_why else ""

    # --- What arrives from the page ---------------------------------------------------------------

    def _on_ready(self) -> None:
        """A page shows the pad (perhaps another one than before: a reload)."""
        self._guarded(self._tick)()

    def _receive(self, seq: int | None, operations: list[tuple] | Exception) -> None:
        if isinstance(operations, Exception):
            if not self._refused:  # said once: a flood must not fill the log
                _log.warning("A message from the page was refused: %s", operations)
            self._refused = True
            self._say(
                "Something arrived that the pad does not understand. Reload the page if it goes "
                "on.",
                "error",
            )
            self._show_state()
            return
        for name, *arguments in operations:
            self._guarded(getattr(self, f"_do_{name}"))(*arguments)
        self._seq = seq
        if self._ticker.due:
            return  # the answer will say that this was dealt with
        self._show_state()

    def _guarded(self, call: Callable) -> Callable:
        """``call``, with whatever goes wrong in it said on the page."""

        def guarded(*arguments):
            try:
                return call(*arguments)
            except (pad.PadFull, PhotoError, RecognizerError, UploadError) as error:
                self._say(str(error), "error")
            except Exception as error:
                _log.exception("The app failed in %s", getattr(call, "__name__", call))
                self._say(
                    f"Something went wrong here ({type(error).__name__}). Clear the pad and try "
                    "again; if it stays, reload the page.",
                    "error",
                )
            self._show_state()  # the page must not take a failed call for a dead kernel

        return guarded

    def _do_hello(self, less_motion: bool) -> None:
        self._less_motion = less_motion
        self.pad.redraw()
        self._ticker.ask()

    def _do_ping(self) -> None:
        """The page asks whether anybody is there; the state says so."""

    def _do_down(self, x: float, y: float, tool: str | None) -> None:
        self._say("")
        self._touch(lambda drawing: drawing.down(x, y, tool))

    def _do_move(self, points: list[tuple[float, float]]) -> None:
        self._touch(lambda drawing: drawing.move(points))

    def _do_up(self) -> None:
        self.pad.drawing.up()
        self._ticker.ask()

    def _do_undo(self) -> None:
        self._touch(pad.Drawing.undo)

    def _do_redo(self) -> None:
        self._touch(pad.Drawing.redo)

    def _do_clear(self) -> None:
        self._say("")
        self._touch(pad.Drawing.clear)

    def _touch(self, change: Callable[[pad.Drawing], None]) -> None:
        """Change the ink; whatever plays or is shown in its place ends."""
        self._replay.finish()
        try:
            change(self.pad.drawing)
        finally:
            self._changed()

    def _do_tool(self, tool: str) -> None:
        self.pad.drawing.tool = tool

    def _do_brush(self, width: float) -> None:
        self.pad.drawing.brush = width
        self.pad.redraw()

    def _do_part(self, index: int) -> None:
        if index < len(self.shown.parts):
            self._answer_is(replace(self.shown, chosen=index))

    def _do_threshold(self, value: float) -> None:
        self.limit = value
        self.shown = self.shown.judged(value)
        self._show_answer()

    def _do_model(self, name: str) -> None:
        current = self.recognizer
        if name != current.name and name in available(current.run):
            self.recognizer = Recognizer.load(current.run, name)
            self._again()

    def _again(self) -> None:
        """Read once more what is shown."""
        if not self._photo:
            self._read = None
            self._ticker.ask()
        else:
            again = (
                replace(part, prediction=self.recognizer.predict(part.prediction.image))
                for part in self.shown.parts
            )
            self._answer_is(replace(self.shown, parts=tuple(again)))

    def _do_example(self, name: str) -> None:
        chosen = next((example for example in ink.examples() if example.name == name), None)
        if chosen is not None:
            self._say("")
            self._replay.start(chosen.strokes, 0 if self._less_motion else REPLAY)

    def _do_why(self, wanted: bool) -> None:
        self._wants_why = wanted
        self._settle()

    def _do_verdict(self, verdict: str, digit: int | None) -> None:
        self._feedback.give(verdict, digit)

    def _do_consent(self, agreed: bool) -> None:
        self._feedback.answer(agreed)

    def _do_file(self, name: str, size: int, offset: int, piece: str) -> None:
        content = self._upload.add(name, size, offset, piece)
        if content is not None:
            self._say(f"Reading {name} …")
            self._file = content, name  # of several that come at once the last one is read
            self._reading.ask()  # after the line above is shown

    def _read_photo(self) -> None:
        (content, name), self._file = self._file, (b"", "")
        answer = self.recognizer.read_photo(content, name)
        self._replay.finish()
        self.pad.drawing.replace(())
        self.pad.draw()
        self._photo = name or "picture"
        self._picture.value = page.data(
            "picture", {"name": self._photo, "src": page.png_address(answer.preview)}
        )
        self._say("")
        self._answer_is(answer)
        self._show_state()


# --- What the app consists of ---------------------------------------------------------------------


class Ticker:
    """Does work soon after it was asked for, however often it is asked: at most once in
    ``interval`` seconds.

    When the work itself takes long, or the machine is busy, the pauses grow with it, so that what
    arrives in between still gets its turn.
    """

    def __init__(self, work: Callable[[], None], interval: float):
        self._work, self._interval = work, interval
        self._free_at = 0.0  # of time.monotonic(): not before then
        self._handle: asyncio.TimerHandle | None = None

    @property
    def due(self) -> bool:
        """Whether the work is going to be done."""
        return self._handle is not None

    def ask(self) -> None:
        """Have the work done soon."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(
                max(self._free_at - time.monotonic(), 0), self._run
            )

    def _run(self) -> None:
        self._handle = None
        started = time.monotonic()
        try:
            self._work()
        finally:
            ended = time.monotonic()
            self._free_at = max(
                started + self._interval, ended + (ended - started) * (1 / SHARE - 1)
            )


class Timer:
    """Does work once, when nobody has asked for it for a while."""

    def __init__(self, work: Callable[[], None], delay: float):
        self._work, self._delay = work, delay
        self._handle: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Have the work done after the delay; asking again begins it anew."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(self._delay, self._work)

    def cancel(self) -> None:
        """Forget it."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Replay:
    """An example drawn stroke by stroke, as if somebody drew it."""

    def __init__(self, drawing: pad.Drawing, changed: Callable[[], None]):
        self._drawing, self._changed = drawing, changed
        self._strokes: tuple[np.ndarray, ...] = ()
        self._timer = Timer(self._step, TICK)

    def start(self, strokes: tuple[np.ndarray, ...], seconds: float) -> None:
        """Put the example on an empty pad within ``seconds``; one step for undo."""
        self._timer.cancel()
        self._drawing.replace(first_points(strokes, 1))
        self._strokes, self._seconds, self._started = strokes, seconds, time.monotonic()
        self._step()

    def finish(self) -> None:
        """Put down what is left of it at once."""
        self._timer.cancel()
        if self._strokes:
            self._drawing.replace(self._strokes, remember=False)
            self._strokes = ()

    def _step(self) -> None:
        done = (time.monotonic() - self._started) / self._seconds if self._seconds else 1
        if done >= 1:
            self.finish()
        else:
            count = max(round(done * sum(map(len, self._strokes))), 1)
            self._drawing.replace(first_points(self._strokes, count), remember=False)
            self._timer.ask()
        self._changed()


def first_points(strokes: tuple[np.ndarray, ...], count: int) -> tuple[np.ndarray, ...]:
    """The first ``count`` points of a drawing."""
    ends = np.cumsum([len(stroke) for stroke in strokes])
    full = int(np.searchsorted(ends, count, side="right"))
    rest = count - (int(ends[full - 1]) if full else 0)
    return strokes[:full] + ((strokes[full][:rest],) if rest and full < len(strokes) else ())


class Upload:
    """A file that arrives in pieces, in order, and no larger than it may be."""

    def __init__(self, limit: int = LARGEST_FILE):
        self._limit = limit
        self._forget()

    def add(self, name: str, size: int, offset: int, piece: str) -> bytes | None:
        """Take the next piece, Base64; returns the file when it is whole.

        UploadError when it cannot become one.
        """
        if offset == 0:
            self._content, self._expected = bytearray(), (name, size)
        try:
            self._append(name, size, offset, piece)
        except UploadError:
            self._forget()
            raise
        if len(self._content) < size:
            return None
        content = bytes(self._content)
        self._forget()
        return content

    def _append(self, name: str, size: int, offset: int, piece: str) -> None:
        if size > self._limit:
            raise UploadError(
                f"{name} has {size / 1e6:.1f} MB; at most {self._limit / 1e6:.0f} MB can be read. "
                "Send a smaller copy or a part of it."
            )
        if offset != len(self._content) or self._expected != (name, size):
            raise UploadError(f"{name} did not arrive in one piece. Please send it again.")
        try:
            self._content += base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            raise UploadError(f"{name} was damaged on its way. Please send it again.") from None
        if len(self._content) > size:
            raise UploadError(f"{name} is longer than it said. Please send it again.")

    def _forget(self) -> None:
        """12 MB are not kept for nothing; what still comes of this file has nothing to join."""
        self._content, self._expected = bytearray(), None


class Feedback:
    """What the visitor says about an answer: kept once the visitor has agreed, never before."""

    def __init__(self, app: "App"):
        self.told = PROMISE
        self._app, self._agreed, self._count = app, False, 0
        self._store: Store | None = None
        self._pending: tuple[str, int | None, Part] | None = (
            None  # verdict, label and what they are about
        )

    def give(self, verdict: str, label: int | None) -> None:
        """Right or wrong, about the part that is looked at; asks first when the visitor has not
        agreed yet.
        """
        part = self._app.shown.part
        if part is None or part.prediction.digit is None:
            self._tell("No answer yet: draw something first.")
            return
        if label == part.prediction.digit:  # "it was a 7" of an answer that guessed 7
            verdict = "right"
        self._pending = verdict, label, part
        if self._agreed:
            self._keep()
        else:
            from digits.app.feedback import describe

            self._tell(describe(), "consent")

    def answer(self, agreed: bool) -> None:
        """The visitor agreed, or did not."""
        self._agreed = agreed
        if not agreed:
            self._pending = None
            self._tell("Nothing was kept.")
        elif self._pending:
            self._keep()

    def forget(self) -> None:
        """Another answer is shown: what was said of the last one is done with."""
        self._pending = None
        self.told = AGREED if self._agreed else PROMISE

    def _keep(self) -> None:
        (verdict, label, part), self._pending = self._pending, None
        self._count += 1
        if self._count > MOST_VERDICTS:
            self._tell("That is all that can be kept of one visit. Thank you.")
            return
        self._tell("Keeping it …")
        values = {"verdict": verdict, "label": label, **_record(part), **self._app.origin()}
        done = asyncio.get_running_loop().run_in_executor(None, self._add, values)
        done.add_done_callback(self._app._guarded(self._kept))

    def _add(self, values: dict) -> None:
        """In a thread of its own: a database that is busy or gone must not stop the drawing."""
        from digits.app.feedback import Store  # SQLAlchemy: 12 MB that many visitors never need

        self._store = self._store or Store.open()
        self._store.add(**values)

    def _kept(self, done: asyncio.Future) -> None:
        from digits.app.feedback import FeedbackError

        try:
            done.result()
        except FeedbackError as error:
            self._tell(str(error), "error")
        else:
            self._tell("Thank you. It is kept.")
        self._app._show_state()

    def _tell(self, text: str, kind: str = "note") -> None:
        self.told = {"kind": kind, "text": text}


def _record(part: Part) -> dict:
    """What is kept of an answer."""
    prediction = part.prediction
    drawn = {"strokes": list(part.strokes)} if part.strokes else {"crop": prediction.image}
    return {
        "digit": prediction.digit,
        "confidence": prediction.confidence,
        "accepted": not part.reason,
        "reason": part.reason,
        "probabilities": prediction.probabilities,
        **drawn,
    }


class UploadError(Exception):
    """A file that cannot be taken; the message is for the visitor."""


# --- What is known about the run ----------------------------------------------------------------


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


def _read(run: str, name: str) -> dict:
    """``run.json`` or ``metrics.json`` of a run; {} when it is missing or damaged."""
    try:
        return files.read_json(files.run_folder(run) / f"{name}.json")
    except (files.RunError, OSError, RecursionError) as error:
        _log.warning("%s", error)
        return {}


def _stand_in(record: dict) -> str:
    """A warning when the network did not learn from MNIST; "" when it did."""
    if record.get("dataset", {}).get("name", "mnist") == "mnist":
        return ""
    return (
        "This network learned from scikit-learn's small stand-in for MNIST, because MNIST could "
        "not be had. It errs more."
    )


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


def _provenance(recognizer: Recognizer, record: dict) -> list[tuple[str, str]]:
    """Where the answers come from."""
    commit = (record.get("code") or {}).get("commit")
    return [
        ("Run", recognizer.run),
        ("Commit", commit[:10] if commit else "not recorded"),
        ("Model", f"{recognizer.name}, SHA-256 {recognizer.sha256[:12]}"),
        ("App", VERSION),
    ]


def _card(piece: Widget, *kinds: str) -> Widget:
    for kind in ("digits-card", *kinds):
        piece.add_class(kind)
    return piece


def _box(pieces: Sequence[Widget], kind: str) -> Widget:
    return Box(pieces, _dom_classes=[kind])

"""The dashboard: what a visitor does becomes ink, ink becomes an answer, and the answer is shown while it changes.

One ``App`` for each kernel, so for each visitor; nothing is shared. Voila hides tracebacks, so whatever goes wrong is
said on the page.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from IPython.display import HTML as Output
from IPython.display import display
from ipywidgets import HTML, Box, VBox, Widget

from digits import files as paths
from digits import files as records
from digits.app import pad, page
from digits.app.ticker import Ticker, Timer
from digits.recognizer import (
    Answer,
    Part,
    PhotoError,
    Recognizer,
    RecognizerError,
    available,
    ink,
    occlusion,
)
from digits.recognizer.photo import LARGEST_FILE

if TYPE_CHECKING:
    from digits.app.feedback import Store

TICK = 0.025  # seconds between two answers while ink arrives
REST = 0.3  # seconds without new ink before what is slow (the map of reasons) is computed
REPLAY = 1.1  # seconds that an example takes to be drawn
MOST_VERDICTS = 200  # that are kept of one visit, so that nobody fills the collection alone
VERSION = metadata.version("digits")
_log = logging.getLogger(__name__)


class App:
    """The app for one visitor.

    >>> app = App.open()                                        # outputs/latest when it is good, else outputs/reference
    >>> app.show(app.header, (app.drawing, app.answer))         # pieces from top to bottom, those in brackets abreast

    The pieces, each a widget: ``header``, ``drawing``, ``answer``, ``feedback``, ``examples``, ``why``, ``threshold``,
    ``upload``, ``model``, ``footer``.
    """

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self.limit = recognizer.calibration.accept_confidence  # the visitor's threshold
        self.shown = Answer()
        self.pad = pad.Pad(self._receive, self._on_ready)
        self.records = _run_records(recognizer.run)
        self._photo: tuple[bytes, str] | None = (
            None  # the picture that is shown in the pad's place, with its answer
        )
        self._wants_why = self._less_motion = False
        self._speeds: dict[str, str] = {}  # what was measured of each model
        self._read: tuple[np.ndarray, ...] | None = ()  # the strokes that the answer is based on
        self._seq = 0  # the last message from the page that was dealt with
        self._controls: dict = {}  # how they stood when the page was last told
        self._ticker = Ticker(self._guarded(self._tick), TICK)
        self._rest = Timer(self._guarded(self._settle), REST)
        self._idle = Timer(self._guarded(self._measure_models), 1.0)
        self._replay = Replay(self.pad.drawing, self._changed)
        self._upload = Upload()
        self._file: tuple[bytes, str] | None = (
            None  # what has arrived and is not read yet, with its name
        )
        self._reading = Timer(self._guarded(self._read_photo), 0.05)
        self._refused = False  # whether a message from the page was, ever
        self._feedback = Feedback(self)
        self._build()

    @classmethod
    def open(cls, run: str | None = None, model: str | None = None) -> "App":
        """The app with a run's model, as ``Recognizer.load`` finds it. RecognizerError when it cannot be used."""
        return cls(Recognizer.load(run, model))

    # --- The page ---------------------------------------------------------------------------------------------------

    def show(self, *rows: Widget | tuple[Widget, ...]) -> None:
        """Put the pieces on the page, from top to bottom; those of a tuple stand side by side where there is room."""
        lines = [
            Box(row, _dom_classes=["digits-row"]) if isinstance(row, tuple) else row for row in rows
        ]
        display(Output(page.assets()), VBox([*lines, self._state], _dom_classes=["digits-app"]))

    def _build(self) -> None:
        self._state, self._marks, self._message = HTML(), HTML(), HTML()
        self._meaning, self._map, self._models = HTML(), HTML(), HTML()
        self.answer = _piece(HTML(page.answer(self.shown)), "digits-card", "digits-result")
        notes = _piece(VBox([HTML(page.sending()), self._message]), "digits-notes")
        surface = _piece(
            Box([self.pad.canvas, _piece(self._marks, "digits-marks"), HTML(page.hint()), notes]),
            "digits-pad",
        )
        self.header = HTML(page.header(_stand_in(self.records[0])))
        self.drawing = _piece(VBox([surface, HTML(page.toolbar())]), "digits-drawing")
        self.feedback = _piece(
            VBox([HTML(page.feedback()), _piece(self._feedback.note, "digits-told")]), "digits-card"
        )
        self.examples = _piece(HTML(page.examples(ink.examples())), "digits-card")
        self.why = _piece(VBox([HTML(page.why()), self._map]), "digits-card", "digits-reasons")
        self.threshold = _piece(
            VBox([HTML(page.threshold(self.limit)), self._meaning]), "digits-card"
        )
        self.upload = _piece(HTML(page.upload(LARGEST_FILE)), "digits-card")
        self.model = _piece(self._models, "digits-card")
        self._facts = HTML()
        self.footer = VBox([self._facts, HTML(page.keys())])
        self._show_model()
        self._show_meaning()
        self._show_state()

    def _show_state(self, answered: bool = False) -> None:
        """What the page's script goes by: which messages are dealt with, and how the controls stand. When an answer has
        just said the former, nothing is sent unless the latter changed."""
        drawing = self.pad.drawing
        controls = {
            "ink": bool(drawing.strokes),
            "photo": self._photo is not None,
            "brush": drawing.brush,
            "eraser": pad.eraser_width(drawing.brush),
            "tool": drawing.tool,
            "undo": drawing.can_undo,
            "redo": drawing.can_redo,
            "threshold": self.limit,
            "why": self._wants_why,
            "model": self.recognizer.name,
        }
        if not answered or controls != self._controls:
            self._controls = controls
            self._state.value = page.state(controls, self._seq)

    def _show_answer(self) -> None:
        self.answer.value = page.answer(self.shown, self._seq)
        brush = self.pad.drawing.brush
        self._marks.value = (
            page.preview(*self._photo) if self._photo else page.marks(self.shown, brush)
        )

    def _show_meaning(self) -> None:
        self._meaning.value = page.threshold_meaning(
            *meaning(self.records[1], self.limit, self.recognizer)
        )

    def _show_model(self) -> None:
        recognizer = self.recognizer
        self._models.value = page.models(_model_labels(recognizer, self._speeds), recognizer.name)
        self._facts.value = page.footer(_provenance(recognizer, self.records[0]))

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
        self._message.value = page.message(text, kind)

    # --- From ink to answer -----------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """The ink is another one: an answer is due."""
        if self._photo is not None:
            self._photo = self._read = None
        self._ticker.ask()

    def _tick(self) -> None:
        if not self.pad.drawing.is_open:  # until then the page's own ink is enough
            self.pad.draw()
        strokes = self.pad.drawing.strokes
        due = self._photo is None and strokes is not self._read
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
        part = self.shown.part
        if not self._wants_why:
            self._map.value = ""
        elif part is None or part.prediction.digit is None:
            self._map.value = page.explanation(None)
        else:
            prediction = part.prediction
            self._map.value = page.explanation(
                occlusion.occlusion_map(self.recognizer.model, prediction.image, prediction.digit)
            )

    # --- What arrives from the page ---------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        """A page shows the pad (perhaps another one than before: a reload)."""
        self._guarded(self._tick)()
        if not self._speeds:
            self._idle.ask()

    def _receive(self, seq: int | None, operations: list[tuple] | Exception) -> None:
        if isinstance(operations, Exception):
            if not self._refused:  # said once: a flood must not fill the log
                _log.warning("A message from the page was refused: %s", operations)
            self._refused = True
            self._say(
                "Something arrived that the pad does not understand. Reload the page if it goes on.",
                "error",
            )
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
                    f"Something went wrong here ({type(error).__name__}). Clear the pad and try again; if it "
                    "stays, reload the page.",
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
        self._show_answer()

    def _do_part(self, index: int) -> None:
        if index < len(self.shown.parts):
            self._answer_is(self.shown.choosing(index))

    def _do_threshold(self, value: float) -> None:
        self.limit = value
        self.shown = self.shown.judged(value)
        self._show_answer()
        self._show_meaning()

    def _do_model(self, name: str) -> None:
        current = self.recognizer
        if name != current.name and name in available(current.run):
            self.recognizer = Recognizer.load(current.run, name)
            self._show_model()
            self._show_meaning()
            self._again()

    def _again(self) -> None:
        """Read once more what is shown."""
        if self._photo is None:
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
        (content, name), self._file = self._file, None
        answer = self.recognizer.read_photo(content, name)
        self._replay.finish()
        self.pad.drawing.replace(())
        self.pad.draw()
        self._photo = answer.preview, name
        self._say("")
        self._answer_is(answer)
        self._show_state()

    # --- Models -----------------------------------------------------------------------------------------------------

    def _measure_models(self) -> None:
        """How long each of the run's models takes here."""
        current = self.recognizer
        self._speeds = {name: _speed(current.run, name) for name in available(current.run)}
        self._show_model()


# --- What the app consists of ---------------------------------------------------------------------------------------


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
        """Take the next piece, Base64; returns the file when it is whole. UploadError when it cannot become one."""
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
        self.note = HTML(page.promise(False))
        self._app, self._agreed, self._count = app, False, 0
        self._store: Store | None = None
        self._pending: tuple[str, int | None, Part] | None = (
            None  # verdict, label and what they are about
        )

    def give(self, verdict: str, label: int | None) -> None:
        """Right or wrong, about the part that is looked at; asks first when the visitor has not agreed yet."""
        part = self._app.shown.part
        if part is None or part.prediction.digit is None:
            self.note.value = page.message("No answer yet: draw something first.")
            return
        if label == part.prediction.digit:  # "it was a 7" of an answer that guessed 7
            verdict = "right"
        self._pending = verdict, label, part
        if self._agreed:
            self._keep()
        else:
            from digits.app.feedback import describe

            self.note.value = page.consent(describe())

    def answer(self, agreed: bool) -> None:
        """The visitor agreed, or did not."""
        self._agreed = agreed
        if not agreed:
            self._pending = None
            self.note.value = page.message("Nothing was kept.")
        elif self._pending:
            self._keep()

    def forget(self) -> None:
        """Another answer is shown: what was said of the last one is done with."""
        self._pending = None
        self.note.value = page.promise(self._agreed)

    def _keep(self) -> None:
        (verdict, label, part), self._pending = self._pending, None
        self._count += 1
        if self._count > MOST_VERDICTS:
            self.note.value = page.message("That is all that can be kept of one visit. Thank you.")
            return
        self.note.value = page.message("Keeping it …")
        values = {"verdict": verdict, "label": label, **_kept(part), **self._app.origin()}
        done = asyncio.get_running_loop().run_in_executor(None, self._add, values)
        done.add_done_callback(self._app._guarded(self._tell))

    def _add(self, values: dict) -> None:
        """In a thread of its own: a database that is busy or gone must not stop the drawing."""
        from digits.app.feedback import Store  # SQLAlchemy: 12 MB that many visitors never need

        self._store = self._store or Store.open()
        self._store.add(**values)

    def _tell(self, done: asyncio.Future) -> None:
        from digits.app.feedback import FeedbackError

        try:
            done.result()
        except FeedbackError as error:
            self.note.value = page.message(str(error), "error")
        else:
            self.note.value = page.message("Thank you. It is kept.")


def _kept(part: Part) -> dict:
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


# --- What is known about the run ------------------------------------------------------------------------------------


def meaning(
    metrics: dict, threshold: float, recognizer: Recognizer
) -> tuple[float | None, float | None, int]:
    """Of digits drawn by people: the share that is answered at ``threshold``, the share of those that is right, and n.

    From what was recorded about pen digits of unseen writers, by 03_evaluation with the float32 model and by
    04_optimization with the chosen one: a table of thresholds, or at least the calibrated one. (None, None, 0) where the
    run has not measured it.
    """
    choice = metrics.get("04_optimization", {}).get("chosen") or {}
    measured = {
        choice.get("name"): choice.get("pen"),
        "float32": metrics.get("03_evaluation", {}).get("pen"),
    }.get(recognizer.name) or {}
    n, table, point = measured.get("n", 0), measured.get("thresholds"), measured.get("selective")
    if table:
        return *(
            float(np.interp(threshold, table["threshold"], table[name]))
            for name in ("answered", "right")
        ), n
    if point and abs(threshold - recognizer.calibration.accept_confidence) < 0.005:
        return point["answered"]["share"], point["right"]["share"], n
    return None, None, 0


def _run_records(run: str) -> tuple[dict, dict]:
    """``run.json`` and ``metrics.json`` of a run; {} for what is missing or damaged."""
    folder = paths.run_folder(run)
    found = []
    for name in ("run.json", "metrics.json"):
        try:
            found.append(records.read_json(folder / name))
        except (records.RunError, OSError, RecursionError) as error:
            _log.warning("%s", error)
            found.append({})
    return found[0], found[1]


def _stand_in(record: dict) -> str:
    """A warning when the network did not learn from MNIST; "" when it did."""
    name = record.get("dataset", {}).get("name", "mnist")
    return (
        ""
        if name == "mnist"
        else (
            "This network learned from scikit-learn's small stand-in for MNIST, because MNIST could not be had. It errs "
            "more."
        )
    )


def _model_labels(recognizer: Recognizer, speeds: dict[str, str]) -> dict[str, str]:
    """Each model of the run with its size and, when measured, how long it takes."""
    labels = {}
    for name in available(recognizer.run):
        path = paths.run_folder(recognizer.run) / "models" / f"{name}.tflite"
        size = f"{path.stat().st_size / 1000:.0f} kB"
        labels[name] = " · ".join(filter(None, (name, size, speeds.get(name))))
    return labels


def _speed(run: str, name: str, times: int = 25) -> str:
    """The median time of one inference, in words."""
    try:
        model = Recognizer.load(run, name).model
    except RecognizerError:
        return "cannot be used"
    image, taken = np.zeros((28, 28), np.float32), []
    for _ in range(times):
        started = time.perf_counter()
        model.logits(image)
        taken.append(time.perf_counter() - started)
    return f"{1000 * float(np.median(taken)):.2f} ms here"


def _provenance(recognizer: Recognizer, record: dict) -> dict[str, str]:
    """Where the answers come from."""
    commit = (record.get("code") or {}).get("commit")
    return {
        "Run": recognizer.run,
        "Commit": commit[:10] if commit else "not recorded",
        "Model": f"{recognizer.name}, SHA-256 {recognizer.sha256[:12]}",
        "App": VERSION,
    }


def _piece(widget: Widget, *classes: str) -> Widget:
    for name in classes:
        widget.add_class(name)
    return widget

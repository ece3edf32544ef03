"""The drawing pad: what a pen did, checked and kept in the kernel, shown on an ipycanvas.

``Drawing`` is the ink with its history, ``parse`` is the gate for whatever arrives from the page,
``Pad`` is the widget. The page's script (``static/app.js``) shows ink at once and reports it
through ipycanvas's own key event, whose ``key`` is a free text: one JSON message holds all that
happened since the last one, in order.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ipycanvas import Canvas, hold_canvas

from digits.recognizer import ink

SIZE = ink.CANVAS  # the unit of every coordinate here: pixels of a canvas of this height
WIDTH = ink.WIDEST * SIZE  # of the canvas; the page shows its left half until somebody wants more
SCALE = 3  # the shown canvas has so many pixels for each of those: crisp on a HiDPI screen
BRUSHES = 8, 40  # the thinnest and the thickest pen
MAX_POINTS, MAX_STROKES = 5000, 200  # of a drawing: more than a minute of drawing without a break
MAX_HISTORY = 100  # steps that can be undone
MAX_MESSAGE = 400_000  # characters; the longest is one piece of an uploaded file
MAX_OPERATIONS = 20  # in one message; a page sends a handful, each may take an answer's time
TOOLS = "pen", "eraser"
CHANGES = "down", "move", "undo", "redo", "clear", "put"  # operations that are methods of Drawing
COLOUR = "#15181c"  # of the ink, as in app.css; the style sheet inverts it in the dark


class MessageError(ValueError):
    """What arrived from the page is not what the page's script sends."""


class PadFull(Exception):
    """The drawing has as many points or strokes as it may have; the message is for the visitor."""


# --- The ink and its history ----------------------------------------------------------------------


@dataclass
class Drawing:
    """Strokes in canvas pixels, y downwards, never changed in place, with undo and redo."""

    strokes: tuple[np.ndarray, ...] = ()  # (n, 2) float each, in the order in which they were drawn
    brush: float = 14.0  # pixels; only how ink looks: it is read with an even pen
    tool: str = "pen"
    past: list = field(default_factory=list)  # what can be undone
    future: list = field(default_factory=list)  # what was undone
    _open: bool = False  # whether the last of ``strokes`` is still being drawn
    _eraser: np.ndarray | None = None  # where the eraser was last, while it is down

    @property
    def is_open(self) -> bool:
        """Whether the pen or the eraser is down."""
        return self._open or self._eraser is not None

    @property
    def finished(self) -> tuple[np.ndarray, ...]:
        """The strokes whose pen has left the pad."""
        return self.strokes[:-1] if self._open else self.strokes

    def down(self, x: float, y: float, tool: str | None = None) -> None:
        """The chosen tool, or ``tool``, touches the pad; PadFull when the drawing has no room."""
        self.up()
        if (tool or self.tool) == "eraser":
            self._remember()
            self._eraser = _inside([(x, y)])
            self._erase(self._eraser)
            return
        self._check_room(1, new_stroke=True)
        self._remember()
        self._open = True
        self.strokes += (_inside([(x, y)]),)

    def move(self, points: Sequence[tuple[float, float]]) -> None:
        """The pen moves while it is down; nothing happens while it is up."""
        points = _inside(points)
        if self._eraser is not None and len(points):
            self._erase(np.concatenate([self._eraser, points]))
            self._eraser = points[-1:]
        elif self._open and len(points):
            self._check_room(len(points))
            self.strokes = (*self.strokes[:-1], np.concatenate([self.strokes[-1], points]))

    def up(self) -> None:
        """The pen leaves the pad."""
        self._open, self._eraser = False, None

    def clear(self) -> None:
        """Take all ink away."""
        self.put(True, ())

    def put(self, remember: bool, strokes: Sequence) -> None:
        """Other strokes instead of these; a step for undo if it is to be remembered."""
        self.up()
        if remember and (self.strokes or strokes):
            self._remember()
        self.strokes = tuple(_inside(stroke) for stroke in strokes)

    def undo(self) -> None:
        """Back one step."""
        self._step(self.past, self.future)

    def redo(self) -> None:
        """Forward again."""
        self._step(self.future, self.past)

    def _step(self, source: list, target: list) -> None:
        self.up()
        if source:
            target.append(self.strokes)
            self.strokes = source.pop()

    def _remember(self) -> None:
        self.past = [*self.past[1 - MAX_HISTORY :], self.strokes]
        self.future = []

    def _check_room(self, points: int, new_stroke: bool = False) -> None:
        has = sum(map(len, self.strokes))
        if has + points > MAX_POINTS or len(self.strokes) + new_stroke > MAX_STROKES:
            self.up()
            raise PadFull("The pad is full. Undo a stroke or clear it to go on drawing.")

    def _erase(self, path: np.ndarray) -> None:
        rubbed = ink.rasterize([path], SIZE, eraser_width(self.brush), WIDTH)
        left = tuple(piece for stroke in self.strokes for piece in cut(stroke, rubbed))
        if sum(map(len, left)) > MAX_POINTS or len(left) > 2 * MAX_STROKES:
            raise PadFull("This is too intricate for the eraser. Undo a stroke or clear the pad.")
        if list(map(id, left)) != list(map(id, self.strokes)):
            self.strokes = left


def eraser_width(brush: float) -> float:
    """The eraser is somewhat wider than the pen, never too small to hit with."""
    return max(1.6 * brush, 24)


def cut(stroke: np.ndarray, rubbed: np.ndarray) -> list[np.ndarray]:
    """The stroke itself, or what is left of it, (n, 2) each, where ``rubbed`` (H, W) is 0."""
    # Points along it at most two pixels apart; whole positions are the stroke's own points.
    count = np.maximum(np.ceil(np.hypot(*np.diff(stroke, axis=0).T) / 2), 1).astype(int)
    between = [i + np.arange(n) / n for i, n in enumerate(count)]
    position = np.concatenate([*between, [len(stroke) - 1.0]])
    own = np.arange(len(stroke))
    fine = np.stack([np.interp(position, own, stroke[:, axis]) for axis in (0, 1)], axis=1)
    column, row = np.minimum(fine.astype(int), (WIDTH - 1, SIZE - 1)).T
    kept = rubbed[row, column] == 0
    if kept.all():
        return [stroke]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]])))
    corner = (position % 1 == 0) & kept  # of the points between, only the ends of a piece count
    corner[edges[::2]] = corner[edges[1::2] - 1] = True
    spans = zip(edges[::2], edges[1::2], strict=True)
    pieces = [fine[begin:end][corner[begin:end]] for begin, end in spans]
    return [piece for piece in pieces if len(piece) > 1]  # a single point would be a speck


def _inside(points: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """(n, 2) float with what lies outside the pad taken at its edge."""
    return np.clip(np.asarray(points, float).reshape(-1, 2), 0, (WIDTH, SIZE))


# --- What may arrive from the page ----------------------------------------------------------------


def _number(low: float, high: float) -> Callable:
    def check(value):
        # isfinite cannot bear whole numbers of 400 digits
        if type(value) not in (int, float) or not abs(value) < math.inf:
            raise MessageError("not a number")
        return float(min(max(value, low), high))

    return check


def _whole(low: int, high: int) -> Callable:
    def check(value):
        if type(value) is not int or not low <= value <= high:
            raise MessageError(f"not a whole number from {low} to {high}")
        return value

    return check


def _choice(*values: object) -> Callable:
    def check(value):
        if not any(type(value) is type(one) and value == one for one in values):
            raise MessageError("not one of the choices")
        return value

    return check


def _text(longest: int) -> Callable:
    def check(value):
        if not isinstance(value, str) or len(value) > longest:
            raise MessageError(f"not a text of at most {longest} characters")
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else "?" for c in value)  # lone surrogates, turns

    return check


_coordinate = _number(-10 * SIZE, 10 * SIZE)
_switch = _choice(True, False)
OPERATIONS: dict[str, tuple[Callable, ...]] = {  # name: a check for each argument
    "hello": (),  # a page is there
    "ping": (),
    "down": (_coordinate, _coordinate, _choice(None, *TOOLS)),
    "move": (),  # and any number of pairs of coordinates
    "up": (),
    "undo": (),
    "redo": (),
    "clear": (),
    "put": (_switch,),  # a step for undo; and strokes, each a list of such pairs
    "tool": (_choice(*TOOLS),),
    "brush": (_number(*BRUSHES),),
    "part": (_whole(0, MAX_STROKES),),
    "drop": (_whole(0, MAX_STROKES),),
    "threshold": (_number(0, 1),),
    "model": (_text(64),),
    "why": (_switch,),
    "verdict": (_choice("right", "wrong", "all"), _choice(None, *range(10))),
    "consent": (_switch,),
    # name, size, offset, Base64, whether it was turned by hand
    "file": (_text(200), _whole(0, 1 << 40), _whole(0, 1 << 40), _text(MAX_MESSAGE), _switch),
}


def parse(text: str) -> tuple[int, list[tuple]]:
    """The number and the operations of one message: ``(12, [("down", 10.0, 20.0, None), ("move",
    [(11.0, 22.0)])])``.

    Coordinates are finite, in canvas pixels. MessageError for what the page's script never sends.
    """
    if not isinstance(text, str) or len(text) > MAX_MESSAGE:
        raise MessageError("too long")
    try:
        message = json.loads(text)
        number, operations = message["seq"], message["ops"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MessageError("no message") from None
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        raise MessageError("not a list of operations")
    return _whole(0, 1 << 53)(number), [_operation(operation) for operation in operations]


def _operation(operation: object) -> tuple:
    if not isinstance(operation, list) or not operation or not isinstance(operation[0], str):
        raise MessageError("not an operation")
    name, *arguments = operation
    if name == "move":
        return name, _points(arguments)
    strokes: list = []
    if name == "put":
        arguments, strokes = arguments[:1], [[_points(one) for one in arguments[1:]]]
        fits = len(strokes[0]) <= 2 * MAX_STROKES and sum(map(len, strokes[0])) <= MAX_POINTS
        if not fits or not all(strokes[0]):
            raise MessageError("no strokes, or more than the pad holds")
    if name not in OPERATIONS or len(arguments) != len(OPERATIONS[name]):
        raise MessageError("an unknown operation")
    checks = zip(OPERATIONS[name], arguments, strict=True)
    return name, *(check(value) for check, value in checks), *strokes


def _points(values: object) -> list[tuple[float, float]]:
    if not isinstance(values, list) or len(values) % 2 or len(values) > 2 * MAX_POINTS:
        raise MessageError("not pairs of coordinates")
    values = list(map(_coordinate, values))
    return list(zip(values[::2], values[1::2], strict=True))


# --- The widget -----------------------------------------------------------------------------------


class _Surface(Canvas):
    """A canvas that hears nothing but what the page's script has it say."""

    def _handle_frontend_event(self, _, content: object, buffers: object) -> None:
        if not isinstance(content, dict):
            return
        event = content.get("event")
        if event == "client_ready":
            self._client_ready_callbacks()
        elif event == "key_down" and isinstance(content.get("key"), str):
            self._key_down_callbacks(content["key"])


class Pad:
    """An ipycanvas that shows a ``Drawing`` and hands on what the page's script reports.

    ``receive`` gets each message, for ``parse``; ``ready`` is called when a page shows the canvas.
    """

    def __init__(self, receive: Callable, ready: Callable):
        self.drawing = Drawing()
        self.canvas = _Surface(width=WIDTH * SCALE, height=SIZE * SCALE)
        self._shown: tuple[np.ndarray, ...] = ()  # the strokes as they were last drawn
        self._ready = ready
        self.canvas.on_key_down(receive)
        self.canvas.on_client_ready(self._on_ready)

    def draw(self, again: bool = False) -> None:
        """Bring the canvas up to date, or draw everything again."""
        strokes, canvas = self.drawing.strokes, self.canvas
        if strokes is self._shown and not again:
            return
        canvas.line_width = self.drawing.brush * SCALE
        with hold_canvas():
            canvas.clear()
            for points in (stroke * SCALE for stroke in strokes):
                if len(points) == 1:
                    canvas.fill_circle(*points[0].tolist(), canvas.line_width / 2)
                else:
                    canvas.stroke_lines(points)
        self._shown = strokes

    def _on_ready(self) -> None:
        # A page that was loaded anew (JupyterLab keeps the kernel) was never told which canvas is
        # meant, and the first command that ipycanvas's script cannot carry out is its last.
        self.canvas._canvas_manager._current_canvas = None
        with hold_canvas():
            self.canvas.line_cap = self.canvas.line_join = "round"
            self.canvas.fill_style = self.canvas.stroke_style = COLOUR
        self.draw(again=True)
        self._ready()

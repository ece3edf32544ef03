"""What happens to ink, messages, files and numbers in the kernel, without a browser."""

import asyncio
import base64
import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from digits.app import kernel, pad
from digits.app.app import App, Ticker, Upload, meaning, reasons
from digits.app.feedback import URL_VARIABLE, Store
from digits.recognizer import Answer, Part, PhotoError, Prediction, Recognizer, ink
from digits.recognizer.occlusion import occlusion_map

ONE = np.array([(140.0, y) for y in range(40, 241, 5)])
SEVEN = np.array([(80, 60), (140, 60), (200, 60), (170, 130), (140, 220)], float)


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


# --- Ink ------------------------------------------------------------------------------------------------------------


def drawn(*strokes):
    drawing = pad.Drawing()
    for stroke in strokes:
        drawing.down(*stroke[0])
        drawing.move(stroke[1:])
        drawing.up()
    return drawing


def test_strokes_are_kept_as_they_were_drawn():
    drawing = drawn(ONE, SEVEN)
    assert np.array_equal(drawing.strokes[0], ONE) and np.array_equal(drawing.strokes[1], SEVEN)
    assert sum(map(len, drawing.strokes)) == len(ONE) + len(SEVEN)


def test_what_lies_outside_is_taken_at_the_edge():
    assert np.array_equal(drawn([(-50, 10), (600, 300)]).strokes[0], [(0, 10), (560, 280)])


def test_undo_and_redo_go_step_by_step_and_new_ink_ends_redo():
    drawing = drawn(ONE, SEVEN)
    drawing.clear()
    drawing.undo()
    assert len(drawing.strokes) == 2
    drawing.undo()
    assert len(drawing.strokes) == 1 and bool(drawing.future)
    drawing.redo()
    assert len(drawing.strokes) == 2
    drawing.undo()
    drawing.down(1, 1)
    assert not bool(drawing.future)
    for _ in range(10):
        drawing.undo()
    assert not drawing.strokes and not bool(drawing.past)


def test_moves_without_a_pen_on_the_pad_do_nothing():
    drawing = pad.Drawing()
    drawing.move([(10, 10)])
    assert not drawing.strokes


def test_the_eraser_cuts_a_stroke_in_two_and_is_one_step():
    drawing = drawn(ONE)
    drawing.tool = "eraser"
    drawing.down(100, 140)
    drawing.move([(140, 140), (180, 140)])
    drawing.up()
    above, below = drawing.strokes
    width = pad.eraser_width(drawing.brush)
    assert above[-1, 1] == pytest.approx(140 - width / 2, abs=3)
    assert below[0, 1] == pytest.approx(140 + width / 2, abs=3)
    assert above[0, 1] == 40 and below[-1, 1] == 240
    drawing.undo()
    assert np.array_equal(drawing.strokes[0], ONE)


def test_the_eraser_leaves_what_it_does_not_touch():
    drawing = drawn(ONE)
    before = drawing.strokes
    drawing.down(20, 20, "eraser")
    assert drawing.strokes is before


def test_a_full_pad_says_so_and_keeps_what_it_has():
    drawing = pad.Drawing()
    drawing.down(1, 1)
    drawing.move([(2, 2)] * (pad.MAX_POINTS - 1))
    with pytest.raises(pad.PadFull, match="full"):
        drawing.move([(3, 3)])
    assert sum(map(len, drawing.strokes)) == pad.MAX_POINTS
    many = drawn(*[[(1, 1)]] * pad.MAX_STROKES)
    with pytest.raises(pad.PadFull):
        many.down(1, 1)


# --- Messages -------------------------------------------------------------------------------------------------------


def message(*operations, seq=1):
    return json.dumps({"seq": seq, "ops": operations})


def test_a_message_is_understood():
    assert pad.parse(
        message(["down", 1, 2.5, None], ["move", 3, 4, 5, 6], ["up"], ["undo"], seq=7)
    ) == (7, [("down", 1, 2.5, None), ("move", [(3, 4), (5, 6)]), ("up",), ("undo",)])


@pytest.mark.parametrize("text", [
    "", "[", "[]", "{}", "null", '"x"', "1", '{"seq": 1, "ops": 5}', "x" * 500_000, "[" * 100_000,
    '{"seq": 1, "ops": [["move", NaN, 1]]}', '{"seq": 1, "ops": [["move", 1, Infinity]]}',
    '{"seq": 1, "ops": [["brush", 1e999]]}', message(["up"], seq=-1), message(["up"], seq="1"),
    message(*[["up"]] * 501),
    message("down"), message([]), message([["down"]]), message(["fly"]), message(["_tick"]), message(["__init__"]),
    message(["down", 1, 2]), message(["down", "1", 2, None]), message(["down", True, 2, None]),
    message(["down", None, 2, None]), message(["down", 1, 2, "axe"]), message(["move", 1]), message(["move", 1, [2]]),
    message(["move", *[1] * 20_000]), message(["verdict", "wrong", 10]), message(["verdict", "maybe", None]),
    message(["verdict", "wrong", True]), message(["threshold", "0.5"]), message(["model", "x" * 65]),
    message(["model", 3]), message(["file", "a", 1, 0, 5, False]), message(["file", "a", -1, 0, "", False]), message(["part", -1]),
    message(["why", 1]),
])  # fmt: skip
def test_what_the_page_does_not_send_is_refused(text):
    with pytest.raises(pad.MessageError):
        pad.parse(text)


def test_numbers_out_of_range_are_brought_into_it():
    (_, x, y, _), (_, brush) = pad.parse(message(["down", 1e300, -1e300, None], ["brush", 1000]))[1]
    assert abs(x) <= 10 * pad.SIZE and abs(y) <= 10 * pad.SIZE and brush == pad.BRUSHES[1]


# --- The app without a page -----------------------------------------------------------------------------------------


def run_app(recognizer, *messages, wait=0.25):
    """The app after these messages, each a list of operations."""

    async def play():
        app = App(recognizer)
        for seq, operations in enumerate(messages, 1):
            app._receive(message(*operations, seq=seq))
            await asyncio.sleep(0.01)
        await asyncio.sleep(wait)
        return app

    return asyncio.run(play())


def stroke(points):
    return [["down", *points[0].tolist(), None], ["move", *points[1:].ravel().tolist()], ["up"]]


def told(app, kind):
    """What the page was last told."""
    widget = {"reading": app._answer, "state": app._state, "kept": app._ink}[kind]
    return json.loads(html.unescape(re.search(rf'data-{kind}="([^"]*)"', widget.value)[1]))


def data(app):
    answer = told(app, "reading")
    return answer | (answer["parts"][answer["chosen"]] if answer["parts"] else {})


def state(app):
    """How the controls stand, and the last message that was dealt with."""
    return told(app, "state") | {
        "seq": max(told(app, kind)["seq"] for kind in ("state", "reading"))
    }


def test_ink_becomes_an_answer(recognizer):
    app = run_app(recognizer, stroke(ONE))
    wanted = recognizer.predict_strokes([ONE])
    assert data(app)["digit"] == wanted.digit == 1 and data(app)["points"] == len(ONE)
    assert told(app, "reading")["text"] == "1" and data(app)["confidence"] == wanted.confidence
    assert state(app)["seq"] == 1 and state(app)["undo"] and not state(app)["redo"]


def test_a_move_of_the_pen_is_answered_in_one_piece(recognizer):
    """The answer says which message it is based on; how the controls stand is sent again only when it changed."""

    async def play():
        app, sent = App(recognizer), []
        for name in ("_answer", "_state", "_picture"):
            getattr(app, name).observe(lambda change, name=name: sent.append(name), "value")
        app._receive(message(["down", *ONE[0].tolist(), None], seq=1))
        await asyncio.sleep(0.1)
        first = list(sent)
        app._receive(message(["move", *ONE[1:].ravel().tolist()], seq=2))
        await asyncio.sleep(0.1)
        return app, first, sent[len(first) :]

    app, first, then = asyncio.run(play())
    assert sorted(first) == ["_answer", "_state"] and then == ["_answer"]
    assert data(app)["seq"] == 2 and data(app)["points"] == len(ONE) and state(app)["ink"]


def test_every_operation_has_its_method():
    assert all(
        hasattr(pad.Drawing, name) if name in pad.CHANGES else hasattr(App, f"_do_{name}")
        for name in pad.OPERATIONS
    )


def test_a_forged_message_is_refused_in_words_and_the_app_goes_on(recognizer):
    async def play():
        app = App(recognizer)
        app._receive("{")
        note = told(app, "state")["note"]
        app._receive(message(*stroke(ONE)))
        await asyncio.sleep(0.2)
        return app, note

    app, note = asyncio.run(play())
    assert note["kind"] == "error" and data(app)["digit"] == 1


def test_a_failure_is_shown_and_does_not_pass_for_a_dead_kernel(recognizer, monkeypatch):
    monkeypatch.setattr(Recognizer, "read_strokes", lambda *_: 1 / 0)
    app = run_app(recognizer, stroke(ONE))
    assert "ZeroDivisionError" in state(app)["note"]["text"] and state(app)["seq"] == 1


def test_the_threshold_withholds_an_answer_but_shows_the_guess(recognizer):
    sure = recognizer.predict_strokes([SEVEN]).confidence
    app = run_app(recognizer, stroke(SEVEN), [["threshold", 1.0]])
    if sure < 1:
        assert data(app)["reason"] == "unsure"
    assert data(app)["digit"] == 7


def test_strokes_can_be_put_on_the_pad_and_taken_back_in_one_step(recognizer):
    example = next(one for one in ink.examples() if one.expected == "5")
    flat = [one.round(1).ravel().tolist() for one in example.strokes]
    first, rest = ["put", True, flat[0][:2]], ["put", False, *flat]
    app = run_app(recognizer, stroke(ONE), [first], [rest])
    assert data(app)["text"] == "5" and data(app)["points"] == sum(map(len, example.strokes))
    app = run_app(recognizer, stroke(ONE), [first], [rest], [["undo"]])
    assert data(app)["text"] == "1" and state(app)["redo"]


def test_the_page_is_told_the_ink_when_the_pen_rests(recognizer):
    app = run_app(recognizer, stroke(ONE), wait=0.6)
    assert told(app, "kept") == {"seq": 1, "strokes": [ONE.ravel().tolist()]}


def test_unknown_models_and_parts_change_nothing(recognizer):
    app = run_app(recognizer, stroke(ONE), [["model", "../x"], ["part", 9]])
    assert data(app)["digit"] == 1 and app.recognizer.name == recognizer.name


def test_a_page_that_comes_back_gets_the_ink_again(recognizer, monkeypatch):
    lines = []
    monkeypatch.setattr(pad._Surface, "stroke_lines", lambda _, points: lines.append(len(points)))

    async def play():
        app = App(recognizer)
        app._receive(message(*stroke(ONE)))
        await asyncio.sleep(0.1)
        lines.clear()
        app.pad._on_ready()
        await asyncio.sleep(0.1)

    asyncio.run(play())
    assert sum(lines) == len(ONE)


@pytest.mark.parametrize("how, words", [("damaged", "damaged"), ("read-only", "read-only")])
def test_a_bad_database_never_stops_drawing(recognizer, tmp_path, monkeypatch, how, words):
    file = tmp_path / "feedback.sqlite3"
    url = f"sqlite:///file:{file}?mode=ro&uri=true" if how == "read-only" else f"sqlite:///{file}"
    if how == "damaged":
        file.write_bytes(b"this is no database" * 100)
    else:
        Store.open(f"sqlite:///{file}")
    monkeypatch.setenv(URL_VARIABLE, url)
    before, verdict = file.read_bytes(), [["verdict", "right", None], ["consent", True]]

    async def play():
        app = App(recognizer)
        app._receive(message(*stroke(SEVEN), seq=1))
        await asyncio.sleep(0.1)
        app._receive(message(*verdict, seq=2))
        while "Keeping" in told(app, "state")["told"]["text"]:
            await asyncio.sleep(0.02)
        said = told(app, "state")["told"]
        app._receive(message(["clear"], *stroke(ONE), seq=3))
        await asyncio.sleep(0.2)
        return app, said

    app, said = asyncio.run(play())
    assert said["kind"] == "error" and words in said["text"]
    assert data(app)["text"] == "1" and file.read_bytes() == before


# --- Reading --------------------------------------------------------------------------------------------------------


def prediction(confidence=0.9, reason="", digit=3):
    return Prediction(
        digit, confidence, np.full(10, 0.1), not reason, reason, np.zeros((28, 28), np.float32)
    )


def test_the_visitor_s_threshold_is_the_one_that_counts():
    shown = Answer(tuple(map(Part, (prediction(0.5, "unsure"), prediction(0.9)))))
    assert shown.judged(0.4).reason == "" and shown.judged(0.95).reason == "unsure"
    assert Answer((Part(prediction(0.9, "not a digit")),)).judged(0).reason == "not a digit"


def test_several_digits_are_read_and_the_last_one_is_looked_at(recognizer):
    answer = recognizer.read_strokes([ONE * 0.4 + (150, 60), ONE * 0.4 + (20, 60)])
    assert answer.text == "11" and answer.chosen == 0 and answer.points == 2 * len(ONE)


def test_the_map_finds_what_speaks_for_an_answer(recognizer):
    image = recognizer.predict_strokes([SEVEN]).image
    found = occlusion_map(recognizer.model, image, 7)
    assert (
        found.effect.shape == (28, 28)
        and found.effect.max() > 0
        and not found.effect[image == 0].any()
    )
    assert reasons(found)["for"] == found.region(1) != ""
    against = occlusion_map(recognizer.model, image, 2)
    assert against.effect.sum() < found.effect.sum()


# --- Files and numbers ----------------------------------------------------------------------------------------------


def pieces(content, size=1000):
    return [
        (len(content), offset, base64.b64encode(content[offset : offset + size]).decode())
        for offset in range(0, max(len(content), 1), size)
    ]


def test_a_file_is_put_together():
    content, upload = bytes(range(256)) * 10, Upload()
    *first, last = [upload.add("a.png", *piece) for piece in pieces(content)]
    assert first == [None, None] and last == content
    assert upload.add("empty", 0, 0, "") == b""


def test_files_that_cannot_be_are_refused():
    upload, parts = Upload(limit=5000), pieces(b"x" * 3000)
    with pytest.raises(PhotoError, match="at most"):
        upload.add("big", 5001, 0, "")
    upload.add("a", *parts[0])
    with pytest.raises(PhotoError, match="one piece"):
        upload.add("a", *parts[2])
    with pytest.raises(PhotoError, match="one piece"):
        upload.add("b", *parts[1])
    with pytest.raises(PhotoError, match="damaged"):
        upload.add("a", 10, 0, "&&&&")
    with pytest.raises(PhotoError, match="longer"):
        upload.add("a", 1, 0, base64.b64encode(b"xx").decode())


def test_what_a_threshold_means_comes_from_the_run(recognizer):
    table = {"threshold": [0.0, 0.5, 1.0], "answered": [1.0, 0.9, 0.0], "right": [0.97, 0.99, 1.0]}
    metrics = {"03_evaluation": {"pen": {"n": 3498, "thresholds": table}}}
    exact = SimpleNamespace(name="float32", calibration=recognizer.calibration)
    assert meaning(metrics, 0.25, exact) == [pytest.approx(0.95), pytest.approx(0.98), 3498]
    other = SimpleNamespace(name="int8", calibration=recognizer.calibration)
    assert meaning(metrics, 0.25, other) is None  # measured with float32
    picked = {"name": "int8", "pen": {"n": 7, "thresholds": table | {"right": [0.5, 0.7, 1.0]}}}
    metrics |= {"04_optimization": {"chosen": picked}}
    assert meaning(metrics, 0.25, other) == [pytest.approx(0.95), pytest.approx(0.6), 7]
    assert meaning(metrics, 0.25, exact)[2] == 3498
    assert meaning({"03_evaluation": {"pen": None}}, 0.5, recognizer) is None


# --- Time -----------------------------------------------------------------------------------------------------------


def test_a_ticker_answers_at_once_and_then_not_too_often():
    calls = []

    async def play():
        loop = asyncio.get_running_loop()
        ticker, started = Ticker(lambda: calls.append(loop.time()), 0.05), loop.time()
        for _ in range(100):
            ticker.ask()
            await asyncio.sleep(0.002)
        took = loop.time() - started
        await asyncio.sleep(0.1)
        assert not ticker.due
        return took

    took = asyncio.run(play())
    assert 4 <= len(calls) <= took / 0.05 + 2 and np.diff(calls).min() > 0.045


def test_a_ticker_survives_work_that_fails():
    calls = []

    async def play():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        ticker = Ticker(lambda: calls.append(1) or 1 / 0, 0.01)
        for _ in range(2):
            ticker.ask()
            await asyncio.sleep(0.05)

    asyncio.run(play())
    assert len(calls) == 2


def test_what_is_asked_for_again_is_done_once(recognizer):
    calls = []

    async def play():
        app = App(recognizer)
        for number in range(5):
            app._later(0.05, calls.append, number)
        await asyncio.sleep(0.2)

    asyncio.run(play())
    assert calls == [4]


# --- The server's kernel -------------------------------------------------------------------------------------


def test_the_kernel_speaks_only_when_there_is_something_to_say(monkeypatch):
    flushed, published = [], []
    monkeypatch.setattr(kernel.OutStream, "__init__", lambda self: None)
    monkeypatch.setattr(kernel.OutStream, "write", lambda self, string: len(string))
    monkeypatch.setattr(kernel.OutStream, "flush", lambda self: flushed.append(True))
    stream = kernel.Stream()
    stream.flush()
    assert stream.write("text") == 4 and not flushed
    stream.flush()
    stream.flush()
    assert len(flushed) == 1
    monkeypatch.setattr(
        kernel.IPythonKernel, "_publish_status", lambda self, *told: published.append(told[0])
    )
    quick = kernel.Kernel.__new__(kernel.Kernel)
    for kind in ("comm_msg", "execute_request"):
        for status in ("busy", "idle"):
            quick._publish_status(status, "shell", {"header": {"msg_type": kind}})
    assert published == ["idle", "busy", "idle"]

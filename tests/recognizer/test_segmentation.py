"""Several digits across the pad: grouping by geometry, reading with the published model, odd ink."""

import time
import tracemalloc

import numpy as np
import pytest

from digits.recognizer import Answer, Recognizer, ink, segmentation

EXAMPLES = {example.name: example for example in ink.examples()}
SINGLES = [example for example in ink.examples() if len(example.expected or "") == 1]
ONE = np.array([(0.0, 0), (0, 100)])


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


def row(glyphs: list[str], gap: float, height: float = 90) -> list[list[np.ndarray]]:
    """Strokes of each glyph, ``gap`` pixels between their boxes (negative: they overlap)."""
    digits, x = [], 10.0
    for glyph in glyphs:
        strokes = [(stroke - 140) * height / 200 for stroke in EXAMPLES[glyph].strokes]
        left = min(stroke[:, 0].min() for stroke in strokes)
        digits.append([stroke + (x - left, 140) for stroke in strokes])
        x = max(stroke[:, 0].max() for stroke in digits[-1]) + gap
    return digits


def flat(digits: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [stroke for strokes in digits for stroke in strokes]


def grouped(strokes: list[np.ndarray]) -> list[list[int]]:
    """Which strokes make which digit, by their boxes alone."""
    boxes = [[*stroke.min(0), *stroke.max(0)] for stroke in strokes]
    return segmentation.group_boxes(np.array(boxes), lambda group: 0.0)[1]


# --- The built-in examples ------------------------------------------------------------------------


@pytest.mark.parametrize("example", SINGLES, ids=lambda example: example.name)
def test_one_digit_stays_one(recognizer, example):
    """However many strokes: a 5's roof, a 7's bar, a 4's stem, a 1's foot, a slash through a 0."""
    assert grouped(example.strokes) == [list(range(len(example.strokes)))]
    (part,) = recognizer.read_strokes(example.strokes).parts
    alone = recognizer.predict_strokes(example.strokes)
    assert part.text == example.expected == str(alone.digit)
    assert part.prediction.confidence == alone.confidence


@pytest.mark.parametrize("name", ["2026", "1749", "58"])
def test_numbers_are_read(recognizer, name):
    answer = recognizer.read_strokes(EXAMPLES[name].strokes)
    assert answer.text == name and answer.accepted


def test_most_of_what_is_no_digit_is_withheld(recognizer):
    """Not all of it: a letter A is drawn like a 4, a heart like a 0."""
    others = [example for example in ink.examples() if example.expected is None]
    accepted = [recognizer.read_strokes(example.strokes).accepted for example in others]
    assert len(others) >= 4 and sum(accepted) < len(others) / 2


def test_examples_are_complete_and_ready_to_be_replayed():
    """Each digit in two styles; on the canvas, with even steps like a moving mouse's."""
    assert min(sum(one.expected == digit for one in SINGLES) for digit in "0123456789") >= 2
    assert len(EXAMPLES) == len(ink.examples()) == len({one.title for one in ink.examples()})
    for stroke in flat([example.strokes for example in ink.examples()]):
        assert stroke.shape[1] == 2 and len(stroke) >= 5
        assert stroke.min() >= 0 and stroke.max() <= ink.CANVAS
        assert np.hypot(*np.diff(stroke, axis=0).T).max() < 12


# --- Which strokes belong together ----------------------------------------------------------------


@pytest.mark.parametrize("gap", [20, 3, -4])
@pytest.mark.parametrize(
    "glyphs", ["2 0 2 6", "1 0", "4 7-crossed 5", "0-slashed 1-flag", "8 1 4"], ids=str
)
def test_gaps_from_wide_to_overlapping(recognizer, glyphs, gap):
    glyphs = glyphs.split()
    answer = recognizer.read_strokes(flat(row(glyphs, gap, 80)))
    assert answer.text == "".join(glyph[0] for glyph in glyphs)


@pytest.mark.parametrize("reach", [0.7, 1.0, 1.3, 1.6])
@pytest.mark.parametrize("slant", [0, 10, -15, 35])
@pytest.mark.parametrize("breadth", [35, 65])
def test_a_slash_belongs_to_its_zero(recognizer, breadth, slant, reach):
    """However upright it is and however far it reaches beyond the ring, before the ring or after;
    ``slant`` in degrees."""
    turn, along = np.linspace(-1.5, 4.8, 50), np.linspace(-1, 1, 15)[:, None]
    ring = 140 + np.column_stack([breadth * np.cos(turn), 75 * np.sin(turn)])
    slash = 140 + 75 * reach * along * (np.sin(np.deg2rad(slant)), -np.cos(np.deg2rad(slant)))
    for strokes in ([ring, slash], [slash, ring]):
        answer = recognizer.read_strokes(strokes)
        assert answer.text == "0" and answer.accepted
    beside = recognizer.read_strokes([slash * 0.5, ring * 0.5 + (30 + breadth, 0)])
    assert beside.text == "10"


def test_groups_name_the_strokes_that_were_given():
    (foot, stem), (zero,), (body, roof) = row(["4", "0", "5"], 10, 80)
    assert grouped([roof, stem, zero, foot, body]) == [[1, 3], [2], [0, 4]]  # in any order


def test_late_strokes_join_their_digit(recognizer):
    """Someone who writes 57 and adds the roof and the bar at the end."""
    (body, roof), (seven, bar) = row(["5", "7-crossed"], 10)
    assert recognizer.read_strokes([body, seven, bar, roof]).text == "57"


def test_one_and_zero_stay_two():
    assert grouped(flat(row(["1", "0"], 6))) == [[0], [1]]
    assert grouped([ONE + 50, ONE + (90, 50)]) == [[0], [1]]


def test_uneven_sizes_and_a_sloping_line(recognizer):
    sloped = [
        [(stroke - 140) * (0.85 + 0.15 * k) + (140, 140 + 14 * k) for stroke in strokes]
        for k, strokes in enumerate(row(["3", "6", "9"], 12, 70))
    ]
    assert recognizer.read_strokes(flat(sloped)).text == "369"


def test_one_stroke_through_two_digits(recognizer):
    """The pen stays down between 2 and 0."""
    (two,), (zero,) = row(["2", "0"], 14, 120)
    between = np.linspace(two[-1], zero[0], 12)[1:-1]
    answer = recognizer.read_strokes([np.concatenate([two, between, zero])])
    assert answer.text == "20" and answer.parts[0].box[2] <= answer.parts[1].box[2]


def test_specks_are_no_digits(recognizer):
    (seven,) = row(["7"], 0, 150)
    dot = np.array([(260.0, 30.0)])
    assert grouped([*seven, dot]) == [[0]]
    assert recognizer.read_strokes([dot, *seven]).text == "7"
    assert grouped([dot]) == [[0]]  # alone it is what there is


# --- Lines, signs, exponents and letters --------------------------------------------------------------


def placed(digits: list[list[np.ndarray]], x: float, y: float) -> list[np.ndarray]:
    """Strokes with their upper left corner at (x, y)."""
    strokes = flat(digits)
    low = np.min([stroke.min(0) for stroke in strokes], axis=0)
    return [stroke - low + (x, y) for stroke in strokes]


def line(*points: tuple[float, float]) -> np.ndarray:
    """A stroke from point to point."""
    corners = np.array(points, float)
    at = np.linspace(0, len(corners) - 1, 10 * len(corners))
    return np.column_stack(
        [np.interp(at, np.arange(len(corners)), corners[:, axis]) for axis in (0, 1)]
    )


@pytest.mark.parametrize(
    "upper, lower", [("7", "3"), ("5", "4"), ("1 2", "3 4"), ("2 0 2 6", "7-crossed 5 8")]
)
@pytest.mark.parametrize("slope", [0, 0.1])
def test_what_is_below_is_another_line(recognizer, upper, lower, slope):
    """A late stroke above belongs to its own line; a line may slope."""
    lines = [row(glyphs.split(), 12, 60) for glyphs in (upper, lower)]
    strokes = placed(lines[0], 30, 60) + placed(lines[1], 20, 155)
    strokes = [stroke + np.outer(stroke[:, 0], (0, -slope)) for stroke in strokes]
    answer = recognizer.read_strokes(strokes[::-1])
    texts = ["".join(glyph[0] for glyph in glyphs.split()) for glyphs in (upper, lower)]
    assert answer.text == "\n".join(texts) and answer.accepted
    assert [part.line for part in answer.parts] == [0] * len(texts[0]) + [1] * len(texts[1])


@pytest.mark.parametrize("upper, lower", ["30", "57", "68"])
def test_two_digits_are_no_eight_because_together_they_look_like_one(recognizer, upper, lower):
    strokes = placed(row([upper], 0, 60), 110, 60) + placed(row([lower], 0, 60), 112, 136)
    eight = recognizer.predict_strokes(flat(row(["8"], 0, 100)))

    def predict(some):
        return eight if len(some) == len(strokes) else recognizer.predict_strokes(some)

    answer = segmentation.read(predict, strokes)
    assert eight.accepted and (answer.text, answer.reason) == (f"{upper}\n{lower}", "")


@pytest.mark.parametrize("names", ["9", "1 7", "2 0 2 6"])
def test_a_number_may_be_underlined_and_a_fraction_is_two_lines(recognizer, names):
    digits = placed(row(names.split(), 12, 60), 40, 60)
    right = max(120, max(stroke[:, 0].max() for stroke in digits))
    underlined = [*digits, line((35, 130), (right + 8, 133))]
    assert recognizer.read_strokes(underlined).text == names.replace(" ", "")
    below = placed(row(["3", "8"], 12, 60), 45, 146)
    assert recognizer.read_strokes(underlined + below).text == names.replace(" ", "") + "\n38"


def test_a_foot_and_a_roof_stay_with_their_digit(recognizer):
    one = [line((100, 90), (140, 50), (140, 200)), line((105, 201), (180, 201))]
    assert recognizer.read_strokes(one).text == "1"
    five = [line((110, 60), (180, 58)), *placed(row(["5"], 0, 130), 100, 62)[:1]]
    assert not segmentation._marks(five)


def test_three_lines_and_a_digit_of_two_strokes_one_above_the_other(recognizer):
    lines = [placed(row([name], 0, 60), 100, y) for name, y in (("2", 10), ("5", 100), ("7", 190))]
    assert recognizer.read_strokes(flat(lines)).text == "2\n5\n7"
    turn = np.linspace(0, 2 * np.pi, 40)
    ring = np.column_stack([np.sin(turn), -np.cos(turn)])
    for gap in (4, 16):
        eight = [ring * 30 + (140, 80), ring * 38 + (140, 148 + gap)]
        answer = recognizer.read_strokes(eight)
        assert (answer.text, answer.reason) == ("8", "")
    beside = placed(row(["5"], 0, 60), 185, 40)
    for strokes in (eight, eight + beside):  # an 8 as well as two lines
        strokes[1] = ring * 38 + (140, 178)
        answer = recognizer.read_strokes(strokes)
        assert answer.reason == "unsure"
        assert {part.doubt for part in answer.parts if part.text == "0"} == {segmentation.RINGS}
    apart = recognizer.read_strokes([ring * 30 + (140, 80), ring * 38 + (140, 200)])
    assert (apart.text, apart.reason) == ("0\n0", "")


@pytest.mark.parametrize(
    "sign, at",
    [
        ("-", ((15, 140), (50, 139))),
        (",", ((145, 178), (138, 198))),
        (".", ((141, 181), (144, 183), (142, 184), (141, 181))),
        ("/", ((162, 85), (110, 195))),
        ("/", ((167, 50), (108, 220))),  # long, and steeper than most
    ],
)
def test_a_minus_a_comma_a_point_and_a_slash_are_known_and_withheld(recognizer, sign, at):
    left, right = placed(row(["3"], 0, 90), 60, 95), placed(row(["2"], 0, 90), 170, 95)
    answer = recognizer.read_strokes([*left, line(*at), *right])
    assert answer.text == ("-32" if sign == "-" else f"3{sign}2")
    part = answer.parts["-32".index("-") if sign == "-" else 1]
    assert (part.mark, part.doubt) == (sign, segmentation.MARKS[sign])
    assert answer.reason == answer.judged(0).reason == "not a digit"


def test_a_small_digit_is_one_of_its_own_and_an_exponent_is_withheld(recognizer):
    for small in ("3", "4", "5"):  # of one stroke or two
        strokes = placed(row(["8"], 0, 120), 60, 80)
        low = placed(row([small], 0, 34), 160, 165)
        assert recognizer.read_strokes(strokes + low).text == f"8{small}"
        raised = recognizer.read_strokes(strokes + [stroke - (0, 105) for stroke in low])
        assert (raised.text, raised.reason) == (f"8{small}", "unsure")
        assert raised.parts[1].doubt == segmentation.EXPONENT


@pytest.mark.parametrize("large", ["5", "8", "9"])
@pytest.mark.parametrize("small", ["0", "2", "3", "5"])
def test_an_exponent_that_hangs_over_its_digit_is_no_part_of_it(recognizer, large, small):
    digit = placed(row([large], 0, 120), 60, 90)
    right = max(stroke[:, 0].max() for stroke in digit)
    answer = recognizer.read_strokes(digit + placed(row([small], 0, 45), right - 8, 60))
    assert answer.reason and any(part.doubt for part in answer.parts)
    assert recognizer.read_strokes(digit).accepted


@pytest.mark.parametrize("digits", ["23", "37", "66"])
def test_a_stroke_that_runs_through_two_digits_is_read_and_withheld(recognizer, digits):
    """Each would be known alone; where one ends is not."""
    (left,), (right,) = row(list(digits), 20, 100)
    answer = recognizer.read_strokes([np.concatenate([left, right])])
    assert [part.doubt for part in answer.parts] == [segmentation.JOINED] * 2
    assert recognizer.read_strokes([left, right]).text == digits and answer.reason == "unsure"


TURN = np.linspace(-np.pi / 2, np.pi / 2, 20)
BOW = np.column_stack([np.cos(TURN), np.sin(TURN)])
LETTERS = {
    "N": [line((80, 200), (80, 80)), line((80, 80), (170, 200)), line((170, 200), (170, 80))],
    "N in one stroke": [line((80, 200), (80, 80), (170, 200), (170, 80))],
    "X": [line((90, 80), (180, 200)), line((180, 80), (90, 200))],
    "V": [line((80, 80), (130, 200)), line((130, 200), (180, 80))],
    "B": [line((90, 80), (90, 200)), np.concatenate([BOW * (55, 28) + (92, 108), BOW * (62, 32) + (92, 168)])],
    "D": [line((90, 80), (90, 200)), BOW * (80, 60) + (90, 140)],
    "pi": [line((60, 90), (190, 88)), line((95, 90), (90, 200)), line((155, 90), (160, 200))],
}  # fmt: skip


@pytest.mark.parametrize("name", LETTERS)
def test_letters_are_no_several_digits(recognizer, name):
    assert not recognizer.read_strokes(LETTERS[name]).accepted
    assert not recognizer.read_strokes(LETTERS[name][::-1]).judged(0.5).accepted


def test_digits_that_touch_are_still_a_number(recognizer):
    """Strokes that touch are doubted where they could be one letter: no wider than one is."""
    answer = recognizer.read_strokes(flat(row(["2", "0", "2", "6"], -3, 80)))
    assert answer.text == "2026" and answer.accepted


# --- The answer -----------------------------------------------------------------------------------


def test_parts_say_where_and_what(recognizer):
    digits = row(["7-crossed", "3"], 15, 120)
    answer = recognizer.read_strokes(flat(digits))
    for part, strokes, digit in zip(answer.parts, digits, (7, 3), strict=True):
        points = np.concatenate(strokes)
        assert part.box == pytest.approx((*points.min(0), *points.max(0)))
        assert all(type(value) is float for value in part.box)
        assert len(part.strokes) == len(strokes) and part.prediction.digit == digit
    assert answer.points == sum(map(len, flat(digits))) and not answer.preview
    assert answer.seconds > 0


def test_the_part_that_was_drawn_last_is_looked_at(recognizer):
    (seven,), (three,) = row(["7", "3"], 15, 120)
    for strokes, chosen in (([seven, three], 1), ([three, seven], 0)):
        answer = recognizer.read_strokes(strokes)
        assert (answer.text, answer.chosen, answer.part) == ("73", chosen, answer.parts[chosen])


def test_canvas_size_is_only_a_unit(recognizer):
    strokes = EXAMPLES["2026"].strokes
    assert recognizer.read_strokes([stroke * 2 for stroke in strokes], 560).text == "2026"


def test_nothing_is_read_as_nothing(recognizer):
    for nothing in ([], [[]], [np.empty((0, 2))]):
        answer = recognizer.read_strokes(nothing)
        assert answer.text == "" and answer.reason == "blank" and not answer.accepted
        assert answer.parts == () and answer.part is None
    assert Answer().judged(0.5).reason == "blank"


@pytest.mark.parametrize(
    "strokes", [[[1, 2]], [[[1, 2, 3]]], [[[np.nan, 1]]], [["a"]], [[[[1, 2]]]], 5, [None]]
)
def test_what_is_no_stroke_is_refused(recognizer, strokes):
    with pytest.raises((ValueError, TypeError)):
        recognizer.read_strokes(strokes)


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "strokes",
    [
        pytest.param([ONE * 0 + 140] * 3, id="dots"),
        pytest.param([ONE + 1e12, ONE - 1e12], id="far away"),
        pytest.param(list(RANDOM.uniform(0, 280, (1000, 2, 2))), id="1,000 strokes"),
        pytest.param([RANDOM.uniform(-1e6, 1e6, (20_000, 2))], id="20,000 points"),
        pytest.param([np.column_stack([np.linspace(0, 280, 50), np.full(50, 140.0)])], id="flat"),
        pytest.param([ONE + (k * 9.0, 100) for k in range(24)], id="as many as are parted"),
    ],
)
def test_odd_ink_is_answered_soon(recognizer, strokes):
    start = time.perf_counter()
    answer = recognizer.read_strokes(strokes)
    assert time.perf_counter() - start < 5
    assert len(answer.text.replace("\n", "")) == len(answer.parts) >= 1
    for part in answer.parts:
        assert np.isfinite(part.box).all() and min(part.box) >= 0
        assert part.box[2] <= 560 and part.box[3] <= 280


def test_scribbles_beside_each_other_take_no_gigabytes(recognizer):
    """Strokes that touch are found by the distances of their points, of which there are many."""
    rng = np.random.default_rng(1)
    scribbles = [
        rng.uniform((140 * (k % 2), 0), (140 + 140 * (k % 2), 280), (400, 2)) for k in range(12)
    ]
    tracemalloc.start()
    try:
        assert recognizer.read_strokes(scribbles).parts
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_a_drawing_that_grows_costs_few_inferences(recognizer, monkeypatch):
    """A number can be read while it is drawn: of what was there only the last digit changes."""
    fresh, asked = Recognizer(recognizer.model, recognizer.calibration), []
    predict = fresh.predict_strokes
    monkeypatch.setattr(fresh, "predict_strokes", lambda *a: asked.append(a) or predict(*a))
    *first, last = EXAMPLES["2026"].strokes
    fresh.read_strokes(first)
    assert len(asked) <= 12
    asked.clear()
    assert fresh.read_strokes([*first, last]).text == "2026" and len(asked) <= 4

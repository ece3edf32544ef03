"""Several digits across the pad: grouping by geometry, reading with the published model, and strokes of any kind."""

import time

import numpy as np
import pytest

from digits.recognizer import segmentation
from digits.recognizer.examples import EXAMPLES, draw
from digits.recognizer.model import Prediction, Recognizer

SINGLES = [example for example in EXAMPLES if len(example.expected or "") == 1]
NUMBERS = [example for example in EXAMPLES if len(example.expected or "") > 1]
ONE = np.array([(0.0, 0), (0, 100)])


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


def row(glyphs: list[str], gap: float, height: float = 90) -> list[list[np.ndarray]]:
    """Strokes of each glyph, side by side with ``gap`` pixels of paper between their boxes (negative: they overlap)."""
    digits, x = [], 10.0
    for k, glyph in enumerate(glyphs):
        strokes = draw(glyph, (0, 140), height, k)
        left = min(stroke[:, 0].min() for stroke in strokes)
        digits.append([stroke + (x - left, 0) for stroke in strokes])
        x = max(stroke[:, 0].max() for stroke in digits[-1]) + gap
    return digits


def grouped(strokes: list[np.ndarray]) -> list[list[int]]:
    """Which strokes make which digit, by their boxes alone."""
    return segmentation.group_boxes(
        np.array([[*stroke.min(0), *stroke.max(0)] for stroke in strokes]).reshape(-1, 4)
    )


def flat(digits: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [stroke for strokes in digits for stroke in strokes]


@pytest.mark.parametrize("example", SINGLES, ids=lambda example: example.name)
def test_one_digit_stays_one(recognizer, example):
    """However many strokes it has: a 5's roof, a 7's bar, a 4's stem, a 1's foot, a slash through a 0."""
    assert grouped(example.strokes) == [list(range(len(example.strokes)))]
    assert segmentation.read(recognizer, example.strokes).text == example.expected


@pytest.mark.parametrize("example", NUMBERS, ids=lambda example: example.name)
def test_numbers_are_read(recognizer, example):
    reading = segmentation.read(recognizer, example.strokes)
    assert reading.text == example.expected and all(
        part.prediction.accepted for part in reading.parts
    )


@pytest.mark.parametrize("gap", [20, 8, 3, 0, -4])
@pytest.mark.parametrize(
    "glyphs",
    [
        ["2", "0", "2", "6"],
        ["1", "0"],
        ["4", "7-crossed", "5"],
        ["0-slashed", "1-flag"],
        ["8", "1", "4"],
    ],
    ids="-".join,
)
def test_gaps_from_wide_to_overlapping(recognizer, glyphs, gap):
    digits = row(glyphs, gap, 80)
    assert segmentation.read(recognizer, flat(digits)).text == "".join(glyph[0] for glyph in glyphs)


def test_groups_name_the_strokes_that_were_given():
    digits = row(["4", "0", "5"], 10, 80)
    (foot, stem), (zero,), (body, roof) = digits
    assert grouped([roof, stem, zero, foot, body]) == [[1, 3], [2], [0, 4]]  # in any order


def test_late_strokes_join_their_digit(recognizer):
    """Someone who writes 57 and adds the roof and the bar at the end."""
    (body, roof), (seven, bar) = row(["5", "7-crossed"], 10)
    assert segmentation.read(recognizer, [body, seven, bar, roof]).text == "57"


def test_one_and_zero_stay_two():
    (one,), (zero,) = row(["1", "0"], 6)
    assert grouped([one, zero]) == [[0], [1]]
    assert grouped([ONE + 50, ONE + (90, 50)]) == [[0], [1]]


def test_uneven_sizes_and_a_sloping_line(recognizer):
    digits = row(["3", "6", "9"], 12, 70)
    sloped = [
        [(stroke - 140) * (0.85 + 0.15 * k) + (140, 140 + 14 * k) for stroke in strokes]
        for k, strokes in enumerate(digits)
    ]
    assert segmentation.read(recognizer, flat(sloped)).text == "369"


def test_one_stroke_through_two_digits(recognizer):
    """The pen stays down between 2 and 0."""
    (two,), (zero,) = row(["2", "0"], 14, 120)
    between = np.linspace(two[-1], zero[0], 12)[1:-1]
    reading = segmentation.read(recognizer, [np.concatenate([two, between, zero])])
    assert reading.text == "20" and len(reading.parts) == 2
    assert reading.parts[0].box[2] <= reading.parts[1].box[2]


def test_parts_say_where_and_what(recognizer):
    digits = row(["7-crossed", "3"], 15, 120)
    reading = segmentation.read(recognizer, flat(digits))
    for part, strokes, digit in zip(reading.parts, digits, (7, 3), strict=True):
        points = np.concatenate(strokes)
        assert part.box == pytest.approx((*points.min(0), *points.max(0)))
        assert all(type(value) is float for value in part.box)
        assert len(part.strokes) == len(strokes) and isinstance(part.prediction, Prediction)
        assert part.prediction.digit == digit and 0.5 < part.prediction.confidence <= 1


def test_a_single_digit_is_read_as_the_recognizer_reads_it(recognizer):
    for example in SINGLES[:8]:
        (part,) = segmentation.read(recognizer, example.strokes).parts
        alone = recognizer.predict_strokes(example.strokes)
        assert (part.prediction.digit, part.prediction.confidence) == (
            alone.digit,
            alone.confidence,
        )


def test_canvas_size_is_only_a_unit(recognizer):
    strokes = [stroke * 2 for stroke in NUMBERS[0].strokes]
    double, single = (
        segmentation.read(recognizer, some, size)
        for some, size in ((strokes, 560), (NUMBERS[0].strokes, 280))
    )
    assert double.text == NUMBERS[0].expected
    assert [len(part.strokes) for part in double.parts] == [
        len(part.strokes) for part in single.parts
    ]


def test_specks_are_no_digits(recognizer):
    (seven,) = row(["7"], 0, 150)
    dot = np.array([(260.0, 30.0)])
    assert grouped([*seven, dot]) == [[0]]
    assert segmentation.read(recognizer, [dot, *seven]).text == "7"
    assert grouped([dot]) == [[0]]  # alone it is what there is


def test_nothing_is_read_as_nothing(recognizer):
    for nothing in ([], [[]], [np.empty((0, 2))]):
        assert segmentation.read(recognizer, nothing) == segmentation.Reading("", ())
    assert grouped([]) == []


@pytest.mark.parametrize(
    "strokes",
    [
        [[1, 2]],
        [[[1, 2, 3]]],
        [[[np.nan, 1]]],
        [[[np.inf, 1]]],
        [["a"]],
        [[[[1, 2]]]],
        5,
        [None],
        [{"x": 1}],
    ],
)
def test_what_is_no_stroke_is_refused(recognizer, strokes):
    with pytest.raises((ValueError, TypeError)):
        segmentation.read(recognizer, strokes)


@pytest.mark.parametrize("strokes", [
    [ONE * 0 + 140] * 3,  # the same dot again and again
    [ONE + 1e12, ONE - 1e12],
    [np.random.default_rng(0).uniform(0, 280, (2, 2)) for _ in range(3000)],
    [np.random.default_rng(0).uniform(-1e6, 1e6, (200_000, 2))],
    [np.column_stack([np.linspace(0, 280, 50), np.full(50, 140.0)])],  # a flat line
    [np.array([(k * 9.0 % 280, 100), (k * 9.0 % 280, 180)]) for k in range(24)],  # as many strokes as are looked at
], ids=["dots", "far away", "3000 strokes", "200,000 points", "flat", "24 ones"])  # fmt: skip
def test_odd_ink_is_answered_soon(recognizer, strokes):
    start = time.perf_counter()
    reading = segmentation.read(recognizer, strokes)
    assert time.perf_counter() - start < 5
    assert len(reading.text) == len(reading.parts) >= 1
    for part in reading.parts:
        assert np.isfinite(part.box).all() and min(part.box) >= 0 and max(part.box) <= 280


def test_few_questions_to_the_recognizer(recognizer):
    """A number of four digits costs few inferences, so that it can be read while it is drawn."""

    class Counting:
        asked = 0

        def predict_strokes(self, strokes, size):
            self.asked += 1
            return recognizer.predict_strokes(strokes, size)

    counting = Counting()
    assert segmentation.read(counting, NUMBERS[0].strokes).text == NUMBERS[0].expected
    assert counting.asked <= 16


def test_boxes_of_a_picture_are_grouped_alike():
    five_and_roof, one = [(10, 20, 50, 100), (45, 18, 70, 26)], (90, 15, 96, 100)
    assert segmentation.group_boxes(np.array([*five_and_roof, one])) == [[0, 1], [2]]
    assert segmentation.group_boxes(np.empty((0, 4))) == []

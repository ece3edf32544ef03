"""The gallery: drawn by a formula, the same everywhere, read as what it shows."""

import numpy as np
import pytest

from digits.recognizer import examples, segmentation
from digits.recognizer.examples import EXAMPLES
from digits.recognizer.model import Recognizer


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.expected], ids=lambda example: example.name
)
def test_every_digit_and_number_is_read(recognizer, example):
    assert segmentation.read(recognizer, example.strokes).text == example.expected


def test_the_gallery_is_complete():
    digits = [example for example in EXAMPLES if len(example.expected or "") == 1]
    for digit in "0123456789":
        styles = {example.style for example in digits if example.expected == digit}
        assert "American" in styles and len(styles) >= 2
    assert "2026" in {example.expected for example in EXAMPLES}
    assert len(EXAMPLES) >= 24 and sum(example.expected is None for example in EXAMPLES) >= 4
    assert {example.style for example in EXAMPLES} == {
        "American",
        "European",
        "hard",
        "number",
        "no digit",
    }


def test_names_and_titles_are_unique_and_plain():
    names, titles = (
        [getattr(example, field) for example in EXAMPLES] for field in ("name", "title")
    )
    assert len(set(names)) == len(names) and len(set(titles)) == len(titles)
    assert all(name.replace("-", "").isalnum() for name in names) and all(
        title[0].isupper() for title in titles
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_strokes_are_ready_to_be_replayed(example):
    """On the canvas, with even steps like a moving mouse's, and not so long that replaying bores."""
    for stroke in example.strokes:
        assert (
            stroke.ndim == 2
            and stroke.shape[1] == 2
            and len(stroke) >= 5
            and np.isfinite(stroke).all()
        )
        steps = np.hypot(*np.diff(stroke, axis=0).T)
        assert stroke.min() >= 0 and stroke.max() <= 280 and steps.max() < 3 * examples.STEP
    assert sum(map(len, example.strokes)) < 600


def test_the_same_hand_draws_the_same():
    twice = [examples.draw("5", (140, 140), 200, seed=3) for _ in range(2)]
    other = examples.draw("5", (140, 140), 200, seed=4)
    assert all((a == b).all() for a, b in zip(*twice, strict=True))
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(twice[0], other, strict=True))


def test_curves_pass_through_their_points_and_keep_corners():
    points = [(0, 0), (50, 10), examples.CORNER, (60, 80), (0, 100)]
    path = examples.curve(points)
    for point in (point for point in points if point is not examples.CORNER):
        assert np.hypot(*(path - point).T).min() < 1e-9
    turn = np.flatnonzero((path == (50, 10)).all(1))
    before, after = path[turn[0]] - path[turn[0] - 1], path[turn[-1] + 1] - path[turn[-1]]
    assert before @ after / np.hypot(*before) / np.hypot(*after) < 0.6  # it turns there, sharply


def test_most_of_what_is_no_digit_is_withheld(recognizer):
    """Not all of it: a letter A is drawn like a 4, a heart like a 0."""
    others = [example for example in EXAMPLES if example.expected is None]
    withheld = [
        not all(
            part.prediction.accepted
            for part in segmentation.read(recognizer, example.strokes).parts
        )
        for example in others
    ]
    assert sum(withheld) > len(others) / 2

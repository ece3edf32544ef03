"""Ink that is no digit: seeded, in MNIST's form, of every kind, and never a digit by accident of code."""

import cv2
import numpy as np
import pytest

from digits.data import non_digits
from digits.recognizer import ink

rng = np.random.default_rng(3)
DIGITS = np.stack(
    [
        ink.strokes_to_image([np.array([(90.0, 60), (190, 60), (190, 60 + 15 * k), (120, 240)])])
        for k in range(10)
    ]
)
LABELS = np.arange(10)


def make(n=300, seed=5):
    return non_digits.generate(n, np.random.default_rng(seed), DIGITS, LABELS)


def test_same_seed_same_bits_other_seed_other_pictures():
    (first, kinds), (again, _), (other, _) = make(60), make(60), make(60, seed=6)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert set(kinds) <= set(non_digits.KINDS)


def test_every_kind_occurs_with_ink_in_mnists_form():
    before = DIGITS.copy()
    images, kinds = make()
    assert set(kinds) == set(non_digits.KINDS) and sum(non_digits.KINDS.values()) == pytest.approx(
        1
    )
    assert images.shape == (300, 28, 28, 1) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and (images.sum((1, 2, 3)) > 3).all()
    assert np.array_equal(DIGITS, before)
    assert make(0)[0].shape == (0, 28, 28, 1)


def test_characters_that_are_digits_to_the_eye_are_left_out():
    assert not set("0123456789OoDQIlijJ|!SsZzBbGgqyYTtr") & set(
        non_digits.LETTERS + non_digits.SYMBOLS
    )


def test_fonts_for_training_and_for_examination_are_different_and_all_there():
    assert not set(non_digits.FONTS) & set(non_digits.UNSEEN_FONTS)
    for names, characters in (
        (non_digits.FONTS[:3], non_digits.SYMBOLS),
        (non_digits.FONTS, non_digits.LETTERS),
        (non_digits.UNSEEN_FONTS, non_digits.LETTERS),
    ):
        for font in non_digits._fonts(names):
            assert all(non_digits.glyph(character, font) is not None for character in characters)


def test_turned_digits_are_those_that_turn_into_nothing():
    assert not {0, 1, 6, 8, 9} & set(non_digits.TURNS)  # a 6 on its head is a 9


def test_a_glyph_is_upright_and_its_holes_are_open():
    picture = non_digits.glyph("A", non_digits._fonts(non_digits.FONTS)[0])
    height, width = picture.shape
    assert (picture[: height // 4] > 0).sum() < (
        picture[-height // 4 :] > 0
    ).sum()  # a peak above, two feet below
    assert picture[int(0.55 * height), width // 2] == 0


def test_outlines_are_bent_in_and_angles_open_upwards_or_to_the_right():
    """Else an outline would be a zero, and an angle a 1 or a 7."""
    some = np.random.default_rng(1)
    for _ in range(200):
        (outline,) = non_digits._outline(some)
        outline = outline.astype(np.float32)
        assert np.allclose(outline[0], outline[-1], atol=1e-3)
        full = cv2.contourArea(cv2.convexHull(outline))
        assert full > 3000 and cv2.contourArea(outline) < 0.86 * full
        (angle,) = non_digits._angle(some)
        ends, knee = angle[[0, -1]].mean(0), angle[len(angle) // 2]
        x, y = ends - knee
        assert y < 0 or x > 0
        ring, *spokes = non_digits._wheel(some)
        assert len(spokes) >= 2


def test_examination_kinds_come_with_pairs_of_digits():
    drawings = [
        [np.array([(0.0, 0), (30, 100)])],
        [np.array([(0.0, 0), (80, 90)]), np.array([(10.0, 5), (20, 50)])],
    ]
    for strokes in non_digits.side_by_side(drawings, 5, seed=1):
        points = np.concatenate(strokes)
        assert points.min() >= 0 and points.max() <= ink.CANVAS
    unseen = non_digits.characters(4, seed=1)
    assert set(unseen) == {"letter", "symbol"} and all(len(some) == 4 for some in unseen.values())
    assert set(non_digits.NEVER_SHOWN) <= set(non_digits.DRAWINGS)


def test_non_digits_are_seeded_strokes_on_the_canvas():
    first, again = (non_digits.drawings(3, seed=2) for _ in range(2))
    assert list(first) == list(non_digits.DRAWINGS)
    for kind, drawings in first.items():
        assert len(drawings) == 3
        for drawing, twin in zip(drawings, again[kind], strict=True):
            for stroke, other in zip(drawing, twin, strict=True):
                np.testing.assert_array_equal(stroke, other)
                assert stroke.shape[1] == 2 and stroke.min() >= 0 and stroke.max() <= 280

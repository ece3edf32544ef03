"""Augmentation changes what it should, no more, and gives the same bits for the same seed."""

from dataclasses import replace

import numpy as np
import pytest

from digits.data import augmentation as augment
from digits.data.augmentation import CORRUPTIONS, NONE, Augmentation
from digits.recognizer import ink

ONE = ink.strokes_to_image([np.array([(140.0, 30), (140, 250)])])
TURN = np.linspace(0, 6.3, 60)
ZERO = ink.strokes_to_image([140 + 90 * np.column_stack([0.7 * np.cos(TURN), np.sin(TURN)])])
SEVEN = ink.strokes_to_image([np.array([(70.0, 50), (210, 50), (130, 250)])])
IMAGES = np.repeat(np.stack([ONE, ZERO, SEVEN])[..., None], 20, axis=0)
LABELS = np.repeat([1, 0, 7], 20)


def run(config, seed=3):
    return augment.augment(IMAGES, np.random.default_rng(seed), config, LABELS)


def test_same_seed_same_bits_other_seed_other_images():
    first = run(Augmentation())
    assert np.array_equal(first, run(Augmentation()))
    assert not np.array_equal(first, run(Augmentation(), seed=4))


def test_input_is_left_alone_and_range_kept():
    before = IMAGES.copy()
    out = run(Augmentation().scaled(2))
    assert np.array_equal(before, IMAGES)
    assert (
        out.shape == IMAGES.shape and out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
    )
    assert (out.sum((1, 2, 3)) > 5).all()  # no digit is wiped out


def test_zero_strength_is_the_identity():
    np.testing.assert_allclose(run(NONE), IMAGES, atol=1e-6)
    np.testing.assert_allclose(run(Augmentation().scaled(0)), IMAGES, atol=1e-6)


@pytest.mark.parametrize(
    "part",
    [
        "rotation",
        "scale",
        "shear",
        "shift",
        "elastic",
        "stroke_width",
        "contrast",
        "noise",
        "styles",
    ],
)
def test_each_part_alone_does_something(part):
    strength = 1.0 if part == "styles" else getattr(Augmentation(), part)
    assert np.abs(run(replace(NONE, **{part: strength})) - IMAGES).max() > 0.2


def test_shift_moves_at_most_as_told():
    out = run(replace(NONE, shift=2.0))
    columns = np.arange(28)
    centre = lambda images: (images.sum((1, 3)) @ columns) / images.sum((1, 2, 3))  # noqa: E731
    moved = np.abs(centre(out) - centre(IMAGES))
    assert 0.5 < moved.max() <= 2.05


def test_stroke_width_thickens_and_thins():
    same, thick, thin = augment.stroke_width(np.stack([ZERO] * 3), np.array([0, 1, -1]))
    assert np.array_equal(same, ZERO) and thick.sum() > 1.3 * ZERO.sum()
    assert 0.2 * ZERO.sum() < thin.sum() < 0.9 * ZERO.sum()


def test_styles_change_only_the_digits_that_have_one():
    rng = np.random.default_rng(0)
    for image, label in ((ZERO, 0), (ONE, 1), (SEVEN, 7)):
        styled = augment.style(image, label, rng)
        assert styled.shape == (28, 28) and np.abs(styled - image).sum() > 5
        assert ink.bounding_box(styled) == ink.bounding_box(
            ink.normalize(styled)
        )  # fitted as every ink is
    assert augment.style(SEVEN, 3, rng) is SEVEN
    assert tuple(np.flatnonzero(augment.OFTEN)) == augment.STYLED


def test_images_of_a_batch_do_not_touch_each_other():
    mixed = np.zeros((16, 28, 28, 1), np.float32)
    mixed[::2] = 1  # full of ink, and blanks between them
    out = augment.augment(
        mixed, np.random.default_rng(0), replace(NONE, shift=9.0, elastic=2.0, stroke_width=1.0)
    )
    assert (out[1::2] == 0).all() and (out[::2].sum((1, 2, 3)) > 200).all()


def test_ink_that_is_no_digit_gets_no_style():
    everything = replace(NONE, styles=1.0)
    out = augment.augment(IMAGES, np.random.default_rng(0), everything, np.full(len(IMAGES), -1))
    np.testing.assert_allclose(out, IMAGES, atol=1e-6)


def test_styles_bear_a_blank_image():
    for label in augment.STYLED:
        assert np.isfinite(
            augment.style(np.zeros((28, 28), np.float32), label, np.random.default_rng(1))
        ).all()


def test_estimated_width_follows_the_pen():
    bars = [
        ink.rasterize([np.array([(140.0, 30), (140, 250)])], brush=brush) for brush in (15, 25, 35)
    ]
    widths = [augment.estimate_width(ink.normalize(bar)) for bar in bars]
    assert widths == sorted(widths) and widths[2] > 1.5 * widths[0]


# Corruptions


@pytest.fixture
def disc():
    """A soft disc in the middle, far from the border: (1, 28, 28)."""
    y, x = np.mgrid[:28, :28]
    return np.clip(6 - np.hypot(x - 13.5, y - 13.5), 0, 1).astype(np.float32)[None]


def _centroid(image):
    y, x = np.mgrid[:28, :28]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_corruptions_change_nothing_at_the_neutral_severity_and_stay_in_range(corruption, disc):
    assert corruption.neutral in corruption.severities
    assert list(corruption.severities) == sorted(corruption.severities)
    same = corruption(disc, corruption.neutral, np.random.default_rng(0))
    np.testing.assert_array_equal(same, disc)
    assert same is not disc
    for severity in corruption.severities:
        changed = corruption(disc, severity, np.random.default_rng(0))
        assert changed.shape == disc.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1
        np.testing.assert_array_equal(changed, corruption(disc, severity, np.random.default_rng(0)))


@pytest.mark.parametrize("seed", range(4))
def test_shift_moves_the_centre_of_mass_by_that_many_pixels(disc, seed):
    moved = augment.shift(disc[0], 5, np.random.default_rng(seed))
    assert np.abs(_centroid(moved) - _centroid(disc[0])).sum() == pytest.approx(5, abs=1e-3)


def test_blur_keeps_the_ink_and_contrast_keeps_the_mean(disc):
    rng = np.random.default_rng(0)
    assert augment.blur(disc[0], 2, rng).sum() == pytest.approx(disc.sum(), rel=1e-3)
    pale = augment.contrast(disc[0], 0.3, rng)
    assert pale.mean() == pytest.approx(disc.mean(), rel=1e-5)
    assert np.ptp(pale) == pytest.approx(0.3 * np.ptp(disc), rel=1e-5)


def test_stroke_width_thickens_and_thins_a_line_on_both_sides():
    line = np.zeros((28, 28), np.float32)
    line[12:16, 4:24] = 1
    rng = np.random.default_rng(0)
    wide, thin = augment.pen_width(line, 2, rng), augment.pen_width(line, -2, rng)
    assert wide[:, 14].sum() == pytest.approx(6, abs=0.5) and thin[:, 14].sum() == pytest.approx(
        2, abs=0.5
    )
    assert _centroid(wide) == pytest.approx(_centroid(line), abs=0.05)


def test_scale_changes_the_area_and_rotation_keeps_the_ink(disc):
    rng = np.random.default_rng(0)
    assert augment.scale(disc[0], 1.4, rng).sum() == pytest.approx(1.4**2 * disc.sum(), rel=0.03)
    assert augment.scale(disc[0], 0.5, rng).sum() == pytest.approx(0.5**2 * disc.sum(), rel=0.05)
    assert augment.rotate(disc[0], 45, rng).sum() == pytest.approx(disc.sum(), rel=0.02)

"""Ink normalization: where a digit was drawn, how large and with which pen must not matter."""

import numpy as np
import pytest

from digits.recognizer import ink

SEVEN = np.array([(60.0, 60), (200, 60), (120, 230)])


def centre_of_mass(image):
    ys, xs = np.indices(image.shape)
    return (image * xs).sum() / image.sum(), (image * ys).sum() / image.sum()


def extent(image):
    left, top, right, bottom = ink.bounding_box(image)
    return right - left, bottom - top


def test_rule_of_mnist():
    image = ink.strokes_to_image([SEVEN])
    assert (
        image.shape == (28, 28)
        and image.dtype == np.float32
        and image.min() >= 0
        and image.max() == 1
    )
    assert max(extent(image)) == 20
    assert centre_of_mass(image) == pytest.approx((14, 14), abs=0.51)


@pytest.mark.parametrize("shift", [(-50, -50), (60, 20), (30, 30)])
def test_place_does_not_matter(shift):
    difference = ink.strokes_to_image([SEVEN]) - ink.strokes_to_image([SEVEN + shift])
    assert np.abs(difference).max() < 1e-6
    picture = ink.normalize(ink.rasterize([SEVEN])) - ink.normalize(ink.rasterize([SEVEN + shift]))
    assert np.abs(picture).max() < 1e-6


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.5, 1.15])
def test_size_does_not_matter(scale):
    np.testing.assert_allclose(
        ink.strokes_to_image([SEVEN * scale]), ink.strokes_to_image([SEVEN]), atol=1e-6
    )
    if (
        0.2 < scale < 1
    ):  # a picture has pixels: the same but for the rounding of its place to one of 28
        small = ink.normalize(ink.rasterize([SEVEN * scale + 30], brush=20 * scale))
        large = ink.normalize(ink.rasterize([SEVEN]))
        shifts = [np.roll(small, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert max(np.corrcoef(shifted.ravel(), large.ravel())[0, 1] for shifted in shifts) > 0.95


def test_canvas_size_is_only_a_unit():
    np.testing.assert_allclose(
        ink.strokes_to_image([SEVEN * 2], size=560), ink.strokes_to_image([SEVEN]), atol=1e-6
    )


def test_aspect_ratio_is_kept():
    width, height = extent(ink.strokes_to_image([np.array([(140.0, 20), (140, 260)])]))
    assert height == 20 and width <= 4


@pytest.mark.slow
def test_mnist_itself_is_left_as_it_is(mnist):
    """What was normalised by this rule already must come back unchanged."""
    images = mnist.x_train[:1000, ..., 0]
    unchanged = [np.array_equal(image, ink.normalize(image)) for image in images]
    assert np.mean(unchanged) > 0.9


def test_blank_is_zeros():
    for blank in ([], [np.empty((0, 2))]):
        assert not ink.strokes_to_image(blank).any()
    assert not ink.normalize(np.zeros((280, 280), np.uint8)).any()
    assert not ink.normalize(np.full((50, 70), 3, np.uint8)).any()  # a grey veil is paper


def test_one_point_is_a_dot():
    image = ink.rasterize([[(140, 140)]], brush=20)
    assert image[140, 140] == 255 and extent(image / 255) == pytest.approx((20, 20), abs=1)


def test_uint8_and_float_agree():
    canvas = ink.rasterize([SEVEN])
    np.testing.assert_array_equal(
        ink.normalize(canvas), ink.normalize(canvas.astype(np.float32) / 255)
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (2000, 2000)])
def test_any_shape_becomes_28(shape):
    image = ink.normalize(np.full(shape, 255, np.uint8))
    assert image.shape == (28, 28) and image.any() and image.max() <= 1


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 3, 1)),
        np.zeros(5),
        np.full((4, 4), np.nan),
        np.full((4, 4), 7.0),
        np.full((4, 4), -1.0),
    ],
)
def test_wrong_images_are_refused(bad):
    with pytest.raises(ValueError, match="ink image"):
        ink.normalize(bad)


@pytest.mark.parametrize(
    "bad",
    [[np.zeros((3, 3))], [np.array([(1, np.nan)])], [np.array([(1, np.inf)])], [np.arange(4)]],
)
def test_wrong_strokes_are_refused(bad):
    with pytest.raises(ValueError, match="Stroke 1"):
        ink.rasterize(bad)


def test_points_far_outside_do_no_harm():
    assert ink.rasterize([np.array([(-1e12, 1e12), (1e300, -1e300)])]).shape == (280, 280)

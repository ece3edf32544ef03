"""The measurements of the first chapter, on images whose answer is known."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from digits import evaluation
from digits.data import exploration as eda
from digits.report import plots


@pytest.fixture(autouse=True)
def one_thread():
    """These problems are tiny: threads that wait for one another would take most of the time."""
    with threadpool_limits(1):
        yield


def bar(width=3, left=12, lean=0.0):
    """A bar of 20 rows on 28 x 28, leaning to the right by ``lean`` degrees."""
    image = np.zeros((28, 28), np.float32)
    image[4:24, left : left + width] = 1
    shear = np.tan(np.radians(lean))
    return cv2.warpAffine(image, np.float32([[1, -shear, shear * 13.5], [0, 1, 0]]), (28, 28))


@pytest.fixture
def blobs():
    """300 noisy images around ten distinct ones, with labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 10
    prototypes = rng.random((10, 28, 28)) > 0.7
    return np.clip(prototypes[labels] + rng.normal(0, 0.05, (300, 28, 28)), 0, 1).astype(
        np.float32
    )[..., None], labels


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_stroke_width_of_a_bar_is_its_width(width):
    assert eda.stroke_width(bar(width)) == pytest.approx(width, abs=0.3)


def test_stroke_width_does_not_depend_on_faintness_or_lean():
    assert eda.stroke_width(0.4 * bar(3)) == eda.stroke_width(bar(3))
    assert eda.stroke_width(bar(3, lean=25)) == pytest.approx(3 * np.cos(np.radians(25)), abs=0.4)


@pytest.mark.parametrize("lean", [-35, -10, 0, 15, 40])
def test_slant_of_a_sheared_bar_is_recovered_and_undone(lean):
    images = np.stack([bar(lean=lean), bar(left=6, lean=lean)])[..., None]
    np.testing.assert_allclose(eda.slants(images), lean, atol=1)
    upright = eda.deslant(images)
    assert upright.shape == images.shape and upright.dtype == np.float32
    np.testing.assert_allclose(eda.slants(upright), 0, atol=1)
    np.testing.assert_allclose(eda.centres(upright), eda.centres(images), atol=0.1)


def test_centre_box_and_ink_of_a_bar():
    image = bar(width=4, left=10)[None]
    np.testing.assert_allclose(eda.centres(image), [[11.5, 13.5]])
    assert eda.longest_sides(image) == [20]
    assert eda.ink(image) == pytest.approx([80 / 784])


def test_blank_images_are_measured_as_unknown_and_stay_blank():
    blank = np.zeros((1, 28, 28, 1), np.float32)
    table = eda.shape_table(np.concatenate([blank, bar()[None, ..., None]]), np.array([0, 1]))
    assert table["ink"][0] == 0 and table.loc[0, ["stroke width", "slant"]].isna().all()
    assert table.loc[1].notna().all()
    assert not eda.deslant(blank).any()
    assert eda.longest_sides(blank) == [0]
    smallest, largest = eda.extremes(table["slant"], 5)
    assert list(smallest) == list(largest) == [1]


def test_shape_summary_holds_the_quantiles_of_each_digit():
    table = pd.DataFrame({"digit": np.repeat([3, 7], 101), "ink": np.tile(np.arange(101.0), 2)})
    summary = eda.shape_summary(table)
    assert list(summary.index) == ["3", "7", "all"]
    assert summary.loc["7", "ink"].to_dict() == {"median": 50, "low": 5, "high": 95}


def test_exact_copies_are_found_and_near_ones_are_not(blobs):
    images, _ = blobs
    near = images[:1] * np.float32(0.999)
    assert list(eda.duplicates(np.concatenate([near, images[7:8], near]), images)) == [1]
    assert len(eda.duplicates(images)) == 0 and eda.duplicates(
        np.concatenate([images, images[3:5], images[3:4]])
    ).tolist() == [300, 301, 302]


def test_the_closest_pair_of_different_digits_comes_first(blobs):
    images, labels = blobs
    images[40] = images[41]  # an image of digit 0 that looks like a 1
    pairs = eda.alike_pairs(images, labels)
    assert pairs.loc[0, ["first", "second", "digit", "other"]].tolist() == [40, 41, 0, 1]
    assert len(pairs) == 45 and pairs["distance"].is_monotonic_increasing


def test_knn_distance_works_with_hardly_any_images():
    images = np.stack([bar(1), bar(2), bar(3)])
    distance = eda.knn_distance(images, np.array([1, 1, 2]), k=5)
    assert distance[0] == distance[1] > 0 and np.isnan(distance[2])


def test_vote_counts_the_nearest_and_prefers_the_smaller_digit_in_a_tie():
    neighbours = np.array([[7, 1, 1, 9, 9], [4, 4, 2, 2, 2]])
    assert eda.vote(neighbours, 1).tolist() == [7, 4]
    assert eda.vote(neighbours, 3).tolist() == [1, 4]
    assert eda.vote(neighbours, 5).tolist() == [1, 2]


def test_scores_carry_counts_and_wilson_intervals():
    score = evaluation.accuracy_summary(np.zeros(100, int), np.arange(100) % 10)
    assert (score["accuracy"], score["errors"], score["n"]) == (0.1, 90, 100)
    assert score["interval"] == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Wilson 1927, by hand


@pytest.mark.slow
def test_the_map_is_seeded_and_keeps_neighbours_together(blobs):
    images, labels = blobs
    (shadow, island), again = eda.embed(images, seed=3), eda.embed(images, seed=3)
    assert shadow.shape == island.shape == (300, 2)
    np.testing.assert_array_equal(island, again[1])
    assert eda.neighbour_agreement(island, labels) > 0.95


def test_samples_are_seeded_and_never_too_large():
    np.testing.assert_array_equal(eda.sample(100, 10, 1), eda.sample(100, 10, 1))
    assert not np.array_equal(eda.sample(100, 10, 1), eda.sample(100, 10, 2))
    np.testing.assert_array_equal(eda.sample(5, 10, 1), np.arange(5))


def test_counts_and_averages_per_digit(blobs):
    images, labels = blobs
    counts = eda.class_counts({"a": labels, "b": np.array([3, 3])})
    assert counts["a"].tolist() == [30] * 10 and counts["b"][3] == 2 and counts["b"].sum() == 2
    means, spreads = eda.class_averages(images, labels)
    assert means.shape == spreads.shape == (10, 28, 28)
    np.testing.assert_allclose(means[4], images[labels == 4, :, :, 0].mean(0))
    assert eda.first_of_each(labels, 2).tolist()[:4] == [0, 10, 1, 11]


def test_confusions_are_counted_the_commonest_first():
    labels, read = np.array([1, 1, 9, 9, 1]), np.array([1, 7, 4, 9, 7])
    pairs = evaluation.confused_pairs(evaluation.confusion(labels, read))
    assert pairs.to_numpy().tolist() == [[1, 7, 2], [9, 4, 1]]


@pytest.mark.slow
def test_every_figure_can_be_drawn(blobs):
    plots.use_style()
    images, labels = blobs
    table = eda.shape_table(images, labels)
    scores = {
        name: {"test": evaluation.accuracy_summary(labels, read)}
        for name, read in (("one", labels), ("two", labels[::-1]))
    }
    figures = [
        plots.tile_rows(
            {"a": images[:5], "b": [(np.zeros((3, 2)), np.ones((1, 2)))] * 5}, ["x\ny"] * 5
        ),
        plots.shapes(table, {"ink": "ink (%)", "slant": "slant (degrees)"}),
    ]
    for ax in (
        plots.embedding(plt.subplots()[1], images.reshape(300, -1)[:, :2], labels),
        plots.baselines(plt.subplots()[1], scores),
    ):
        figures.append(ax.figure)
    for figure in figures:
        figure.canvas.draw()
        plt.close(figure)

"""Measures with known answers."""

import matplotlib
import numpy as np
import pytest

from digits import evaluation
from digits.data.augmentation import CORRUPTIONS
from digits.recognizer import softmax
from digits.report import plots

matplotlib.use("Agg")
plots.use_style()


def test_wilson_interval_agrees_with_published_values():
    # statsmodels.stats.proportion.proportion_confint(count, n, method="wilson")
    assert evaluation.wilson_interval(10, 20) == pytest.approx((0.299298, 0.700702), abs=1e-6)
    assert evaluation.wilson_interval(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    assert evaluation.wilson_interval(9966, 10000) == pytest.approx((0.995253, 0.997566), abs=1e-6)
    assert evaluation.wilson_interval(0, 0) == (0, 1)


def test_counts_agree_with_each_other():
    labels = np.array([0, 0, 1, 1, 1, 9])
    predictions = np.array([0, 1, 1, 1, 7, 9])
    summary = evaluation.accuracy_summary(labels, predictions)
    matrix = evaluation.confusion(labels, predictions)
    table = evaluation.per_class(labels, predictions)
    assert (summary["errors"], summary["n"]) == (2, 6)
    assert matrix.shape == (10, 10) and matrix[0, 1] == 1 and matrix[1, 7] == 1
    assert matrix.sum() - np.trace(matrix) == summary["errors"] == table["errors"].sum()
    assert table.loc[0, "recall"] == 0.5 and table.loc[1, "precision"] == pytest.approx(2 / 3)
    assert table.loc[1, "mostly read as"] == "7" and table.loc[9, "mostly read as"] == "–"
    assert np.isnan(evaluation.confusion_rates(matrix)[5]).all()
    assert evaluation.confused_pairs(matrix)["count"].tolist() == [1, 1]


def test_error_table_lists_every_error_with_its_two_best_guesses():
    probabilities = np.full((3, 10), 0.01)
    probabilities[0, [3, 5]] = 0.6, 0.32
    probabilities[1, [4, 9]] = 0.5, 0.42
    probabilities[2, [2, 8]] = 0.9, 0.02
    table = evaluation.error_table(np.array([5, 4, 1]), probabilities, known=[2])
    assert table["index"].tolist() == [2, 0]  # the most confident error first
    assert table[["first", "second"]].to_numpy().tolist() == [[2, 8], [3, 5]]
    assert table["known"].tolist() == [True, False]


def test_calibration_error_of_constructed_data():
    confidence = np.repeat([0.95, 0.55], 100)
    correct = np.concatenate(
        [np.arange(100) < 80, np.arange(100) < 55]
    )  # 15 points too sure; exactly right
    error = evaluation.expected_calibration_error(confidence, correct)
    assert error == pytest.approx(0.5 * 0.15)


def test_reliability_bins_hold_every_sample_once_and_their_edges():
    confidence = np.array([0.0, 1 / 15, 0.5, 1.0])
    bins = evaluation.reliability_bins(confidence, np.array([False, True, True, True]))
    assert bins["n"].tolist() == [2, 1, 1]  # bins are (low, high], the first holds 0
    assert ((bins["confidence"] >= bins["low"]) & (bins["confidence"] <= bins["high"])).all()


def test_chance_level_tells_honest_from_boastful_confidence():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.5, 1, 4000)
    limit = evaluation.calibration_error_by_chance(confidence, seed=1)
    honest, boastful = rng.random(4000) < confidence, rng.random(4000) < confidence - 0.1
    assert evaluation.expected_calibration_error(confidence, honest) < limit
    assert evaluation.expected_calibration_error(confidence, boastful) > limit


def test_fit_temperature_recovers_a_known_scaling():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 10))
    truth = softmax(logits)
    labels = (truth.cumsum(axis=1) > rng.random((len(truth), 1))).argmax(axis=1)
    assert evaluation.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.03)
    assert evaluation.fit_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.03)


def test_answers_keep_their_best_guess_at_any_temperature():
    answers = evaluation.Predictions(np.array([1, 2]), np.eye(10)[[1, 3]] * 4, temperature=2.0)
    assert answers.predictions.tolist() == [1, 3] and answers.correct.tolist() == [True, False]
    assert (answers.uncalibrated().confidence > answers.confidence).all()
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1)
    summary = evaluation.calibration_summary(answers, seed=1)
    assert (
        summary["n"] == 2
        and summary["nll_interval"][0] <= summary["nll"] <= summary["nll_interval"][1]
    )


def test_proper_scores_at_their_ends():
    labels = np.array([3, 7])
    perfect, uniform = np.eye(10)[labels], np.full((2, 10), 0.1)
    assert evaluation.negative_log_likelihood(perfect, labels) == 0
    assert evaluation.negative_log_likelihood(uniform, labels) == pytest.approx(np.log(10))
    assert np.isfinite(evaluation.negative_log_likelihood(perfect, labels[::-1]))


def test_the_right_digit_is_among_the_candidates_as_often_as_promised():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40_000, 10))
    labels = (softmax(logits).cumsum(axis=1) > rng.random((40_000, 1))).argmax(axis=1)
    limits = [
        evaluation.conformal_probability(softmax(some), known, 0.9)
        for some, known in zip(
            np.split(logits[:20_000], 200), np.split(labels[:20_000], 200), strict=True
        )
    ]
    reached = softmax(logits[20_000:])[np.arange(20_000), labels[20_000:]]
    assert (
        0.895 < np.mean([(reached >= limit).mean() for limit in limits]) < 0.915
    )  # of 100 each: a little more than asked
    assert (
        evaluation.conformal_probability(softmax(logits[:8]), labels[:8], 0.9) == 0
    )  # too few to promise anything


def test_candidates_are_counted():
    summary = evaluation.candidates_summary([(7, 1), (3,), (5, 6, 8)], np.array([1, 3, 0]))
    assert (summary["covered"]["count"], summary["first"]["count"], summary["size"]) == (2, 1, 2.0)
    assert np.isnan(evaluation.candidates_summary([], np.array([]))["size"])


def test_risk_falls_with_coverage_when_confidence_ranks_perfectly():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    correct = np.array([True, True, False, False])
    curve = evaluation.risk_coverage(confidence, correct)
    assert (
        curve["risk"].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
        and curve["risk"].is_monotonic_increasing
    )


def test_ties_are_answered_together():
    curve = evaluation.risk_coverage(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))
    assert curve["coverage"].tolist() == pytest.approx([2 / 3, 1])


def test_threshold_keeps_risk_low_and_coverage_high():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    correct = np.array([True, True, False, True])
    assert (
        evaluation.choose_threshold(confidence, correct, risk=0.3) == 0.6
    )  # 1 of 4 wrong is allowed
    assert evaluation.choose_threshold(confidence, correct, risk=0.1) == 0.8
    summary = evaluation.acceptance_summary(confidence >= 0.8, correct)
    assert (summary["answered"]["count"], summary["right"]["count"], summary["right"]["n"]) == (
        2,
        2,
        2,
    )
    assert np.isnan(evaluation.acceptance_summary(confidence > 1, correct)["right"]["share"])


def test_mcnemar_counts_only_differences():
    a = np.array([True] * 90 + [True] * 9 + [False] * 1)
    b = np.array([True] * 90 + [False] * 9 + [True] * 1)
    result = evaluation.mcnemar(a, b)
    assert (result["only_a"], result["only_b"]) == (9, 1)
    assert result["p_value"] == pytest.approx(
        2 * (1 + 10) / 2**10
    )  # both tails of Binomial(10, 1/2)
    assert evaluation.mcnemar(a, a)["p_value"] == 1


def test_paired_table_tests_each_way_against_the_reference():
    labels = np.zeros(10, int)
    good = evaluation.Predictions(labels, np.eye(10)[labels])
    bad = evaluation.Predictions(labels, np.eye(10)[np.arange(10)])
    table = evaluation.paired_table({"good": good, "bad": bad}, "good").set_index("way")
    assert table.loc["bad", ["only here", "only there"]].tolist() == [0, 9] and np.isnan(
        table.loc["good", "p"]
    )
    assert (
        evaluation.p_text(table.loc["bad", "p"]) == "0.0039" and evaluation.p_text(0.0) == "< 0.001"
    )


def test_groups_are_counted_apart():
    table = evaluation.by_group([1, 1, 2, 2], [True, False, True, True])
    assert table["errors"].to_dict() == {1: 1, 2: 0} and table["n"].sum() == 4
    assert table.loc[1, "low"] < 0.5 < table.loc[1, "high"] and table.loc[2, "high"] == 1


def test_comparison_ranks_models():
    ours = evaluation.accuracy_summary(np.zeros(4), np.array([0, 0, 0, 1]))
    table = evaluation.comparison({"ours": ours, "theirs": ours | {"accuracy": 0.9}})
    assert table["model"].tolist() == ["theirs", "ours"]
    assert table.loc[1, "95% interval"] == "30.06% to 95.44%"


def test_sentences_carry_count_and_interval():
    assert evaluation.accuracy_text(
        evaluation.accuracy_summary(np.zeros(20), np.repeat([0, 1], 10))
    ) == ("50.00% (10 errors in 20; 95% interval 29.93% to 70.07%)")
    assert evaluation.share_text(evaluation.proportion(10, 20)).startswith(
        "50.0% (10 of 20; 95% interval 29.9% to"
    )


def test_bootstrap_interval_is_seeded_and_near_theory():
    values = (np.arange(1000) < 300).astype(float)
    interval = evaluation.bootstrap_interval(np.mean, values, seed=5)
    assert interval == evaluation.bootstrap_interval(np.mean, values, seed=5)
    assert interval == pytest.approx((0.272, 0.328), abs=0.006)


def test_figures_can_be_drawn_of_a_model_without_errors(disc):
    labels = np.arange(10)
    table = evaluation.error_table(labels, np.eye(10))
    counts = evaluation.confusion(labels, labels)
    figures = [
        plots.error_gallery(disc, table),
        *(
            plots.heat_map(plots.plt.subplots()[1], one, "").figure
            for one in (counts, evaluation.confusion_rates(counts))
        ),
    ]
    for figure in figures:
        figure.canvas.draw()
    assert len(table) == 0 and evaluation.confused_pairs(counts).empty


def test_gallery_marks_known_label_errors_and_never_claims_certainty(disc):
    probabilities = np.full((1, 10), 1e-5)
    probabilities[0, 3] = 1 - 9e-5
    figure = plots.error_gallery(
        disc, evaluation.error_table(np.array([5]), probabilities, known=[0])
    )
    assert "†" in figure.axes[0].get_title() and ">99%" in figure.axes[0].get_xlabel()
    assert plots.percent(1e-4) == "<1%" and plots.percent(0.99) == "99%"


@pytest.fixture
def disc():
    """A soft disc in the middle, far from the border: (1, 28, 28)."""
    y, x = np.mgrid[:28, :28]
    return np.clip(6 - np.hypot(x - 13.5, y - 13.5), 0, 1).astype(np.float32)[None]


def test_robustness_scores_every_severity_on_the_same_images(disc):
    def predict(images):
        return np.eye(10)[np.zeros(len(images), int)]

    table = evaluation.robustness(
        predict, np.repeat(disc, 4, axis=0), np.array([0, 0, 0, 1]), CORRUPTIONS[:2], seed=1
    )
    assert len(table) == sum(len(c.severities) for c in CORRUPTIONS[:2])
    assert (
        set(table["errors"]) == {1} and (table["low"] < 0.75).all() and (table["high"] > 0.75).all()
    )


def test_a_movable_threshold_answers_less_and_refuses_what_is_refused():
    table = evaluation.at_thresholds(
        np.array([0.2, 0.6, 0.9, 0.95]),
        np.array([False, True, True, True]),
        np.array([False, False, False, True]),
    ).set_index("threshold")
    assert table.loc[0.0, ["answered", "right"]].tolist() == [0.75, pytest.approx(2 / 3)]
    assert table.loc[0.5, ["answered", "right"]].tolist() == [0.5, 1.0]
    assert table.loc[0.99, ["answered", "right"]].tolist() == [0.0, 1.0]

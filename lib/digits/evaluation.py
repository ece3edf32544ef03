"""How good, how sure, how robust: probabilities and labels in, numbers and tables out. No TensorFlow here.

Everywhere: ``probabilities`` is (n, 10) with rows that sum to 1, ``labels`` is (n,) with integers 0 to 9,
``confidence`` is (n,) in [0, 1], ``correct`` is (n,) of booleans.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from sklearn import metrics

from digits.intervals import proportion, wilson_interval
from digits.recognizer.calibration import Calibration, energy, softmax

CLASSES = np.arange(10)
_TINY = np.finfo(
    np.float64
).tiny  # the logarithm of a probability that was rounded to 0 stays finite


@dataclass(frozen=True)
class Answers:
    """What a model said about n labelled images, and how sure it was."""

    labels: np.ndarray  # (n,) integers 0 to 9
    logits: np.ndarray  # (n, 10), before the softmax
    temperature: float = 1.0  # the logits are divided by it

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, 10), calibrated by the temperature."""
        return softmax(self.logits, self.temperature)

    @cached_property
    def predictions(self) -> np.ndarray:
        """(n,): the best guesses; no temperature changes them."""
        return np.argmax(self.logits, axis=1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,): the probability of the best guess."""
        return self.probabilities.max(axis=1)

    @cached_property
    def correct(self) -> np.ndarray:
        """(n,) booleans."""
        return self.predictions == self.labels

    def uncalibrated(self) -> "Answers":
        """The same answers at temperature 1."""
        return replace(self, temperature=1.0)


def kept_epoch(history: pd.DataFrame) -> pd.Series:
    """The row of ``training.fit``'s history whose weights were kept: of the most accurate epochs the last."""
    return history.loc[history["val_accuracy"][::-1].idxmax()]


# --- Accuracy ---------------------------------------------------------------------------------------------------------


def accuracy_summary(labels: np.ndarray, predictions: np.ndarray) -> dict:
    """``accuracy`` (NaN when n = 0), ``errors``, ``n`` and the 95% Wilson ``interval`` of the accuracy; both arguments (n,)."""
    n = len(labels)
    right = int(np.sum(np.asarray(labels) == predictions))
    return {
        "accuracy": right / n if n else float("nan"),
        "errors": n - right,
        "n": n,
        "interval": wilson_interval(right, n),
    }


def accuracy_text(summary: dict) -> str:
    """An ``accuracy_summary`` for a sentence.

    >>> accuracy_text(accuracy_summary(np.zeros(10_000), np.arange(10_000) < 36))
    '99.64% (36 errors in 10,000; 95% interval 99.50% to 99.74%)'
    """
    low, high = summary["interval"]
    counted = f"{summary['errors']:,} errors in {summary['n']:,}"
    return f"{summary['accuracy']:.2%} ({counted}; 95% interval {low:.2%} to {high:.2%})"


def comparison(summaries: Mapping[str, dict]) -> pd.DataFrame:
    """Accuracy summaries by name as a table, the best first; what has no ``accuracy`` is left out."""
    rows = [
        {
            "model": name,
            "accuracy": one["accuracy"],
            "errors": one.get("errors"),
            "n": one.get("n"),
            "95% interval": "{:.2%} to {:.2%}".format(*one["interval"])
            if one.get("interval")
            else None,
        }
        for name, one in summaries.items()
        if isinstance(one, Mapping) and "accuracy" in one
    ]
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts (10, 10): row = true digit, column = digit that was read."""
    return metrics.confusion_matrix(labels, predictions, labels=CLASSES)


def confusion_rates(matrix: np.ndarray) -> np.ndarray:
    """Each row of a confusion matrix as shares of that digit; a digit that never occurs gives a row of NaN."""
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)


def confused_pairs(matrix: np.ndarray, top: int = 5) -> pd.DataFrame:
    """The most frequent confusions: columns ``digit``, ``read as``, ``count``, most frequent first, no zeros."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:top]
    rows, columns = np.unravel_index(order, errors.shape)
    table = pd.DataFrame({"digit": rows, "read as": columns, "count": errors[rows, columns]})
    return table[table["count"] > 0]


def per_class(labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """One row a digit: ``n``, ``errors``, ``recall`` with its 95% interval, ``precision``, ``mostly read as``.

    A digit that does not occur has NaN for its recall; "mostly read as" names its commonest wrong answer, "–" for none.
    """
    matrix = confusion(labels, predictions)
    n, right = matrix.sum(axis=1), np.diag(matrix)
    intervals = np.array([wilson_interval(k, m) for k, m in zip(right, n, strict=True)])
    wrong = matrix - np.diag(right)
    worst = [str(row.argmax()) if row.any() else "–" for row in wrong]
    with np.errstate(invalid="ignore"):
        recall, precision = right / n, right / matrix.sum(axis=0)
    columns = {
        "n": n,
        "errors": n - right,
        "recall": recall,
        "recall low": intervals[:, 0],
        "recall high": intervals[:, 1],
        "precision": precision,
        "mostly read as": worst,
    }
    return pd.DataFrame(columns, index=pd.Index(CLASSES, name="digit"))


def by_group(groups: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """One row for each of ``groups`` (n,), such as writers: ``n``, ``errors``, ``accuracy``, 95% ``low``, ``high``."""
    table = (
        pd.DataFrame({"group": groups, "correct": correct})
        .groupby("group")["correct"]
        .agg(n="count", right="sum")
    )
    intervals = [wilson_interval(right, n) for n, right in table.itertuples(index=False)]
    low, high = np.transpose(intervals)
    return table.assign(
        errors=table["n"] - table["right"], accuracy=table["right"] / table["n"], low=low, high=high
    )


def classification_report(labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """scikit-learn's report as a frame: precision, recall, f1-score and support for each digit and their means."""
    report = metrics.classification_report(
        labels, predictions, labels=CLASSES, output_dict=True, zero_division=0
    )
    report.pop("accuracy", None)  # it has a section of its own
    report.pop("micro avg", None)
    frame = pd.DataFrame(report).T.astype({"support": int})
    return frame.rename_axis("digit")


def error_table(
    labels: np.ndarray, probabilities: np.ndarray, known: Iterable[int] = ()
) -> pd.DataFrame:
    """Every wrong answer, the most confident first.

    Columns: ``index`` into the data, ``label``, ``first`` and ``second`` guess with ``p first`` and ``p second``,
    ``known`` (the index is among ``known``, e.g. documented label errors).
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    index = np.flatnonzero(ranked[:, 0] != labels)
    first, second = ranked[index].T
    table = pd.DataFrame(
        {
            "index": index,
            "label": labels[index],
            "first": first,
            "p first": probabilities[index, first],
            "second": second,
            "p second": probabilities[index, second],
            "known": np.isin(index, list(known)),
        }
    )
    return table.sort_values("p first", ascending=False, kind="stable", ignore_index=True)


# --- Calibration ------------------------------------------------------------------------------------------------------


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(true digit), in nats; 0 is perfect, log 10 = 2.30 is guessing."""
    true = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, _TINY)).mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance to the one-hot label, summed over the ten digits (Brier 1950): 0 perfect, 2 worst."""
    return float(np.square(probabilities - np.eye(10)[labels]).sum(axis=1).mean())


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15, binning: str = "width"
) -> pd.DataFrame:
    """Confidence against accuracy, bin by bin; empty bins are left out.

    binning: "width" cuts [0, 1] evenly (Guo et al. 2017, section 2), "mass" puts equally many samples into each bin.
    Columns: ``low``, ``high`` (the bin's edges), ``n``, mean ``confidence``, ``accuracy`` with its 95% interval in
    ``accuracy low`` and ``accuracy high``.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    members = _bin_members(confidence, bins, binning)
    rows = []
    for (low, high), chosen in members:
        n, right = len(chosen), int(correct[chosen].sum())
        rows.append(
            (low, high, n, confidence[chosen].mean(), right / n, *wilson_interval(right, n))
        )
    return pd.DataFrame(
        rows,
        columns=["low", "high", "n", "confidence", "accuracy", "accuracy low", "accuracy high"],
    )


def _bin_members(
    confidence: np.ndarray, bins: int, binning: str
) -> list[tuple[tuple[float, float], np.ndarray]]:
    """The edges and the sample indices of each bin that is not empty."""
    if binning == "mass":
        parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
        return [((confidence[p[0]], confidence[p[-1]]), p) for p in parts if len(p)]
    if binning != "width":
        raise ValueError(f"binning is 'width' or 'mass', not {binning!r}")
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(
        np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1
    )  # (low, high], as in the paper
    return [((edges[i], edges[i + 1]), np.flatnonzero(place == i)) for i in np.unique(place)]


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15, binning: str = "width"
) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size (Guo et al. 2017, equation 3).

    15 bins of equal width unless told; ``binning="mass"`` for bins of equal size. In [0, 1]; a perfectly calibrated
    model has a small positive value too, see ``honest_calibration_error``.
    """
    table = reliability_bins(confidence, correct, bins, binning)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["n"]))


def honest_calibration_error(
    confidence: np.ndarray, seed: int, resamples: int = 200, bins: int = 15
) -> float:
    """The calibration error that chance alone keeps a model below 95 times in 100 when its confidence is true.

    Draws who is right from the confidence itself (consistency resampling, Bröcker and Smith 2007, section 3).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.random((resamples, len(confidence))) < confidence
    return float(
        np.quantile([expected_calibration_error(confidence, right, bins) for right in drawn], 0.95)
    )


def calibration_summary(answers: Answers, seed: int) -> dict:
    """Every measure of trust: calibration error beside its chance level, likelihood, Brier score.

    Keys: ``ece`` (15 bins of equal width), ``chance`` (``honest_calibration_error``; a bootstrap interval would be
    biased, since every resampling adds to a mean of absolute gaps), ``ece_mass`` (15 bins of equal size), ``nll`` with
    its 95% bootstrap ``nll_interval``, ``brier``, mean ``confidence``, ``n``.
    """
    confidence, correct = answers.confidence, answers.correct
    scored = answers.probabilities, answers.labels
    return {
        "ece": expected_calibration_error(confidence, correct),
        "chance": honest_calibration_error(confidence, seed),
        "ece_mass": expected_calibration_error(confidence, correct, binning="mass"),
        "nll": negative_log_likelihood(*scored),
        "nll_interval": bootstrap_interval(negative_log_likelihood, *scored, seed=seed),
        "brier": brier_score(*scored),
        "confidence": float(confidence.mean()),
        "n": len(correct),
    }


def calibration_table(summaries: Mapping[str, dict]) -> pd.DataFrame:
    """``calibration_summary`` of several versions, one row each; show it with ``CALIBRATION_FORMATS``."""
    rows = [
        {
            "version": name,
            "ECE": one["ece"],
            "by chance": one["chance"],
            "ECE, equal bins": one["ece_mass"],
            "NLL": one["nll"],
            "95% interval of NLL": "{:.4f} to {:.4f}".format(*one["nll_interval"]),
            "Brier": one["brier"],
        }
        for name, one in summaries.items()
    ]
    return pd.DataFrame(rows)


CALIBRATION_FORMATS = dict.fromkeys(
    ["ECE", "by chance", "ECE, equal bins"], "{:.2%}"
) | dict.fromkeys(["NLL", "Brier"], "{:.4f}")


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.05, 20] that minimises the negative log-likelihood (Guo et al. 2017, section 4.2).

    Fit it on data that the network was not trained on and that is not the test set.
    """
    logits = np.asarray(logits, np.float64)
    true = np.arange(len(labels)), labels

    def loss(log_temperature):
        return -special.log_softmax(logits / np.exp(log_temperature), axis=1)[true].mean()

    bounds = np.log(0.05), np.log(20.0)
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


# --- Selective prediction: answer, or say "not sure" ------------------------------------------------------------------


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """What every possible threshold gives (Geifman and El-Yaniv 2017): one row for each distinct confidence.

    Columns: ``threshold`` (descending; answer when the confidence is at least that), ``coverage`` (share that is
    answered), ``risk`` (share of the answers that is wrong), ``answered``, ``wrong`` (counts).
    """
    confidence = np.asarray(confidence, np.float64)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~np.asarray(correct, bool)[order])
    # samples of equal confidence cannot be told apart by a threshold: keep the last of each run
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    answered = last + 1
    return pd.DataFrame(
        {
            "threshold": confidence[order][last],
            "coverage": answered / len(order),
            "risk": wrong[last] / answered,
            "answered": answered,
            "wrong": wrong[last],
        }
    )


def area_under_risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean risk over all coverages (AURC): 0 is perfect; with a confidence that knows nothing it is the error rate."""
    curve = risk_coverage(confidence, correct)
    return float(np.average(curve["risk"], weights=np.diff(curve["coverage"], prepend=0)))


def coverage_at_risk(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float:
    """The largest share that can be answered with at most ``risk`` of the answers wrong; 0 when none can."""
    curve = risk_coverage(confidence, correct)
    return float(
        curve.loc[curve["risk"] <= risk, "coverage"].max() if (curve["risk"] <= risk).any() else 0.0
    )


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float:
    """The lowest threshold whose answers are wrong at most ``risk`` of the time, on data that is not the test set.

    ``risk`` is a share in [0, 1]. Where it cannot be had, the threshold is the highest at which anything is answered.
    """
    curve = risk_coverage(confidence, correct)
    good = curve[curve["risk"] <= risk]
    return float(good["threshold"].iloc[-1] if len(good) else curve["threshold"].iloc[0])


def conformal_probability(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """The probability that the right digit of a new image reaches with a chance of at least ``coverage``.

    Split conformal prediction (Sadinle, Lei and Wasserman 2019) with the correction for finite samples of Angelopoulos
    and Bates (2021, section 1). It holds for images like these, which the network was not trained on. 0 when there are
    too few of them.
    """
    missed = int((len(labels) + 1) * (1 - coverage) + 1e-9)
    right = np.sort(probabilities[np.arange(len(labels)), labels])
    return float(right[missed - 1]) if missed else 0.0


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, risk: float, refused: float, coverage: float
) -> Calibration:
    """Temperature, acceptance rule and candidates from the logits (n, 10) and labels (n,) of validation images.

    risk: tolerated share of wrong answers among those given; refused: share of these digits that may be taken for none;
    coverage: share of digits that shall be among the candidates.
    """
    temperature = fit_temperature(logits, labels)
    probabilities = softmax(logits, temperature)
    threshold = choose_threshold(probabilities.max(axis=1), logits.argmax(axis=1) == labels, risk)
    return Calibration(
        temperature,
        threshold,
        float(np.quantile(energy(logits), refused)),
        conformal_probability(probabilities, labels, coverage),
    )


def candidates_summary(candidates: Sequence[Sequence[int]], labels: np.ndarray) -> dict:
    """Of sets of digits: ``covered`` and ``first``, how often the label is in them and is their first, and ``size``, how
    many digits they have (mean)."""
    covered = sum(label in some for some, label in zip(candidates, labels, strict=True))
    first = sum(label == some[0] for some, label in zip(candidates, labels, strict=True))
    return {
        "covered": proportion(covered, len(labels)),
        "first": proportion(first, len(labels)),
        "size": float(np.mean([len(some) for some in candidates])) if len(labels) else float("nan"),
    }


def acceptance_summary(accepted: np.ndarray, correct: np.ndarray) -> dict:
    """``answered`` (of all) and ``right`` (of the answered) when ``accepted`` (n,) says which answers were given."""
    accepted, correct = np.asarray(accepted, bool), np.asarray(correct, bool)
    answered, right = int(accepted.sum()), int((accepted & correct).sum())
    return {"answered": proportion(answered, len(accepted)), "right": proportion(right, answered)}


def refusal_table(replies: Mapping[str, list]) -> pd.DataFrame:
    """What a recognizer replied to drawings that are no digits: a row a kind, from lists of ``recognizer.Prediction``.

    Columns: ``kind``, ``n``, the shares ``answered``, ``unsure`` and ``not a digit``, ``commonest guess``.
    """
    rows = []
    for kind, answers in replies.items():
        reasons = pd.Series([answer.reason for answer in answers]).value_counts(normalize=True)
        guesses = [answer.digit for answer in answers if answer.digit is not None]
        rows.append(
            {
                "kind": kind,
                "n": len(answers),
                "answered": reasons.get("", 0.0),
                "unsure": reasons.get("unsure", 0.0),
                "not a digit": reasons.get("not a digit", 0.0),
                "commonest guess": str(np.bincount(guesses).argmax()) if guesses else "–",
            }
        )
    return pd.DataFrame(rows)


def at_thresholds(confidence: np.ndarray, correct: np.ndarray, refused: np.ndarray) -> pd.DataFrame:
    """What a movable threshold gives: for 0, 0.01, ... 0.99 the share ``answered`` and, of those, the share ``right``.

    confidence, correct, refused: (n,); what is ``refused`` for another reason is answered at no threshold.
    """
    thresholds = np.arange(100) / 100
    given = (np.asarray(confidence) >= thresholds[:, None]) & ~np.asarray(refused, bool)
    right = np.divide(
        (given & np.asarray(correct, bool)).sum(1),
        given.sum(1),
        out=np.ones(100),
        where=given.any(1),
    )
    return pd.DataFrame({"threshold": thresholds, "answered": given.mean(1), "right": right})


# --- Comparing two models, and intervals for anything -----------------------------------------------------------------


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> dict:
    """Exact test that two models err equally often on the same samples (McNemar 1947): only where they differ counts.

    Returns ``only_a``, ``only_b`` (samples that just one gets right) and the two-sided ``p_value``.

    >>> mcnemar([True] * 9 + [False], [False] * 6 + [True] * 4)
    {'only_a': 6, 'only_b': 1, 'p_value': 0.125}
    """
    correct_a, correct_b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    p_value = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p_value": float(p_value)}


def paired_table(answers: Mapping[str, Answers], reference: str) -> pd.DataFrame:
    """Several ways to answer the same images, each tested against the one called ``reference`` (``mcnemar``).

    Columns: ``way``, ``accuracy``, ``errors``, ``95% interval``, ``only here`` and ``only there`` (images that this
    way or only the reference gets right), ``p``; NaN in the reference's own row.
    """
    rows = []
    for name, one in answers.items():
        score = accuracy_summary(one.labels, one.predictions)
        test = (
            mcnemar(one.correct, answers[reference].correct)
            if name != reference
            else dict.fromkeys(("only_a", "only_b", "p_value"), float("nan"))
        )
        rows.append(
            {
                "way": name,
                "accuracy": score["accuracy"],
                "errors": score["errors"],
                "95% interval": "{:.1%} to {:.1%}".format(*score["interval"]),
                "only here": test["only_a"],
                "only there": test["only_b"],
                "p": test["p_value"],
            }
        )
    return pd.DataFrame(rows)


def p_text(p_value: float) -> str:
    """A p-value for a table: two digits, and never zero."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    seed: int,
    resamples: int = 500,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of ``statistic(*arrays)``, resampling the rows of all arrays together (Efron 1979)."""
    rows = np.arange(len(arrays[0]))

    def resampled(chosen):
        return statistic(*(array[chosen] for array in arrays))

    result = stats.bootstrap(
        (rows,),
        resampled,
        n_resamples=resamples,
        confidence_level=confidence,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


# --- Robustness -------------------------------------------------------------------------------------------------------


def robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    corruptions: Sequence,
    seed: int,
) -> pd.DataFrame:
    """Accuracy under each corruption at each severity, all on the same images with the same seed.

    predict: images (n, 28, 28) to probabilities (n, 10); corruptions: ``digits.data.corruptions.Corruption`` objects.
    Columns: ``corruption``, ``severity``, ``accuracy``, ``errors``, ``n``, ``low``, ``high`` (95% interval).
    """
    rows = []
    for corruption in corruptions:
        for severity in corruption.severities:
            harder = corruption(images, severity, np.random.default_rng(seed))
            score = accuracy_summary(labels, predict(harder).argmax(axis=1))
            low, high = score.pop("interval")
            rows.append(
                {
                    "corruption": corruption.name,
                    "severity": severity,
                    **score,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def worst_severities(table: pd.DataFrame) -> pd.DataFrame:
    """The row of each corruption, in the table's order, where a ``robustness`` table has its lowest accuracy."""
    lowest = table.groupby("corruption", sort=False)["accuracy"].idxmin()
    return table.loc[lowest].reset_index(drop=True)

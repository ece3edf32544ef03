"""How good, how sure, how robust: probabilities and labels in, numbers and tables out.

Everywhere: ``probabilities`` is (n, 10) with rows that sum to 1, ``labels`` is (n,) with integers 0
to 9, ``confidence`` is (n,) in [0, 1], ``correct`` is (n,) of booleans.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from sklearn.metrics import confusion_matrix

CLASSES = np.arange(10)
BINS = 15  # of equal width, for confidence between 0 and 1
_TINY = np.finfo(np.float64).tiny  # the logarithm of what was rounded to 0 stays finite


@dataclass(frozen=True)
class Predictions:
    """What a model said about n labelled images, and how sure it was."""

    labels: np.ndarray  # (n,) integers 0 to 9
    logits: np.ndarray  # (n, 10), before the softmax
    temperature: float = 1.0  # the logits are divided by it

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, 10), calibrated by the temperature."""
        return special.softmax(np.asarray(self.logits, np.float64) / self.temperature, axis=1)

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

    def uncalibrated(self) -> "Predictions":
        """The same predictions at temperature 1."""
        return replace(self, temperature=1.0)


# Shares and accuracy, with their intervals


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for a proportion (Wilson 1927); unlike the textbook ± it holds near 0 and 1.

    With n = 0 nothing is known: (0, 1).

    >>> [round(end, 4) for end in wilson_interval(9_946, 10_000)]
    [0.993, 0.9959]
    """
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def proportion(successes: int, n: int) -> dict:
    """``share`` (NaN when n = 0), ``count``, ``n`` and the 95% Wilson ``interval``."""
    share = float(successes / n) if n else float("nan")
    interval = wilson_interval(successes, n)
    return {"share": share, "count": int(successes), "n": int(n), "interval": interval}


def share_text(share: dict) -> str:
    """A ``proportion`` for a sentence.

    >>> share_text(proportion(3_403, 3_498))
    '97.3% (3,403 of 3,498; 95% interval 96.7% to 97.8%)'
    """
    low, high = share["interval"]
    counted = f"{share['count']:,} of {share['n']:,}"
    return f"{share['share']:.1%} ({counted}; 95% interval {low:.1%} to {high:.1%})"


def accuracy_summary(labels: np.ndarray, predictions: np.ndarray) -> dict:
    """``accuracy`` (NaN when n = 0), ``errors``, ``n`` and the 95% Wilson ``interval``."""
    right = proportion(int(np.sum(np.asarray(labels) == predictions)), len(labels))
    errors, n = right["n"] - right["count"], right["n"]
    return {"accuracy": right["share"], "errors": errors, "n": n, "interval": right["interval"]}


def accuracy_text(summary: dict) -> str:
    """An ``accuracy_summary`` for a sentence.

    >>> accuracy_text(accuracy_summary(np.zeros(10_000), np.arange(10_000) < 36))
    '99.64% (36 errors in 10,000; 95% interval 99.50% to 99.74%)'
    """
    low, high = summary["interval"]
    counted = f"{summary['errors']:,} errors in {summary['n']:,}"
    return f"{summary['accuracy']:.2%} ({counted}; 95% interval {low:.2%} to {high:.2%})"


def tolerance(share: float, n: int) -> float:
    """How far a share of n items may be off in a second run as good as the first.

    Three standard deviations of the difference of two shares; two successes and two failures are
    added (Agresti and Caffo 2000), so that a share of 0 or 1 has a tolerance, too.

    >>> round(tolerance(0.9956, 10_000), 4)
    0.0029
    """
    p = (share * n + 2) / (n + 4)
    return 3 * float(np.sqrt(2 * p * (1 - p) / n)) if n else 1.0


def comparison(summaries: Mapping[str, dict]) -> pd.DataFrame:
    """Accuracy summaries by name as a table, the best first."""
    rows = []
    for name, one in summaries.items():
        row = {"model": name} | {key: one[key] for key in ("accuracy", "errors", "n")}
        rows.append(row | {"95% interval": "{:.2%} to {:.2%}".format(*one["interval"])})
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts (10, 10): row = true digit, column = digit that was read."""
    return confusion_matrix(labels, predictions, labels=CLASSES)


def confusion_rates(matrix: np.ndarray) -> np.ndarray:
    """Each row of a confusion matrix as shares of that digit; NaN for a digit that never occurs."""
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)


def confused_pairs(matrix: np.ndarray, top: int = 5) -> pd.DataFrame:
    """The commonest confusions, the most frequent first: ``digit``, ``read as``, ``count``."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:top]
    rows, columns = np.unravel_index(order, errors.shape)
    table = pd.DataFrame({"digit": rows, "read as": columns, "count": errors[rows, columns]})
    return table[table["count"] > 0]


def per_class(labels: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """One row a digit: ``n``, ``errors``, ``recall`` (NaN for a digit that does not occur) with its
    95% interval, ``precision``, ``mostly read as`` (the commonest wrong answer, "–" for none)."""
    matrix = confusion(labels, predictions)
    n, right = matrix.sum(axis=1), np.diag(matrix)
    intervals = np.array([wilson_interval(k, m) for k, m in zip(right, n, strict=True)])
    worst = [str(row.argmax()) if row.any() else "–" for row in matrix - np.diag(right)]
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
    return pd.DataFrame(columns).rename_axis("digit")


def by_group(groups: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """``n``, ``right``, ``errors``, ``accuracy``, 95% ``low``, ``high`` of each group (n,)."""
    grouped = pd.DataFrame({"group": groups, "correct": correct}).groupby("group")["correct"]
    table = grouped.agg(n="count", right="sum")
    table["errors"] = table["n"] - table["right"]
    table["accuracy"] = table["right"] / table["n"]
    intervals = [wilson_interval(*row) for row in table[["right", "n"]].itertuples(index=False)]
    table["low"], table["high"] = np.transpose(intervals)
    return table


def error_table(
    labels: np.ndarray, probabilities: np.ndarray, known: Iterable[int] = ()
) -> pd.DataFrame:
    """Every wrong prediction, the most confident first.

    Columns: ``index`` into the data, ``label``, ``first`` and ``second`` guess with ``p first`` and
    ``p second``, ``known`` (the index is among ``known``, e.g. documented label errors).
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    index = np.flatnonzero(ranked[:, 0] != labels)
    first, second = ranked[index].T
    columns = {
        "index": index,
        "label": labels[index],
        "first": first,
        "p first": probabilities[index, first],
        "second": second,
        "p second": probabilities[index, second],
        "known": np.isin(index, list(known)),
    }
    table = pd.DataFrame(columns)
    return table.sort_values("p first", ascending=False, kind="stable", ignore_index=True)


# Calibration


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(true digit), in nats; 0 is perfect, log 10 = 2.30 is guessing."""
    true = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, _TINY)).mean())


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Confidence against accuracy in bins of equal width (Guo et al. 2017, section 2), none empty.

    Columns: ``low``, ``high`` (the bin's edges), ``n``, mean ``confidence``, ``accuracy`` with its
    95% interval in ``accuracy low`` and ``accuracy high``.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    edges, rows = np.linspace(0, 1, BINS + 1), []
    for place, chosen in _bin_members(confidence).items():
        n, right, mean = len(chosen), int(correct[chosen].sum()), confidence[chosen].mean()
        interval = wilson_interval(right, n)
        rows.append((edges[place], edges[place + 1], n, mean, right / n, *interval))
    measured = ["confidence", "accuracy", "accuracy low", "accuracy high"]
    return pd.DataFrame(rows, columns=["low", "high", "n", *measured])


def _bin_members(confidence: np.ndarray) -> dict[int, np.ndarray]:
    """The sample indices of each bin, (low, high], that is not empty, by the bin's number."""
    above = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence)
    place = np.clip(above - 1, 0, BINS - 1)
    return {i: np.flatnonzero(place == i) for i in np.unique(place)}


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size (Guo et al. 2017, equation 3).

    In [0, 1]; chance gives perfect calibration some, too: ``calibration_error_by_chance``.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    members = _bin_members(confidence).values()
    gaps = [abs(confidence[chosen].sum() - correct[chosen].sum()) for chosen in members]
    return float(sum(gaps) / len(confidence))


def calibration_error_by_chance(confidence: np.ndarray, seed: int) -> float:
    """The calibration error that a model with true confidence stays below 95 times in 100.

    Draws 200 times who is right from the confidence itself (consistency resampling, Bröcker and
    Smith 2007, section 3).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.random((200, len(confidence))) < confidence
    members = _bin_members(confidence).values()
    gaps = [abs(confidence[chosen].sum() - drawn[:, chosen].sum(axis=1)) for chosen in members]
    return float(np.quantile(np.sum(gaps, axis=0) / len(confidence), 0.95))


def calibration_summary(predictions: Predictions, seed: int) -> dict:
    """Calibration error (``ece``) beside its chance level, and likelihood (``nll``).

    ``ece`` has no bootstrap interval: every resampling adds to a mean of absolute gaps.
    """
    confidence, correct = predictions.confidence, predictions.correct
    scored = predictions.probabilities, predictions.labels
    return {
        "ece": expected_calibration_error(confidence, correct),
        "chance": calibration_error_by_chance(confidence, seed),
        "nll": negative_log_likelihood(*scored),
        "nll_interval": bootstrap_interval(negative_log_likelihood, *scored, seed=seed),
        "confidence": float(confidence.mean()),
        "n": len(correct),
    }


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.05, 20] with the least negative log-likelihood (Guo et al. 2017, 4.2).

    Fit it on data that the network was not trained on and that is not the test set.
    """
    logits = np.asarray(logits, np.float64)
    true = np.arange(len(labels)), labels

    def loss(log_temperature):
        return -special.log_softmax(logits / np.exp(log_temperature), axis=1)[true].mean()

    bounds = np.log(0.05), np.log(20.0)
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


# Selective prediction: answer, or say "not sure"


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """What every possible threshold gives (Geifman and El-Yaniv 2017), a row a distinct confidence.

    Columns: ``threshold`` (descending; the least confidence that is answered), ``coverage`` (share
    that is answered), ``risk`` (share of these that is wrong), the counts ``answered``, ``wrong``.
    """
    confidence = np.asarray(confidence, np.float64)
    wrong = pd.Series(~np.asarray(correct, bool)).groupby(-confidence)
    table = wrong.agg(answered="count", wrong="sum").cumsum().rename_axis("threshold").reset_index()
    coverage, risk = table["answered"] / len(confidence), table["wrong"] / table["answered"]
    table = table.assign(threshold=-table["threshold"], coverage=coverage, risk=risk)
    return table[["threshold", "coverage", "risk", "answered", "wrong"]]


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float:
    """The lowest threshold whose answers are wrong at most ``risk`` of the time, fitted on data
    that is not the test set; where there is none, the highest at which anything is answered."""
    curve = risk_coverage(confidence, correct)
    good = curve[curve["risk"] <= risk]
    return float(good["threshold"].iloc[-1] if len(good) else curve["threshold"].iloc[0])


def conformal_probability(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """The probability that the right digit of a new image reaches with a chance of ``coverage``.

    Split conformal prediction (Sadinle, Lei and Wasserman 2019), corrected for finite samples
    (Angelopoulos and Bates 2021, section 1); it holds for images like these. 0 for too few.
    """
    missed = int((len(labels) + 1) * (1 - coverage) + 1e-9)
    right = np.sort(probabilities[np.arange(len(labels)), labels])
    return float(right[missed - 1]) if missed else 0.0


def candidates_summary(candidates: Sequence[Sequence[int]], labels: np.ndarray) -> dict:
    """Of sets of digits: ``covered`` and ``first``, how often the label is in them and is their
    first, and ``size``, how many digits they have (mean)."""
    pairs = list(zip(candidates, labels, strict=True))
    return {
        "covered": proportion(sum(label in some for some, label in pairs), len(pairs)),
        "first": proportion(sum(label == some[0] for some, label in pairs), len(pairs)),
        "size": float(np.mean([len(some) for some, _ in pairs])) if pairs else float("nan"),
    }


def acceptance_summary(accepted: np.ndarray, correct: np.ndarray) -> dict:
    """``answered`` (of all) and ``right`` (of the answered) when ``accepted`` (n,) are answered."""
    accepted, correct = np.asarray(accepted, bool), np.asarray(correct, bool)
    answered, right = int(accepted.sum()), int((accepted & correct).sum())
    return {"answered": proportion(answered, len(accepted)), "right": proportion(right, answered)}


def refusal_table(replies: Mapping[str, Sequence]) -> pd.DataFrame:
    """What a recognizer replied to non-digits, a row a kind, from lists of its ``Prediction``.

    Columns: ``kind``, ``n``; shares ``answered``, ``unsure``, ``not a digit``; ``commonest guess``.
    """
    rows = []
    for kind, predictions in replies.items():
        reasons = np.array([one.reason for one in predictions])
        guesses = [one.digit for one in predictions if one.digit is not None]
        row = {"kind": kind, "n": len(predictions), "answered": (reasons == "").mean()}
        row |= {reason: (reasons == reason).mean() for reason in ("unsure", "not a digit")}
        row["commonest guess"] = str(np.bincount(guesses).argmax()) if guesses else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def at_thresholds(confidence: np.ndarray, correct: np.ndarray, refused: np.ndarray) -> pd.DataFrame:
    """What a movable threshold gives: for 0, 0.01, ... 0.99 the share ``answered`` and, of those,
    the share ``right``. What is ``refused`` (n,) for another reason is answered at no threshold."""
    thresholds = np.arange(100) / 100
    given = (np.asarray(confidence) >= thresholds[:, None]) & ~np.asarray(refused, bool)
    hits = (given & np.asarray(correct, bool)).sum(1)
    right = np.divide(hits, given.sum(1), out=np.ones(100), where=given.any(1))
    return pd.DataFrame({"threshold": thresholds, "answered": given.mean(1), "right": right})


# Comparing two models, and intervals for anything


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> dict:
    """Exact test that two models err equally often on the same samples (McNemar 1947).

    Returns ``only_a``, ``only_b`` (samples that just one gets right) and the two-sided ``p_value``.

    >>> mcnemar([True] * 9 + [False], [False] * 6 + [True] * 4)
    {'only_a': 6, 'only_b': 1, 'p_value': 0.125}
    """
    correct_a, correct_b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    p_value = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p_value": float(p_value)}


def paired_table(ways: Mapping[str, Predictions], reference: str) -> pd.DataFrame:
    """Several ways to read the same images, each tested against the one called ``reference``.

    Columns: ``way``, ``accuracy``, ``errors``, ``95% interval``; NaN for the reference: ``only
    here`` and ``only there`` (what just this way or the reference gets right), ``p`` (``mcnemar``).
    """
    rows = []
    for name, one in ways.items():
        score = accuracy_summary(one.labels, one.predictions)
        test = mcnemar(one.correct, ways[reference].correct) if name != reference else {}
        row = {"way": name, "accuracy": score["accuracy"], "errors": score["errors"]}
        row["95% interval"] = "{:.1%} to {:.1%}".format(*score["interval"])
        for title, key in (("only here", "only_a"), ("only there", "only_b"), ("p", "p_value")):
            row[title] = test.get(key, float("nan"))
        rows.append(row)
    return pd.DataFrame(rows)


def p_text(p_value: float) -> str:
    """A p-value for a table: two digits, and never zero."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: np.ndarray, seed: int, resamples: int = 500
) -> tuple[float, float]:
    """95% percentile interval of ``statistic(*arrays)``, rows drawn together (Efron 1979)."""
    result = stats.bootstrap(
        (np.arange(len(arrays[0])),),
        lambda rows: statistic(*(array[rows] for array in arrays)),
        n_resamples=resamples,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


# Robustness


def robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    corruptions: Sequence,
    seed: int,
) -> pd.DataFrame:
    """Accuracy under each corruption at each severity, on the same images with the same seed.

    predict: images (n, 28, 28) to probabilities (n, 10). corruptions: ``data.augmentation``'s.
    Columns: ``corruption``, ``severity``, ``accuracy``, ``errors``, ``n``, ``low``, ``high`` (95%).
    """
    rows = []
    for corruption in corruptions:
        for severity in corruption.severities:
            harder = corruption(images, severity, np.random.default_rng(seed))
            score = accuracy_summary(labels, predict(harder).argmax(axis=1))
            low, high = score.pop("interval")
            named = {"corruption": corruption.name, "severity": severity}
            rows.append({**named, **score, "low": low, "high": high})
    return pd.DataFrame(rows)

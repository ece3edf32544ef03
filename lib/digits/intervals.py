"""A share with its count and interval. SciPy only, so that the app's own installation can say it, too."""

from scipy import stats


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for a proportion (Wilson 1927); unlike the textbook ± it holds near 0 and 1.

    With n = 0 nothing is known: (0, 1). Raises ValueError when ``successes`` is not within 0..n.

    >>> [round(end, 4) for end in wilson_interval(9_946, 10_000)]
    [0.993, 0.9959]
    """
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def proportion(successes: int, n: int) -> dict:
    """A share with what makes it readable: ``share`` (NaN when n = 0), ``count``, ``n``, 95% Wilson ``interval``."""
    share = float(successes / n) if n else float("nan")
    return {
        "share": share,
        "count": int(successes),
        "n": int(n),
        "interval": wilson_interval(successes, n),
    }


def share_text(share: dict) -> str:
    """A ``proportion`` for a sentence.

    >>> share_text(proportion(3_403, 3_498))
    '97.3% (3,403 of 3,498; 95% interval 96.7% to 97.8%)'
    """
    low, high = share["interval"]
    return f"{share['share']:.1%} ({share['count']:,} of {share['n']:,}; 95% interval {low:.1%} to {high:.1%})"

"""A run's numbers one by one, and which of them say something about its result. Standard library only."""

import re
from collections.abc import Iterator
from typing import Any

from digits.files import sha256_json

# A duration is what has "seconds" or "ms" as a word of its key, or of a key above it: training_seconds,
# latency_ms_median, seconds.off; not latency_runs. Durations are never compared.
_DURATION = re.compile(r"(?:^|_)(?:seconds|ms)(?:_|$)")
# What tells where a run was made: the words for the data's origin (its hashes are compared), verdicts of visitors, and
# which file was the fastest, which durations decided.
_CIRCUMSTANCES = (
    ("01_eda", "dataset", "source"),
    ("03_evaluation", "feedback"),
    *(
        ("04_optimization", "advice", purpose)
        for purpose in ("as good, and fast", "the fastest of all")
    ),
)

Keys = tuple[str | int, ...]  # the way to one number: ("03_evaluation", "test", "interval", 0)


def walk(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every number, text, flag and null of ``tree`` with the way to it."""
    if isinstance(tree, (dict, list)):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from walk(item, (*keys, key))
    else:
        yield keys, tree


def compared(metrics: dict) -> dict[Keys, Any]:
    """What of ``metrics.json`` two runs of the same code, data, parameters and machine must have in common."""
    return {
        keys: value
        for keys, value in walk(metrics)
        if not is_duration(keys) and not is_circumstance(keys)
    }


def is_duration(keys: Keys) -> bool:
    """True for a time that something took.

    >>> is_duration(("04_optimization", "files", "int8", "latency_ms_median")), is_duration(("latency_runs",))
    (True, False)
    """
    return any(isinstance(key, str) and _DURATION.search(key) for key in keys)


def is_circumstance(keys: Keys) -> bool:
    """True for what tells of the place where a run was made and not of its result."""
    said_again = len(keys) > 1 and keys[1] in ("headlines", "aims")
    return said_again or any(keys[: len(start)] == start for start in _CIRCUMSTANCES)


def fingerprint(notebook: str, metrics: Any) -> str:
    """The SHA-256 of what one notebook recorded, durations and circumstances aside."""
    return sha256_json({name(keys): value for keys, value in compared({notebook: metrics}).items()})


def name(keys: Keys) -> str:
    """The way to a number as one word.

    >>> name(("03_evaluation", "test", "interval", 0))
    '03_evaluation.test.interval.0'
    """
    return ".".join(map(str, keys))


def group(keys: Keys) -> str:
    """The name that all items of a list share.

    >>> group(("03_evaluation", "test", "interval", 0))
    '03_evaluation.test.interval.*'
    """
    return ".".join("*" if isinstance(key, int) else key for key in keys)

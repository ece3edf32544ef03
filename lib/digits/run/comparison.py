"""Hold one run against another: files by their SHA-256, numbers one by one, and what could explain a difference."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from digits.files import RunError, read_json, sha256
from digits.run import causes, tolerances
from digits.run.quantities import compared, group, name

ABSENT = "absent"  # shown for a number that one of the runs does not have
_FILES = (
    "models/",
    "data/",
)  # figures and notebooks show the numbers, which are compared themselves
_SHOWN = 25  # rows on the console
FILE = "comparison.md"  # the whole table, in the folder of the run that was compared


class Outcome(IntEnum):
    """What a comparison ends with; the value is the exit status. 1 and 2 are failures and wrong requests."""

    IDENTICAL = 0
    WITHIN = 3
    DIFFERENT = 4


TITLES = {
    Outcome.IDENTICAL: "IDENTICAL",
    Outcome.WITHIN: "EQUAL WITHIN THE TOLERANCES",
    Outcome.DIFFERENT: "DIFFERENT",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of a run: its ``run.json`` and, unless it travelled alone, its ``metrics.json``."""

    label: str
    record: dict
    metrics: dict | None

    @property
    def tolerances(self) -> dict[str, tolerances.Allowed]:
        """The tolerances that the run states, else the defaults for its numbers."""
        stated = self.record.get("tolerances", {}).get("numbers")
        return tolerances.default(self.metrics or {}) if stated is None else stated


@dataclass(frozen=True)
class Row:
    """One file or number that is not the same in both runs."""

    name: str
    reference: Any
    here: Any
    allowed: tolerances.Allowed
    within: bool


@dataclass(frozen=True)
class Comparison:
    """The result of holding a run against a reference."""

    reference: Evidence
    files: list[Row]  # those with other bytes
    numbers: list[Row]  # those with another value
    compared_files: int
    compared_numbers: int
    causes: dict[str, list[str]]

    @property
    def outcome(self) -> Outcome:
        """Other bytes alone are no difference: rounding shows in them first. Another question is, whatever it gave."""
        if not self.files and not self.numbers:
            return Outcome.IDENTICAL
        missing = any(ABSENT in (row.reference, row.here) for row in self.files)
        asked = any(kind in self.causes for kind in causes.ASKED)
        within = all(row.within for row in self.numbers)
        return Outcome.WITHIN if within and not missing and not asked else Outcome.DIFFERENT


def read(folder: Path) -> Evidence:
    """A finished run's evidence; RunError when it is missing, unfinished, damaged or not as it was recorded."""
    label = f"{folder.parent.name}/{folder.name}"
    if not (folder / "run.json").is_file():
        raise RunError(f"{label}/ holds no run (there is no run.json).")
    record = read_json(folder / "run.json")
    if record.get("status") != "finished" or not isinstance(record.get("files"), dict):
        raise RunError(f"{label}/run.json is not that of a finished run.")
    recorded = record["files"].get("metrics.json", {}).get("sha256")
    if not (folder / "metrics.json").is_file() or sha256(folder / "metrics.json") != recorded:
        raise RunError(f"{label}/metrics.json is missing or is not the recorded one.")
    return Evidence(label, record, read_json(folder / "metrics.json"))


def compare(reference: Evidence, run: Evidence) -> Comparison:
    """Compare everything that both runs have; without the reference's metrics, each notebook's numbers as a whole."""
    before, now = _files(reference.record), _files(run.record)
    files = [
        Row(file, before.get(file, ABSENT), now.get(file, ABSENT), 0.0, False)
        for file in sorted(before.keys() | now.keys())
        if before.get(file) != now.get(file)
    ]
    if reference.metrics is None:
        old, new, allowed = _fingerprints(reference.record), _fingerprints(run.record), {}
    else:
        old, new, allowed = (
            compared(reference.metrics),
            compared(run.metrics or {}),
            reference.tolerances,
        )
    numbers = []
    for keys in dict.fromkeys([*old, *new]):
        one, other, limit = (
            old.get(keys, ABSENT),
            new.get(keys, ABSENT),
            allowed.get(group(keys), 0.0),
        )
        if one != other:
            numbers.append(Row(name(keys), one, other, limit, tolerances.agrees(one, other, limit)))
    return Comparison(
        reference,
        files,
        numbers,
        len(before.keys() | now.keys()),
        len(old.keys() | new.keys()),
        causes.find(reference.record, run.record),
    )


def summary(comparison: Comparison, rows: int | None = _SHOWN) -> str:
    """The comparison in words, with at most ``rows`` rows of its table (None: all), the differences first."""
    outcome, record = comparison.outcome, comparison.reference.record
    other = sum(not row.within for row in comparison.numbers)
    same = comparison.compared_numbers - len(comparison.numbers)
    lines = [
        f"Compared with {comparison.reference.label} ({record.get('started', '')[:10]}, commit "
        f"{(record.get('code', {}).get('commit') or 'none')[:10]}):",
        f"  files    {comparison.compared_files - len(comparison.files):,} identical, "
        f"{len(comparison.files):,} with other bytes"
        + "".join(f"\n             {row.name}" for row in comparison.files),
        f"  numbers  {same:,} identical, {len(comparison.numbers) - other:,} within their tolerance, "
        f"{other:,} different (durations are not compared)",
    ]
    if comparison.numbers:
        lines += ["", *table(comparison, rows)]
    lines += ["", f"{TITLES[outcome]}."]
    if outcome is Outcome.IDENTICAL:
        lead = "What differs all the same, without a trace in the result:"
        silent = "Nothing that is recorded differs."
    else:
        lead = "Likely cause, the likeliest first:"
        silent = (
            "No cause is recorded: same data, parameters, code, packages, hardware and settings. Something in the "
            "run is not deterministic."
        )
    found = causes.sentences(comparison.causes)
    return "\n".join([*lines, *([lead, *(f"  {line}" for line in found)] if found else [silent])])


def table(comparison: Comparison, rows: int | None = None) -> list[str]:
    """The numbers that are not the same, as the lines of a Markdown table: those out of tolerance first."""
    ordered = sorted(comparison.numbers, key=lambda row: row.within)[:rows]
    cells = [
        (
            row.name,
            _shown(row.reference),
            _shown(row.here),
            _tolerance(row.allowed),
            "within" if row.within else "DIFFERENT",
        )
        for row in ordered
    ]
    lines = [
        f"| {' | '.join(line)} |"
        for line in [
            ("number", comparison.reference.label, "here", "tolerance", ""),
            ("---",) * 5,
            *cells,
        ]
    ]
    more = len(comparison.numbers) - len(ordered)
    return lines + ([f"and {more:,} more"] if more else [])


def _files(record: dict) -> dict[str, str]:
    """SHA-256 of each file that holds a result."""
    return {
        file: entry["sha256"]
        for file, entry in record.get("files", {}).items()
        if file.startswith(_FILES)
    }


def _fingerprints(record: dict) -> dict[tuple[str, ...], str]:
    return {
        (stage["notebook"], "numbers_sha256"): stage.get("numbers_sha256", ABSENT)
        for stage in record["stages"]
    }


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def _tolerance(allowed: tolerances.Allowed) -> str:
    return "any" if allowed is tolerances.ANY else f"± {allowed:.3g}" if allowed else "exact"

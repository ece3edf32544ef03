"""What the runner says on the console."""

import sys
from pathlib import Path

from digits.run.folders import read_record

STAND_IN = (
    "THIS RUN DID NOT USE MNIST: it could not be had, so scikit-learn's small bundled digits stood in for it.\n"
    "Its numbers say nothing about MNIST. Set DIGITS_DATA to a folder with mnist.npz or the four IDX files,\n"
    "or connect to the internet, and run again."
)
CHOSEN = (
    "This run used scikit-learn's small bundled digits, as asked for with --dataset digits.\n"
    "Its numbers say nothing about MNIST."
)


def say(text: str = "") -> None:
    """One line (or several) for the person who watches."""
    print(text, flush=True)


def clock(seconds: float) -> str:
    """Seconds as a clock shows them.

    >>> clock(45.2), clock(750), clock(3723)
    ('0:45', '12:30', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stage(
    number: int, total: int, name: str, title: str, elapsed: float, expected: float | None
) -> None:
    """The line that opens a notebook."""
    forecast = f", expected {clock(expected)}" if expected else ""
    say(f"\n{bold(f'[{number}/{total}] {name}')}  {title}  (elapsed {clock(elapsed)}{forecast})")


def notice(requested: str) -> None:
    """Say loudly that the data was not MNIST."""
    text = CHOSEN if requested == "digits" else STAND_IN
    width = max(map(len, text.splitlines()))
    frame = "*" * (width + 4)
    body = "\n".join(f"* {line:<{width}} *" for line in text.splitlines())
    say("\n" + bold(f"{frame}\n{body}\n{frame}"))


def bold(text: str) -> str:
    """``text`` in bold where the console can."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def expected_seconds(outputs: Path, profile: str, dataset: str) -> dict[str, float]:
    """Seconds for each notebook in the latest finished run of this profile and dataset; {} when there is none."""
    records = [read_record(path.parent) for path in outputs.glob("*/run.json")]
    alike = [
        record
        for record in records
        if record.get("status") == "finished"
        and record.get("profile") == profile
        and record.get("dataset", {}).get("requested") == dataset
    ]
    if not alike:
        return {}
    latest = max(alike, key=lambda record: record.get("ended") or "")
    return {stage["notebook"]: stage.get("seconds", 0) for stage in latest.get("stages", [])}

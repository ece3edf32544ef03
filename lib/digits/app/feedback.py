"""What visitors told us about answers, in a database: SQLite in ``outputs/feedback``, or any that SQLAlchemy knows.

``DIGITS_FEEDBACK_URL`` names another database (``postgresql+psycopg://...``). Every problem, a damaged or read-only file
and a value out of range alike, is a FeedbackError in words that can be shown, so that drawing goes on.

    python -m digits.app.feedback summary
    python -m digits.app.feedback export corrections.npz
"""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digits import files
from digits.files import write_file
from digits.recognizer import ink

if TYPE_CHECKING:  # loaded only where they are used: the app starts faster without
    import pandas as pd
    from sqlalchemy import Engine

# SQLAlchemy (20 MB, a second) is imported where it is used: an app whose visitors give no feedback never loads it.

URL_VARIABLE = "DIGITS_FEEDBACK_URL"
TABLE = "feedback_1"  # the number is the schema's version: a change makes a new table and leaves this one readable
MOST_STROKE_BYTES = 100_000  # as JSON
MOST_POINTS = 20_000
MOST_RECORDS, MOST_BYTES = (
    100_000,
    1_000_000_000,
)  # then the collection is full, so that nobody fills the disk
PATIENCE = 15.0  # seconds to wait for other writers, or for a server that does not answer
REASONS = ("", "unsure", "not a digit", "blank")
KEPT = (
    "Kept: what you drew (or the 28 x 28 picture of your upload), the answer with its probabilities, your verdict, the "
    "model's name and hash, the run, the app's version and the time (UTC). Not kept: who you are, your address, your "
    "browser."
)


class FeedbackError(Exception):
    """Feedback was not stored or cannot be read; the message can be shown to a visitor."""


@dataclass(frozen=True)
class Feedback:
    """One verdict on one answer; FeedbackError when a value is out of range."""

    verdict: str  # "right" or "wrong"
    digit: int  # the answer, 0 to 9
    confidence: float  # 0 to 1
    accepted: bool
    reason: str  # one of REASONS
    probabilities: Sequence[float]  # ten, summing to 1
    label: int | None = None  # what it was; None when a visitor said that it was no digit
    strokes: Sequence[np.ndarray] | None = (
        None  # (n, 2) each, pixels of a canvas of ``size``; this or ``crop``
    )
    crop: np.ndarray | None = None  # (28, 28) in MNIST's form, uint8 or float in [0, 1]
    size: int = ink.CANVAS
    model: str = ""
    model_sha256: str = ""
    run: str = ""
    app_version: str = ""

    def row(self) -> dict:
        """The values as they are stored."""
        _require(self.verdict in ("right", "wrong"), "The verdict is right or wrong.")
        _require(isinstance(self.accepted, bool | np.bool_), "Accepted is yes or no.")
        _require(
            isinstance(self.reason, str) and self.reason in REASONS, "This reason is not known."
        )
        _require(
            (self.strokes is None) != (self.crop is None),
            "Feedback comes with strokes or with a picture.",
        )
        return {
            "created": datetime.now(UTC).replace(tzinfo=None), "verdict": self.verdict, "label": self._label(),
            "digit": _digit(self.digit), "confidence": float(_numbers([self.confidence], 1)[0]),
            "accepted": bool(self.accepted), "reason": self.reason, "probabilities": self._probabilities(),
            "strokes": None if self.strokes is None else _stroke_json(self.strokes, self.size),
            "crop": None if self.crop is None else _crop_bytes(self.crop),
            "model": _name(self.model), "model_sha256": _hash(self.model_sha256), "run": _name(self.run),
            "app_version": _name(self.app_version),
        }  # fmt: skip

    def _label(self) -> int | None:
        digit, label = _digit(self.digit), None if self.label is None else _digit(self.label)
        if self.verdict == "right":
            _require(label in (None, digit), "A right answer has no other label.")
            return digit
        _require(label != digit, "A wrong answer is not the label.")
        return label

    def _probabilities(self) -> str:
        values = _numbers(self.probabilities, 10)
        _require(abs(values.sum() - 1) < 0.01, "Probabilities sum to 1.")
        return json.dumps([round(float(value), 6) for value in values])


class Store:
    """The collection. Each call has a connection of its own, so that processes and threads can share a database."""

    def __init__(self, engine: "Engine"):
        self._engine = engine

    @classmethod
    def open(cls, url: str | None = None) -> "Store":
        """The database at ``url``, else ``DIGITS_FEEDBACK_URL``, else ``outputs/feedback/feedback.sqlite3``; made if missing.

        FeedbackError when it cannot be reached or written, or is damaged; it is then left as it is.
        """
        url = _url(url)
        with _in_words("The feedback database cannot be opened"):
            store = cls(_engine(url))
            store._prepare()
        return store

    def _prepare(self) -> None:
        from sqlalchemy import text
        from sqlalchemy.exc import IntegrityError, ProgrammingError
        from sqlalchemy.schema import CreateTable

        sqlite = self._engine.dialect.name == "sqlite"
        if sqlite and self._engine.url.database not in (None, "", ":memory:"):
            file = self._engine.url.database.removeprefix(
                "file:"
            )  # SQLite's own form of an address, with uri=true
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        with self._engine.connect() as connection:
            if (
                sqlite
                and (found := connection.execute(text("PRAGMA quick_check(1)")).scalar()) != "ok"
            ):
                raise FeedbackError(
                    f"The feedback database is damaged ({found}). It was left as it is."
                )
            if not self._engine.dialect.has_table(connection, TABLE):
                try:
                    connection.execute(CreateTable(_table(), if_not_exists=True))
                    connection.commit()
                except (
                    IntegrityError,
                    ProgrammingError,
                ):  # PostgreSQL, when another server makes it at the same moment
                    connection.rollback()
                    if not self._engine.dialect.has_table(connection, TABLE):
                        raise

    def add(self, **values: Any) -> int:
        """Store one ``Feedback``, given by its fields; returns its number once it is committed.

        FeedbackError when a value is out of range or the database does not take it: then nothing was stored.
        """
        from sqlalchemy import insert

        try:
            row = Feedback(**values).row()
        except TypeError as error:
            raise FeedbackError(f"This feedback is incomplete: {error}") from None
        with _in_words("The feedback was not stored"), self._engine.begin() as connection:
            if _count(connection) >= MOST_RECORDS:
                raise FeedbackError("The collection is full. Thank you all the same.")
            return connection.execute(insert(_table()).values(row)).inserted_primary_key[0]

    def records(self) -> list[dict]:
        """Everything that was stored, oldest first: the columns of the table, with ``probabilities`` and ``strokes``
        as lists and ``crop`` as (28, 28) float32."""
        from sqlalchemy import select

        with _in_words("The feedback cannot be read"), self._engine.connect() as connection:
            rows = connection.execute(select(_table()).order_by(_table().c.id)).mappings().all()
            return [_decoded(row) for row in rows]

    def count(self) -> int:
        """How many verdicts are stored."""
        with _in_words("The feedback cannot be read"), self._engine.connect() as connection:
            return _count(connection)

    def summary(self) -> dict:
        """For the report: ``n``, ``right`` (share, count, n, 95% Wilson interval), ``accepted`` (the same, of accepted
        answers only), ``corrected`` (how many wrong ones name the digit) and ``confusion``, (10, 10) counts of corrected
        answers: rows what it was, columns what was answered."""
        from sqlalchemy import select

        from digits.evaluation import proportion

        columns = [_table().c[name] for name in ("verdict", "label", "digit", "accepted")]
        with _in_words("The feedback cannot be read"), self._engine.connect() as connection:
            rows = connection.execute(select(*columns)).all()
            confusion = np.zeros((10, 10), int)
            for row in rows:
                if row.verdict == "wrong" and row.label is not None:
                    confusion[row.label, row.digit] += 1
        accepted = [row.verdict == "right" for row in rows if row.accepted]
        return {
            "n": len(rows),
            "right": proportion(sum(row.verdict == "right" for row in rows), len(rows)),
            "accepted": proportion(sum(accepted), len(accepted)),
            "corrected": int(confusion.sum()),
            "confusion": confusion.tolist(),
        }

    def export_npz(self, path: Path | str) -> int:
        """Write what has a label as training data; returns how many.

        Arrays: images (n, 28, 28) float32 in MNIST's form, labels (n,) int64, digits (n,) int64 (what was answered),
        model_sha256 (n,). ``path`` appears when it is complete. Check labels by eye before training: visitors joke.
        """
        labelled = [record for record in self.records() if record["label"] is not None]
        arrays = {
            "images": np.array([_image(record) for record in labelled], np.float32).reshape(
                -1, 28, 28
            ),
            "labels": np.array([record["label"] for record in labelled], np.int64),
            "digits": np.array([record["digit"] for record in labelled], np.int64),
            "model_sha256": np.array([record["model_sha256"] for record in labelled], "U64"),
        }
        with _in_words("The export cannot be written"):
            write_file(Path(path), lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        return len(labelled)


def describe(url: str | None = None) -> str:
    """What is kept and where, in plain words, without opening or making anything; names no path of this computer."""
    url = _url(url)
    if url == _default_url():
        return f"{KEPT} Where: in the file feedback/{_default_path().name} of this app's outputs folder, on its own server."
    kind = re.match(r"[a-z]+", url.lower())
    return f"{KEPT} Where: in a database ({kind[0] if kind else 'unknown'}) that this app's owner has set up."


def collected(url: str | None = None) -> Store | None:
    """The store when there is one that holds something, else None; makes nothing. FeedbackError as in ``Store.open``."""
    file = re.fullmatch(r"sqlite:///([^?]+)", _url(url))
    if file and not Path(file[1]).exists():
        return None
    store = Store.open(url)
    return store if store.count() else None


def reported(url: str | None = None) -> dict:
    """``Store.summary`` for a report, which no database can break: ``n`` is 0 when there is nothing, and ``problem``
    says why in words when there may be something that cannot be read."""
    try:
        store = collected(url)
        return store.summary() if store else {"n": 0}
    except (FeedbackError, OSError) as error:
        return {
            "n": 0,
            "problem": str(error)
            if isinstance(error, FeedbackError)
            else f"It cannot be read: {_plain(error)}.",
        }


def sentence(summary: dict) -> str:
    """What ``reported`` found, in Markdown."""
    from digits.evaluation import share_text

    if not summary["n"]:
        return (
            f"**The feedback could not be read.** {summary['problem']}"
            if "problem" in summary
            else ("Nobody has given feedback yet, so there is nothing to report.")
        )
    accepted = summary["accepted"]
    those = (
        f"; of the accepted ones, **{share_text(accepted)}**"
        if accepted["n"]
        else "; none of them was accepted"
    )
    return f"Visitors called **{share_text(summary['right'])}** of the answers right{those}."


def shares(summary: dict) -> "pd.DataFrame":
    """The shares of right answers in a ``Store.summary`` as a data frame: one row for all, one for the accepted."""
    import pandas as pd

    rows = [
        {
            "answers": name,
            "called right": one["share"],
            "low": one["interval"][0],
            "high": one["interval"][1],
            "right": one["count"],
            "n": one["n"],
        }
        for name, one in (("all", summary["right"]), ("accepted", summary["accepted"]))
    ]
    return pd.DataFrame(rows)


def _count(connection) -> int:
    from sqlalchemy import func, select

    return connection.execute(select(func.count()).select_from(_table())).scalar_one()


def _default_path() -> Path:
    return files.OUTPUTS / "feedback" / "feedback.sqlite3"


def _default_url() -> str:
    return f"sqlite:///{_default_path()}"


def _url(url: str | None) -> str:
    return url or os.environ.get(URL_VARIABLE) or _default_url()


def _engine(url: str):
    from sqlalchemy import create_engine, event, make_url
    from sqlalchemy.pool import NullPool

    url = make_url(url)
    engine = create_engine(url, poolclass=NullPool, connect_args=_limits(url))
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _use_wal)
    return engine


def _limits(url) -> dict:
    """How long the database may keep us waiting, for drivers that we know; what the URL says itself counts more."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": PATIENCE}
    if url.drivername not in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        return {}
    milliseconds = round(1000 * PATIENCE)
    limits = {
        "connect_timeout": max(round(PATIENCE), 2),
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds}",
    }
    return {name: value for name, value in limits.items() if name not in url.query}


def _use_wal(connection, _record) -> None:
    """Readers and one writer at a time do not wait for each other; FULL: what is committed survives a power cut."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA max_page_count={MOST_BYTES // 4096}")


@cache
def _table():
    from sqlalchemy import (
        Boolean,
        Column,
        DateTime,
        Float,
        Integer,
        LargeBinary,
        MetaData,
        String,
        Table,
        Text,
    )

    return Table(
        TABLE, MetaData(), Column("id", Integer, primary_key=True), Column("created", DateTime, nullable=False),  # UTC
        Column("verdict", String(5), nullable=False), Column("label", Integer), Column("digit", Integer, nullable=False),
        Column("confidence", Float, nullable=False), Column("accepted", Boolean, nullable=False),
        Column("reason", String(20), nullable=False), Column("probabilities", Text, nullable=False),
        Column("strokes", Text), Column("crop", LargeBinary), Column("model", String(100), nullable=False),
        Column("model_sha256", String(64), nullable=False), Column("run", String(100), nullable=False),
        Column("app_version", String(100), nullable=False),
    )  # fmt: skip


@contextlib.contextmanager
def _in_words(what: str):
    """Any failure of the database or the disk as a FeedbackError that shows no path and no password."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OSError, ImportError, ValueError, LookupError, TypeError) as error:
        cause = getattr(error, "orig", None) or error
        raise FeedbackError(f"{what}: {_plain(cause)}.") from error


def _plain(error: BaseException) -> str:
    text = str(error).lower()
    known = {
        "not a database": "the file is damaged or is no database; it was left as it is",
        "malformed": "the file is damaged; it was left as it is", "readonly": "it is read-only", "read-only": "it is read-only",
        "unable to open": "the file cannot be opened or made", "locked": "others kept it busy for too long",
        "disk is full": "the disk is full", "no space": "the disk is full", "permission": "permission is missing",
        "authentication": "the server does not let this app in", "no module": "its driver is not installed",
        "timeout": "the server takes too long", "timed out": "the server takes too long",
        "refused": "the server does not answer", "connection": "the server does not answer",
    }  # fmt: skip
    return next((words for sign, words in known.items() if sign in text), f"{type(error).__name__}")


def _require(condition: bool | np.bool, message: str) -> None:
    if not condition:
        raise FeedbackError(message)


def _digit(value) -> int:
    _require(
        isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value <= 9,
        "A digit is 0 to 9.",
    )
    return int(value)


def _numbers(values, n: int) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise FeedbackError("A probability is a number.") from None
    _require(
        array.shape == (n,) and bool(((array >= 0) & (array <= 1)).all()),
        "Probabilities lie between 0 and 1.",
    )
    return array


def _name(value) -> str:
    good = isinstance(value, str) and len(value) <= 100 and (value.isprintable() or not value)
    _require(good, "A name has at most 100 printable characters.")
    return value


def _hash(value) -> str:
    _require(
        isinstance(value, str) and bool(re.fullmatch(r"([0-9a-f]{64})?", value)),
        "A SHA-256 has 64 hexadecimal digits.",
    )
    return value


def _stroke_json(strokes, size) -> str:
    """Strokes in pixels of a 280 canvas, to a tenth of a pixel."""
    _require(
        isinstance(size, int | np.integer) and 1 <= size <= 10_000,
        "The canvas has 1 to 10,000 pixels.",
    )
    _require(
        isinstance(strokes, list | tuple) and len(strokes) <= MOST_POINTS,
        "Strokes come as a list, not too many.",
    )
    try:
        _require(
            sum(len(stroke) for stroke in strokes) <= MOST_POINTS,
            "These strokes have too many points to keep.",
        )
        checked = ink.check_strokes(strokes)
    except (TypeError, ValueError, OverflowError):
        raise FeedbackError("A stroke is a list of points, each two finite numbers.") from None
    _require(bool(checked), "There is no ink to keep.")
    text = json.dumps(
        [np.round(np.clip(stroke, 0, size) * (ink.CANVAS / size), 1).tolist() for stroke in checked]
    )
    _require(len(text) <= MOST_STROKE_BYTES, "These strokes are too long to keep.")
    return text


def _crop_bytes(crop) -> bytes:
    try:
        image = np.asarray(crop)
        _require(
            image.shape == (28, 28) and image.dtype.kind in "uf", "A crop is a picture of 28 x 28."
        )
        image = image / 255 if image.dtype == np.uint8 else image
        _require(bool(((image >= 0) & (image <= 1)).all()), "A crop's values lie between 0 and 1.")
    except (TypeError, ValueError):
        raise FeedbackError("A crop is a picture of 28 x 28.") from None
    return np.round(image * 255).astype(np.uint8).tobytes()


def _decoded(row) -> dict:
    record = dict(row)
    record["probabilities"] = json.loads(record["probabilities"])
    record["strokes"] = (
        None
        if record["strokes"] is None
        else [np.array(s, float) for s in json.loads(record["strokes"])]
    )
    if record["crop"] is not None:
        record["crop"] = (np.frombuffer(record["crop"], np.uint8).reshape(28, 28) / 255).astype(
            np.float32
        )
    return record


def _image(record: dict) -> np.ndarray:
    return record["crop"] if record["crop"] is not None else ink.strokes_to_image(record["strokes"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m digits.app.feedback", description="What visitors said about answers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("summary", help="count what was collected")
    commands.add_parser("export", help="write labelled ink as .npz for training").add_argument(
        "file", type=Path
    )
    options = parser.parse_args(arguments)
    try:
        store = collected()
        if store is None:
            print("No feedback was collected yet.")
        elif options.command == "summary":
            print(json.dumps(store.summary(), indent=1))
        else:
            print(f"{store.export_npz(options.file):,} labelled pictures in {options.file}.")
    except FeedbackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What visitors told us about answers, in SQLite in ``outputs/feedback`` or another database.

``DIGITS_FEEDBACK_URL`` names any of SQLAlchemy's (``postgresql+psycopg://...``). Every problem is a
FeedbackError in words that can be shown, so that drawing goes on. For training:

    python -c "from digits.app.feedback import Store; Store.open().export_npz('corrections.npz')"
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from digits import files
from digits.recognizer import ink

URL_VARIABLE = "DIGITS_FEEDBACK_URL"
MOST_STROKE_BYTES = 100_000  # of one drawing, as JSON
MOST_RECORDS = 100_000  # then the collection is full, so that nobody fills the disk
MOST_BYTES = 1_000_000_000  # of a SQLite file
PATIENCE = 15.0  # seconds to wait for other writers, or for a server that does not answer
KEPT = (
    "Kept: what you drew (or the 28 x 28 picture of your upload), the answer with its "
    "probabilities, your verdict, the model's name and hash, the run, the app's version and the "
    "time (UTC). Not kept: who you are, your address, your browser. While this page is open you "
    "can take it back."
)
TABLE = sa.Table(
    "feedback_1",  # the schema's version: a change makes a new table and leaves this one readable
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("created", sa.DateTime, nullable=False),  # UTC
    sa.Column("verdict", sa.String(5), nullable=False),  # "right" or "wrong"
    sa.Column("label", sa.Integer),  # what it was; NULL when a visitor said that it was no digit
    sa.Column("digit", sa.Integer, nullable=False),  # the answer
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(20), nullable=False),  # why it was withheld, or ""
    sa.Column("probabilities", sa.Text, nullable=False),  # JSON
    sa.Column("strokes", sa.Text),  # JSON, pixels of a canvas 280 high; this or ``crop``
    sa.Column("crop", sa.LargeBinary),  # 784 bytes, a picture in MNIST's form
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("run", sa.String(100), nullable=False),
    sa.Column("app_version", sa.String(100), nullable=False),
)


class FeedbackError(Exception):
    """Feedback was not stored or cannot be read; the message can be shown to a visitor."""


class Store:
    """The collection. Each call has a connection of its own, so processes and threads share it."""

    def __init__(self, engine: sa.Engine):
        self._engine = engine

    @classmethod
    def open(cls, url: str | None = None) -> "Store":
        """The database at ``url``, else where the variable says, else the default; made if missing.

        FeedbackError when it cannot be reached or written, or is damaged; it is left as it is.
        """
        with _in_words("The feedback database cannot be opened"):
            default = f"sqlite:///{files.OUTPUTS / 'feedback' / 'feedback.sqlite3'}"
            engine = _engine(url or os.environ.get(URL_VARIABLE) or default)
            sqlite = engine.dialect.name == "sqlite"
            if sqlite and engine.url.database not in (None, "", ":memory:"):
                file = engine.url.database.removeprefix("file:")  # SQLite's own form of an address
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            with engine.connect() as connection:
                if sqlite:
                    found = connection.execute(sa.text("PRAGMA quick_check(1)")).scalar()
                    if found != "ok":
                        raise FeedbackError(
                            f"The feedback database is damaged ({found}). It was left as it is."
                        )
                # PostgreSQL refuses one of two who make it at the same moment.
                with contextlib.suppress(IntegrityError, ProgrammingError):
                    connection.execute(CreateTable(TABLE, if_not_exists=True))
                    connection.commit()
        return cls(engine)

    def add(
        self,
        verdict: str,
        label: int | None,
        digit: int,
        probabilities: Sequence[float] | np.ndarray,
        strokes: Sequence[np.ndarray] | None = None,
        crop: np.ndarray | None = None,
        **about: object,
    ) -> int | None:
        """Store one verdict, "right" or "wrong"; its number, once it is committed.

        None when this ink is kept with this label already: an example, drawn by many. ``label`` is
        what it was, None when it was no digit or is the answer; the ink is (n, 2) ``strokes`` or a
        (28, 28) ``crop``; ``about`` has the table's other columns. FeedbackError when nothing was
        stored: the verdict contradicts the label, there is too much ink or none, or the database
        does not take it.
        """
        labels = {"right": (None, digit), "wrong": (None, *{*range(10)} - {digit})}
        if label not in labels.get(verdict, ()):
            raise FeedbackError("A right answer has its own label, a wrong one another.")
        if (strokes is None) == (crop is None):
            raise FeedbackError("Feedback comes with strokes or with a picture.")
        row = {
            "created": datetime.now(UTC).replace(tzinfo=None),
            "verdict": verdict,
            "label": digit if verdict == "right" else label,
            "digit": digit,
            "probabilities": json.dumps(np.round(np.asarray(probabilities, float), 6).tolist()),
            "strokes": None if strokes is None else _stroke_json(strokes),
            "crop": None if crop is None else np.round(crop * 255).astype(np.uint8).tobytes(),
            **about,
        }
        same = [TABLE.c[name] == row[name] for name in ("strokes", "crop", "label", "digit")]
        with _in_words("The feedback was not stored"), self._engine.begin() as connection:
            if connection.execute(sa.select(TABLE.c.id).where(*same).limit(1)).first():
                return None
            count = connection.execute(sa.select(sa.func.count()).select_from(TABLE)).scalar_one()
            if count >= MOST_RECORDS:
                raise FeedbackError("The collection is full. Thank you all the same.")
            return connection.execute(sa.insert(TABLE).values(row)).inserted_primary_key[0]

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget these: who gave them takes them back, or says something else. FeedbackError."""
        with _in_words("The feedback was not deleted"), self._engine.begin() as connection:
            connection.execute(sa.delete(TABLE).where(TABLE.c.id.in_(numbers)))

    def records(self) -> list[dict]:
        """Everything that was stored, oldest first, by column.

        ``probabilities`` and ``strokes`` are lists, ``crop`` is (28, 28) float32.
        """
        with _in_words("The feedback cannot be read"), self._engine.connect() as connection:
            rows = connection.execute(sa.select(TABLE).order_by(TABLE.c.id)).mappings().all()
        records = [dict(row) for row in rows]
        for one in records:
            one["probabilities"] = json.loads(one["probabilities"])
            if one["strokes"] is not None:
                one["strokes"] = [np.array(stroke, float) for stroke in json.loads(one["strokes"])]
            if one["crop"] is not None:
                pixels = np.frombuffer(one["crop"], np.uint8).reshape(28, 28)
                one["crop"] = (pixels / 255).astype(np.float32)
        return records

    def export_npz(self, path: Path | str) -> int:
        """Write what has a label as training data; returns how many.

        Arrays: images (n, 28, 28) float32 in MNIST's form, labels (n,) int64, digits (n,) int64
        (what was answered), model_sha256 (n,). ``path`` appears when it is complete. Check labels
        by eye before training: visitors joke.
        """
        labelled = [record for record in self.records() if record["label"] is not None]
        images = [
            ink.strokes_to_image(one["strokes"]) if one["crop"] is None else one["crop"]
            for one in labelled
        ]
        arrays = {
            "images": np.array(images, np.float32).reshape(-1, 28, 28),
            "labels": np.array([record["label"] for record in labelled], np.int64),
            "digits": np.array([record["digit"] for record in labelled], np.int64),
            "model_sha256": np.array([record["model_sha256"] for record in labelled], "U64"),
        }
        with _in_words("The export cannot be written"):
            files.write_file(Path(path), lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        return len(labelled)


def describe() -> str:
    """What is kept and where, in plain words, without making anything; names no path."""
    kind = re.match(r"[a-z]*", os.environ.get(URL_VARIABLE, "").lower())[0]
    place = f"a database ({kind}) that this app's owner has set up"
    return f"{KEPT} Where: in {place if kind else 'a file on this app’s own server'}."


def _engine(url: str) -> sa.Engine:
    """The database with limits to how long it may keep us waiting; the URL's own count more."""
    parsed, limits = sa.make_url(url), {}
    if parsed.get_backend_name() == "sqlite":
        limits = {"timeout": PATIENCE}
    elif parsed.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        limits = {
            "connect_timeout": max(round(PATIENCE), 2),
            "tcp_user_timeout": round(1000 * PATIENCE),
            "options": f"-c statement_timeout={round(1000 * PATIENCE)}",
        }
        limits = {name: value for name, value in limits.items() if name not in parsed.query}
    engine = sa.create_engine(parsed, poolclass=NullPool, connect_args=limits)
    if parsed.get_backend_name() == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def use_wal(connection, _record) -> None:
            """Readers and writers never wait; what is committed survives a power cut."""
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA max_page_count={MOST_BYTES // 4096}")

    return engine


@contextlib.contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Any failure of the database or the disk as a FeedbackError without a path or a password."""
    try:
        yield
    except (SQLAlchemyError, OSError, ImportError, ValueError, LookupError, TypeError) as error:
        cause = getattr(error, "orig", None) or error
        text = str(cause).lower()
        known = (words for sign, words in _SIGNS.items() if re.search(sign, text))
        raise FeedbackError(f"{what}: {next(known, type(cause).__name__)}.") from error


_SIGNS = {  # patterns of an error's text: what it means
    "not a database": "the file is damaged or is no database; it was left as it is",
    "malformed": "the file is damaged; it was left as it is",
    "read-?only": "it is read-only",
    "unable to open": "the file cannot be opened or made",
    "locked": "others kept it busy for too long",
    "disk is full|no space": "the disk is full",
    "permission": "permission is missing",
    "authentication": "the server does not let this app in",
    "no module": "its driver is not installed",
    "timeout|timed out": "the server takes too long",
    "refused|connection": "the server does not answer",
}


def _stroke_json(strokes: Sequence[np.ndarray]) -> str:
    """Strokes to a tenth of a pixel."""
    try:
        kept = ink.on_canvas(strokes)
    except ValueError as error:
        raise FeedbackError(str(error)) from None
    text = json.dumps([np.round(stroke, 1).tolist() for stroke in kept])
    if not kept or len(text) > MOST_STROKE_BYTES:
        raise FeedbackError("There is no ink to keep, or more than can be kept.")
    return text

"""Feedback: what was acknowledged is there, nothing out of range gets in, and no trouble stops the drawing."""

import itertools
import os
import sqlite3
import time
from datetime import UTC

import numpy as np
import pytest

from digits import files
from digits.app import feedback
from digits.app.feedback import FeedbackError, Store
from digits.recognizer import ink
from writer import GIVEN, STROKES

SHIFTS = itertools.count(1)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "OUTPUTS", tmp_path)
    monkeypatch.delenv(feedback.URL_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def store():
    return Store.open()


def file_of(outputs):
    return outputs / "feedback" / "feedback.sqlite3"


def add(store, **changes):
    return store.add(**({"strokes": STROKES} | GIVEN | changes))


def add_another(store):
    """Ink that is not there yet."""
    return add(store, strokes=[STROKES[0] + next(SHIFTS)])


# Keeping


def test_what_is_added_comes_back(store):
    number = add(store)
    (record,) = store.records()
    assert record["id"] == number
    assert {name: record[name] for name in GIVEN} == GIVEN
    np.testing.assert_allclose(record["strokes"][0], STROKES[0])
    assert record["crop"] is None
    age = time.time() - record["created"].replace(tzinfo=UTC).timestamp()
    assert 0 <= age < 60


def test_a_picture_instead_of_strokes(store):
    image = ink.strokes_to_image(STROKES)
    add(store, strokes=None, crop=image)
    for record in store.records():
        assert record["strokes"] is None and record["crop"].dtype == np.float32
        np.testing.assert_allclose(record["crop"], image, atol=0.002)


def test_labels(store):
    add(store, verdict="right", label=None)
    add(store, verdict="right", label=1, strokes=[STROKES[0] + 1])
    add(store, label=None)
    assert [record["label"] for record in store.records()] == [1, 1, None]


def test_opening_again_keeps_everything(store):
    add(store)
    add_another(Store.open())
    assert len(Store.open().records()) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "maybe"},
        {"label": 10},
        {"label": 1},
        {"verdict": "right", "label": 7},
        {"strokes": None},
        {"strokes": []},
        {"strokes": [[[1, 2, 3]]]},
        {"strokes": [[[float("nan"), 1]]]},
        {"strokes": [np.random.default_rng(0).uniform(0, 280, (15_000, 2))]},
        {"crop": np.zeros((28, 28))},
        {"colour": "red"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_not_kept(store, changes):
    with pytest.raises(FeedbackError) as caught:
        add(store, **changes)
    assert 10 < len(str(caught.value)) < 200 and store.records() == []


def test_text_is_kept_as_text(store):
    """Stored as it is, by bound parameters; whoever shows it escapes it."""
    name = "'; DROP TABLE feedback_1; -- <script>alert(1)</script>"
    add(store, model=name, run=name)
    assert store.records()[0]["model"] == name


def test_the_collection_can_be_full(store, monkeypatch):
    monkeypatch.setattr(feedback, "MOST_RECORDS", 2)
    add(store)
    add_another(store)
    with pytest.raises(FeedbackError, match="full"):
        add_another(store)
    assert len(store.records()) == 2


# Trouble


def damage(outputs, how: str):
    store = Store.open()
    for _ in range(40):
        add_another(store)
    path = file_of(outputs)
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    content = bytearray(path.read_bytes())
    if how == "garbage":
        content = bytearray(b"this is no database at all, sorry" * 100)
    elif how == "truncated":
        content = content[: len(content) // 2]
    elif how == "torn":
        content[4096:12_288] = os.urandom(8192)
    path.write_bytes(content)
    return path, bytes(content)


@pytest.mark.parametrize("how", ["garbage", "truncated", "torn"])
def test_a_damaged_file_is_said_and_left_as_it_is(outputs, how):
    path, content = damage(outputs, how)
    with pytest.raises(FeedbackError, match="damaged") as caught:
        Store.open()
    assert str(outputs) not in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_damaged_while_open(outputs, store):
    add(store)
    file_of(outputs).write_bytes(b"overwritten " * 1000)
    for call in (
        lambda: add_another(store),
        store.records,
        lambda: store.export_npz(outputs / "x.npz"),
    ):
        with pytest.raises(FeedbackError):
            call()


def test_a_read_only_database(outputs, store):
    add(store)
    url = f"sqlite:///file:{file_of(outputs)}?mode=ro&uri=true"
    read_only = Store(feedback._engine(url))
    with pytest.raises(FeedbackError, match="read-only"):
        add_another(read_only)
    assert len(store.records()) == 1


@pytest.mark.parametrize("url", [
    "nonsense", "mysql+nodriver://user:secret@host/db", "sqlite:////proc/nowhere/x.sqlite3", "sqlite:////", "oracle://x",
    "postgresql://user:secret@127.0.0.1:1/x", "sqlite:///:memory:?timeout=abc",
])  # fmt: skip
def test_a_database_that_cannot_be_had(url):
    with pytest.raises(FeedbackError) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value) and "/proc" not in str(caught.value)


def test_sqlites_own_form_of_an_address_makes_its_folder_where_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add(Store.open(f"sqlite:///file:{tmp_path}/there/x.sqlite3?uri=true"))
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and (
        tmp_path / "there/x.sqlite3"
    ).is_file()


def test_a_folder_in_the_way(outputs):
    file_of(outputs).mkdir(parents=True)
    with pytest.raises(FeedbackError):
        Store.open()
    (outputs / "other").write_text("a file where a folder should be")
    with pytest.raises(FeedbackError):
        Store.open(f"sqlite:///{outputs / 'other' / 'x.sqlite3'}")


def test_a_busy_database_is_waited_for_and_then_said(outputs, monkeypatch):
    monkeypatch.setattr(feedback, "PATIENCE", 0.2)
    store = Store.open()
    other = sqlite3.connect(file_of(outputs), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FeedbackError, match="busy"):
        add_another(store)
    other.execute("ROLLBACK")
    add(store)


def test_a_foreign_table_is_not_mistaken_for_ours(outputs):
    file_of(outputs).parent.mkdir()
    with sqlite3.connect(file_of(outputs)) as connection:
        connection.execute(f"CREATE TABLE {feedback.TABLE.name} (id INTEGER)")
    with pytest.raises(FeedbackError):
        add(Store.open())


# Telling and using


def test_describe_is_plain_and_names_no_path(outputs, monkeypatch):
    assert "server" in feedback.describe() and str(outputs) not in feedback.describe()
    assert not file_of(outputs).exists()  # describing makes nothing
    monkeypatch.setenv(
        feedback.URL_VARIABLE, "postgresql+psycopg://user:secret@db.example/feedback"
    )
    text = feedback.describe()
    assert "postgresql" in text and "secret" not in text and "example" not in text


def test_the_same_ink_is_kept_once_with_each_label(store):
    assert add(store) and add(store) is None and add(store, label=4)
    assert add(store, strokes=None, crop=ink.strokes_to_image(STROKES))
    assert len(store.records()) == 3


def test_what_was_given_can_be_taken_back(store):
    numbers = [add(store, label=label) for label in (2, 3, 4)]
    store.remove(numbers[:2])
    assert [record["label"] for record in store.records()] == [4]


def test_export_is_training_data(store, outputs):
    add(store)
    picture = ink.strokes_to_image(STROKES)
    add(
        store,
        verdict="right",
        label=None,
        digit=3,
        probabilities=np.eye(10)[3],
        strokes=None,
        crop=picture,
    )
    add(store, label=None)  # nobody knows what it was
    assert store.export_npz(outputs / "export.npz") == 2
    with np.load(outputs / "export.npz") as arrays:
        assert arrays["images"].shape == (2, 28, 28) and arrays["images"].dtype == np.float32
        assert 0.5 < arrays["images"].max() <= 1 and arrays["images"].min() >= 0
        assert arrays["labels"].tolist() == [7, 3] and arrays["digits"].tolist() == [1, 3]
        np.testing.assert_allclose(arrays["images"][0], ink.strokes_to_image(STROKES), atol=0.05)
    assert sorted(path.name for path in outputs.glob("*.npz*")) == ["export.npz"]
    with pytest.raises(FeedbackError):
        store.export_npz(outputs / "no" / "such" / "folder.npz")


def test_a_damaged_collection_is_not_exported(outputs):
    add(Store.open())
    assert Store.open().export_npz(outputs / "one.npz") == 1 and (outputs / "one.npz").exists()
    file_of(outputs).write_bytes(b"x" * 5000)
    with pytest.raises(FeedbackError, match="damaged"):
        Store.open().export_npz(outputs / "two.npz")

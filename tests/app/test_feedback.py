"""Feedback: what was acknowledged is there, nothing out of range gets in, and no trouble stops the drawing."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC

import numpy as np
import pytest

import writer
from digits import files
from digits.app import feedback
from digits.app.feedback import FeedbackError, Store
from digits.recognizer import ink
from writer import GIVEN, STROKES


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
    add(store, verdict="right", label=1)
    add(store, label=None)
    assert [record["label"] for record in store.records()] == [1, 1, None]


def test_opening_again_keeps_everything(store):
    add(store)
    add(Store.open())
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
    add(store)
    with pytest.raises(FeedbackError, match="full"):
        add(store)
    assert len(store.records()) == 2


# Many at once, and killed


def test_twenty_processes_lose_nothing(outputs):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["writer", "sqlalchemy.dialects.sqlite"])
    url = f"sqlite:///{outputs / 'shared.sqlite3'}"
    processes = [context.Process(target=writer.write, args=(url, k, 10)) for k in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)  # what is asked is that nothing is lost, not how fast a busy machine is
    assert [process.exitcode for process in processes] == [0] * 20
    runs = {record["run"] for record in Store.open(url).records()}
    assert runs == {f"{number}-{k}" for number in range(20) for k in range(10)}


def test_what_was_acknowledged_survives_being_killed(outputs):
    url = f"sqlite:///{outputs / 'killed.sqlite3'}"
    code = (
        "import sys\nimport writer\nfrom digits.app.feedback import Store\nstore = Store.open(sys.argv[1])\n"
        "while True:\n    print(store.add(**writer.GIVEN, strokes=writer.STROKES), flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(writer.__file__),
    )
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.communicate()[0].split("\n")[:-1]]
    kept = [record["id"] for record in Store.open(url).records()]
    assert set(acknowledged) <= set(kept) and len(kept) <= len(acknowledged) + 1


# Trouble


def damage(outputs, how: str):
    store = Store.open()
    for _ in range(40):
        add(store)
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
        lambda: add(store),
        store.records,
        store.summary,
        lambda: store.export_npz(outputs / "x.npz"),
    ):
        with pytest.raises(FeedbackError):
            call()


def test_a_read_only_database(outputs, store):
    add(store)
    url = f"sqlite:///file:{file_of(outputs)}?mode=ro&uri=true"
    read_only = Store(feedback._engine(url))
    with pytest.raises(FeedbackError, match="read-only"):
        add(read_only)
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
        add(store)
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
    assert "outputs" in feedback.describe() and str(outputs) not in feedback.describe()
    assert not file_of(outputs).exists()  # describing makes nothing
    monkeypatch.setenv(
        feedback.URL_VARIABLE, "postgresql+psycopg://user:secret@db.example/feedback"
    )
    text = feedback.describe()
    assert "postgresql" in text and "secret" not in text and "example" not in text


def test_summary(store):
    for changes in (
        {},
        {},
        {"label": None},
        {"verdict": "right", "label": None, "accepted": False, "reason": "unsure"},
    ):
        add(store, **changes)
    summary = store.summary()
    assert (summary["n"], summary["right"]) == (4, 1)
    assert summary["accepted"] == {"n": 3, "right": 0}
    confusion = np.array(summary["confusion"])
    assert confusion[7, 1] == 2 and confusion.sum() == 2
    json.dumps(summary)


def test_summary_of_nothing(store):
    assert store.summary()["n"] == 0


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


def test_command_line(outputs, capsys):
    add(Store.open())
    assert feedback.main(["summary"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 1
    assert (
        feedback.main(["export", str(outputs / "one.npz")]) == 0 and (outputs / "one.npz").exists()
    )
    file_of(outputs).write_bytes(b"x" * 5000)
    assert feedback.main(["summary"]) == 1
    assert "damaged" in capsys.readouterr().err

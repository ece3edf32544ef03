"""Feedback: what was acknowledged is there, nothing out of range gets in, and no trouble stops the drawing."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC

import numpy as np
import pytest

import writer
from digits import evaluation, files
from digits.app import feedback
from digits.app.feedback import FeedbackError, Store
from digits.recognizer import ink
from digits.report import notebook as runs
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
    for crop in (image, np.round(image * 255).astype(np.uint8)):
        add(store, strokes=None, crop=crop)
    for record in store.records():
        assert record["strokes"] is None and record["crop"].dtype == np.float32
        np.testing.assert_allclose(record["crop"], image, atol=0.002)


def test_numpy_values_are_welcome(store):
    add(store, digit=np.int64(1), label=np.int8(7), confidence=np.float32(0.8), accepted=np.bool_(True),
        probabilities=np.array(GIVEN["probabilities"], np.float32))  # fmt: skip
    assert store.records()[0]["label"] == 7


def test_strokes_of_another_canvas_are_kept_in_our_pixels(store):
    add(store, strokes=[STROKES[0] * 2], size=560)
    np.testing.assert_allclose(store.records()[0]["strokes"][0], STROKES[0])


def test_labels(store):
    add(store, verdict="right", label=None)
    add(store, verdict="right", label=1)
    add(store, label=None)
    assert [record["label"] for record in store.records()] == [1, 1, None]


def test_opening_again_keeps_everything(store):
    add(store)
    add(Store.open())
    assert len(Store.open().records()) == 2


@pytest.mark.parametrize("changes", [
    {"verdict": "maybe"}, {"verdict": 1}, {"verdict": ["right"]}, {"label": 10}, {"label": -1}, {"label": 7.0}, {"label": True},
    {"label": "7"}, {"label": 1}, {"verdict": "right", "label": 7}, {"digit": None}, {"digit": 12}, {"digit": "1; DROP TABLE"},
    {"confidence": float("nan")}, {"confidence": 1.5}, {"confidence": "high"}, {"confidence": None}, {"confidence": [0.5]},
    {"accepted": 1}, {"accepted": None}, {"reason": "because"}, {"reason": None}, {"reason": ["unsure"]},
    {"probabilities": [0.1] * 9}, {"probabilities": [0.2] * 10}, {"probabilities": [float("inf")] + [0] * 9},
    {"probabilities": None}, {"probabilities": {}}, {"probabilities": [-1, 2] + [0] * 8}, {"probabilities": [[0.1] * 10]},
    {"model": "x" * 101}, {"model": "a\nb"}, {"model": None}, {"model": b"x"}, {"model_sha256": "ab" * 31},
    {"model_sha256": "AB" * 32}, {"model_sha256": None}, {"run": "\x00"}, {"app_version": 1},
    {"strokes": None}, {"strokes": []}, {"strokes": [[]]}, {"strokes": "abc"}, {"strokes": 5}, {"strokes": [5]},
    {"strokes": [[[1, 2, 3]]]}, {"strokes": [[[float("nan"), 1]]]}, {"strokes": [["a", "b"]]}, {"strokes": {"x": 1}},
    {"strokes": [np.zeros((20_001, 2))]}, {"strokes": [np.zeros((1, 2))] * 20_001},
    {"strokes": [np.random.default_rng(0).uniform(0, 280, (15_000, 2))]}, {"crop": np.zeros((28, 28))}, {"size": 0},
    {"size": "280"}, {"size": 1e9}, {"strokes": None, "crop": np.zeros((28, 27))},
    {"strokes": None, "crop": np.full((28, 28), 2.0)},
    {"strokes": None, "crop": np.full((28, 28), np.nan)}, {"strokes": None, "crop": "x" * 784}, {"colour": "red"},
], ids=str)  # fmt: skip
def test_what_is_out_of_range_is_refused_and_not_kept(store, changes):
    with pytest.raises(FeedbackError) as caught:
        add(store, **changes)
    assert 10 < len(str(caught.value)) < 200 and "Traceback" not in str(caught.value)
    assert store.records() == []


def test_incomplete_feedback_is_refused(store):
    with pytest.raises(FeedbackError, match="incomplete"):
        store.add(verdict="right")


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
        cwd=os.path.dirname(__file__),
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
        connection.execute(f"CREATE TABLE {feedback.TABLE} (id INTEGER)")
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


def test_nothing_collected_makes_nothing(outputs):
    assert feedback.collected() is None and not file_of(outputs).exists()
    store = Store.open()
    assert feedback.collected() is None
    add(store)
    assert feedback.collected().summary()["n"] == 1


def test_summary(store):
    for changes in (
        {},
        {},
        {"label": None},
        {"verdict": "right", "label": None, "accepted": False, "reason": "unsure"},
    ):
        add(store, **changes)
    summary = store.summary()
    assert (summary["n"], summary["right"]["count"], summary["corrected"]) == (4, 1, 2)
    low, high = summary["right"]["interval"]
    assert low < 0.25 < high
    assert (summary["accepted"]["count"], summary["accepted"]["n"]) == (0, 3)
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


# In the report


@pytest.fixture
def section(outputs, capsys):
    """Runs the notebook's own cells about feedback; returns what it records and what it shows."""
    cells = json.loads((files.NOTEBOOKS / "03_evaluation.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    chosen = [source for source in sources if re.search(r"^(given = |if given)", source)]
    assert len(chosen) == 3

    def run_cells(url=""):
        run = runs.open_run("mine", "03_evaluation")
        names = {
            "run": run,
            "feedback": feedback,
            "feedback_url": url,
            "say": print,
            "evaluation": evaluation,
            "np": np,
        }
        exec("\n".join(chosen), names)
        return run.metrics["03_evaluation"]["feedback"], capsys.readouterr().out

    return run_cells


def test_the_report_without_feedback_says_so_and_makes_nothing(section, outputs):
    recorded, shown = section()
    assert recorded == {"n": 0} and "Nobody has given feedback" in shown and "Table" not in shown
    elsewhere = outputs / "elsewhere.sqlite3"
    assert section(f"sqlite:///{elsewhere}")[0] == {"n": 0}
    assert not file_of(outputs).exists() and not elsewhere.exists()


def test_the_report_counts_what_visitors_said(section, store):
    for changes in ({}, {}, {"label": 4}, {"label": None}, {"verdict": "right", "label": None}):
        add(store, **changes)
    add(store, accepted=False, reason="unsure", verdict="right", label=None)
    recorded, shown = section()
    assert (
        recorded["n"],
        recorded["right"]["count"],
        recorded["accepted"]["n"],
        recorded["corrected"],
    ) == (6, 2, 5, 3)
    assert "33.3% (2 of 6; 95% interval 9.7% to 70.0%)" in shown and "20.0% (1 of 5;" in shown
    assert (
        "Table 3.1" in shown and "Table 3.2" in shown and re.search(r"7 +1 +2\n.* 4 +1 +1", shown)
    )


def test_the_report_of_verdicts_without_a_correction(section, store):
    add(store, accepted=False, reason="unsure", verdict="right", label=None)
    recorded, shown = section()
    assert (
        recorded["corrected"] == 0
        and "none of them was accepted" in shown
        and "Table 3.2" not in shown
    )


def test_the_report_survives_any_database(section, store, outputs):
    add(store)
    with sqlite3.connect(file_of(outputs)) as connection:
        connection.execute(f"update {feedback.TABLE} set label = 99")
    connection.close()
    assert "could not be read" in section()[1]
    file_of(outputs).write_bytes(b"x" * 5000)
    recorded, shown = section()
    assert recorded["n"] == 0 and "damaged" in recorded["problem"] and "could not be read" in shown
    secret = "postgresql+psycopg://me:secret@127.0.0.1:1/none"
    for url in (secret, "nonsense", f"sqlite:///{outputs}"):
        recorded, shown = section(url)
        assert recorded["n"] == 0 and "could not be read" in shown and "secret" not in shown


def test_command_line(outputs, capsys):
    assert feedback.main(["export", str(outputs / "none.npz")]) == 0
    assert "No feedback" in capsys.readouterr().out and not (outputs / "none.npz").exists()
    add(Store.open())
    assert feedback.main(["summary"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 1
    assert (
        feedback.main(["export", str(outputs / "one.npz")]) == 0 and (outputs / "one.npz").exists()
    )
    file_of(outputs).write_bytes(b"x" * 5000)
    assert feedback.main(["summary"]) == 1
    assert "damaged" in capsys.readouterr().err

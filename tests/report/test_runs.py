"""A run's folder as notebooks use it."""

import json
import multiprocessing
import re
from unittest.mock import MagicMock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from digits.files import RunError, listed, write_json
from digits.report import notebook as runs


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A fresh run, opened by the third notebook."""
    monkeypatch.setattr("digits.files.OUTPUTS", tmp_path)
    return runs.open_run("mine", "03_evaluation")


def test_record_merges_by_notebook_and_takes_numpy(run):
    run.record(
        accuracy=np.float32(0.5),
        counts=np.arange(3),
        missing=float("nan"),
        by_digit={np.int64(1): (1, 2)},
    )
    run.record(accuracy=0.75)
    runs.open_run("mine", "01_eda").record(n=3)
    assert run.metrics == {
        "03_evaluation": {
            "accuracy": 0.75,
            "counts": [0, 1, 2],
            "missing": None,
            "by_digit": {"1": [1, 2]},
        },
        "01_eda": {"n": 3},
    }


def test_record_refuses_what_json_cannot_hold_and_keeps_the_rest(run):
    run.record(n=1)
    with pytest.raises(TypeError):
        run.record(model=object())
    assert run.metrics == {"03_evaluation": {"n": 1}}


def test_an_interrupted_write_leaves_the_old_file(run, monkeypatch):
    run.record(n=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError):
        run.record(n=2)
    assert run.metrics == {"03_evaluation": {"n": 1}}
    kept = [one.name for one in run.path.iterdir() if one.is_file() and one.name[0] != "."]
    assert kept == ["metrics.json"]


def test_damaged_metrics_are_named(run):
    (run.path / "metrics.json").write_text('{"03_evaluation": ')
    with pytest.raises(RunError, match="mine/metrics.json is damaged"):
        run.record(n=1)


def test_a_missing_input_names_the_notebook_that_makes_it(run):
    with pytest.raises(RunError, match="models/model.keras.*Run 02_training.ipynb"):
        run.require("models/model.keras", made_by="02_training")
    (run.models / "model.keras").write_text("x")
    assert run.require("models/model.keras", made_by="02_training").read_text() == "x"


def test_figures_are_numbered_once_saved_and_described(run, capsys):
    for name in ("first", "second", "first"):
        run.figure(plt.figure(), name, f"About {name}.", "Nothing drawn")
    assert re.findall(r"Figure \d\.\d", capsys.readouterr().out) == [
        "Figure 3.1",
        "Figure 3.2",
        "Figure 3.1",
    ]
    files = sorted(path.name for path in (run.path / "figures").iterdir())
    assert files == ["03_evaluation-first.png", "03_evaluation-second.png"]
    with pytest.raises(ValueError, match="alternative text"):
        run.figure(plt.figure(), "third", "A caption.", " ")


def test_tables_are_numbered_apart_from_figures(run, capsys):
    run.figure(plt.figure(), "first", "A caption.", "Nothing drawn")
    run.table(pd.DataFrame({"a": [1.234]}), "numbers", "Two numbers.", {"a": "{:.1f}"})
    run.table(pd.DataFrame({"a": [1.234]}), "others", "Others.")
    run.table(pd.DataFrame({"a": [1.234]}), "numbers", "Three numbers.")  # the cell ran again
    found = re.findall(r"Table .*", capsys.readouterr().out)
    assert found == ["Table 3.1. Two numbers.", "Table 3.2. Others.", "Table 3.1. Three numbers."]


def test_headlines_and_aims_are_listed_in_the_order_of_notebooks_and_calls(run):
    later = runs.open_run("mine", "04_optimization")
    later.headline("time", 0.256, "{:.2f} ms")
    run.headline("accuracy", 0.5, "{:.1%}", "5 of 10", tolerance=0.1)
    run.headline("undefined", float("nan"), "{:.1%}")
    run.headline("errors", 4, "{:,}")
    run.headline("accuracy", np.float64(0.6), "{:.1%}", "6 of 10", tolerance=0.1)  # it ran again
    assert listed(run.metrics, "headlines") == [
        {"label": "accuracy", "value": 0.6, "text": "60.0%", "detail": "6 of 10", "tolerance": 0.1},
        {"label": "errors", "value": 4, "text": "4", "detail": "", "tolerance": None},
        {"label": "time", "value": 0.256, "text": "0.26 ms", "detail": "", "tolerance": None},
    ]
    seeds = {"mean": 0.99701, "std": 0.0003, "n": 5}
    later.aim("time", 0.256, "{:.2f} ms", at_most=0.25)
    run.aim("accuracy", seeds, "{:.2%}", at_least=0.997)
    run.aim("points", 0.05, "{:.2f} points", at_most=0.05)
    assert [(aim["goal"], aim["text"], aim["reached"]) for aim in listed(run.metrics, "aims")] == [
        ("at least 99.70%", "99.70% ± 0.03%", True),
        ("at most 0.05 points", "0.05 points", True),
        ("at most 0.25 ms", "0.26 ms", False),
    ]
    assert listed(run.metrics, "aims")[0]["seeds"] == 5


def _record_thirty(notebook):
    run = runs.open_run("mine", notebook)
    for i in range(30):
        run.record(**{f"n{i}": i})


def test_two_notebooks_at_once_lose_no_number(run):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_record_thirty, args=(name,)) for name in ("01_eda", "02_x")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [len(chapter) for chapter in run.metrics.values()] == [30, 30]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"name": "mnist", "n_train": 60_000}, True),
        ({"name": "mnist", "n_train": 6_000}, False),
        ({"name": "digits", "n_train": 60_000}, False),
        (None, False),
    ],
)
def test_full_size_is_the_whole_of_mnist(run, dataset, expected):
    if dataset:
        write_json(run.path / "metrics.json", {"01_eda": {"dataset": dataset}})
    assert run.full_size is expected


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "a b", ".hidden", "x" * 65, "a.", "ä", 3]
)
def test_unsafe_names_are_refused(run, name):
    with pytest.raises(RunError):
        runs.open_run(name, "01_eda")


def test_the_published_run_is_not_written(run, tmp_path):
    with pytest.raises(RunError, match="read-only"):
        runs.open_run("reference", "01_eda")
    assert not (tmp_path / "reference").exists()


def test_a_notebook_without_its_runner_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS_RUNNER", str(2**22 + 1))  # no such process
    monkeypatch.setattr("ctypes.CDLL", lambda _: MagicMock())
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(RunError, match="gone"):
        runs.open_run("orphan", "01_eda")
    assert not (tmp_path / "orphan").exists()


def test_metrics_are_readable_json(run):
    run.record(text="ä", n=1)
    assert (
        json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))["03_evaluation"]["text"]
        == "ä"
    )


def level(height):
    """A bar as high as a slider says, and the sentence about it."""
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.bar([0], [height])
    return figure, f"a bar < {height:.1f}"


def test_a_slider_draws_anew_when_it_is_moved(monkeypatch):
    monkeypatch.delenv("DIGITS_RUNNER", raising=False)
    shown: list[str] = []
    monkeypatch.setattr(runs, "display", lambda one: shown.append(one.data))
    others = plt.get_fignums()  # that other tests left open
    handle, _ = runs.slider(level, "height", 0, 2, 0.5, 9, "one bar").children
    assert handle.value == 2 and handle.description == "height"  # within its range, and named
    assert "<strong>height 2.</strong> a bar &lt; 2.0" in shown[-1]
    handle.value = 0.5
    assert "<strong>height 0.5.</strong> a bar &lt; 0.5" in shown[-1] and len(shown) == 2
    pictures = {one.split("base64,")[1] for one in shown}
    assert 'alt="one bar"' in shown[-1] and len(pictures) == 2
    assert plt.get_fignums() == others


def test_a_slider_leaves_nothing_in_a_report(monkeypatch):
    monkeypatch.setenv("DIGITS_RUNNER", "1")
    assert (
        runs.slider(
            MagicMock(side_effect=AssertionError("drawn")), "height", 0, 2, 0.5, 1, "one bar"
        )
        is None
    )


def test_a_table_has_one_row_of_headings(run, monkeypatch):
    """pandas gives the name of an index a row of its own, under empty cells."""
    shown = []
    monkeypatch.setattr(runs, "display", shown.append)
    run.table(
        pd.DataFrame({"n": [1]}, index=pd.Index(["a"], name="kind")), "kinds", "What there is."
    )
    head = shown[0].data.split("<thead>")[1].split("</thead>")[0]
    assert head.count("<tr>") == 1 and re.findall(r">([^<>]+)</th>", head) == ["kind", "n"]

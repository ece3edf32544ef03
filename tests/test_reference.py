"""The published run holds what it claims: its own models are loaded and counted again."""

import copy
import json
from collections import Counter
from html import unescape

import numpy as np
import pytest

from digits import data, evaluation, files
from digits.recognizer.model import Recognizer
from digits.report import html as report

METRICS = json.loads((files.REFERENCE / "metrics.json").read_text(encoding="utf-8"))
RUN = json.loads((files.REFERENCE / "run.json").read_text(encoding="utf-8"))


def test_every_published_file_is_the_recorded_one():
    there = files.listing(files.REFERENCE / "models")
    assert {name: entry["sha256"] for name, entry in there.items()} == RUN["models"]


def test_the_published_run_is_a_clean_standard_run_on_mnist():
    assert (
        RUN["status"] == "finished"
        and RUN["profile"] == "standard"
        and RUN["dataset"]["name"] == "mnist"
    )
    assert METRICS["03_evaluation"]["test"]["accuracy"] >= 0.995


def test_the_published_model_makes_exactly_the_recorded_test_errors(mnist):
    recorded = METRICS["03_evaluation"]["test"]
    guesses = (
        Recognizer.load(run="reference", model="float32")
        .predict_normalized(mnist.x_test)
        .argmax(axis=1)
    )
    assert (guesses != mnist.y_test).sum() == recorded["errors"] and len(guesses) == recorded["n"]


def test_the_file_that_the_app_opens_makes_exactly_the_recorded_test_errors(mnist):
    recorded = METRICS["04_optimization"]["chosen"]
    recognizer = Recognizer.load(run="reference")
    guesses = recognizer.predict_normalized(mnist.x_test).argmax(axis=1)
    assert (
        recognizer.name == recorded["name"]
        and (guesses != mnist.y_test).sum() == recorded["test"]["errors"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["float32", None])
def test_the_published_model_reads_and_answers_the_recorded_share_of_pen_digits(pen_test, model):
    recognizer = Recognizer.load(run="reference", model=model)
    answers = [recognizer.predict_strokes([s * 280 / 500 for s in pen.strokes]) for pen in pen_test]
    right = [answer.digit == pen.label for answer, pen in zip(answers, pen_test, strict=True)]
    recorded = (
        METRICS["03_evaluation"]["pen"] if model else METRICS["04_optimization"]["chosen"]["pen"]
    )
    assert sum(right) == recorded["n"] - recorded["errors"] and len(pen_test) == recorded["n"]
    given = [good for good, answer in zip(right, answers, strict=True) if answer.accepted]
    told = recorded["selective"]
    assert (told["answered"]["count"], told["right"]["count"]) == (len(given), sum(given))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "mnist_cnn_model.h5"])
def test_the_keras_files_make_the_same_errors(mnist, file):
    import keras

    model = keras.models.load_model(files.REFERENCE / "models" / file, compile=False)
    guesses = model.predict(mnist.x_test, batch_size=1000, verbose=0).argmax(axis=1)
    wrong = np.flatnonzero(guesses != mnist.y_test)
    assert len(wrong) == METRICS["03_evaluation"]["test"]["errors"]
    assert data.LABEL_ERRORS  # they stay in the count: 10,000 images, as everybody reports


@pytest.mark.parametrize("path", ["README.md", "outputs/README.md"])
def test_the_tables_of_the_readmes_quote_the_published_run(path):
    text = (files.PROJECT / path).read_text(encoding="utf-8")
    command = f"python -m digits.report.html outputs/reference {path}"
    assert command in text and report.renewed(text, METRICS, RUN) == text, f"run: {command}"
    changed = copy.deepcopy(METRICS)
    for one in changed["03_evaluation"]["headlines"] + changed["03_evaluation"]["aims"]:
        one["text"] = "12.35%"
    assert "12.35%" in report.renewed(text, changed, RUN)


def test_the_published_report_says_what_its_metrics_say():
    html = (files.REFERENCE / "report.html").read_text(encoding="utf-8")
    both = METRICS["03_evaluation"], METRICS["04_optimization"]["chosen"]
    quoted = Counter(
        evaluation.accuracy_text(one[exam]) for one in both for exam in ("test", "pen")
    )
    assert quoted.total() == 4 and all(html.count(text) >= n for text, n in quoted.items())
    assert all(
        card["text"] in html and card["detail"] in unescape(html)
        for card in files.listed(METRICS, "headlines")
    )

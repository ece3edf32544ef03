"""Studies: the same with the same seed, continued without repeats, and not stopped by a trial that fails."""

import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from digits import search

PLAN = search.Plan(train_size=64, epochs=1, seed=7)
SETTINGS = ["learning_rate", "batch_size", "dropout"]


def easy(settings):
    """A score without a network: best at a learning rate of 0.003 and no dropout."""
    return {"accuracy": 0.9 - abs(np.log10(settings["learning_rate"] / 3e-3)) / 10 - settings["dropout"] / 10,
            "errors": 100, "n": 1000}


def run(journal, trials, score=easy, plan=PLAN):
    study = search.run(search.open_study(journal, plan), plan, score, trials)
    return search.table(study)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Optuna syncs after every line; here no power fails."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_same_seed_gives_the_same_study_and_another_seed_another(tmp_path):
    first, again = run(tmp_path / "a", 6), run(tmp_path / "b", 6)
    other = run(tmp_path / "c", 6, plan=replace(PLAN, seed=8))
    pd.testing.assert_frame_equal(first, again)
    assert not first["learning_rate"].isin(other["learning_rate"]).any()


def test_settings_lie_in_the_space_and_differ(journal):
    trials = run(journal, 30)
    assert trials["learning_rate"].between(3e-4, 3e-2).all() and trials["learning_rate"].is_unique
    assert set(trials["batch_size"]) == set(PLAN.batch_size)
    assert trials["dropout"].between(0, 0.6).all() and trials["dropout"].is_unique
    assert (trials["learning_rate"] < 3e-3).sum() in range(8, 23)  # even on the logarithmic scale: about half


def test_a_resumed_study_has_the_trials_of_one_that_was_never_interrupted(tmp_path):
    run(tmp_path / "resumed", 3)
    resumed, whole = run(tmp_path / "resumed", 8), run(tmp_path / "whole", 8)
    pd.testing.assert_frame_equal(resumed, whole)


def test_a_finished_study_trains_nothing_again(journal):
    first = run(journal, 4)
    calls = []
    again = run(journal, 4, score=calls.append)
    assert not calls
    pd.testing.assert_frame_equal(first, again)


def test_a_failing_trial_is_recorded_and_the_others_go_on(journal):
    def sometimes(settings):
        if settings["batch_size"] == 32:
            raise MemoryError("too large")
        return easy(settings)

    trials = run(journal, 12, score=sometimes)
    failed = trials[trials["batch_size"] == 32]
    assert 0 < len(failed) < len(trials) == 12
    assert (failed["error"] == "MemoryError: too large").all() and failed["accuracy"].isna().all()
    assert trials.loc[trials["batch_size"] != 32, "accuracy"].notna().all()
    assert search.best(trials)["accuracy"] == trials["accuracy"].max() == trials["best"].iloc[-1]


def test_a_score_that_is_no_number_counts_as_a_failure(journal):
    trials = run(journal, 2, score=lambda settings: {"accuracy": float("nan")})
    assert len(trials) == 2 and trials["error"].str.contains("nan").all()
    with pytest.raises(ValueError, match="No trial was scored"):
        search.best(trials)


def test_an_interrupted_trial_is_run_again_with_its_settings(journal, tmp_path):
    calls = []

    def interrupted(settings):
        calls.append(settings)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return easy(settings)

    with pytest.raises(KeyboardInterrupt):
        run(journal, 5, score=interrupted)
    resumed = run(journal, 5)
    assert len(resumed) == 5 and not resumed["error"].any()
    pd.testing.assert_frame_equal(resumed, run(tmp_path / "whole", 5))


class Killed(BaseException):
    """Caught by nobody on the way: the journal is left as SIGKILL leaves it, with a trial that runs for ever."""


def test_a_killed_process_loses_its_running_trial_only_and_that_is_retried(journal, tmp_path):
    def killed(settings):
        if len(search.open_study(journal, PLAN).trials) == 3:
            raise Killed
        return easy(settings)

    with pytest.raises(Killed):
        run(journal, 5, score=killed)
    left = search.open_study(journal, PLAN).trials
    assert [trial.state.name for trial in left] == ["COMPLETE", "COMPLETE", "RUNNING"]
    for _ in range(2):  # the second time nothing is left to retry
        pd.testing.assert_frame_equal(run(journal, 5), run(tmp_path / "whole", 5))


def test_a_torn_last_line_does_not_spoil_the_journal(journal, tmp_path):
    run(journal, 3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"x","study_')
    resumed = run(journal, 5)
    assert journal.read_bytes().startswith(whole)
    pd.testing.assert_frame_equal(resumed, run(tmp_path / "whole", 5))


def test_another_plan_is_another_study_in_the_same_journal(journal):
    assert len(run(journal, 3)) == 3
    assert len(run(journal, 2, plan=replace(PLAN, data="other images"))) == 2
    assert len(run(journal, 3)) == 3


def test_no_trial_is_refused(journal):
    with pytest.raises(ValueError, match="at least one trial"):
        run(journal, 0)


def test_what_lies_within_the_best_ones_interval_counts_as_tied():
    trials = pd.DataFrame({"accuracy": [0.99, 0.985, 0.90, np.nan], "errors": [10, 15, 100, np.nan], "n": 1000,
                           "error": ""})
    assert search.best(trials)["accuracy"] == 0.99
    assert search.tied_with_best(trials) == 2  # Wilson's interval of 990 of 1,000 begins at 0.9817


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.random((96, 28, 28, 1), np.float32) * 0.1
    labels = np.arange(96) % 10
    for i, label in enumerate(labels):
        x[i, 2 * label:2 * label + 4, 4:24] = 1  # the digit is where the bar lies
    return x, np.eye(10, dtype=np.float32)[labels]


def test_a_trained_score_is_repeatable_and_says_what_it_cost(images):
    x, y = images
    score = search.training_score(replace(PLAN, model="lenet5"), x, y, (x, y))
    settings = {"learning_rate": 3e-3, "batch_size": 32, "dropout": 0.1}
    started = time.perf_counter()
    first, again = score(settings), score(settings)
    assert 0 < first.pop("seconds") + again.pop("seconds") < time.perf_counter() - started
    assert first == again
    assert first["parameters"] == 61_706 and first["multiplies"] > 400_000
    assert first["n"] == 96 and first["accuracy"] == (96 - first["errors"]) / 96
    assert first["interval"][0] <= first["accuracy"] <= first["interval"][1]

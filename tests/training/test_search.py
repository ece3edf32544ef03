"""Studies: the same with the same seed, continued after an interruption, filled by several workers of which some die."""

import json
import multiprocessing
import signal
import sqlite3
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest
import sqlalchemy as sa

import browser
import searcher
from digits import files
from digits.files import RunError
from digits.report import plots as draw
from digits.training import networks, search
from searcher import PLAN, easy

PRUNING = replace(PLAN, sampler="tpe", prune=True)
GRID = replace(PLAN, sampler="grid", grid_points=2, batch_size=(32,), width=(24, 24, 8))
SETTINGS = list(search.SETTINGS)


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@sa.event.listens_for(sa.Engine, "connect")
def _no_waiting_for_the_disk(connection, record):
    """Where no power fails in a test, that is a waste."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def url(monkeypatch):
    """Studies in memory, for what no database decides."""
    memory = optuna.storages.InMemoryStorage()
    monkeypatch.setattr(search, "connect", lambda url: memory)
    return "memory"


@pytest.fixture
def database(tmp_path):
    return search.storage(tmp_path)


def run(url, trials, score=easy, plan=PLAN):
    study = search.open_study(url, plan)
    search.run(study, plan, score, trials)
    return search.table(study)


connect = search.connect


class Killed(BaseException):
    """Nobody catches it on the way: the study is left as SIGKILL leaves it, with a running trial."""


def hours_pass(url):
    """The heartbeats of all that runs are old."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "end"), [(PLAN, KeyboardInterrupt), (PRUNING, Killed)])
def test_an_interrupted_study_has_the_trials_of_one_that_never_was(url, tmp_path, plan, end):
    """Interrupted twice: in the middle of a trial, and between two of its settings."""
    whole = run(url, 14, plan=plan)
    parts = search.storage(tmp_path)

    def interrupted(settings, trial):
        trial.report(0.5, 1)
        raise end

    class Torn(search.Plan):
        def suggest(self, trial):
            trial.suggest_float("learning_rate", *self.learning_rate, log=True)
            raise end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "connect", connect)
        for done, (asked, score) in {2: (plan, interrupted), 4: (Torn(**vars(plan)), easy)}.items():
            run(parts, done, plan=plan)
            with pytest.raises(end):
                search.run(search.open_study(parts, plan), asked, score, 14)
            hours_pass(parts)
        for _ in range(2):  # the second time nothing is left to do
            pd.testing.assert_frame_equal(run(parts, 14, plan=plan), whole)


def test_settings_lie_in_the_space_and_another_seed_draws_others(url):
    trials = run(url, 20)
    for name in ("learning_rate", "weight_decay", "dropout", "augmentation"):
        assert trials[name].between(*getattr(PLAN, name)).all() and trials[name].is_unique
    assert set(trials["batch_size"]) == set(PLAN.batch_size)
    assert set(trials["width"]) == {24, 32, 40, 48, 56}
    for other in (replace(PLAN, seed=8), replace(PLAN, sampler="tpe")):
        assert not set(run(url, 5, plan=other)["learning_rate"]) & set(trials["learning_rate"])


def test_a_grid_tries_every_combination_once_and_ends(url):
    trials = run(url, 100, plan=GRID)
    assert len(trials) == 16 and not trials[SETTINGS].duplicated().any()


def test_hopeless_trials_are_stopped_and_count(url):
    trials = run(url, 20, plan=PRUNING)
    pruned = trials[trials["state"] == "pruned"]
    assert len(trials) == 20 and 3 < len(pruned) < 15 and (trials["state"] == "complete")[:5].all()
    assert (pruned["epochs"] < PLAN.epochs).all() and pruned["accuracy"].isna().all()
    assert (trials.loc[trials["state"] == "complete", "epochs"] == PLAN.epochs).all()
    assert search.best(trials)["accuracy"] == trials["accuracy"].max() == trials["best"].iloc[-1]


def test_a_failing_trial_is_recorded_and_the_others_go_on(url):
    def sometimes(settings, trial):
        if settings["batch_size"] == 32:
            raise MemoryError("too large")
        return easy(settings, trial)

    trials = run(url, 12, sometimes)
    failed = trials["batch_size"] == 32
    assert failed.any() and len(trials) == 12 and (trials["state"] == "fail").equals(failed)
    assert (trials["error"][failed] == "MemoryError: too large").all()
    assert trials["accuracy"].isna().equals(failed)
    with pytest.raises(ValueError, match=r"No trial was scored.*MemoryError: too large"):
        search.best(trials[failed])


@pytest.mark.slow
@pytest.mark.parametrize(("end", "state"), [(KeyboardInterrupt, "complete"), (Killed, "fail")])
def test_what_kills_its_worker_is_given_up_and_what_somebody_stops_is_not(database, end, state):
    calls = []

    def fatal(settings, trial):
        calls.append(settings["learning_rate"])
        raise end

    for _ in range(search.RETRIES + 1):
        with pytest.raises(end):
            run(database, 2, fatal)
        hours_pass(database)
    trials = run(database, 2)
    assert list(trials["state"]) == [state, "complete"]
    assert trials["error"][0] == ("its worker died" if state == "fail" else "")
    assert set(calls) == {trials["learning_rate"][0]}


def test_who_was_wrongly_taken_for_dead_spoils_nothing(database):
    """Its network was lost for a while: the trial is given to another, and counts once."""
    rates = []

    def robbed(settings, trial):
        rates.append(settings["learning_rate"])
        if len(rates) == 1:
            hours_pass(database)
            run(database, 2, robbed)
        return easy(settings, trial)

    trials = run(database, 3, robbed)
    assert len(rates) == 4 and rates[0] == rates[1] and len(trials) == len(set(rates)) == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "cannot be used"),
        ("sqlite:////nowhere/study.sqlite3", "unable to open.*folder"),
    ],
)
def test_a_database_that_cannot_be_opened_is_said_in_words(url, message):
    with pytest.raises(RunError, match=message):
        search.open_study(url, PLAN)


def test_the_committed_searches_are_looked_at_without_being_touched():
    before = files.sha256(files.SEARCHES)
    trials = {name: search.table(study) for name, study in search.large_searches().items()}
    assert {name: len(some) for name, some in trials.items()} == {
        "tpe": 40,
        "random": 40,
        "grid": 9,
    }
    assert search.best(trials["tpe"])["errors"] == 67
    assert files.sha256(files.SEARCHES) == before


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_its_trial_to_another(database, tmp_path):
    """No trial is drawn twice, and all have the settings that one worker alone would have drawn."""
    log = tmp_path / "log"
    log.touch()
    search.open_study(database, PLAN)
    fork = multiprocessing.get_context("fork")  # TensorFlow need not be loaded three times more
    workers = [
        fork.Process(target=searcher.work, args=(database, 20, 1.5, log), daemon=True)
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()

    def said(word):  # (process, learning rate) of each trial that "began" or "ended"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [(process, rate) for said, process, rate in lines if said == word]

    def under_way():
        mine = [one for one in said("began") if one[0] == workers[0].pid]
        all_at_work = len({process for process, _ in said("began")}) == 3
        return mine[-1] if all_at_work and mine[-1] not in said("ended") else None

    try:
        _, lost = browser.until(under_way, 300, "a trial under way")
        workers[0].kill()
        for worker in workers:
            worker.join(300)
        assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0, 0]
    finally:
        for worker in workers:
            worker.kill()
    trials = run(database, 20)
    began = Counter(rate for _, rate in said("began"))
    assert began.pop(lost) == 2 and set(began.values()) == {1}
    assert 20 <= len(trials) <= 22 and (trials["state"] == "complete").all()
    (tmp_path / "alone").mkdir()
    pd.testing.assert_frame_equal(trials, run(search.storage(tmp_path / "alone"), len(trials)))


def test_a_database_that_fails_under_a_trial_is_said_in_words(database):
    def unlucky(settings, trial):
        with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
            connection.execute("DROP TABLE trial_user_attributes")
        return easy(settings, trial)

    with pytest.raises(RunError, match="database failed"):
        run(database, 3, unlucky)


@pytest.mark.slow
def test_what_matters_is_found_and_the_figures_show_it(url):
    chance = run(url, 8)
    study = search.open_study(url, PRUNING)
    search.run(study, PRUNING, easy, 1)
    assert search.importances(study).empty
    assert not draw.importances(plt.subplots()[1], search.importances(study)).patches
    search.run(study, PRUNING, easy, 24)
    trials = search.table(study)
    found = search.importances(study)
    assert set(found.index[:2]) == {"learning_rate", "dropout"} and found.sum() == pytest.approx(1)
    ax = draw.searches(plt.subplots()[1], {"by chance": chance, "TPE": trials}, 0.88)
    best, _, reached, points, dashed = ax.lines
    assert best.get_ydata()[-1] == chance["accuracy"].max() and dashed.get_ydata()[0] == 0.88
    assert reached.get_ydata()[-1] == trials["best"].iloc[-1] == max(points.get_ydata())
    assert reached.get_xdata()[-1] == pytest.approx(trials["cost"].sum() / 1e12)
    assert len(draw.importances(plt.subplots()[1], search.importances(study)).patches) == len(
        SETTINGS
    )
    plt.close("all")


TINY = replace(
    PLAN, width=(8, 8, 8), epochs=1, batch_size=(32, 64), augmentation=(0.0, 0.0), split=(100, 1)
)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.random((320, 28, 28, 1), np.float32) * 0.1
    labels = np.arange(len(x)) % 10
    for i, label in enumerate(labels):
        x[i, 2 * label : 2 * label + 4, 4:24] = 1  # the digit is where the bar lies
    return x, np.eye(10, dtype=np.float32)[labels]


SOME = {"learning_rate": 3e-3, "batch_size": 32, "weight_decay": 0.01, "dropout": 0.1, "width": 8}


@pytest.mark.slow
def test_a_trained_score_is_repeatable_says_what_it_cost_and_ends_when_hopeless(images):
    x, y = images
    score = search.training_score(TINY, x, y, (x, y))
    first, again = score(SOME | {"augmentation": 0.0}), score(SOME | {"augmentation": 0.0})
    assert first.pop("seconds") > 0 < again.pop("seconds") and first == again
    assert first["parameters"] == networks.build("compact", width=8).count_params()
    assert first["cost"] == 64 * first["macs"] and first["epochs"] == 1
    assert not first["pruned"] and first["accuracy"] == (320 - first["errors"]) / 320

    class Hopeless:
        told = {}

        def report(self, accuracy, epoch):
            self.told[epoch] = accuracy

        def should_prune(self):
            return len(self.told) == 2

    long = search.training_score(replace(TINY, epochs=4), x, y, (x, y))
    result = long(SOME | {"augmentation": 1.0}, Hopeless())
    assert list(Hopeless.told) == [1, 2] and result["pruned"] and result["epochs"] == 2
    assert result["accuracy"] == (320 - result["errors"]) / 320

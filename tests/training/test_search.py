"""Studies: the same with the same seed, continued without repeats, filled by several workers of which some are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

import browser
import searcher
from digits import files as paths
from digits.files import write_json
from digits.report import plots_search as draw
from digits.report import style as plots
from digits.training import findings, leases, sampling, search, studies
from digits.training import networks as models
from digits.training import plan as planning
from digits.training.leases import StudyError
from searcher import easy
from services import postgres as server

PLAN = searcher.PLAN
PRUNING = replace(PLAN, sampler="tpe", prune=True)
SMALL_GRID = replace(
    PLAN,
    sampler="grid",
    batch_size=(32, 64),
    weight_decay=(0.01, 0.01),
    dropout=(0.2, 0.2),
    width=None,
    augmentation=(1.0, 1.0),
)
HERE = Path(__file__).parent


def run(where, trials, score=easy, plan=PLAN):
    study = planning.run(planning.open_study(where, plan), plan, score, trials)
    return findings.table(study)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture
def _no_waiting_for_the_disk(monkeypatch):
    """Optuna syncs after every line; where no power fails in a test, that is a waste."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


pytestmark = pytest.mark.usefixtures("_no_waiting_for_the_disk")

# --- One worker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [PLAN, PRUNING, SMALL_GRID], ids=lambda plan: plan.sampler)
def test_same_seed_gives_the_same_study_and_another_seed_another(tmp_path, plan):
    first, again = run(tmp_path / "a", 16, plan=plan), run(tmp_path / "b", 16, plan=plan)
    other = run(tmp_path / "c", 16, plan=replace(plan, seed=8))
    pd.testing.assert_frame_equal(first, again)
    assert not first["learning_rate"].equals(other["learning_rate"])


def test_settings_lie_in_the_space_and_differ(journal):
    trials = run(journal, 40)
    for name in ("learning_rate", "weight_decay", "dropout", "augmentation"):
        assert trials[name].between(*getattr(PLAN, name)).all() and trials[name].is_unique
    assert set(trials["batch_size"]) == set(PLAN.batch_size) and set(trials["width"]) == {
        24,
        32,
        40,
        48,
        56,
    }
    assert (trials["learning_rate"] < 3e-3).sum() in range(
        10, 31
    )  # even on the logarithmic scale: about half
    assert (
        abs(np.corrcoef(trials["dropout"], trials["augmentation"])[0, 1]) < 0.5
    )  # each drawn on its own


def test_a_grid_tries_every_combination_once_and_ends(journal):
    trials = run(journal, 100, plan=SMALL_GRID)
    tried = Counter(zip(trials["learning_rate"].round(6), trials["batch_size"], strict=True))
    assert tried == Counter(
        {(rate, size): 1 for rate in (0.0003, 0.003, 0.03) for size in (32, 64)}
    )


def test_tpe_learns_where_random_search_does_not(tmp_path):
    """The mean of what is tried after the start comes closer to the best there is."""
    tpe, chance = (
        run(tmp_path / name, 40, plan=replace(PLAN, sampler=name))["accuracy"][
            sampling.STARTUP :
        ].mean()
        for name in ("tpe", "random")
    )
    assert tpe > chance + 0.02


def test_random_search_draws_other_trials_than_tpe_begins_with(tmp_path):
    """Else what is to be luck's share beside TPE would be TPE's own first trials once more."""
    tpe, chance = (
        run(tmp_path / name, 5, plan=replace(PLAN, sampler=name))["learning_rate"]
        for name in ("tpe", "random")
    )
    assert not set(tpe) & set(chance)


def test_hopeless_trials_are_stopped_and_count(journal):
    trials = run(journal, 30, plan=PRUNING)
    pruned = trials[trials["state"] == "pruned"]
    assert len(trials) == 30 and 3 < len(pruned) < 25
    assert (
        (pruned["epochs"] < PLAN.epochs).all()
        and pruned["accuracy"].isna().all()
        and not pruned["error"].any()
    )
    assert (trials.loc[trials["state"] == "complete", "epochs"] == PLAN.epochs).all()
    assert findings.best(trials)["accuracy"] == trials["accuracy"].max() == trials["best"].iloc[-1]
    assert (trials["state"] == "complete")[:5].all()  # before there is anything to compare with


@pytest.mark.parametrize("plan", [PLAN, PRUNING, SMALL_GRID], ids=lambda plan: plan.sampler)
@pytest.mark.parametrize("end", [KeyboardInterrupt, "killed"], ids=str)
def test_an_interrupted_study_has_the_trials_of_one_that_was_never_interrupted(tmp_path, plan, end):
    """Interrupted twice: once in the middle of a trial, once between two of its settings."""
    total = 6 if plan.sampler == "grid" else 18
    whole = run(tmp_path / "whole", total, plan=plan)

    def interrupted(settings, watch):
        watch(1, 0.5)
        raise Killed if end == "killed" else end

    class Torn(planning.Plan):
        def suggest(self, trial):
            trial.suggest_float("learning_rate", *self.learning_rate, log=True)
            raise Killed if end == "killed" else end

    parts, path = planning.open_study, tmp_path / "parts"
    for done, (asked, score) in {2: (plan, interrupted), 4: (Torn(**vars(plan)), easy)}.items():
        run(path, done, plan=plan)
        with pytest.raises((Killed, KeyboardInterrupt)):
            planning.run(parts(path, plan), asked, score, total)
    for _ in range(2):  # the second time nothing is left to do
        pd.testing.assert_frame_equal(run(path, total, plan=plan), whole)


class Killed(BaseException):
    """Caught by nobody on the way: the storage is left as SIGKILL leaves it, with a trial that runs for ever."""


def test_a_finished_study_trains_nothing_again(journal):
    first = run(journal, 4)
    calls = []
    again = run(journal, 4, score=lambda *given: calls.append(given))
    assert not calls
    pd.testing.assert_frame_equal(first, again)


def test_a_failing_trial_is_recorded_and_the_others_go_on(journal):
    def sometimes(settings, watch):
        if settings["batch_size"] == 32:
            raise MemoryError("too large")
        return easy(settings, watch)

    trials = run(journal, 12, score=sometimes)
    failed = trials[trials["batch_size"] == 32]
    assert 0 < len(failed) < len(trials) == 12 and (failed["state"] == "failed").all()
    assert (failed["error"] == "MemoryError: too large").all() and failed["accuracy"].isna().all()
    assert trials.loc[trials["batch_size"] != 32, "accuracy"].notna().all()
    assert findings.best(trials)["accuracy"] == trials["accuracy"].max() == trials["best"].iloc[-1]


def test_a_score_that_is_no_number_counts_as_a_failure(journal):
    trials = run(journal, 2, score=lambda settings, watch: {"accuracy": float("nan")})
    assert len(trials) == 2 and trials["error"].str.contains("nan").all()
    with pytest.raises(ValueError, match="No trial was scored"):
        findings.best(trials)


def test_what_kills_its_worker_is_tried_twice_and_then_given_up(journal):
    calls = []

    def deadly(settings, watch):
        calls.append(settings)
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            run(journal, 3, score=deadly)
    trials = run(journal, 3)
    assert calls[0] == calls[1] and list(trials["state"]) == ["failed", "complete", "complete"]
    assert trials["error"][0] == "2 workers died while they ran it"
    assert trials["learning_rate"][0] == calls[0]["learning_rate"]


def test_what_somebody_stops_is_never_given_up(journal, tmp_path):
    def stopped(settings, watch):
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(journal, 3, score=stopped)
    pd.testing.assert_frame_equal(run(journal, 3), run(tmp_path / "whole", 3))


@pytest.mark.parametrize(
    "torn",
    [b'{"op_code":4,"worker_id":"x","study_', b"{", b"\x00" * 5000],
    ids=["half", "brace", "long"],
)
def test_a_torn_last_line_does_not_spoil_the_journal(journal, tmp_path, torn):
    """Neither for who opens it then, nor for who had it open when another one was killed in the middle of a line."""
    study = planning.open_study(journal, PLAN)
    planning.run(study, PLAN, easy, 3)
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    planning.run(study, PLAN, easy, 4)
    assert journal.read_bytes().startswith(whole)
    with journal.open("ab") as file:
        file.write(torn)
    pd.testing.assert_frame_equal(run(journal, 5), run(tmp_path / "whole", 5))


def test_a_journal_that_is_damaged_in_its_middle_is_named(journal):
    run(journal, 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"no JSON\n", *lines[3:]]))
    with pytest.raises(StudyError, match=r"study\.journal cannot be used.*Move it away"):
        planning.open_study(journal, PLAN)


def test_a_journal_that_is_replaced_is_not_written_to(journal):
    """As when a run's folder makes place for the next run's: these trials have no place there."""
    study = planning.open_study(journal, PLAN)
    other = journal.with_name("other")
    run(other, 1)
    other.rename(journal)
    before = journal.read_bytes()
    with pytest.raises(StudyError, match="replaced"):
        studies.work(study, PLAN.suggest, easy, 2)
    assert journal.read_bytes() == before


def test_a_run_that_is_moved_away_under_a_worker_is_said_in_words(tmp_path):
    """A run that was built beside its final place is there now; its study goes on from where it is."""
    building, final = tmp_path / "latest.building", tmp_path / "latest"
    building.mkdir()

    def moved(settings, watch):
        building.rename(final)
        return easy(settings, watch)

    with pytest.raises(
        StudyError, match="storage failed.*latest.building.*What was finished is kept"
    ):
        run(building / "study.journal", 3, score=moved)
    assert not building.exists()
    pd.testing.assert_frame_equal(run(final / "study.journal", 3), run(tmp_path / "alone", 3))


def test_another_plan_is_another_study_in_the_same_journal(journal):
    assert len(run(journal, 3)) == 3
    assert len(run(journal, 2, plan=replace(PLAN, data="other images"))) == 2
    assert len(run(journal, 3)) == 3


def test_bad_requests_are_refused(journal, tmp_path):
    with pytest.raises(ValueError, match="at least one trial"):
        run(journal, 0)
    with pytest.raises(ValueError, match="Choose one of: tpe, random, grid"):
        replace(PLAN, sampler="luck")
    with pytest.raises(StudyError, match="no study 'unknown' here.*Known: random-"):
        studies.plan_of(journal, "unknown")
    with pytest.raises(StudyError, match="study.journal is missing"):
        studies.plan_of(tmp_path / "nowhere" / "study.journal", "unknown")
    with pytest.raises(StudyError, match="cannot be used"):
        planning.open_study(tmp_path / "nowhere" / "study.journal", PLAN)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "looks like postgresql"),
        ("postgresql+nodriver://user:secret@127.0.0.1/x", "nodriver"),
        ("postgresql+psycopg2://user:secret@127.0.0.1:1/x", "driver.*not installed.*psycopg"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/x", "cannot be used.*refused"),
        ("sqlite://", "a file of SQLite"),
        ("mysql+pymysql://user:secret@127.0.0.1/x", "through PostgreSQL"),
    ],
)
def test_a_bad_storage_is_named_without_its_password(url, message):
    if url.startswith("postgresql+psycopg:"):
        pytest.importorskip("psycopg")
    with pytest.raises(StudyError, match=message) as caught:
        planning.open_study(url, PLAN)
    assert "secret" not in str(caught.value)


def test_the_storage_is_the_runs_own_unless_a_variable_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv(studies.VARIABLE, raising=False)
    assert studies.storage(tmp_path) == tmp_path / "study.journal"
    monkeypatch.setenv(studies.VARIABLE, "postgresql+psycopg://somewhere/else")
    assert studies.storage(tmp_path) == "postgresql+psycopg://somewhere/else"


def test_a_journal_is_looked_at_without_being_touched(tmp_path, journal):
    assert search.copies(journal) == {}
    before = {
        plan.sampler: run(journal, 4, plan=plan)
        for plan in (PRUNING, replace(PLAN, sampler="random", prune=False))
    }
    content, files = journal.read_bytes(), sorted(tmp_path.iterdir())
    seen = search.copies(journal)
    for sampler, table in before.items():
        pd.testing.assert_frame_equal(search.table(seen[sampler]), table)
    seen["tpe"].set_user_attr("note", "in memory only")
    assert journal.read_bytes() == content and sorted(tmp_path.iterdir()) == files
    journal.write_bytes(b"no journal\nat all\n")
    with pytest.raises(StudyError):
        search.copies(journal)


# --- Several workers -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgresql():
    with server() as running:
        yield running


@pytest.fixture(params=["journal", "postgresql"])
def where(request, tmp_path):
    """A place for studies of one test's own."""
    if request.param == "journal":
        return tmp_path / "study.journal"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.sqlite3'}"
    running = request.getfixturevalue("postgresql")
    name = f"test_{time.monotonic_ns()}"
    engine = sa.create_engine(running.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return running.url.rsplit("/", 1)[0] + f"/{name}"


class Workers:
    """Processes that fill a study, and what they say."""

    def __init__(self, where, trials: int, seconds: float, log: Path, sampler: str = "random"):
        self.command = [
            sys.executable,
            HERE / "searcher.py",
            str(where),
            str(trials),
            str(seconds),
            sampler,
        ]
        self.log, self.processes = log, []

    def start(self, n: int) -> list[subprocess.Popen]:
        with self.log.open("ab") as output:
            started = [
                subprocess.Popen(self.command, stdout=output, stderr=subprocess.PIPE, text=True)
                for _ in range(n)
            ]
        self.processes += started
        return started

    def said(self, word: str) -> list[tuple[int, float]]:
        """(process, learning rate) of each trial that ``began`` or ``ended``."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(process, rate) for said, process, rate in lines if said == word]

    def finish(self) -> None:
        for process in self.processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode in (0, -signal.SIGKILL, -signal.SIGTERM), errors


@pytest.fixture
def workers(where, tmp_path):
    made = []

    def make(*arguments, **options):
        made.append(Workers(where, *arguments, log=tmp_path / "log", **options))
        return made[0]

    yield make
    for one in made:
        for process in one.processes:
            process.kill()
            process.wait()
            process.stderr.close()


def all_trials(where, plan=PLAN):
    return planning.open_study(where, plan).get_trials(deepcopy=False)


@pytest.mark.parametrize("where", ["journal", "sqlite", "postgresql"], indirect=True)
def test_workers_share_a_study_without_a_double_or_a_lost_trial(where, workers, tmp_path):
    """Four through a journal, two through a database; the trials are those of one worker alone."""
    several = workers(24, 0.05)
    several.start(4 if isinstance(where, Path) else 2)
    several.finish()
    assert len(all_trials(where)) == 24
    pd.testing.assert_frame_equal(run(where, 24), run(tmp_path / "alone", 24))
    began = Counter(rate for _, rate in several.said("began"))
    assert len(began) == 24 and set(began.values()) == {1}
    assert len({process for process, _ in several.said("began")}) > 1  # nobody did it alone


def test_a_worker_that_is_killed_in_the_middle_of_a_trial_loses_that_one_only(
    where, workers, tmp_path
):
    """And another one, who was there all the time, runs it again; one that is only slow keeps its trial."""
    several = workers(10, 0.5)
    several.start(2)
    browser.until(
        lambda: len({process for process, _ in several.said("began")}) == 2,
        60,
        "two workers at work",
    )
    victim, witness = several.processes
    process, lost = browser.until(
        lambda: next(
            (
                one
                for one in reversed(several.said("began"))
                if one[0] == victim.pid and one not in several.said("ended")
            ),
            None,
        ),
        60,
        "a trial of the first one",
    )
    os.kill(process, signal.SIGKILL)
    several.finish()
    ended = Counter(rate for _, rate in several.said("ended"))
    assert len(ended) == 10 and set(ended.values()) == {1}
    assert Counter(rate for _, rate in several.said("began")) == ended + Counter([lost])
    assert (witness.pid, lost) in several.said("ended")
    pd.testing.assert_frame_equal(run(where, 10), run(tmp_path / "alone", 10))
    states = Counter(trial.state.name for trial in all_trials(where))
    assert states == {"COMPLETE": 10, "FAIL": 1}


def test_who_all_are_killed_again_and_again_lose_nothing_that_was_finished(
    where, workers, tmp_path
):
    """Killed at any moment: in a trial, between two, while the storage is written. What follows is exact."""
    several = workers(40, 0.01)
    rng = np.random.default_rng(1)
    for _ in range(3):
        count = len(several.said("began")) if several.log.exists() else 0
        started = several.start(3)
        browser.until(
            lambda count=count: len(several.said("began")) > count + 2, 60, "workers at work"
        )
        time.sleep(rng.uniform(0, 0.15))
        for process in started:
            process.kill()
            process.wait()
    several.start(2)
    several.finish()
    trials = run(where, 40)
    failed = trials["state"] == "failed"
    assert (
        len(trials) == 40
        and (trials.loc[failed, "error"] == "2 workers died while they ran it").all()
    )
    expected = run(tmp_path / "alone", 40)
    settings = list(planning.SETTINGS)
    # who dies before a trial has its settings leaves a gap among whole numbers, which pandas then keeps as fractions
    pd.testing.assert_frame_equal(
        trials.loc[~failed, settings], expected.loc[~failed, settings], check_dtype=False
    )
    assert trials["accuracy"][~failed].equals(expected["accuracy"][~failed])


def test_who_is_suspended_is_not_dead(where, workers):
    """Its trial is not taken from it, however long it stands still: no clock decides."""
    several = workers(4, 0.3)
    slow, quick = several.start(2)
    browser.until(
        lambda: {slow.pid, quick.pid} == {process for process, _ in several.said("began")},
        60,
        "both at work",
    )
    browser.until(
        lambda: len(several.said("began")) > len(several.said("ended")), 60, "a trial under way"
    )
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        time.sleep(3)
        assert not any("lost" in trial.user_attrs for trial in all_trials(where))
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    several.finish()
    assert (
        len(all_trials(where)) == 4
        and Counter(rate for _, rate in several.said("began")).most_common(1)[0][1] == 1
    )


def test_who_was_wrongly_taken_for_dead_spoils_nothing(where, monkeypatch):
    """A connection is lost, and with it the lock: the trial is given to another, and counts once."""
    study = planning.open_study(where, PLAN)
    rates = []

    def robbed(settings, watch):
        rates.append(settings["learning_rate"])
        if len(rates) == 1:
            monkeypatch.setattr(type(study.leases), "alive", lambda self, worker: False)
            planning.run(planning.open_study(where, PLAN), PLAN, robbed, 2)
            monkeypatch.undo()
        return easy(settings, watch)

    planning.run(study, PLAN, robbed, 3)
    assert len(rates) == 4 and rates[0] == rates[1] and len(set(rates)) == 3
    assert Counter(trial.state.name for trial in study.get_trials()) == {"COMPLETE": 3, "FAIL": 1}


def test_the_database_lets_go_of_computers_that_vanish(postgresql):
    """What a lost network would take hours to tell without: the server asks after half a minute."""
    held = leases.PostgresLeases(sa.make_url(postgresql.url))
    shown = {
        name: held._connection.execute(sa.text(f"SHOW {name}")).scalar() for name in held._SETTINGS
    }
    assert shown == {
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "idle_session_timeout": "0",
        "lock_timeout": "2min",
    }


def test_a_database_that_is_lost_is_said_in_words_and_loses_no_trial(postgresql, tmp_path):
    """The server dies under a trial; when it is up again, whoever comes goes on, with the same settings."""

    def unlucky(settings, watch):
        postgresql.kill()
        return easy(settings, watch)

    with pytest.raises(StudyError, match="storage failed|cannot be used"):
        run(postgresql.url, 3, score=unlucky)
    postgresql.start()
    pd.testing.assert_frame_equal(run(postgresql.url, 3), run(tmp_path / "alone", 3))


# --- What was found --------------------------------------------------------------------------------------------------


def test_what_lies_within_the_best_ones_interval_counts_as_tied():
    trials = pd.DataFrame(
        {
            "accuracy": [0.99, 0.985, 0.90, np.nan],
            "errors": [10, 15, 100, np.nan],
            "n": 1000,
            "error": "",
        }
    )
    assert findings.best(trials)["accuracy"] == 0.99
    assert (
        findings.tied_with_best(trials) == 2
    )  # Wilson's interval of 990 of 1,000 begins at 0.9817


def test_the_best_of_some_is_what_drawing_them_gives():
    accuracies = np.random.default_rng(0).normal(0.98, 0.01, 30)
    drawn = [
        np.random.default_rng(i).choice(accuracies, 7, replace=False).max() for i in range(4000)
    ]
    exact = findings.best_of(accuracies, 7)
    assert exact["expected"] == pytest.approx(np.mean(drawn), abs=0.0003)
    assert [exact["low"], exact["high"]] == pytest.approx(
        np.quantile(drawn, [0.025, 0.975], method="inverted_cdf"), abs=0.002
    )
    assert findings.best_of(accuracies, 30) == dict.fromkeys(
        ("expected", "low", "high"), pytest.approx(accuracies.max())
    )
    assert findings.best_of(accuracies, 1)["expected"] == pytest.approx(accuracies.mean())
    for k in (0, 31):
        with pytest.raises(ValueError, match="cannot be told"):
            findings.best_of(accuracies, k)


def test_random_search_gets_as_many_trials_as_the_cost_pays_for():
    trials = pd.DataFrame({"accuracy": [0.9, 0.8, np.nan, 0.7], "cost": [10.0, 20.0, np.nan, 30.0]})
    assert findings.random_at_cost(trials, 40) == {
        "trials": 2,
        "capped": False,
        "expected": pytest.approx((2 * 0.9 + 0.8) / 3),
        "low": 0.8,
        "high": 0.9,
    }
    assert findings.random_at_cost(trials, 1000)["capped"]


def test_what_matters_is_found_and_what_cannot_be_told_is_not(journal, tmp_path):
    study = planning.run(planning.open_study(journal, PLAN), PLAN, easy, 40)
    found = findings.importances(study)
    assert set(found.index[:2]) == {"learning_rate", "dropout"} and found.sum() == pytest.approx(1)
    one = planning.run(planning.open_study(tmp_path / "one", PLAN), PLAN, easy, 1)
    assert findings.importances(one).empty


def test_figures_keep_the_reports_style_and_show_what_was_stopped(journal):
    """Optuna's own switch the style of every later figure; these do not."""
    plots.use_style()
    before = dict(plt.rcParams)
    study = planning.run(planning.open_study(journal, PRUNING), PRUNING, easy, 20)
    chance = run(journal, 8)
    trials = findings.table(study)
    ax = draw.learning_curves(study)
    crosses = [line for line in ax.lines if line.get_marker() == "X"]
    assert len(ax.lines) == 20 and len(crosses) == (trials["state"] == "pruned").sum() > 0
    assert len(draw.slices(study).axes) == len(planning.SETTINGS) + 1
    ax = draw.history(study, 0.88)
    assert (
        ax.lines[-1].get_ydata()[0] == 0.88
        and max(ax.lines[0].get_ydata()) == trials["best"].iloc[-1]
    )
    ax = draw.against_random(plt.subplots()[1], trials, chance)
    assert (
        ax.lines[0].get_ydata()[-1] == chance["accuracy"].max()
        and ax.lines[1].get_ydata()[-1] == trials["best"].iloc[-1]
    )
    assert len(draw.importances(study).patches) == len(planning.SETTINGS)
    assert draw.parallel(study).get_facecolor() == (1, 1, 1, 1)
    assert (
        dict(plt.rcParams) == before and plt.style.library["ggplot"]["axes.facecolor"] == "#E5E5E5"
    )
    plt.close("all")


def test_figures_of_a_single_trial(journal):
    study = planning.run(planning.open_study(journal, PRUNING), PRUNING, easy, 1)
    for figure in (
        draw.history(study).figure,
        draw.importances(study).figure,
        draw.slices(study),
        draw.parallel(study).figure,
        draw.learning_curves(study).figure,
    ):
        figure.canvas.draw()
    plt.close("all")


# --- Real training, and the command ----------------------------------------------------------------------------------

TINY = replace(
    PLAN, model="compact", width=(8, 8, 8), epochs=1, batch_size=(32, 64), augmentation=(0.0, 0.0)
)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.random((320, 28, 28, 1), np.float32) * 0.1
    labels = np.arange(len(x)) % 10
    for i, label in enumerate(labels):
        x[i, 2 * label : 2 * label + 4, 4:24] = 1  # the digit is where the bar lies
    return x, np.eye(10, dtype=np.float32)[labels]


def test_a_trained_score_is_repeatable_and_says_what_it_cost(images):
    x, y = images
    score = search.training_score(TINY, x, y, (x, y))
    settings = {"learning_rate": 3e-3, "batch_size": 32, "dropout": 0.1, "width": 8}
    started = time.perf_counter()
    first, again = score(settings), score(settings)
    assert 0 < first.pop("seconds") + again.pop("seconds") < time.perf_counter() - started
    assert first == again
    assert (
        first["parameters"] == models.build("compact", width=8).count_params()
        and first["multiplies"] > 400_000
    )
    assert (
        first["cost"] == 64 * first["multiplies"] and first["epochs"] == 1 and not first["pruned"]
    )
    assert first["n"] == 320 and first["accuracy"] == (320 - first["errors"]) / 320
    assert first["interval"][0] <= first["accuracy"] <= first["interval"][1]


def test_a_hopeless_training_ends_after_the_epoch_that_showed_it(images):
    x, y = images
    told = []

    def watch(epoch, accuracy):
        told.append((epoch, accuracy))
        return epoch == 2

    result = search.training_score(replace(TINY, epochs=4), x, y, (x, y))(
        {
            "learning_rate": 3e-3,
            "batch_size": 32,
            "augmentation": 1.0,
            "weight_decay": 0.01,
            "width": 8,
        },
        watch,
    )
    assert [epoch for epoch, _ in told] == [1, 2] and result["pruned"] and result["epochs"] == 2
    assert result["accuracy"] == pytest.approx(max(accuracy for _, accuracy in told))


@pytest.fixture
def outputs(tmp_path, images, monkeypatch):
    """A run as notebooks 01 and 02 leave it, and a study that the last one began."""
    x, y = images
    run = tmp_path / "tiny"
    (run / "data").mkdir(parents=True)
    for part in ("train", "test"):
        np.save(run / "data" / f"X_{part}.npy", x)
        np.save(run / "data" / f"y_{part}.npy", y)
    write_json(
        run / "metrics.json", {"02_training": {"split": {"validation_size": 100, "seed": 1}}}
    )
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    monkeypatch.delenv(studies.VARIABLE, raising=False)
    x, y, validation = search._images(run)
    plan = replace(TINY, data=search.fingerprint(x, y, *validation))
    search.open_study(run / "study.journal", plan)
    return tmp_path, plan


@pytest.mark.parametrize("place", ["journal", "postgresql"])
def test_the_command_adds_workers_that_train(outputs, place, request):
    folder, plan = outputs
    environment, where = (
        {**os.environ, "DIGITS_OUTPUTS": str(folder)},
        folder / "tiny" / "study.journal",
    )
    if place == "postgresql":
        where = environment[studies.VARIABLE] = request.getfixturevalue("postgresql").url
        search.open_study(where, plan)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "digits.training.search",
            "--study",
            plan.name,
            "--run",
            "tiny",
            "--workers",
            "2",
            "--trials",
            "4",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"{plan.name} has 4 finished trials") == 2
    trials = search.table(search.open_study(where, plan))
    assert not trials["error"].any() and (trials["n"] == 100).all()
    assert trials["trial"].tolist() == [1, 2, 3, 4]


def test_a_worker_that_is_asked_to_end_gives_its_trial_back(outputs):
    folder, plan = outputs
    long = replace(plan, epochs=10_000)
    where = folder / "tiny" / "study.journal"
    study = search.open_study(where, long)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "digits.training.search",
            "--study",
            long.name,
            "--run",
            "tiny",
            "--workers",
            "2",
            "--trials",
            "6",
        ],
        env={**os.environ, "DIGITS_OUTPUTS": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        browser.until(
            lambda: (
                sum(bool(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))
                >= 2
            ),
            240,
            "two trials under way",
        )
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (
        process.returncode == 128 + signal.SIGTERM and errors.count("goes back to the queue") == 2
    )
    assert not any("lost" in trial.user_attrs for trial in all_trials(where, long))
    states = [trial.state.name for trial in all_trials(where, long)]
    assert set(states) <= {"FAIL", "WAITING"} and states.count("FAIL") >= 2


def test_the_command_says_what_is_wrong(outputs, capsys):
    folder, plan = outputs

    def said(*arguments):
        assert search.main(arguments) == 2
        return capsys.readouterr().err

    known = ("--study", plan.name, "--run", "tiny")
    unknown = said("--study", "unknown", "--run", "tiny")
    assert "no study 'unknown' here" in unknown and plan.name in unknown
    assert "study.journal is missing" in said("--study", plan.name, "--run", "nowhere")
    assert not (folder / "nowhere").exists()
    assert "no name for a run" in said("--study", plan.name, "--run", "../tiny")
    assert "add --trials N" in said(*known)
    assert "cannot be used" in said(
        *known, "--storage", "postgresql+psycopg://u:secret@127.0.0.1:1/x"
    )
    assert "another version" in _of_another_version(folder, said)
    np.save(folder / "tiny" / "data" / "X_train.npy", np.zeros((320, 28, 28, 1), np.float32))
    assert "other images" in said(*known)
    (folder / "tiny" / "metrics.json").unlink()
    assert "Run notebooks 01 and 02" in said(*known)
    for wrong in (("--workers", "0"), ("--trials", "-1"), ("--workers", "two"), ("--work", "1")):
        with pytest.raises(SystemExit, match="2"):
            search.main([*known, *wrong])


def _of_another_version(folder, said) -> str:
    studies.open_study(
        folder / "tiny" / "study.journal", "older", None, None, {"train_size": 3, "colour": "red"}
    )
    return said("--study", "older", "--run", "tiny")

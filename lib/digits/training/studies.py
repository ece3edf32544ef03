"""A stored study that many workers fill: each trial is taken by one, finished once, and never lost with its worker.

What a study holds is what every worker can see, so there is no coordinator: whoever wants a trial first puts right what
the dead left behind. Only one worker at a time does so (``leases``).
"""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from filelock import FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState

from digits import files as paths
from digits.run.process import Stopped
from digits.training.leases import CONNECT, FileLeases, PostgresLeases, StudyError, speaking_plainly
from digits.training.sampling import place

Watch = Callable[
    [int, float], bool
]  # (epoch from 1, its validation accuracy) -> True when it is hopeless to go on
Score = Callable[
    [dict[str, Any], Watch], dict[str, Any]
]  # settings to {"accuracy": share, ...}, and "pruned" if it gave up

VARIABLE = "DIGITS_STUDY_URL"  # not a parameter of the notebook: those are published, and a password with them
PAUSE = 0.5  # seconds between two looks at trials that others are still running
DEATHS = 2  # of its workers, after which a trial is recorded as failed: it may be what kills them (too little memory)

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study(optuna.Study):
    """Optuna's study, which knows how its workers tell the living from the dead."""

    leases: FileLeases | PostgresLeases


class _JournalLock(BaseJournalFileLock):
    """Of the journal's writers one at a time, freed by the system when its holder dies; mends what a dead one left.

    Optuna's own locks are files that stay behind a killed process, and are broken after thirty seconds. A line that was
    cut off by a kill or a full disk has to go before anything is written behind it.
    """

    def __init__(self, journal: Path):
        self.journal = journal
        self.lock = FileLock(journal.with_name(f".{journal.name}.lock"))
        self.file: tuple[int, int] | None = None  # device and number of the journal

    def acquire(self) -> bool:
        self.journal.stat()  # the lock would make a folder that is gone
        self.lock.acquire(poll_interval=0.005)
        try:
            self._mend()
        except BaseException:
            self.lock.release()
            raise
        return True

    def release(self) -> None:
        self.lock.release()

    def _mend(self) -> None:
        """Cut off a last line without an end. OSError when the file is not the one that this process has read."""
        with self.journal.open("r+b") as file:
            found = os.fstat(file.fileno())
            self.file = self.file or (found.st_dev, found.st_ino)
            if self.file != (found.st_dev, found.st_ino):
                raise OSError(
                    f"{self.journal.name} was replaced by another file while this worker was using it"
                )
            tail = max(found.st_size - 1, 0)
            file.seek(tail)
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def storage(folder: Path) -> Path | str:
    """Where the studies of the run in ``folder`` are: what ``DIGITS_STUDY_URL`` names, else a journal in the folder."""
    return os.environ.get(VARIABLE) or folder / "study.journal"


def connect(where: Path | str) -> tuple[optuna.storages.BaseStorage, FileLeases | PostgresLeases]:
    """The storage ``where``, a journal's path or a database's URL, and the leases of its workers.

    StudyError when it cannot be used.
    """
    if isinstance(where, Path):
        try:
            backend = JournalFileBackend(str(where), _JournalLock(where))
            return optuna.storages.JournalStorage(backend), FileLeases(where)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise StudyError(
                f"{where} cannot be used as a study's journal ({type(error).__name__}: {error}). "
                "Move it away to begin anew."
            ) from error
    try:
        url = sa.make_url(where)
    except sa.exc.ArgumentError:
        raise StudyError(
            "The storage's URL cannot be read. It looks like "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
        ) from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        leases = PostgresLeases(url)
    elif backend == "sqlite" and url.database not in (None, "", ":memory:"):
        leases = FileLeases(Path(url.database).resolve())
    else:
        raise StudyError(
            f"{url.render_as_string()}: workers share a study through PostgreSQL (postgresql+psycopg://...) "
            "or a file of SQLite (sqlite:///FILE), which free a lock when its holder dies."
        )
    options = {
        "connect_args": CONNECT if backend == "postgresql" else {"timeout": 60},
        "pool_pre_ping": True,
    }
    with leases.claiming(), speaking_plainly(url):  # two at once would both make the tables
        return optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False), engine_kwargs=options
        ), leases


def open_study(
    where: Path | str,
    name: str,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    plan: dict[str, Any],
) -> Study:
    """The study ``name`` in ``where``: continued when it is there, else new. It maximizes accuracy.

    plan: kept with it, for workers that only know the name. Other studies in the same place are left alone.
    """
    storage, leases = connect(where)
    with leases.claiming():
        optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        study = Study(name, storage, sampler, pruner)
        if "plan" not in study.user_attrs:
            study.set_user_attr("plan", plan)
    study.leases = leases
    return study


def plan_of(where: Path | str, name: str) -> dict[str, Any]:
    """What ``open_study`` kept with the study ``name``; StudyError, with the names that there are, when it is unknown."""
    if isinstance(where, Path) and not where.is_file():
        raise StudyError(
            f"There is no study in {where.parent.name}/: {where.name} is missing. Run notebooks/04_optimization"
            ".ipynb in that run first, or name another run or storage."
        )
    storage, _ = connect(where)
    known = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
    if name not in known or "plan" not in known[name]:
        raise StudyError(
            f"There is no study {name!r} here. Known: {', '.join(sorted(known)) or 'none'}."
        )
    return known[name]["plan"]


def copies(journal: Path | None = None) -> dict[str, optuna.Study]:
    """The studies in a journal (default: the committed one), by the sampler with which their names begin ("tpe", "random").

    {} without a journal. They are read into memory, to be looked at: nothing is written, beside the journal neither.
    StudyError when the file is no journal.
    """
    journal = journal or paths.SEARCHES
    if not journal.is_file():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        storage, _ = connect(Path(shutil.copy(journal, folder)))
        memory = optuna.storages.InMemoryStorage()
        for name in optuna.get_all_study_names(storage):
            optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=memory)
    return {
        study.study_name.partition("-")[0]: optuna.load_study(
            study_name=study.study_name, storage=memory
        )
        for study in memory.get_all_studies()
    }


def finished(trial: FrozenTrial) -> bool:
    """True for a trial that ran to its end: scored, given up as hopeless, or failed by an error of its own."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and "error" in trial.user_attrs
    )


def _end(
    study: Study,
    trial: optuna.Trial | FrozenTrial,
    state: TrialState,
    value: float | None = None,
    **attributes: Any,
) -> None:
    """End a trial, unless somebody did already: who was taken for dead, and is not, finds its trial given to another."""
    with suppress(UpdateFinishedTrialError):
        for key, content in attributes.items():
            study._storage.set_trial_user_attr(trial._trial_id, key, content)
        study.tell(trial.number, value, state=state, skip_if_finished=True)


def _put_right(study: Study) -> None:
    """End the trials whose workers are dead, and queue what was interrupted, with the same settings."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker, deaths = trial.user_attrs.get("worker"), trial.user_attrs.get("deaths", 0) + 1
        if worker is None or not study.leases.alive(
            worker
        ):  # None: it died before it could say whose it is
            why = (
                {"error": f"{deaths} workers died while they ran it"}
                if deaths >= DEATHS
                else {"lost": True}
            )
            _end(study, trial, TrialState.FAIL, **why)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.state == TrialState.FAIL and not finished(trial) and trial.number not in retried:
            deaths = trial.user_attrs.get("deaths", 0) + trial.user_attrs.get("lost", False)
            study.enqueue_trial(
                trial.params,
                {"retry_of": trial.number, "place": place(study, trial), "deaths": deaths},
            )


def _claim(study: Study, worker: str, trials: int) -> tuple[optuna.Trial | None, int]:
    """The next trial, for this worker alone, or None when the rest is taken; and how many are still missing."""
    with study.leases.claiming():
        _put_right(study)
        known = study.get_trials(deepcopy=False)
        missing = trials - sum(map(finished, known))
        if missing <= sum(trial.state == TrialState.RUNNING for trial in known):
            return None, missing
        trial = study.ask()  # interrupted ones first
        trial.set_user_attr("place", place(study, trial))
        trial.set_user_attr("worker", worker)
        return trial, missing


def _train(
    study: Study,
    trial: optuna.Trial,
    suggest: Callable[[optuna.Trial], dict[str, Any]],
    score: Score,
) -> None:
    """Run one trial to its end."""

    def watch(epoch: int, accuracy: float) -> bool:
        trial.report(accuracy, epoch)
        return trial.should_prune()

    try:
        result = score(suggest(trial), watch)
        if not math.isfinite(result["accuracy"]):
            raise ValueError(f"the accuracy is {result['accuracy']}")
    except StorageInternalError:  # not the trial's fault: it is run again
        raise
    except Exception as error:
        _end(study, trial, TrialState.FAIL, error=f"{type(error).__name__}: {error}")
    except (KeyboardInterrupt, SystemExit, Stopped):
        _end(study, trial, TrialState.FAIL)
        raise
    else:
        kept = {key: value for key, value in result.items() if key != "interval"}
        state, value = (
            (TrialState.PRUNED, None)
            if result.get("pruned")
            else (TrialState.COMPLETE, result["accuracy"])
        )
        _end(study, trial, state, value, result=kept)


def work(
    study: Study, suggest: Callable[[optuna.Trial], dict[str, Any]], score: Score, trials: int
) -> None:
    """Run trials until ``trials`` of the study are finished, by whomever; return when they are.

    A trial whose ``score`` raises is recorded with its error and counts; the others go on. One whose worker dies is run
    again with the same settings, and recorded as failed when that worker dies, too; one that was stopped (Ctrl-C, SIGTERM)
    is run again as often as it takes. ValueError for less than one trial, StudyError when the storage fails.
    """
    if trials < 1:
        raise ValueError(f"A study needs at least one trial, not {trials}.")
    try:
        with study.leases.worker() as worker:
            while (claimed := _claim(study, worker, trials))[1] > 0:
                if trial := claimed[0]:
                    _train(study, trial, suggest, score)
                else:
                    time.sleep(PAUSE)  # for the others, and to take over when one dies
    except (
        StorageInternalError,
        OSError,
    ) as error:  # OSError: the journal's disk is full, or its folder was moved away
        raise StudyError(
            f"The study's storage failed ({str(error.__cause__ or error).splitlines()[0]}). What was finished is "
            "kept; start the worker again."
        ) from error

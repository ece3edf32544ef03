"""Which settings train best: one network trained and scored on validation data, and a study of many that can go on."""

import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from digits import evaluation, models, training
from digits.augment import Augmentation
from digits.backend import keras

Score = Callable[[dict[str, Any]], dict[str, Any]]  # parameters of a trial to at least {"accuracy": share}


def train_and_score(name: str, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray],
                    config: training.TrainingConfig, augmentation: Augmentation | None = None, **options) -> dict:
    """Build the network ``name`` with ``options``, train it from scratch, score it on validation data.

    Arrays as in ``training.fit``. Returns ``parameters``, ``multiplies`` (for one image), ``seconds`` of training, and
    ``accuracy``, ``errors``, ``n``, 95% ``interval`` of its best epoch. Everything random follows ``config.seed``.
    """
    keras.backend.clear_session()  # dozens of networks in one process would otherwise pile up
    training.set_seed(config.seed)
    model = models.build(name, **options)
    started = time.perf_counter()
    training.fit(model, x, y, validation_data, config, augmentation)
    seconds = time.perf_counter() - started
    images, labels = validation_data
    predicted = model.predict(images, batch_size=1000, verbose=0).argmax(1)
    return {"parameters": model.count_params(), "multiplies": models.count_multiplies(model), "seconds": seconds,
            **evaluation.accuracy_summary(labels.argmax(1), predicted)}


@dataclass(frozen=True)
class Plan:
    """What a study searches, and everything else that its scores depend on: another plan is another study."""

    train_size: int  # training images of each trial; fewer are faster, and rank settings almost as well
    epochs: int  # epochs of each trial; the schedule is laid out over them
    seed: int  # the draw of the settings, and each trial's weights and order
    data: str = ""  # identifies the images, so that a study of other data is never continued
    model: str = "compact"
    learning_rate: tuple[float, float] = (3e-4, 3e-2)  # drawn evenly on a logarithmic scale: ratios matter
    batch_size: tuple[int, ...] = (32, 64, 128, 256)  # powers of two fill the vector units
    dropout: tuple[float, float] = (0.0, 0.6)  # above, most of what the last layer reads is gone

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One trial's settings."""
        return {"learning_rate": trial.suggest_float("learning_rate", *self.learning_rate, log=True),
                "batch_size": trial.suggest_categorical("batch_size", self.batch_size),
                "dropout": trial.suggest_float("dropout", *self.dropout)}

    @property
    def name(self) -> str:
        """The study's name: equal plans share it, different ones never do."""
        return f"random-{hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]}"


def fingerprint(*arrays: np.ndarray) -> str:
    """Twelve characters that change with any number in ``arrays``."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:12]


def training_score(plan: Plan, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray]) -> Score:
    """What ``run`` calls for each trial: train ``plan.model`` on the first images with the trial's settings."""
    def score(settings: dict[str, Any]) -> dict[str, Any]:
        config = training.TrainingConfig(epochs=plan.epochs, seed=plan.seed, batch_size=settings["batch_size"],
                                         learning_rate=settings["learning_rate"])
        return train_and_score(plan.model, x[:plan.train_size], y[:plan.train_size], validation_data, config,
                               dropout=settings["dropout"])
    return score


class RepeatableRandomSampler(optuna.samplers.RandomSampler):
    """Random search in which a draw depends only on the seed, the trial's place and the parameter's name.

    A study that was interrupted thus goes on with the very trials that it would have had; Optuna's own sampler would
    begin its sequence again and repeat the first ones.
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self.seed = seed

    def sample_independent(self, study, trial, param_name, param_distribution):
        """As ``RandomSampler``, from a generator of its own."""
        retries = sum("retry_of" in other.user_attrs for other in study.get_trials(deepcopy=False)
                      if other.number < trial.number)
        entropy = [self.seed, trial.number - retries, zlib.crc32(param_name.encode())]
        own = optuna.samplers.RandomSampler(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return own.sample_independent(study, trial, param_name, param_distribution)


def _drop_torn_line(journal: Path, lock: JournalFileOpenLock) -> None:
    """Cut off a last line that a killed process or a full disk left unfinished: Optuna would write behind it."""
    lock.acquire()
    try:
        content = journal.read_bytes() if journal.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()


def open_study(journal: Path, plan: Plan) -> optuna.Study:
    """The study of ``plan`` in the file ``journal``: continued when it is there, else new. It maximizes accuracy.

    Other plans' studies in the same file are left alone.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock = JournalFileOpenLock(str(journal))  # the one lock that works on Windows too
    _drop_torn_line(journal, lock)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock))
    study = optuna.create_study(storage=storage, study_name=plan.name, sampler=RepeatableRandomSampler(plan.seed),
                                direction="maximize", load_if_exists=True)
    study.set_user_attr("plan", asdict(plan))
    return study


def _finished(trial: optuna.trial.FrozenTrial) -> bool:
    """True for a trial that ran to its end: scored, or failed by its own error rather than by an interruption."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and "error" in trial.user_attrs)


def _retry_interrupted(study: optuna.Study) -> None:
    """Queue what was running when an earlier process ended, once, with the same settings."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL or _finished(trial):
            continue
        if trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})


def run(study: optuna.Study, plan: Plan, score: Score, trials: int) -> optuna.Study:
    """Run trials until ``trials`` of the study are finished, those of earlier calls and processes counted.

    A trial whose ``score`` raises is recorded with its error and counts; the others go on. One process at a time:
    what is found running in the journal is taken for interrupted and run again. ValueError for less than one trial.
    """
    if trials < 1:
        raise ValueError(f"A study needs at least one trial, not {trials}.")

    def objective(trial: optuna.Trial) -> float:
        try:
            result = score(plan.suggest(trial))
            if not math.isfinite(result["accuracy"]):
                raise ValueError(f"the accuracy is {result['accuracy']}")
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise
        trial.set_user_attr("result", {key: value for key, value in result.items() if key != "interval"})
        return result["accuracy"]

    _retry_interrupted(study)
    missing = trials - sum(map(_finished, study.get_trials(deepcopy=False)))
    if missing > 0:
        study.optimize(objective, n_trials=missing, catch=(Exception,))
    return study


def table(study: optuna.Study) -> pd.DataFrame:
    """One row a finished trial, in the order in which they ran.

    ``trial`` (counted from 1), the settings, what ``score`` returned (``accuracy``, ...), ``error`` ("" when scored)
    and ``best``: the highest accuracy so far. Interrupted trials are left out; each has its retry in the table.
    """
    rows = [{**trial.params, **trial.user_attrs.get("result", {"accuracy": math.nan}),
             "error": trial.user_attrs.get("error", "")}
            for trial in study.get_trials(deepcopy=False) if _finished(trial)]
    frame = pd.DataFrame(rows)
    frame.insert(0, "trial", np.arange(1, len(frame) + 1))
    return frame.assign(best=frame["accuracy"].cummax().ffill())


def best(trials: pd.DataFrame) -> pd.Series:
    """The first row of ``table`` with the highest accuracy; ValueError with the first error when none was scored."""
    if trials["accuracy"].isna().all():
        raise ValueError(f"No trial was scored. The first one's error: {trials['error'].iloc[0]}")
    return trials.loc[trials["accuracy"].idxmax()]


def tied_with_best(trials: pd.DataFrame) -> int:
    """How many scored trials lie within the 95% interval of the best one's accuracy, itself included."""
    top = best(trials)
    low, _ = evaluation.wilson_interval(int(top["n"] - top["errors"]), int(top["n"]))
    return int((trials["accuracy"] >= low).sum())

"""A search for settings that train well: a study of Optuna that goes on where it was stopped."""

import hashlib
import json
import math
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
import sqlalchemy as sa
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from digits import evaluation, files
from digits.data.augmentation import Augmentation
from digits.training import fit, keras, networks

TUNED = ("learning_rate", "batch_size", "weight_decay")  # of ``TrainingConfig``
SETTINGS = (*TUNED, "dropout", "width", "augmentation")
STARTUP = 10  # random trials before TPE has enough to learn from; Optuna's own default
HEARTBEAT = 15  # seconds between two signs of life of a trial; without two it is run again
RETRIES = 2  # of a trial whose process dies; one more, and it may be what kills it

# (settings, trial to report each epoch's accuracy to) -> {"accuracy": share, "pruned": bool, ...}
Score = Callable[[dict[str, Any], optuna.Trial | None], dict[str, Any]]

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what failed is in ``table``
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of heartbeats, among others


@dataclass(frozen=True)
class Plan:
    """What a study searches, how, and what its scores depend on: another plan, another study."""

    train_size: int  # training images of each trial; fewer are faster and rank almost as well
    epochs: int  # epochs of each trial; the schedule is laid out over them
    seed: int  # the draw of the settings, and each trial's weights and order
    data: str = ""  # identifies the images, so that a study of other data is never continued
    split: tuple[int, int] = (5_000, 1)  # size of the validation part, and the seed of its draw
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    prune: bool = True  # end a trial below the median of the finished ones after the same epoch
    learning_rate: tuple[float, float] = (3e-4, 3e-2)  # drawn on a logarithmic scale
    batch_size: tuple[int, ...] = (32, 64, 128, 256)  # powers of two fill the vector units
    weight_decay: tuple[float, float] = (1e-4, 1e-1)  # on a logarithmic scale, too
    dropout: tuple[float, float] = (0.0, 0.6)  # above, most of what the last layer reads is gone
    width: tuple[int, int, int] = (24, 56, 8)  # least, most, step
    augmentation: tuple[float, float] = (0.0, 1.5)  # strength: 0 is none, 1 the reference's
    grid_points: int = 3  # for "grid": values of each setting that has a range

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One trial's settings."""
        least, most, step = self.width
        return {
            "learning_rate": trial.suggest_float("learning_rate", *self.learning_rate, log=True),
            "batch_size": trial.suggest_categorical("batch_size", self.batch_size),
            "weight_decay": trial.suggest_float("weight_decay", *self.weight_decay, log=True),
            "dropout": trial.suggest_float("dropout", *self.dropout),
            "augmentation": trial.suggest_float("augmentation", *self.augmentation),
            "width": trial.suggest_int("width", least, most, step=step),
        }

    @property
    def grid(self) -> dict[str, list]:
        """The values that a grid combines: evenly spaced where ``suggest`` draws evenly."""
        least, most, step = self.width
        n = self.grid_points
        values = {
            "learning_rate": np.geomspace(*self.learning_rate, n).tolist(),
            "batch_size": list(self.batch_size),
            "weight_decay": np.geomspace(*self.weight_decay, n).tolist(),
            "dropout": np.linspace(*self.dropout, n).tolist(),
            "augmentation": np.linspace(*self.augmentation, n).tolist(),
            "width": list(range(least, most + 1, step)),
        }
        return {name: list(dict.fromkeys(some)) for name, some in values.items()}

    @property
    def name(self) -> str:
        """The study's name: equal plans share it, different ones never do."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.sampler}-{digest[:12]}"


def fingerprint(*arrays: np.ndarray) -> str:
    """Twelve characters that change with any number in ``arrays``."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


class Repeatable(BaseSampler):
    """Random search or TPE (Bergstra et al. 2011) whose chance is the same for a trial's place.

    So an interrupted study goes on with the trials that it would have had, and no two workers draw
    the same one; Optuna's own samplers begin anew in each process. TPE's draws depend on what is
    finished, too, and so on the order in which several workers finish.
    """

    def __init__(self, plan: Plan):
        self.plan = plan

    def before_trial(self, study, trial):
        self.place = place(study, trial)

    def fresh(self, name: str = "") -> BaseSampler:
        sampler, setting = (zlib.crc32(text.encode()) for text in (self.plan.sampler, name))
        entropy = np.random.SeedSequence([self.plan.seed, sampler, self.place, setting])
        seed = int(entropy.generate_state(1)[0])
        if self.plan.sampler == "random":
            return RandomSampler(seed)
        return TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
        )

    def infer_relative_search_space(self, study, trial):
        return self.fresh().infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self.fresh().sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        sampler = self.fresh(param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def place(study: optuna.Study, trial: FrozenTrial) -> int:
    """A trial's number, from 0, were none ever interrupted; a retry has its original's."""
    original = retry_history(trial)[0] if retry_history(trial) else trial.number
    earlier = study.get_trials(deepcopy=False)[:original]
    return original - sum(bool(retry_history(other)) for other in earlier)


def retry_history(trial: FrozenTrial) -> list[int]:
    """The numbers of the interrupted trials that this one repeats, the original first."""
    return trial.system_attrs.get("retry_history", [])


def storage(folder: Path) -> str:
    """The address of a run's studies: a SQLite file in its folder."""
    return f"sqlite:///{folder / 'study.sqlite3'}"


def connect(url: str) -> RDBStorage:
    """The database; RunError when it cannot be used."""
    try:
        return RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
        )
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        reason = str(error).strip().splitlines()[0]
        raise files.RunError(
            f"The study's database cannot be used ({reason}). Is its folder there, and writable?"
        ) from None


def open_study(url: str, plan: Plan) -> optuna.Study:
    """The study of ``plan``: continued when it is there, else new; other plans' are left alone."""
    study = optuna.create_study(
        storage=connect(url),
        sampler=GridSampler(plan.grid, plan.seed) if plan.sampler == "grid" else Repeatable(plan),
        pruner=MedianPruner(n_startup_trials=5) if plan.prune else NopPruner(),
        study_name=plan.name,
        direction="maximize",
        load_if_exists=True,
    )
    study.set_user_attr("plan", asdict(plan))  # for who reads the database: the name is a hash
    return study


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ran to their end, were pruned or failed; interrupted ones have a retry."""
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in retry_history(trial)}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in retried]


def run(study: optuna.Study, plan: Plan, score: Score, trials: int) -> None:
    """Run trials until ``trials`` of the study are finished, those of other processes counted.

    A trial whose ``score`` raises is recorded with its error and counts. One whose worker is
    stopped or dies is run again with the same settings, and recorded as failed after ``RETRIES``.
    A grid ends when every combination had its trial. RunError when the database fails.
    """
    if plan.sampler == "grid":
        trials = min(trials, math.prod(map(len, plan.grid.values())))

    def objective(trial: optuna.Trial) -> float:
        try:
            result = score(plan.suggest(trial), trial)
        except KeyboardInterrupt:  # stopped, not killed: run again at once, however often
            RetryHeartbeatStaleTrialCallback()(study, study.get_trials()[trial.number])
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise
        trial.set_user_attr("result", {k: v for k, v in result.items() if k != "interval"})
        if result["pruned"]:
            raise optuna.TrialPruned
        return result["accuracy"]

    try:
        while len(finished(study)) < trials:
            try:
                study.optimize(objective, n_trials=1, catch=(Exception,))
            except ValueError as error:  # taken for dead: another process has this one's trial
                if "Cannot tell" not in str(error):
                    raise
    except (StorageInternalError, sa.exc.SQLAlchemyError, UnboundLocalError) as error:
        cause = error.__context__ if isinstance(error, UnboundLocalError) else error  # Optuna 5.0's
        raise files.RunError(
            f"The study's database failed ({str(cause.__cause__ or cause).splitlines()[0]}). "
            "What was finished is kept; start again."
        ) from error


def large_searches() -> dict[str, optuna.Study]:
    """The long searches that are committed, to be looked at, by their sampler."""
    stored = connect(f"sqlite:///file:{files.SEARCHES}?mode=ro&uri=true")
    names = optuna.get_all_study_names(stored)
    studies = [optuna.load_study(study_name=name, storage=stored) for name in names]
    return {study.study_name.partition("-")[0]: study for study in studies}


class Pruning(keras.callbacks.Callback):
    """Tells ``trial`` each epoch's validation accuracy, and ends a training that is hopeless."""

    def __init__(self, trial: optuna.Trial, epochs: int):
        super().__init__()
        self.trial, self.epochs, self.pruned = trial, epochs, False

    def on_epoch_end(self, epoch, logs=None):
        self.trial.report(float(logs["val_accuracy"]), epoch + 1)
        if epoch + 1 < self.epochs and self.trial.should_prune():
            self.pruned = self.model.stop_training = True


def training_score(
    plan: Plan, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray]
) -> Score:
    """What ``run`` calls for each trial: train the compact net on the first images.

    It returns the network's size, ``seconds`` and ``epochs`` of training, ``cost`` (macs of all
    images in all epochs, forward), ``pruned``, and ``evaluation.accuracy_summary``.
    """
    x, y = x[: plan.train_size], y[: plan.train_size]

    def score(settings: dict[str, Any], trial: optuna.Trial | None = None) -> dict[str, Any]:
        tuned = {name: settings[name] for name in TUNED}
        config = fit.TrainingConfig(epochs=plan.epochs, seed=plan.seed, **tuned)
        strength = settings["augmentation"]
        augmentation = Augmentation().scaled(strength) if strength else None
        callbacks = [Pruning(trial, plan.epochs)] if trial else []
        fit.begin(plan.seed)
        model = networks.build("compact", dropout=settings["dropout"], width=settings["width"])
        started = time.perf_counter()
        history = fit.fit(model, x, y, validation_data, config, augmentation, callbacks=callbacks)
        seconds, size = time.perf_counter() - started, networks.size(model)
        images, labels = validation_data
        predicted = model.predict(images, batch_size=1000, verbose=0).argmax(axis=1)
        return {
            **size,
            "seconds": seconds,
            "epochs": len(history),
            "cost": size["macs"] * len(x) * len(history),
            "pruned": any(callback.pruned for callback in callbacks),
            **evaluation.accuracy_summary(labels.argmax(axis=1), predicted),
        }

    return score


def table(study: optuna.Study) -> pd.DataFrame:
    """One row a finished trial: its settings, ``state`` ("complete", "pruned" or "fail"), what
    ``score`` returned, its ``error`` and the ``best`` accuracy so far.

    A pruned trial's accuracy and errors are left out, since it was not trained to its end.
    """
    rows = []
    for trial in finished(study):
        state, died = trial.state.name.lower(), "its worker died"
        row = {"trial": place(study, trial) + 1, **trial.params, "state": state}
        row |= trial.user_attrs.get("result", {})
        row["error"] = trial.user_attrs.get("error", died) if state == "fail" else ""
        if state != "complete":
            row |= {"accuracy": math.nan, "errors": math.nan}
        rows.append(row)
    frame = pd.DataFrame(rows).sort_values("trial", ignore_index=True)
    return frame.assign(best=frame["accuracy"].cummax().ffill())


def best(trials: pd.DataFrame) -> pd.Series:
    """The first row of ``table`` with the highest accuracy; ValueError when none was scored."""
    if trials["accuracy"].isna().all():
        raise ValueError(f"No trial was scored. The first one's error: {trials['error'].iloc[0]}")
    return trials.loc[trials["accuracy"].idxmax()]


def importances(study: optuna.Study) -> pd.Series:
    """The share of the spread of the accuracies that each setting explains (fANOVA, Hutter et al.
    2014), largest first; empty when fewer than two trials ended, or all equally accurate."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return pd.Series(dtype=float)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return pd.Series(shares, dtype=float)

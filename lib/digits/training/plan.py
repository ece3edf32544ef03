"""What a study searches and how, and the study itself: opened, and filled up to a number of trials."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from digits.training import sampling, studies
from digits.training.leases import StudyError
from digits.training.studies import Score, Study

SETTINGS = ("learning_rate", "batch_size", "weight_decay", "dropout", "width", "augmentation")


@dataclass(frozen=True)
class Plan:
    """What a study searches, how, and everything else that its scores depend on: another plan is another study."""

    train_size: (
        int  # training images of each trial; fewer are faster, and rank settings almost as well
    )
    epochs: int  # epochs of each trial; the schedule is laid out over them
    seed: int  # the draw of the settings, and each trial's weights and order
    data: str = ""  # identifies the images, so that a study of other data is never continued
    sampler: str = "tpe"  # or "random" or "grid"
    prune: bool = (
        True  # end a trial that lies below the median of the finished ones after the same epoch
    )
    model: str = "compact"
    learning_rate: tuple[float, float] = (
        3e-4,
        3e-2,
    )  # drawn evenly on a logarithmic scale: ratios matter
    batch_size: tuple[int, ...] = (32, 64, 128, 256)  # powers of two fill the vector units
    weight_decay: tuple[float, float] = (1e-4, 1e-1)  # on a logarithmic scale, too
    dropout: tuple[float, float] = (0.0, 0.6)  # above, most of what the last layer reads is gone
    width: tuple[int, int, int] | None = (
        24,
        56,
        8,
    )  # least, most, step; None for a network that has one width
    augmentation: tuple[float, float] = (
        0.0,
        1.5,
    )  # strength: 0 changes no image, 1 is the reference's mixture
    grid_points: int = (
        3  # values of each setting with a range, for "grid"; a range without length has one
    )

    def __post_init__(self):
        if self.sampler not in sampling.NAMES:
            raise ValueError(
                f"No sampler is called {self.sampler!r}. Choose one of: {', '.join(sampling.NAMES)}."
            )

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One trial's settings."""
        settings = {
            "learning_rate": trial.suggest_float("learning_rate", *self.learning_rate, log=True),
            "batch_size": trial.suggest_categorical("batch_size", self.batch_size),
            "weight_decay": trial.suggest_float("weight_decay", *self.weight_decay, log=True),
            "dropout": trial.suggest_float("dropout", *self.dropout),
            "augmentation": trial.suggest_float("augmentation", *self.augmentation),
        }
        if self.width:
            least, most, step = self.width
            settings["width"] = trial.suggest_int("width", least, most, step=step)
        return settings

    @property
    def grid(self) -> dict[str, list]:
        """The values of each setting that a grid combines: evenly spaced where ``suggest`` draws evenly."""

        def spaced(space, ends):
            return space(*ends, self.grid_points if ends[0] < ends[1] else 1).tolist()

        values = {
            "learning_rate": spaced(np.geomspace, self.learning_rate),
            "batch_size": list(self.batch_size),
            "weight_decay": spaced(np.geomspace, self.weight_decay),
            "dropout": spaced(np.linspace, self.dropout),
            "augmentation": spaced(np.linspace, self.augmentation),
        }
        if self.width:
            least, most, step = self.width
            values["width"] = list(range(least, most + 1, step))
        return values

    @property
    def name(self) -> str:
        """The study's name: equal plans share it, different ones never do."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.sampler}-{digest[:12]}"

    @classmethod
    def stored(cls, values: dict[str, Any]) -> "Plan":
        """The plan that a study keeps; StudyError when another version of this module made it."""
        try:
            known: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise StudyError(
                f"This study was planned by another version of this project ({error})."
            ) from None


def fingerprint(*arrays: np.ndarray) -> str:
    """Twelve characters that change with any number in ``arrays``."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def open_study(where: Path | str, plan: Plan) -> Study:
    """The study of ``plan`` in ``where``, a journal's path or a database's URL: continued when it is there, else new.

    Other plans' studies in the same place are left alone. StudyError when the place cannot be used.
    """
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=5)
        if plan.prune
        else optuna.pruners.NopPruner()
    )
    sampler = sampling.sampler(plan.sampler, plan.seed, plan.grid)
    return studies.open_study(where, plan.name, sampler, pruner, asdict(plan))


def run(study: Study, plan: Plan, score: Score, trials: int) -> Study:
    """Run trials until ``trials`` of the study are finished, those of other workers, calls and processes counted.

    A grid ends when every combination had its trial. The rest is as in ``studies.work``.
    """
    if plan.sampler == "grid":
        trials = min(trials, math.prod(map(len, plan.grid.values())))
    if trials > study.user_attrs.get("trials", 0):
        study.set_user_attr("trials", trials)  # what a worker from a shell does when it is not told
    studies.work(study, plan.suggest, score, trials)
    return study

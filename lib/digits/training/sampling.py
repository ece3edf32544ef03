"""Where to look next: grid, random search and TPE, each so that a trial is the same whenever and by whomever it is drawn."""

import itertools
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

NAMES = ("tpe", "random", "grid")
STARTUP = 10  # random trials before TPE has enough to learn from; Optuna's own default


def sampler(name: str, seed: int, grid: Mapping[str, Sequence[Any]]) -> BaseSampler:
    """The sampler called ``name``; ``grid``: the values of each setting, for "grid". ValueError for another name."""
    if name == "grid":
        return Grid(grid, seed)
    if name == "random":
        return Repeatable(RandomSampler, seed, name)
    if name == "tpe":
        return Repeatable(_tpe, seed, name)
    raise ValueError(f"No sampler is called {name!r}. Choose one of: {', '.join(NAMES)}.")


def place(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> int:
    """Which trial of the plan this is, from 0: its number, were no trial ever interrupted. A retry has its original's."""
    if "place" in trial.user_attrs:
        return trial.user_attrs["place"]
    retries = sum(
        "retry_of" in other.user_attrs
        for other in study.get_trials(deepcopy=False)
        if other.number < trial.number
    )
    return trial.number - retries


def _tpe(seed: int) -> TPESampler:
    """TPE (Bergstra et al. 2011) over all settings at once, which does not draw near what others are trying just now."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # in older versions, of these two options
        return TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
        )


class Repeatable(BaseSampler):
    """A sampler in which chance depends only on its own name, the seed, the trial's place and the setting's name.

    A study that was interrupted thus goes on with the very trials that it would have had; Optuna's own samplers would
    begin their sequence again. Random draws depend on nothing else, so that any number of workers draw the same trials.
    TPE's depend on the finished trials, too, and so on the order in which several workers finish them.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int, name: str = ""):
        """``make``: a new sampler from a seed; ``name``: two samplers with one seed have to draw different trials."""
        self.make, self.entropy = make, [seed, zlib.crc32(name.encode())]

    def _fresh(self, study: optuna.Study, trial: FrozenTrial, name: str = "") -> BaseSampler:
        entropy = [*self.entropy, place(study, trial), zlib.crc32(name.encode())]
        return self.make(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the sampler that ``make`` makes."""
        return self._fresh(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler that ``make`` makes."""
        return self._fresh(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler that ``make`` makes."""
        return self._fresh(study, trial, param_name).sample_independent(
            study, trial, param_name, param_distribution
        )


class Grid(BaseSampler):
    """Every combination of a few values, in a shuffled order, so that the first ones are spread over all of them.

    Each has one trial, however many workers there are; Optuna's own sampler would give some combinations to two workers.
    """

    def __init__(self, values: Mapping[str, Sequence[Any]], seed: int):
        """``values``: setting -> its values."""
        self.names = list(values)
        self.cells = list(itertools.product(*values.values()))
        self.order = np.random.default_rng(seed).permutation(len(self.cells))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing: each setting is looked up alone."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: each setting is looked up alone."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value that the trial's cell has for ``param_name``."""
        return self.cells[self.order[place(study, trial)]][self.names.index(param_name)]

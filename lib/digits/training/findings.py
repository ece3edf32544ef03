"""What a study found, and what luck alone would have found for the same money."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd

from digits import evaluation
from digits.training import sampling, studies


def table(study: optuna.Study) -> pd.DataFrame:
    """One row a finished trial, in the order in which they were drawn.

    ``trial`` (its place in the plan, from 1), the settings, ``state`` ("complete", "pruned" or "failed"), what ``score``
    returned (``accuracy``, ...; a pruned trial's accuracy and errors are left out, since it was not trained to its end),
    ``error`` ("" unless failed) and ``best``: the highest accuracy so far. Interrupted trials are left out; each has its
    retry in the table.
    """
    rows = []
    for trial in filter(studies.finished, study.get_trials(deepcopy=False)):
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
        unknown = {} if state == "complete" else {"accuracy": math.nan, "errors": math.nan}
        rows.append(
            {
                "trial": sampling.place(study, trial) + 1,
                **trial.params,
                "state": state,
                **trial.user_attrs.get("result", {}),
                **unknown,
                "error": trial.user_attrs.get("error", ""),
            }
        )
    frame = pd.DataFrame(rows).sort_values("trial", ignore_index=True)
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


def importances(study: optuna.Study) -> pd.Series:
    """The share of the spread of the accuracies that each setting explains (fANOVA, Hutter et al. 2014), largest first.

    Over the trials that ran to their end. Empty when they are fewer than two, or all equally accurate.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return pd.Series(dtype=float)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return pd.Series(
        optuna.importance.get_param_importances(study, evaluator=evaluator), dtype=float
    )


def best_of(accuracies: Sequence[float], k: int) -> dict[str, float]:
    """What the best of ``k`` of these trials is, whichever ``k`` had been run: ``expected``, and ``low`` to ``high`` (95%).

    accuracies: of n independent random trials, k from 1 to n. Exact: of all choices of k, the share C(i, k) / C(n, k) has
    none better than the i-th worst. ValueError for another k.
    """
    ranked = np.sort(np.asarray(accuracies, float))
    if not 1 <= k <= len(ranked):
        raise ValueError(f"The best of {k} cannot be told from {len(ranked)} trials.")
    reached = np.array(
        [math.comb(i, k) / math.comb(len(ranked), k) for i in range(len(ranked) + 1)]
    )
    low, high = (ranked[np.searchsorted(reached[1:], share - 1e-12)] for share in (0.025, 0.975))
    return {"expected": float(ranked @ np.diff(reached)), "low": float(low), "high": float(high)}


def random_at_cost(trials: pd.DataFrame, cost: float) -> dict[str, Any]:
    """What random search is to be expected to reach with ``cost``: ``best_of`` as many of its trials as that pays for.

    trials: ``table`` of a random study that prunes nothing. Besides: ``trials``, how many that is, and ``capped``, True
    when the cost would pay for more than there are. ValueError when none was scored.
    """
    scored = trials.dropna(subset="accuracy")
    if scored.empty:
        raise ValueError("No random trial was scored.")
    affordable = max(int(cost / scored["cost"].mean() + 0.5), 1)
    k = min(affordable, len(scored))
    return {"trials": k, "capped": affordable > len(scored), **best_of(scored["accuracy"], k)}

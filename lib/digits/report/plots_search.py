"""Figures of a study: Optuna's own, in the report's style, and what luck alone would have reached beside it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from optuna.trial import TrialState
from optuna.visualization import matplotlib as optuna_plots

from digits.report.style import ACCENT, BAD, MUTED, PLAIN, WIDTH
from digits.training import search

ACCURACY = "validation accuracy"


@contextmanager
def _report_style(height: float) -> Iterator[None]:
    """Let Optuna draw at the report's width and in its style: it would switch to Matplotlib's "ggplot", for all time."""
    size = {"figure.figsize": (WIDTH, height)}
    with (
        warnings.catch_warnings(),
        plt.rc_context(size),
        mock.patch.dict(plt.style.library, ggplot=plt.rcParams | size),
    ):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of a layout that the report's replaces
        yield


def _finish(ax: Axes, **labels: str) -> Axes:
    """The report's captions stand below a figure, so it has no title; and its layout is computed."""
    ax.figure.set_layout_engine("constrained")
    ax.set(title="", **labels)
    return ax


def _readable(axis: Axis, limits: tuple[float, float]) -> None:
    """Ticks of a logarithmic axis as plain numbers, so few that they do not touch."""
    wide = limits[1] / limits[0] > 300
    axis.set(
        major_locator=LogLocator(subs=(1,) if wide else (1, 3)),
        major_formatter=PLAIN,
        minor_formatter=NullFormatter(),
    )


def history(study: optuna.Study, reference: float | None = None) -> Axes:
    """Accuracy of each trial that ran to its end, and the best so far; dashed: ``reference``, an accuracy to beat."""
    with _report_style(3.6):
        ax = optuna_plots.plot_optimization_history(study, target_name=ACCURACY)
    for points in ax.collections:
        points.set(color=ACCENT, alpha=0.75)
    for line in ax.lines:
        line.set(color=BAD, alpha=1, drawstyle="steps-post")
    if reference is not None:
        ax.axhline(
            reference, color="black", linewidth=1, linestyle="--", label="the reference's settings"
        )
    ax.legend(*_renamed(ax, {ACCURACY: "trial", "Best Value": "best so far"}), loc="lower right")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(ax, xlabel="trial", ylabel=ACCURACY)


def _renamed(ax: Axes, names: dict[str, str]) -> tuple[list, list[str]]:
    """The legend's entries with other words."""
    handles, labels = ax.get_legend_handles_labels()
    return handles, [names.get(label, label) for label in labels]


def importances(study: optuna.Study) -> Axes:
    """``search.importances`` as bars, the largest on top; an empty picture that says so when they cannot be told."""
    if search.importances(study).empty:
        ax = plt.subplots(figsize=(WIDTH, 1))[1]
        ax.text(0.5, 0.5, "too few different trials to tell", ha="center", va="center", color=MUTED)
        ax.set_axis_off()
        return ax
    with _report_style(2.6):
        ax = optuna_plots.plot_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    for bar in ax.patches:
        bar.set(color=ACCENT, height=0.65)
    for text in ax.texts:
        text.set_text(f" {text.get_text()}")
    ax.set_yticks(
        ax.get_yticks(), [label.get_text().replace("_", " ") for label in ax.get_yticklabels()]
    )
    ax.grid(axis="y", visible=False)
    if legend := ax.get_legend():
        legend.remove()
    return _finish(ax, xlabel="share of the spread of the accuracy that it explains", ylabel="")


def slices(study: optuna.Study, columns: int = 3) -> Figure:
    """Accuracy of the trials that ran to their end against each setting; the darker, the later."""
    with _report_style(3.0):
        axes = np.atleast_1d(optuna_plots.plot_slice(study, target_name=ACCURACY))
    figure = axes[0].figure
    rows = -(-len(axes) // columns)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(WIDTH, 2.3 * rows + 0.4)
    figure.suptitle("")
    for bar in [ax for ax in figure.axes if ax not in axes]:
        bar.remove()  # the scale of colours, which comes back below, over all rows
    cells = figure.add_gridspec(rows, columns)
    for i, ax in enumerate(axes):
        ax.set_subplotspec(cells[i // columns, i % columns])
        ax.set(
            xlabel=ax.get_xlabel().replace("_", " "), ylabel=ACCURACY if i % columns == 0 else ""
        )
        ax.tick_params(labelleft=i % columns == 0, labelbottom=True)
        if ax.get_xscale() == "log":
            _readable(ax.xaxis, ax.get_xlim())
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    figure.colorbar(axes[0].collections[0], ax=list(axes), label="trial", shrink=0.6)
    return figure


def parallel(study: optuna.Study) -> Axes:
    """A line for each trial that ran to its end, through its accuracy and its settings; the darker, the more accurate."""
    with _report_style(4.0):
        ax = optuna_plots.plot_parallel_coordinate(study, target_name="accuracy")
    labels = [label.get_text().replace("_", " ") for label in ax.get_xticklabels()]
    ax.set_xticks(ax.get_xticks(), labels, rotation=20, ha="right")
    ax.grid(False)
    for other in ax.figure.axes:
        other.grid(False)
        if other.get_yscale() == "log":
            _readable(other.yaxis, other.get_ylim())
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return _finish(ax)


def learning_curves(study: optuna.Study) -> Axes:
    """Accuracy of every trial after each epoch: those that ran to their end, and those that were stopped, with a cross."""
    with _report_style(3.6):
        ax = optuna_plots.plot_intermediate_values(study)
    pruned = {
        f"Trial{trial.number}"
        for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    }
    for line in ax.lines:
        stopped = line.get_label() in pruned
        line.set(
            linewidth=1.2,
            markevery=[-1],
            **(
                {"color": BAD, "marker": "X", "alpha": 0.8, "zorder": 3, "label": "stopped there"}
                if stopped
                else {"color": ACCENT, "marker": "", "alpha": 0.45, "label": "ran to its end"}
            ),
        )
    if legend := ax.get_legend():
        legend.remove()
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        *zip(
            *{
                label: (handle, label) for handle, label in zip(handles, labels, strict=True)
            }.values(),
            strict=True,
        ),
        loc="lower right",
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(ax, xlabel="epoch", ylabel=ACCURACY)


def against_random(ax: Axes, trials: pd.DataFrame, random_trials: pd.DataFrame) -> Axes:
    """The best accuracy so far against what was spent, beside what random search is to be expected to reach.

    trials, random_trials: ``search.table`` of a study, and of a random one that prunes nothing. The cost is in units of
    one average random trial, the band holds 95% of what luck does to the best of so many.
    """
    scored = random_trials.dropna(subset="accuracy")
    unit = scored["cost"].mean()
    counts = range(1, len(scored) + 1)
    chance = pd.DataFrame([search.best_of(scored["accuracy"], k) for k in counts])
    ax.fill_between(counts, chance["low"], chance["high"], color=MUTED, alpha=0.2, linewidth=0)
    ax.plot(
        counts,
        chance["expected"],
        color=MUTED,
        label="random search: expected best, and 95% of its luck",
    )
    spent = trials["cost"].fillna(0).cumsum() / unit
    ax.step(
        spent,
        trials["best"],
        where="post",
        color=ACCENT,
        linewidth=2,
        label="this search: best so far",
    )
    ax.set(xlabel="cost (average random trials)", ylabel=ACCURACY)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right")
    return ax

"""Figures of what helps and what it costs: networks, recipes, files, and searches for settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from digits.report.plots import ACCENT, BAD, GOOD, MARKERS, MUTED, PALETTE, PLAIN, WIDTH, interval
from digits.training import search

TITLES = {
    "compact": "our compact net",
    "compact_small": "compact, half as wide",
    "compact_large": "compact, wider",
    "keras_example": "Keras example",
    "lenet5": "LeNet-5",
    "vgg": "VGG-style net",
    "residual": "residual net",
    "separable": "separable net",
    "tiny": "tiny net",
    "micro": "micro net",
    "slim": "fewer channels",
    "dynamic_int8": "dynamic int8",
    "int8": "full int8",
    "int8_aware": "full int8, learnt",
}
SETS = {"validation": "MNIST, validation", "pen": "pen digits, development writers"}
ACCURACY = "validation accuracy"


def title(name: str) -> str:
    """What tables and figures call a network or a file: "tiny net, int8" for "tiny_int8"."""
    plain = name.removesuffix("_int8")
    if name in TITLES or plain not in TITLES:
        return TITLES.get(name, name)
    return f"{TITLES[plain]}, int8"


def span(ends: tuple[float, float]) -> str:
    """An interval for a table: "99.41% to 99.70%"."""
    return "{:.2%} to {:.2%}".format(*ends)


def _rates(rows: pd.DataFrame, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Error rates in percent and the ends of their 95% intervals, each (n,).

    No error among n images has its place at half an error: a logarithmic axis has no zero.
    """
    n = rows[f"{kind}_n"].to_numpy()
    rates = np.maximum(100 * rows[f"{kind}_errors"].to_numpy() / n, 50 / n)
    high, low = 100 * (1 - np.array(rows[f"{kind}_interval"].to_list()).T)
    return rates, np.maximum(low, 25 / n), high


def _error_axis(ax: Axes, label: str = "error rate (%), upwards is better") -> None:
    """Logarithmic, since 0.4% and 0.8% differ as much as 4% and 8%; turned, so that up is good."""
    ax.set(yscale="log", ylabel=label)
    ax.invert_yaxis()
    _readable(ax.yaxis)


def _readable(axis: Axis, subs: Sequence[int] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis as plain numbers, so few that they do not touch."""
    axis.set(major_locator=LogLocator(subs=subs), major_formatter=PLAIN)
    axis.set_minor_formatter(NullFormatter())


# --- Networks and recipes -------------------------------------------------------------------------


def errors_against_macs(table: pd.DataFrame, fronts: Mapping[str, list]) -> Figure:
    """One panel a set: each network with its 95% interval, and a line along the Pareto front.

    table: index the network's name, columns of ``ablation.train``; fronts: by the set's name, the
    networks that no other beats, from cheap to dear.
    """
    figure, axes = plt.subplots(1, len(fronts), figsize=(WIDTH, 4.2), squeeze=False)
    cost = table["macs"] / 1e6
    for ax, (kind, front) in zip(axes[0], fronts.items(), strict=True):
        rates, low, high = _rates(table, kind)
        for i, name in enumerate(table.index):
            one, color = slice(i, i + 1), PALETTE[i % 10]
            look: dict[str, Any] = {"fmt": MARKERS[i % 10], "color": color, "label": title(name)}
            interval(ax, cost[one], rates[one], low[one], high[one], markersize=7, **look)
        best = _rates(table.loc[front], kind)[0]
        ax.step(cost[front], best, where="post", color=MUTED, linewidth=1, zorder=0)
        _error_axis(ax)
        ax.set(xscale="log", xlabel="MACs for one image (millions)", title=SETS[kind])
        _readable(ax.xaxis, (1, 3))
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def effects(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What each change of the recipe does, one panel a set: a dot and its 95% interval in points.

    tables: ``ablation.effects`` by the set's name. An interval that does not hold zero is coloured:
    green where the change helps, orange where it harms.
    """
    names = next(iter(tables.values())).index
    size = (WIDTH, 0.9 + 0.26 * len(names))
    figure, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for ax, (kind, table) in zip(axes[0], tables.items(), strict=True):
        places = np.arange(len(table))[::-1]
        colors = np.select([table["low"] > 0, table["high"] < 0], [GOOD, BAD], MUTED)
        ax.hlines(places, table["low"], table["high"], colors=colors, linewidth=1.8)
        ax.scatter(table["points"], places, c=colors, s=25, zorder=2)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(places, names)
        ax.set(
            title=SETS[kind], xlabel="change in accuracy (points)", ylim=(-0.6, len(names) - 0.4)
        )
        ax.grid(axis="y", visible=False)
    return figure


# --- Files ----------------------------------------------------------------------------------------


def sparsity(ax: Axes, table: pd.DataFrame, limit: int) -> Axes:
    """Validation error rate against the share of weights that are zero, with 95% intervals.

    table: index the share, the network as it was at 0; limit: the most errors allowed.
    """
    shares = 100 * table.index.to_numpy()
    interval(ax, shares, *_rates(table, "validation"), fmt="o-", color=ACCENT)
    allowed = 100 * max(limit, 0.5) / table["validation_n"].iloc[0]
    ax.axhline(allowed, color=MUTED, linestyle="--", linewidth=1)
    beside = {"xytext": (8, -10), "textcoords": "offset points"}
    ax.annotate("allowed", (0, allowed), color=MUTED, fontsize=8.5, **beside)
    ax.set(xlabel="weights that are zero (%)")
    _error_axis(ax)
    return ax


def trade_offs(table: pd.DataFrame, limit: float) -> Figure:
    """Validation error rate against bytes and latency (``compress.measure_files``) of each file.

    A colour is a network, a marker the kind of numbers in the file; thin lines are 95% intervals. A
    hollow marker shows the size after gzip where that saves a third or more; limit: the lowest
    accuracy allowed.
    """
    of_reference = ("float32", "float16", "dynamic_int8", "int8", "int8_aware")
    network = ["" if name in of_reference else name.removesuffix("_int8") for name in table.index]
    networks = list(dict.fromkeys(network))
    marker = {"float16": "s", "dynamic_int8": "D", "int8_aware": "v"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    rates, low, high = _rates(table, "validation")
    for i, (name, row) in enumerate(table.iterrows()):
        color = PALETTE[networks.index(network[i]) % 10]
        look = {"color": color, "markersize": 8, "linestyle": "none", "alpha": 0.85}
        look["marker"] = marker.get(name, "^" if name.endswith("int8") else "o")
        for ax, x in ((left, row["bytes"] / 1000), (right, row["latency_ms_median"])):
            ax.vlines(x, low[i], high[i], color=color, linewidth=0.6, alpha=0.5)
            ax.plot(x, rates[i], label=title(name), **look)
        sizes = np.array([row["gzip_bytes"], row["bytes"]]) / 1000
        if sizes[0] < sizes[1] * 2 / 3:
            left.plot(sizes, [rates[i]] * 2, ":", color=color)
            left.plot(sizes[0], rates[i], **look | {"fillstyle": "none"})
    allowed = max(100 * (1 - limit), 50 / table["validation_n"].iloc[0])
    for ax in (left, right):
        ax.axhline(allowed, color=MUTED, linewidth=1, linestyle="--")
        ax.set_xscale("log")
        _readable(ax.xaxis)
    _error_axis(left, "validation error rate (%), upwards is better")
    left.set(xlabel="file size (kB)")
    right.set(xlabel="one image, one thread: median (ms)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def pruned_weights(before: np.ndarray, after: np.ndarray, layers: pd.DataFrame) -> Figure:
    """Kernel weights before and after pruning, (n,), and what each layer of ``layers`` keeps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.25, 1))
    reach = np.quantile(np.abs(before), 0.999)
    bins = np.linspace(-reach, reach, 82)
    left.hist(before, bins, color=MUTED, histtype="step", linewidth=1.2, label="before")
    left.hist(after[after != 0], bins, color=ACCENT, alpha=0.7, label="after, without the zeros")
    left.set(xlabel="weight", ylabel="number of weights", title="All kernels")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.legend(loc="upper center", ncols=2)
    rows = layers[::-1]
    bars = right.barh(rows["layer"], 100 * (1 - rows["sparsity"]), 0.65, color=ACCENT)
    kept = [f"{row.weights - row.zeros:,} of {row.weights:,}" for row in rows.itertuples()]
    right.bar_label(bars, kept, padding=4, fontsize=8)
    right.set(xlim=(0, 138), xticks=range(0, 101, 25), xlabel="weights kept (%)")
    right.set_title("Layer by layer")
    right.grid(axis="y", visible=False)
    return figure


# --- Searches; ``trials`` is their ``search.table`` -----------------------------------------------


def history(ax: Axes, trials: pd.DataFrame, reference: float) -> Axes:
    """Accuracy of each trial that ran to its end, the best so far, and one to beat."""
    done = trials[trials["state"] == "complete"]
    ax.plot(done["trial"], done["accuracy"], "o", color=ACCENT, alpha=0.75, label="trial")
    ax.step(trials["trial"], trials["best"], where="post", color=BAD, label="best so far")
    dashed = {"color": "black", "linewidth": 1, "linestyle": "--"}
    ax.axhline(reference, label="the reference's settings", **dashed)
    ax.set(xlabel="trial", ylabel=ACCURACY)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower right")
    return ax


def learning_curves(ax: Axes, study: optuna.Study) -> Axes:
    """Accuracy of every trial after each epoch: those that ran to their end, and those stopped."""
    ran = {"color": ACCENT, "alpha": 0.45, "linewidth": 1.2, "label": "ran to its end"}
    stopped = {"color": BAD, "alpha": 0.8, "linewidth": 1.2, "label": "stopped there"}
    stopped |= {"marker": "X", "markevery": [-1], "zorder": 3}
    for trial in study.get_trials(deepcopy=False):
        pruned = trial.state == optuna.trial.TrialState.PRUNED
        values = trial.intermediate_values
        ax.plot(list(values), list(values.values()), **stopped if pruned else ran)
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    ax.legend(entries.values(), entries.keys(), loc="lower right")
    ax.set(xlabel="epoch", ylabel=ACCURACY)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def importances(ax: Axes, shares: pd.Series) -> Axes:
    """``search.importances`` as bars, the largest on top; a sentence where they cannot be told."""
    if shares.empty:
        ax.text(0.5, 0.5, "too few different trials to tell", ha="center", va="center", color=MUTED)
        ax.set_axis_off()
        return ax
    rows = shares[::-1].rename(lambda name: name.replace("_", " "))
    bars = ax.barh(rows.index, rows, 0.65, color=ACCENT)
    ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set(xlabel="share of the spread of the accuracy that it explains")
    ax.grid(axis="y", visible=False)
    return ax


def against_random(ax: Axes, trials: pd.DataFrame, random_trials: pd.DataFrame) -> Axes:
    """The best accuracy so far against what was spent, beside what random search would reach.

    The cost is in units of one average random trial; the band holds 95% of what luck does to the
    best of so many. ``random_trials`` were not pruned.
    """
    scored = random_trials.dropna(subset="accuracy")
    counts = range(1, len(scored) + 1)
    chance = pd.DataFrame([search.best_of(scored["accuracy"], k) for k in counts])
    ax.fill_between(counts, chance["low"], chance["high"], color=MUTED, alpha=0.2, linewidth=0)
    expected = "random search: expected best, and 95% of its luck"
    ax.plot(counts, chance["expected"], color=MUTED, label=expected)
    spent = trials["cost"].fillna(0).cumsum() / scored["cost"].mean()
    look = {"color": ACCENT, "linewidth": 2, "label": "this search: best so far"}
    ax.step(spent, trials["best"], where="post", **look)
    ax.set(xlabel="cost (average random trials)", ylabel=ACCURACY)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right")
    return ax

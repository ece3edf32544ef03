"""Figures of 04_optimization: what helps, and what it costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from digits.plots.style import ACCENT, BAD, MUTED, PALETTE, WIDTH

TITLES = {"compact": "our compact net", "keras_example": "Keras example", "lenet5": "LeNet-5", "vgg": "VGG-style net",
          "float32": "float32", "float16": "float16", "dynamic_int8": "dynamic int8", "int8": "full int8",
          "pruned": "pruned float32"}
MARKERS = "osD^vP"
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.001 rather than a power of ten


def _spread(rows: pd.DataFrame) -> np.ndarray:
    """Lengths of the error bars in percentage points, (2, n): below and above ``accuracy``, from ``interval``."""
    low, high = np.array(rows["interval"].to_list()).T
    return 100 * np.maximum([rows["accuracy"] - low, high - rows["accuracy"]], 0)


def accuracy_against_multiplies(ax: Axes, table: pd.DataFrame) -> Axes:
    """One labelled point a network with its 95% interval.

    table: index the network's name; columns multiplies, accuracy, interval, parameters.
    """
    rows = table.sort_values("multiplies")
    spread = _spread(rows)
    for i, (name, row) in enumerate(rows.iterrows()):
        x, y = row["multiplies"] / 1e6, 100 * row["accuracy"]
        ax.errorbar(x, y, spread[:, [i]], fmt=MARKERS[i], color=PALETTE[i], markersize=7, capsize=3)
        crowded = ((rows["multiplies"] > row["multiplies"]) & (rows["multiplies"] < 3 * row["multiplies"])).any()
        ax.annotate(f"{TITLES.get(name, name)}\n{row['parameters'] / 1000:,.0f}k parameters", (x, y),
                    (-9, 0) if crowded else (9, 0), textcoords="offset points", va="center",
                    ha="right" if crowded else "left", fontsize=8.5)  # away from the next point to the right
    least, most = rows["multiplies"].min() / 1e6, rows["multiplies"].max() / 1e6
    ax.set(xscale="log", xlabel="multiplies for one image (millions)", ylabel="validation accuracy (%)",
           xlim=(least / 1.5, most * 3.5))  # room for the last label
    ax.xaxis.set_major_formatter(_PLAIN)
    return ax


def on_and_off(ax: Axes, table: pd.DataFrame) -> Axes:
    """Runs without and with augmentation: a line a seed; table: columns seed, augmentation, accuracy, interval."""
    seeds = table["seed"].unique()
    for i, seed in enumerate(seeds):
        pair = table[table["seed"] == seed].sort_values("augmentation")
        offset = 0.12 * (i - (len(seeds) - 1) / 2)
        ax.errorbar(pair["augmentation"].astype(int) + offset, 100 * pair["accuracy"], _spread(pair), color=PALETTE[i],
                    marker=MARKERS[i % len(MARKERS)], markersize=7, capsize=3, linewidth=1.2, label=f"seed {seed}")
    ax.set(xticks=[0, 1], xticklabels=["off", "on"], xlim=(-0.5, 1.5), xlabel="augmentation",
           ylabel="validation accuracy (%)")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _error_axis(ax: Axes, rates: pd.Series) -> None:
    """A logarithmic axis of error rates in percent with readable ticks."""
    ax.set_yscale("log")
    low, high = max(rates.min(), 1e-6), max(rates.max(), 2e-6)
    ax.set_ylim(100 * low / 1.3, 100 * high * 1.3)
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter=_PLAIN, minor_formatter=NullFormatter())


def search_slices(trials: pd.DataFrame, baseline: dict) -> Figure:
    """Error rate of each trial against each setting, and the best so far against the number of trials.

    trials: ``search.table``, failed ones are left out; baseline: settings and their ``accuracy``, drawn as a diamond
    and a dashed line.
    """
    scored = trials.dropna(subset="accuracy")
    floor = 0.5 / scored["n"].max()  # a trial without an error still has a place on the logarithmic axis
    rates = np.maximum(1 - scored["accuracy"], floor)
    reference = max(1 - baseline["accuracy"], floor)
    top = rates.idxmin()
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.4), sharey=True)
    for ax, name in zip(axes.flat, ("learning_rate", "batch_size", "dropout"), strict=False):
        ax.plot(scored[name], 100 * rates, "o", color=ACCENT, alpha=0.75, label="trial")
        ax.plot(scored.loc[top, name], 100 * rates[top], "o", color=BAD, markersize=11, fillstyle="none",
                markeredgewidth=1.8, label="best trial")
        ax.plot(baseline[name], 100 * reference, "D", color="black", markersize=6, label="the reference's settings")
        ax.set(xscale="linear" if name == "dropout" else "log", xlabel=name.replace("_", " "))
    sizes = sorted({*scored["batch_size"], baseline["batch_size"]})
    axes[0, 0].xaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter=_PLAIN, minor_formatter=NullFormatter())
    axes[0, 1].set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes[0, 1].xaxis.set_minor_formatter(NullFormatter())
    last = axes[1, 1]
    last.step(scored["trial"], 100 * np.minimum.accumulate(rates), where="post", color=ACCENT)
    last.plot(scored["trial"], 100 * rates, ".", color=MUTED, alpha=0.6)
    last.axhline(100 * reference, color="black", linewidth=1, linestyle="--")
    last.set(xlabel="trials so far: the line is the best of them")
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    _error_axis(last, pd.concat([rates, pd.Series([reference])]))
    for ax in axes[:, 0]:
        ax.set_ylabel("validation error rate (%)")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def trade_offs(table: pd.DataFrame, limit: float) -> Figure:
    """Validation accuracy against bytes and against latency, one marker a file; ``limit``: the lowest accuracy allowed.

    table: ``compress.measure_files``. The bar to the right of a latency ends at its 95th percentile; a hollow marker
    shows the size after gzip where that saves a third or more.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.7), sharey=True)
    accuracy = 100 * table["validation_accuracy"]
    for i, (name, row) in enumerate(table.iterrows()):
        style = {"color": PALETTE[i], "marker": MARKERS[i % len(MARKERS)], "markersize": 9, "linestyle": "none",
                 "alpha": 0.85}
        left.plot(row["bytes"] / 1000, accuracy[name], label=TITLES.get(name, name), **style)
        if row["gzip_bytes"] < row["bytes"] * 2 / 3:
            left.plot(row["gzip_bytes"] / 1000, accuracy[name], **style | {"fillstyle": "none"})
            left.plot([row["gzip_bytes"] / 1000, row["bytes"] / 1000], 2 * [accuracy[name]], ":", color=PALETTE[i])
        right.plot(row["latency_ms_median"], accuracy[name], **style)
        right.plot([row["latency_ms_median"], row["latency_ms_p95"]], 2 * [accuracy[name]], color=PALETTE[i])
    for ax in (left, right):
        ax.axhline(100 * limit, color=MUTED, linewidth=1, linestyle="--")
        ax.set_xlim(0, None)
    left.annotate("lowest accuracy that the rule allows", (0.02, 100 * limit), (0, -3), color=MUTED, fontsize=8.5,
                  xycoords=("axes fraction", "data"), textcoords="offset points", va="top")
    left.set(xlabel="file size (kB)", ylabel="validation accuracy (%)")
    right.set(xlabel="one image, one thread: median to 95th percentile (ms)")
    low, high = min(accuracy.min(), 100 * limit), accuracy.max()
    left.set_ylim(low - 0.25 * (high - low), high + 0.15 * (high - low))
    figure.legend(loc="outside upper center", ncols=len(table))
    return figure


def pruned_weights(before: np.ndarray, after: np.ndarray, layers: pd.DataFrame) -> Figure:
    """Kernel weights before and after pruning, both (n,), and what each layer of ``compress.sparsity_table`` keeps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.25, 1))
    reach = np.quantile(np.abs(before), 0.999)
    bins = np.linspace(-reach, reach, 82)
    left.hist(before, bins, color=MUTED, histtype="step", linewidth=1.2, label="before")
    left.hist(after[after != 0], bins, color=ACCENT, alpha=0.7, label="after, without the zeros")
    left.set(xlabel="weight", ylabel="number of weights", title="All kernels", ylim=(0, 1.3 * left.get_ylim()[1]))
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.legend(loc="upper center", ncols=2)
    positions = np.arange(len(layers))[::-1]
    right.barh(positions, 100 * (1 - layers["sparsity"]), color=ACCENT, height=0.65)
    for y, row in zip(positions, layers.itertuples(), strict=True):
        right.text(100 * (1 - row.sparsity) + 1.5, y, f"{row.weights - row.zeros:,} of {row.weights:,}", va="center",
                   fontsize=8)
    right.set(yticks=positions, yticklabels=layers["layer"], xlim=(0, 138), xticks=range(0, 101, 25),
              xlabel="weights kept (%)", title="Layer by layer")
    right.grid(axis="y", visible=False)
    return figure

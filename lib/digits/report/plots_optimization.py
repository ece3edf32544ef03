"""Figures of 04_optimization: what helps, and what it costs."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from digits.report.style import ACCENT, BAD, GOOD, MUTED, PALETTE, PLAIN, WIDTH

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
    "float32": "float32",
    "float16": "float16",
    "dynamic_int8": "dynamic int8",
    "int8": "full int8",
    "int8_aware": "full int8, learnt",
    "pruned": "pruned",
}
SETS = {"validation": "MNIST, validation", "pen": "pen digits, development writers"}
MARKERS = "osD^vPX*<>"


def title(name: str) -> str:
    """What a network or a file is called in tables and figures: "tiny net, int8" for "tiny_int8"."""
    plain = name.removesuffix("_int8")
    if name in TITLES or plain not in TITLES:
        return TITLES.get(name, name)
    return f"{TITLES[plain]}, int8"


def span(interval: tuple[float, float]) -> str:
    """An interval for a table: "99.41% to 99.70%"."""
    return "{:.2%} to {:.2%}".format(*interval)


def _error_rates(rows: pd.DataFrame, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Error rates in percent (n,), and the lengths of their 95% error bars below and above, (2, n).

    No error among n images has its place at half an error: a logarithmic axis has no zero.
    """
    floor = 50 / rows[f"{kind}_n"].to_numpy()
    rates = np.maximum(
        100 * rows[f"{kind}_errors"].to_numpy() / rows[f"{kind}_n"].to_numpy(), floor
    )
    high, low = 100 * (1 - np.array(rows[f"{kind}_interval"].to_list()).T)
    return rates, np.maximum([rates - np.maximum(low, floor / 2), high - rates], 0)


def _error_axis(ax: Axes, label: str = "error rate (%), upwards is better") -> None:
    """Logarithmic, since 0.4% and 0.8% differ as much as 4% and 8%; and turned, so that up is good."""
    ax.set(yscale="log", ylabel=label)
    ax.invert_yaxis()
    ax.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=PLAIN,
        minor_formatter=NullFormatter(),
    )


def errors_against_macs(table: pd.DataFrame, fronts: Mapping[str, list]) -> Figure:
    """One panel a set: a marker a network with its 95% interval, and a line along the Pareto front.

    table: index the network's name, columns of ``experiments.train``; fronts: by the set's name, the networks that no
    other beats, from cheap to dear.
    """
    figure, axes = plt.subplots(1, len(fronts), figsize=(WIDTH, 4.2), squeeze=False)
    for ax, (kind, front) in zip(axes[0], fronts.items(), strict=True):
        rates, bars = _error_rates(table, kind)
        for i, (name, row) in enumerate(table.iterrows()):
            ax.errorbar(
                row["macs"] / 1e6,
                rates[i],
                bars[:, [i]],
                color=PALETTE[i % len(PALETTE)],
                capsize=3,
                fmt=MARKERS[i % len(MARKERS)],
                markersize=7,
                label=title(name),
            )
        best = table.loc[front]
        ax.step(
            best["macs"] / 1e6,
            _error_rates(best, kind)[0],
            where="post",
            color=MUTED,
            linewidth=1,
            zorder=0,
        )
        _error_axis(ax)
        ax.set(
            xscale="log",
            xlabel="multiply-accumulates for one image (millions)",
            title=SETS.get(kind, kind),
        )
        ax.xaxis.set(
            major_locator=LogLocator(subs=(1, 3)),
            major_formatter=PLAIN,
            minor_formatter=NullFormatter(),
        )
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def effects(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What each change of the recipe does, one panel a set: a dot and its 95% interval in percentage points.

    tables: ``experiments.effects`` by the set's name. An interval that does not hold zero is coloured: green where the
    change helps, orange where it harms.
    """
    names = next(iter(tables.values())).index
    figure, axes = plt.subplots(
        1, len(tables), figsize=(WIDTH, 0.9 + 0.26 * len(names)), sharey=True, squeeze=False
    )
    places = np.arange(len(names))[::-1]
    for ax, (kind, table) in zip(axes[0], tables.items(), strict=True):
        colours = np.select([table["low"] > 0, table["high"] < 0], [GOOD, BAD], MUTED)
        for y, colour, row in zip(places, colours, table.itertuples(), strict=True):
            ax.plot([row.low, row.high], [y, y], color=colour, linewidth=1.8)
            ax.plot(row.points, y, "o", color=colour, markersize=5)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(
            yticks=places,
            yticklabels=names,
            title=SETS.get(kind, kind),
            xlabel="change in accuracy (points)",
            ylim=(-0.6, len(names) - 0.4),
        )
        ax.grid(axis="y", visible=False)
    return figure


def layer_noise(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Signal to noise after every layer: a line a file; tables: ``quantize.layer_errors`` by a name for the legend."""
    for i, (name, table) in enumerate(tables.items()):
        ax.plot(
            np.arange(len(table)),
            table["decibels"],
            marker=MARKERS[i],
            color=PALETTE[i],
            linewidth=1.2,
            label=name,
        )
    layers = next(iter(tables.values()))["layer"]
    ax.set(xticks=np.arange(len(layers)), ylabel="signal to noise (dB)")
    ax.set_xticklabels(layers, rotation=25, ha="right")
    ax.legend()
    return ax


def sparsity(ax: Axes, table: pd.DataFrame, limit: int) -> Axes:
    """Error rate on validation data against the share of weights that are zero, with 95% intervals.

    table: index the share, columns ``validation_errors``, ``validation_n``, ``validation_interval``, the network as it
    was at 0; limit: the most errors allowed.
    """
    rates, bars = _error_rates(table, "validation")
    ax.errorbar(100 * table.index, rates, bars, marker="o", color=ACCENT, capsize=3, linewidth=1.2)
    allowed = 100 * max(limit, 0.5) / table["validation_n"].iloc[0]
    ax.axhline(allowed, color=MUTED, linestyle="--", linewidth=1)
    ax.annotate(
        "allowed", (0, allowed), (8, -10), textcoords="offset points", color=MUTED, fontsize=8.5
    )
    ax.set(xlabel="weights that are zero (%)")
    _error_axis(ax)
    return ax


_REFERENCE = ("float32", "float16", "dynamic_int8", "int8", "int8_aware")  # files of one network


def trade_offs(table: pd.DataFrame, limit: float) -> Figure:
    """Validation error rate against bytes and latency, one marker a file; ``limit``: the lowest accuracy allowed.

    table: ``compress.measure_files``. A colour is a network, a marker the kind of numbers in the file; thin lines are
    95% intervals. A hollow marker shows the size after gzip where that saves a third or more.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    rates, bars = _error_rates(table, "validation")
    families = list(dict.fromkeys(_family(name) for name in table.index))
    for i, (name, row) in enumerate(table.iterrows()):
        colour = PALETTE[families.index(_family(name)) % len(PALETTE)]
        style = {
            "color": colour,
            "marker": MARKERS[_kind(name)],
            "markersize": 8,
            "linestyle": "none",
            "alpha": 0.85,
        }
        for ax, x in ((left, row["bytes"] / 1000), (right, row["latency_ms_median"])):
            ax.errorbar(x, rates[i], bars[:, [i]], color=colour, linewidth=0.6, alpha=0.5)
            ax.plot(x, rates[i], label=title(name), **style)
        if row["gzip_bytes"] < row["bytes"] * 2 / 3:
            left.plot(
                [row["gzip_bytes"] / 1000, row["bytes"] / 1000], 2 * [rates[i]], ":", color=colour
            )
            left.plot(row["gzip_bytes"] / 1000, rates[i], **style | {"fillstyle": "none"})
    for ax in (left, right):
        ax.axhline(
            max(100 * (1 - limit), 50 / table["validation_n"].iloc[0]),
            color=MUTED,
            linewidth=1,
            linestyle="--",
        )
        ax.set_xscale("log")
        ax.xaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)),
            major_formatter=PLAIN,
            minor_formatter=NullFormatter(),
        )
    _error_axis(left, "validation error rate (%), upwards is better")
    left.set(xlabel="file size (kB)")
    right.set(xlabel="one image, one thread: median (ms)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _family(name: str) -> str:
    """Which network a file holds."""
    return "reference" if name in _REFERENCE else name.removesuffix("_int8")


def _kind(name: str) -> int:
    """The marker of a file: float32, float16, dynamic int8, int8, int8 learnt."""
    return {"float16": 1, "dynamic_int8": 2, "int8_aware": 4}.get(
        name, 3 if name.endswith("int8") else 0
    )


def pruned_weights(before: np.ndarray, after: np.ndarray, layers: pd.DataFrame) -> Figure:
    """Kernel weights before and after pruning, both (n,), and what each layer of ``prune.sparsity_table`` keeps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.25, 1))
    reach = np.quantile(np.abs(before), 0.999)
    bins = np.linspace(-reach, reach, 82)
    left.hist(before, bins, color=MUTED, histtype="step", linewidth=1.2, label="before")
    left.hist(after[after != 0], bins, color=ACCENT, alpha=0.7, label="after, without the zeros")
    left.set(
        xlabel="weight",
        ylabel="number of weights",
        title="All kernels",
        ylim=(0, 1.3 * left.get_ylim()[1]),
    )
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.legend(loc="upper center", ncols=2)
    positions = np.arange(len(layers))[::-1]
    right.barh(positions, 100 * (1 - layers["sparsity"]), color=ACCENT, height=0.65)
    for y, row in zip(positions, layers.itertuples(), strict=True):
        right.text(
            100 * (1 - row.sparsity) + 1.5,
            y,
            f"{row.weights - row.zeros:,} of {row.weights:,}",
            va="center",
            fontsize=8,
        )
    right.set(
        yticks=positions,
        yticklabels=layers["layer"],
        xlim=(0, 138),
        xticks=range(0, 101, 25),
        xlabel="weights kept (%)",
        title="Layer by layer",
    )
    right.grid(axis="y", visible=False)
    return figure

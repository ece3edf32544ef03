"""Figures of the first chapter: what the data looks like, and what a network has to beat."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from digits.data import TABLET
from digits.report.style import ACCENT, BAD, MUTED, PALETTE, WIDTH, ink

MARKERS = ("o", "s", "^")  # told apart without colour


def tile_rows(rows: dict[str, Sequence], columns: Sequence[str] = ()) -> Figure:
    """Named rows of tiles, all of the same length.

    rows: name to images (n, 28, 28[, 1]) in [0, 1], or to n pen drawings (tuples of strokes); columns: n headings.
    """
    n = max(len(items) for items in rows.values())
    height = len(rows) * (0.87 * WIDTH / n + 0.02) + (
        0.2 * (1 + columns[0].count("\n")) if len(columns) else 0
    )
    figure, axes = plt.subplots(
        len(rows), n, figsize=(WIDTH, height), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, hspace=0.02, wspace=0.02)
    for line, (name, items) in zip(axes, rows.items(), strict=True):
        for ax, item in zip(line, items, strict=True):
            (strokes if isinstance(item, tuple) else ink)(ax, item)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], columns, strict=False):
        ax.set_title(title, fontsize=9, loc="center", fontweight="normal")
    return figure


def class_shares(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Share of each digit in each split; ``counts`` as from ``eda.class_counts``, a marker for each column."""
    shares = 100 * counts / counts.sum()
    ax.axhline(10, color=MUTED, linewidth=1, linestyle=":")
    for i, (name, share) in enumerate(shares.items()):
        offset = 0.2 * (i - (shares.shape[1] - 1) / 2)
        ax.plot(
            share.index + offset,
            share,
            MARKERS[i % 3],
            label=f"{name} (n = {counts[name].sum():,})",
            markersize=6,
        )
    ax.set(xlabel="digit", ylabel="share of the split (%)", xticks=counts.index)
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=shares.shape[1])
    return ax


def placement(mean: np.ndarray, centres: np.ndarray) -> Figure:
    """Where the ink lies: the mean of all images with its 20 x 20 box, and every centre of mass, (n, 2)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    ink(left, mean / mean.max())
    left.add_patch(
        Rectangle((3.5, 3.5), 20, 20, fill=False, edgecolor=BAD, linewidth=1.5, linestyle="--")
    )
    left.text(3.7, 2.9, "20 × 20 pixels", color=BAD, fontsize=9, va="bottom")
    left.set_title("Mean of all training images")
    right.plot(*centres.T, ".", color=ACCENT, markersize=1, alpha=0.25, rasterized=True)
    right.plot(14, 14, "+", color="black", markersize=14)
    right.set(xlabel="column of the centre of mass (pixel)", ylabel="row (pixel)", aspect="equal")
    right.invert_yaxis()
    right.set_title("Centre of mass of each image")
    return figure


def shapes(table: pd.DataFrame, units: dict[str, str]) -> Figure:
    """Distribution of each measured quantity for each digit, side by side; ``units`` maps a column to its axis label.

    Outline: all images; dot: median; bar: the middle nine tenths.
    """
    figure, axes = plt.subplots(1, len(units), figsize=(WIDTH, 4.4), sharey=True)
    for ax, (column, label) in zip(axes, units.items(), strict=True):
        _violins(ax, [group[column].dropna().to_numpy() for _, group in table.groupby("digit")])
        ax.set(xlabel=label, xlim=np.nanpercentile(table[column], [0.1, 99.9]))
    digits = sorted(table["digit"].unique())
    axes[0].set(
        ylabel="digit",
        yticks=range(len(digits)),
        yticklabels=digits,
        ylim=(len(digits) - 0.4, -0.6),
    )
    return figure


def _violins(ax: Axes, groups: list[np.ndarray]) -> None:
    """One horizontal outline for each group, top to bottom."""
    outlines = ax.violinplot(
        groups,
        range(len(groups)),
        orientation="horizontal",
        widths=0.85,
        showextrema=False,
        bw_method=0.4,
    )  # widths come in steps of a quarter pixel: smooth over them
    for body in outlines["bodies"]:
        body.set(facecolor=PALETTE[5], edgecolor=ACCENT, alpha=0.6)
    low, median, high = (
        np.array([np.percentile(group, share) for group in groups]) for share in (5, 50, 95)
    )
    ax.hlines(range(len(groups)), low, high, color=ACCENT, linewidth=1.5)
    ax.plot(median, range(len(groups)), "o", color="white", markeredgecolor=ACCENT, markersize=5)
    ax.grid(axis="y", visible=False)


def embedding(ax: Axes, points: np.ndarray, labels: np.ndarray, title: str = "") -> Axes:
    """A map of images: each point, (n, 2), is drawn as its digit; a large numeral marks the middle of each class."""
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for digit in np.unique(labels):
        group = points[labels == digit]
        ax.scatter(
            *group.T,
            s=13,
            marker=f"${digit}$",
            color=PALETTE[digit],
            linewidths=0,
            alpha=0.7,
            rasterized=True,
        )
    for digit in np.unique(labels):
        middle = np.median(points[labels == digit], axis=0)
        ax.text(
            *middle,
            str(digit),
            color=PALETTE[digit],
            fontsize=17,
            fontweight="bold",
            ha="center",
            va="center",
            path_effects=halo,
        )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="#d1d5db")
    ax.set_title(title)
    return ax


def nearest_distances(ax: Axes, distances: dict[str, np.ndarray]) -> Axes:
    """Cumulative share of images against the distance to their nearest training image; one curve for each entry."""
    for (name, values), style in zip(distances.items(), ("-", "--", ":"), strict=False):
        ax.ecdf(values, linestyle=style, linewidth=2, label=f"{name} (n = {len(values):,})")
    ax.set(
        xlabel="Euclidean distance to the nearest training image (pixels in [0, 1])",
        ylabel="share of images",
        xlim=(0, None),
        ylim=(0, 1),
    )
    ax.legend(loc="upper left")
    return ax


def baselines(ax: Axes, scores: dict[str, dict[str, dict]]) -> Axes:
    """Error rate with its 95% interval, a row for each method, a marker for each split; from ``eda.scores``."""
    methods, splits = list(scores), list(next(iter(scores.values())))
    for i, split in enumerate(splits):
        for y, method in enumerate(methods):
            one = scores[method][split]
            rate, best, worst = (
                100 * (1 - share) for share in (one["accuracy"], *one["interval"][::-1])
            )
            place = y + 0.26 * (i - (len(splits) - 1) / 2)
            ax.errorbar(
                rate,
                place,
                xerr=[[rate - best], [worst - rate]],
                fmt=MARKERS[i],
                color=PALETTE[i],
                capsize=3,
                label=split if y == 0 else None,
            )
            ax.annotate(
                f"{one['errors']:,} of {one['n']:,}",
                (worst, place),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    ax.set(yticks=range(len(methods)), yticklabels=methods, xlabel="error rate (%)")
    ax.set_xlim(0, 1.2 * ax.get_xlim()[1])  # room for the counts
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    ax.legend(loc="lower right")
    return ax


def strokes(ax: Axes, drawing: Sequence[np.ndarray]) -> Axes:
    """One pen digit on its tablet: strokes (n, 2), y downwards; a dot where each begins, its own colour and dash."""
    for i, stroke in enumerate(drawing):
        ax.plot(*stroke.T, color=PALETTE[i % 10], linestyle=("-", "--", ":")[i % 3], linewidth=2)
        ax.plot(*stroke[0], "o", color=PALETTE[i % 10], markersize=4)
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=(0, TABLET), ylim=(TABLET, 0))
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#d1d5db", linewidth=0.6)
    return ax


def stroke_counts(ax: Axes, shares: pd.DataFrame) -> Axes:
    """How many strokes each digit was drawn with; ``shares`` as from ``eda.stroke_counts``, rows that sum to 1."""
    left = np.zeros(len(shares))
    for i, (count, share) in enumerate(shares.items()):
        label = f"{count} stroke" + ("s" if count > 1 else "")
        ax.bar(
            shares.index,
            100 * share,
            bottom=100 * left,
            color=PALETTE[(0, 5, 1, 3)[i % 4]],
            label=label,
            width=0.7,
            hatch=("", "//", "..", "xx")[i % 4],
            edgecolor="white",
        )
        left += share.to_numpy()
    ax.set(xlabel="digit", ylabel="share of the drawings (%)", xticks=shares.index, ylim=(0, 100))
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=shares.shape[1])
    return ax

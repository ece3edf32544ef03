"""Figures of 03_evaluation: where a model errs, how sure it is, and what makes it err more."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter

from digits.data.augmentation import Corruption
from digits.report.style import ACCENT, BAD, MUTED, PALETTE, WIDTH, ink

ERROR_CMAP = "Blues"  # one hue from light to dark: readable in print and with any colour vision
DIAGONAL = "#e5e7eb"  # right answers, greyed out: they would drown the errors


# --- Errors -----------------------------------------------------------------------------------------------------------


def heat_map(ax: Axes, matrix: np.ndarray, title: str, text: str = "{:.0f}") -> Axes:
    """A confusion matrix (10, 10) with its diagonal greyed, every cell that is not zero written out by ``text``."""
    errors = np.ma.masked_array(matrix, np.eye(len(matrix), dtype=bool) | ~np.isfinite(matrix))
    peak = errors.filled(0).max() or 1.0
    ax.imshow(
        errors, cmap=plt.get_cmap(ERROR_CMAP).with_extremes(bad=DIAGONAL), vmin=0, vmax=1.15 * peak
    )
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value) and value > 0:
            color, size = (
                (MUTED, 6.5) if row == column else ("white" if value > 0.6 * peak else "black", 8)
            )
            ax.text(
                column,
                row,
                text.format(value),
                ha="center",
                va="center",
                color=color,
                fontsize=size,
            )
    ax.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="true digit", title=title)
    ax.grid(False)
    return ax


def confusion_maps(counts: np.ndarray, rates: np.ndarray) -> Figure:
    """Counts and row-wise rates of a confusion matrix (10, 10) side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.1))
    heat_map(axes[0], counts, "Counts")
    heat_map(axes[1], 100 * rates, "Percent of each true digit", "{:.1f}")
    return figure


def error_rates(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Error rate of each digit with its 95% interval, one colour and marker for each ``per_class`` table."""
    offsets = np.linspace(-0.15, 0.15, len(tables)) if len(tables) > 1 else [0]
    for (name, table), offset, color, marker in zip(
        tables.items(), offsets, PALETTE, "osD^", strict=False
    ):
        rate = 1 - table["recall"]
        # an interval can miss its estimate by a rounding error; a negative bar is refused
        spread = np.maximum(
            [table["recall high"] - table["recall"], table["recall"] - table["recall low"]], 0
        )
        ax.errorbar(
            table.index + offset,
            rate,
            spread,
            fmt=marker,
            markersize=5,
            capsize=2.5,
            lw=1.2,
            color=color,
            label=name,
        )
    ax.set(xticks=range(10), xlabel="true digit", ylabel="error rate")
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])  # markers at zero stay whole
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    if len(tables) > 1:
        ax.legend()
    return ax


def group_errors(ax: Axes, table: pd.DataFrame, label: str) -> Axes:
    """Error rate of each group with its 95% interval, the best group first, the error count beside each point.

    table: from ``evaluation.by_group``; label: what a group is.
    """
    table = table.sort_values("accuracy", ascending=False)
    place, rate = np.arange(len(table)), 1 - table["accuracy"]
    spread = np.maximum([table["high"] - table["accuracy"], table["accuracy"] - table["low"]], 0)
    ax.errorbar(place, rate, spread, fmt="o", markersize=5, capsize=2.5, lw=1.2, color=ACCENT)
    for x, y, errors in zip(place, rate, table["errors"], strict=True):
        ax.annotate(f"{errors:.0f}", (x, y), (6, 3), textcoords="offset points", fontsize=8)
    ax.set_xticks(place, table.index)
    ax.set(xlabel=label, ylabel="error rate")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return ax


def error_gallery(images: np.ndarray, table: pd.DataFrame, columns: int = 8) -> Figure:
    """Wrong answers as tiles: true digit and index above, the two best guesses with their probabilities below.

    images: (n, 28, 28[, 1]), all of the data that ``table`` (from ``evaluation.error_table``) indexes. A known label
    error is framed and carries a dagger.
    """
    rows = max(-(-len(table) // columns), 1)
    tile = WIDTH / columns
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, rows * (tile + 0.32)), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.02)
    for ax in axes.flat[len(table) :]:
        ax.axis("off")
    for ax, error in zip(axes.flat, table.to_dict("records"), strict=False):
        _error_tile(ax, images[error["index"]], error)
    return figure


def _error_tile(ax: Axes, image: np.ndarray, error: Mapping) -> Axes:
    mark = " †" if error["known"] else ""
    ink(ax, image, f"is {error['label']}  (#{error['index']}){mark}")
    ax.set_xlabel(
        f"{error['first']}: {percent(error['p first'])}  {error['second']}: {percent(error['p second'])}",
        fontsize=7.2,
        labelpad=2,
        color="black" if error["p first"] < 0.9 else BAD,
    )
    if error["known"]:
        for spine in ax.spines.values():
            spine.set(color=PALETTE[1], linewidth=2)
    return ax


def percent(share: float) -> str:
    """A probability as a tile can show it: whole percent, never rounded to certainty.

    >>> percent(0.9997), percent(0.873), percent(0.0001)
    ('>99%', '87%', '<1%')
    """
    return ">99%" if share >= 0.995 else "<1%" if share < 0.005 else f"{share:.0%}"


# --- Confidence -------------------------------------------------------------------------------------------------------


def reliability(bins: Mapping[str, pd.DataFrame]) -> Figure:
    """Reliability diagrams side by side, each with the size of its bins below; ``bins`` from ``reliability_bins``."""
    figure, axes = plt.subplots(
        2,
        len(bins),
        figsize=(WIDTH, 4.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(3, 1),
    )
    for (title, table), (above, below) in zip(bins.items(), axes.T, strict=True):
        reliability_diagram(above, table).set_title(title)
        bin_counts(below, table).set_xlabel("confidence")
    figure.get_layout_engine().set(wspace=0.06)
    axes[0, 0].set_ylabel("share of right answers")
    axes[1, 0].set_ylabel("samples")
    return figure


def reliability_diagram(ax: Axes, table: pd.DataFrame) -> Axes:
    """Accuracy with its 95% interval at the mean confidence of each bin; on the diagonal the confidence is true."""
    spread = np.maximum(
        [table["accuracy"] - table["accuracy low"], table["accuracy high"] - table["accuracy"]], 0
    )
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
    ax.errorbar(
        table["confidence"],
        table["accuracy"],
        spread,
        fmt="o",
        markersize=4.5,
        capsize=2.5,
        lw=1.2,
        color=ACCENT,
    )
    ax.text(
        0.03,
        0.06,
        "confidence is true",
        rotation=45,
        transform_rotates_text=True,
        rotation_mode="anchor",
        fontsize=8,
        color=MUTED,
    )
    ax.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return ax


def bin_counts(ax: Axes, table: pd.DataFrame) -> Axes:
    """How many samples each bin holds, written out, on a logarithmic scale."""
    ax.bar(
        table["low"],
        table["n"],
        table["high"] - table["low"],
        align="edge",
        color=ACCENT,
        alpha=0.35,
    )
    for low, high, n in table[["low", "high", "n"]].itertuples(index=False):
        ax.text((low + high) / 2, n * 1.3, f"{n:.0f}", ha="center", fontsize=6.5)
    ax.set(yscale="log", ylim=(0.7, 30 * table["n"].max()))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    return ax


def risk_coverage(
    ax: Axes,
    curves: Mapping[str, pd.DataFrame],
    points: Mapping[str, tuple[float, float]],
    least: float = 0.5,
    mark: str = "the app",
) -> Axes:
    """Share of wrong answers against share of answers, from ``evaluation.risk_coverage``.

    points: the (coverage, risk) of what the app answers, for each curve, with ``mark`` beside it; least: the smallest
    coverage shown, since the first few answers make a noisy curve.
    """
    for (name, curve), color, style in zip(
        curves.items(), PALETTE, ("-", "--", "-."), strict=False
    ):
        shown = curve[curve["coverage"] >= least]
        ax.plot(shown["coverage"], shown["risk"], color=color, ls=style, label=name)
        coverage, risk = points[name]
        ax.plot(coverage, risk, "o", color=color, markersize=7, markeredgecolor="white")
        ax.annotate(
            mark,
            (coverage, risk),
            (-8, 10),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=color,
        )
    ax.set(
        xlabel="coverage: share of samples that are answered",
        ylabel="risk: share of answers that are wrong",
        xlim=(least, 1.005),
        ylim=(0, None),
    )
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    if len(curves) > 1:
        ax.legend(loc="upper left")
    return ax


# --- Robustness -------------------------------------------------------------------------------------------------------


def robustness(
    tables: Mapping[str, pd.DataFrame],
    corruptions: Sequence[Corruption],
    examples: Mapping[str, np.ndarray],
) -> Figure:
    """A panel for each corruption: accuracy with its 95% interval at each severity, under a strip of examples.

    tables: name of a curve to a table of ``evaluation.robustness``; examples: name of a corruption to images
    (severities, 28, 28) that show one digit at each severity.
    """
    rows = -(-(len(corruptions) + 1) // 2)  # and one place for the legend
    figure = plt.figure(figsize=(WIDTH, 2.75 * rows))
    panels = figure.subfigures(rows, 2).flat
    for panel, corruption in zip(panels, corruptions, strict=False):
        _robustness_panel(panel, corruption, tables, examples[corruption.name])
    handles, labels = panels[0].axes[-1].get_legend_handles_labels()
    panels[len(corruptions)].legend(handles, labels, loc="center", fontsize=10)
    return figure


def _robustness_panel(
    panel: SubFigure, corruption: Corruption, tables: Mapping[str, pd.DataFrame], images: np.ndarray
) -> None:
    n = len(corruption.severities)
    axes = panel.subplot_mosaic(
        [[f"tile {i}" for i in range(n)], ["curve"] * n], height_ratios=(1, 2.6)
    )
    for i, image in enumerate(images):
        ink(axes[f"tile {i}"], image)
    severity_curves(axes["curve"], corruption, tables)


def severity_curves(ax: Axes, corruption: Corruption, tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Accuracy at each severity of one corruption, evenly spaced so that each point stands below its example."""
    place = np.arange(len(corruption.severities))
    for (name, table), color, marker in zip(tables.items(), PALETTE, "osD^", strict=False):
        rows = table[table["corruption"] == corruption.name]
        ax.fill_between(place, rows["low"], rows["high"], color=color, alpha=0.2, lw=0)
        ax.plot(place, rows["accuracy"], marker=marker, markersize=4, color=color, label=name)
    ax.set_xticks(place, [f"{severity:g}".replace("-", "−") for severity in corruption.severities])
    ax.set(
        xlim=(-0.5, len(place) - 0.5), ylim=(0, 1.04), xlabel=corruption.label, ylabel="accuracy"
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return ax

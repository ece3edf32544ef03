"""Figures of 02_training: the architecture, what augmentation does, the schedule, the curves."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from digits.evaluation import kept_epoch
from digits.report.style import ACCENT, BAD, MUTED, PALETTE, WIDTH, ink

_KINDS = {
    "Conv2D": PALETTE[0],
    "Dense": PALETTE[4],
    "MaxPooling2D": PALETTE[2],
    "AveragePooling2D": PALETTE[2],
}


def cost_by_layer(ax: Axes, table: pd.DataFrame, column: str) -> Axes:
    """Horizontal bars of one column of ``models.layer_table``, from top to bottom; only layers that multiply."""
    shown = table[table["macs"] > 0]
    positions = np.arange(len(shown))[::-1]
    ax.barh(
        positions,
        shown[column],
        color=[_KINDS.get(kind, MUTED) for kind in shown["kind"]],
        height=0.7,
    )
    ax.set_yticks(positions, shown["layer"])
    ax.set_xlabel(f"{column.replace('macs', 'MACs')} (thousands)")
    ax.xaxis.set_major_locator(plt.MaxNLocator(5))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}")
    ax.grid(False, axis="y")
    return ax


def augmentation_rows(original: np.ndarray, rows: dict[str, np.ndarray]) -> Figure:
    """One row of tiles for each kind of change; the untouched digit stands first in every row.

    original: (28, 28, 1); rows: name to (n, 28, 28, 1).
    """
    columns = 1 + max(len(images) for images in rows.values())
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(WIDTH, len(rows) * WIDTH / (columns + 1.6)),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row, [original, *images], strict=True):
            ink(ax, image)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for spine in row[0].spines.values():
            spine.set(color=ACCENT, linewidth=1.4)
    return figure


def learning_rate(ax: Axes, rates: np.ndarray, steps_per_epoch: int) -> Axes:
    """The schedule: learning rate after each step, against epochs."""
    ax.plot(np.arange(len(rates)) / steps_per_epoch, rates, color=ACCENT)
    ax.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    return ax


def curves(ax: Axes, history: pd.DataFrame, column: str, label: str) -> Axes:
    """Training and validation curve of ``column`` ("loss" or "accuracy") with the epoch that was kept marked."""
    best = kept_epoch(history)
    ax.plot(
        history["epoch"],
        history[column],
        "o--",
        markersize=3,
        color=MUTED,
        label="training (augmented)",
    )
    ax.plot(
        history["epoch"],
        history[f"val_{column}"],
        "o-",
        markersize=3,
        color=ACCENT,
        label="validation",
    )
    ax.plot(
        best["epoch"],
        best[f"val_{column}"],
        "D",
        markersize=8,
        markerfacecolor="none",
        color=BAD,
        label=f"kept: epoch {best['epoch']:.0f}",
    )
    ax.set(xlabel="epoch", ylabel=label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return ax


def filters(kernel: np.ndarray, columns: int = 16) -> Figure:
    """The first layer's filters, (height, width, 1, n), on a map that is white at zero."""
    n = kernel.shape[-1]
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * WIDTH / columns), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    for i, ax in enumerate(np.atleast_1d(axes).flat):
        ax.axis("off")
        if i < n:
            limit = np.abs(kernel[..., 0, i]).max()
            ax.imshow(kernel[..., 0, i], cmap="PuOr", vmin=-limit, vmax=limit)
    return figure


def refusal_curve(ax: Axes, energies: dict[str, np.ndarray], threshold: float) -> Axes:
    """Share of non-digits refused against share of digits kept, one curve for each group of digits.

    energies: name to (n,), among them "non-digits"; threshold: the one in use, a dot on every curve.
    """
    strange = energies["non-digits"]
    groups = [name for name in energies if name != "non-digits"]
    for name, color, marker in zip(groups, (ACCENT, BAD), "os", strict=False):
        steps = np.unique(
            np.quantile(np.concatenate([energies[name], strange]), np.linspace(0, 1, 400))
        )
        kept = np.array([(energies[name] >= step).mean() for step in steps])
        refused = np.array([(strange < step).mean() for step in steps])
        ax.plot(100 * refused, 100 * kept, color=color, label=name)
        ax.plot(
            100 * (strange < threshold).mean(),
            100 * (energies[name] >= threshold).mean(),
            marker,
            color=color,
        )
    ax.set(
        xlabel="non-digits refused (%)",
        ylabel="digits kept (%)",
        xlim=(60, 100.5),
        ylim=(90, 100.3),
    )
    ax.legend(loc="lower left")
    return ax

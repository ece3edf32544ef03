"""One family of figures: type, sizes, colours, and the digit tile that every chapter uses."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# Okabe and Ito (2008), "Color Universal Design": told apart by readers with any colour vision.
PALETTE = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#8C6D31",
    "#000000",
    "#7F7F7F",
    "#B8A200",
]
ACCENT, GOOD, BAD, MUTED = PALETTE[0], PALETTE[2], PALETTE[4], "#6b7280"
INK_CMAP = "gray_r"  # dark ink on white paper, the same for every digit image
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.001 rather than a power of ten
WIDTH = 8.0  # inches: the width of a full figure; the report shows it at 800 CSS pixels


def use_style() -> None:
    """Set Matplotlib's defaults for the whole report. Called once, at the top of a notebook."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.6),
            "figure.dpi": 100,
            "savefig.dpi": 160,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#4b5563",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e5e7eb",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "image.cmap": INK_CMAP,
            "image.interpolation": "nearest",
        }
    )


def ink(ax: Axes, image: np.ndarray, title: str = "") -> Axes:
    """Draw one digit image, shape (28, 28) or (28, 28, 1) in [0, 1], as a tile without ticks."""
    ax.imshow(np.squeeze(image), cmap=INK_CMAP, vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#d1d5db", linewidth=0.6)
    if title:
        ax.set_title(title, fontsize=8, fontweight="normal", loc="center", pad=2)
    return ax


def grid(images: np.ndarray, titles: Sequence[str] | None = None, columns: int = 10) -> Figure:
    """A figure of digit tiles.

    images: (n, 28, 28[, 1]) in [0, 1]; titles: n strings, or None; the full width is shared by ``columns``.
    """
    n = len(images)
    columns = min(columns, max(n, 1))
    rows = max(-(-n // columns), 1)
    tile = WIDTH / columns
    height = rows * (tile + (0.18 if titles is not None else 0.04))
    figure, axes = plt.subplots(
        rows, columns, figsize=(tile * columns, height), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0.02, wspace=0.02)
    for i, ax in enumerate(axes.flat):
        if i < n:
            ink(ax, images[i], "" if titles is None else titles[i])
        else:
            ax.axis("off")
    return figure

"""Figures: one family of colours and type; digits, data, training, evaluation, optimization."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from PIL import Image

from digits.data import TABLET
from digits.data.augmentation import Corruption

# Okabe and Ito (2008), "Color Universal Design": told apart by readers with any colour vision.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31"]
PALETTE += ["#000000", "#7F7F7F", "#B8A200"]
ACCENT, GOOD, BAD, MUTED = PALETTE[0], PALETTE[2], PALETTE[4], "#6b7280"
MARKERS = "osD^vPX*<>"  # told apart without colour
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.001 rather than a power of ten
WIDTH = 8.0  # inches: the width of a full figure; the report shows it at 800 CSS pixels
MOST = 40  # images behind one cell of a confusion matrix that shows them
TEMPLATE = Path(__file__).parent / "template"
TITLES = {
    "compact": "our compact net",
    "compact_small": "compact, half as wide",
    "keras_example": "Keras example",
    "lenet5": "LeNet-5",
    "vgg": "VGG-style net",
    "micro": "micro net",
    "dynamic_int8": "dynamic int8",
    "int8": "full int8",
}
SETS = {"validation": "validation images", "pen": "pen digits"}


def use_style() -> None:
    """Set Matplotlib's defaults for the whole report. Called once, at the top of a notebook."""
    plt.style.use(TEMPLATE / "report.mplstyle")


# --- Tiles ----------------------------------------------------------------------------------------


def _framed(ax: Axes) -> None:
    """A thin frame, and no ticks."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#d1d5db", linewidth=0.6)


def ink(ax: Axes, image: np.ndarray, title: str = "") -> Axes:
    """One digit image, (28, 28[, 1]) in [0, 1], as a tile without ticks."""
    ax.imshow(np.squeeze(image), cmap="gray_r", vmin=0, vmax=1)
    _framed(ax)
    ax.set_title(title, fontsize=8, fontweight="normal", loc="center", pad=2)
    return ax


def strokes(ax: Axes, drawing: Sequence[np.ndarray]) -> Axes:
    """One pen digit on its tablet: strokes (n, 2), y downwards; a dot where each begins."""
    for i, stroke in enumerate(drawing):
        style = ("-", "--", ":")[i % 3]
        ax.plot(*stroke.T, color=PALETTE[i % 10], linestyle=style, linewidth=2)
        ax.plot(*stroke[0], "o", color=PALETTE[i % 10], markersize=4)
    ax.set(aspect="equal", xlim=(0, TABLET), ylim=(TABLET, 0))
    _framed(ax)
    return ax


def _tiles(n: int, columns: int, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of ``n`` tiles that lie close together, in rows of that height, and their axes."""
    rows = max(-(-n // columns), 1)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, rows * height), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0.02, wspace=0.02)
    for ax in axes.flat[n:]:
        ax.axis("off")
    return figure, axes.flat[:n]


def grid(images: np.ndarray, titles: Sequence[str] | None = None, columns: int = 10) -> Figure:
    """Digit tiles, (n, 28, 28[, 1]) in [0, 1], with n titles or none, ``columns`` in a row."""
    columns = min(columns, max(len(images), 1))
    height = WIDTH / columns + (0.04 if titles is None else 0.18)
    figure, axes = _tiles(len(images), columns, height)
    for i, ax in enumerate(axes):
        ink(ax, images[i], "" if titles is None else titles[i])
    return figure


def tile_rows(rows: Mapping[str, Sequence], columns: Sequence[str] = ()) -> Figure:
    """Named rows of as many tiles each, under n headings.

    rows: by name, images (n, 28, 28[, 1]) in [0, 1] or n pen drawings (tuples of strokes).
    """
    n = max(len(items) for items in rows.values())
    heading = 0.2 * (1 + columns[0].count("\n")) if len(columns) else 0
    height = 0.87 * WIDTH / n + 0.02 + heading / len(rows)
    figure, axes = _tiles(len(rows) * n, n, height)
    axes = axes.reshape(len(rows), n)
    for line, (name, items) in zip(axes, rows.items(), strict=True):
        for ax, item in zip(line, items, strict=True):
            (strokes if isinstance(item, tuple) else ink)(ax, item)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], columns, strict=False):
        ax.set_title(title, fontsize=9, loc="center", fontweight="normal")
    return figure


# --- The data -------------------------------------------------------------------------------------


def shapes(table: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """Distribution of each column of ``units`` (column to axis label) for each ``digit``.

    Outline: all images; dot: median; line: the middle nine tenths.
    """
    figure, axes = plt.subplots(1, len(units), figsize=(WIDTH, 4.4), sharey=True)
    look = {"orient": "h", "inner": None, "cut": 0, "density_norm": "width", "bw_method": 0.4}
    for ax, (column, label) in zip(axes, units.items(), strict=True):
        sns.violinplot(table, x=column, y="digit", ax=ax, color=PALETTE[5], alpha=0.6, **look)
        low, median, high = (table.groupby("digit")[column].quantile(q) for q in (0.05, 0.5, 0.95))
        ax.hlines(range(len(median)), low, high, color=ACCENT, linewidth=1.5)
        ax.plot(median, range(len(median)), "o", color="white", mec=ACCENT, markersize=5)
        ax.set(xlabel=label, xlim=np.nanpercentile(table[column], [0.1, 99.9]))
        ax.grid(axis="y", visible=False)
    return figure


def embedding(ax: Axes, points: np.ndarray, labels: np.ndarray, title: str = "") -> Axes:
    """A map of images: points (n, 2) drawn as their digits, a large numeral amid each class."""
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for digit in np.unique(labels):
        group, color = points[labels == digit], PALETTE[digit]
        look = {"linewidths": 0, "alpha": 0.7, "rasterized": True}
        ax.scatter(*group.T, s=13, marker=f"${digit}$", color=color, **look)
        numeral = {"fontsize": 17, "fontweight": "bold", "path_effects": halo, "zorder": 3}
        middle = np.median(group, axis=0)
        ax.text(*middle, str(digit), color=color, ha="center", va="center", **numeral)
    ax.set_title(title)
    _framed(ax)
    return ax


# --- Rates with their intervals -------------------------------------------------------------------


def interval(
    ax: Axes, x: Any, y: Any, low: Any, high: Any, *, across: bool = False, **look: Any
) -> Axes:
    """Points (n,) with bars from ``low`` to ``high``, along x where ``across``."""
    middle = np.asarray(x if across else y)
    spread = np.maximum([middle - low, high - middle], 0)  # an interval may miss it by rounding
    look = {"fmt": "o", "markersize": 5, "capsize": 2.5, "lw": 1.2} | look
    ax.errorbar(x, y, **{"xerr" if across else "yerr": spread}, **look)
    return ax


def baselines(ax: Axes, scores: Mapping[str, Mapping[str, dict]]) -> Axes:
    """Error rate with its 95% interval and count: a row a method, a marker a split."""
    splits = list(next(iter(scores.values())))
    for i, split in enumerate(splits):
        found = pd.DataFrame([one[split] for one in scores.values()])
        place = np.arange(len(found)) + 0.26 * (i - (len(splits) - 1) / 2)
        rate = 100 * (1 - found["accuracy"])
        high, low = 100 * (1 - np.array(found["interval"].to_list()).T)
        look: dict[str, Any] = {"fmt": MARKERS[i], "color": PALETTE[i], "label": split}
        interval(ax, rate, place, low, high, across=True, **look)
        for x, y, one in zip(high, place, found.itertuples(), strict=True):
            ax.text(x, y, f"  {one.errors:,} of {one.n:,}", va="center", fontsize=8)
    ax.set(yticks=range(len(scores)), yticklabels=scores, xlabel="error rate (%)")
    ax.set_xlim(0, 1.2 * ax.get_xlim()[1])  # room for the counts
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    ax.legend(loc="lower right")
    return ax


def group_errors(ax: Axes, table: pd.DataFrame, label: str) -> Axes:
    """Error rate, interval and count of each group (``evaluation.by_group``), the best first."""
    table = table.sort_values("accuracy", ascending=False)
    place, rate = np.arange(len(table)), 1 - table["accuracy"]
    interval(ax, place, rate, 1 - table["high"], 1 - table["low"], color=ACCENT)
    for x, y, errors in zip(place, rate, table["errors"], strict=True):
        ax.annotate(f"{errors:.0f}", (x, y), (6, 3), textcoords="offset points", fontsize=8)
    ax.set_xticks(place, table.index)
    ax.set(xlabel=label, ylabel="error rate")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return ax


# --- Training -------------------------------------------------------------------------------------


def curves(ax: Axes, history: pd.DataFrame, column: str, label: str) -> Axes:
    """Training and validation curve of ``column`` of a history."""
    epochs = history["epoch"]
    ax.plot(epochs, history[column], "o--", ms=3, color=MUTED, label="training (augmented)")
    ax.plot(epochs, history[f"val_{column}"], "o-", ms=3, color=ACCENT, label="validation")
    ax.set(xlabel="epoch", ylabel=label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return ax


def filters(kernel: np.ndarray, columns: int = 16) -> Figure:
    """The first layer's filters, (height, width, 1, n), on a map that is white at zero."""
    figure, axes = _tiles(kernel.shape[-1], columns, WIDTH / columns)
    for ax, weights in zip(axes, np.moveaxis(kernel[..., 0, :], -1, 0), strict=True):
        limit = np.abs(weights).max()
        ax.imshow(weights, cmap="PuOr", vmin=-limit, vmax=limit)
        ax.axis("off")
    return figure


# --- Evaluation -----------------------------------------------------------------------------------


def heat_map(ax: Axes, matrix: np.ndarray, title: str, text: str = "{:.0f}") -> Axes:
    """A confusion matrix (10, 10), its diagonal greyed: right answers would drown the errors."""
    known = np.nan_to_num(matrix)
    errors = known - np.diag(np.diag(known))
    words = np.vectorize(lambda value: text.format(value) if value > 0 else "")(errors)
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1.15 * (errors.max() or 1), "cbar": False}
    diagonal = np.eye(10, dtype=bool)
    sns.heatmap(errors, mask=diagonal, annot=words, fmt="", square=True, ax=ax, **look)
    ax.set_facecolor("#e5e7eb")
    for i, value in enumerate(np.diag(known)):
        word = text.format(value) if value > 0 else ""
        ax.text(i + 0.5, i + 0.5, word, ha="center", va="center", color=MUTED, fontsize=6.5)
    ax.set(xlabel="read as", ylabel="true digit", title=title)
    return ax


def error_gallery(images: np.ndarray, table: pd.DataFrame, columns: int = 8) -> Figure:
    """Wrong answers as tiles: true digit and index above, the two best guesses below.

    images: (n, 28, 28[, 1]), which ``evaluation.error_table`` indexes; label errors are marked.
    """
    figure, axes = _tiles(len(table), columns, WIDTH / columns + 0.32)
    for ax, error in zip(axes, table.to_dict("records"), strict=True):
        mark = " †" if error["known"] else ""
        ink(ax, images[error["index"]], f"is {error['label']}  (#{error['index']}){mark}")
        guesses = [f"{error[n]}: {percent(error[f'p {n}'])}" for n in ("first", "second")]
        color = "black" if error["p first"] < 0.9 else BAD
        ax.set_xlabel("  ".join(guesses), fontsize=7.2, labelpad=2, color=color)
        if error["known"]:
            ax.spines[:].set(color=PALETTE[1], linewidth=2)
    return figure


def percent(share: float) -> str:
    """A probability as a tile can show it: whole percent, never rounded to certainty.

    >>> percent(0.9997), percent(0.873), percent(0.0001)
    ('>99%', '87%', '<1%')
    """
    return ">99%" if share >= 0.995 else "<1%" if share < 0.005 else f"{share:.0%}"


def reliability(bins: Mapping[str, pd.DataFrame]) -> Figure:
    """Reliability diagrams (``reliability_bins``) side by side, the size of their bins below."""
    shared = {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": (3, 1)}
    figure, axes = plt.subplots(2, len(bins), figsize=(WIDTH, 4.6), **shared)
    for (title, table), (above, below) in zip(bins.items(), axes.T, strict=True):
        above.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
        slanted = {"rotation": 45, "transform_rotates_text": True, "rotation_mode": "anchor"}
        above.text(0.03, 0.06, "confidence is true", fontsize=8, color=MUTED, **slanted)
        rate, low, high = (table[f"accuracy{end}"] for end in ("", " low", " high"))
        interval(above, table["confidence"], rate, low, high, color=ACCENT, markersize=4.5)
        above.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), title=title)
        above.yaxis.set_major_formatter(PercentFormatter(1))
        width = table["high"] - table["low"]
        below.bar(table["low"], table["n"], width, align="edge", color=ACCENT, alpha=0.35)
        for middle, n in zip(table["low"] + width / 2, table["n"], strict=True):
            below.text(middle, n * 1.3, f"{n:.0f}", ha="center", fontsize=6.5)
        below.set(xlabel="confidence", yscale="log", ylim=(0.7, 30 * table["n"].max()))
        below.xaxis.set_major_formatter(PercentFormatter(1))
    figure.get_layout_engine().set(wspace=0.06)
    axes[0, 0].set_ylabel("share of right answers")
    axes[1, 0].set_ylabel("samples")
    return figure


def risk_coverage(
    ax: Axes,
    curves: Mapping[str, pd.DataFrame],
    points: Mapping[str, tuple[float, float]],
    least: float = 0.5,
    mark: str = "the app",
) -> Axes:
    """Share of wrong answers against share of answers (``evaluation.risk_coverage``).

    points: for each curve the (coverage, risk) of what is answered, with ``mark`` beside it;
    least: the smallest coverage shown, since the first few answers make a noisy curve.
    """
    for i, (name, curve) in enumerate(curves.items()):
        shown, color = curve[curve["coverage"] >= least], PALETTE[i]
        ax.plot(shown["coverage"], shown["risk"], color=color, ls=("-", "--")[i % 2], label=name)
        ax.plot(*points[name], "o", color=color, markersize=7, markeredgecolor="white")
        beside = {"xytext": (-8, 10), "textcoords": "offset points", "ha": "right"}
        ax.annotate(mark, points[name], fontsize=8, color=color, **beside)
    ax.set(xlabel="coverage: share of samples that are answered", xlim=(least, 1.005))
    ax.set(ylabel="risk: share of answers that are wrong", ylim=(0, None))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    if len(curves) > 1:
        ax.legend(loc="upper left")
    return ax


def robustness(
    tables: Mapping[str, pd.DataFrame],
    corruptions: Sequence[Corruption],
    examples: Mapping[str, np.ndarray],
) -> Figure:
    """Accuracy with its 95% interval by severity of each corruption, under a strip of examples.

    tables: by a curve's name, of ``evaluation.robustness``; examples: by a corruption's name, one
    digit at each severity, (severities, 28, 28).
    """
    rows = -(-(len(corruptions) + 1) // 2)  # and one place for the legend
    figure = plt.figure(figsize=(WIDTH, 2.75 * rows))
    panels = figure.subfigures(rows, 2).flat
    for panel, corruption in zip(panels, corruptions, strict=False):
        place = np.arange(len(corruption.severities))
        mosaic = [[f"tile {i}" for i in place], ["curve"] * len(place)]
        axes = panel.subplot_mosaic(mosaic, height_ratios=(1, 2.6))
        for i, image in enumerate(examples[corruption.name]):
            ink(axes[f"tile {i}"], image)
        ax = axes["curve"]  # each point stands below its example
        for (name, table), color, marker in zip(tables.items(), PALETTE, MARKERS, strict=False):
            some = table[table["corruption"] == corruption.name]
            ax.fill_between(place, some["low"], some["high"], color=color, alpha=0.2, lw=0)
            ax.plot(place, some["accuracy"], marker=marker, ms=4, color=color, label=name)
        ax.set_xticks(place, [f"{one:g}".replace("-", "−") for one in corruption.severities])
        ax.set(xlim=(-0.5, len(place) - 0.5), ylim=(0, 1.04))
        ax.set(xlabel=corruption.label, ylabel="accuracy")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    panels[len(corruptions)].legend(*ax.get_legend_handles_labels(), loc="center", fontsize=10)
    return figure


# --- Figures that answer a pointer, a finger or a key: HTML and CSS, for ``Run.figure`` -----------


def live_confusion(counts: np.ndarray, images: np.ndarray, errors: pd.DataFrame, name: str) -> str:
    """A confusion matrix whose cells show their images: pointed at, tapped or by arrow keys.

    counts: (10, 10), row = true digit; images and errors as in ``error_gallery``; name: unique in a
    report. The largest confusion is open.
    """
    cells = errors.groupby(["label", "first"])
    behind = {key: _tile_data(images, some.head(MOST)) for key, some in cells}
    wrong = counts - np.diag(np.diag(counts))
    opened = divmod(int(wrong.argmax()), len(wrong))
    values = {"largest": int(wrong.max()), "opened": opened, "behind": behind, "most": MOST}
    return _live("confusion", counts=counts.tolist(), name=name, **values)


def live_gallery(images: np.ndarray, errors: pd.DataFrame, name: str) -> str:
    """Every wrong answer as a tile, with a filter by true digit; arguments as above."""
    return _live("gallery", shown=_tile_data(images, errors), name=name)


def _tile_data(images: np.ndarray, errors: pd.DataFrame) -> list[dict]:
    """Each error with its image as a data address, dark ink on white, for the template."""
    tiles = []
    for error in errors.to_dict("records"):
        pixels = np.round(255 * (1 - np.squeeze(images[error["index"]]))).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        tiles.append(error | {"png": base64.b64encode(buffer.getvalue()).decode()})
    return tiles


def _live(kind: str, **values: Any) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATE)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["percent"] = percent
    return environment.get_template("live.html.j2").render(kind=kind, **values)


# --- Networks and recipes -------------------------------------------------------------------------


def title(name: str) -> str:
    """What tables and figures call a network or a file: "tiny net, int8" for "tiny_int8"."""
    plain = name.removesuffix("_int8")
    if name in TITLES or plain not in TITLES:
        return TITLES.get(name, name)
    return f"{TITLES[plain]}, int8"


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

    Colour: network; marker: kind of numbers in the file; thin lines: 95% intervals; hollow: size
    after gzip where that saves a third or more; limit: the lowest accuracy allowed.
    """
    of_reference = ("float32", "float16", "dynamic_int8", "int8")
    network = ["" if name in of_reference else name.removesuffix("_int8") for name in table.index]
    networks = list(dict.fromkeys(network))
    marker = {"float16": "s", "dynamic_int8": "D"}
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


# --- Searches; ``trials`` is their ``search.table`` -----------------------------------------------


def searches(ax: Axes, found: Mapping[str, pd.DataFrame], reference: float) -> Axes:
    """The best accuracy so far of each search against what was spent, and one to beat."""
    for i, (name, trials) in enumerate(found.items()):
        spent = trials["cost"].fillna(0).cumsum() / 1e12
        ax.step(spent, trials["best"], where="post", color=PALETTE[i], label=name)
        done = trials["state"] == "complete"
        ax.plot(spent[done], trials.loc[done, "accuracy"], ".", color=PALETTE[i], alpha=0.4)
    ax.axhline(reference, color="black", linewidth=1, linestyle="--")
    ax.set(xlabel="cost (10¹² multiply-accumulates)", ylabel="validation accuracy")
    top = max([reference, *(trials["best"].max() for trials in found.values())])
    ax.set_ylim(reference - 0.02, top + 0.003)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right")
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

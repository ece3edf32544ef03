"""What a notebook calls: its run's folder, the numbers that it records, what it shows."""

import base64
import ctypes
import html
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from filelock import FileLock
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from digits import files
from digits.files import FULL_SIZE, RunError, check_name, read_json, write_json

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_CAPTION = (
    "font-size:0.92em;color:#4b5563;max-width:46rem;margin:0.35rem auto 0;"
    "text-align:left;caption-side:bottom"
)


def _kilo(size: float) -> str:
    return f"{size / 1000:,.0f}"


# Columns that several tables have: heading and format.
COLUMNS: dict[str, tuple[str, str | Callable]] = {
    "parameters": ("parameters", "{:,}"),
    "macs": ("MACs", "{:,}"),
    "seconds": ("seconds", "{:.0f}"),
    "passes": ("passes", "{:.0f}"),
    "bytes": ("kB", _kilo),
    "gzip_bytes": ("kB, gzip", _kilo),
    "latency_ms_median": ("ms", "{:.3f}"),
    "latency_ms_p95": ("ms, p95", "{:.3f}"),
    "refused": ("refused", "{:.1%}"),
    "ece": ("calibration error", "{:.2%}"),
    "chance": ("by chance", "{:.2%}"),
    "nll": ("likelihood loss", "{:.4f}"),
    "trials": ("trials", "{:.0f}"),
    "stopped": ("stopped early", "{:.0f}"),
    "learning_rate": ("learning rate", "{:.2g}"),
    "batch_size": ("batch size", "{:.0f}"),
    "weight_decay": ("weight decay", "{:.2g}"),
    "dropout": ("dropout", "{:.2f}"),
    "width": ("width", "{:.0f}"),
    "augmentation": ("augmentation", "{:.2f}"),
}
for _set in ("validation", "pen", "test", "pen_test"):
    _name = _set.replace("_", " ")
    COLUMNS[f"{_set}_errors"] = (f"{_name} errors", "{:.0f}")
    COLUMNS |= {f"{_set}_{key}": (f"{_name} {key}", "{:.2%}") for key in ("accuracy", "mean")}
    COLUMNS[f"{_set}_std"] = (f"{_name} ±", "{:.2%}")


def plain(value: Any) -> Any:
    """``value`` in JSON's types; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"metrics hold numbers, text, lists and dicts, not {type(value).__name__}")


@dataclass(frozen=True)
class Run:
    """One run's folder, opened by one notebook.

    Figures and tables are numbered as they are first shown; shown again, each keeps its number.
    """

    path: Path  # outputs/<run>
    notebook: str  # its file's name, which begins with the chapter's number
    _names: dict = field(default_factory=dict, repr=False)

    @property
    def data(self) -> Path:
        """The four ``.npy`` files."""
        return self.path / "data"

    @property
    def models(self) -> Path:
        """Saved models and the calibration that belongs to them."""
        return self.path / "models"

    @property
    def metrics(self) -> dict:
        """Everything recorded so far, keyed by notebook."""
        return read_json(self.path / "metrics.json")

    @property
    def is_mnist(self) -> bool:
        """True when the run's data is MNIST, of whatever size."""
        return dataset(self.metrics).get("name") == "mnist"

    @property
    def full_size(self) -> bool:
        """True with more than 50,000 training images of MNIST: claims can be held to such a run."""
        return self.is_mnist and dataset(self.metrics).get("n_train", 0) > FULL_SIZE

    def record(self, **values: Any) -> None:
        """Put ``values`` into ``metrics.json`` under this notebook's name, for older ones."""
        self._update(lambda chapter: chapter.update(plain(values)))

    def headline(
        self, label: str, value: float, text: str, detail: str = "", tolerance: float | None = None
    ) -> None:
        """Record one number of the first page, which ``--check`` compares with the published one.

        A value that is not defined (NaN) is not recorded. text: its format, such as "{:.2%}".
        detail: a sentence that makes it readable: counts, interval, conditions. tolerance: how far
        the same run on another machine may be from it; None for any.
        """
        if not math.isnan(value):
            entry = {"value": value, "text": text.format(value), "detail": detail}
            self._list("headlines", {"label": label, **entry, "tolerance": tolerance})

    def aim(
        self,
        label: str,
        value: float | dict,
        text: str,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Record what was to be reached, one of the bounds, and what was.

        value: a number, or the ``mean`` and ``std`` over ``n`` seeds. text: its and the bound's
        format, such as "{:.1%}".
        """
        seeds = value if isinstance(value, dict) else {}
        mean = seeds.get("mean", value)
        bound = at_most if at_least is None else at_least
        spread = f" ± {text.format(seeds['std'])}" if seeds else ""
        entry = {
            "value": mean,
            "seeds": seeds.get("n"),
            "bound": bound,
            "reached": mean <= bound if at_least is None else mean >= bound,
            "text": text.format(mean) + spread,
            "goal": f"at {'most' if at_least is None else 'least'} {text.format(bound)}",
        }
        self._list("aims", {"label": label, **entry})

    def require(self, relative: str, made_by: str) -> Path:
        """The path of a file of an earlier notebook; RunError names that one when it is missing."""
        path = self.path / relative
        if not path.exists():
            raise RunError(
                f"{relative} is missing in the run {self.path.name!r}. Run {made_by}.ipynb with "
                "the same run_name first, or everything with ./run_all.sh."
            )
        return path

    def figure(self, figure: Figure, name: str, caption: str, alt: str, live: str = "") -> None:
        """Show ``figure``, on a screen ``live`` (HTML), with number, caption, ``alt``; keep it."""
        if not alt.strip():
            raise ValueError(f"the figure {name!r} has no alternative text")
        label, png = self._label("Figure", name), figure_png(figure)
        display(_Element(figure_html(png, label, caption, alt, live), f"{label}. {caption}"))
        (self.path / "figures" / f"{self.notebook}-{name}.png").write_bytes(png)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        columns: Sequence[str] | Mapping[str, str | Callable] = (),
    ) -> None:
        """Show ``frame`` with the number that belongs to ``name``, and a caption.

        columns: those of ``COLUMNS`` to show, with their headings and formats; or formats by
        heading, and all are shown. An index without a name is not shown.
        """
        label = self._label("Table", name)
        shown, formats = frame, columns
        if not isinstance(columns, Mapping):
            known = {column: COLUMNS[column] for column in columns}
            shown = frame[list(known)] if known else frame
            shown = shown.rename(columns={column: one[0] for column, one in known.items()})
            formats = dict(known.values())
        if frame.index.name and frame.columns.name is None:  # else pandas gives it a row of its own
            shown = shown.rename_axis(index=None, columns=frame.index.name)
        styler = shown.style.format(formats, na_rep="–")
        styler.set_table_attributes('class="digits-table"')
        styler.set_caption(f"<strong>{label}.</strong> {html.escape(caption)}")
        styler.set_table_styles([{"selector": "caption", "props": _CAPTION}])
        if frame.index.name is None:
            styler.hide(axis="index")
        display(_Element(styler.to_html(), f"{label}. {caption}\n{frame.to_string()}"))

    def _update(self, change: Callable[[dict], object]) -> None:
        """Change this notebook's part of ``metrics.json``; two notebooks at once lose nothing."""
        with FileLock(self.path / ".metrics.lock"):
            metrics = self.metrics
            change(metrics.setdefault(self.notebook, {}))
            write_json(self.path / "metrics.json", metrics)

    def _list(self, name: str, entry: dict) -> None:
        """Put ``entry`` into a list in the place of the one with its label, else at its end."""

        def change(chapter: dict) -> None:
            entries = {one["label"]: one for one in chapter.get(name, [])}
            chapter[name] = list((entries | {entry["label"]: plain(entry)}).values())

        self._update(change)

    def _label(self, kind: str, name: str) -> str:
        """'Figure 3.2': the chapter is the notebook's number."""
        names = self._names.setdefault(kind, [])
        if name not in names:
            names.append(name)
        return f"{kind} {int(self.notebook[:2])}.{names.index(name) + 1}"


def open_run(name: str, notebook: str) -> Run:
    """Open ``outputs/<name>/``, made when missing, for ``notebook`` (its file's name)."""
    check_name(name)
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", notebook):
        raise RunError(f"{notebook!r} is no notebook's name: two digits, '_', small letters.")
    if files.is_reference(name):
        raise RunError(f"The published run {name!r} is read-only; choose another run_name.")
    die_with_runner()
    path = files.OUTPUTS / name
    for folder in ("data", "figures", "models"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    return Run(path, notebook)


def dataset(metrics: dict) -> dict:
    """What a notebook recorded as ``dataset``: name, source, hashes, n_train; {} for none."""
    return next((one["dataset"] for one in metrics.values() if "dataset" in one), {})


def runner() -> int:
    """The process id of the runner that this kernel works for; 0 when a person works here."""
    return int(os.environ.get("DIGITS_RUNNER") or 0)


def die_with_runner() -> None:
    """Let Linux end this kernel with its runner, at once: nobody else may write into a run."""
    if runner() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        try:
            os.kill(runner(), 0)  # it may have died before the line above took effect
        except ProcessLookupError:
            raise RunError("This notebook's runner is gone; nothing is written.") from None


class _Element(HTML):
    """HTML for a browser, its caption for a terminal or a text-only reader."""

    def __init__(self, data: str, text: str):
        super().__init__(data)
        self.text = text

    def __repr__(self) -> str:
        return self.text


def say(text: str) -> None:
    """Show a Markdown sentence whose numbers were just computed."""
    display(Markdown(text))


def figure_png(figure: Figure) -> bytes:
    """Render and close ``figure``; without the software's version: equal figures, equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def figure_html(png: bytes, label: str, caption: str, alt: str, live: str = "") -> str:
    """A self-contained ``<figure>``; on a screen, ``live`` stands in the place of the PNG."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure class="digits-figure{" digits-live" if live else ""}" '
        f'style="margin:1rem 0;text-align:center">{live}'
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        f'style="max-width:100%;height:auto;background:#fff">'
        f'<figcaption style="{_CAPTION}"><strong>{label}.</strong> {html.escape(caption)}'
        "</figcaption></figure>"
    )


def slider(
    draw: Callable[[float], tuple[Figure, str]],
    name: str,
    low: float,
    high: float,
    step: float,
    start: float,
    alt: str,
) -> ipywidgets.interactive | None:
    """A slider over the figure that follows it; meant as a cell's last expression.

    draw: from the value to a figure and a sentence about it; alt: for who does not see it. Under
    the runner this is None and nothing is drawn: a report shows what stands beside it.
    """
    if runner():
        return None

    def show(value: float) -> None:
        figure, sentence = draw(value)
        display(HTML(figure_html(figure_png(figure), f"{name} {value:g}", sentence, alt)))

    wide, label = ipywidgets.Layout(width="min(46rem, 100%)"), {"description_width": "initial"}
    start = min(max(start, low), high)
    handle = ipywidgets.FloatSlider(start, min=low, max=high, step=step, layout=wide, style=label)
    handle.description, handle.continuous_update = name, False  # drawn when the handle rests
    return ipywidgets.interactive(show, value=handle)

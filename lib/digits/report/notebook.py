"""A run's folder as notebooks see it: its files, the numbers recorded in it, its figures and tables."""

import ctypes
import math
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from digits import files as paths
from digits.files import FULL_SIZE, RunError, check_name, read_json, write_json
from digits.report import show

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_NOTEBOOK = re.compile(r"(\d\d)_[a-z0-9_]+")


def plain(value: Any) -> Any:
    """``value`` in JSON's types: NumPy scalars, arrays and tuples converted; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"metrics hold numbers, text, lists and dicts, not {type(value).__name__}")


@dataclass(frozen=True)
class Run:
    """One run's folder, opened by one notebook.

    Figures and tables are numbered in the order in which they are first shown; showing one again keeps its number.
    """

    path: Path  # outputs/<run>
    notebook: str  # such as "03_evaluation"
    _numbers: dict = field(default_factory=dict, repr=False)

    @property
    def data(self) -> Path:
        """The four ``.npy`` files."""
        return self._folder("data")

    @property
    def models(self) -> Path:
        """Saved models and the calibration that belongs to them."""
        return self._folder("models")

    @property
    def figures(self) -> Path:
        """Every figure of the report as PNG."""
        return self._folder("figures")

    @property
    def metrics(self) -> dict:
        """Everything recorded so far, keyed by notebook."""
        return read_json(self.path / "metrics.json")

    @property
    def full_size(self) -> bool:
        """True when 01_eda saved the real MNIST with more than 50,000 training images: claims can be held to it."""
        dataset = self.metrics.get("01_eda", {}).get("dataset", {})
        return dataset.get("name") == "mnist" and dataset.get("n_train", 0) > FULL_SIZE

    def record(self, **values: Any) -> None:
        """Put ``values`` into ``metrics.json`` under this notebook's name; a key recorded before is replaced."""
        metrics = self.metrics
        metrics.setdefault(self.notebook, {}).update(plain(values))
        write_json(self.path / "metrics.json", metrics)

    def require(self, relative: str, made_by: str) -> Path:
        """The path of a file that an earlier notebook writes; RunError naming that notebook when it is missing."""
        path = self.path / relative
        if not path.exists():
            raise RunError(
                f"{relative} is missing in the run {self.path.name!r}. Run notebooks/{made_by}.ipynb with "
                "the same run_name first, or everything with ./run_all.sh."
            )
        return path

    def figure(self, figure: Figure, name: str, caption: str, alt: str, live: str = "") -> None:
        """Show ``figure`` with its number, caption and alternative text; keep it in ``figures/`` under ``name``.

        live: an exhibit (``digits.report.exhibits``) that is shown on a screen instead.
        """
        if not alt.strip():
            raise ValueError(f"the figure {name!r} has no alternative text")
        png = show.show_figure(figure, self._label("Figure", name), caption, alt, live)
        (self.figures / f"{self.notebook}-{name}.png").write_bytes(png)

    def table(self, frame: pd.DataFrame, caption: str, formats: dict | None = None) -> None:
        """Show ``frame`` with its number and caption; ``formats`` as in ``show.show_table``."""
        show.show_table(frame, self._label("Table", caption), caption, formats)

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _label(self, kind: str, name: str) -> str:
        """'Figure 3.2': the chapter is the notebook's number."""
        names = self._numbers.setdefault(kind, [])
        if name not in names:
            names.append(name)
        return f"{kind} {int(self.notebook[:2])}.{names.index(name) + 1}"


def runner() -> int:
    """The process id of the runner that this kernel works for; 0 when a person works with the notebook."""
    return int(os.environ.get("DIGITS_RUNNER") or 0)


def die_with_runner() -> None:
    """Under the runner, end this kernel with it: a killed runner must leave nobody writing into a run's folder.

    Linux does it at once, even in the middle of a long computation; elsewhere ipykernel notices within a second.
    """
    if runner() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        try:
            os.kill(runner(), 0)  # it may have died before the line above took effect
        except ProcessLookupError:
            raise RunError(
                "The runner that started this notebook is gone; nothing is written."
            ) from None


def open_run(name: str, notebook: str) -> Run:
    """Open ``outputs/<name>/`` for ``notebook`` (such as "03_evaluation"), creating the folder when it is missing."""
    check_name(name)
    if not _NOTEBOOK.fullmatch(notebook):
        raise RunError(f"{notebook!r} is no notebook's name: it looks like '03_evaluation'.")
    if paths.is_reference(name):
        raise RunError(f"The published run {name!r} is read-only; choose another run_name.")
    die_with_runner()
    path = paths.OUTPUTS / name
    path.mkdir(parents=True, exist_ok=True)
    return Run(path, notebook)

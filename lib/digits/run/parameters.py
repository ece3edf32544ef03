"""The notebooks' parameters: what each one has, what a profile changes, what the command line asks for.

Everything here is checked before anything runs. Standard library only, so that it works before the environment is made.
"""

import ast
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.files import RunError

DATASETS = ("auto", "mnist", "digits")
RESERVED = "run_name"  # set by the runner itself
APP = "05"  # the notebook that Voila serves; no part of a run
# What a profile changes; "standard" is what the notebooks say.
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "01_eda": {
            "train_size": 10_000,
            "shape_size": 1_000,
            "embedding_size": 600,
            "neighbours_size": 2_000,
            "baseline_train_size": 4_000,
            "pen_size": 300,
        },
        "02_training": {"epochs": 5, "batch_size": 32},
        "03_evaluation": {"robustness_size": 200, "non_digits_each": 5},
        "04_optimization": {
            "development_digits": 200,
            "networks": ["keras_example", "micro"],
            "architecture_train_size": 1_500,
            "architecture_epochs": 2,
            "ablation_network": "keras_example",
            "ablation_changes": ["no augmentation at all"],
            "ablation_train_size": 1_000,
            "ablation_epochs": 2,
            "search_trials": 2,
            "search_random_trials": 1,
            "search_train_size": 500,
            "search_epochs": 2,
            "calibration_images": 100,
            "mending_train_size": 500,
            "sparsities": [0.9],
            "channel_shares": [0.5],
            "students": ["micro"],
            "distillation_train_size": 1_500,
            "distillation_epochs": 2,
            "latency_runs": 100,
            "rounding_tolerance": 1.0,
        },
    },
    "standard": {},
    "full": {
        "01_eda": {
            "shape_size": 55_000,
            "embedding_size": 10_000,
            "neighbours_size": 55_000,
            "pen_size": 7_494,
        },
        "02_training": {"epochs": 60, "patience": 20},
        "03_evaluation": {"robustness_size": 10_000, "non_digits_each": 200},
        "04_optimization": {
            "development_digits": 7_494,
            "architecture_train_size": 55_000,
            "architecture_epochs": 12,
            "ablation_changes": [],
            "ablation_train_size": 20_000,
            "ablation_epochs": 10,
            "ablation_seeds": 3,
            "search_trials": 100,
            "search_random_trials": 40,
            "search_train_size": 20_000,
            "search_epochs": 5,
            "mending_train_size": 0,
            "mending_epochs": 8,
            "channel_shares": [0.75, 0.6, 0.5, 0.35],
            "distillation_train_size": 0,
            "distillation_epochs": 60,
            "latency_runs": 5_000,
        },
    },
}


@dataclass(frozen=True)
class Notebook:
    """One numbered notebook as the runner sees it."""

    path: Path  # notebooks/02_training.ipynb
    title: str  # its first heading
    defaults: dict[str, Any]  # its parameters cell

    @property
    def name(self) -> str:
        """'02_training'"""
        return self.path.stem

    @property
    def number(self) -> str:
        """'02'"""
        return self.path.stem[:2]


def find_notebooks(folder: Path) -> list[Notebook]:
    """The numbered notebooks of ``folder`` in order, but for the app."""
    paths = sorted(path for path in folder.glob("[0-9][0-9]_*.ipynb") if path.name[:2] != APP)
    if not paths:
        raise RunError(f"No numbered notebooks in {folder.name}/.")
    numbers = [path.name[:2] for path in paths]
    if len(set(numbers)) < len(numbers):
        raise RunError(
            f"Two notebooks in {folder.name}/ have the same number: {', '.join(p.name for p in paths)}."
        )
    return [read_notebook(path) for path in paths]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's title and the literal defaults of its one cell tagged ``parameters``."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path.name} cannot be read as a notebook ({type(error).__name__}: {error})."
        ) from None
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise RunError(
            f"{path.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one."
        )
    defaults = read_literals("".join(tagged[0]["source"]), path.name)
    if RESERVED not in defaults:
        raise RunError(f"{path.name} has no parameter {RESERVED!r}.")
    return Notebook(path, _title(cells) or path.stem, defaults)


def read_literals(source: str, where: str) -> dict[str, Any]:
    """The assignments of a parameters cell as a dict; RunError for anything but ``name = literal``.

    >>> read_literals("epochs = 20  # twice round", "02_training")
    {'epochs': 20}
    """
    values = {}
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise RunError(f"{where}: the parameters cell is no Python ({error}).") from None
    for statement in statements:
        if not (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            raise RunError(
                f"{where}: the parameters cell holds more than plain assignments (line {statement.lineno})."
            )
        name = statement.targets[0].id
        try:
            values[name] = ast.literal_eval(statement.value)
        except (ValueError, TypeError):
            raise RunError(f"{where}: the parameter {name!r} is not a plain literal.") from None
    return values


def position(notebooks: list[Notebook], number: str) -> int:
    """The index of notebook ``number``, written as 3, 03 or 03_evaluation."""
    for index, notebook in enumerate(notebooks):
        if number.rjust(2, "0") == notebook.number or number == notebook.name:
            return index
    raise RunError(
        f"--from {number}: choose among {', '.join(notebook.number for notebook in notebooks)}."
    )


def effective(
    notebooks: list[Notebook],
    profile: str,
    settings: list[str],
    dataset: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Every parameter of every notebook: its default, else the profile's value, else what ``settings`` ask for.

    settings: "PARAM=VALUE" (every notebook that has it) or "NOTEBOOK.PARAM=VALUE". RunError names what is unknown or
    of the wrong type.
    """
    values = {notebook.name: dict(notebook.defaults) for notebook in notebooks}
    for name, changes in PROFILES[profile].items():
        for parameter, value in changes.items():
            where = f"the profile {profile!r}"
            _set(values, _known_notebook(notebooks, name, where), parameter, value, where)
    if dataset:
        settings = [f"dataset={dataset}", *settings]
    for setting in settings:
        _apply(notebooks, values, setting)
    return values


def _apply(notebooks: list[Notebook], values: dict, setting: str) -> None:
    """Apply one ``--set`` value to ``values``."""
    target, equals, text = setting.partition("=")
    name, dot, parameter = target.strip().rpartition(".")
    if not equals or not parameter:
        raise RunError(f"--set {setting}: write NOTEBOOK.PARAM=VALUE or PARAM=VALUE.")
    where = f"--set {setting}"
    if parameter == RESERVED:
        raise RunError(f"{where}: the folder's name is given by --run.")
    chosen = (
        [_known_notebook(notebooks, name, where)]
        if dot
        else [notebook for notebook in notebooks if parameter in notebook.defaults]
    )
    if not chosen:
        known = sorted({key for notebook in notebooks for key in notebook.defaults} - {RESERVED})
        raise RunError(
            f"{where}: no notebook has the parameter {parameter!r}. Known: {', '.join(known)}."
        )
    for notebook in chosen:
        _set(values, notebook, parameter, _parse(text, notebook.defaults.get(parameter)), where)


def _known_notebook(notebooks: list[Notebook], name: str, where: str) -> Notebook:
    """The notebook called ``name``: '02_training' or '02'."""
    for notebook in notebooks:
        if name in (notebook.name, notebook.number):
            return notebook
    raise RunError(
        f"{where}: there is no notebook {name!r}. Known: {', '.join(n.name for n in notebooks)}."
    )


def _set(values: dict, notebook: Notebook, parameter: str, value: Any, where: str) -> None:
    """Put a checked value into ``values``."""
    if parameter not in notebook.defaults:
        known = ", ".join(key for key in notebook.defaults if key != RESERVED)
        raise RunError(f"{where}: {notebook.name} has no parameter {parameter!r}. Known: {known}.")
    if parameter == "dataset" and value not in DATASETS:
        raise RunError(f"{where}: dataset is one of {', '.join(DATASETS)}.")
    values[notebook.name][parameter] = _typed(value, notebook.defaults[parameter], parameter, where)


def _parse(text: str, default: Any) -> Any:
    """The value that ``text`` spells, read as ``default``'s type suggests: text stays text."""
    text = text.strip()
    if isinstance(default, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (
        ValueError,
        TypeError,
        SyntaxError,
        MemoryError,
        RecursionError,
    ):  # as ast.literal_eval says of itself
        return text
    return text if isinstance(default, str) and not isinstance(value, str) else value


def _typed(value: Any, default: Any, parameter: str, where: str) -> Any:
    """``value`` when it has the type of ``default`` (a whole number will do for a float), else RunError."""
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise RunError(f"{where}: {parameter!r} has to be finite.")
    if default is None or type(value) is type(default):
        return value
    raise RunError(
        f"{where}: {parameter!r} is of type {type(default).__name__} (default {default!r}), "
        f"not {type(value).__name__} ({value!r})."
    )


def _title(cells: list[dict]) -> str:
    """The first heading's text."""
    for cell in cells:
        for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown" else ():
            if line.startswith("#"):
                return line.lstrip("#").strip()
    return ""

"""Repeat a run from its ``run.json`` alone: read it, ask for the same again, say what is different here.

Standard library only, but for ``check_data``.
"""

from argparse import Namespace
from pathlib import Path

from digits.files import RunError, read_json, sha256
from digits.run import causes, parameters
from digits.run.comparison import Evidence
from digits.run.parameters import Notebook

_NEEDED = {
    "schema": int,
    "profile": str,
    "parameters": dict,
    "dataset": dict,
    "stages": list,
    "files": dict,
}


def read(path: Path) -> Evidence:
    """A finished run's record, with its metrics when they lie beside it; RunError when the file is no such record."""
    path = path / "run.json" if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"--repeat: there is no file {path}.")
    try:
        record = read_json(path)
    except RunError:
        raise RunError(f"--repeat: {path} is damaged: it holds no JSON object.") from None
    if wrong := [key for key, kind in _NEEDED.items() if not isinstance(record.get(key), kind)]:
        raise RunError(
            f"--repeat: {path} is no run.json of this project (without {', '.join(wrong)})."
        )
    if record.get("status") != "finished":
        raise RunError(
            f"--repeat: that run did not finish ({record.get('status')}); there is nothing to compare with."
        )
    metrics = path.with_name("metrics.json")
    recorded = record["files"].get("metrics.json", {}).get("sha256")
    beside = metrics.is_file() and sha256(metrics) == recorded
    return Evidence(path.name, record, read_json(metrics) if beside else None)


def ask(options: Namespace, record: dict, notebooks: list[Notebook]) -> Namespace:
    """``options`` for the recorded profile, data and every recorded parameter; RunError when they do not exist here."""
    if record["profile"] not in parameters.PROFILES:
        raise RunError(f"--repeat: there is no profile {record['profile']!r} here.")
    here = parameters.effective(notebooks, record["profile"], [])
    missing = [
        f"{notebook}.{key}"
        for notebook, values in record["parameters"].items()
        for key in values
        if key not in here.get(notebook, {})
    ]
    missing += [notebook for notebook in here if notebook not in record["parameters"]]
    if missing:
        raise RunError(
            f"--repeat: this code does not have the same notebooks and parameters ({', '.join(missing)}). "
            f"Check out the commit of that run: {record.get('code', {}).get('commit')}."
        )
    settings = [
        f"{notebook}.{key}={value!r}"
        for notebook, values in record["parameters"].items()
        for key, value in values.items()
        if key not in (parameters.RESERVED, "dataset") and value != here[notebook][key]
    ]
    # by the name of what was used: the stand-in must not step in for MNIST, nor MNIST for the stand-in
    dataset = record["dataset"].get("name")
    parameters.effective(
        notebooks, record["profile"], settings, dataset
    )  # RunError for a value of the wrong type
    return Namespace(
        **vars(options) | {"profile": record["profile"], "dataset": dataset, "settings": settings}
    )


def new_here(record: dict, notebooks: list[Notebook]) -> list[str]:
    """The parameters that the recorded run did not know; they keep their defaults."""
    return [
        f"{notebook.name}.{key} = {value!r}"
        for notebook in notebooks
        for key, value in notebook.defaults.items()
        if key not in record["parameters"].get(notebook.name, {})
    ]


def check_data(record: dict) -> None:
    """RunError when the recorded data cannot be had here or are others: a repetition could not come out the same."""
    from digits import data

    wanted, name = record["dataset"].get("hashes") or {}, record["dataset"].get("name")
    try:
        found = data.load(name).hashes
    except data.DataError as error:
        raise RunError(f"--repeat: the data of that run cannot be had here. {error}") from None
    if other := causes.changes(wanted, found):
        raise RunError(f"--repeat: the data here are not those of that run ({'; '.join(other)}).")

"""Continue a run at a later notebook, after checking that what the earlier ones wrote is what that run recorded."""

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from digits.files import RunError, read_json, sha256, sha256_json, write_json
from digits.run import parameters
from digits.run.folders import Place, read_record
from digits.run.parameters import Notebook

_SHOWN = 12  # differences listed before "and n more"


def source(place: Place) -> Path:
    """The folder to continue: the failed run when it is newer than the good one, else the good one."""
    found = [
        (read_record(folder).get("started") or "", folder)
        for folder in (place.final, place.failed)
        if read_record(folder)
    ]
    if not found:
        raise RunError(f"--from: there is no run {place.name!r} to continue.")
    return max(found)[1]


def fill_in(options: Namespace, record: dict) -> Namespace:
    """``options`` with what was not asked for taken from the recorded run."""
    dataset = record.get("dataset", {})
    same = options.dataset in (None, dataset.get("requested"), dataset.get("name"))
    return Namespace(
        **vars(options)
        | {
            "profile": options.profile or record.get("profile"),
            "dataset": dataset.get("requested") if same else options.dataset,
            "settings": [*record.get("settings", []), *options.settings],
        }
    )


def check(
    folder: Path, record: dict, options: Namespace, notebooks: list[Notebook], first: int
) -> None:
    """RunError that lists every difference between the recorded run and what is there or asked for now."""
    if options.profile != record.get("profile"):
        raise RunError(
            f"--from: that run has the profile {record.get('profile')!r}, not {options.profile!r}."
        )
    stages = {stage["notebook"]: stage for stage in record.get("stages", [])}
    values = parameters.effective(notebooks, options.profile, options.settings, options.dataset)
    metrics = read_json(folder / "metrics.json")
    differences = []
    for notebook in notebooks[:first]:
        stage = stages.get(notebook.name, {})
        if stage.get("status") != "finished":
            differences.append(f"{notebook.name} did not finish")
            continue
        recorded = record.get("parameters", {}).get(notebook.name, {})
        differences += _parameters(notebook.name, recorded, values[notebook.name])
        if sha256_json(metrics.get(notebook.name)) != stage.get("metrics_sha256"):
            differences.append(
                f"metrics.json: the numbers of {notebook.name} are not the recorded ones"
            )
    differences += _files(folder, _written(record, notebooks[:first]))
    if differences:
        more = len(differences) - _SHOWN
        shown = differences[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise RunError(
            f"--from {notebooks[first].number}: the run in {folder.parent.name}/{folder.name} is not as it "
            "was recorded:\n"
            + "\n".join(f"  - {line}" for line in shown)
            + "\nStart earlier, or run everything again."
        )


def copy(folder: Path, building: Path, record: dict, earlier: list[Notebook]) -> list[dict]:
    """Copy what the ``earlier`` notebooks wrote, nothing else; returns their stages, marked with their origin."""
    for name in _written(record, earlier):
        target = building / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target)
    names = [notebook.name for notebook in earlier]
    metrics = read_json(folder / "metrics.json")
    write_json(
        building / "metrics.json", {name: metrics[name] for name in names if name in metrics}
    )
    origin = {
        "started": record.get("started"),
        "code": record.get("code"),
        "lock_sha256": record.get("lock_sha256"),
    }
    return [
        {"carried_over": origin} | stage
        for stage in record.get("stages", [])
        if stage["notebook"] in names
    ]


def changed_since(record: dict, earlier: list[Notebook]) -> list[str]:
    """The earlier notebooks whose source is no longer the one that ran."""
    hashes = {stage["notebook"]: stage.get("notebook_sha256") for stage in record.get("stages", [])}
    return [
        notebook.name for notebook in earlier if hashes.get(notebook.name) != sha256(notebook.path)
    ]


def _written(record: dict, earlier: list[Notebook]) -> dict[str, dict]:
    """The files that the earlier notebooks wrote, as the last of them left each."""
    names = [notebook.name for notebook in earlier]
    files: dict[str, Any] = {}
    for stage in record.get("stages", []):
        if stage["notebook"] in names:
            files |= stage.get("files", {})
    return files


def _parameters(name: str, recorded: dict, asked: dict) -> list[str]:
    """What differs between a notebook's recorded parameters and those asked for now."""
    return [
        f"{name}.{key}: recorded {recorded.get(key)!r}, now {asked.get(key)!r}"
        for key in sorted(recorded.keys() | asked.keys())
        if key != parameters.RESERVED and recorded.get(key) != asked.get(key)
    ]


def _files(folder: Path, recorded: dict[str, dict]) -> list[str]:
    """What differs between the recorded files and those on disk."""
    differences = []
    for name, entry in sorted(recorded.items()):
        path = folder / name
        if not path.is_file():
            differences.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            differences.append(
                f"{name} has changed ({path.stat().st_size} bytes, recorded {entry['bytes']})"
            )
    return differences

"""What could explain that two runs differ: everything in which their run.json differ. Standard library only."""

from typing import Any

from digits.run.parameters import RESERVED

KINDS = ("data", "parameters", "code", "packages", "hardware", "settings")  # the likeliest first
ASKED = (
    "data",
    "parameters",
)  # runs that differ in these answer different questions; no tolerance covers that
_MACHINE = ("system", "architecture", "processor", "instructions", "cores", "gpus", "libc")
_SILENT = ("TF_CPP_MIN_LOG_LEVEL",)  # settings that change no number
_NAMELESS = (
    RESERVED,
    "dataset",
)  # parameters: the folder's name, and where to look for data whose hashes are compared
_SHOWN = 8


def find(reference: dict, record: dict) -> dict[str, list[str]]:
    """Every difference between two ``run.json``, in words, by kind; kinds without one are left out."""
    found = {
        "data": changes(_hashes(reference), _hashes(record)),
        "parameters": changes(_parameters(reference), _parameters(record)),
        "code": code(reference, record),
        "packages": packages(reference, record),
        "hardware": hardware(reference, record),
        "settings": changes(_settings(reference), _settings(record)),
    }
    return {kind: found[kind] for kind in KINDS if found[kind]}


def code(reference: dict, record: dict) -> list[str]:
    """The files of code that differ. A record that does not list them has only its notebooks and its commit to go by."""
    listed = bool(reference.get("code_files") and record.get("code_files"))
    before, now = (
        (one["code_files"] if listed else {}) | _notebooks(one) for one in (reference, record)
    )
    files = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    commits = changes({"commit": _commit(reference)}, {"commit": _commit(record)})
    return files + commits if files or not listed else []


def packages(reference: dict, record: dict) -> list[str]:
    """The versions that differ, Python's own first."""
    before, now = (
        {"Python": one.get("python"), **one.get("packages", {})} for one in (reference, record)
    )
    lock = reference.get("lock_sha256") != record.get("lock_sha256")
    return changes(before, now) + (["requirements.lock"] if lock else [])


def hardware(reference: dict, record: dict) -> list[str]:
    """What differs between the computers, of what both records tell."""
    before, now = reference.get("machine", {}), record.get("machine", {})
    told = [key for key in _MACHINE if key in before and key in now]
    return changes({key: before[key] for key in told}, {key: now[key] for key in told})


def sentences(found: dict[str, list[str]]) -> list[str]:
    """One line for each kind of difference."""
    return [f"{kind}: {_shortened(lines)}" for kind, lines in found.items()]


def changes(before: dict, now: dict) -> list[str]:
    """'seed: 1 -> 2' for every key whose values differ; of a hash, its beginning."""
    return [
        f"{key}: {_brief(before.get(key))} -> {_brief(now.get(key))}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _hashes(record: dict) -> dict[str, Any]:
    dataset = record.get("dataset", {})
    return {"data set": dataset.get("name"), **(dataset.get("hashes") or {})}


def _parameters(record: dict) -> dict[str, Any]:
    return {
        f"{notebook}.{key}": value
        for notebook, values in record.get("parameters", {}).items()
        for key, value in values.items()
        if key not in _NAMELESS
    }


def _settings(record: dict) -> dict[str, str]:
    return {
        key: value for key, value in record.get("environment", {}).items() if key not in _SILENT
    }


def _notebooks(record: dict) -> dict[str, str]:
    """The hashes of the notebooks as they were when they ran."""
    return {
        f"notebooks/{stage['notebook']}.ipynb": stage.get("notebook_sha256")
        for stage in record.get("stages", [])
    }


def _commit(record: dict) -> str:
    code = record.get("code", {})
    return (code.get("commit") or "none")[:10] + (" with changes" if code.get("dirty") else "")


def _brief(value: Any) -> str:
    text = (
        "absent"
        if value is None
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    return text[:12] if len(text) == 64 else text


def _shortened(lines: list[str]) -> str:
    more = len(lines) - _SHOWN
    return "; ".join(lines[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")

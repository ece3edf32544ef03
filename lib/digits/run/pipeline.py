"""One run from its first notebook to its report: stages, ``run.json``, what happens when it is stopped."""

import errno
import os
import shutil
import time
from argparse import Namespace
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digits import files as paths
from digits.files import RunError, listing, read_json, sha256, sha256_json, write_json
from digits.run import console, continuation, folders, parameters, provenance, quantities
from digits.run.folders import Place
from digits.run.parameters import Notebook
from digits.run.process import Stopped, ignore_signals, kernel_environment, stop_on_signals

SCHEMA = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_A_STAGE = (
    "run.json",
    "metrics.json",
    "report.html",
)  # written by the runner, or by every notebook in turn


def run(options: Namespace, notebooks: list[Notebook], command: str) -> int:
    """Run what ``options`` ask for; returns the exit status."""
    place = Place(paths.OUTPUTS, folders.check_run_name(options.run))
    try:
        with folders.locked(place), stop_on_signals(), kernel_environment():
            for note in folders.repair(place):
                console.say(note)
            folders.check_space(place)
            first, record = prepare(place, options, notebooks, command)
            try:
                run_stages(place, record, notebooks, first)
                headline = finish(place, record, notebooks)
            except BaseException as error:
                return fail(place, record, error)
    except Stopped as error:
        return 128 + error.number
    except OSError as error:
        if not is_full(error):
            raise
        raise RunError("The disk is full.") from None
    farewell(place, record, headline)
    return 0


def prepare(
    place: Place, options: Namespace, notebooks: list[Notebook], command: str
) -> tuple[int, dict]:
    """Make the building folder, empty or with what earlier notebooks wrote; returns the first notebook's index and
    the new record."""
    first = parameters.position(notebooks, options.first) if options.first is not None else 0
    old: dict = {}
    if options.first is not None:
        folder = continuation.source(place)
        old = folders.read_record(folder)
        options = continuation.fill_in(options, old)
        continuation.check(folder, old, options, notebooks, first)
        for name in continuation.changed_since(old, notebooks[:first]):
            console.say(f"{name}.ipynb has changed since it ran; what it wrote then is kept.")
    try:
        place.building.mkdir()
        stages = continuation.copy(folder, place.building, old, notebooks[:first]) if old else []
        return first, new_record(place, options, notebooks, command, stages)
    except BaseException:
        shutil.rmtree(place.building, ignore_errors=True)  # nothing of its own is in it yet
        raise


def new_record(
    place: Place, options: Namespace, notebooks: list[Notebook], command: str, stages: list[dict]
) -> dict:
    """What ``run.json`` holds when a run begins."""
    profile = options.profile or "standard"
    values = parameters.effective(notebooks, profile, options.settings, options.dataset)
    changed = {
        notebook.name: sorted(
            key for key, value in values[notebook.name].items() if value != notebook.defaults[key]
        )
        for notebook in notebooks
    }
    for parameter in values.values():
        parameter[parameters.RESERVED] = place.name
    requested = next((value["dataset"] for value in values.values() if "dataset" in value), None)
    return {
        "schema": SCHEMA,
        "run": place.name,
        "status": "running",
        "error": None,
        "profile": profile,
        "command": provenance.tidy(command),
        "settings": options.settings,
        "parameters": values,
        "changed": changed,
        "seeds": {name: value["seed"] for name, value in values.items() if "seed" in value},
        "dataset": {"requested": requested},
        "started": now(),
        "ended": None,
        "seconds": None,
        "stages": stages,
        **provenance.collect(),
    }


def run_stages(place: Place, record: dict, notebooks: list[Notebook], first: int) -> None:
    """Run the notebooks from ``first`` on, writing ``run.json`` before and after each."""
    begin = time.monotonic()
    expected = console.expected_seconds(
        place.outputs, record["profile"], record["dataset"]["requested"]
    )
    (place.building / "notebooks").mkdir(exist_ok=True)
    before = _files(place)
    for index, notebook in enumerate(notebooks[first:], start=first):
        console.stage(
            index + 1,
            len(notebooks),
            notebook.name,
            notebook.title,
            time.monotonic() - begin,
            expected.get(notebook.name),
        )
        before = run_stage(place, record, notebook, before)
        note_dataset(place, record, announce=index == first)


def run_stage(place: Place, record: dict, notebook: Notebook, before: dict) -> dict:
    """Run one notebook and record its time and the files that it wrote; returns the listing after it."""
    stage: dict[str, Any] = {
        "notebook": notebook.name,
        "title": notebook.title,
        "status": "running",
        "started": now(),
        "notebook_sha256": sha256(notebook.path),
    }
    record["stages"].append(stage)
    write_json(place.building / "run.json", record)
    from digits.run import (
        execution,  # papermill takes seconds to import: the stage line is on the screen first
    )

    begin = time.monotonic()
    target = place.building / "notebooks" / notebook.path.name
    changed = {
        key: value
        for key, value in record["parameters"][notebook.name].items()
        if value != notebook.defaults[key]
    }
    changed[parameters.RESERVED] = place.building.name
    try:
        execution.execute(notebook, target, changed)
    finally:
        stage |= {"seconds": round(time.monotonic() - begin, 2), "ended": now()}
        with suppress(
            OSError, ValueError
        ):  # half written when the disk is full: the error on its way says so
            execution.clean(target, place.name, place.building.name)
    after = _files(place)
    metrics = read_json(place.building / "metrics.json")
    mine = metrics.get(notebook.name)
    stage |= {
        "status": "finished",
        "metrics_sha256": sha256_json(mine),
        "numbers_sha256": quantities.fingerprint(notebook.name, mine),
        "files": {name: entry for name, entry in after.items() if before.get(name) != entry},
    }
    write_json(place.building / "run.json", record)
    console.say(f"      done in {console.clock(stage['seconds'])}")
    return after


def note_dataset(place: Place, record: dict, announce: bool) -> None:
    """Copy what 01_eda says about its data into the record; say so when it was not MNIST."""
    from digits.report.notebook import dataset

    used = dataset(read_json(place.building / "metrics.json"))
    record["dataset"] |= used
    if announce and used.get("name", "mnist") != "mnist":
        console.notice(record["dataset"]["requested"])


def finish(place: Place, record: dict, notebooks: list[Notebook]) -> str:
    """Write the report and the complete record, put the run into its place; returns the headline numbers."""
    from digits.report import html as report
    from digits.report import notebook

    executed = [place.building / "notebooks" / notebook.path.name for notebook in notebooks]
    record |= {
        "ended": now(),
        "seconds": round(sum(stage["seconds"] for stage in record["stages"]), 2),
    }
    metrics = read_json(place.building / "metrics.json")
    headline = "\n".join(
        f"  {one['label']}: {one['text']}" + (f" ({one['detail']})" if one["detail"] else "")
        for one in notebook.headlines(metrics)
    )
    (place.building / "report.html").write_text(
        report.build(executed, record, metrics), encoding="utf-8"
    )
    files = listing(place.building)
    files.pop("run.json", None)
    models = {
        name.removeprefix("models/"): entry["sha256"]
        for name, entry in files.items()
        if name.startswith("models/")
    }
    ignore_signals()  # what follows takes a moment and must not be left half done
    write_json(
        place.building / "run.json",
        record | {"status": "finished", "files": files, "models": models},
    )
    folders.swap(place)
    return headline


def farewell(place: Place, record: dict, headline: str) -> None:
    """The last lines of a good run."""
    if record["dataset"].get("name", "mnist") != "mnist":
        console.notice(record["dataset"]["requested"])
    console.say(
        f"\nFinished in {console.clock(record['seconds'])}: {_shown(place.final / 'report.html')}\n{headline}"
    )


def fail(place: Place, record: dict, error: BaseException) -> int:
    """Keep what is there as the failed run and say what happened; returns the exit status, or raises a bug on."""
    ignore_signals()
    if not record["stages"]:  # nothing was done yet that could be kept
        shutil.rmtree(place.building, ignore_errors=True)
        raise error
    stage = record["stages"][-1]
    status = "interrupted" if isinstance(error, Stopped) else "failed"
    in_stage = stage["status"] == "running"
    if in_stage:
        stage["status"] = status
    all_done = len(record["stages"]) == len(record["parameters"])
    where = (
        stage["notebook"] if in_stage else "report" if all_done else f"after {stage['notebook']}"
    )
    message = provenance.tidy(explain(error))
    record |= {
        "status": status,
        "ended": now(),
        "error": {"notebook": where, "cell": getattr(error, "cell", None), "message": message},
    }
    folders.keep_failed(place, record)
    number = stage["notebook"][:2]
    console.say(
        f"\n{console.bold(status.upper())} in {where}: {message}\n\n"
        f"What was done is kept in {_shown(place.failed)}/"
        + (f", the executed notebook as notebooks/{where}.ipynb.\n" if in_stage else ".\n")
        + f"To continue there: ./run_all.sh --run {place.name} --from {number}"
    )
    if isinstance(error, Stopped):
        return 128 + error.number
    if is_full(error) or getattr(error, "cell", None):
        return 1
    raise error


def explain(error: BaseException) -> str:
    """An error in words."""
    if isinstance(error, Stopped):
        return f"stopped by {error}."
    if is_full(error):
        return "The disk is full."
    return str(error) if getattr(error, "cell", None) else f"{type(error).__name__}: {error}"


def is_full(error: BaseException) -> bool:
    """True when the disk, or this user's part of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def _shown(path: Path) -> str:
    """A path as a person at the console would write it."""
    return os.path.relpath(path)


def now() -> str:
    """The time in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _files(place: Place) -> dict[str, dict]:
    return {
        name: entry for name, entry in listing(place.building).items() if name not in _NOT_A_STAGE
    }

"""A run from its first notebook to its report: never half a run where a good one stood.

A run grows in ``outputs/NAME.building``. Success swaps it into ``outputs/NAME``; failure keeps it
as ``outputs/NAME.failed``. What a power cut leaves, the next run of that name puts right.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from digits import files
from digits.files import RunError, listing, read_json, sha256, sha256_json, write_json
from digits.run import comparison
from digits.run.comparison import Evidence, tidy

SUFFIXES = (".building", ".failed", ".previous")
NOT_A_STAGE = ("run.json", "metrics.json", "report.html", "draw.html")  # no single notebook's

Execute = Callable[[Path, Path, dict[str, Any]], None]  # execution.execute, or a test's


@dataclass(frozen=True)
class Notebook:
    """One numbered notebook as the runner sees it."""

    path: Path  # notebooks/NN_name.ipynb
    title: str  # its first heading
    defaults: dict[str, Any]  # its parameters cell
    limits: dict[str, str]  # what the comments there allow: "1 to 1000", "compact or vgg"

    @property
    def name(self) -> str:
        """'NN_name'"""
        return self.path.stem

    @property
    def number(self) -> str:
        """'NN'"""
        return self.path.stem[:2]


@dataclass(frozen=True)
class Request:
    """What is asked for, resolved and checked at the door; nothing is looked up again."""

    name: str  # of the run's folder
    notebooks: tuple[Notebook, ...]
    profile: str
    settings: tuple[str, ...]  # NOTEBOOK.PARAMETER=VALUE
    parameters: dict[str, dict[str, Any]]  # all of them, by notebook
    command: str  # as it was typed
    first: int = 0  # index of the notebook to begin with
    continued: bool = False  # there, in the folder of that name
    reference: Evidence | None = None  # the run to compare with


class Place:
    """The folders that belong to one run's name."""

    def __init__(self, outputs: Path, name: str):
        self.outputs, self.name = outputs, name
        self.final = outputs / name  # the run that readers see
        self.building = outputs / f"{name}.building"  # in progress
        self.failed = outputs / f"{name}.failed"  # the last one that did not end well
        self.previous = outputs / f"{name}.previous"  # replaced, for the moment of the swap


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}.")
        self.number = number


# A run


def run(request: Request, execute: Execute | None = None) -> int:
    """Run what is asked for; returns the exit status."""
    place = Place(files.OUTPUTS, request.name)
    try:
        with locked(place), stop_on_signals(), kernel_environment():
            repair(place)
            record = new_record(place, request)
            try:
                run_stages(place, record, request, execute)
                finish(place, record, request)
            except BaseException as error:
                return fail(place, record, error)
    except Stopped as error:
        return 128 + error.number
    except OSError as error:
        raise RunError(str(error)) from error
    notice(record["dataset"])
    report = os.path.relpath(place.final / "report.html")
    say(f"\nFinished in {timedelta(seconds=round(record['seconds']))}: {report}")
    for one in record["headlines"]:
        say(f"  {one['label']}: {one['text']}" + (f" ({one['detail']})" if one["detail"] else ""))
    return 0


def new_record(place: Place, request: Request) -> dict:
    """What ``run.json`` holds before the first notebook; of a check, what differs is said."""
    parameters = request.parameters
    datasets = [one.get("dataset") for one in parameters.values()]
    record = {
        "schema": 1,
        "run": place.name,
        "status": "running",
        "error": None,
        "profile": request.profile,
        "command": tidy(request.command),
        "settings": list(request.settings),
        "parameters": {name: one | {"run_name": place.name} for name, one in parameters.items()},
        "changed": {one.name: sorted(changed(request, one)) for one in request.notebooks},
        "seeds": {name: one["seed"] for name, one in parameters.items() if "seed" in one},
        "dataset": {"requested": next((d for d in datasets if d), None)},
        "started": now(),
        "ended": None,
        "seconds": None,
        "stages": [],
        **comparison.provenance(),
    }
    if request.reference:
        causes = comparison.causes(request.reference, Evidence("here", record))
        causes.pop("data", None)  # not read yet
        if causes:
            say("\n".join(["What is different here:", *comparison.sentences(causes)]))
    return record


def changed(request: Request, notebook: Notebook) -> dict[str, Any]:
    """The parameters that papermill has to inject: those that are not the notebook's own."""
    values = request.parameters[notebook.name]
    return {key: value for key, value in values.items() if value != notebook.defaults[key]}


def run_stages(place: Place, record: dict, request: Request, execute: Execute | None) -> None:
    """Run the notebooks in the building folder; ``run.json`` is written before and after each."""
    begin = time.monotonic()
    place.building.mkdir()
    if request.continued:
        record["stages"] = carry_over(place, request)
    (place.building / "notebooks").mkdir(exist_ok=True)
    before = stage_files(place)
    for index, notebook in enumerate(request.notebooks[request.first :], start=request.first + 1):
        elapsed = timedelta(seconds=round(time.monotonic() - begin))
        head = f"[{index}/{len(request.notebooks)}] {notebook.name}"
        say(f"\n{head}  {notebook.title}  (elapsed {elapsed})")
        stage: dict[str, Any] = {
            "notebook": notebook.name,
            "title": notebook.title,
            "status": "running",
            "started": now(),
            "notebook_sha256": sha256(notebook.path),
        }
        record["stages"].append(stage)
        write_json(place.building / "run.json", record)
        if execute is None:
            from digits.run.execution import execute  # takes seconds; the line above is there first
        target = place.building / "notebooks" / notebook.path.name
        started = time.monotonic()
        try:
            parameters = changed(request, notebook) | {"run_name": place.building.name}
            execute(notebook.path, target, parameters)
        finally:
            stage |= {"seconds": round(time.monotonic() - started, 2), "ended": now()}
            with suppress(OSError, RunError):  # half written on a full disk: that error says so
                executed = comparison.tidy_tree(read_json(target))
                text = json.dumps(executed, indent=1, ensure_ascii=False)
                target.write_text(text.replace(place.building.name, place.name) + "\n", "utf-8")
        after, metrics = stage_files(place), read_json(place.building / "metrics.json")
        mine = metrics.get(notebook.name)
        stage |= {
            "status": "finished",
            "metrics_sha256": sha256_json(mine),
            "numbers_sha256": sha256_json(comparison.numbers(mine)),
            "files": {name: entry for name, entry in after.items() if before.get(name) != entry},
        }
        before = after
        used: dict = next((one["dataset"] for one in metrics.values() if "dataset" in one), {})
        record["dataset"] |= used
        if index == request.first + 1:
            notice(record["dataset"])
        write_json(place.building / "run.json", record)
        say(f"      done in {timedelta(seconds=round(stage['seconds']))}")


def finish(place: Place, record: dict, request: Request) -> None:
    """Write the report and the complete record, and put the run into its place."""
    from digits.report import html

    metrics = read_json(place.building / "metrics.json")
    record |= {
        "ended": now(),
        "seconds": round(sum(stage["seconds"] for stage in record["stages"]), 2),
        "headlines": files.listed(metrics, "headlines"),
    }
    executed = [place.building / "notebooks" / one.path.name for one in request.notebooks]
    alone, every = html.readers(place.building, record, metrics)
    report = html.build(executed, record, metrics, alone)
    (place.building / "report.html").write_text(report, encoding="utf-8")
    if every:
        (place.building / "draw.html").write_text(every, encoding="utf-8")
    written = listing(place.building)
    written.pop("run.json", None)
    models = {
        name.removeprefix("models/"): entry["sha256"]
        for name, entry in written.items()
        if name.startswith("models/")
    }
    ignore_signals()  # what follows takes a moment and must not be left half done
    complete = record | {"status": "finished", "files": written, "models": models}
    write_json(place.building / "run.json", complete)
    swap(place)


def fail(place: Place, record: dict, error: BaseException) -> int:
    """Keep what is there as the failed run and say why; the exit status, or a bug is raised."""
    ignore_signals()
    if not record["stages"]:  # nothing was done yet that could be kept
        shutil.rmtree(place.building, ignore_errors=True)
        raise error
    stage, cell = record["stages"][-1], getattr(error, "cell", None)
    status = "interrupted" if isinstance(error, Stopped) else "failed"
    in_stage = stage["status"] == "running"
    if in_stage:
        stage["status"] = status
        where = stage["notebook"]
    else:
        done = len(record["stages"]) == len(record["parameters"])
        where = "report" if done else f"after {stage['notebook']}"
    expected = isinstance(error, (Stopped, OSError)) or cell
    words = tidy(str(error) if expected else f"{type(error).__name__}: {error}")
    record |= {
        "status": status,
        "ended": now(),
        "error": {"notebook": where, "cell": cell, "message": words},
    }
    keep_failed(place, record)
    say(
        f"\n{status.upper()} in {where}: {words}\n\n"
        f"What was done is kept in {os.path.relpath(place.failed)}/"
        + (f", the executed notebook as notebooks/{where}.ipynb.\n" if in_stage else ".\n")
        + f"To continue there: ./run_all.sh --run {place.name} --from {stage['notebook'][:2]}"
    )
    if not expected:
        raise error
    return 128 + error.number if isinstance(error, Stopped) else 1


def now() -> str:
    """The time in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stage_files(place: Place) -> dict[str, dict]:
    """The files that notebooks have written, with their hashes."""
    found = listing(place.building)
    return {name: entry for name, entry in found.items() if name not in NOT_A_STAGE}


# This process while a run goes on


@contextmanager
def kernel_environment() -> Iterator[None]:
    """Set what kernels inherit: fixed hashing, absolute folders, no personal start-up files."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        os.environ.update(
            PYTHONHASHSEED="0",
            KERAS_BACKEND="tensorflow",
            DIGITS_RUNNER=str(os.getpid()),
            DIGITS_OUTPUTS=str(files.OUTPUTS),
            IPYTHONDIR=folder,
            JUPYTER_RUNTIME_DIR=folder,
            PYDEVD_DISABLE_FILE_VALIDATION="1",
        )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # digits.training's, to be recorded
        os.environ.pop("MPLBACKEND", None)  # kernels draw inline
        if given := files.given_data():
            os.environ["DIGITS_DATA"] = str(given)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into Stopped; later ones do not disturb the end."""

    def stop(number: int, _frame: object) -> None:
        ignore_signals()
        raise Stopped(number)

    wanted = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on, what has begun is brought to its end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


# Folders


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the run's name; RunError when another run holds it. A killed holder's lock is free."""
    from filelock import FileLock, Timeout

    place.outputs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place.outputs / f".{place.name}.lock", timeout=0):
            yield
    except Timeout:
        raise RunError(
            f"Another run called {place.name!r} is in progress. Wait for it, or choose another "
            "name with --run."
        ) from None


def repair(place: Place) -> None:
    """Put right what a killed run left, and say what was done."""
    record = files.read_or_empty(place.building / "run.json")
    if record.get("status") == "finished":  # killed before the end of the swap
        swap(place)
        say(f"The last run of {place.name!r} was complete; now it is in its place.")
    elif place.previous.exists() and not place.final.exists():
        place.previous.rename(place.final)
        say(f"A swap was interrupted; the previous run of {place.name!r} is back.")
    if place.building.exists() and not (place.building / "run.json").exists():
        shutil.rmtree(place.building)  # killed before the first notebook: nothing of its own
    if place.building.exists():
        if record.get("status") in (None, "running"):
            record |= {"status": "interrupted", "error": {"message": "The runner was killed."}}
        keep_failed(place, record)
        say(f"The last run of {place.name!r} was killed; see {place.failed.name}/.")
    shutil.rmtree(place.previous, ignore_errors=True)


def swap(place: Place) -> None:
    """Move the finished run into its place; the run that was there is deleted afterwards."""
    if place.final.exists():
        shutil.rmtree(place.previous, ignore_errors=True)
        place.final.rename(place.previous)
    place.building.rename(place.final)
    shutil.rmtree(place.previous, ignore_errors=True)


def keep_failed(place: Place, record: dict) -> None:
    """Keep the run in progress as the failed one, with ``record`` if the disk still takes it."""
    with suppress(OSError):  # a full disk must not keep the folder from its name
        write_json(place.building / "run.json", record)
    if place.failed.exists():
        shutil.rmtree(place.failed)
    place.building.rename(place.failed)
    if place.previous.exists() and not place.final.exists():
        place.previous.rename(place.final)


# Continuing with --from


def newest(place: Place) -> tuple[Path, dict]:
    """The folder that can be continued and its record: good or failed, whichever began later.

    What a killed run left still lies where it was built, until ``repair``.
    """
    folders = (place.final, place.failed, place.building)
    found = [(one, files.read_or_empty(one / "run.json")) for one in folders]
    folder, record = max(found, key=lambda item: item[1].get("started") or "")
    if not record:
        raise RunError(f"--from: there is no run {place.name!r} to continue.")
    return folder, record


def carry_over(place: Place, request: Request) -> list[dict]:
    """Copy what the earlier notebooks wrote, nothing else; returns their stages.

    RunError lists what is not as they recorded it, or is asked for otherwise now.
    """
    folder, record = newest(place)
    metrics = read_json(folder / "metrics.json")
    origin = {key: record.get(key) for key in ("started", "code", "lock_sha256")}
    stages, wrong = [], []
    written: dict[str, dict] = {}
    for notebook in request.notebooks[: request.first]:
        name = notebook.name
        stage: dict = next((s for s in record["stages"] if s["notebook"] == name), {})
        if stage.get("status") != "finished":
            wrong.append(f"{name} did not finish")
            continue
        stages.append({"carried_over": origin} | stage)
        written |= stage["files"]  # as the last of them left each
        then, asked = record["parameters"].get(name, {}), request.parameters[name]
        for key, old, new in comparison.changes(then, asked):
            if key != "run_name":
                wrong.append(f"{name}.{key}: recorded {old!r}, now {new!r}")
        if sha256_json(metrics.get(name)) != stage["metrics_sha256"]:
            wrong.append(f"metrics.json: the numbers of {name} are not the recorded ones")
        if sha256(notebook.path) != stage["notebook_sha256"]:
            say(f"{notebook.path.name} has changed since it ran; what it wrote then is kept.")
    for name, entry in sorted(written.items()):
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing")
        elif sha256(folder / name) != entry["sha256"]:
            wrong.append(f"{name} has changed")
    if wrong:
        shown = wrong[:12] + [f"and {len(wrong) - 12} more"] * (len(wrong) > 12)
        raise RunError(
            f"--from {request.notebooks[request.first].number}: the run in {tidy(str(folder))} is "
            "not as it was recorded:\n"
            + "".join(f"  - {line}\n" for line in shown)
            + "Start earlier, or run everything again."
        )
    for name in written:
        (place.building / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, place.building / name)
    kept = {s["notebook"]: metrics[s["notebook"]] for s in stages if s["notebook"] in metrics}
    write_json(place.building / "metrics.json", kept)
    return stages


# Publishing


def publish(name: str, profile: str) -> int:
    """Copy what readers, the app and comparisons need of a finished run, to be committed.

    The standard run becomes outputs/reference/; of another, record and numbers are kept.
    """
    published = files.reference(profile)
    place, target = Place(files.OUTPUTS, name), Place(published.parent, published.name)
    with locked(place), locked(target):
        repair(target)
        record = read_json(place.final / "run.json")
        if reasons := objections(record, place, profile):
            raise RunError(f"{name!r} cannot be published: {'; '.join(reasons)}.")
        for file in record["files"]:
            large = file.split("/")[0] in ("data", "figures", "notebooks")  # or in the report
            if not large if profile == "standard" else file == "metrics.json":
                (target.building / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place.final / file, target.building / file)
        write_json(target.building / "run.json", record)  # last: half a copy is no finished run
        swap(target)
    say(f"Published {name!r} as {tidy(str(target.final))}/.")
    return 0


def objections(record: dict, place: Place, profile: str) -> list[str]:
    """Why this run may not stand as the published one; [] when it may."""
    code, data = record.get("code", {}), record.get("dataset", {}).get("name")
    changed, theirs = ", ".join(record.get("settings", [])), record.get("profile")
    stages = record.get("stages", [])
    carried = [s["notebook"] for s in stages if s.get("carried_over", {}).get("code", code) != code]
    found = listing(place.final)
    for own in ("run.json", comparison.FILE):
        found.pop(own, None)
    reasons = {
        "it did not finish": record.get("status") != "finished",
        f"its profile is {theirs!r}, not {profile!r}": theirs != profile,
        f"its parameters were changed ({changed})": changed,
        f"its data is {data!r}, not 'mnist'": data != "mnist" and profile == "standard",
        "its code is not a commit": code.get("commit") is None or code.get("dirty"),
        f"{', '.join(carried)} ran with other code": carried,
        "its files are not the recorded ones": found != record.get("files"),
    }
    return [reason for reason, applies in reasons.items() if applies]


# The console


def say(text: str) -> None:
    """A line (or several) for the person who watches."""
    print(text, flush=True)


def notice(dataset: dict) -> None:
    """Say loudly when the data was not MNIST."""
    if dataset.get("name", "mnist") != "mnist":
        from digits.data import STAND_IN_NOTICE

        say(f"\n*** THIS RUN DID NOT USE MNIST. {STAND_IN_NOTICE}")

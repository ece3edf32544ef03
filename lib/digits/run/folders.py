"""Where a run is built and how it gets to its place: never half a run where a good one stood.

A run grows in ``outputs/NAME.building``. Success swaps it into ``outputs/NAME``; failure keeps it as
``outputs/NAME.failed``. Whatever SIGKILL or a power cut leaves behind, the next run of that name puts right.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from digits import files
from digits.files import RunError, check_name, read_json, write_json

SUFFIXES = (".building", ".failed", ".previous")
MIN_FREE = (
    1 << 30
)  # bytes; a standard run on MNIST writes about a quarter of it, and an old run may stand beside it


@dataclass(frozen=True)
class Place:
    """The folders that belong to one run's name."""

    outputs: Path
    name: str

    @property
    def final(self) -> Path:
        """The run that readers see."""
        return self.outputs / self.name

    @property
    def building(self) -> Path:
        """The run in progress."""
        return self.outputs / f"{self.name}.building"

    @property
    def failed(self) -> Path:
        """The last run that did not end well."""
        return self.outputs / f"{self.name}.failed"

    @property
    def previous(self) -> Path:
        """The replaced run, for the moment of the swap."""
        return self.outputs / f"{self.name}.previous"


def check_run_name(name: str) -> str:
    """``name`` when a run may be called so; the published run's name and the runner's own suffixes are refused."""
    check_name(name)
    if files.is_reference(name):
        raise RunError(
            f"{name!r} is a published run's name. Run under another name, then publish that run."
        )
    if name.endswith(SUFFIXES):
        raise RunError(f"{name!r}: names that end with {', '.join(SUFFIXES)} are the runner's own.")
    return name


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the run's name; RunError at once when another run holds it. A killed holder's lock is free again."""
    place.outputs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.outputs / f".{place.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"Another run called {place.name!r} is in progress. Wait for it, or choose another name "
            "with --run."
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_space(place: Place) -> None:
    """RunError when the disk has no room for a run."""
    free = shutil.disk_usage(place.outputs).free
    if free < MIN_FREE:
        raise RunError(
            f"Only {free / 2**20:.0f} MB are free in {place.outputs.name}/; "
            f"a run needs {MIN_FREE / 2**20:.0f} MB."
        )


def repair(place: Place) -> list[str]:
    """Put right what a killed run left; returns what was done, in words."""
    notes = []
    if (
        read_record(place.building).get("status") == "finished"
    ):  # killed between finishing and the end of the swap
        swap(place)
        notes.append(
            f"The last run of {place.name!r} was complete but not yet in its place; now it is."
        )
    elif place.previous.exists() and not place.final.exists():
        place.previous.rename(place.final)
        notes.append(
            f"The swap of {place.name!r} was interrupted; the previous run is back in its place."
        )
    if place.building.exists() and not (place.building / "run.json").exists():
        shutil.rmtree(
            place.building
        )  # killed before the first notebook: nothing of its own is in it
    if place.building.exists():
        record = read_record(place.building)
        if record.get("status") in (None, "running"):
            record |= {"status": "interrupted", "error": {"message": "The runner was killed."}}
        keep_failed(place, record)
        notes.append(
            f"The last run of {place.name!r} was killed; what it left is in {place.failed.name}/."
        )
    if place.previous.exists():
        shutil.rmtree(place.previous)
    return notes


def swap(place: Place) -> None:
    """Move the finished run into its place; the run that was there is deleted afterwards."""
    if place.final.exists():
        if place.previous.exists():
            shutil.rmtree(place.previous)
        place.final.rename(place.previous)
    place.building.rename(place.final)
    if place.previous.exists():
        shutil.rmtree(place.previous)


def keep_failed(place: Place, record: dict) -> None:
    """Keep the run in progress as the failed one, with ``record`` as its ``run.json`` if the disk still takes it."""
    with suppress(OSError):  # a full disk must not keep the folder from its name
        write_json(place.building / "run.json", record)
    if place.failed.exists():
        shutil.rmtree(place.failed)
    place.building.rename(place.failed)
    if place.previous.exists() and not place.final.exists():
        place.previous.rename(place.final)


def read_record(folder: Path) -> dict:
    """The folder's ``run.json``; {} when it is missing or damaged."""
    try:
        return read_json(folder / "run.json")
    except RunError:
        return {}

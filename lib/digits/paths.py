"""Where everything lies. Locations and nothing else; every other module asks here."""

import os
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]  # the package is installed editable, so this is the checkout
NOTEBOOKS = PROJECT / "notebooks"
OUTPUTS = Path(os.environ.get("DIGITS_OUTPUTS") or PROJECT / "outputs").resolve()  # one folder per run
REFERENCE = PROJECT / "outputs" / "reference"  # the published run, committed
STUDY = PROJECT / "outputs" / "study.json"  # long repeated trainings, committed (tests/benchmarks/study.py)
SEARCHES = STUDY.with_suffix(".journal")  # a long search for settings beside it
SEEDS = PROJECT / "outputs" / "seeds.json"  # the recipe trained with other seeds, committed (tests/benchmarks/seeds.py)
LOCK = PROJECT / "requirements.lock"


def reference(profile: str) -> Path:
    """The published run of a profile: the standard one is the reference, the others stand beside it."""
    return REFERENCE if profile == "standard" else REFERENCE.with_name(f"{REFERENCE.name}-{profile}")


def is_reference(name: str) -> bool:
    """True for the folder names that published runs have, and no other run may have."""
    return re.fullmatch(rf"{REFERENCE.name}(-.*)?", name, re.IGNORECASE) is not None


def run_folder(name: str) -> Path:
    """The folder of a run by its name; "reference" is the published one."""
    return REFERENCE if name == REFERENCE.name else OUTPUTS / name


def given_data() -> Path | None:
    """The folder that ``DIGITS_DATA`` names (relative to the working directory), or None."""
    folder = os.environ.get("DIGITS_DATA")
    return Path(folder).expanduser().resolve() if folder else None


def download_cache() -> Path:
    """Keras's own dataset folder (``KERAS_HOME`` moves it), so that either tool finds what the other fetched."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"

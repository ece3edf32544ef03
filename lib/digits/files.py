"""Where everything lies, and files that are whole or absent: JSON, hashes, safe names.

Standard library only.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).resolve().parents[2]  # installed editable, so this is the checkout
NOTEBOOKS = PROJECT / "notebooks"
OUTPUTS = Path(os.environ.get("DIGITS_OUTPUTS") or PROJECT / "outputs").resolve()  # a folder a run
REFERENCE = PROJECT / "outputs" / "reference"  # the published run, committed
STUDY = PROJECT / "outputs" / "study.json"  # long repeated trainings (training.study)
SEARCHES = STUDY.with_suffix(".sqlite3")  # a long search for settings, beside it
SEEDS = PROJECT / "outputs" / "seeds.json"  # the recipe with other seeds, too
LOCK = PROJECT / "requirements.lock"
FULL_SIZE = 50_000  # a run that trained on more MNIST images than this counts as full size


def reference(profile: str) -> Path:
    """The published run of a profile: "standard" is the reference, the others stand beside it."""
    suffix = "" if profile == "standard" else f"-{profile}"
    return REFERENCE.with_name(REFERENCE.name + suffix)


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
    """Keras's own dataset folder (``KERAS_HOME`` moves it), shared with Keras."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"


class RunError(Exception):
    """A run cannot go on; the message says what is missing or wrong and what to do."""


def check_name(name: str) -> str:
    """``name`` when it can be the name of a run's folder on any system, else RunError."""
    pattern = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?"
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise RunError(
            f"{name!r} is no name for a run: use up to 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    return name


def read_json(path: Path) -> dict:
    """The object in a JSON file; {} when there is no such file; RunError when it is damaged."""
    label = f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (UnicodeDecodeError, ValueError) as error:
        raise RunError(f"{label} is damaged ({error}). Delete that run or run it again.") from None
    if not isinstance(value, dict):
        raise RunError(f"{label} holds no JSON object. Delete that run or run it again.")
    return value


def read_or_empty(path: Path) -> dict:
    """What a run recorded; {} when the file is missing or damaged."""
    try:
        return read_json(path)
    except (RunError, OSError, RecursionError):
        return {}


def read_pieces(path: Path) -> dict[str, str]:
    """The pieces of an HTML file by the names in the comments, ``<!-- name -->``, before them."""
    return dict(re.findall(r"<!-- (\w+) -->\n(.*?)\s*(?=<!-- |\Z)", path.read_text("utf-8"), re.S))


def listed(metrics: dict, kind: str) -> list[dict]:
    """The "headlines" or "aims" of all notebooks in ``metrics.json``, in their order."""
    return [one for name in sorted(metrics) for one in metrics[name].get(kind, [])]


def write_json(path: Path, value: dict) -> None:
    """Write ``value`` as JSON, whole or not at all; ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """``write(file)`` to a file that takes its name, and an old one's place, only when whole."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide a published run from others
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """The SHA-256 of ``value`` as JSON with sorted keys: equal values have equal hashes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def listing(folder: Path) -> dict[str, dict]:
    """``bytes`` and ``sha256`` of every file below ``folder`` that is not hidden, by path."""
    visible = (path for path in folder.rglob("*") if not path.name.startswith("."))
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(visible)
        if path.is_file()
    }

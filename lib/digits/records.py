"""What is written down about a run: safe names, JSON files that are whole or absent, hashes. Standard library only."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


FULL_SIZE = 50_000  # a run that trained on more MNIST images than this counts as full size


class RunError(Exception):
    """A run cannot go on; the message says what is missing or wrong and what to do."""


def check_name(name: str) -> str:
    """Return ``name`` when it can be the name of a run's folder on any system, else raise RunError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("."):
        raise RunError(f"{name!r} is no name for a run: use up to 64 letters, digits, '.', '_' and '-', "
                       "beginning with a letter or a digit.")
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


def write_json(path: Path, value: dict) -> None:
    """Write ``value`` as JSON, whole or not at all; ValueError for NaN and infinity, which JSON does not know."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """``write(file)`` to a file that has its name only when it is whole: nobody reads half, a full disk leaves the old one."""
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
    """Every file below ``folder``, hidden ones left out, as {"models/model.keras": {"bytes": ..., "sha256": ...}}."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in files}

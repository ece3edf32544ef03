"""Where a run's numbers come from: code, packages, machine, settings. Names no person, no host and no absolute path."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from digits import files as paths
from digits.files import sha256

CODE = (
    "lib",
    "notebooks",
    "pyproject.toml",
    "requirements.lock",
    "run_all.sh",
)  # what a run's numbers depend on
_INSTRUCTIONS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
)
_SETTINGS = re.compile(  # a list of what may be written down: others hold secrets (TF_TOKEN_... is Terraform's)
    r"TF_(CPP|CUDNN|DETERMINISTIC|ENABLE|FORCE|GPU|NUM|USE|XLA)_\w+|(OMP|MKL|OPENBLAS|KERAS|XLA|NUMBA|VECLIB)_\w+"
    r"|CUDA_VISIBLE_DEVICES|PYTHONHASHSEED"
)
_MADE = re.compile(
    r"(^|/)(\.|__pycache__/)|\.egg-info/"
)  # hidden files and what Python and setuptools make
_IMAGE = re.compile(r"(;base64,[A-Za-z0-9+/=]+)")
_CELL = re.compile(r"[^\s\"'<>()]*ipykernel_\d+[/\\]+\d+\.py")


def collect() -> dict[str, Any]:
    """Everything about code, packages and machine that ``run.json`` records."""
    return {
        "code": code(),
        "code_files": code_files(),
        "lock_sha256": sha256(paths.LOCK),
        "python": platform.python_version(),
        "packages": packages(),
        "machine": machine(),
        "environment": environment(),
    }


def code() -> dict[str, Any]:
    """The commit, whether the code differs from it, and a hash of the difference; commit None outside git."""
    commit = _git("rev-parse", "--verify", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    if commit is None or status is None:
        return {"commit": None, "dirty": None, "diff_sha256": None}
    digest = hashlib.sha256((_git("diff", "HEAD", "--", *CODE) or "").encode())
    for line in sorted(status.splitlines()):
        if line.startswith("??") and (path := paths.PROJECT / line[3:].strip('"')).is_file():
            digest.update(line.encode() + path.read_bytes())
    return {
        "commit": commit.strip(),
        "dirty": bool(status),
        "diff_sha256": digest.hexdigest() if status else None,
    }


def code_files() -> dict[str, str]:
    """The SHA-256 of every file of ``CODE`` but the lock, which has a place of its own: {"lib/digits/recognizer/ink.py": ...}."""
    found = [
        path for name in CODE for path in (paths.PROJECT / name, *(paths.PROJECT / name).rglob("*"))
    ]
    names = {
        path.relative_to(paths.PROJECT).as_posix(): path
        for path in found
        if path.is_file() and path != paths.LOCK
    }
    return {name: sha256(names[name]) for name in sorted(names) if not _MADE.search(name)}


def packages() -> dict[str, str]:
    """The installed version of every locked package that is installed, and of NVIDIA's libraries, an extra."""
    found = {}
    for name in re.findall(
        r"^([A-Za-z0-9._-]+)==", paths.LOCK.read_text(encoding="utf-8"), re.MULTILINE
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # locked for another system or Python
            continue
    return found | {
        one.name: one.version
        for one in metadata.distributions()
        if (one.name or "").startswith("nvidia-")
    }


def machine() -> dict[str, Any]:
    """Operating system, C library, processor, usable cores, graphics cards and memory; None for what is not told."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "processor": _processor(),
        "instructions": _instructions(),
        "cores": _cores(),
        "gpus": _gpus(),
        "memory_gib": _memory(),
    }


def environment() -> dict[str, str]:
    """The variables that change what the libraries compute: threads, TensorFlow, Keras."""
    return {
        name: tidy(value) for name, value in sorted(os.environ.items()) if _SETTINGS.fullmatch(name)
    }


def tidy(text: str) -> str:
    """``text`` without this machine's paths: "." for the project, "~" for the home folder, and so on."""
    pieces = _IMAGE.split(text)
    pieces[::2] = [
        _tidy(piece) for piece in pieces[::2]
    ]  # the odd ones are images, whose letters may spell anything
    return "".join(pieces)


def _tidy(text: str) -> str:
    text = _CELL.sub("cell.py", text)
    for folder, name in _folders():
        text = re.sub(rf"(?<![\w.~]){re.escape(folder)}(?!\w)", name, text)
    return text


def tidy_tree(value: Any) -> Any:
    """``tidy`` applied to every string in a tree of dicts and lists."""
    if isinstance(value, dict):
        return type(value)(
            {
                key: item if key.startswith("image/") else tidy_tree(item)
                for key, item in value.items()
            }
        )
    if isinstance(value, list):
        return [tidy_tree(item) for item in value]
    return tidy(value) if isinstance(value, str) else value


def _folders() -> list[tuple[str, str]]:
    """The folders whose names would give the machine away, longest first, and what stands for them in any format."""
    names = {
        str(Path.home()): "~",
        sys.base_prefix: "PYTHONHOME",
        sys.prefix: "VIRTUAL_ENV",
        tempfile.gettempdir(): "TMPDIR",
        str(paths.OUTPUTS): "./outputs",
        str(paths.PROJECT): ".",
    }
    if given := paths.given_data():
        names[str(given)] = "DIGITS_DATA"
    return sorted(
        ((folder, name) for folder, name in names.items() if len(Path(folder).parts) > 1),
        key=lambda item: -len(item[0]),
    )


def _git(*arguments: str) -> str | None:
    """git's answer about the project, or None when git, the repository or the commit is missing."""
    command = [
        "git",
        "-C",
        str(paths.PROJECT),
        "--no-optional-locks",
        "-c",
        "core.quotePath=false",
        *arguments,
    ]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str | None:
    """The processor's model name."""
    try:
        if sys.platform == "darwin":
            return subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True,
                text=True,
                check=True,
                timeout=5,
            ).stdout.strip()
        match = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        return match[1] if match else None
    except (OSError, subprocess.SubprocessError):
        return platform.processor() or None


def _instructions() -> list[str] | None:
    """The processor's vector instructions, by which libraries choose their code and so how they round; Linux only."""
    try:
        match = re.search(
            r"^(?:flags|Features)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        return None
    return [name for name in _INSTRUCTIONS if name in match[1].split()] if match else None


def _gpus() -> list[str]:
    """The models of the NVIDIA cards that the driver names; Linux only."""
    found = [
        re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE)
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    ]
    return [match[1] for match in found if match]


def _cores() -> int | None:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> float | None:
    """Physical memory in GiB."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)

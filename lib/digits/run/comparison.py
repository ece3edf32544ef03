"""Where a run's numbers come from, and whether two runs agree, told from their ``run.json``.

Importing this needs the standard library only.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from digits import files
from digits.files import RunError, read_json, sha256, sha256_json, write_text

# Where it comes from: code, packages, machine and variables. No person, no host, no absolute path.

CODE = ("lib", "notebooks", "pyproject.toml", "requirements.lock", "run_all.sh")
# What Python and setuptools make, and hidden files.
MADE = re.compile(r"(^|/)(\.|__pycache__/)|\.egg-info/")
# The vector instructions by which libraries choose their code, and so how they round.
INSTRUCTIONS = (
    "sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 "
    "amx_tile amx_int8 amx_bf16 asimd asimddp bf16 i8mm sve sve2"
)
# The variables that change what libraries compute. A list of what may be written down: others hold
# secrets (TF_TOKEN_... is Terraform's).
VARIABLES = re.compile(
    r"TF_(CPP|CUDNN|DETERMINISTIC|ENABLE|FORCE|GPU|NUM|USE|XLA)_\w+|"
    r"(OMP|MKL|OPENBLAS|KERAS|XLA|NUMBA|VECLIB)_\w+|CUDA_VISIBLE_DEVICES|PYTHONHASHSEED"
)


def provenance() -> dict[str, Any]:
    """Everything about code, packages and machine that ``run.json`` records."""
    return {
        "code": code(),
        "code_files": code_files(),
        "lock_sha256": sha256(files.LOCK),
        "python": platform.python_version(),
        "packages": packages(),
        "machine": machine(),
        "environment": {
            name: tidy(value)
            for name, value in sorted(os.environ.items())
            if VARIABLES.fullmatch(name)
        },
    }


def code() -> dict[str, Any]:
    """The commit, whether the code differs from it, and then a hash of the code."""
    commit = _git("rev-parse", "--verify", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    if commit is None or status is None:
        return {"commit": None, "dirty": None, "diff_sha256": None}
    digest = sha256_json(code_files()) if status else None
    return {"commit": commit.strip(), "dirty": bool(status), "diff_sha256": digest}


def _git(*arguments: str) -> str | None:
    """git's answer about the project; None when git, the repository or the commit is missing."""
    command = ["git", "-C", str(files.PROJECT), "--no-optional-locks", "-c", "core.quotePath=false"]
    try:
        answer = subprocess.run([*command, *arguments], capture_output=True, check=True, timeout=30)
        return answer.stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None


def code_files() -> dict[str, str]:
    """The SHA-256 of every file of the code: {"lib/digits/recognizer/ink.py": ...}."""
    found = [path for name in CODE for path in (files.PROJECT / name).rglob("*")]
    found += [files.PROJECT / name for name in CODE]
    names = {path.relative_to(files.PROJECT).as_posix(): path for path in found if path.is_file()}
    names.pop(files.LOCK.name, None)  # has a place of its own
    return {name: sha256(names[name]) for name in sorted(names) if not MADE.search(name)}


def packages() -> dict[str, str]:
    """The versions of the locked packages that are installed, and of NVIDIA's, an extra."""
    lock = files.LOCK.read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    every = [one for one in metadata.distributions() if one.name]
    found = {re.sub("[._-]+", "-", one.name.lower()): one for one in every}
    chosen = sorted(name for name in found if name in locked or name.startswith("nvidia-"))
    return {name: found[name].version for name in chosen}


def machine() -> dict[str, Any]:
    """System, processor, usable cores, graphics cards and memory; None for what is not told."""
    import psutil

    cpu = _text("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpu, re.MULTILINE)
    has = [one for one in INSTRUCTIONS.split() if one in flags[1].split()] if flags else None
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    limited = hasattr(os, "sched_getaffinity")
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "processor": name[1] if name else platform.processor() or None,
        "instructions": has,
        "cores": len(os.sched_getaffinity(0)) if limited else os.cpu_count(),
        "gpus": re.findall(r"^Model:\s*(.+)$", "\n".join(map(_text, cards)), re.MULTILINE),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _text(path: Path | str) -> str:
    """A file's text; "" when the system has no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def tidy(text: str) -> str:
    """``text`` without this machine's paths: "." for the project, "~" for the home folder."""
    names = {
        str(Path.home()): "~",
        sys.base_prefix: "PYTHONHOME",
        sys.prefix: "VIRTUAL_ENV",
        tempfile.gettempdir(): "TMPDIR",
        str(files.OUTPUTS): "./outputs",
        str(files.PROJECT): ".",
    }
    if given := files.given_data():
        names[str(given)] = "DIGITS_DATA"
    pieces = re.split(r"(;base64,[A-Za-z0-9+/=]+)", text)  # an image's letters may spell anything
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"[^\s\"'<>()]*ipykernel_\d+[/\\]+\d+\.py", "cell.py", pieces[i])
        for folder in sorted(names, key=len, reverse=True):
            if len(Path(folder).parts) > 1:
                pattern = rf"(?<![\w.~]){re.escape(folder)}(?!\w)"
                pieces[i] = re.sub(pattern, names[folder], pieces[i])
    return "".join(pieces)


def tidy_tree(value: Any) -> Any:
    """``tidy`` applied to every string in a tree of dicts and lists."""
    if isinstance(value, dict):
        tidied = {k: v if k.startswith("image/") else tidy_tree(v) for k, v in value.items()}
        return type(value)(tidied)
    if isinstance(value, list):
        return [tidy_tree(item) for item in value]
    return tidy(value) if isinstance(value, str) else value


# Whether two runs agree: the hashes of their files, their numbers, their headlines.

FILE = "comparison.md"  # in the folder of the run that was compared
SHOWN = 24  # rows on the console, and differences of one kind
# Keys of what is not compared: durations and what they decide, where the data came from, verdicts
# of visitors, and what is said again for the first page.
NOT_COMPARED = re.compile(r"(?:^|_)(?:seconds|ms)(?:_|$)|\bfast|^(?:source|headlines|aims)$")


class Outcome(IntEnum):
    """What a comparison ends with; the value is the exit status."""

    IDENTICAL = 0
    EQUAL_WITHIN_THE_TOLERANCES = 3
    DIFFERENT = 4

    def __str__(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Evidence:
    """What is known of a run: ``run.json`` and, unless that travelled alone, ``metrics.json``."""

    label: str
    record: dict
    metrics: dict | None = None

    @property
    def files(self) -> dict[str, str]:
        """The hashes of data and models; figures and notebooks show numbers, which are compared."""
        found = self.record.get("files", {}).items()
        return {name: one["sha256"] for name, one in found if name.startswith(("models/", "data/"))}

    @property
    def headlines(self) -> dict[str, dict]:
        """The headlines by their labels: value, text, tolerance."""
        found = self.record.get("headlines") or files.listed(self.metrics or {}, "headlines")
        return {one["label"]: one for one in found}

    @property
    def origin(self) -> dict[str, dict]:
        """What could explain a difference, the likeliest first."""
        record = self.record
        dataset, machine = record.get("dataset", {}), dict(record.get("machine", {}))
        for key in ("release", "memory_gib"):
            machine.pop(key, None)
        variables = dict(record.get("environment", {}))
        variables.pop("TF_CPP_MIN_LOG_LEVEL", None)  # says how much TensorFlow talks
        ran = {
            f"notebooks/{stage['notebook']}.ipynb": stage.get("notebook_sha256")
            for stage in record.get("stages", [])
        }
        return {
            "data": {"data set": dataset.get("name"), **(dataset.get("hashes") or {})},
            "parameters": {
                f"{notebook}.{key}": value
                for notebook, values in record.get("parameters", {}).items()
                for key, value in values.items()
                if key not in ("run_name", "dataset")
            },
            "code": record.get("code_files", {}) | ran,
            "packages": {"Python": record.get("python"), **record.get("packages", {})}
            | {"requirements.lock": record.get("lock_sha256")},
            "machine": machine,
            "environment": variables,
        }


def read(folder: Path) -> Evidence:
    """A finished run's evidence; RunError when it is missing, damaged or not as recorded."""
    label = f"{folder.parent.name}/{folder.name}"
    if not (folder / "run.json").is_file():
        raise RunError(f"{label}/ holds no run (there is no run.json).")
    evidence = read_record(folder / "run.json")
    if evidence.metrics is None:
        raise RunError(f"{label}/metrics.json is missing or is not the recorded one.")
    return Evidence(label, evidence.record, evidence.metrics)


def read_record(path: Path) -> Evidence:
    """The evidence of a ``run.json``, with the metrics when they lie beside it as recorded."""
    path = path / "run.json" if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"There is no file {path}.")
    try:
        record = read_json(path)
    except RunError:
        raise RunError(f"{path} is damaged: it holds no JSON object.") from None
    needed = {"profile": str, "parameters": dict, "dataset": dict, "stages": list, "files": dict}
    if wrong := [key for key, kind in needed.items() if not isinstance(record.get(key), kind)]:
        raise RunError(f"{path} is no run.json of a run (without {', '.join(wrong)}).")
    if record.get("status") != "finished":
        raise RunError(f"{path} is not that of a finished run ({record.get('status')}).")
    metrics = path.with_name("metrics.json")
    recorded = record["files"].get("metrics.json", {}).get("sha256")
    beside = metrics.is_file() and sha256(metrics) == recorded
    return Evidence(path.name, record, read_json(metrics) if beside else None)


def numbers(tree: Any, name: str = "") -> dict[str, Any]:
    """What a notebook recorded and runs have in common, flat.

    >>> numbers({"test": {"errors": 44, "interval": [0.1, 0.2]}, "training_seconds": 7})
    {'test.errors': 44, 'test.interval.0': 0.1, 'test.interval.1': 0.2}
    """
    if not isinstance(tree, (dict, list)):
        return {name[1:]: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if not NOT_COMPARED.search(str(key)):
            found |= numbers(value, f"{name}.{key}")
    return found


def compare(reference: Evidence, run: Evidence) -> tuple[Outcome, list[tuple]]:
    """How far a run agrees with its reference, and what is not the same.

    The rows hold a file's, number's or headline's name, both values, and how they agree.
    """
    rows, agreed = [], []
    for label in dict.fromkeys([*reference.headlines, *run.headlines]):
        one, other = reference.headlines.get(label, {}), run.headlines.get(label, {})
        limit, both = one.get("tolerance"), bool(one and other)
        agreed.append(both and (limit is None or abs(other["value"] - one["value"]) <= limit))
        verdict = "DIFFERENT" if not agreed[-1] else "any" if limit is None else f"± {limit:g}"
        rows.append((label, one.get("text"), other.get("text"), verdict))
    pairs = [(one.record["stages"], one.metrics) for one in (reference, run)]
    if reference.metrics is None or run.metrics is None:  # each notebook's numbers as a whole
        sides = [{s["notebook"]: s.get("numbers_sha256") for s in stages} for stages, _ in pairs]
    else:
        sides = [numbers(metrics) for _, metrics in pairs]
    other = changes(reference.files, run.files) + changes(*sides)
    if not other:
        return Outcome.IDENTICAL, []
    same_question = not {"data", "parameters"} & causes(reference, run).keys()
    same_files = reference.files.keys() == run.files.keys()
    within = agreed and all(agreed) and same_question and same_files
    outcome = Outcome.EQUAL_WITHIN_THE_TOLERANCES if within else Outcome.DIFFERENT
    return outcome, [*rows, *((*row, "") for row in other)]


def causes(reference: Evidence, run: Evidence) -> dict[str, list[str]]:
    """In what two runs differ, in words, by kind; kinds without a difference are left out."""
    found = {}
    for kind, before in reference.origin.items():
        if changed := changes(before, run.origin[kind]):
            found[kind] = [
                key if kind == "code" else f"{key}: {_shown(old)} -> {_shown(new)}"
                for key, old, new in changed
            ]
    if "code" in found:
        commits = [(one.record["code"]["commit"] or "none")[:10] for one in (reference, run)]
        found["code"].append(f"commit: {commits[0]} -> {commits[1]}")
    return found


def changes(before: dict, now: dict) -> list[tuple]:
    """(key, before, now) for each key whose values differ."""
    keys = dict.fromkeys([*before, *now])
    return [(key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)]


def _shown(value: Any) -> str:
    """A value in a table; of a hash its beginning."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "absent" if value is None else text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def summary(reference: Evidence, run: Evidence, shown: int | None = None) -> tuple[Outcome, str]:
    """The outcome and its reasons in Markdown, with at most ``shown`` of the values that differ."""
    outcome, rows = compare(reference, run)
    record = reference.record
    commit = (record.get("code", {}).get("commit") or "none")[:10]
    lines = [
        f"Compared with {reference.label} ({record.get('started', '')[:10]}, commit {commit}): "
        "files, headlines and numbers, but for durations."
    ]
    if rows:
        lines += ["", f"| | {reference.label} | here | |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(_shown, row))} |" for row in rows[:shown]]
        more = len(rows) - len(rows[:shown])
        lines += [f"and {more:,} more in {FILE}"] if more else []
    found = sentences(causes(reference, run))
    lead = "What differs all the same" if outcome is Outcome.IDENTICAL else "Likely cause"
    why = f"{lead}, the likeliest first:" if found else "Nothing else that is recorded differs."
    lines += ["", f"{outcome}.", why]
    return outcome, "\n".join([*lines, *(f"  {line}" for line in found)])


def sentences(causes: dict[str, list[str]]) -> list[str]:
    """One line for each kind of difference."""
    return [
        f"{kind}: {'; '.join(found[:SHOWN])}"
        + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        for kind, found in causes.items()
    ]


def report(reference: Evidence, folder: Path) -> int:
    """Compare the run in ``folder``, keep the whole comparison in it; returns the exit status."""
    run = read(folder)
    write_text(folder / FILE, summary(reference, run)[1] + "\n")
    outcome, text = summary(reference, run, SHOWN)
    print(f"\n{text}", flush=True)
    return int(outcome)

"""What must hold for the repository as a whole: notebooks, lock, layers, scripts."""

import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from digits.files import PROJECT
from digits.run import command

LIBRARY = PROJECT / "lib/digits"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
LOCKED = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE)
}
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def tracked() -> list[Path]:
    """The files that belong to the repository; everything outside git when this is no checkout."""
    command = [
        "git",
        "-C",
        str(PROJECT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [
        path for name in found.stdout.split("\0") if name and (path := PROJECT / name).is_file()
    ]


# Notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_clean(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [
        cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None
    ]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.name < "05"], ids=lambda path: path.stem
)
def test_notebooks_have_one_title_one_parameters_cell_and_checks_at_the_end(path):
    notebook = command.read_notebook(
        path
    )  # exactly one parameters cell, plain literals, a run_name
    assert notebook.defaults["run_name"] == "interactive"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert (
        len(re.findall(r"^# ", re.sub(r"```.*?```", "", prose, flags=re.DOTALL), re.MULTILINE)) == 1
    )
    assert "".join(cells[0]["source"]).startswith("# ")
    assert "hide" in cells[-1]["metadata"]["tags"] and "assert" in "".join(cells[-1]["source"])


def test_the_four_notebooks_are_there():
    notebooks = command.find_notebooks(PROJECT / "notebooks", ["05_draw"])
    assert [notebook.number for notebook in notebooks] == ["01", "02", "03", "04"]


# Environment


EXTRAS = PYPROJECT["optional-dependencies"]
WANTED = [*PYPROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["postgres"]]


@pytest.mark.parametrize("text", [text for text in WANTED if not text.startswith("digits[")])
def test_the_lock_satisfies_every_dependency(text):
    requirement = Requirement(text)
    version = LOCKED.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements.lock"
    assert requirement.specifier.contains(version, prereleases=True), (
        f"{version} is locked, {text} is wanted"
    )


def test_every_locked_package_is_exact_hashed_and_from_no_particular_registry():
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    for entry in (entry for entry in entries if not entry.startswith("#")):
        assert re.match(r"[\w.-]+==\S+", entry) and "--hash=sha256:" in entry, entry.splitlines()[0]
    for name in ("requirements.lock", "constraints.txt", "environment.yml", "pyproject.toml"):
        text = (PROJECT / name).read_text(encoding="utf-8")
        assert not re.search(
            r"https?://|file:|--(extra-)?index-url|--find-links|(?<!\w)/\w+/\w+", text
        ), name


def test_every_locked_package_takes_all_our_pythons():
    """pip refuses what uv lets pass: a version whose Requires-Python excludes the interpreter."""
    refused = []
    for name in re.findall(
        r"^([\w.-]+)==[^\s;]+ *\\?$", LOCK, re.MULTILINE
    ):  # entries without a marker
        try:
            wanted = SpecifierSet(metadata.metadata(name).get("Requires-Python") or "")
        except metadata.PackageNotFoundError:
            continue
        if not all(wanted.contains(f"{python}.9") for python in PYTHONS) and metadata.version(
            name
        ) == LOCKED.get(name):
            refused.append(f"{name} {wanted}")
    assert not refused


def test_constraints_are_the_lock_without_hashes():
    wanted = [line.rstrip(" \\") for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines() == wanted, (
        r"remake it: sed -nE 's/ *\\$//; /^[A-Za-z0-9]/p' requirements.lock > constraints.txt"
    )


def test_conda_gets_the_same_versions_a_python_that_we_support_and_a_reason_for_each_line():
    text = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    python = re.search(r"- python=(\S+)", text)[1]
    assert SpecifierSet(PYPROJECT["requires-python"]).contains(f"{python}.9")
    assert "- -c constraints.txt" in text and "- -e .[dev]" in text
    items = [
        line
        for line in text.splitlines()
        if line.lstrip().startswith("- ") and not line.endswith("pip:")
    ]
    assert not [line for line in items if "  # " not in line]


def test_supported_pythons_are_the_same_everywhere():
    supported = SpecifierSet(PYPROJECT["requires-python"])
    assert [minor for minor in range(8, 20) if supported.contains(f"3.{minor}.9")] == [11, 12, 13]
    for path in (PROJECT / "run_all.sh", LIBRARY / "run/setup.py"):
        assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in path.read_text(encoding="utf-8")


# Layers: import-linter holds them (pyproject.toml, tests/run.sh)


FILES = sorted(LIBRARY.rglob("*.py"))


def name_of(path: Path) -> str:
    """A module's name within the package: 'recognizer.ink', 'files'."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix("__init__")


def test_the_library_only_shrinks():
    """30 modules and 10,500 lines are the budget."""
    modules = [path for path in FILES if path.name != "__init__.py"]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    assert len(modules) <= 30 and lines <= 10_500


def test_the_library_names_no_notebook():
    texts = [path for path in LIBRARY.rglob("*") if path.suffix in (".py", ".j2", ".html", ".js")]
    assert not [str(p) for p in texts if re.search(r"\b0[1-5]_", p.read_text(encoding="utf-8"))]


def test_what_runs_before_the_environment_is_made_needs_the_standard_library_only():
    code = "import digits.run.command, digits.run.setup, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(PROJECT / "lib")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(loaded) <= {*sys.stdlib_module_names, "digits", "__main__", "__mp_main__"}


def _loads_tensorflow(modules: list[str]) -> bool:
    code = f"import sys, {', '.join(modules)}; print(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    return (
        "True"
        in subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )


@pytest.mark.slow
def test_the_recognition_path_loads_no_tensorflow():
    assert not _loads_tensorflow(["digits.recognizer", "digits.app.app", "digits.app.server"])


@pytest.mark.slow
def test_the_first_notebook_loads_no_tensorflow():
    cells = json.loads((PROJECT / "notebooks/01_eda.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imports = re.findall(r"^(?:from|import) .*", source, re.MULTILINE)
    code = "\n".join(
        [*imports, "import sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"]
    )
    assert imports and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Examples


WITH_EXAMPLES = sorted(
    name_of(path)
    for path in FILES
    if ">>> " in path.read_text(encoding="utf-8")
    and path.name != "app.py"  # whose example shows a page
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(f"digits.{module}".rstrip(".")))
    assert result.attempted and not result.failed


# Scripts and files


@pytest.mark.parametrize("name", ["run_all.sh", "tests/run.sh", ".ci/run"])
def test_scripts_are_correct_bash_and_can_be_started(name):
    assert subprocess.run(["bash", "-n", PROJECT / name], check=False).returncode == 0
    assert os.access(PROJECT / name, os.X_OK)


def test_without_a_suitable_python_the_script_says_what_to_install(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # an older Python's answer
    (tools / "python3").chmod(0o755)
    shutil.copy(PROJECT / "run_all.sh", tmp_path)
    process = subprocess.run(
        ["bash", tmp_path / "run_all.sh"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2 and "no Python 3.11, 3.12 or 3.13 found" in process.stderr


def test_no_file_names_this_machine():
    secrets = [str(PROJECT), str(Path.home())] if len(PROJECT.parts) > 2 else []
    named = []
    for path in tracked():
        data = path.read_bytes()
        named += [
            f"{path.name}: {secret}"
            for secret in secrets
            if re.search(rf"{re.escape(secret)}\b".encode(), data)
        ]
    assert not named


def test_licence_version_and_citation_agree():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (
        citation["license"] == PYPROJECT["license"] == "MIT"
        and citation["version"] == PYPROJECT["version"]
    )
    holder = re.search(
        r"Copyright \(c\) \d{4} (.*)", (PROJECT / "LICENSE").read_text(encoding="utf-8")
    )[1]
    assert [author["name"] for author in citation["authors"]] == [holder]


def test_the_workflow_calls_scripts_that_are_there_and_publishes_the_published_report():
    text = (PROJECT / ".github/workflows/report.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert {need for job in jobs.values() for need in [job.get("needs")] if need} <= set(jobs)
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    files = [
        word
        for command in commands
        for word in re.findall(r"[\w./-]+/[\w.-]+\.\w+", command)
        if "site/" not in word
    ]
    assert sorted(files) == [
        "outputs/reference/draw.html",
        "outputs/reference/report.html",
        "tests/run.sh",
    ] and all((PROJECT / f).is_file() for f in files)
    python = re.search(r'python-version: "([\d.]+)"', text)[1]
    assert SpecifierSet(PYPROJECT["requires-python"]).contains(f"{python}.9")

"""Make the project's environment when it is missing and print the path of its Python.

Run by path, by ``run_all.sh``, before anything is installed: standard library only.
"""

import locale
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
SUITABLE = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
HOLDS_THIS = """
import sys
from importlib.util import find_spec
from pathlib import Path
ours = find_spec("digits")
here = ours and ours.origin and Path(ours.origin).resolve().parents[2] == Path(sys.argv[1])
sys.exit(not (here and find_spec("papermill") and find_spec("tensorflow")))
"""


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(arguments: list[str], project: Path = PROJECT) -> int:
    """Print the Python to use, after making its environment if need be."""
    python = active_python(project)
    if python is None:
        python = python_of(project / ".venv")
        if not up_to_date(project):
            # Nobody should wait for an installation to learn that the request is wrong.
            environment = os.environ | {"PYTHONPATH": str(project / "lib")}
            command = [sys.executable, "-P", "-B", "-m", "digits.run.command", *arguments]
            if status := call([*command, "--setup-only"], project, environment):
                return status
            try:
                refuse_unsupported(project)
                with locked(project):
                    if not up_to_date(project):  # another process may have made it meanwhile
                        make_environment(project)
            except SetupError as error:
                say(f"./run_all.sh: error: {error}")
                return 1
    print(python)
    return 0


def active_python(project: Path) -> Path | None:
    """The Python of an active conda or virtual environment that holds this checkout's package."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := os.environ.get(variable):
            python = python_of(Path(prefix))
            is_ours = Path(prefix).resolve() == project / ".venv"
            if not is_ours and runs(python, "-I", "-c", HOLDS_THIS, project):
                return python
    return None


def wanted(project: Path) -> str:
    """What a finished ``.venv`` keeps a copy of: its place, then all that decides what it holds."""
    files = [project / name for name in ("pyproject.toml", "requirements.lock")]
    return "\n".join([str(project), "compiled", *(file.read_text("utf-8") for file in files)])


def recorded(project: Path) -> str:
    """The copy that ``.venv`` keeps; "" while it is being made, or when there is none."""
    stamp = project / ".venv/digits-setup"
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else ""


def up_to_date(project: Path) -> bool:
    """True when ``.venv`` was made here and holds what is wanted."""
    return recorded(project) == wanted(project) and python_of(project / ".venv").exists()


def refuse_unsupported(project: Path) -> None:
    """SetupError where a locked package is not made for this computer, or bears no such path."""
    if (platform.system(), platform.machine()) == ("Darwin", "x86_64"):
        raise SetupError(
            "there is no LiteRT for Macs with an Intel processor. On one with an Apple "
            "processor, use a Python made for it (arm64), not one that Rosetta translates."
        )
    if "$" in str(project):
        raise SetupError(f"setuptools cannot install into a folder with a $ in its name: {project}")


def make_environment(project: Path) -> None:
    """Make ``.venv`` or bring it up to date; one that was made elsewhere or half is made anew."""
    say("Setting up .venv from requirements.lock (once; a few minutes, about 3.5 GB) ...")
    venv, before = project / ".venv", recorded(project)
    stamp, python = venv / "digits-setup", python_of(venv)
    here = before.partition("\n")[0] == str(project)  # its programs name the folder of its making
    if stamp.is_file() and not (here and runs(python, "-c", SUITABLE)):
        shutil.rmtree(venv)
        before = ""
    if not runs(python, "-c", SUITABLE):
        venv.mkdir(exist_ok=True)
        stamp.write_text("", encoding="utf-8")  # unfinished from its first moment
        base = getattr(sys, "_base_executable", sys.executable)  # not the Python of that .venv
        with_uv = "uv", "venv", "--allow-existing", "--python", base, venv
        if not runs(base, "-m", "venv", venv) and not runs(*with_uv):
            raise SetupError(
                "python -m venv failed. On Debian and Ubuntu: sudo apt install python3-venv. "
                "Or install uv (https://docs.astral.sh/uv/)."
            )
    stamp.write_text("", encoding="utf-8")
    try:
        install(project)
    except SetupError:
        stamp.write_text(before, encoding="utf-8")  # it failed cleanly: what was there still works
        raise
    stamp.write_text(wanted(project), encoding="utf-8")
    say("The environment is ready.")


def install(project: Path) -> None:
    """Install the lock, the project and JupyterLab's defaults into ``.venv``."""
    venv, environment = project / ".venv", dict(os.environ)
    if locale.getencoding().lower() != "utf-8":  # pip writes the project's path in it
        environment["LC_ALL"] = "UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    command = installer(python_of(venv))
    # Relative paths, since both tools read "#" and "$" in a requirement as something else.
    if call([*command, "--require-hashes", "-r", "requirements.lock"], project, environment):
        raise SetupError(
            "the locked packages could not be installed (see above). Is there a connection to a "
            "package index, and enough room on the disk? Running this again tries again."
        )
    if call([*command, "--no-deps", "--no-build-isolation", "-e", "."], project, environment):
        raise SetupError("the project itself could not be installed (see above).")
    # A path that any locale can read: Python decodes this file before it can say a word.
    for site in (*venv.glob("lib/*/site-packages"), *venv.glob("Lib/site-packages")):
        for pth in site.glob("__editable__.*.pth"):
            pth.write_text(os.path.relpath(project / "lib", site) + "\n", encoding="ascii")
        runs(python_of(venv), "-m", "compileall", "-q", "-j0", site)  # as pip does, not uv
    # No question about news, no look for updates; an editable install brings no such files.
    defaults = venv / "share/jupyter/lab/settings/overrides.d"
    defaults.mkdir(parents=True, exist_ok=True)
    shutil.copy(project / "lib/digits/app/jupyter/lab/digits.json", defaults)


def installer(python: Path) -> list[str]:
    """The command that installs for ``python``: uv, much faster, if it can be had, else pip."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", str(python)]
    if not runs(python, "-m", "uv", "--version"):
        runs(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    if runs(python, "-m", "uv", "--version"):
        return [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
    return [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]


def python_of(prefix: Path) -> Path:
    """An environment's interpreter."""
    return prefix / "Scripts/python.exe" if os.name == "nt" else prefix / "bin/python"


def runs(*command: str | Path) -> bool:
    """True when ``command`` can be started and ends well; it says nothing."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode == 0
    except OSError:
        return False


def call(command: list[str], project: Path, environment: dict[str, str]) -> int:
    """The exit status of ``command``, run in the project with its output on stderr."""
    return subprocess.run(
        command, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
    ).returncode


@contextmanager
def locked(project: Path) -> Iterator[None]:
    """One set-up at a time, the others wait. (Windows has no fcntl: there, start one at a time.)"""
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = (project / ".setup.lock").open("a")  # not in .venv, which may be made anew
    except OSError as error:
        raise SetupError(f".venv cannot be made in this folder: {error.strerror}.") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

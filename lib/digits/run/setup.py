"""Make the project's environment when it is missing; print the path of its Python. Standard library only.

Run as a script by ``run_all.sh``, before anything is installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
VENV = PROJECT / ".venv"
STAMP = VENV / "digits-setup"  # UNFINISHED while we install, then a hash of what was installed
UNFINISHED = "unfinished"
LOCK = PROJECT / "requirements.lock"
LAB = (
    PROJECT / "lib/digits/app/jupyter/lab/digits.json"
)  # JupyterLab's defaults: no question about news, no look for updates
_SUITABLE = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
_HOLDS_THIS = """
import sys
from importlib.util import find_spec
from pathlib import Path
ours = find_spec("digits")
here = ours is not None and ours.origin and Path(ours.origin).resolve().parents[3] == Path(sys.argv[1])
sys.exit(not (here and find_spec("papermill") and find_spec("tensorflow")))
"""


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(arguments: list[str]) -> int:
    """Print the Python to use, after making its environment if need be; a wrong command line ends here with 2."""
    python = active_environment()
    if python is None and not up_to_date():
        check_command_line(arguments)
        try:
            with locked():
                if not up_to_date():  # another process may have made it while we waited
                    make_environment()
        except SetupError as error:
            print(f"./run_all.sh: error: {error}", file=sys.stderr)
            return 1
    print(python or venv_python())
    return 0


def active_environment() -> Path | None:
    """The Python of an active conda or virtual environment that holds this checkout's package, or None."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := os.environ.get(variable):
            python = python_of(Path(prefix))
            if Path(prefix).resolve() != VENV and runs(
                python, "-I", "-c", _HOLDS_THIS, str(PROJECT)
            ):
                return python
    return None


def up_to_date() -> bool:
    """True when .venv holds what the lock and pyproject.toml ask for, and was made here."""
    return STAMP.is_file() and STAMP.read_text() == fingerprint() and venv_python().exists()


def fingerprint() -> str:
    """A hash of everything that decides what .venv holds: the lock, the project's definition and its place."""
    digest = hashlib.sha256(str(PROJECT).encode())
    for path in (LOCK, PROJECT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """Make .venv, or bring it up to date; SetupError when that fails. What an interruption left is made anew."""
    say("Setting up .venv from requirements.lock (once; a few minutes, about 2 GB) ...")
    before = STAMP.read_text() if STAMP.is_file() else ""
    if before == UNFINISHED:
        shutil.rmtree(VENV)
    if not runs(venv_python(), "-c", _SUITABLE):
        create_venv()
    STAMP.write_text(UNFINISHED)
    try:
        install()
    except SetupError:
        STAMP.write_text(before)  # it failed cleanly: what was there still works
        raise
    STAMP.write_text(fingerprint())
    say("The environment is ready.")


def create_venv() -> None:
    """An empty .venv of the Python that runs this, marked as unfinished from its first moment."""
    VENV.mkdir(exist_ok=True)
    STAMP.write_text(UNFINISHED)
    base = getattr(
        sys, "_base_executable", sys.executable
    )  # this may be a broken .venv's own Python
    if not runs(base, "-m", "venv", VENV) and not runs(
        "uv", "venv", "--allow-existing", "--python", base, VENV
    ):
        raise SetupError(
            "python -m venv failed. On Debian and Ubuntu: sudo apt install python3-venv. "
            "Or install uv (https://docs.astral.sh/uv/)."
        )


def install() -> None:
    """Install the lock, then the project itself and what JupyterLab shall not ask, into .venv."""
    command = installer()
    call(
        [*command, "--require-hashes", "-r", str(LOCK)],
        "the locked packages could not be installed (see above). "
        "Is there a connection to a package index, and enough room on the disk? Running this again tries again.",
    )
    call(
        [*command, "--no-deps", "--no-build-isolation", "-e", str(PROJECT)],
        "the project itself could not be installed (see above).",
    )
    defaults = (
        VENV / "share/jupyter/lab/settings/overrides.d"
    )  # an editable install brings no such files
    defaults.mkdir(parents=True, exist_ok=True)
    shutil.copy(LAB, defaults)


def installer() -> list[str]:
    """The command that installs into .venv: uv, which is many times faster, when it can be had, else pip."""
    python = str(venv_python())
    uv = [shutil.which("uv")] if shutil.which("uv") else [python, "-m", "uv"]
    if uv[0] == python and not runs(python, "-m", "uv", "--version"):
        runs(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    if runs(*uv, "--version"):
        return [*uv, "pip", "install", "--python", python]
    return [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]


def python_of(prefix: Path) -> Path:
    """An environment's interpreter."""
    return prefix / "Scripts" / "python.exe" if os.name == "nt" else prefix / "bin" / "python"


def venv_python() -> Path:
    """.venv's interpreter."""
    return python_of(VENV)


def runs(*command: str | Path) -> bool:
    """True when ``command`` can be started and ends well; it says nothing."""
    try:
        return (
            subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode
            == 0
        )
    except OSError:
        return False


def call(command: list[str], failure: str) -> None:
    """Run ``command`` with its output on stderr (stdout is ours); SetupError with ``failure`` when it fails."""
    if subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False
    ).returncode:
        raise SetupError(failure)


def check_command_line(arguments: list[str]) -> None:
    """End with status 2 when the request itself is wrong: nobody should wait for an installation to learn that."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", "digits.run.command", *arguments, "--setup-only"]
    if status := subprocess.run(
        command, env=environment, stdout=sys.stderr.fileno(), check=False
    ).returncode:
        sys.exit(status)


@contextmanager
def locked() -> Iterator[None]:
    """One set-up at a time; the others wait. (Windows has no fcntl: there, two at once are the user's to avoid.)"""
    try:
        import fcntl
    except ImportError:
        yield
        return
    name = f"digits-setup-{hashlib.sha256(str(PROJECT).encode()).hexdigest()[:16]}.lock"
    with open(
        Path(tempfile.gettempdir()) / name, "a"
    ) as file:  # not in .venv, which may be made anew
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

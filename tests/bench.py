"""A place to run tiny notebooks: in this process and in no time, or as a user would start them."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from digits import files, report
from digits.run import command, comparison

# What takes a second to find out and is the same for every run in this process.
CODE, PACKAGES = {"commit": "c" * 40, "dirty": False, "diff_sha256": None}, comparison.packages()
RUNNER = (
    "import sys; from pathlib import Path; from digits.run import command; "
    "sys.exit(command.main(sys.argv[2:], Path(sys.argv[1])))"
)

# Two notebooks that do what the real ones do, without the libraries that take seconds to load.
FIRST = [
    "import os, pathlib, time\nfrom digits.files import write_json\n"
    "folder = pathlib.Path(os.environ['DIGITS_OUTPUTS']) / run_name\n"
    "(folder / 'data').mkdir(exist_ok=True)\n(folder / 'data/X.npy').write_bytes(bytes(size))",
    "write_json(folder / 'metrics.json', {'01_eda': {'dataset': {'name': used, 'source': 'made up',"
    "\n    'hashes': {'x_train': 'ab' * 32}, 'n_train': 10}, 'home': str(pathlib.Path.home()),\n"
    "    'rate': rate, 'training_seconds': time.time()}})\n"
    "time.sleep(pause)\nprint(folder, pathlib.Path.home())",
]
SECOND = [
    "import os, pathlib, time\nfrom digits.files import read_json, write_json\n"
    "folder = pathlib.Path(os.environ['DIGITS_OUTPUTS']) / run_name\n"
    "(folder / 'models').mkdir(exist_ok=True)",
    "wrong = 35 + seed + int(os.environ.get('OMP_NUM_THREADS', 0))\n"
    "(folder / 'models/m.tflite').write_bytes(b'%d' % wrong + bytes(size))\n"
    "metrics = read_json(folder / 'metrics.json')\n"
    "write_json(folder / 'metrics.json', metrics | {'02_training': {'errors': wrong, 'headlines': [{\n"
    "    'label': 'Test errors', 'value': wrong, 'text': str(wrong), 'detail': 'of 71,000',\n"
    "    'tolerance': 5}]}})\ntime.sleep(pause)",
    "if fail:\n    raise ValueError('no luck in ' + str(folder))",
]
FIRST_PARAMETERS = """dataset = "auto"  # auto, mnist or digits: which
used = "mnist"  # what it claims to be
rate = 0.5  # 0 to 10: a float
flag = True  # a switch
size = 100  # 0 to 1_000_000: bytes
pause = 0.0  # seconds
seed = 1  # a seed"""
SECOND_PARAMETERS = """fail = False  # whether to
pause = 0.0  # seconds
size = 100  # bytes
seed = 2  # a seed
# small, large or
network = "small"  # huge: which
layers = ["one"]  # one, two or three: which"""
PROFILES = 'no_chapters = ["05_draw"]\n[quick.01_eda]\nsize = 10\n[standard]\n'


def write_notebook(path: Path, title: str, parameters: str, cells: list[str]) -> None:
    """A notebook with a title, a parameters cell (run_name added) and code cells."""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    tags = {"tags": ["parameters"]}
    content = [
        markdown(f"# {title}\n\nNext: [training](02_training.ipynb) and [the app](05_draw.ipynb)."),
        code(f'run_name = "interactive"  # folder\n{parameters}', metadata=tags),
        markdown("## A section"),
        *(code(cell) for cell in cells),
        code("assert True", metadata={"tags": ["hide"]}),
    ]
    for index, cell in enumerate(content):
        cell["id"] = f"{path.stem[:2]}-{index:02}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=content, metadata={"kernelspec": kernel}), path)


class CellFailed(Exception):
    """What a failing cell ends an execution with."""

    cell = 1


def play(path: Path, target: Path, parameters: dict) -> None:
    """Execute a notebook's cells in this process, where the kernel is not the point."""
    notebook = nbformat.read(path, as_version=4)
    names: dict = {}
    try:
        for count, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                said = io.StringIO()
                with redirect_stdout(said):
                    exec(cell.source, names)
                    if "parameters" in cell.metadata.get("tags", []):
                        names |= parameters
                cell.execution_count = count
                cell.outputs = [nbformat.v4.new_output("stream", text=said.getvalue())]
    except (ValueError, AssertionError) as error:
        raise CellFailed(f"{type(error).__name__}: {error}") from None
    finally:
        nbformat.write(notebook, target)


def hear_ctrl_c() -> None:
    """In a child: undo what a shell does to its background jobs, and so perhaps to these tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Bench:
    """Two tiny notebooks, an empty home, and the runner."""

    def __init__(self, folder: Path):
        self.notebooks, self.outputs = folder / "notebooks", folder / "outputs"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        write_notebook(self.notebooks / "01_eda.ipynb", "Looking", FIRST_PARAMETERS, FIRST)
        write_notebook(self.notebooks / "02_training.ipynb", "Training", SECOND_PARAMETERS, SECOND)
        (self.notebooks / "profiles.toml").write_text(PROFILES)
        self.code_files, self.packages = {"lib/digits/ink.py": "1"}, PACKAGES
        self.environment = {k: v for k, v in os.environ.items() if k != "DIGITS_DATA"}
        self.environment |= {"HOME": str(self.home), "DIGITS_OUTPUTS": str(self.outputs)}

    def play(
        self, *arguments: str, execute=play, real_report: bool = False, **variables: str
    ) -> SimpleNamespace:
        """Run in this process, without kernels or report; as ``subprocess.run`` says it."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(files, "OUTPUTS", self.outputs)
            patch.setattr(files, "REFERENCE", self.outputs / "reference")
            patch.setattr(comparison, "code", lambda: CODE)
            ran = {f"notebooks/{p.name}": files.sha256(p) for p in self.notebooks.glob("*.ipynb")}
            patch.setattr(comparison, "code_files", lambda: self.code_files | ran)
            patch.setattr(comparison, "packages", lambda: self.packages)
            patch.setenv("HOME", str(self.home))
            patch.delenv("DIGITS_DATA", raising=False)
            if not real_report:
                patch.setattr(
                    report,
                    "html",
                    SimpleNamespace(build=lambda *_: "", readers=lambda *_: ("", "")),
                    raising=False,
                )
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                status = command.main(list(arguments), self.notebooks, execute)
            except SystemExit as stopped:  # argparse
                status = stopped.code
        return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the notebooks in kernels."""
        return [sys.executable, "-c", RUNNER, str(self.notebooks), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run in kernels to the end; stdout and stderr as text."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start in kernels and return at once."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )

    def record(self, name: str = "latest") -> dict:
        """A run's ``run.json``."""
        return json.loads((self.outputs / name / "run.json").read_text())

    def snapshot(self, name: str = "latest") -> dict[str, bytes]:
        """Every file of a run with its bytes."""
        folder = self.outputs / name
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

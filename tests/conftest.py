"""Shared by all tests: tiny notebooks, and a runner started on them as a user would start it."""

import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import nbformat
import pytest

matplotlib.use("Agg")

PROJECT = Path(__file__).resolve().parents[1]
_RUNNER = (
    "import sys; from pathlib import Path; from digits.run import folders; from digits.run import command as runner; folders.MIN_FREE = 0; "
    "sys.exit(runner.main(sys.argv[2:], Path(sys.argv[1])))"
)

# Two notebooks that do what the real ones do, without the libraries that take seconds to load.
FIRST = [
    "import os, pathlib, time\nfrom digits.files import write_json\n"
    "folder = pathlib.Path(os.environ['DIGITS_OUTPUTS']) / run_name\n"
    "(folder / 'data').mkdir(exist_ok=True)\n(folder / 'data/X.npy').write_bytes(bytes(size))",
    "write_json(folder / 'metrics.json', {'01_eda': {'dataset': {'name': used, 'source': 'made up', 'hashes':\n"
    "    {'x_train': 'ab' * 32}, 'n_train': 10}, 'home': str(pathlib.Path.home()), 'rate': rate}})\n"
    "time.sleep(pause)\nprint(folder, pathlib.Path.home())",
]
SECOND = [
    "import os, pathlib, time\nfrom digits.files import read_json, write_json\n"
    "folder = pathlib.Path(os.environ['DIGITS_OUTPUTS']) / run_name\n(folder / 'models').mkdir(exist_ok=True)",
    "(folder / 'models/m.tflite').write_bytes(bytes(size))\n"
    "metrics = read_json(folder / 'metrics.json')\nwrite_json(folder / 'metrics.json', metrics | "
    "{'02_training': {'parameters': 71000, 'headlines': [{'label': 'MNIST test accuracy', 'value': 0.9,\n"
    "    'text': '90.00%', 'detail': '71,000 errors in 710,000', 'tolerance': 0.01}]}})\ntime.sleep(pause)",
    "if fail:\n    raise ValueError('no luck in ' + str(folder))",
]
FIRST_PARAMETERS = (
    'dataset = "auto"  # which\nused = "mnist"  # what it claims to be\nrate = 0.5  # a float\n'
    "flag = True  # a switch\nsize = 100  # bytes\npause = 0.0  # seconds\nseed = 1  # a seed"
)
SECOND_PARAMETERS = (
    "fail = False  # whether to\npause = 0.0  # seconds\nsize = 100  # bytes\nseed = 2  # a seed"
)


def write_notebook(path: Path, title: str, parameters: str, cells: list[str]) -> None:
    """A notebook with a title, a parameters cell (run_name added) and code cells."""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    content = [
        markdown(f"# {title}\n\nNext: [training](02_training.ipynb) and [the app](05_draw.ipynb)."),
        code(
            f'run_name = "interactive"  # folder\n{parameters}', metadata={"tags": ["parameters"]}
        ),
        markdown("## A section"),
        *(code(cell) for cell in cells),
        code("assert True", metadata={"tags": ["hide"]}),
    ]
    for index, cell in enumerate(content):
        cell["id"] = f"{path.stem[:2]}-{index:02}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=content, metadata={"kernelspec": kernel}), path)


def _hear_ctrl_c() -> None:
    """In a child: undo what a shell does to its background jobs, and so perhaps to these tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Bench:
    """A place to run tiny notebooks: their folder, the outputs, an empty home, and the runner as a process."""

    def __init__(self, folder: Path):
        self.notebooks, self.outputs, self.home = (
            folder / "notebooks",
            folder / "outputs",
            folder / "home",
        )
        self.home.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "DIGITS_OUTPUTS": str(self.outputs),
        }
        self.environment.pop("DIGITS_DATA", None)
        write_notebook(self.notebooks / "01_eda.ipynb", "Looking", FIRST_PARAMETERS, FIRST)
        write_notebook(self.notebooks / "02_training.ipynb", "Training", SECOND_PARAMETERS, SECOND)

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the notebooks."""
        return [sys.executable, "-c", _RUNNER, str(self.notebooks), *arguments]

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run to the end; stdout and stderr as text."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start and return at once."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )

    def record(self, name: str = "latest") -> dict:
        """A run's ``run.json``."""
        return json.loads((self.outputs / name / "run.json").read_text())

    def snapshot(self, name: str = "latest") -> dict[str, bytes]:
        """Every file of a run with its bytes."""
        folder = self.outputs / name
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


class Page(HTMLParser):
    """What a test wants to know about an HTML file: its ids, its links, and what it would load from elsewhere."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.links, self.loads, self.images = [], [], [], []
        self.loads += [
            url
            for url in re.findall(r"url\(\s*['\"]?([^'\")]+)", html)
            if not url.startswith("data:")
        ]
        self.loads += re.findall(r"@import[^;]+", html)
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's id, link, image and every address that a browser would fetch for it."""
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "img":
            self.images.append(found)
        fetched = [
            found.get(name)
            for name in ("src", "srcset", "poster", "data", "xlink:href", "background")
        ]
        fetched += [found.get("href")] if tag in ("link", "use", "image", "base") else []
        self.loads += [
            f"<{tag} {url[:80]}>" for url in fetched if url and not url.startswith(("data:", "#"))
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh bench with the two tiny notebooks."""
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, subprocess.CompletedProcess]:
    """A bench on which one run has ended well, shared by tests that only read it."""
    bench = Bench(tmp_path_factory.mktemp("finished"))
    return bench, bench.run("--set", "rate=2")


@pytest.fixture(scope="session")
def mnist():
    """MNIST from ``DIGITS_DATA``; tests that need it are skipped without."""
    _given_or_skip()
    from digits import data

    return data.load("mnist", download=False)


@pytest.fixture(scope="session")
def pen_test():
    """The pen digits of the test writers from ``DIGITS_DATA``."""
    _given_or_skip()
    from digits import data

    return data.load_pen_digits("tes")


def _given_or_skip() -> None:
    if not os.environ.get("DIGITS_DATA"):
        pytest.skip("DIGITS_DATA names no folder with MNIST and the pen digits")

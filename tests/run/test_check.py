"""Reproduction: a run held against a published or a recorded one, what it is called, and the causes that are named."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT, write_notebook
from digits import files as paths
from digits.files import RunError, listing, sha256, write_json
from digits.run import (
    causes,
    checking,
    comparison,
    folders,
    parameters,
    process,
    provenance,
    publication,
    quantities,
    repetition,
    tolerances,
)
from digits.run import command as runner
from digits.run.comparison import Evidence, Outcome

# A project of its own with one notebook that does in no time what the real ones do: read data, follow a seed, a recipe
# in the library, an installed package and the number of threads, and leave a model and numbers.
PARAMETERS = (
    'dataset = "auto"  # which\nseed = 1  # a seed\nsize = 100  # bytes\nfail = False  # whether to'
)
CELLS = [
    "import os, pathlib, random, time\nfrom importlib import metadata\n"
    "from digits import data, recipe\nfrom digits.files import write_json\n"
    "folder = pathlib.Path(os.environ['DIGITS_OUTPUTS']) / run_name\n(folder / 'models').mkdir(exist_ok=True)\n"
    "loaded = data.load(dataset)",
    "wrong = recipe.WRONG + int(os.environ.get('OMP_NUM_THREADS', 0)) + len(metadata.version('absl-py'))\n"
    "loss = random.Random(f'{seed} {loaded.hashes}').random()\n"
    "(folder / 'models/m.tflite').write_text(f'{loss} {wrong}' * size)",
    "write_json(folder / 'metrics.json', {'01_eda': {\n"
    "    'dataset': {'name': 'mnist', 'source': 'made up', 'hashes': loaded.hashes}, 'loss': loss,\n"
    "    'test': {'accuracy': 1 - wrong / 10_000, 'errors': wrong, 'n': 10_000},\n"
    "    'training_seconds': time.time(), 'latency_ms_median': time.time()}})",
    "assert not fail",
]
DATA = """import hashlib
from digits import files as paths
class DataError(Exception): ...
class load:
    def __init__(self, name):
        self.hashes = {"x_train": hashlib.sha256((paths.given_data() / "pixels").read_bytes()).hexdigest()}
"""
_RUNNER = "import sys; from digits.run import folders; from digits.run import command as runner; folders.MIN_FREE = 0; sys.exit(runner.main())"
METRICS = json.loads((paths.REFERENCE / "metrics.json").read_text(encoding="utf-8"))


class Project:
    """A checkout of its own: library, lock, one notebook, data, outputs."""

    def __init__(self, folder: Path):
        self.folder, self.outputs, self.reference = (
            folder,
            folder / "outputs",
            folder / "outputs/reference",
        )

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """``./run_all.sh`` with ``arguments``, in the environment of these tests."""
        path = os.pathsep.join([str(self.folder / "lib"), str(self.folder / "site")])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "DIGITS_DATA": str(self.folder / "data"),
            **variables,
        }
        environment = {
            name: value for name, value in environment.items() if name != "DIGITS_OUTPUTS"
        }
        if "OMP_NUM_THREADS" not in variables:
            environment.pop("OMP_NUM_THREADS", None)
        return subprocess.run(
            [sys.executable, "-P", "-c", _RUNNER, *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the project."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Project:
    """A committed project with a published run."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(
        PROJECT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("requirements.lock", "pyproject.toml", "run_all.sh"):
        shutil.copy(PROJECT / name, folder)
    for name in ("data", "site"):
        (folder / name).mkdir()
    (folder / "data/pixels").write_bytes(bytes(784))
    (folder / "lib/digits/data/mnist.py").write_text(DATA)
    (folder / "lib/digits/recipe.py").write_text("WRONG = 35\n")
    with (folder / "lib/digits/run/parameters.py").open("a") as file:
        file.write('\nPROFILES["quick"] = {"01_eda": {"size": 10}}\n')
    write_notebook(folder / "notebooks/01_eda.ipynb", "Looking", PARAMETERS, CELLS)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "lib", "notebooks", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    project = Project(folder)
    for arguments in (["--run", "good"], ["--publish", "good"]):
        process = project.run(*arguments)
        assert process.returncode == 0, process.stdout + process.stderr
    return project


@pytest.fixture
def project(template, tmp_path) -> Project:
    """A copy of the project with its published run, to be damaged."""
    shutil.copytree(template.folder, tmp_path / "project")
    return Project(tmp_path / "project")


# ./run_all.sh --check


def test_the_same_again_is_identical_whatever_it_took(project):
    published = listing(project.reference)
    process = project.run("--check")
    assert process.returncode == 0 and "IDENTICAL" in process.stdout, (
        process.stdout + process.stderr
    )
    assert "Nothing that is recorded differs" in process.stdout
    times = [
        json.loads((folder / "metrics.json").read_text())["01_eda"]["training_seconds"]
        for folder in (project.reference, project.outputs / "check")
    ]
    assert times[0] != times[1]
    assert listing(project.reference) == published and not (project.outputs / "latest").exists()
    assert "IDENTICAL" in (project.outputs / "check/comparison.md").read_text()


def test_rounding_is_equal_within_the_tolerance_and_the_setting_is_named(project):
    process = project.run("--check", OMP_NUM_THREADS="2")
    assert process.returncode == 3 and "EQUAL WITHIN THE TOLERANCES" in process.stdout, (
        process.stdout + process.stderr
    )
    assert "settings: OMP_NUM_THREADS: absent -> 2" in process.stdout
    assert "| 01_eda.test.errors | 40 | 42 | ± 3 | within |" in process.stdout
    assert "models/m.tflite" in process.stdout


def _another_version(project: Project) -> None:
    """A package of which another version is installed."""
    folder = project.folder / "site/absl_py-99.9.9999.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: absl-py\nVersion: 99.9.9999\n")


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        (lambda project: None, ["--set", "seed=2"], "parameters: 01_eda.seed: 1 -> 2"),
        (
            lambda project: (project.folder / "data/pixels").write_bytes(bytes(783) + b"\1"),
            [],
            "data: x_train: ",
        ),
        (_another_version, [], "packages: absl-py: "),
        (
            lambda project: project.edit("lib/digits/recipe.py", "35", "45"),
            [],
            "code: lib/digits/recipe.py; commit: ",
        ),
        (
            lambda project: project.edit(
                "notebooks/01_eda.ipynb", "recipe.WRONG", "2 * recipe.WRONG"
            ),
            [],
            "code: notebooks/01_eda.ipynb; commit: ",
        ),
    ],
    ids=["seed", "pixel", "package", "library", "notebook"],
)
def test_a_change_is_different_and_named(project, change, arguments, named):
    change(project)
    process = project.run("--check", *arguments)
    assert process.returncode == 4 and "\nDIFFERENT." in process.stdout, (
        process.stdout + process.stderr
    )
    causes_named = process.stdout.split("Likely cause")[1].strip().splitlines()[1:]
    assert len(causes_named) == 1 and causes_named[0].strip().startswith(named)
    assert "| DIFFERENT |" in process.stdout


def test_a_failed_check_harms_nothing_and_keeps_its_own_status(project):
    shutil.copytree(project.outputs / "good", project.outputs / "latest")
    before = {name: listing(project.outputs / name) for name in ("reference", "latest", "good")}
    process = project.run("--check", "--set", "fail=true")
    assert process.returncode == 1 and "Compared" not in process.stdout
    assert before == {name: listing(project.outputs / name) for name in before}
    assert (project.outputs / "check.failed").is_dir() and not (project.outputs / "check").exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no run"),
        (lambda folder: (folder / "run.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "run.json").write_text("{}"), "finished run"),
        (lambda folder: (folder / "metrics.json").unlink(), "missing"),
        (lambda folder: (folder / "metrics.json").write_text("{}"), "not the recorded one"),
    ],
)
def test_a_missing_or_damaged_reference_is_told_before_anything_runs(
    project, monkeypatch, capsys, damage, complaint
):
    damage(project.reference)
    monkeypatch.setattr("digits.files.REFERENCE", project.reference)
    monkeypatch.setattr("digits.files.OUTPUTS", project.outputs)
    assert runner.main(["--check"], project.folder / "notebooks") == 2
    assert complaint in capsys.readouterr().err
    assert not list(project.outputs.glob("check*"))


def test_a_quick_run_has_its_own_small_reference(project):
    assert project.run("--profile", "quick", "--run", "fast").returncode == 0
    refused = project.run("--publish", "fast")
    assert refused.returncode == 2 and "its profile is 'quick', not 'standard'" in refused.stderr
    before = listing(project.reference)
    assert project.run("--profile", "quick", "--publish", "fast").returncode == 0
    assert sorted(listing(project.outputs / "reference-quick")) == ["metrics.json", "run.json"]
    assert listing(project.reference) == before
    process = project.run("--profile", "quick", "--check")
    assert process.returncode == 0 and "outputs/reference-quick" in process.stdout, (
        process.stdout + process.stderr
    )
    assert project.run("--run", "reference-quick").returncode == 2


def test_a_publication_that_is_cut_off_never_replaces_the_published_run(project, monkeypatch):
    before = listing(project.reference)
    monkeypatch.setattr("digits.files.REFERENCE", project.reference)
    monkeypatch.setattr("digits.files.OUTPUTS", project.outputs)
    monkeypatch.setattr(publication.tolerances, "default", lambda metrics: [][0])
    with pytest.raises(IndexError):
        publication.publish("good")
    half = project.outputs / f"{project.reference.name}.building"
    assert half.is_dir() and not (half / "run.json").exists()
    folders.repair(folders.Place(project.outputs, project.reference.name))
    assert listing(project.reference) == before and not half.exists()


def test_publishing_states_the_tolerances_and_leaves_the_comparison_behind(project):
    (project.outputs / "good/comparison.md").write_text("about another run")
    (project.outputs / "good/.metrics.json.lock").touch()
    assert project.run("--publish", "good").returncode == 0
    assert not any(
        (project.reference / name).exists() for name in ("comparison.md", ".metrics.json.lock")
    )
    stated = json.loads((project.reference / "run.json").read_text())["tolerances"]
    assert stated["source"] == "defaults" and stated["numbers"]["01_eda.test.errors"] == 3


# ./run_all.sh --repeat


def test_a_run_is_repeated_from_its_record_alone(project, tmp_path):
    assert project.run("--set", "seed=5", "--set", "size=7").returncode == 0
    shutil.copy(project.outputs / "latest/run.json", tmp_path / "theirs.json")
    shutil.rmtree(project.outputs / "latest")
    process = project.run("--repeat", str(tmp_path / "theirs.json"))
    assert process.returncode == 0 and "IDENTICAL" in process.stdout, (
        process.stdout + process.stderr
    )
    assert "What is different here" not in process.stdout
    again = json.loads((project.outputs / "repeat/run.json").read_text())
    assert again["parameters"]["01_eda"]["seed"] == 5 and again["parameters"]["01_eda"]["size"] == 7


def test_other_code_is_told_before_the_repetition_which_goes_on(project):
    project.edit("lib/digits/recipe.py", "35", "45")
    process = project.run("--repeat", str(project.outputs / "good/run.json"))
    warning, comparison_ = process.stdout.split("[1/1] 01_eda")
    assert "code: lib/digits/recipe.py; commit: " in warning and process.returncode == 4
    assert "| 01_eda.test.errors | 40 | 50 |" in comparison_  # its metrics lie beside its record


def test_other_data_end_a_repetition_before_it_begins(project):
    (project.folder / "data/pixels").write_bytes(b"\1" * 784)
    process = project.run("--repeat", str(project.outputs / "good/run.json"))
    assert (
        process.returncode == 2
        and "the data here are not those of that run (x_train: " in process.stderr
    )
    assert not list(project.outputs.glob("repeat*"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (None, "there is no file"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"name": "voila"}', "no run.json of this project"),
        ({"status": "failed"}, "did not finish"),
        ({"profile": "huge"}, "no profile 'huge'"),
        ({"parameters": {"01_eda": {"speed": 1}}}, "01_eda.speed"),
        ({"parameters": {"09_more": {"seed": 1}}}, "09_more.seed"),
        ({"parameters": {"01_eda": {"seed": "one"}}}, "'seed' is of type int"),
        ({"dataset": {"name": "cifar"}}, "dataset is one of"),
    ],
)
def test_a_damaged_or_foreign_record_is_refused(
    template, tmp_path, monkeypatch, capsys, change, complaint
):
    monkeypatch.setattr("digits.files.OUTPUTS", tmp_path / "outputs")
    path = tmp_path / "run.json"
    if isinstance(change, dict):
        write_json(path, json.loads((template.reference / "run.json").read_text()) | change)
    elif change is not None:
        path.write_text(change)
    assert runner.main(["--repeat", str(path)], template.folder / "notebooks") == 2
    assert complaint in capsys.readouterr().err and not (tmp_path / "outputs").exists()


def test_a_parameter_that_the_record_does_not_know_keeps_its_default_and_is_told(template):
    notebooks = parameters.find_notebooks(template.folder / "notebooks")
    record = json.loads((template.reference / "run.json").read_text())
    del record["parameters"]["01_eda"]["size"]
    options = runner.parse(["--repeat", "run.json"])
    assert repetition.ask(options, record, notebooks).settings == []
    assert repetition.new_here(record, notebooks) == ["01_eda.size = 100"]


@pytest.mark.parametrize(
    "option", [["--set", "seed=2"], ["--profile", "quick"], ["--check"], ["--from", "01"]]
)
def test_a_repetition_takes_everything_from_its_record(template, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        runner.main(
            ["--repeat", str(template.reference / "run.json"), *option],
            template.folder / "notebooks",
        )
    assert stopped.value.code == 2


def test_the_data_of_a_record_are_looked_for_in_earnest():
    from digits import data

    hashes = data.load("digits").hashes
    repetition.check_data({"dataset": {"name": "digits", "hashes": hashes}})
    with pytest.raises(RunError, match="not those of that run .x_test: "):
        repetition.check_data(
            {"dataset": {"name": "digits", "hashes": hashes | {"x_test": "ab" * 32}}}
        )


# What is compared


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("seconds",), True),
        (("training_seconds",), True),
        (("files", "float32", "latency_ms_median"), True),
        (("augmentation", "seconds", "off"), True),
        (("runs", 3, "seconds"), True),
        (("time_ms",), True),
        (("latency_runs",), False),
        (("milliseconds_like",), False),
        (("errors",), False),
        (("items",), False),
    ],
)
def test_durations_are_known_by_their_names(keys, expected):
    assert quantities.is_duration(keys) is expected


def test_every_published_time_is_a_duration_and_nothing_else_is():
    timed = {
        quantities.group(keys)
        for keys, _ in quantities.walk(METRICS)
        if quantities.is_duration(keys)
    }
    assert {"02_training.training_seconds", "04_optimization.files.float32.latency_ms_p95"} <= timed
    others = {quantities.group(keys).rpartition(".")[2] for keys in quantities.compared(METRICS)}
    assert not [
        name
        for name in others
        if any(word in name for word in ("second", "time", "duration", "speed"))
    ]


def test_what_durations_decide_is_not_compared_and_other_advice_is():
    advice = {
        keys[2]
        for keys in quantities.compared(METRICS)
        if keys[:2] == ("04_optimization", "advice")
    }
    assert "as good, and the smallest download" in advice and not [
        purpose for purpose in advice if "fast" in purpose
    ]
    assert {"as good, and fast", "the fastest of all"} <= set(METRICS["04_optimization"]["advice"])


def _alike(**change) -> Evidence:
    """The published numbers with some of 03_evaluation changed."""
    metrics = {**METRICS, "03_evaluation": {**METRICS["03_evaluation"], **change}}
    return Evidence("here", {"stages": []}, metrics)


TEST = METRICS["03_evaluation"]["test"]


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, Outcome.IDENTICAL),
        ({"test": {**TEST, "errors": TEST["errors"] + 1}}, Outcome.WITHIN),
        ({"test": {**TEST, "errors": 3 * TEST["errors"]}}, Outcome.DIFFERENT),
        ({"test": None}, Outcome.DIFFERENT),
        ({"test": {**TEST, "n": TEST["n"] + 1}}, Outcome.DIFFERENT),
        ({"new": 1}, Outcome.DIFFERENT),
        (
            {"errors": {"index": [], "label": [], "first": [], "known": []}},
            Outcome.WITHIN,
        ),  # which ones, not how many
        ({"feedback": {"n": 7}}, Outcome.IDENTICAL),
    ],
)
def test_each_number_is_held_to_its_tolerance(change, outcome):
    assert comparison.compare(_alike(), _alike(**change)).outcome == outcome


def test_a_change_of_the_question_is_no_rounding_and_other_bytes_alone_are():
    def evidence(model, seed):
        files = {"models/m.tflite": {"sha256": model}, "report.html": {"sha256": model}}
        return Evidence(
            "x", {"stages": [], "files": files, "parameters": {"01_eda": {"seed": seed}}}, METRICS
        )

    assert comparison.compare(evidence("a", 1), evidence("b", 1)).outcome == Outcome.WITHIN
    assert comparison.compare(evidence("a", 1), evidence("b", 2)).outcome == Outcome.DIFFERENT
    assert comparison.compare(evidence("a", 1), evidence("a", 1)).outcome == Outcome.IDENTICAL
    assert "Something in the run is not deterministic" in " ".join(
        comparison.summary(comparison.compare(evidence("a", 1), evidence("b", 1))).split()
    )


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"dataset": {"name": "digits"}}, "data", "data set: mnist -> digits"),
        ({"python": "3.13.1"}, "packages", "Python: 3.11.7 -> 3.13.1"),
        ({"lock_sha256": "x"}, "packages", "requirements.lock"),
        (
            {"machine": {"processor": "other", "cores": 2, "instructions": ["avx"]}},
            "hardware",
            "instructions: avx, fma -> avx",
        ),
        (
            {"environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}},
            "settings",
            "TF_ENABLE_ONEDNN_OPTS: 1 -> 0",
        ),
        ({"code_files": {"lib/a.py": "2"}, "code": {"commit": "d" * 40}}, "code", "lib/a.py"),
    ],
)
def test_causes_are_found_in_the_records(change, kind, words):
    record = {
        "dataset": {"name": "mnist"},
        "python": "3.11.7",
        "packages": {},
        "lock_sha256": "y",
        "stages": [],
        "machine": {"processor": "one", "cores": 2, "instructions": ["avx", "fma"]},
        "environment": {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        "code_files": {"lib/a.py": "1"},
        "code": {"commit": "c" * 40},
    }
    assert (
        causes.find(
            record, record | {"environment": {**record["environment"], "TF_CPP_MIN_LOG_LEVEL": "0"}}
        )
        == {}
    )
    assert (
        causes.find(record, record | {"code": {"commit": "d" * 40}}) == {}
    )  # a commit that changed no code
    found = causes.find(record, record | change)
    assert list(found) == [kind] and words in found[kind]


def test_two_runs_that_are_there_are_compared_by_a_command(tmp_path, capsys):
    reference, near, far = (
        _finished(tmp_path / name, errors) for name, errors in (("a", 35), ("b", 36), ("c", 90))
    )
    for folder, status in ((reference, 0), (near, 3), (far, 4), (tmp_path / "nowhere", 2)):
        assert checking.main([str(folder), "--reference", str(reference)]) == status
    assert "holds no run" in capsys.readouterr().err
    assert (
        "| 03_evaluation.test.errors | 35 | 90 | ± 13.9 | DIFFERENT |"
        in (far / comparison.FILE).read_text()
    )


def test_the_differences_come_first_and_the_table_is_cut_on_the_console_only(tmp_path):
    numbers = {"03_evaluation": {"errors_per_digit": [30] * 40}}
    moved = {"03_evaluation": {"errors_per_digit": [31] * 39 + [90]}}
    result = comparison.compare(
        Evidence("a", {"stages": []}, numbers), Evidence("b", {"stages": []}, moved)
    )
    lines = comparison.table(result, rows=10)
    assert (
        "DIFFERENT" in lines[2]
        and lines[-1] == "and 30 more"
        and len(comparison.table(result)) == 42
    )


# Tolerances


def test_no_default_is_so_wide_that_it_cannot_fail():
    table = tolerances.default(METRICS)
    test = METRICS["03_evaluation"]["test"]
    assert 2 <= table["03_evaluation.test.errors"] <= test["errors"] / 2
    assert table["03_evaluation.test.accuracy"] < 1 - test["accuracy"]
    assert "03_evaluation.test.n" not in table and "02_training.parameters" not in table
    assert "01_eda.dataset.hashes.x_train" not in table
    for keys, value in quantities.compared(METRICS).items():
        if quantities.group(keys).startswith(
            "03_evaluation.ensemble."
        ):  # read from a committed file: exact
            assert quantities.group(keys) not in table
        elif quantities.group(keys).endswith((".accuracy", ".errors")):
            assert table[quantities.group(keys)] is not None, quantities.name(keys)
            assert value == 0 or table[quantities.group(keys)] < max(value, 3), quantities.name(
                keys
            )


def test_each_set_has_its_own_number_of_samples():
    row = {
        "validation_errors": 58,
        "validation_n": 5_000,
        "validation_accuracy": 0.9884,
        "pen_accuracy": 0.9805,
        "pen_interval": [0.973, 0.986],
        "pen_errors": 39,
        "pen_n": 2_000,
    }
    table = tolerances.default({"04_optimization": {"channels": {"0.5": row}}})
    for kind, n, errors in (("validation", 5_000, 58), ("pen", 2_000, 39)):
        stated = table[f"04_optimization.channels.0.5.{kind}_accuracy"]
        assert stated == pytest.approx((2 * errors**0.5 + 2) / n, rel=0.01)


def test_measured_tolerances_are_the_largest_deviation_times_a_factor():
    reference = {"a": {"errors": 30, "loss": [1.0, 2.0], "name": "x", "n": 9}}
    runs = [
        {"a": {"errors": 33, "loss": [1.0, 2.5], "name": "x", "n": 9}},
        {"a": {"errors": 28, "loss": [1.25, 2.0], "name": "y", "n": 9}},
    ]
    table = tolerances.measured(reference, runs, factor=2)
    assert table == {"a.errors": 6, "a.loss.*": 1, "a.name": None}
    for number, before, now in (("a.errors", 30, 33), ("a.loss.*", 2.0, 2.5), ("a.name", "x", "y")):
        assert tolerances.agrees(before, now, table[number])
    assert not tolerances.agrees(30, 37, table["a.errors"]) and not tolerances.agrees(
        9, 10, table.get("a.n", 0)
    )


def _finished(folder: Path, errors: int, **record) -> Path:
    folder.mkdir(parents=True)
    write_json(
        folder / "metrics.json", {"03_evaluation": {"test": {"errors": errors, "n": 10_000}}}
    )
    files = {"metrics.json": {"sha256": sha256(folder / "metrics.json")}}
    write_json(folder / "run.json", {"status": "finished", "stages": [], "files": files, **record})
    return folder


def test_the_command_writes_measured_tolerances_into_the_reference(tmp_path, capsys):
    reference, one, other = (
        _finished(tmp_path / name, errors, environment={"OMP_NUM_THREADS": name})
        for name, errors in (("2", 35), ("1", 48), ("4", 31))
    )
    seed = _finished(tmp_path / "seed", 60, parameters={"01_eda": {"seed": 2}})
    arguments = ["--reference", str(reference), "--write", str(one)]
    assert (
        tolerances.main([*arguments, str(other)]) == 0
        and "03_evaluation.test.errors: 26" in capsys.readouterr().out
    )
    stated = json.loads((reference / "run.json").read_text())["tolerances"]
    assert stated["numbers"]["03_evaluation.test.errors"] == 26 and "2 runs" in stated["source"]
    assert (
        comparison.compare(comparison.read(reference), comparison.read(other)).outcome
        == Outcome.WITHIN
    )
    assert (
        tolerances.main([*arguments, str(seed)]) == 2
        and "parameters: 01_eda.seed" in capsys.readouterr().err
    )


# What run.json records for it


def test_the_record_names_every_file_of_code_and_nothing_that_python_makes():
    files = provenance.code_files()
    assert {
        "lib/digits/recognizer/ink.py",
        "notebooks/02_training.ipynb",
        "run_all.sh",
        "pyproject.toml",
    } <= files.keys()
    assert (
        files["lib/digits/recognizer/ink.py"] == sha256(PROJECT / "lib/digits/recognizer/ink.py")
        and "requirements.lock" not in files
    )
    assert not [
        name
        for name in files
        if "__pycache__" in name or ".ipynb_checkpoints" in name or "egg-info" in name
    ]


def test_what_the_kernels_compute_with_is_recorded_even_when_nobody_set_it(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    with process.kernel_environment():
        inherited = provenance.environment()
    code = (
        "import os; from digits.training import backend; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    alone = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert inherited["TF_ENABLE_ONEDNN_OPTS"] == alone


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_processor_is_recorded_with_what_decides_its_rounding():
    machine = provenance.machine()
    flags = Path("/proc/cpuinfo").read_text()
    assert machine["instructions"] and all(name in flags for name in machine["instructions"])
    assert machine["libc"] and isinstance(machine["gpus"], list)

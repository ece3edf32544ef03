"""Two runs held against each other: what the outcome is called, which causes are named, what is written down."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import Bench, play
from digits import files
from digits.files import PROJECT, sha256, write_json
from digits.run import comparison, pipeline
from digits.run.comparison import Evidence, Outcome

METRICS = json.loads((files.REFERENCE / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def bench(tmp_path) -> Bench:
    """A published run, made without a kernel."""
    bench = Bench(tmp_path)
    for arguments in (["--run", "good"], ["--publish", "good"]):
        assert bench.play(*arguments).returncode == 0
    return bench


# ./run_all.sh --check


@pytest.mark.slow
@pytest.mark.service
def test_in_kernels_the_same_again_is_identical_whatever_it_took(tmp_path):
    bench = Bench(tmp_path)
    assert bench.run("--run", "good").returncode == 0
    (bench.outputs / "good").rename(bench.outputs / "theirs")
    assert bench.run("--run", "check").returncode == 0
    theirs = comparison.read(bench.outputs / "theirs")
    outcome, text = comparison.summary(theirs, comparison.read(bench.outputs / "check"))
    assert outcome is Outcome.IDENTICAL, text


def test_the_same_again_is_identical_whatever_it_took(bench):
    published = bench.snapshot("reference")
    process = bench.play("--check")
    assert process.returncode == 0 and "\nIDENTICAL." in process.stdout
    assert "Nothing else that is recorded differs" in process.stdout
    times = [
        json.loads((bench.outputs / name / "metrics.json").read_text())["01_eda"]
        for name in ("reference", "check")
    ]
    assert times[0]["training_seconds"] != times[1]["training_seconds"]
    assert bench.snapshot("reference") == published and not (bench.outputs / "latest").exists()
    assert "IDENTICAL" in (bench.outputs / "check/comparison.md").read_text()


def test_rounding_is_equal_within_the_tolerance_and_the_setting_is_named(bench):
    process = bench.play("--check", OMP_NUM_THREADS="2")
    assert process.returncode == 3 and "\nEQUAL WITHIN THE TOLERANCES." in process.stdout
    assert process.stdout.count("environment: OMP_NUM_THREADS: absent -> 2") == 2  # before, after
    assert "| Test errors | 37 | 39 | ± 5 |" in process.stdout
    assert "| 02_training.errors | 37 | 39 |" in process.stdout
    assert "models/m.tflite" in process.stdout


def _another_recipe(bench: Bench) -> None:
    path = bench.notebooks / "02_training.ipynb"
    path.write_text(path.read_text().replace("wrong = 35", "wrong = 45"))
    bench.code_files = {"lib/digits/ink.py": "2"}


@pytest.mark.parametrize(
    ("change", "arguments", "status", "named"),
    [
        (None, ["--set", "02.seed=3"], 4, "parameters: 02_training.seed: 2 -> 3"),
        (_another_recipe, [], 4, "code: lib/digits/ink.py; notebooks/02_training.ipynb; commit: "),
        (None, ["--set", "used=digits"], 4, "data: data set: mnist -> digits"),
    ],
)
def test_a_change_is_different_and_named(bench, change, arguments, status, named):
    if change:
        change(bench)
    process = bench.play("--check", *arguments)
    assert process.returncode == status and "\nDIFFERENT." in process.stdout
    causes = process.stdout.split("Likely cause")[1].strip().splitlines()[1:]
    assert causes[0].strip().startswith(named)


def test_another_package_is_named_before_and_after(bench):
    bench.packages = bench.packages | {"numpy": "99.9"}
    before, after = bench.play("--check").stdout.split("[1/2]")
    assert "packages: numpy: " in before and "packages: numpy: " in after


def test_a_failed_check_harms_nothing_and_keeps_its_own_status(bench):
    assert bench.play().returncode == 0
    before = {name: bench.snapshot(name) for name in ("reference", "latest", "good")}
    process = bench.play("--check", "--set", "fail=true")
    assert process.returncode == 1 and "Compared" not in process.stdout
    assert before == {name: bench.snapshot(name) for name in before}
    assert (bench.outputs / "check.failed").is_dir() and not (bench.outputs / "check").exists()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("run.json", None, "holds no run"),
        ("run.json", "{", "damaged"),
        ("run.json", "{}", "no run.json of a run"),
        ("metrics.json", None, "missing"),
        ("metrics.json", "{}", "not the recorded one"),
    ],
)
def test_a_damaged_reference_is_told_before_anything_runs(bench, name, content, complaint):
    path = bench.outputs / "reference" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    process = bench.play("--check")
    assert process.returncode == 2 and complaint in process.stderr
    assert not [path for path in bench.outputs.glob("check*") if path.is_dir()]


# ./run_all.sh --check RUN.JSON


def test_a_run_is_repeated_from_its_record_alone(bench, tmp_path):
    assert bench.play("--set", "02.seed=5", "--set", "01.size=7").returncode == 0
    theirs = (bench.outputs / "latest/run.json").rename(tmp_path / "theirs.json")
    process = bench.play("--check", str(theirs))
    assert process.returncode == 0 and "IDENTICAL" in process.stdout, process.stderr
    assert "What is different here" not in process.stdout
    again = bench.record("check")
    assert again["parameters"]["02_training"]["seed"] == 5
    assert again["settings"] == ["01_eda.size=7", "02_training.seed=5"]
    assert again["dataset"]["requested"] == "mnist"  # what was used, so never the stand-in
    process = bench.play("--check", str(theirs), OMP_NUM_THREADS="1")
    assert process.returncode == 3 and "| Test errors | 40 | 41 | ± 5 |" in process.stdout


def test_a_parameter_that_the_record_does_not_know_keeps_its_default_and_is_told(bench, tmp_path):
    record = bench.record("reference")
    del record["parameters"]["01_eda"]["rate"]
    write_json(tmp_path / "run.json", record)
    process = bench.play("--check", str(tmp_path))
    assert "01_eda.rate: absent -> 0.5" in process.stdout


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"name": "voila"}', "no run.json of a run"),
        ({"status": "failed"}, "not that of a finished run (failed)"),
        ({"profile": "huge"}, "no profile 'huge'"),
        ({"parameters": {"01_eda": {"speed": 1}}}, "01_eda.speed"),
        ({"parameters": {"09_more": {"seed": 1}}}, "09_more.seed"),
        ({"parameters": {"01_eda": {"seed": "x"}, "02_training": {}}}, "'seed' is of type int"),
        ({"parameters": {"01_eda": {"rate": 99}, "02_training": {}}}, "'rate' takes 0 to 10"),
        ({"dataset": {"name": "cifar"}}, "takes auto, mnist or digits, not 'cifar'"),
    ],
)
def test_a_damaged_or_foreign_record_is_refused(bench, tmp_path, change, complaint):
    path = tmp_path / "run.json"
    if isinstance(change, str):
        path.write_text(change)
    else:
        write_json(path, bench.record("reference") | change)
    process = bench.play("--check", str(path))
    assert process.returncode == 2 and complaint in process.stderr
    assert not [path for path in bench.outputs.glob("check*") if path.is_dir()]


# What is compared


def test_durations_and_circumstances_are_left_out_and_nothing_else_is():
    assert comparison.numbers(
        {
            "seconds": 1,
            "training_seconds": 1,
            "time_ms": 1,
            "latency_ms_median": {"a": 1},
            "advice": {"as good, and fast": "int8", "the smallest": "micro"},
            "dataset": {"source": "a folder", "n_train": 9},
            "headlines": [1],
            "latency_runs": 3,
            "milliseconds_like": 3,
            "errors": [4, {"a": None}],
        }
    ) == {
        "advice.the smallest": "micro",
        "dataset.n_train": 9,
        "latency_runs": 3,
        "milliseconds_like": 3,
        "errors.0": 4,
        "errors.1.a": None,
    }
    names = {name.rpartition(".")[2] for name in comparison.numbers(METRICS)}
    assert not [name for name in names if "second" in name or "duration" in name]


def evidence(value=44, model="a", seed=1, **headline) -> Evidence:
    """A run of one number and one model."""
    first = {"label": "errors", "value": value, "text": str(value), "tolerance": 10} | headline
    metrics = {"03_x": {"errors": value, "headlines": [first]}}
    record = {
        "stages": [],
        "files": {"models/m.tflite": {"sha256": model}, "report.html": {"sha256": model}},
        "parameters": {"03_x": {"seed": seed, "run_name": model}},
        "code": {"commit": "c" * 40},
    }
    return Evidence("x", record, metrics)


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (evidence(), Outcome.IDENTICAL),
        (
            evidence(model="b"),
            Outcome.EQUAL_WITHIN_THE_TOLERANCES,
        ),  # rounding shows in the bytes first
        (evidence(45), Outcome.EQUAL_WITHIN_THE_TOLERANCES),
        (evidence(54), Outcome.EQUAL_WITHIN_THE_TOLERANCES),
        (evidence(55), Outcome.DIFFERENT),
        (evidence(45, tolerance=99, seed=2), Outcome.DIFFERENT),  # another question
        (evidence(45, label="others"), Outcome.DIFFERENT),
        (Evidence("x", evidence(45).record, {"03_x": {"errors": 45}}), Outcome.DIFFERENT),
        (Evidence("x", evidence().record | {"files": {}}, evidence().metrics), Outcome.DIFFERENT),
    ],
)
def test_the_outcome_follows_hashes_numbers_and_headlines(run, outcome):
    found, text = comparison.summary(evidence(), run)
    assert found == outcome and str(outcome) in text


def test_a_headline_without_a_tolerance_may_have_any_value():
    outcome, text = comparison.summary(evidence(44, tolerance=None), evidence(900))
    assert outcome == Outcome.EQUAL_WITHIN_THE_TOLERANCES and "| errors | 44 | 900 | any |" in text
    assert "Nothing else that is recorded differs" in text


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"dataset": {"name": "digits"}}, "data", "data set: mnist -> digits"),
        ({"python": "3.13.1"}, "packages", "Python: 3.11.7 -> 3.13.1"),
        ({"lock_sha256": "x"}, "packages", "requirements.lock: y -> x"),
        (
            {"machine": {"processor": "one", "instructions": ["avx"]}},
            "machine",
            "instructions: avx, fma -> avx",
        ),
        (
            {"environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}},
            "environment",
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
        "machine": {"processor": "one", "instructions": ["avx", "fma"]},
        "environment": {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        "code_files": {"lib/a.py": "1"},
        "code": {"commit": "c" * 40},
    }

    def causes(**change):
        return comparison.causes(Evidence("a", record), Evidence("b", record | change))

    assert causes(environment=record["environment"] | {"TF_CPP_MIN_LOG_LEVEL": "0"}) == {}
    assert causes(code={"commit": "d" * 40}) == {}  # a commit that changed no code
    assert list(causes(**change)) == [kind] and words in causes(**change)[kind]


def test_two_runs_that_are_there_are_compared(bench):
    for name, seed in (("near", 4), ("far", 90)):
        assert bench.play("--run", name, "--set", f"02.seed={seed}").returncode == 0
    reference = comparison.read(bench.outputs / "reference")
    for name, status in (("good", 0), ("near", 4), ("far", 4)):
        assert comparison.report(reference, bench.outputs / name) == status
    with pytest.raises(files.RunError, match="holds no run"):
        comparison.report(reference, bench.outputs / "nowhere")
    table = (bench.outputs / "far/comparison.md").read_text()
    assert "| Test errors | 37 | 125 | DIFFERENT |" in table


def test_the_table_of_numbers_is_cut_on_the_console_only():
    def many(value):
        return Evidence("x", evidence().record, {"03_x": {"confusion": [value] * 40}})

    assert "and 16 more" in comparison.summary(many(1), many(2), comparison.SHOWN)[1]
    assert comparison.summary(many(1), many(2))[1].count("| 03_x.confusion") == 40


# What run.json records for it


def test_paths_are_replaced_in_prose_and_left_alone_in_images():
    temporary = f"{tempfile.gettempdir()}/ipykernel_12/345.py"
    text = f"{PROJECT}/lib/a.py and {Path.home()}/x, not {Path.home()}2; {temporary}"
    assert comparison.tidy(text) == f"./lib/a.py and ~/x, not {Path.home()}2; cell.py"
    image = f'<img src="data:image/png;base64,AAAA{PROJECT}/AA=">'
    assert comparison.tidy(image) == image
    tree = {"image/png": str(PROJECT), "text/plain": [str(PROJECT)]}
    assert comparison.tidy_tree(tree) == {"image/png": str(PROJECT), "text/plain": ["."]}


def test_variables_are_recorded_by_a_list_so_that_secrets_are_not(monkeypatch):
    monkeypatch.setenv("TF_TOKEN_app_example_org", "secret")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    recorded = comparison.provenance()["environment"]
    assert recorded["TF_NUM_INTRAOP_THREADS"] == "2" and "secret" not in recorded.values()


def test_the_code_hash_follows_every_change(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    assert comparison.code() == {"commit": None, "dirty": None, "diff_sha256": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/a.py").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    clean = comparison.code()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["diff_sha256"] is None
    (tmp_path / "notes.txt").write_text("no code")
    assert comparison.code() == clean
    hashes = set()
    for name, text in (("a.py", "2"), ("a.py", "3"), ("new.py", "1"), ("new.py", "2")):
        (tmp_path / "lib" / name).write_text(text)
        changed = comparison.code()
        assert changed["dirty"] is True
        hashes.add(changed["diff_sha256"])
    assert len(hashes) == 4


def test_the_record_names_every_file_of_code_and_nothing_that_python_makes():
    found = comparison.code_files()
    wanted = {"lib/digits/recognizer/ink.py", "notebooks/02_training.ipynb", "run_all.sh"}
    assert wanted | {"pyproject.toml", "notebooks/profiles.toml"} <= found.keys()
    ink = "lib/digits/recognizer/ink.py"
    assert found[ink] == sha256(PROJECT / ink) and "requirements.lock" not in found
    made = ("__pycache__", ".ipynb_checkpoints", "egg-info")
    assert not [name for name in found if any(word in name for word in made)]


def test_what_the_kernels_compute_with_is_recorded_even_when_nobody_set_it(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    with pipeline.kernel_environment():
        assert comparison.provenance()["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_processor_is_recorded_with_what_decides_its_rounding():
    machine = comparison.machine()
    flags = Path("/proc/cpuinfo").read_text()
    assert machine["instructions"] and all(name in flags for name in machine["instructions"])
    assert machine["libc"] and isinstance(machine["gpus"], list)
    assert machine["cores"] == len(os.sched_getaffinity(0))


@pytest.mark.slow  # papermill is imported
def test_the_executor_of_these_tests_is_the_real_ones_signature():
    from inspect import signature

    from digits.run import execution

    assert [*signature(play).parameters] == [*signature(execution.execute).parameters]

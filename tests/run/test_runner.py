"""The runner: requests are checked first, a run is whole or kept aside, nobody goes on writing after the end."""

import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conftest import PROJECT, write_notebook
from digits.files import RunError, listing, write_json
from digits.run import command as runner
from digits.run import console, folders, parameters, process, provenance, publication
from digits.run.folders import Place
from digits.run.process import Stopped

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def wait_for_cell(bench, name: str = "latest") -> None:
    """Wait until the second notebook has written its file and sleeps."""
    wait_for(lambda: (bench.outputs / f"{name}.building/models/m.tflite").exists())


def kernels(bench) -> list[int]:
    """The processes whose environment names this bench's outputs and whose command is a kernel."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"DIGITS_OUTPUTS={bench.outputs}".encode() in (folder / "environ").read_bytes()
            if mine and b"ipykernel" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


# A whole run


def test_a_run_ends_well_and_leaves_the_contract(finished):
    bench, process = finished
    assert process.returncode == 0, process.stderr
    run = bench.outputs / "latest"
    for name in (
        "run.json",
        "metrics.json",
        "report.html",
        "notebooks/01_eda.ipynb",
        "data/X.npy",
        "models/m.tflite",
    ):
        assert (run / name).is_file(), name
    assert sorted(path.name for path in bench.outputs.glob("latest*")) == ["latest"]


def test_console_tells_where_it_is_and_ends_with_the_report(finished):
    lines = finished[1].stdout.splitlines()
    assert any("[1/2] 01_eda" in line and "Looking" in line and "elapsed" in line for line in lines)
    assert any("[2/2] 02_training" in line for line in lines)
    assert "latest/report.html" in finished[1].stdout and "71,000" in lines[-1]
    assert (
        "WARNING" not in finished[1].stdout + finished[1].stderr
        and "Error" not in finished[1].stderr
    )


def test_record_holds_what_a_stranger_needs_to_repeat_the_run(finished):
    record = finished[0].record()
    assert record["status"] == "finished" and record["error"] is None
    assert record["command"] == "./run_all.sh --set rate=2" and record["profile"] == "standard"
    assert record["parameters"]["01_eda"] == {
        "run_name": "latest",
        "dataset": "auto",
        "used": "mnist",
        "rate": 2.0,
        "flag": True,
        "size": 100,
        "pause": 0.0,
        "seed": 1,
    }
    assert (
        record["changed"] == {"01_eda": ["rate"], "02_training": []}
        and record["seeds"]["02_training"] == 2
    )
    assert record["dataset"]["requested"] == "auto" and record["dataset"]["hashes"] == {
        "x_train": "ab" * 32
    }
    assert (
        record["packages"]["papermill"]
        and record["machine"]["cores"] >= 1
        and len(record["lock_sha256"]) == 64
    )
    assert record["environment"]["PYTHONHASHSEED"] == "0"
    assert [stage["status"] for stage in record["stages"]] == ["finished", "finished"]
    files = listing(finished[0].outputs / "latest")
    files.pop("run.json")
    assert record["files"] == files and record["models"] == {
        "m.tflite": files["models/m.tflite"]["sha256"]
    }
    assert record["stages"][1]["files"].keys() == {"models/m.tflite", "notebooks/02_training.ipynb"}


def test_nothing_names_this_machine(finished):
    bench = finished[0]
    secrets = [str(bench.outputs), str(bench.home), str(PROJECT), str(Path.home()), ".building"]
    names = (socket.gethostname(), os.environ.get("USER", ""))
    secrets += [name for name in names if len(name) > 4 and name not in ("digits", "localhost")]
    for name in (
        "run.json",
        "report.html",
        "notebooks/01_eda.ipynb",
        "notebooks/02_training.ipynb",
    ):
        text = (bench.outputs / "latest" / name).read_text()
        assert not [secret for secret in secrets if secret in text], name


def test_a_users_own_python3_kernel_and_startup_files_are_not_used(bench):
    spec = bench.home / ".local/share/jupyter/kernels/python3"
    startup = bench.home / ".ipython/profile_default/startup"
    spec.mkdir(parents=True), startup.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "mine", "language": "python"})
    )
    (startup / "00.py").write_text("raise SystemExit('personal')")
    assert bench.run().returncode == 0


def test_the_stand_in_is_announced(bench):
    process = bench.run("--set", "used=digits")
    assert "DID NOT USE MNIST" in process.stdout
    assert (
        "did not use MNIST"
        in (bench.outputs / "latest/report.html").read_text().split("<header")[0]
    )


# Requests that are refused


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bogus"], "unrecognized arguments"),
        (["--profil", "quick"], "unrecognized arguments"),
        (["--profile", "huge"], "invalid choice"),
        (["--dataset", "cifar"], "invalid choice"),
        (["--set", "bogus=1"], "no notebook has the parameter 'bogus'"),
        (["--set", "03_x.size=1"], "no notebook '03_x'"),
        (["--set", "02_training.rate=1"], "has no parameter 'rate'"),
        (["--set", "size=1.5"], "'size' is of type int"),
        (["--set", "size=True"], "'size' is of type int"),
        (["--set", "size={[]:1}"], "'size' is of type int"),
        (["--publish", "x", "--from", "02"], "--publish takes"),
        (["--set", "flag=1"], "'flag' is of type bool"),
        (["--set", "rate=fast"], "'rate' is of type float"),
        (["--set", "rate=1e999"], "finite"),
        (["--set", "size"], "PARAM=VALUE"),
        (["--set", "dataset=cifar"], "one of"),
        (["--set", "run_name=x"], "--run"),
        (["--from", "9"], "choose among"),
        (["--from", "02"], "no run 'latest'"),
        (["--run", "../x"], "no name for a run"),
        (["--run", "reference"], "published run"),
        (["--run", "x.failed"], "the runner's own"),
        (["--run", ""], "no name for a run"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    bench, monkeypatch, capsys, arguments, complaint
):
    monkeypatch.setattr("digits.files.OUTPUTS", bench.outputs)
    try:
        status = runner.main(arguments, bench.notebooks)
    except SystemExit as error:  # argparse
        status = error.code
    assert status == 2 and complaint in capsys.readouterr().err
    assert not bench.outputs.exists() or not [
        path for path in bench.outputs.iterdir() if path.is_dir()
    ]


def test_data_folder_that_does_not_exist_is_refused(bench, monkeypatch, capsys):
    monkeypatch.setenv("DIGITS_DATA", str(bench.home / "nowhere"))
    assert runner.main([], bench.notebooks) == 2 and "is no folder" in capsys.readouterr().err


def test_kernels_get_absolute_folders_and_a_fixed_environment(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIGITS_DATA", "data")
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    with process.kernel_environment():
        assert (
            os.environ["DIGITS_DATA"] == str(tmp_path / "data")
            and Path(os.environ["DIGITS_OUTPUTS"]).is_absolute()
        )
        assert os.environ["PYTHONHASHSEED"] == "0" and "MPLBACKEND" not in os.environ
    assert os.environ["DIGITS_DATA"] == "data" and os.environ["MPLBACKEND"] == "TkAgg"


def test_every_profile_fits_the_notebooks():
    notebooks = parameters.find_notebooks(PROJECT / "notebooks")
    for profile in parameters.PROFILES:
        parameters.effective(notebooks, profile, [])


def test_a_new_notebook_is_a_chapter_and_the_app_is_none(bench):
    for name in ("05_draw", "06_more"):
        write_notebook(bench.notebooks / f"{name}.ipynb", name, "seed = 1  # a seed", [])
    found = parameters.find_notebooks(bench.notebooks)
    assert [notebook.name for notebook in found] == ["01_eda", "02_training", "06_more"]


def test_values_take_the_type_of_the_default(bench):
    notebooks = parameters.find_notebooks(bench.notebooks)
    settings = ["rate=2", "flag=false", "used=1", "01.size=7"]
    values = parameters.effective(notebooks, "standard", settings)
    assert values["01_eda"] | {"pause": 0} == {
        "run_name": "interactive",
        "dataset": "auto",
        "used": "1",
        "rate": 2.0,
        "flag": False,
        "size": 7,
        "pause": 0,
        "seed": 1,
    }
    assert values["02_training"]["size"] == 100


@pytest.mark.parametrize(
    "source",
    [
        "a = 1 + x",
        "a, b = 1, 2",
        "import os",
        "a = print()",
        "a = b = 1",
        "%matplotlib inline",
        "a = {[]: 1}",
    ],
)
def test_a_parameters_cell_holds_literals_only(source):
    with pytest.raises(RunError):
        parameters.read_literals(source, "x.ipynb")


# Runs that end badly


@pytest.mark.parametrize(
    ("error", "status"), [(OSError(errno.ENOSPC, "full"), 2), (Stopped(signal.SIGTERM), 143)]
)
def test_a_run_that_ends_before_its_first_notebook_says_why_and_leaves_nothing(
    bench, monkeypatch, error, status
):
    def end(*_):
        raise error

    monkeypatch.setattr("digits.files.OUTPUTS", bench.outputs)
    monkeypatch.setattr("digits.run.console.stage", end)
    assert runner.main([], bench.notebooks) == status
    assert not [path for path in bench.outputs.iterdir() if path.is_dir()]


def test_a_failing_notebook_stops_the_run_and_the_good_one_stays(bench):
    assert bench.run().returncode == 0
    good = bench.snapshot()
    process = bench.run("--set", "fail=true")
    assert process.returncode == 1
    assert "FAILED in 02_training" in process.stdout and "ValueError: no luck" in process.stdout
    assert "if fail:" in process.stdout and "latest.failed" in process.stdout
    assert bench.snapshot() == good
    record = bench.record("latest.failed")
    assert (
        record["status"] == "failed"
        and record["error"]["notebook"] == "02_training"
        and record["error"]["cell"]
    )
    executed = (bench.outputs / "latest.failed/notebooks/02_training.ipynb").read_text()
    assert (
        "no luck" in executed
        and str(bench.outputs) not in executed
        and "latest.building" not in executed
    )


def test_a_kernel_that_dies_is_named(bench):
    write_notebook(
        bench.notebooks / "02_training.ipynb",
        "Dying",
        "x = 1  # y",
        ["import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"],
    )
    process = bench.run()
    assert (
        process.returncode == 1 and "kernel died" in process.stdout and "os.kill" in process.stdout
    )
    assert bench.record("latest.failed")["error"]["notebook"] == "02_training"


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_its_kernel(bench, number, status):
    process = bench.start("--set", "02.pause=600.0")
    wait_for_cell(bench)
    assert kernels(bench)
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert (
        process.returncode == status
        and "INTERRUPTED in 02_training" in output
        and "Traceback" not in output
    )
    assert not kernels(bench)
    assert bench.record("latest.failed")["status"] == "interrupted"
    assert (
        not (bench.outputs / "latest").exists() and not (bench.outputs / "latest.building").exists()
    )


@linux
def test_sigkill_leaves_no_kernel_and_the_next_run_goes_on(bench):
    assert bench.run().returncode == 0
    good = bench.snapshot()
    process = bench.start("--set", "02.pause=600.0")
    wait_for_cell(bench)
    process.kill()
    process.communicate()
    wait_for(lambda: not kernels(bench), 5)
    assert bench.snapshot() == good and bench.record("latest.building")["status"] == "running"
    process = bench.run("--from", "02", "--set", "02.pause=0.0")
    assert process.returncode == 0 and "was killed" in process.stdout, (
        process.stdout + process.stderr
    )
    assert bench.record("latest.failed")["status"] == "interrupted"
    record = bench.record()
    assert record["stages"][0]["carried_over"] and "carried_over" not in record["stages"][1]


@linux
def test_a_kernel_whose_runner_was_killed_dies_in_the_middle_of_its_work(bench):
    """open_run ties the kernel to the runner: not even code that never lets Python breathe goes on."""
    write_notebook(
        bench.notebooks / "01_eda.ipynb",
        "Busy",
        "x = 1  # y",
        [
            "from digits.report import notebook as runs\nrun = runs.open_run(run_name, '01_eda')\n(run.models / 'm.tflite').write_bytes(b'x')",
            "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
        ],
    )  # one C call that holds the interpreter for years
    process = bench.start()
    wait_for_cell(bench)
    time.sleep(1)
    process.kill()
    process.communicate()
    wait_for(lambda: not kernels(bench), 5)


def test_two_runs_of_one_name_do_not_mix_and_others_go_on(bench):
    first = bench.start("--set", "01.pause=8.0")
    wait_for(lambda: (bench.outputs / "latest.building/run.json").exists())
    second = bench.run()
    assert second.returncode == 2 and "in progress" in second.stderr
    other = bench.run("--run", "other", "--set", "rate=9")
    assert other.returncode == 0
    assert first.wait(120) == 0 and first.stdout.close() is None
    rates = {
        name: json.loads((bench.outputs / name / "metrics.json").read_text())["01_eda"]["rate"]
        for name in ("latest", "other")
    }
    assert rates == {"latest": 0.5, "other": 9.0}


@pytest.mark.parametrize("notebook", ["01", "02"])
def test_a_full_disk_is_named_and_the_good_run_stays(bench, notebook):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace here to make a small disk in")
    bench.outputs.mkdir()
    small = f"mount -t tmpfs -o size=600k none {bench.outputs} && "
    runs = [
        f"{{ {shlex.join(bench.command(*arguments))}; echo status $?; }}"
        for arguments in ([], ["--set", f"{notebook}.size=900000"])
    ]
    keep = f"cp -r {bench.outputs} {bench.home}/disk"
    script = (
        small + f"{runs[0]} && cp -r {bench.outputs}/latest {bench.home}/good && {runs[1]}; {keep}"
    )
    output = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env=bench.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    ).stdout
    assert "status 0" in output and "status 1" in output and "disk is full" in output, output
    disk, good = listing(bench.home / "disk/latest"), listing(bench.home / "good")
    assert disk == good and (bench.home / "disk/latest.failed").is_dir()


def test_too_little_space_is_refused_at_the_start(bench, monkeypatch):
    bench.outputs.mkdir()
    monkeypatch.setattr(folders, "MIN_FREE", 1 << 60)
    with pytest.raises(RunError, match="free"):
        folders.check_space(Place(bench.outputs, "latest"))


# Continuing


def test_a_failed_run_is_continued_where_it_stopped(bench):
    assert bench.run("--set", "fail=true", "--set", "rate=3").returncode == 1
    process = bench.run("--from", "02", "--set", "fail=false")
    assert process.returncode == 0 and "[1/2]" not in process.stdout and "[2/2]" in process.stdout
    record = bench.record()
    assert record["parameters"]["01_eda"]["rate"] == 3.0  # taken over from the recorded run
    metrics = json.loads((bench.outputs / "latest/metrics.json").read_text())
    assert metrics.keys() == {"01_eda", "02_training"}
    assert "Chapter 2" in (bench.outputs / "latest/report.html").read_text()


@pytest.mark.parametrize(
    ("damage", "arguments", "complaint"),
    [
        (lambda run: (run / "data/X.npy").write_bytes(b"\1" * 100), [], "data/X.npy has changed"),
        (lambda run: (run / "data/X.npy").unlink(), [], "data/X.npy is missing"),
        (lambda run: _change_metrics(run), [], "the numbers of 01_eda"),
        (lambda run: (run / "metrics.json").write_text("{"), [], "damaged"),
        (None, ["--profile", "quick"], "profile"),
        (None, ["--dataset", "digits"], "01_eda.dataset"),
        (None, ["--set", "rate=9"], "01_eda.rate: recorded 2.0, now 9.0"),
    ],
)
def test_continuing_is_refused_when_the_inputs_are_not_the_recorded_ones(
    finished, bench, monkeypatch, capsys, damage, arguments, complaint
):
    shutil.copytree(finished[0].outputs / "latest", bench.outputs / "latest")
    monkeypatch.setattr("digits.files.OUTPUTS", bench.outputs)
    monkeypatch.setattr(folders, "MIN_FREE", 0)
    if damage:
        damage(bench.outputs / "latest")
    before = bench.snapshot()
    assert runner.main(["--from", "02", *arguments], bench.notebooks) == 2
    assert complaint in capsys.readouterr().err and bench.snapshot() == before
    assert not (bench.outputs / "latest.building").exists()


def _change_metrics(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["01_eda"]["rate"] = 7
    write_json(run / "metrics.json", metrics)


# The swap


def _folder(path: Path, status: str, mark: str) -> None:
    path.mkdir(parents=True)
    write_json(path / "run.json", {"status": status, "mark": mark})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"": "old", ".building": "new"}, {"": "new"}),  # finished, killed before the swap
        ({".previous": "old", ".building": "new"}, {"": "new"}),  # killed between the two renames
        ({"": "new", ".previous": "old"}, {"": "new"}),  # killed while the old run was deleted
        ({".previous": "old"}, {"": "old"}),
    ],
)
def test_an_interrupted_swap_is_brought_to_an_end(tmp_path, before, after):
    place = Place(tmp_path, "run")
    for suffix, mark in before.items():
        _folder(tmp_path / f"run{suffix}", "finished", mark)
    folders.repair(place)
    marks = {
        path.name: json.loads((path / "run.json").read_text())["mark"]
        for path in tmp_path.iterdir()
    }
    assert marks == {f"run{suffix}": mark for suffix, mark in after.items()}


def test_a_copy_cut_short_does_not_replace_the_failed_run(tmp_path):
    _folder(tmp_path / "run.failed", "failed", "precious")
    (tmp_path / "run.building").mkdir()
    folders.repair(Place(tmp_path, "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.failed"]


# Expected times, publishing


def test_expected_times_come_from_the_latest_run_of_the_same_kind(tmp_path):
    runs = (("a", "2024", "quick", 1), ("b", "2025", "quick", 2), ("c", "2026", "full", 3))
    for name, ended, profile, seconds in runs:
        (tmp_path / name).mkdir()
        write_json(
            tmp_path / name / "run.json",
            {
                "status": "finished",
                "profile": profile,
                "dataset": {"requested": "auto"},
                "ended": ended,
                "stages": [{"notebook": "01_eda", "seconds": seconds}],
            },
        )
    assert console.expected_seconds(tmp_path, "quick", "auto") == {"01_eda": 2}
    assert console.expected_seconds(tmp_path, "standard", "auto") == {}


@pytest.fixture
def publishable(tmp_path, monkeypatch):
    """A finished standard MNIST run of a clean commit, and a place for the published one."""
    place = Place(tmp_path, "good")
    for name in (
        "data/X.npy",
        "figures/a.png",
        "notebooks/01_eda.ipynb",
        "models/m.tflite",
        "report.html",
        "metrics.json",
    ):
        (place.final / name).parent.mkdir(parents=True, exist_ok=True)
        (place.final / name).write_text("{}" if name.endswith(".json") else name)
    record = {
        "status": "finished",
        "profile": "standard",
        "settings": [],
        "stages": [],
        "dataset": {"name": "mnist"},
        "code": {"commit": "c" * 40, "dirty": False},
        "files": listing(place.final),
    }
    write_json(place.final / "run.json", record)
    monkeypatch.setattr("digits.files.OUTPUTS", tmp_path)
    monkeypatch.setattr("digits.files.REFERENCE", tmp_path / "reference")
    return place, record


def test_publishing_copies_what_readers_need(publishable):
    assert publication.publish("good") == 0
    published = publishable[0].outputs / "reference"
    assert listing(published).keys() == {
        "run.json",
        "metrics.json",
        "report.html",
        "models/m.tflite",
    }
    assert publication.publish("good") == 0  # again, over the first


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed"},
        {"profile": "quick"},
        {"settings": ["epochs=1"]},
        {"dataset": {"name": "digits"}},
        {"code": {"commit": "c", "dirty": True}},
        {"code": {"commit": None}},
        {"files": {}},
        {"stages": [{"notebook": "01_eda", "carried_over": {"code": {"commit": "b"}}}]},
    ],
)
def test_only_a_clean_standard_mnist_run_is_published(publishable, change):
    place, record = publishable
    write_json(place.final / "run.json", record | change)
    with pytest.raises(RunError, match="cannot be published"):
        publication.publish("good")
    assert not (place.outputs / "reference").exists()


def test_a_run_that_reports_on_private_feedback_is_not_published(publishable):
    place, record = publishable
    write_json(place.final / "metrics.json", {"03_evaluation": {"feedback": {"n": 3}}})
    with pytest.raises(RunError, match="3 verdicts of visitors"):
        publication.publish("good")


# What is written down


def test_paths_are_replaced_in_prose_and_left_alone_in_images():
    text = f"{PROJECT}/lib/a.py and {Path.home()}/x, not {Path.home()}2; {tempfile.gettempdir()}/ipykernel_12/345.py"
    tidied = provenance.tidy(text)
    assert tidied == f"./lib/a.py and ~/x, not {Path.home()}2; cell.py"
    image = f'<img src="data:image/png;base64,AAAA{PROJECT}/AA=">'
    assert provenance.tidy(image) == image
    assert provenance.tidy_tree({"image/png": str(PROJECT), "text/plain": [str(PROJECT)]}) == {
        "image/png": str(PROJECT),
        "text/plain": ["."],
    }


def test_variables_are_recorded_by_a_list_so_that_secrets_are_not(monkeypatch):
    monkeypatch.setenv("TF_TOKEN_app_example_org", "secret")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    recorded = provenance.environment()
    assert recorded["TF_NUM_INTRAOP_THREADS"] == "2" and "secret" not in recorded.values()


def test_the_code_hash_follows_every_change(tmp_path, monkeypatch):
    monkeypatch.setattr("digits.files.PROJECT", tmp_path)
    assert provenance.code() == {"commit": None, "dirty": None, "diff_sha256": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/a.py").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    clean = provenance.code()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["diff_sha256"] is None
    (tmp_path / "notes.txt").write_text("no code")
    assert provenance.code() == clean
    hashes = set()
    for name, text in (
        ("lib/a.py", "2"),
        ("lib/a.py", "3"),
        ("lib/new.py", "1"),
        ("lib/new.py", "2"),
    ):
        (tmp_path / name).write_text(text)
        assert provenance.code()["dirty"] is True
        hashes.add(provenance.code()["diff_sha256"])
    assert len(hashes) == 4

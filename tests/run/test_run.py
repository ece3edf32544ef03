"""A run is whole or kept aside, whatever ends it, and nobody goes on writing after the end."""

import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import CODE, Bench, play, write_notebook
from digits.files import PROJECT, listing, read_json, write_json
from digits.run import execution, pipeline
from digits.run.pipeline import Place, Stopped

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
kernel = pytest.mark.service  # and slow


@pytest.fixture
def bench(tmp_path) -> Bench:
    """Two tiny notebooks."""
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Bench:
    """A bench on which one run has ended well, without a kernel; only to be read."""
    bench = Bench(tmp_path_factory.mktemp("done"))
    assert bench.play("--set", "rate=2").returncode == 0
    return bench


@pytest.fixture
def copy(done, bench) -> Bench:
    """The same, to be damaged."""
    shutil.copytree(done.outputs, bench.outputs)
    return bench


def wait_for(condition, seconds: float = 180) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def wait_for_cell(bench: Bench) -> None:
    """Wait until the second notebook has written its file and sleeps."""
    wait_for(lambda: (bench.outputs / "latest.building/models/m.tflite").exists())


def kernels(bench: Bench) -> list[int]:
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


def folders(bench: Bench) -> set[str]:
    """The names of the folders in outputs/."""
    return {path.name for path in bench.outputs.iterdir() if path.is_dir()}


# With kernels


@kernel
@pytest.mark.slow
def test_a_whole_run_in_kernels_leaves_the_contract_and_names_no_machine(bench):
    """The user's own "python3" kernel and start-up files are not used."""
    spec = bench.home / ".local/share/jupyter/kernels/python3"
    startup = bench.home / ".ipython/profile_default/startup"
    spec.mkdir(parents=True), startup.mkdir(parents=True)
    broken = {"argv": ["false"], "display_name": "mine", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(broken))
    (startup / "00.py").write_text("raise SystemExit('personal')")

    process = bench.run("--set", "rate=2")
    assert process.returncode == 0, process.stdout + process.stderr
    lines = process.stdout.splitlines()
    assert any("[1/2] 01_eda" in line and "Looking" in line and "elapsed" in line for line in lines)
    assert any("[2/2] 02_training" in line for line in lines)
    assert "latest/report.html" in lines[-2] and lines[-1] == "  Test errors: 37 (of 71,000)"
    assert "WARNING" not in process.stdout + process.stderr and "Error" not in process.stderr

    run, names = bench.outputs / "latest", (socket.gethostname(), os.environ.get("USER", ""))
    secrets = [str(bench.outputs), str(bench.home), str(PROJECT), str(Path.home()), ".building"]
    secrets += [name for name in names if len(name) > 4 and name not in ("digits", "localhost")]
    executed = [f"notebooks/{name}.ipynb" for name in ("01_eda", "02_training")]
    for name in ("run.json", "report.html", *executed):
        text = (run / name).read_text()
        assert not [secret for secret in secrets if secret in text], name
    for name in ("metrics.json", "data/X.npy", "models/m.tflite"):
        assert (run / name).is_file(), name
    assert json.loads((run / executed[1]).read_text())["cells"][-1]["execution_count"]
    record = bench.record()
    assert record["command"] == "./run_all.sh --set rate=2"
    assert record["packages"]["papermill"] and record["environment"]["PYTHONHASHSEED"] == "0"
    assert record["machine"]["cores"] >= 1 and len(record["lock_sha256"]) == 64


@kernel
@pytest.mark.slow
def test_a_cell_that_fails_and_a_kernel_that_dies_are_named_and_the_good_run_stays(bench):
    assert bench.play().returncode == 0
    good = bench.snapshot()
    process = bench.run("--set", "fail=true")
    assert process.returncode == 1
    for words in ("FAILED in 02_training", "ValueError: no luck", "if fail:", "latest.failed"):
        assert words in process.stdout
    error = bench.record("latest.failed")["error"]
    assert error["notebook"] == "02_training" and error["cell"] == 7
    executed = (bench.outputs / "latest.failed/notebooks/02_training.ipynb").read_text()
    assert "no luck" in executed and str(bench.outputs) not in executed
    assert "latest.building" not in executed

    dying = ["import os, signal", "os.kill(os.getpid(), signal.SIGILL)"]
    write_notebook(bench.notebooks / "01_eda.ipynb", "Dying", "x = 1  # y", dying)
    process = bench.run()
    assert process.returncode == 1 and "os.kill" in process.stdout
    assert "The kernel died of SIGILL: this processor lacks" in process.stdout
    assert bench.snapshot() == good


@kernel
@pytest.mark.slow
@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_its_kernel(bench, number, status):
    process = bench.start("--set", "02.pause=600.0")
    wait_for_cell(bench)
    assert kernels(bench)
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == status and "INTERRUPTED in 02_training" in output
    assert "Traceback" not in output and not kernels(bench)
    assert bench.record("latest.failed")["status"] == "interrupted"
    assert folders(bench) == {"latest.failed"}


@kernel
@pytest.mark.slow
@linux
def test_sigkill_leaves_no_kernel_and_the_next_run_goes_on(bench):
    assert bench.play().returncode == 0
    good = bench.snapshot()
    process = bench.start("--set", "02.pause=600.0")
    wait_for_cell(bench)
    second = bench.play()
    assert second.returncode == 2 and "in progress" in second.stderr
    assert bench.play("--run", "other", "--set", "rate=9").returncode == 0
    process.kill()
    process.communicate()
    wait_for(lambda: not kernels(bench), 5)
    assert bench.snapshot() == good and bench.record("latest.building")["status"] == "running"
    process = bench.run("--from", "02", "--set", "02.pause=0.0")
    assert process.returncode == 0 and "was killed" in process.stdout, process.stderr
    assert bench.record("latest.failed")["status"] == "interrupted"
    record = bench.record()
    assert record["stages"][0]["carried_over"] and "carried_over" not in record["stages"][1]


@kernel
@pytest.mark.slow
@linux
def test_a_kernel_whose_runner_was_killed_dies_in_the_middle_of_its_work(bench):
    """Not even code that never lets Python breathe goes on: one C call that takes years."""
    busy = [
        "from digits.report.notebook import open_run\nrun = open_run(run_name, '01_eda')\n"
        "(run.models / 'm.tflite').write_bytes(b'x')",
        "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
    ]
    write_notebook(bench.notebooks / "01_eda.ipynb", "Busy", "x = 1  # y", busy)
    process = bench.start()
    wait_for_cell(bench)
    time.sleep(1)
    process.kill()
    process.communicate()
    wait_for(lambda: not kernels(bench), 5)


@kernel
@pytest.mark.slow
def test_a_full_disk_is_named_and_the_good_run_stays(bench):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace here to make a small disk in")
    assert bench.play().returncode == 0
    shutil.move(bench.outputs / "latest", bench.home / "good")
    run = shlex.join(bench.command("--set", "02.size=900000"))
    script = (
        f"mount -t tmpfs -o size=600k none {bench.outputs} && cp -r {bench.home}/good "
        f"{bench.outputs}/latest && {{ {run}; echo status $?; }}; cp -r {bench.outputs} "
        f"{bench.home}/disk"
    )
    output = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env=bench.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    ).stdout
    assert "status 1" in output and "No space left on device" in output, output
    disk, good = listing(bench.home / "disk/latest"), listing(bench.home / "good")
    assert disk == good and (bench.home / "disk/latest.failed").is_dir()


# Without


def test_the_record_holds_what_a_stranger_needs_to_repeat_the_run(done):
    record = done.record()
    assert record["status"] == "finished" and record["error"] is None
    assert record["profile"] == "standard" and record["settings"] == ["rate=2"]
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
    assert record["changed"] == {"01_eda": ["rate"], "02_training": []}
    assert record["seeds"] == {"01_eda": 1, "02_training": 2}
    assert record["dataset"]["requested"] == "auto"
    assert record["dataset"]["hashes"] == {"x_train": "ab" * 32}
    assert [stage["status"] for stage in record["stages"]] == ["finished", "finished"]
    files = listing(done.outputs / "latest")
    files.pop("run.json")
    assert record["files"] == files
    assert record["models"] == {"m.tflite": files["models/m.tflite"]["sha256"]}
    assert record["stages"][1]["files"].keys() == {"models/m.tflite", "notebooks/02_training.ipynb"}
    assert record["headlines"][0]["label"] == "Test errors"
    assert folders(done) == {"latest"}


def test_the_stand_in_is_announced(bench):
    assert "DID NOT USE MNIST" in bench.play("--set", "used=digits", real_report=True).stdout
    report = (bench.outputs / "latest/report.html").read_text()
    assert "did not use MNIST" in report.split("<header")[0]


def test_kernels_get_absolute_folders_and_a_fixed_environment(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIGITS_DATA", "data")
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    with pipeline.kernel_environment():
        assert os.environ["DIGITS_DATA"] == str(tmp_path / "data")
        assert Path(os.environ["DIGITS_OUTPUTS"]).is_absolute()
        assert os.environ["PYTHONHASHSEED"] == "0" and "MPLBACKEND" not in os.environ
    assert os.environ["DIGITS_DATA"] == "data" and os.environ["MPLBACKEND"] == "TkAgg"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(errno.ENOSPC, "full"), 1, "FAILED in 02_training: [Errno 28] full"),
        (Stopped(signal.SIGTERM), 143, "INTERRUPTED in 02_training: stopped by SIGTERM"),
        (execution.NotebookFailed("out of luck", 7), 1, "FAILED in 02_training: out of luck"),
    ],
)
def test_what_ends_a_notebook_is_told_and_the_good_run_stays(copy, error, status, words):
    def end(path, target, parameters):
        if path.stem == "02_training":
            raise error
        play(path, target, parameters)

    good = copy.snapshot()
    process = copy.play(execute=end)
    assert process.returncode == status and words in process.stdout
    assert "--run latest --from 02" in process.stdout and copy.snapshot() == good
    record = copy.record("latest.failed")
    assert record["error"]["notebook"] == "02_training" and record["status"] in words.lower()


@pytest.mark.parametrize(
    ("error", "status"), [(OSError(errno.ENOSPC, "full"), 2), (Stopped(signal.SIGTERM), 143)]
)
def test_a_run_that_ends_before_its_first_notebook_leaves_nothing(
    bench, monkeypatch, error, status
):
    def end(*_):
        raise error

    monkeypatch.setattr(pipeline, "stage_files", end)
    assert bench.play().returncode == status and folders(bench) == set()


def test_a_bug_in_the_report_is_raised_and_the_work_kept(copy, monkeypatch):
    def end(*_):
        raise KeyError("a bug")

    good = copy.snapshot()
    monkeypatch.setattr("digits.report.html.build", end)
    with pytest.raises(KeyError):
        copy.play(real_report=True)
    assert copy.record("latest.failed")["error"]["notebook"] == "report"
    assert copy.snapshot() == good


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-9, "SIGKILL: killed from outside, or out of memory"),
        (-11, "SIGSEGV"),
        (-4, "SIGILL: this processor lacks an instruction; TensorFlow needs AVX"),
        (1, "exit status 1"),
        (None, "exit status None"),
    ],
)
def test_a_dead_kernel_says_what_it_died_of(status, words):
    assert words in execution.cause_of_death(status)


# Continuing


def test_a_failed_run_is_continued_where_it_stopped(bench):
    assert bench.play("--set", "fail=true", "--set", "rate=3").returncode == 1
    process = bench.play("--from", "2", "--set", "fail=false", real_report=True)
    assert process.returncode == 0 and "[1/2]" not in process.stdout and "[2/2]" in process.stdout
    record = bench.record()
    assert record["parameters"]["01_eda"]["rate"] == 3.0  # taken over from the recorded run
    metrics = read_json(bench.outputs / "latest/metrics.json")
    assert metrics.keys() == {"01_eda", "02_training"}
    assert "Chapter 2" in (bench.outputs / "latest/report.html").read_text()


def _change_metrics(run: Path) -> None:
    metrics = read_json(run / "metrics.json")
    metrics["01_eda"]["rate"] = 7
    write_json(run / "metrics.json", metrics)


@pytest.mark.parametrize(
    ("damage", "arguments", "complaint"),
    [
        (lambda run: (run / "data/X.npy").write_bytes(b"\1" * 100), [], "data/X.npy has changed"),
        (lambda run: (run / "data/X.npy").unlink(), [], "data/X.npy is missing"),
        (_change_metrics, [], "the numbers of 01_eda"),
        (lambda run: (run / "metrics.json").write_text("{"), [], "damaged"),
        (lambda run: (run / "run.json").write_text("{"), [], "no run 'latest'"),
        (None, ["--profile", "quick"], "profile"),
        (None, ["--dataset", "digits"], "01_eda.dataset"),
        (None, ["--set", "rate=9"], "01_eda.rate: recorded 2.0, now 9.0"),
    ],
)
def test_continuing_is_refused_when_the_inputs_are_not_the_recorded_ones(
    copy, damage, arguments, complaint
):
    if damage:
        damage(copy.outputs / "latest")
    before = copy.snapshot()
    process = copy.play("--from", "02", *arguments)
    assert process.returncode == 2 and complaint in process.stderr
    assert copy.snapshot() == before and folders(copy) == {"latest"}


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
    for suffix, mark in before.items():
        _folder(tmp_path / f"run{suffix}", "finished", mark)
    pipeline.repair(Place(tmp_path, "run"))
    marks = {path.name: read_json(path / "run.json")["mark"] for path in tmp_path.iterdir()}
    assert marks == {f"run{suffix}": mark for suffix, mark in after.items()}


def test_a_copy_cut_short_does_not_replace_the_failed_run(tmp_path):
    _folder(tmp_path / "run.failed", "failed", "precious")
    (tmp_path / "run.building").mkdir()
    pipeline.repair(Place(tmp_path, "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.failed"]


# Publishing


@pytest.fixture
def publishable(bench) -> Bench:
    """A finished standard MNIST run of a clean commit."""
    assert bench.play("--run", "good").returncode == 0
    return bench


def test_publishing_copies_what_readers_need(publishable):
    (publishable.outputs / "good/comparison.md").write_text("about another run")
    (publishable.outputs / "good/.study.journal.lock").touch()
    for _ in range(2):  # again, over the first
        assert publishable.play("--publish", "good").returncode == 0
    published = publishable.snapshot("reference")
    assert published.keys() == {"run.json", "metrics.json", "report.html", "models/m.tflite"}
    assert publishable.record("reference")["status"] == "finished"


def test_a_quick_run_has_its_own_small_reference(publishable):
    assert publishable.play("--profile", "quick", "--run", "fast").returncode == 0
    refused = publishable.play("--publish", "fast")
    assert refused.returncode == 2 and "its profile is 'quick', not 'standard'" in refused.stderr
    assert publishable.play("--profile", "quick", "--publish", "fast").returncode == 0
    assert publishable.snapshot("reference-quick").keys() == {"metrics.json", "run.json"}
    assert publishable.play("--profile", "quick", "--check").returncode == 0
    assert publishable.play("--run", "reference-quick").returncode == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "failed"}, "did not finish"),
        ({"profile": "quick"}, "its profile is"),
        ({"settings": ["epochs=1"]}, "its parameters were changed"),
        ({"dataset": {"name": "digits"}}, "its data is 'digits'"),
        ({"code": {"commit": "c", "dirty": True}}, "not a commit"),
        ({"code": {"commit": None}}, "not a commit"),
        ({"files": {}}, "not the recorded ones"),
        (
            {"stages": [{"notebook": "01_eda", "carried_over": {"code": {"commit": "b"}}}]},
            "01_eda ran with other code",
        ),
    ],
)
def test_only_a_clean_standard_mnist_run_is_published(copy, change, words):
    record = copy.record() | {"settings": [], "code": CODE}
    write_json(copy.outputs / "latest/run.json", record | change)
    process = copy.play("--publish", "latest")
    assert process.returncode == 2 and words in process.stderr, process.stderr
    assert folders(copy) == {"latest"}


def test_a_publication_that_is_cut_off_never_replaces_the_published_run(publishable, monkeypatch):
    assert publishable.play("--publish", "good").returncode == 0
    before = publishable.snapshot("reference")

    def end(*_):
        raise OSError("cut off")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="cut off"):
        patch.setattr(pipeline.shutil, "copyfile", end)
        publishable.play("--publish", "good")
    assert (publishable.outputs / "reference.building").is_dir()
    pipeline.repair(Place(publishable.outputs, "reference"))
    assert publishable.snapshot("reference") == before
    assert folders(publishable) == {"good", "reference"}

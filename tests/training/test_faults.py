"""What breaks around the app: disks, processes, a database server, clocks, kernels. What was acknowledged is there,
nothing is half there, and whoever draws reads what happened and goes on."""

import asyncio
import errno
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from test_app import kernel_of

import browser
import services
import writer
from digits import files as paths
from digits.app import feedback
from digits.app.app import App
from digits.app.feedback import FeedbackError, Store
from digits.recognizer.model import Recognizer, RecognizerError

HERE = Path(__file__).parent
ONE = [(140, y) for y in range(40, 241, 20)]


def run_python(code: str, *arguments: object, **options) -> subprocess.Popen:
    """A program of a few lines that finds the tests' modules."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=HERE,
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


def all_of(url: str) -> list[dict]:
    """Every record, each of them whole."""
    records = Store.open(url).records()
    for record in records:
        assert {name: record[name] for name in writer.GIVEN if name != "run"} == {
            name: value for name, value in writer.GIVEN.items() if name != "run"
        }
        np.testing.assert_allclose(record["strokes"][0], writer.STROKES[0])
    return records


def play_out(scene):
    """What the coroutine ``scene`` returns, run in a thread: Playwright keeps an event loop of its own in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, scene).result()


# --- Writers that are killed ----------------------------------------------------------------------------------------

ADD_FOR_EVER = """
import os, sys, writer
writer.write(sys.argv[1], int(sys.argv[2]), 10**9 if sys.argv[3] == "killed" else 10, 1)
"""


def test_twenty_writers_of_which_eight_are_killed(tmp_path):
    """Eight die in the middle of what they do; what any of the twenty was told is kept, is."""
    url = f"sqlite:///{tmp_path / 'feedback.sqlite3'}"
    Store.open(url)
    logs = [tmp_path / f"log{number}" for number in range(20)]
    processes = []
    for number, log in enumerate(logs):
        fate = "killed" if number < 8 else "done"
        with log.open("wb") as output:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", ADD_FOR_EVER, url, str(number), fate],
                    cwd=HERE,
                    stdout=output,
                )
            )
    for number, process in enumerate(processes[:8]):
        browser.until(
            lambda n=number: logs[n].stat().st_size > 10 * n, 120, "a writer's first records"
        )
        process.kill()
    assert [process.wait(240) for process in processes] == [-signal.SIGKILL] * 8 + [0] * 12
    acknowledged = [{int(line) for line in log.read_text().split("\n")[:-1]} for log in logs]
    kept = all_of(url)
    assert set().union(*acknowledged) <= {record["id"] for record in kept}
    assert (
        all(len(one) == 10 for one in acknowledged[8:])
        and len(kept) <= sum(map(len, acknowledged)) + 8
    )
    with sqlite3.connect(tmp_path / "feedback.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.2])
def test_an_export_that_is_killed_leaves_the_old_one(tmp_path, wait):
    url, target = f"sqlite:///{tmp_path / 'feedback.sqlite3'}", tmp_path / "export.npz"
    store = Store.open(url)
    for _ in range(20):
        store.add(**writer.GIVEN, strokes=writer.STROKES)
    store.export_npz(target)
    process = run_python(
        "import sys\nfrom digits.app.feedback import Store\nstore = Store.open(sys.argv[1])\nprint(flush=True)\n"
        "while True: store.export_npz(sys.argv[2])",
        url,
        target,
    )
    process.stdout.readline()
    time.sleep(wait)
    process.kill()
    process.wait()
    process.stdout.close()
    with np.load(target) as arrays:
        assert arrays["images"].shape == (20, 28, 28) and arrays["labels"].tolist() == [7] * 20


# --- Disks -----------------------------------------------------------------------------------------------------------

FILL = """
import pathlib, sys, writer
from digits.app.feedback import FeedbackError, Store
folder = pathlib.Path(sys.argv[1])
store = Store.open(f"sqlite:///{folder}/feedback.sqlite3")
try:
    while True:
        print(store.add(**writer.GIVEN, strokes=writer.STROKES), flush=True)
except FeedbackError as error:
    print(error)
print(*sorted(path.name for path in folder.iterdir()))
"""
USE = """
import pathlib, sys, writer
from digits import files as paths
paths.OUTPUTS = pathlib.Path(sys.argv[1])
from digits.app.feedback import FeedbackError, Store
from digits.recognizer.model import Recognizer
print(Recognizer.load(run="latest").predict_strokes([[(140, 40), (140, 240)]]).digit)
try:
    Store.open().add(**writer.GIVEN, strokes=writer.STROKES)
except FeedbackError as error:
    print(error)
"""


def on_a_small_disk(tmp_path: Path, script: str, size: str = "300k") -> str:
    """Run a shell script with ``$disk`` a file system of its own, whose files are in ``kept`` afterwards."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        browser.needs(False, "no mount namespace here to make a small disk in")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    known = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    whole = f"mount -t tmpfs -o size={size} none {disk} && {{ {script}\n}}; cp -r {disk} {kept}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", whole],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=HERE,
        env={**os.environ, "disk": str(disk), "PYTHONPATH": known},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    program = tmp_path / "fill.py"
    program.write_text(FILL)
    *numbers, words, _files = on_a_small_disk(
        tmp_path, shlex.join([sys.executable, str(program)]) + " $disk"
    ).splitlines()
    kept = {
        record["id"] for record in all_of(f"sqlite:///{tmp_path / 'kept' / 'feedback.sqlite3'}")
    }
    assert len(numbers) > 10 and words.endswith("the disk is full.")
    assert set(map(int, numbers)) <= kept and len(kept) <= len(numbers) + 1


def test_a_read_only_disk_is_named_and_what_is_there_can_be_used(tmp_path):
    """Outputs that cannot be written, as a container has them: recognition works, feedback says why it does not."""
    program = tmp_path / "use.py"
    program.write_text(USE)
    script = (
        f"mkdir $disk/latest && cp -r {shlex.quote(str(paths.REFERENCE))}/models $disk/latest && "
        f"mount -o remount,ro $disk && {shlex.join([sys.executable, str(program)])} $disk"
    )
    digit, words = on_a_small_disk(tmp_path, script, "30m").splitlines()
    assert digit == "1" and words.endswith("it is read-only.") and str(tmp_path) not in words


def test_an_unreadable_model_is_said_in_words(tmp_path, monkeypatch):
    """The disk fails under the model, or under its calibration: an input or output error, not a missing file."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    for name in ("float32.tflite", "calibration.json"):
        shutil.rmtree(tmp_path, ignore_errors=True)
        shutil.copytree(paths.REFERENCE / "models", tmp_path / "latest" / "models")
        file = tmp_path / "latest" / "models" / name
        file.unlink()
        file.symlink_to("/proc/self/mem")  # a file that is there and fails to be read
        with pytest.raises(
            RecognizerError, match=f"{name} cannot be used .{os.strerror(errno.EIO)}"
        ) as caught:
            Recognizer.load(run="latest")
        assert str(tmp_path) not in str(caught.value)


def test_a_model_that_is_lost_while_the_app_runs(tmp_path, monkeypatch):
    """The one in use goes on; the one that is asked for is refused in words."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    shutil.copytree(paths.REFERENCE / "models", tmp_path / "latest" / "models")

    async def play():
        app = App(Recognizer.load(run="latest"))
        (tmp_path / "latest" / "models" / "int8.tflite").write_bytes(b"no model")
        tell(app, ["model", "int8"])
        said = app._message.value
        shutil.rmtree(tmp_path / "latest")
        tell(
            app,
            ["model", "float16"],
            ["down", *ONE[0], None],
            ["move", *[value for point in ONE for value in point]],
            ["up"],
        )
        await asyncio.sleep(0.3)
        return said, app

    said, app = play_out(play())
    assert "int8.tflite cannot be used" in said and app.shown.text == "1"


def tell(app: App, *operations: list) -> None:
    app.pad._on_key(json.dumps({"seq": 1, "ops": operations}))


# --- Clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_no_timeout_follows_a_clock_that_is_set(jump, monkeypatch):
    """A replay and an answer end when they should, though the computer's clock is put back or forward in between."""
    clock, began = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: clock() + jump * (time.monotonic() - began > 0.2))

    async def play():
        app = App(Recognizer.load(run="reference"))
        tell(app, ["example", "5"])
        await asyncio.sleep(2)
        return app

    assert play_out(play()).shown.text == "5"


def test_feedback_keeps_its_order_when_the_clock_is_put_back(tmp_path, monkeypatch):
    store = Store.open(f"sqlite:///{tmp_path / 'feedback.sqlite3'}")
    real = feedback.datetime
    for year in (2030, 2001, 2024):
        monkeypatch.setattr(
            feedback,
            "datetime",
            type("Clock", (), {"now": lambda tz, year=year: real(year, 1, 1, tzinfo=tz)}),
        )
        store.add(**writer.GIVEN, strokes=writer.STROKES)
    assert [record["created"].year for record in store.records()] == [2030, 2001, 2024]


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres():
    with services.postgres() as server:
        yield server


@pytest.fixture
def running(postgres):
    """The server, up again whatever the test before did to it."""
    if postgres.process.poll() is not None:
        postgres.start()
    return postgres


def test_postgresql_keeps_what_was_acknowledged_through_a_sigkill(running):
    """Writers at work, the server is killed and started again: all that was acknowledged is there, whole, and more can
    be added by whoever had the store open."""
    store = Store.open(running.url)
    number = store.add(**writer.GIVEN, strokes=writer.STROKES)
    processes = [
        run_python(ADD_FOR_EVER, running.url, k, "killed", stderr=subprocess.STDOUT)
        for k in range(4)
    ]
    acknowledged = {number} | {int(process.stdout.readline()) for process in processes}
    time.sleep(0.5)
    running.kill()
    for process in processes:
        told = (
            process.stdout.read()
        )  # communicate() would miss what the first readline() has taken in
        process.wait(60)
        acknowledged |= {int(line) for line in told.splitlines() if line.isdigit()}
        assert process.returncode == 1 and "FeedbackError: The feedback was not stored" in told
        process.stdout.close()
    with pytest.raises(FeedbackError, match="server does not answer"):
        store.add(**writer.GIVEN, strokes=writer.STROKES)
    running.start()
    kept = {record["id"] for record in all_of(running.url)}
    assert acknowledged <= kept and len(kept) <= len(acknowledged) + 4
    assert (
        store.add(**writer.GIVEN, strokes=writer.STROKES) > max(kept)
        and store.summary()["n"] == len(kept) + 1
    )


def test_two_servers_whose_first_feedback_comes_at_the_same_moment(running):
    """One is about to commit the table when the other finds none: PostgreSQL's "if not exists" fails then."""
    import psycopg

    with psycopg.connect(running.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE first")
    url = running.url.replace("/postgres", "/first")
    with psycopg.connect(url.replace("+psycopg", "")) as other, ThreadPoolExecutor(1) as thread:
        other.execute(str(CreateTable(feedback._table()).compile(dialect=postgresql.dialect())))
        opening = thread.submit(Store.open, url)
        time.sleep(1)
        assert not opening.done()
        other.commit()
        opening.result(30).add(**writer.GIVEN, strokes=writer.STROKES)
    assert len(all_of(url)) == 1


def test_a_server_that_stands_still_is_not_waited_for_for_ever(running, monkeypatch):
    monkeypatch.setattr(feedback, "PATIENCE", 2.0)
    store = Store.open(running.url)
    running.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(FeedbackError, match="server (takes too long|does not answer)"):
            store.add(**writer.GIVEN, strokes=writer.STROKES)
        assert time.monotonic() - started < 20
    finally:
        running.process.send_signal(signal.SIGCONT)
    store.add(**writer.GIVEN, strokes=writer.STROKES)


def test_drawing_goes_on_while_postgresql_dies_and_comes_back(running, chromium):
    with browser.voila(DIGITS_FEEDBACK_URL=running.url) as server:
        page = browser.visit(chromium.new_page(), server)
        before = Store.open(running.url).summary()["n"]
        browser.draw(page, [ONE])
        browser.settled(page, len(ONE))
        page.click(".digits-right")
        page.click(".digits-agree")
        page.wait_for_selector("text=It is kept", timeout=30_000)
        running.kill()
        page.click(".digits-right")
        page.wait_for_selector("text=The feedback was not stored", timeout=60_000)
        assert "the server does not answer" in page.locator(".digits-message").inner_text()
        browser.clear(page)
        browser.draw(page, [ONE])
        assert (
            browser.settled(page, len(ONE))["text"] == "1"
            and not page.locator(".digits-lost").count()
        )
        running.start()
        page.click(".digits-right")
        page.wait_for_selector("text=It is kept", timeout=30_000)
        assert Store.open(running.url).summary()["n"] == before + 2
        page.close()


def test_a_busy_database_does_not_stop_the_pen(tmp_path, monkeypatch):
    """While somebody else holds the database, ink is still read; when it is free again, the feedback is kept."""
    database = tmp_path / "feedback.sqlite3"
    monkeypatch.setenv("DIGITS_FEEDBACK_URL", f"sqlite:///{database}")
    Store.open()
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)

    async def play():
        app = App(Recognizer.load(run="reference"))
        stroke = (
            ["down", *ONE[0], None],
            ["move", *[value for point in ONE for value in point]],
            ["up"],
        )
        tell(app, *stroke)
        await asyncio.sleep(0.2)
        other.execute("BEGIN IMMEDIATE")
        tell(app, ["verdict", "right", None], ["consent", True])
        assert "Keeping it" in app._feedback.note.value
        note = app._feedback.note
        tell(app, ["brush", 30])
        await asyncio.sleep(0.5)
        assert app.pad.drawing.brush == 30 and "Keeping it" in note.value
        other.execute("ROLLBACK")
        for _ in range(100):
            await asyncio.sleep(0.1)
            if "It is kept" in note.value:
                return
        raise AssertionError(note.value)

    play_out(play())
    other.close()
    assert len(Store.open().records()) == 1


# --- Kernels that are killed -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        opened = browser.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server():
    with browser.voila() as running:
        yield running


@pytest.fixture
def page(chromium, server):
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    page = browser.visit(context.new_page(), server)
    yield page
    context.close()


def reload_and_draw(page) -> None:
    """The page says that its reader has stopped, and the button that it offers gives a new one."""
    page.wait_for_selector(".digits-lost[role=alert]", timeout=20_000)
    page.click(".digits-reload")
    page.wait_for_selector(browser.READY + ":not(.digits-is-lost)", timeout=60_000)
    browser.draw(page, [ONE])
    assert browser.settled(page, len(ONE))["text"] == "1"


def test_a_kernel_killed_in_the_middle_of_a_stroke(page):
    """The pen goes on leaving ink, and whoever holds it is told within seconds."""
    first, *rest = browser.on_pad(page, ONE)
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.move(*rest[0])
    browser.settled(page, 2)
    os.kill(kernel_of(page), signal.SIGKILL)
    for point in rest[1:]:
        page.mouse.move(*point)
    shown = page.locator(".digits-overlay").evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 == 3 && v > 100)"
    )
    assert shown
    page.wait_for_selector(".digits-lost", timeout=20_000)
    page.mouse.up()
    reload_and_draw(page)


def test_a_kernel_killed_in_the_middle_of_an_upload(page):
    """Eleven megabytes are on their way; the page neither waits for ever nor says that they arrived."""
    kernel = kernel_of(page)
    os.kill(kernel, signal.SIGSTOP)  # so that it cannot be done before it dies
    page.set_input_files(
        ".digits-upload input",
        {"name": "large.png", "mimeType": "image/png", "buffer": bytes(11_000_000)},
    )
    browser.until(
        lambda: page.evaluate("[...digitsApp.apps.values()][0].sent.length") > 3,
        30,
        "an upload under way",
    )
    os.kill(kernel, signal.SIGKILL)
    page.wait_for_selector(".digits-lost", timeout=20_000)
    browser.wait(page, "document.querySelector('.digits-progress').hidden", seconds=20)
    assert "not sent" in page.locator(".digits-upload-note").inner_text()
    reload_and_draw(page)


def test_a_clock_that_is_set_makes_no_kernel_dead(page):
    """For a second nobody answers, while the browser's clock runs by hours."""
    kernel = kernel_of(page)
    page.evaluate("() => { let now = Date.now(); Date.now = () => now += 1e7; }")
    os.kill(kernel, signal.SIGSTOP)
    try:
        browser.draw(page, [ONE])
        page.wait_for_timeout(1200)
        assert not page.locator(".digits-lost").count()
    finally:
        os.kill(kernel, signal.SIGCONT)
    assert browser.settled(page, len(ONE))["text"] == "1"

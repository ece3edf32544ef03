"""What breaks around the app: writers, a database server, a kernel. What was acknowledged is there, nothing is half
there, and whoever draws reads what happened and goes on."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from test_app import kernel_of

import browser
import services
import writer
from digits.app import feedback
from digits.app.feedback import FeedbackError, Store

TESTS = os.path.dirname(writer.__file__)
ONE = [(140, y) for y in range(40, 241, 20)]
GIVEN = writer.GIVEN | {"strokes": writer.STROKES}


def moved(left: float) -> dict:
    """GIVEN with other ink."""
    return GIVEN | {"strokes": [writer.STROKES[0] - left]}


def start_writer(url: str, number: int, records: int) -> subprocess.Popen:
    """A process that says the number of each record that it was told is kept."""
    code = "import sys, writer; writer.write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 1)"
    command = [sys.executable, "-c", code, url, str(number), str(records)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=TESTS, **pipes)


def acknowledged(process: subprocess.Popen) -> tuple[set[int], str]:
    """What a writer said until its end: numbers of records, and the rest."""
    said = process.stdout.read()  # communicate() would miss what a readline() has taken in
    process.wait(60)
    process.stdout.close()
    return {int(line) for line in said.splitlines() if line.isdigit()}, said


def whole(url: str) -> set[int]:
    """The numbers of all records, each of which is whole."""
    records = Store.open(url).records()
    for record in records:
        known = {name: value for name, value in writer.GIVEN.items() if name != "run"}
        assert {name: record[name] for name in known} == known
        moved = record["strokes"][0] - writer.STROKES[0]
        np.testing.assert_allclose(moved, moved[[0]].repeat(3, axis=0), atol=1e-6)
    return {record["id"] for record in records}


@pytest.mark.slow
def test_eight_writers_of_which_four_are_killed(tmp_path):
    url = f"sqlite:///{tmp_path / 'feedback.sqlite3'}"
    Store.open(url)
    processes = [start_writer(url, number, 10**9 if number < 4 else 10) for number in range(8)]
    told = {int(process.stdout.readline()) for process in processes[:4]}
    for process in processes[:4]:
        process.kill()
    for process in processes:
        told |= acknowledged(process)[0]
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 4 + [0] * 4
    assert told <= whole(url) and len(whole(url)) <= len(told) + 4
    with sqlite3.connect(tmp_path / "feedback.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture(scope="module")
def postgres():
    with services.postgres() as server:
        yield server


@pytest.mark.service
def test_postgresql_keeps_what_was_acknowledged_through_a_sigkill(postgres, monkeypatch):
    """Who had the store open can go on when the server is up again; one that stands still is not waited for for ever."""
    store = Store.open(postgres.url)
    processes = [
        start_writer(postgres.url, number, 10**9) for number in (1, 2, 3)
    ]  # none draws GIVEN
    told = {store.add(**GIVEN)} | {int(process.stdout.readline()) for process in processes}
    time.sleep(0.5)
    postgres.kill()
    for process in processes:
        numbers, said = acknowledged(process)
        told |= numbers
        assert process.returncode == 1 and "FeedbackError: The feedback was not stored" in said
    with pytest.raises(FeedbackError, match="server does not answer"):
        store.add(**moved(1))
    postgres.start()
    kept = whole(postgres.url)
    assert told <= kept and len(kept) <= len(told) + 3 and store.add(**moved(2)) > max(kept)
    monkeypatch.setattr(feedback, "PATIENCE", 2.0)
    impatient = Store.open(postgres.url)
    postgres.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(FeedbackError, match="server (takes too long|does not answer)"):
            impatient.add(**moved(3))
    finally:
        postgres.process.send_signal(signal.SIGCONT)


@pytest.mark.browser
@pytest.mark.service
def test_drawing_goes_on_while_postgresql_and_the_kernel_die_and_come_back(postgres, chromium):
    with browser.voila(DIGITS_FEEDBACK_URL=postgres.url) as server:
        page = browser.visit(chromium.new_page(), server)
        browser.draw(page, [ONE])
        browser.settled(page, len(ONE))
        page.click(".digits-right")
        page.click(".digits-agree")
        page.wait_for_selector("text=It is kept", timeout=30_000)
        postgres.kill()
        page.click(".digits-right")
        page.wait_for_selector("text=The feedback was not deleted", timeout=60_000)
        assert "the server does not answer" in page.locator(".digits-message").inner_text()
        postgres.start()
        page.click(".digits-right")
        page.wait_for_selector("text=It is kept", timeout=30_000)
        os.kill(kernel_of(page), signal.SIGKILL)
        page.wait_for_selector(".digits-lost[role=alert]", timeout=20_000)
        page.click(".digits-reload")
        page.wait_for_selector(browser.READY + ":not(.digits-is-lost)", timeout=60_000)
        assert browser.settled(page, len(ONE))["text"] == "1"
        page.close()

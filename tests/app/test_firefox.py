"""The main path in Firefox, as Debian ships it, by WebDriver BiDi: no driver is needed beside the browser."""

import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
import websocket

import browser
from digits import files

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.browser]
SEVEN = [(80, 60), (140, 60), (200, 60), (170, 130), (140, 220)]
PREFERENCES = """user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false); user_pref("browser.shell.checkDefaultBrowser", false);
"""


class Firefox:
    """A page in a Firefox that listens to us."""

    def __init__(self, port: int):
        self.link = websocket.create_connection(
            f"ws://127.0.0.1:{port}/session", timeout=60, suppress_origin=True
        )
        self.numbers = itertools.count(1)
        self.ask("session.new", capabilities={"alwaysMatch": {}})
        self.page = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **parameters: object) -> dict:
        """A command's result."""
        number = next(self.numbers)
        self.link.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (reply := json.loads(self.link.recv())).get("id") != number:
            pass
        assert reply["type"] == "success", reply
        return reply["result"]

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression, as JSON would have it."""
        target = {"context": self.page}
        text = f"JSON.stringify(({expression}) ?? null)"
        reply = self.ask("script.evaluate", expression=text, target=target, awaitPromise=True)
        assert reply["type"] == "success", reply
        return json.loads(reply["result"]["value"])

    def draw(self, stroke: list) -> None:
        """One stroke with the mouse; points on a canvas of 280 pixels."""
        left, top, width = self.evaluate(
            "(({left, top, width}) => [left, top, width])(document.querySelector('.digits-pad').getBoundingClientRect())"
        )
        moves = [
            {
                "type": "pointerMove",
                "x": round(left + x * width / 280),
                "y": round(top + y * width / 280),
            }
            for x, y in stroke
        ]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        mouse = {"type": "pointer", "id": "mouse", "actions": [moves[0], down, *moves[1:], up]}
        self.ask("input.performActions", context=self.page, actions=[mouse])


@contextlib.contextmanager
def firefox() -> Iterator[Firefox]:
    """A headless Firefox with a profile of its own; without one the test is skipped, or fails in CI."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    browser.needs(program, "no Firefox here (Debian's package firefox-esr)")
    port, profile = browser.free_port(), tempfile.mkdtemp()
    with open(f"{profile}/user.js", "w") as preferences:
        preferences.write(PREFERENCES)
    command = [
        program,
        "--headless",
        "--no-remote",
        "--profile",
        profile,
        f"--remote-debugging-port={port}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        browser.until(lambda: browser.listens(port), 60, "Firefox")
        yield Firefox(port)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(profile, ignore_errors=True)


READY = f"document.querySelector('{browser.READY}') !== null"
TEXT = "document.querySelector('.digits-answer').dataset.text"


def draws_and_is_read(visitor: Firefox, url: str) -> None:
    """A stroke, its undoing and an example, on the page at ``url``."""
    visitor.ask("browsingContext.navigate", context=visitor.page, url=url, wait="interactive")
    browser.until(lambda: visitor.evaluate(READY), 60, "the pad")
    visitor.draw(SEVEN)
    browser.until(lambda: visitor.evaluate(TEXT) == "7", 20, "a seven")
    visitor.evaluate("document.querySelector('.digits-undo').click()")
    browser.until(lambda: visitor.evaluate(TEXT) == "", 20, "an empty pad")
    visitor.evaluate("document.querySelector(`[data-do*='\"2026\"']`).click()")
    browser.until(lambda: visitor.evaluate(TEXT) == "2026", 20, "an example")


def test_firefox_draws_is_read_and_keeps_the_ink(server):
    with firefox() as visitor:
        draws_and_is_read(visitor, server.url)
        browser.until(
            lambda: visitor.evaluate("sessionStorage['digits-ink'].length > 100"), 5, "ink"
        )
        visitor.ask("browsingContext.reload", context=visitor.page, wait="interactive")
        browser.until(
            lambda: visitor.evaluate(f"{READY} && {TEXT} === '2026'"), 60, "the ink again"
        )


def test_firefox_draws_and_is_read_without_a_server():
    with firefox() as visitor:
        draws_and_is_read(visitor, (files.REFERENCE / "draw.html").as_uri())

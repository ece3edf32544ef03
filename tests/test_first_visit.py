"""What a visitor waits for: the page over a slow line."""

import contextlib
import json
import time
import uuid

import psutil
import pytest
import websocket
from playwright.sync_api import sync_playwright

import browser
from digits import channel, kernel
from test_attacks import GROWTH, Visitor, Web
from test_server import frame


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        opened = browser.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server():
    with browser.voila(DIGITS_PROXIES="127.0.0.1", DIGITS_MAX_VISITORS="30", DIGITS_VISITS_PER_MINUTE="30") as running:
        running.port = int(running.url.rsplit(":")[-1].strip("/"))
        browser.until(lambda: json.loads(Web(running.port).ask("/healthz")[2])["pool_ready"], 90, "a kernel")
        yield running


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def visitor(server):
    guest = Visitor(server.port)
    yield guest
    assert guest.leave() == 204


# --- The widgets' states ----------------------------------------------------------------------------------------------

def test_states_that_come_late_are_asked_for_one_by_one(page, server):
    """The page's script waits four seconds for all of them together."""
    with browser.SlowLine(server, 1e9, 0, b"update_states", 6) as line:
        browser.visit(page, line)
        browser.draw(page, [[(80, 60), (140, 60), (200, 60), (170, 130), (140, 220)]])
        assert browser.settled(page, 5)["text"] == "7"
        assert page.locator("text=Loading widget").count() == 0


def test_a_widget_that_there_is_may_be_asked_for_its_state_and_no_other(server, visitor):
    assert channel.read_frame(frame("comm_msg", {"comm_id": "c", "data": {"method": "request_state"}}))
    control, asked = uuid.uuid4().hex, {}
    visitor.send("comm_open", {"comm_id": control, "target_name": channel.CONTROL, "data": {}}, {"version": "1.0.0"})
    for name in (*visitor.widgets, control, uuid.uuid4().hex, "", None, ["x"]):
        asked[visitor.send("comm_msg", {"comm_id": name, "data": {"method": "request_state"}})] = name
    told = {}
    def last(kind, content):
        if kind == "comm_msg" and content["data"]["method"] == "update":
            told.setdefault(content["comm_id"], content["data"]["state"])
        return len(told) == len(visitor.widgets)
    visitor.until(last)
    assert {name: state.keys() for name, state in told.items()} == {
        name: model["state"].keys() for name, model in visitor.widgets.items()}
    assert visitor.read() == "7" and set(visitor.seen) <= {"status", "comm_open", "comm_msg", "comm_close", "display_data"}


def test_all_widgets_are_asked_by_their_control_only(monkeypatch):
    class Comm:
        def __init__(self, target_name):
            self.target_name = target_name
    comms = {"w": Comm("jupyter.widget"), "c": Comm(kernel.CONTROL)}
    monkeypatch.setattr(kernel, "get_comm_manager", lambda: type("Manager", (), {"comms": comms}))
    def passes(name, method):
        return kernel.expected("comm_msg", {"comm_id": name, "data": {"method": method}})
    methods = ("request_states", "request_state", "custom", "update", None, ["custom"])
    assert {name: [method for method in methods if passes(name, method)] for name in ("w", "c", "x")} == {
        "w": ["request_state", "custom"], "c": ["request_states"], "x": []}


def test_who_asks_for_the_largest_state_and_does_not_read_costs_no_memory(server, visitor):
    largest = max(visitor.widgets, key=lambda name: len(json.dumps(visitor.widgets[name])))
    memory, bystander = psutil.Process(server.process.pid).memory_info, Visitor(server.port)
    before = memory().rss
    visitor.socket.settimeout(1)
    started = time.monotonic()
    with contextlib.suppress(OSError, websocket.WebSocketException):  # the server does not take more, or no more
        while time.monotonic() - started < 10:
            visitor.send("comm_msg", {"comm_id": largest, "data": {"method": "request_state"}})
    assert bystander.read() == "7" and bystander.leave() == 204
    assert memory().rss < before + GROWTH
    visitor.socket.close()

"""What a visitor waits for: the page over a slow line, and what it says when it takes long."""

import contextlib
import gzip
import http.client
import json
import re
import time
import uuid

import psutil
import pytest
import websocket
from test_attacks import GROWTH
from test_server import frame

import browser
from digits.app import kernel
from digits.app.server import packed as compressed
from digits.app.server import read_frame
from strangers import Visitor

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.browser]

FILES = (
    "/voila/static/voila.js",
    "/voila/static/9684.voila.js",
    "/voila/templates/digits/static/loading.js",
)


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
        assert (
            page.locator("text=Loading widget").count() == 0
            and page.locator("#loading").count() == 0
        )


def test_states_that_come_when_the_time_for_them_is_over_are_shown(page, server):
    """The widget manager's clock jumps over the two seconds that it waits for a model, just when it gets them all."""
    page.add_init_script("""
        const now = Date.now, Socket = WebSocket;
        let skew = 0;
        Date.now = () => now() + skew;
        WebSocket = class extends Socket {
          constructor(...options) {
            super(...options);
            this.addEventListener("message", event => { if (event.data.byteLength > 50000) skew = 2000; });
          }
        };""")
    browser.visit(page, server)
    assert page.evaluate("Date.now() - performance.timeOrigin - performance.now()") > 1500


def test_a_widget_that_there_is_may_be_asked_for_its_state_and_no_other(server, visitor):
    assert read_frame(frame("comm_msg", {"comm_id": "c", "data": {"method": "request_state"}}))
    control, asked = uuid.uuid4().hex, {}
    visitor.send(
        "comm_open",
        {"comm_id": control, "target_name": kernel.CONTROL, "data": {}},
        {"version": "1.0.0"},
    )
    for name in (*visitor.widgets, control, uuid.uuid4().hex, "", None, ["x"]):
        asked[visitor.send("comm_msg", {"comm_id": name, "data": {"method": "request_state"}})] = (
            name
        )
    told = {}

    def last(kind, content):
        if kind == "comm_msg" and content["data"]["method"] == "update":
            told.setdefault(content["comm_id"], content["data"]["state"])
        return len(told) == len(visitor.widgets)

    visitor.until(last)
    assert {name: state.keys() for name, state in told.items()} == {
        name: model["state"].keys() for name, model in visitor.widgets.items()
    }
    assert visitor.read() == "7" and set(visitor.seen) <= {
        "status",
        "comm_open",
        "comm_msg",
        "comm_close",
        "display_data",
    }


def test_all_widgets_are_asked_by_their_control_only(monkeypatch):
    class Comm:
        def __init__(self, target_name):
            self.target_name = target_name

    comms = {"w": Comm("jupyter.widget"), "c": Comm(kernel.CONTROL)}
    monkeypatch.setattr(kernel, "get_comm_manager", lambda: type("Manager", (), {"comms": comms}))

    def passes(name, method):
        return kernel.expected("comm_msg", {"comm_id": name, "data": {"method": method}})

    methods = ("request_states", "request_state", "custom", "update", None, ["custom"])
    assert {
        name: [method for method in methods if passes(name, method)] for name in ("w", "c", "x")
    } == {"w": ["request_state", "custom"], "c": ["request_states"], "x": []}


def test_who_asks_for_the_largest_state_and_does_not_read_costs_no_memory(server, visitor):
    largest = max(visitor.widgets, key=lambda name: len(json.dumps(visitor.widgets[name])))
    memory, bystander = psutil.Process(server.process.pid).memory_info, Visitor(server.port)
    before = memory().rss
    visitor.socket.settimeout(1)
    started = time.monotonic()
    with contextlib.suppress(
        OSError, websocket.WebSocketException
    ):  # the server does not take more, or no more
        while time.monotonic() - started < 10:
            visitor.send("comm_msg", {"comm_id": largest, "data": {"method": "request_state"}})
    assert bystander.read() == "7" and bystander.leave() == 204
    assert memory().rss < before + GROWTH
    visitor.socket.close()


# --- What is sent -----------------------------------------------------------------------------------------------------


def test_a_first_visit_is_small(page, server):
    finished, errors = [], []
    page.on("requestfinished", lambda request: finished.append(request))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))
    browser.visit(page, server)
    sizes = [request.sizes() for request in finished if request.url.startswith(server.url)]
    assert (
        sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < 1.3e6
        and len(sizes) < 90
    )
    assert not errors


def test_all_scripts_are_asked_for_at_once(page, server):
    """What preload.html.j2 names is what scripts ask for, no more and no less."""
    asked, answers = [], []
    page.on(
        "request", lambda request: request.resource_type == "script" and asked.append(request.url)
    )
    page.on("response", lambda reply: reply.url == server.url and answers.append(reply))
    browser.visit(page, server)
    html = answers[0].text()
    named = re.findall(r'<link rel="preload" as="script" href="/(.+?)"', html)
    written = re.findall(r'<script src="/(.+?)"', html)
    needed = {url[len(server.url) :] for url in asked} - set(written)
    assert sorted(named) == sorted(one for one in needed if not one.startswith("voila/templates/"))
    assert len(asked) == len(set(asked))


def test_what_is_text_comes_compressed_to_who_takes_it_so(server, visitor):
    def ask(path, **headers):
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        link.request("GET", path, headers=headers)
        reply = link.getresponse()
        return reply.status, reply.headers, reply.read()

    for path in (*FILES, "/metrics", "/nothing"):
        _, plain, content = ask(path)
        status, headers, packed = ask(
            path, **{"Accept-Encoding": "gzip, deflate, br", "Range": "bytes=0-9"}
        )
        assert (
            plain["Content-Encoding"] is None
            and headers["Content-Encoding"] == "gzip"
            and status in (200, 404)
        ), path
        assert headers["Vary"] == plain["Vary"] == "Accept-Encoding"
        assert headers["Content-Security-Policy"] == plain["Content-Security-Policy"]
        if path in FILES:
            assert gzip.decompress(packed) == content and len(packed) < max(len(content) / 2, 1500)
            for encoding in ("gzip", "identity"):
                again = ask(path, **{"Accept-Encoding": encoding, "If-None-Match": headers["ETag"]})
                assert again[0] == 304 and not again[2]


def test_a_file_is_compressed_once(tmp_path):
    """The largest takes 0.1 s."""
    file = tmp_path / "a.js"
    file.write_text("a" * 10_000)
    packed = compressed(str(file), 1.0)
    assert compressed(str(file), 1.0) is packed and gzip.decompress(packed) == file.read_bytes()
    file.write_text("b" * 10_000)
    assert gzip.decompress(compressed(str(file), 2.0)) == file.read_bytes()


def test_files_that_are_named_after_their_content_are_kept(page, server):
    seen = {}
    page.on(
        "response", lambda reply: seen.update({reply.url: reply.headers.get("cache-control", "")})
    )
    browser.visit(page, server)
    extensions = [value for url, value in seen.items() if "/voila/labextensions/" in url]
    assert len(extensions) > 10 and all("immutable" in value for value in extensions)
    assert not any("immutable" in value for url, value in seen.items() if "/voila/static/" in url)


# --- What the page says meanwhile -------------------------------------------------------------------------------------


def break_scripts(page):
    page.route("**/voila/static/*.js", lambda route: route.abort())


def break_websocket(page):
    page.route_web_socket("**/channels*", lambda socket: socket.close())


def break_kernel(page):
    page.route_web_socket("**/channels*", lambda socket: None)  # takes all and says nothing


@pytest.mark.parametrize("fail", [break_scripts, break_websocket, break_kernel])
def test_the_page_says_when_it_takes_long(page, server, fail):
    page.clock.install()
    fail(page)
    page.goto(server.url, wait_until="commit")
    page.wait_for_selector("#loading:has-text('Preparing a pad')")
    words = page.locator("#loading")
    page.clock.fast_forward(6000)
    assert (
        "Still loading" in words.inner_text()
        and "slow" in words.inner_text()
        and not words.locator("a").is_visible()
    )
    page.clock.fast_forward(24_000)
    assert "takes too long" in words.inner_text()
    page.unroute_all()
    page.route_web_socket("**/channels*", lambda socket: socket.connect_to_server())
    words.get_by_role("link", name="Try again").click()
    page.wait_for_selector(browser.READY, timeout=60_000)
    assert words.count() == 0


def test_a_notebook_that_fails_is_not_hidden(page, server):
    """Its cells say what went wrong."""

    def without_widgets(route):
        reply = route.fetch()
        route.fulfill(response=reply, body=reply.text().replace("widget-view+json", "nothing+json"))

    page.route(server.url, without_widgets)
    page.goto(server.url)
    page.wait_for_selector("#loading", state="detached", timeout=10_000)

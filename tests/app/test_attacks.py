"""Attacks on the real server. After each one it still serves, and a visitor who came before noticed nothing."""

import contextlib
import http.client
import json
import math
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import websocket  # websocket-client, which jupyter_server brings
from jupyter_server.services.kernels.connection.base import (
    serialize_msg_to_ws_v1,
)

import browser
from digits import files as paths
from digits.app import server
from strangers import Visitor, Web

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="uses Linux's addresses 127.0.0.2 and on, and /proc"
    ),
]

CAP, SHARE, POOL = 5, 3, 2  # of the CAP, SHARE are for one address
GROWTH = 80e6  # bytes by which the server may be larger after an attack than before


def metric(port: int, name: str) -> float:
    """A figure that a server counts; 0 when there was nothing to count yet."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    link.request("GET", "/metrics")
    text = link.getresponse().read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0


class Target:
    """The server under attack, a visitor who is there all the time, and what must stay as it was."""

    def __init__(self, running: browser.Server, folder: Path):
        self.server, self.folder, self.attacker = running, folder, None
        self.port = int(running.url.rsplit(":")[-1].strip("/"))
        browser.until(lambda: self.health()["pool_ready"] == POOL, 90, "the pool")
        self.slow = [self.half_a_request(number) for number in range(40)]
        self.slow_since = time.monotonic()
        self.bystander = Visitor(self.port)
        assert self.bystander.read() == "7"
        browser.until(lambda: self.health()["pool_ready"] == POOL, 90, "the pool")
        self.files, self.memory = self.project(), self.used()

    def half_a_request(self, number: int) -> socket.socket:
        """A client that never comes to the point."""
        link = socket.create_connection(("127.0.0.1", self.port), source_address=("127.0.0.4", 0))
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Number: %d" % number)
        return link

    def health(self) -> dict:
        """What the server says of itself."""
        return json.loads(Web(self.port).ask("/healthz")[2])

    def metric(self, name: str) -> float:
        """A figure that it counts."""
        return metric(self.port, name)

    def used(self) -> int:
        """The server's memory in bytes."""
        return psutil.Process(self.server.process.pid).memory_info().rss

    def settle(self) -> None:
        """Wait until only the bystander is there, and who attacks now."""
        here = 1 + bool(self.attacker)
        browser.until(lambda: self.health()["visitors"] == here, 60, "the end of other visits")

    def dismiss(self) -> None:
        """Have the attacker leave."""
        attacker, self.attacker = self.attacker, None
        assert attacker is None or attacker.leave() == 204

    def project(self) -> dict[str, int]:
        """Every file that a stranger must not change, with the time of its last change."""
        passed, found = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".venv"}, {}
        for folder, inner, names in os.walk(paths.PROJECT):
            inner[:] = set(inner) - passed
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found[os.path.join(folder, name)] = os.stat(f"{folder}/{name}").st_mtime_ns
        return found

    def check(self) -> None:
        """The server serves, the bystander noticed nothing, no file was written, memory is back."""
        started = time.monotonic()
        assert self.bystander.read() == "7" and time.monotonic() - started < 5
        self.settle()
        assert self.project() == self.files
        written = [path for path in self.folder.rglob("*") if path.is_file()]
        assert all(
            re.fullmatch(r"(?:kernel|nbserver)-[-\w]+\.(?:json|html)", path.name)
            for path in written
        ), written
        assert self.used() < self.memory + GROWTH


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tmp")
    settings = {
        "DIGITS_MAX_VISITORS": str(CAP),
        "DIGITS_PROXIES": "127.0.0.1",
        "DIGITS_PUBLIC_HOSTS": "digits.example.org",
        "TMPDIR": str(folder),
    }
    with browser.voila(**settings) as running:
        target = Target(running, folder)
        yield target
        target.bystander.socket.close()


@pytest.fixture
def target(whole, request):
    if "visitor" not in request.fixturenames:
        whole.dismiss()
        whole.settle()
    yield whole
    whole.check()


@pytest.fixture
def visitor(target):
    """Another visitor, who attacks in one test after the other until it has spoilt its kernel."""
    target.attacker = target.attacker or Visitor(target.port)
    yield target.attacker
    try:
        spoilt = target.attacker.is_spoilt or target.attacker.read() != "7"
    except (websocket.WebSocketException, OSError):
        spoilt = True
    if spoilt:
        target.dismiss()


# --- What is served ---------------------------------------------------------------------------------------------------

SHUT = """/voila.json /notebooks/05_draw.ipynb /05_draw.ipynb /voila/files/05_draw.ipynb /voila/files/images/app.png
/voila/files/../voila.json /voila/tree /voila/render/01_eda.ipynb /voila/api/contents /voila/api/themes/x /api /api/status
/api/kernels /api/kernelspecs /api/sessions /api/terminals /api/contents /api/contents/05_draw.ipynb /api/me /api/config/x
/terminals/1 /nbconvert/html/05_draw.ipynb /files/05_draw.ipynb /tree /lab /login /logout /voila/query/{id}
/voila/execution/{id} /api/kernels/{id}/restart /api/kernels/{id}/interrupt /static/base/js/main.js /.git/config
/voila/static/../../../../../../../etc/passwd /voila/static/..%2f..%2f..%2f..%2fetc/passwd /voila/static/%2e%2e/x.js
/voila/static//etc/passwd /voila/static/extension.js%00.png /voila/templates/../static/x.js
/voila/templates/digits/index.html.j2 /voila/templates/digits/static/../index.html.j2 /voila/templates/digits/static/
/voila/templates/digits/static/..%2findex.html.j2 /voila/templates/base/static/voila.js /voila/templates//etc/static/passwd
/voila/templates/..%2f..%2f..%2f/static/x.js /voila/labextensions/../voila.json /voila/labextensions/ipycanvas/package.json
/voila/labextensions/ipycanvas/static/..%2fpackage.json /voila/labextensions/jupyterlab_pygments/static/style.js //etc/passwd
/../../etc/passwd /..%5c..%5cvoila.json /%00 /index.html /favicon.ico /robots.txt /healthz/ /metrics/x /HEALTHZ"""


def test_only_what_the_page_uses_is_served(target):
    stranger = Web(target.port)
    for path in SHUT.split():
        path = path.replace("{id}", target.bystander.kernel)
        status, _, body = stranger.ask(path)
        assert status in (400, 404), path
        assert not re.search(
            r"root:|VoilaConfiguration|Traceback|site-packages|html_head|cell_type", body
        ), path
    for path in ("/voila/static/voila.js", "/voila/templates/digits/static/loading.js"):
        assert stranger.ask(path)[0] == 200


def test_methods_that_the_page_does_not_use_are_refused(target):
    stranger, kernel = Web(target.port), f"/api/kernels/{target.bystander.kernel}"
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "HEAD"):
        for path in ("/", kernel, kernel + "/channels", "/api/kernels", "/voila/static/../x"):
            status = stranger.ask(path, method, b"{}")[0]
            assert status in (403, 404, 405), (method, path, status)
    assert target.health()["visitors"] == 1


def test_every_answer_has_the_headers(target, visitor):
    stranger = Web(target.port)
    answers = {
        path: stranger.ask(path)
        for path in ("/nothing", "/voila/static/voila.js", "/healthz", "/api/kernels/x")
    }
    answers["page"] = visitor.ask("/")
    for path, (_, headers, _) in answers.items():
        for name, value in server.HEADERS.items():
            assert headers[name] == value, (path, name)
        assert headers["Server"] is None and headers["X-Powered-By"] is None
    page = answers["page"][2]
    assert (
        re.findall(r"<script(?![^>]*(?:src=|type=\"application/))", page) == []
    )  # the policy would stop inline scripts
    assert (
        re.findall(r"""\son\w+\s*=""", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
        == []
    )
    assert visitor.farewell(page) == 204


def test_cookies_are_for_this_site_and_behind_tls_for_tls_only(target):
    stranger = Web(target.port)
    _, headers, page = stranger.ask("/", Host="digits.example.org", X_Forwarded_Proto="https")
    cookies = headers.get_all("Set-Cookie")
    assert len(cookies) == 2 and all("SameSite=Lax" in one and "Secure" in one for one in cookies)
    assert ["HttpOnly" in one for one in cookies] == ["_xsrf" not in one for one in cookies]
    assert stranger.farewell(page, Host="digits.example.org") == 204


def test_nothing_is_reflected(target):
    evil, stranger = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E", Web(target.port)
    status, _, page = stranger.ask(
        f"/?theme={evil}&template={evil}&voila-theme={evil}&token={evil}", Referer=f"http://{evil}/"
    )
    assert status == 200 and "alert(1)" not in page
    assert stranger.farewell(page) == 204
    for path in (
        f"/{evil}",
        f"/api/kernels/{evil}",
        f"/voila/static/{evil}.js",
        "/%0d%0aSet-Cookie:%20x=1",
        "/?a=%0d%0aX-Y:1",
    ):
        status, headers, body = Web(target.port).ask(path, Sec_Fetch_Dest="image")
        assert status in (400, 403, 404) and "alert(1)" not in body and headers["X-Y"] is None
        assert "x=1" not in str(headers.get_all("Set-Cookie"))


# --- Who asks ---------------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_ours_is_refused(target):
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "localhost@evil.example",
        "",
        "[::]",
        "0.0.0.0",
        "2130706433",
    ):
        assert Web(target.port).ask("/", Host=host)[0] in (400, 421), host
    for host in ("localhost:1", "127.0.0.1", "[::1]:8866", "DIGITS.example.org"):
        assert Web(target.port).ask("/nothing", Host=host)[0] == 404, host
    assert target.health()["visitors"] == 1


def test_a_proxy_that_is_none_is_not_believed(target):
    with socket.create_connection(
        ("127.0.0.1", target.port), source_address=("127.0.0.7", 0)
    ) as link:
        link.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert link.recv(20).startswith(b"HTTP/1.1 403")
    for headers in (
        {},
        {"X-Real-IP": "127.0.0.1"},
        {"X-Forwarded-For": "127.0.0.1, 192.0.2.1"},
    ):  # behind the real one
        assert Web(target.port).ask("/metrics", **headers)[0] == 403


def test_other_sites_get_nothing(target, visitor):
    foreign = {"Origin": "http://evil.example"}
    for headers in (foreign, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", **foreign}):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            visitor.connect(**headers)
        assert refused.value.status_code == 403
        status = visitor.ask(
            f"/voila/api/shutdown/{visitor.kernel}",
            "POST",
            b"",
            X_XSRFToken=visitor.cookies["_xsrf"],
            **headers,
        )[0]
        assert status in (403, 404) or "Origin" not in headers
    started = target.metric("digits_kernels_started_total")
    for use in ("image", "script", "iframe", "empty"):
        assert Web(target.port).ask("/", Sec_Fetch_Dest=use)[0] == 403
    assert target.metric("digits_kernels_started_total") == started and visitor.read() == "7"


def test_another_visitors_kernel_is_out_of_reach(target, visitor):
    for kernel in (target.bystander.kernel, str(uuid.uuid4())):
        for path, method in (
            (f"/voila/api/shutdown/{kernel}", "POST"),
            (f"/api/kernels/{kernel}", "GET"),
        ):
            assert visitor.ask(path, method, b"", X_XSRFToken=visitor.cookies["_xsrf"])[0] == 404
        assert (
            visitor.ask(
                f"/api/kernels/{kernel}", "DELETE", b"", X_XSRFToken=visitor.cookies["_xsrf"]
            )[0]
            == 405
        )
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            visitor.connect(kernel)
        assert refused.value.status_code == 404
    path = f"/voila/api/shutdown/{visitor.kernel}"
    assert (
        visitor.ask(path, "POST", b"")[0] == 403
    )  # a form on another site knows the cookie's name, not its value
    assert visitor.ask(path, "POST", b"", X_XSRFToken="2|made|up|1")[0] == 403
    assert visitor.ask(f"/api/kernels/{visitor.kernel}")[0] == 200 and visitor.read() == "7"
    stranger = Web(target.port)  # with the id, and a pair of their own making
    stranger.cookies["_xsrf"] = "made-up"
    assert stranger.ask(path, "POST", b"", X_XSRFToken="made-up")[0] in (403, 404)
    forged = f"username-127-0-0-1-{target.port}"
    cookie = visitor.cookies[forged]
    stranger.cookies = {
        forged: cookie[:-1] + ("1" if cookie.endswith("0") else "0"),
        "_xsrf": "made-up",
    }
    assert stranger.ask(path, "POST", b"", X_XSRFToken="made-up")[0] in (403, 404)
    assert visitor.read() == "7"


# --- What is sent to a kernel -----------------------------------------------------------------------------------------


def test_clients_of_the_older_protocol_are_refused(target, visitor):
    """They would get frames that Voila reads a count of up to 2**64 from (see tests/test_server.py)."""
    for protocol in (None, "v0.kernel.websocket.jupyter.org", server.PROTOCOL.upper()):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            visitor.connect(protocol=protocol)
        assert refused.value.status_code == 400


def test_malformed_frames_do_nothing(target, visitor):
    good = serialize_msg_to_ws_v1(
        [b'{"msg_type": "comm_msg", "msg_id": "1"}', b"{}", b"{}", b"{}"], "shell"
    )
    frames = [b"", b"\0", b"\xff" * 7, b"\xff" * 64, os.urandom(5000), good[:-1], b"\0" * 900_000]
    frames += [
        count.to_bytes(8, "little") + good[8:] for count in (0, 5, 7, 2**31, 2**62, 2**64 - 1)
    ]
    frames += [(2**60 + 2).to_bytes(8, "big") + b'{"header": {}}' * 9]
    frames += [
        serialize_msg_to_ws_v1([b"[" * 200_000] * 4, "shell"),
        serialize_msg_to_ws_v1([b"9" * 6000] * 4, "shell"),
    ]
    for frame in frames:
        visitor.socket.send_binary(frame)
    for text in (
        "",
        "{}",
        '{"channel": "shell", "header": {"msg_type": "execute_request"}}',
        good.decode("latin-1"),
    ):
        visitor.socket.send(text)
    assert visitor.read() == "7"
    assert target.metric('digits_messages_refused_total{reason="layout"}') >= 10
    assert target.metric('digits_messages_refused_total{reason="text"}') >= 4


def test_oversized_frames_end_their_connection(target, visitor):
    visitor.event({"event": "key_down", "key": "x" * 1_100_000})
    with pytest.raises((websocket.WebSocketException, OSError)):
        visitor.until(lambda *_: False, 10)
    visitor.socket = visitor.connect()
    with pytest.raises((websocket.WebSocketException, OSError)):
        for first in (True, *[False] * 40):  # the same in pieces
            opcode = websocket.ABNF.OPCODE_BINARY if first else websocket.ABNF.OPCODE_CONT
            visitor.socket.send_frame(websocket.ABNF(0, 0, 0, 0, opcode, 1, b"\0" * 60_000))
        visitor.until(lambda *_: False, 10)
    visitor.socket = visitor.connect()
    assert visitor.read() == "7"


TYPES = [
    "execute_request",
    "inspect_request",
    "complete_request",
    "history_request",
    "is_complete_request",
    "connect_request",
    "shutdown_request",
    "interrupt_request",
    "debug_request",
    "create_subshell_request",
    "list_subshell_request",
    "delete_subshell_request",
    "usage_request",
    "input_reply",
    "apply_request",
    "clear_request",
    "abort_request",
    "execute_input",
    "stream",
    "error",
    "status",
    "made_up_request",
]


def test_no_message_type_runs_code_or_ends_a_kernel(target, visitor, tmp_path):
    code = f"open({str(tmp_path / 'written')!r}, 'w')"
    for kind in TYPES:
        for shell in ("shell", "control", "stdin", "iopub", "heartbeat"):
            visitor.send(
                kind,
                {
                    "code": code,
                    "silent": False,
                    "store_history": False,
                    "user_expressions": {"x": code},
                    "allow_stdin": False,
                    "stop_on_error": True,
                    "value": code,
                    "restart": False,
                    "cursor_pos": 0,
                    "command": "evaluate",
                    "arguments": {"expression": code},
                },
                shell=shell,
            )
    for shell in ("control", "stdin", "iopub"):
        visitor.send(
            "comm_msg",
            {"comm_id": visitor.canvas, "data": {"method": "custom", "content": {}}},
            shell=shell,
        )
    assert visitor.read() == "7" and not (tmp_path / "written").exists()
    assert set(visitor.seen) <= {"status", "comm_open", "comm_msg", "comm_close", "display_data"}


def test_forged_widgets_change_nothing(target, visitor):
    answer = next(
        key
        for key, model in visitor.widgets.items()
        if "digits-reading" in str(model["state"].get("value"))
    )
    evil = "<img src=x onerror=alert(1)>"
    for widget in (
        visitor.canvas,
        answer,
        uuid.uuid4().hex,
        "",
        None,
        ["x"],
        {"a": 1},
        10**30,
        "x" * 100_000,
    ):
        for state in (
            {"width": 1e9},
            {"height": "NaN"},
            {"value": evil},
            {"_view_module": "evil"},
            {"layout": "IPY_MODEL_x"},
            {"image_data": "x" * 10_000},
            None,
            [],
            math.nan,
        ):
            visitor.send(
                "comm_msg",
                {
                    "comm_id": widget,
                    "data": {"method": "update", "state": state, "buffer_paths": [["a"]]},
                },
            )
    for goal in (
        "jupyter.widget",
        "jupyter.widget.version",
        "os",
        "__main__",
        "ipympl",
        "",
        None,
        5,
        {"x": 1},
    ):
        visitor.send(
            "comm_open",
            {
                "comm_id": uuid.uuid4().hex,
                "target_name": goal,
                "target_module": "os",
                "data": {
                    "state": {
                        "_model_module": "@jupyter-widgets/controls",
                        "_model_name": "FileUploadModel",
                    },
                    "buffer_paths": [],
                },
            },
            {"version": "2.1.0"},
        )
    visitor.seen.clear()
    assert visitor.read() == "7" and "comm_open" not in visitor.seen


def test_forged_events_are_refused_by_the_kernel(target, visitor):
    for content in (
        None,
        5,
        [],
        {},
        {"event": "mouse_down", "x": math.nan, "y": "x"},
        {"event": "touch_start", "touches": 9},
        {"event": ["x"]},
        {"event": "key_down"},
        {"event": "key_down", "key": None},
        {"event": "key_down", "key": {}},
        {"event": "mouse_move", "x": 1e308, "y": -1e308},
        {"event": "mouse_wheel"},
        {"event": "made_up"},
    ):
        visitor.event(content)
    whole = [
        ["down", math.nan, 5, None],
        ["down", 1e309, 5, None],
        ["down", "5", 5, None],
        ["down", 5, 5, "x"],
        ["down"],
        ["move", 1],
        ["move", *[math.nan] * 4],
        ["move", *range(60_000)],
        ["brush", -1e9],
        ["brush", True],
        ["threshold", []],
        ["part", -1],
        ["part", 10**400],
        ["model", "../../../etc/passwd"],
        ["model", "x" * 1000],
        ["put", True, [1, 2, 3]],
        ["tool", "knife"],
        ["verdict", "right", 11],
        ["file", "../../x", 10, 0, "====", False],
        ["file", "x", 2**50, 0, "", False],
        ["__init__"],
        ["_say", "x"],
        ["receive", "x"],
        [],
        [[]],
        None,
        5,
        "clear",
        ["up", 1],
        ["consent", "yes"],
        ["why", 1],
    ]
    for operation in whole:
        visitor.report([operation])
    visitor.report([["up"]] * 501)
    visitor.report([["move", *[140.5] * 40_000]])
    for seq in (-1, 2**60, 1.5, None, "1", True):
        visitor.event(
            {
                "event": "key_down",
                "key": json.dumps({"seq": seq, "ops": [["clear"]]}),
                "shift_key": False,
                "ctrl_key": False,
                "meta_key": False,
            }
        )
    visitor.event(
        {
            "event": "key_down",
            "key": "[" * 100_000,
            "shift_key": False,
            "ctrl_key": False,
            "meta_key": False,
        }
    )
    assert visitor.read() == "7"


def test_ten_million_points_do_not_fit(target, visitor):
    """In one frame they are too large; in many, the pad is full long before."""
    for _ in range(60):
        visitor.report(
            [
                ["down", 10, 10, None],
                *[["move", *[float(number % 280) for number in range(9_000)]]],
                ["up"],
            ]
        )
    assert visitor.read() == "7"
    assert psutil.Process(kernel_process(visitor)).memory_info().rss < 250e6


def kernel_process(visitor: Visitor) -> int:
    """The process id of a visitor's kernel."""
    return next(
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if visitor.kernel in " ".join(one.info["cmdline"] or ())
    )


# --- Too much of it ---------------------------------------------------------------------------------------------------


def test_a_flood_of_messages_is_slowed_and_nobody_else_feels_it(target, visitor):
    delayed = target.metric("digits_messages_delayed_total")
    for _ in range(1000):
        visitor.event({"event": "key_down", "key": '{"seq": 1, "ops": [["ping"]]}'})
    started = time.monotonic()
    assert target.bystander.read() == "7" and time.monotonic() - started < 3
    browser.until(
        lambda: target.metric("digits_messages_delayed_total") > delayed + 20,
        30,
        "messages that wait",
    )


def test_pages_that_close_while_their_kernel_ends_leave_no_socket(target):
    """The farewell comes first: jupyter_server keeps the sockets of the kernel for a page that may come back."""
    descriptors = Path(f"/proc/{target.server.process.pid}/fd")

    def signals() -> int:
        """Each of ZeroMQ's sockets has one."""
        return sum(
            "eventfd" in os.readlink(one) for one in descriptors.iterdir() if one.is_symlink()
        )

    target.settle()
    before = signals()
    for pause in (0.02, 0.05, 0.1, 0.2):
        guest = Visitor(target.port)
        path = f"/voila/api/shutdown/{guest.kernel}"
        token = guest.cookies["_xsrf"]
        farewell = threading.Thread(
            target=guest.ask, args=(path, "POST", b""), kwargs={"X_XSRFToken": token}
        )
        farewell.start()
        time.sleep(pause)
        guest.socket.shutdown()
        farewell.join()
    target.settle()
    browser.until(lambda: signals() <= before, 20, "the end of their sockets")


def test_a_reader_who_does_not_read_costs_no_memory(target, visitor):
    before, control = target.used(), uuid.uuid4().hex
    visitor.send(
        "comm_open",
        {"comm_id": control, "target_name": server.CONTROL, "data": {}},
        {"version": "1.0.0"},
    )
    visitor.is_spoilt = True
    visitor.socket.settimeout(1)
    with contextlib.suppress(OSError, websocket.WebSocketException):
        for _ in range(1500):
            visitor.send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})
    assert target.used() < before + GROWTH


@pytest.mark.parametrize("method", [b"request_states", rb"request\u005fstates"])
def test_questions_for_states_wait_for_one_another(target, visitor, method):
    """An answer weighs a thousand times as much as the question."""
    control = uuid.uuid4().hex
    opened = {"comm_id": control, "target_name": server.CONTROL, "data": {}}
    visitor.send("comm_open", opened, {"version": "1.0.0"})
    delayed = target.metric("digits_messages_delayed_total")
    content = b'{"comm_id": "%s", "data": {"method": "%s"}}' % (control.encode(), method)
    for number in range(30):
        header = b'{"msg_type": "comm_msg", "msg_id": "%s-%d"}' % (control.encode(), number)
        frame = serialize_msg_to_ws_v1([header, b"{}", b"{}", content], "shell")
        visitor.socket.send_binary(frame)
    for _ in range(30):
        visitor.until(lambda _, content: content.get("data", {}).get("method") == "update_states")
    assert target.metric("digits_messages_delayed_total") >= delayed + 5


def test_so_many_sockets_on_a_kernel_and_no_more(target, visitor):
    more = [visitor.connect() for _ in range(server.SOCKETS - 1)]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        visitor.connect()
    assert refused.value.status_code == 429
    for one in more:
        one.close()
    assert visitor.read() == "7"


def test_a_flood_of_connections_leaves_room_for_others(target):
    links = []
    for _ in range(server.CONNECTIONS_OF_ONE + 100):
        links.append(
            socket.create_connection(("127.0.0.1", target.port), source_address=("127.0.0.2", 0))
        )
        links[-1].setblocking(False)
    assert target.bystander.read() == "7" and Web(target.port).ask("/nothing")[0] == 404

    def ended(link):
        try:
            return link.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    browser.until(lambda: sum(map(ended, links)) >= 100, 10, "the end of what is too many")
    assert sum(map(ended, links)) <= 110
    for link in links:
        link.close()


def test_bodies_and_headers_have_a_size(target):
    stranger = Web(target.port)
    assert stranger.ask("/voila/api/shutdown/" + str(uuid.uuid4()), "POST", b"x" * 60_000)[0] in (
        403,
        404,
    )
    for request in (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ):
        with (
            socket.create_connection(("127.0.0.1", target.port), timeout=10) as link,
            contextlib.suppress(ConnectionError),
        ):
            link.sendall(request)
            assert not link.recv(100).startswith(b"HTTP/1.1 200")


def test_one_visitor_too_many_gets_a_friendly_page_and_no_kernel(target):
    guests = [Visitor(target.port) for _ in range(CAP - 1)]
    browser.until(lambda: target.health()["pool_ready"] == POOL, 60, "the pool")
    kernels, started = len(target.server.kernels()), target.metric("digits_kernels_started_total")
    assert kernels == CAP + POOL
    status, headers, page = Web(target.port).ask("/")
    assert status == 503 and int(headers["Retry-After"]) > 0 and "All pads are taken" in page
    assert not re.search(r"(?:src|href)=\"(?!/\")", page)  # it needs nothing else
    assert Web(target.port).ask("/healthz")[0] == 503
    time.sleep(2)
    assert (
        len(target.server.kernels()) == kernels
        and target.metric("digits_kernels_started_total") == started
    )
    assert all(guest.read() == "7" for guest in guests)
    for guest in guests:
        assert guest.leave() == 204
    browser.until(lambda: Web(target.port).ask("/healthz")[0] == 200, 20, "room")


def test_an_address_does_not_get_the_last_pads(target):
    """It takes pads and connects to none: others still come, and what nobody uses ends soon."""
    greedy, started = Web(target.port), time.monotonic()
    answers = [greedy.ask("/") for _ in range(CAP)]
    assert [status for status, *_ in answers] == [200] * SHARE + [429] * (CAP - SHARE)
    assert int(answers[-1][1]["Retry-After"]) > 0 and "its share" in answers[-1][2]
    other = Visitor(target.port)
    assert other.read() == "7" and other.leave() == 204
    target.settle()
    assert time.monotonic() - started < server.UNUSED + 3 * server.LOOK_ROUND + 10


# --- Kernels come and go ----------------------------------------------------------------------------------------------


def test_a_closed_page_frees_its_kernel_within_seconds(target):
    guest = Visitor(target.port)
    process = kernel_process(guest)
    assert guest.leave() == 204
    browser.until(lambda: not psutil.pid_exists(process), 8, "the kernel's end")


def test_kernels_that_die_are_counted_and_replaced(target):
    guest, died = Visitor(target.port), target.metric("digits_kernels_died_total")
    target_pool = set(target.server.kernels()) - {
        kernel_process(guest),
        kernel_process(target.bystander),
    }
    browser.until(lambda: target.health()["pool_ready"] == POOL, 60, "the pool")
    for process in (kernel_process(guest), *target_pool):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(process).kill()
    killed = 1 + len(target_pool)
    browser.until(
        lambda: target.metric("digits_kernels_died_total") == died + killed, 20, "the count"
    )
    browser.until(lambda: target.health()["pool_ready"] == POOL, 60, "a new pool")
    newcomer = Visitor(target.port)
    assert newcomer.read() == "7" and newcomer.leave() == 204


def test_slow_clients_are_shown_out(target):
    time.sleep(max(target.slow_since + server.PATIENCE[0] + 5 - time.monotonic(), 0))
    for link in target.slow:
        link.settimeout(5)
        assert link.recv(100) == b"" or b"408" in link.recv(100)
        link.close()


# --- After the end ----------------------------------------------------------------------------------------------------


def speak_after_the_end(
    visitor: Visitor, ask: Callable[[], object], memory: Callable[[], int]
) -> None:
    """Send an ordinary frame on a connection that the server has closed: nobody waits for it, and it takes no room."""
    dropped = 'digits_messages_refused_total{reason="ended"}'
    counted, before, started = metric(visitor.port, dropped), memory(), time.monotonic()
    visitor.event({"event": "client_ready"})
    assert ask() and time.monotonic() - started < 3
    assert memory() < before + GROWTH
    assert metric(visitor.port, dropped) == counted + 1


def test_what_arrives_after_the_end_is_not_read(target, visitor):
    """A page that comes back with its session's name ends the connection that it had; the old one still has five seconds
    to say something, and jupyter_server would take that for a frame of the older layout."""
    session, first = uuid.uuid4().hex, visitor.socket
    visitor.socket = visitor.connect(session=session)
    back = visitor.connect(session=session)
    speak_after_the_end(visitor, lambda: target.bystander.read() == "7", target.used)
    visitor.socket = back
    assert visitor.read() == "7"
    first.close()


def test_a_connection_that_fails_half_way_is_not_counted(target, visitor):
    for session in (
        "x" * 300,
        "x" * 101,
        "%2f",
        "%d9%a3",
        "%20",
    ):  # ZeroMQ has no socket with the first name
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            visitor.connect(session=session)
        assert refused.value.status_code == 400

    def one_is_left() -> bool:
        about = json.loads(visitor.ask(f"/api/kernels/{visitor.kernel}")[2])
        return about["connections"] == 1

    browser.until(one_is_left, 10, "a count of 1")


def test_a_flood_of_handshakes_is_refused(target, visitor):
    path = f"/api/kernels/{visitor.kernel}/channels?session_id="
    codes = [
        visitor.ask(path + uuid.uuid4().hex, Sec_WebSocket_Protocol=server.PROTOCOL)[0]
        for _ in range(100)
    ]
    visitor.is_spoilt = True
    assert set(codes) == {400, 429} and 20 <= codes.count(400) < 60  # no websocket was asked for
    assert visitor.read() == "7"


def test_a_laptop_that_wakes_up_does_no_harm():
    """It answered no ping while it slept; the server ended the connection and hears from it before it has noticed.

    The last of these tests: the bystander of the others, who reads for one test and then for the next, would fall asleep."""
    settings = {
        "ws_ping_interval": 400,
        "ws_ping_timeout": 1200,
        "websocket_max_message_size": 1_000_000,
    }
    with browser.voila(
        f"--Voila.tornado_settings={settings}", DIGITS_MAX_VISITORS="3", DIGITS_PROXIES="127.0.0.1"
    ) as running:
        sleeper = Visitor(int(running.url.rsplit(":")[-1].strip("/")))
        browser.until(
            lambda: "WebSocket ping timeout" in running.log.read_text(),
            20,
            "the end of the sleeper's connection",
        )
        speak_after_the_end(
            sleeper,
            lambda: Web(sleeper.port).ask("/nothing")[0] == 404,
            lambda: psutil.Process(running.process.pid).memory_info().rss,
        )
        sleeper.socket = sleeper.connect()
        assert sleeper.read() == "7" and sleeper.leave() == 204

"""The server's parts one by one; tests/test_attacks.py attacks the whole."""

import asyncio
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import pytest
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1
from tornado.web import HTTPError

import browser
from digits import files
from digits.app import SCRIPT, Pace, kernel, server
from digits.app.app import assets
from digits.app.server import Settings
from digits.recognizer.model import quiet_stderr

LEGACY = b"\0\0\0\2\0\0\0\x0c\0\0\0\x28" + b'{"header": {}}' * 4


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_settings_come_from_the_environment_and_nonsense_is_named():
    settings = Settings.read(
        {
            "DIGITS_PUBLIC_HOSTS": "Digits.example.org, 192.0.2.7",
            "DIGITS_MAX_VISITORS": "3",
            "DIGITS_PROXIES": "127.0.0.1",
            "DIGITS_METRICS_FROM": "10.0.0.0/8",
            "DIGITS_DATA": "x",
        }
    )
    assert (
        settings.visitors == 3
        and settings.proxies == ("127.0.0.1",)
        and settings.metrics_from == ("10.0.0.0/8",)
    )
    assert {"digits.example.org", "192.0.2.7", "localhost"} <= settings.hosts
    for name, value in (
        ("MAX_VISITORS", "many"),
        ("PROXIES", "nginx"),
        ("METRICS_FROM", "10.0.0.0/99"),
    ):
        with pytest.raises(ValueError, match=f"DIGITS_{name}"):
            Settings.read({f"DIGITS_{name}": value})


@pytest.mark.parametrize(
    "gigabytes, cores, visitors", [(0.2, 2, 1), (2, 2, 6), (24, 2, 20), (4, 64, 13)]
)
def test_memory_and_cores_say_how_many_visitors_there_may_be(
    monkeypatch, gigabytes, cores, visitors
):
    memory = SimpleNamespace(total=int(gigabytes * 1e9))
    monkeypatch.setattr(server.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(server.os, "cpu_count", lambda: cores)
    assert Settings().visitors == visitors


@pytest.mark.parametrize("ip", ["", "0.0.0.0", "::", "192.0.2.7", "digits.example.org"])
def test_listening_to_strangers_needs_the_name_they_come_by(ip):
    with pytest.raises(ValueError, match="DIGITS_PUBLIC_HOSTS=digits.example.org"):
        Settings().check_address(ip)
    Settings(public_hosts=("digits.example.org",)).check_address(ip)


@pytest.mark.parametrize("ip", ["localhost", "127.0.0.1", "127.0.0.9", "::1"])
def test_this_computer_needs_nothing(ip):
    Settings().check_address(ip)


def test_the_server_stops_with_a_sentence_instead_of_listening_to_strangers(monkeypatch):
    monkeypatch.delenv("DIGITS_PUBLIC_HOSTS", raising=False)
    with pytest.raises(SystemExit, match="DIGITS_PUBLIC_HOSTS is not set"):
        server.KernelManager(parent=SimpleNamespace(ip="0.0.0.0"))


@pytest.mark.service
@pytest.mark.slow
def test_voila_without_the_protections_serves_no_app():
    port = browser.free_port()
    command = [sys.executable, "-m", "voila", "05_draw.ipynb", "--no-browser", f"--port={port}"]
    with subprocess.Popen(command, cwd=files.NOTEBOOKS, stderr=subprocess.DEVNULL) as process:
        try:
            browser.until(lambda: browser.listens(port), 90, "the server")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as reply:
                html = reply.read().decode()
        finally:
            process.terminate()
    assert "Start it in the project" in html and "CanvasModel" not in html


def test_the_app_opens_under_voila_in_its_own_kernel_only(monkeypatch):
    kernel.require_guard()
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    with pytest.raises(RuntimeError, match="voila.json"):
        kernel.require_guard()
    guarded = SimpleNamespace(kernel=kernel.Kernel.__new__(kernel.Kernel))
    monkeypatch.setattr(kernel, "get_ipython", lambda: guarded)
    kernel.require_guard()


# --- Not so fast ------------------------------------------------------------------------------------------------------


def test_a_pen_never_waits_and_a_flood_does():
    clock, waits = Clock(), []
    pace = Pace(server.RATE, server.BURST, clock)
    for second in range(60):
        for _ in range(120 if second % 5 == 0 else 60):
            waits.append(pace.wait())
            clock.now += 1 / 120
        clock.now += 0 if second % 5 == 0 else 0.5
    assert max(waits) == 0
    flood = [pace.wait() for _ in range(1000)]
    assert flood[server.BURST // 2] == 0 and flood[-1] > 2


def test_turns_that_nobody_waits_for_are_not_kept_for_them():
    clock = Clock()
    pace = Pace(1, 20, clock)
    assert sum(pace.now() for _ in range(10_000)) == 20
    clock.now += 1
    assert [pace.now(), pace.now()] == [True, False]


# --- Frames -----------------------------------------------------------------------------------------------------------


def frame(kind="comm_msg", content=None, shell="shell", header=None, parent=None, metadata=None):
    """A frame as the page's script makes it."""
    header = header or {"msg_type": kind, "msg_id": "1", "date": "2026-01-01T00:00:00.000Z"}
    content = (
        {"comm_id": "c", "data": {"method": "custom", "content": {}}}
        if content is None
        else content
    )
    return serialize_msg_to_ws_v1(
        [json.dumps(part).encode() for part in (header, parent or {}, metadata or {}, content)],
        shell,
    )


@pytest.mark.parametrize(
    "kind, content",
    [
        (
            "comm_msg",
            {"comm_id": "c", "data": {"method": "custom", "content": {"event": "client_ready"}}},
        ),
        ("comm_msg", {"comm_id": "c", "data": {"method": "request_states"}}),
        ("comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}),
        ("comm_close", {"comm_id": "c", "data": {}}),
        ("kernel_info_request", {}),
        ("comm_info_request", {}),
    ],
)
def test_what_the_page_sends_passes(kind, content):
    assert server.read_frame(frame(kind, content))["msg_type"] == kind


@pytest.mark.parametrize(
    "kind",
    [
        "execute_request",
        "inspect_request",
        "complete_request",
        "history_request",
        "is_complete_request",
        "shutdown_request",
        "interrupt_request",
        "debug_request",
        "input_reply",
        "create_subshell_request",
        "execute_reply",
        "",
        None,
        ["comm_msg"],
        7,
    ],
)
def test_no_other_type_passes(kind):
    with pytest.raises(server.RefusedError, match="type|header"):
        server.read_frame(frame(kind, {"code": "1", "comm_id": "c", "data": {"method": "custom"}}))


@pytest.mark.parametrize(
    "kind, content",
    [
        ("comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {"state": {}}}),
        ("comm_open", {"comm_id": "c", "target_name": ["jupyter.widget.control"]}),
        ("comm_open", {}),
        ("comm_msg", {"comm_id": "c", "data": {"method": "update", "state": {"width": 1e9}}}),
        ("comm_msg", {"comm_id": "c", "data": []}),
        ("comm_msg", {}),
    ],
)
def test_no_widget_is_made_or_changed_from_outside(kind, content):
    with pytest.raises(server.RefusedError, match="type"):
        server.read_frame(frame(kind, content))


def damaged():
    """Frames that no page makes."""
    good = frame()
    yield "text", good.decode("latin-1")
    yield "text", ""
    for count in (0, 1, 5, 7, 2**31, 2**63, 2**64 - 1):
        yield "layout", count.to_bytes(8, "little") + good[8:]
    yield from (("layout", good[:length]) for length in (0, 7, 8, 55, len(good) - 1))
    for place in range(1, 7):
        yield "layout", good[: 8 * place] + (2**63).to_bytes(8, "little") + good[8 * place + 8 :]
    yield "layout", LEGACY
    yield from (
        ("channel", frame(shell=shell))
        for shell in ("", "control", "stdin", "iopub", "Shell", "shell\n")
    )
    yield from (("json", frame(header=header)) for header in ([1], "x", 5))
    yield "json", frame(content=[1])
    yield "json", good.replace(b'"msg_id"', b"'msg_id'")
    nested = b"[" * 200_000
    yield (
        "json",
        serialize_msg_to_ws_v1(
            [b'{"msg_type": "comm_msg", "msg_id": "1"}', b"{}", b"{}", nested], "shell"
        ),
    )
    yield (
        "json",
        serialize_msg_to_ws_v1([b'{"msg_id": ' + b"9" * 5000 + b"}", b"{}", b"{}", b"{}"], "shell"),
    )
    yield from (
        ("header", frame(header={"msg_type": "comm_msg", "msg_id": one}))
        for one in (None, 1, [], "", "x" * 101)
    )
    # What follows the kernel cannot read, and would log a traceback for.
    for more in ({"date": "2026-99-99T00:00:00Z"}, {"subshell_id": "x"}, {"username": "\n"}):
        about = {"msg_type": "comm_msg", "msg_id": "1", **more}
        yield "header", frame(header=about)
        yield "parent", frame(parent=about)
    yield "json", frame(parent=[1])
    yield "json", frame(metadata="x")
    yield "metadata", frame(metadata={"x": []})
    yield "metadata", frame(metadata={"x": "y" * 101})
    nested = []
    for _ in range(100):
        nested = [nested]
    for content in (nested, [[]] * 40, {str(k): {} for k in range(40)}):
        yield "content", frame(content={"comm_id": "c", "data": content})
    parts = [b'{"msg_type": "comm_msg", "msg_id": "1"}', b"{}", b"{}", b"{}"]
    for place in range(4):
        for code in ("utf-16", "utf-32", "utf-8-sig"):
            odd = [*parts[:place], parts[place].decode().encode(code), *parts[place + 1 :]]
            yield "json", serialize_msg_to_ws_v1(odd, "shell")


@pytest.mark.parametrize(
    "reason, damage", list(damaged()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_damaged_frames_are_refused_at_once(reason, damage):
    with pytest.raises(server.RefusedError, match=reason):
        server.read_frame(damage)


class Session:
    """As much of a jupyter_client session as a connection asks for."""

    feed_identities = staticmethod(lambda parts: ([], parts))


def test_a_connection_counts_what_the_kernel_has_not_dealt_with(monkeypatch):
    passed = []
    base = server.ZMQChannelsWebsocketConnection
    monkeypatch.setattr(base, "__init__", lambda self: None)
    monkeypatch.setattr(base, "handle_incoming_message", lambda self, message: passed.append("in"))
    monkeypatch.setattr(
        base, "handle_outgoing_message", lambda self, stream, message: passed.append("out")
    )
    monkeypatch.setattr(base, "session", Session())
    monkeypatch.setattr(base, "kernel_id", "some")
    connection = server.Connection()
    for number in range(server.MOST_WAITING):
        assert not connection.is_behind
        connection.handle_incoming_message(
            frame(header={"msg_type": "comm_msg", "msg_id": str(number)})
        )
        connection.handle_incoming_message(
            frame(header={"msg_type": "comm_msg", "msg_id": str(number)})
        )  # refused
    assert connection.is_behind and len(passed) == server.MOST_WAITING

    def say(kind, **content):
        connection.handle_outgoing_message(
            "iopub",
            [
                b"",
                json.dumps({"msg_type": kind}).encode(),
                b'{"msg_id": "5"}',
                b"{}",
                json.dumps(content).encode(),
            ],
        )

    say("status", execution_state="busy")
    assert connection.is_behind
    say("status", execution_state="idle")
    assert not connection.is_behind and passed[-2:] == ["out", "out"]
    say("stream", text="Traceback: /home/somebody")
    say("error", traceback=["/home/somebody"])
    assert passed.count("out") == 2


def test_a_refused_handshake_is_forgotten():
    handler = server.ChannelHandler.__new__(server.ChannelHandler)
    server.Connection._open_sessions["some"] = handler
    del handler
    gc.collect()
    assert "some" not in server.Connection._open_sessions


class Link:
    """As much of a connection as a websocket asks for."""

    is_over, is_behind, taken, left, kernel_id = False, False, 0, 0, "k"

    def handle_incoming_message(self, _: bytes) -> None:
        self.taken += 1

    def disconnect(self) -> None:
        self.left += 1


@pytest.fixture
def handler():
    """A websocket's side of a server that has not been started."""
    made = server.ChannelHandler.__new__(server.ChannelHandler)
    made.ws_connection, made.connection = SimpleNamespace(is_closing=lambda: False), Link()
    made._pace, made._bytes_pace, made._unread = Pace(1000, 1000), Pace(1e6, 1e6), 0
    made._on_close_called, made._status_code = False, 101
    return made


def test_large_messages_wait_as_many_do(handler):
    large = frame(content={"comm_id": "c", "data": {"method": "custom", "content": "x" * 600_000}})

    async def send():
        first, waiting = handler.on_message(large), handler.on_message(large)
        waiting.close()
        return first, handler.connection.taken

    assert asyncio.run(send()) == (None, 1)


def test_a_page_that_does_not_read_is_not_heard(handler, monkeypatch):
    """Each state that it asks for would wait here for it; once it has read, it is heard again."""

    async def play():
        sending = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(server.VoilaKernelWebsocketHandler, "write_message", lambda *_: sending)
        handler.write_message(b"x" * server.MOST_UNREAD * 2, binary=True)
        waiting = asyncio.ensure_future(handler.on_message(frame()))
        await asyncio.sleep(0.05)
        assert handler.is_behind and not waiting.done() and handler.connection.taken == 0
        sending.set_result(None)
        await asyncio.wait_for(waiting, 5)
        return handler.connection.taken

    assert asyncio.run(play()) == 1


END = [
    lambda one: setattr(one, "ws_connection", None),
    lambda one: setattr(one, "connection", None),
    lambda one: setattr(one.connection, "is_over", True),
    lambda one: setattr(one, "ws_connection", SimpleNamespace(is_closing=lambda: True)),
]


@pytest.mark.parametrize("end", END)
def test_what_comes_after_the_end_is_not_read(handler, end):
    link = handler.connection
    handler.on_message(frame())
    end(handler)
    assert link.taken == 1 and handler.on_message(frame()) is None and link.taken == 1


@pytest.mark.parametrize("end", END)
def test_what_waited_for_its_turn_until_the_end_is_not_read(handler, end):
    """Nor does it wait any longer for a kernel that is gone: Tornado would wait with it, and the sockets stay."""

    async def wait():
        link = handler.connection
        link.is_behind = True
        waiting = asyncio.ensure_future(handler.on_message(frame()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        end(handler)
        await asyncio.wait_for(waiting, 5)
        return link.taken

    assert asyncio.run(wait()) == 0


def test_a_connection_that_could_not_be_opened_has_ended(handler, monkeypatch):
    async def fail(*_):
        raise TimeoutError("the kernel does not answer")

    monkeypatch.setattr(server.VoilaKernelWebsocketHandler, "open", fail)
    link, handler.ws_connection = handler.connection, None
    with pytest.raises(TimeoutError):
        asyncio.run(handler.open("k"))
    assert link.left == 1 and handler.has_ended


def test_a_connection_ends_once(monkeypatch):
    ends, base = [], server.ZMQChannelsWebsocketConnection
    monkeypatch.setattr(base, "__init__", lambda self: None)
    monkeypatch.setattr(
        base, "disconnect", lambda self: ends.append(self._open_sockets.remove(self))
    )
    connection = server.Connection()
    connection.disconnect()
    connection.disconnect()
    assert len(ends) == 1 and connection.is_over


def test_the_layout_of_frames_is_the_same_after_the_end(handler):
    """jupyter_server's own is not: when the first assertion fails, ``subprotocol`` can go."""
    handler.ws_connection = None
    base, ended = server.ZMQChannelsWebsocketConnection, SimpleNamespace(websocket_handler=handler)
    assert base.subprotocol.fget(ended) is None
    assert server.Connection.subprotocol == server.PROTOCOL


# --- Doors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [None, SimpleNamespace(is_closing=lambda: True)])
def test_what_a_kernel_still_says_to_a_page_that_left_is_dropped(connection):
    """It was half a second away from being read; Tornado raises, and the log would fill with errors that are none."""
    handler = server.ChannelHandler.__new__(server.ChannelHandler)
    handler.ws_connection = connection
    assert handler.write_message(frame(), binary=True) is None


def test_the_policy_knows_the_pages_script():
    script = re.search("<script>(.*)</script>", assets(), re.DOTALL)[1]
    assert script == SCRIPT
    policy = server.HEADERS["Content-Security-Policy"]
    assert (
        "unsafe-inline" not in policy.split("script-src")[1].split(";")[0] and "http" not in policy
    )


def test_addresses_are_compared_as_numbers():
    assert server.is_within("127.8.9.1", server.LOOPBACK) and server.is_within(
        "::1", server.LOOPBACK
    )
    assert server.is_within("::ffff:127.0.0.1", server.LOOPBACK) and not server.is_within(
        "::ffff:128.0.0.1", server.LOOPBACK
    )
    assert not server.is_within("128.0.0.1", server.LOOPBACK) and not server.is_within(
        "localhost", server.LOOPBACK
    )


def test_health_knows_whether_the_model_can_be_loaded(monkeypatch, tmp_path):
    assert server.has_model(1)
    monkeypatch.setattr(files, "OUTPUTS", tmp_path)
    monkeypatch.setattr(files, "REFERENCE", tmp_path / "reference")
    assert server.has_model(1) and not server.has_model(2)


def test_only_the_main_thread_silences_the_process(capfd):
    def load():
        with quiet_stderr():
            os.write(2, b"a thread\n")

    with quiet_stderr():
        os.write(2, b"nobody hears it\n")
    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert capfd.readouterr().err == "a thread\n"


# --- Visitors ---------------------------------------------------------------------------------------------------------


class Guest:
    """As much of a page as the manager asks for."""

    def __init__(self, name: str = "somebody", ip: str = "192.0.2.1"):
        self.request = SimpleNamespace(remote_ip=ip)
        self.current_user = SimpleNamespace(username=name)


@pytest.fixture
def manager(monkeypatch):
    """The manager of a server that has not been started, with room for two."""
    made = server.KernelManager.__new__(server.KernelManager)
    made.most_visitors, made._visits, made.settings = 2, {}, Settings()
    made._line, made._making, made._verdicts = {}, 0, {}
    made._last_ready, made.ended = time.monotonic(), []

    async def shutdown_kernel(kernel_id, **_):
        made.ended.append(kernel_id)

    monkeypatch.setattr(made, "shutdown_kernel", shutdown_kernel, raising=False)
    return made


def test_a_visitor_counts_once_from_the_door_to_the_end(manager):
    page = Guest()
    with manager.arrival(page):
        assert manager.visitors == 1
        manager.welcome("k", page)
        assert manager.visitors == 1
    assert manager.visitors == 1 and manager.belongs("k", page.current_user)
    assert not manager.belongs("k", Guest("else").current_user) and not manager.belongs("k", None)
    assert not manager.belongs("pooled", page.current_user)
    with pytest.raises(ZeroDivisionError), manager.arrival(page):
        raise ZeroDivisionError
    assert manager.visitors == 1


def test_one_too_many_is_refused(manager):
    with (
        manager.arrival(Guest()),
        manager.arrival(Guest()),
        pytest.raises(HTTPError) as full,
        manager.arrival(Guest()),
    ):
        pass
    assert full.value.status_code == 503 and manager.visitors == 0


@pytest.mark.parametrize("most, alone", [(1, 1), (2, 1), (3, 2), (5, 4), (20, 15)])
def test_an_address_has_a_share_and_not_the_last_pad(manager, most, alone):
    manager.settings, manager.most_visitors = Settings(public_hosts=("digits.example.org",)), most

    def come(ip: str) -> None:
        page = Guest(ip=ip)
        with manager.arrival(page):
            manager.welcome(f"kernel {manager.visitors}", page)

    for number in range(alone):
        come(f"2001:db8:1:2::{number + 1}")  # one customer
    with pytest.raises(HTTPError) as greedy:
        come("2001:db8:1:2:ffff::9")
    assert greedy.value.status_code == (429 if alone < most else 503)
    for number in range(most - alone):
        come(f"192.0.2.{number}")


def test_on_this_computer_alone_there_is_nobody_to_share_with(manager):
    with manager.arrival(Guest()), manager.arrival(Guest()):
        assert manager.visitors == 2


def test_who_comes_with_many_waits_in_line(manager, monkeypatch):
    """Two kernels are started at once, on two cores; who asks no more is not waited for."""
    monkeypatch.setattr(server.os, "cpu_count", lambda: 2)
    manager.most_visitors = 9

    def come(name: str) -> int:
        with contextlib.ExitStack() as seat:
            try:
                seat.enter_context(manager.arrival(Guest(name)))
            except HTTPError as waiting:
                return waiting.status_code
            return 200

    with manager.arrival(Guest("a")):
        with manager.arrival(Guest("b")):
            assert [come("c"), come("d"), come("e")] == [202] * 3 and manager.visitors == 2
        assert [come("e"), come("d"), come("c")] == [202, 202, 200]
        manager._line["d"] -= 3 * server.SOON
        assert come("e") == 200
    assert manager.visitors == 0


def test_an_address_cannot_fill_the_store(manager, monkeypatch):
    monkeypatch.setattr(server.ZMQChannelsWebsocketConnection, "__init__", lambda self: None)
    monkeypatch.setattr(server.Connection, "kernel_id", "k0")
    monkeypatch.setattr(server.Connection, "multi_kernel_manager", manager)
    passed = []
    monkeypatch.setattr(
        server.ZMQChannelsWebsocketConnection,
        "handle_incoming_message",
        lambda self, message: passed.append(message),
    )
    manager._visits = {f"k{k}": server.Visit("", "192.0.2.1", 0) for k in range(2)}
    manager._visits["k2"] = server.Visit("", "192.0.2.2", 0)
    connection = server.Connection()
    for number in range(server.VERDICTS + 20):
        words = '[["verdict"' if number % 2 else '[["\\u0076erdict"'
        data = {"method": "custom", "content": {"key": words}}
        header = {"msg_type": "comm_msg", "msg_id": str(number)}
        connection.handle_incoming_message(
            frame(header=header, content={"comm_id": "c", "data": data})
        )
    assert (
        len(passed) == server.VERDICTS and not manager.may_judge("k1") and manager.may_judge("k2")
    )


def test_who_computes_much_is_served_later(manager, monkeypatch):
    niceness = {"eager": 0, "calm": 0, "late": 15}

    class Process:
        def __init__(self, pid: str):
            self.pid = pid

        def cpu_times(self) -> tuple:
            return ({"eager": 100.0, "calm": 2.0, "late": 100.0}[self.pid], 10.0, 0, 0)

        def nice(self, value: int | None = None) -> int:
            niceness[self.pid] = niceness[self.pid] if value is None else value
            return niceness[self.pid]

    def get_kernel(kernel_id):
        return SimpleNamespace(provisioner=SimpleNamespace(pid=kernel_id))

    monkeypatch.setattr(manager, "get_kernel", get_kernel, raising=False)
    monkeypatch.setattr(server.psutil, "Process", Process)
    manager._visits = {name: server.Visit(name, "", 0) for name in niceness}
    asyncio.run(manager._look_round())
    assert niceness == {"eager": 3, "calm": 0, "late": 15}


def test_an_address_is_its_customer_s():
    assert server.customer("::ffff:192.0.2.1") == server.customer("192.0.2.1") == "192.0.2.1"
    assert server.customer("2001:db8:1:2::1") == server.customer("2001:db8:1:2:ffff::9")
    assert server.customer("2001:db8:1:2::1") != server.customer("2001:db8:1:3::1")


def test_a_kernel_that_nobody_connects_to_ends_soon_when_it_gets_tight(manager):
    """Unless its page is still being loaded, which asks for one file after the other."""
    for name, ip in (("vanished", "192.0.2.1"), ("loading", "192.0.2.2"), ("away", "192.0.2.3")):
        page = Guest(ip=ip)
        manager.most_visitors = 6
        with manager.arrival(page):
            manager.welcome(name, page)
        manager._visits[name].heard -= server.UNUSED + 1
        manager._visits[name].away_since -= server.UNUSED + 1
    manager._visits["away"].has_connected = True
    manager.heard_from("192.0.2.2")
    asyncio.run(manager._look_round())
    assert not manager.ended  # there is room
    manager.most_visitors = 5
    asyncio.run(manager._look_round())
    assert manager.ended == ["vanished"]


def test_a_kernel_without_a_page_is_ended_when_it_has_been_kept_for_long_enough(
    manager, monkeypatch
):
    manager.most_visitors = 9
    for name in ("never came", "went away", "there"):
        page = Guest()
        with manager.arrival(page):
            manager.welcome(name, page)
    manager._visits["there"].away_since = None
    asyncio.run(manager._look_round())
    assert not manager.ended
    monkeypatch.setattr(server, "LINGER", -1)
    asyncio.run(manager._look_round())
    assert manager.ended == ["never came", "went away"] and list(manager._visits) == ["there"]


def test_a_pool_that_never_fills_is_told_to_the_load_balancer(manager, monkeypatch):
    monkeypatch.setattr(manager, "fill_if_needed", None, raising=False)
    monkeypatch.setattr(manager, "get_pool_size", lambda _: 2, raising=False)
    monkeypatch.setattr(manager, "notebook_path", "05_draw.ipynb", raising=False)
    assert manager.state()["kernels_start"]
    manager._last_ready -= server.UNREADY + 1
    assert not manager.state()["kernels_start"]


def test_a_kernel_that_died_before_its_page_was_made_is_not_ready(manager, monkeypatch):
    async def look():
        loop, entries = asyncio.get_running_loop(), []
        for outcome in ("made", "failed", "under way"):
            page, entry = loop.create_future(), loop.create_future()
            entry.set_result({"task": page})
            entries.append(entry)
            if outcome == "made":
                page.set_result(None)
            elif outcome == "failed":
                page.set_exception(RuntimeError("Kernel died"))
        monkeypatch.setattr(manager, "_pools", {"05_draw.ipynb": entries}, raising=False)
        return manager._ready()

    assert asyncio.run(look()) == 1


def test_sockets_that_are_files_have_short_names():
    name = len("/voila_12345678/kernel-") + 36 + len("-ipc-5")
    assert name == server.SOCKET_NAME
    assert server.transport("/tmp") == ("tcp" if sys.platform == "win32" else "ipc")
    assert server.transport("/" + "x" * 40) == "tcp"

"""The server's parts one by one; tests/test_attacks.py attacks the whole."""

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

from digits import channel, guard, health, limits, page, paths, server
from digits.limits import Pace, Rate, Settings, SettingsError
from digits.quiet import quiet_stderr

LEGACY = (2).to_bytes(4, "big") + (12).to_bytes(4, "big") + (40).to_bytes(4, "big") + b'{"header": {}}' * 4


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- Settings ---------------------------------------------------------------------------------------------------------

def test_settings_come_from_the_environment_and_nonsense_is_named():
    settings = Settings.read({"DIGITS_PUBLIC_HOSTS": "Digits.example.org, 192.0.2.7", "DIGITS_MAX_VISITORS": "3",
                              "DIGITS_PROXIES": "127.0.0.1", "DIGITS_METRICS_FROM": "10.0.0.0/8", "DIGITS_DATA": "x"})
    assert settings.visitors == 3 and settings.proxies == ("127.0.0.1",) and settings.metrics_from == ("10.0.0.0/8",)
    assert {"digits.example.org", "192.0.2.7", "localhost"} <= settings.hosts
    for name, value in (("MAX_VISITORS", "many"), ("KERNEL_MEMORY_MB", "-1"), ("PROXIES", "nginx"),
                        ("METRICS_FROM", "10.0.0.0/99"), ("VISITS_PER_MINUTE", "0"), ("KERNEL_MEMORY_MB", "0")):
        with pytest.raises(SettingsError, match=f"DIGITS_{name}"):
            Settings.read({f"DIGITS_{name}": value})


@pytest.mark.parametrize("gigabytes, cores, visitors", [(0.2, 2, 1), (2, 2, 6), (24, 2, 20), (4, 64, 13)])
def test_memory_and_cores_say_how_many_visitors_there_may_be(monkeypatch, gigabytes, cores, visitors):
    monkeypatch.setattr(limits, "memory", lambda: int(gigabytes * 1e9))
    monkeypatch.setattr(limits.os, "cpu_count", lambda: cores)
    assert Settings().visitors == visitors


def test_the_memory_of_a_container_or_a_unit_counts(tmp_path):
    assert 0 < limits.memory() <= psutil.virtual_memory().total
    own, unit = tmp_path / "own", tmp_path / "system.slice" / "digits@8866.service"
    unit.mkdir(parents=True)
    own.write_text("4:memory:/old\n0::/system.slice/digits@8866.service\n")
    (unit / "memory.max").write_text("5000000\n")
    (unit.parent / "memory.max").write_text("max\n")
    assert limits.memory(tmp_path, own) == 5_000_000
    (tmp_path / "memory.max").write_text("4000000\n")
    assert limits.memory(tmp_path, own) == 4_000_000
    own.write_text("0::/\n")  # what a container sees
    assert limits.memory(tmp_path, own) == 4_000_000
    assert limits.memory(tmp_path, tmp_path / "missing") == psutil.virtual_memory().total


@pytest.mark.parametrize("ip", ["", "0.0.0.0", "::", "192.0.2.7", "digits.example.org"])
def test_listening_to_strangers_needs_the_name_they_come_by(ip):
    with pytest.raises(SettingsError, match="DIGITS_PUBLIC_HOSTS=digits.example.org"):
        server.check_address(ip, Settings())
    server.check_address(ip, Settings(public_hosts=("digits.example.org",)))


@pytest.mark.parametrize("ip", ["localhost", "127.0.0.1", "127.0.0.9", "::1"])
def test_this_computer_needs_nothing(ip):
    server.check_address(ip, Settings())


def test_voila_stops_with_a_sentence_instead_of_listening_to_strangers():
    reply = subprocess.run([sys.executable, "-m", "voila", "notebooks/05_draw.ipynb", "--no-browser", "--Voila.ip=0.0.0.0"],
                           cwd=paths.PROJECT, capture_output=True, text=True, timeout=120)
    assert reply.returncode == 1 and "DIGITS_PUBLIC_HOSTS is not set" in reply.stderr
    assert "running at" not in reply.stderr and "Traceback" not in reply.stderr


# --- Not so fast ------------------------------------------------------------------------------------------------------

def test_an_address_gets_so_many_kernels_a_minute():
    clock = Clock()
    rate = Rate(3, 60, clock)
    assert [rate.wait("192.0.2.1") for _ in range(3)] == [0, 0, 0]
    clock.now += 20
    assert rate.wait("192.0.2.1") == 40 and rate.wait("192.0.2.2") == 0
    clock.now += 40
    assert rate.wait("192.0.2.1") == 0


def test_an_address_that_is_written_as_ipv6_is_the_same():
    rate = Rate(1, 60, Clock())
    assert rate.wait("::ffff:192.0.2.1") == 0 and rate.wait("192.0.2.1") > 0 and rate.wait("::ffff:192.0.2.2") == 0


def test_an_ipv6_customer_is_one_address_and_nobody_is_remembered_for_ever():
    clock = Clock()
    rate = Rate(1, 60, clock)
    assert rate.wait("2001:db8:1:2::1") == 0 and rate.wait("2001:db8:1:2:ffff::9") > 0 and rate.wait("2001:db8:1:3::1") == 0
    clock.now += 61
    rate.wait("192.0.2.1")
    assert len(rate._times) == 1


def test_a_pen_never_waits_and_a_flood_does():
    clock, waits = Clock(), []
    pace = Pace(channel.RATE, channel.BURST, clock)
    for second in range(60):
        for _ in range(120 if second % 5 == 0 else 60):
            waits.append(pace.wait())
            clock.now += 1 / 120
        clock.now += 0 if second % 5 == 0 else 0.5
    assert max(waits) == 0
    flood = [pace.wait() for _ in range(1000)]
    assert flood[channel.BURST // 2] == 0 and flood[-1] > 2


def test_turns_that_nobody_waits_for_are_not_kept_for_them():
    clock = Clock()
    pace = Pace(1, 20, clock)
    assert sum(pace.now() for _ in range(10_000)) == 20
    clock.now += 1
    assert [pace.now(), pace.now()] == [True, False]


# --- Frames -----------------------------------------------------------------------------------------------------------

def frame(kind="comm_msg", content=None, shell="shell", header=None):
    """A frame as the page's script makes it."""
    header = header or {"msg_type": kind, "msg_id": "1"}
    content = {"comm_id": "c", "data": {"method": "custom", "content": {}}} if content is None else content
    return serialize_msg_to_ws_v1([json.dumps(part).encode() for part in (header, {}, {}, content)], shell)


@pytest.mark.parametrize("kind, content", [
    ("comm_msg", {"comm_id": "c", "data": {"method": "custom", "content": {"event": "client_ready"}}}),
    ("comm_msg", {"comm_id": "c", "data": {"method": "request_states"}}),
    ("comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}),
    ("comm_close", {"comm_id": "c", "data": {}}), ("kernel_info_request", {}), ("comm_info_request", {})])
def test_what_the_page_sends_passes(kind, content):
    assert channel.read_frame(frame(kind, content))["msg_type"] == kind


@pytest.mark.parametrize("kind", ["execute_request", "inspect_request", "complete_request", "history_request",
                                  "is_complete_request", "shutdown_request", "interrupt_request", "debug_request",
                                  "input_reply", "create_subshell_request", "execute_reply", "", None, ["comm_msg"], 7])
def test_no_other_type_passes(kind):
    with pytest.raises(channel.RefusedError, match="type"):
        channel.read_frame(frame(kind, {"code": "1", "comm_id": "c", "data": {"method": "custom"}}))


@pytest.mark.parametrize("kind, content", [
    ("comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {"state": {}}}),
    ("comm_open", {"comm_id": "c", "target_name": ["jupyter.widget.control"]}), ("comm_open", {}),
    ("comm_msg", {"comm_id": "c", "data": {"method": "update", "state": {"width": 1e9}}}),
    ("comm_msg", {"comm_id": "c", "data": []}), ("comm_msg", {})])
def test_no_widget_is_made_or_changed_from_outside(kind, content):
    with pytest.raises(channel.RefusedError, match="type"):
        channel.read_frame(frame(kind, content))


def damaged():
    """Frames that no page makes."""
    good = frame()
    yield "text", good.decode("latin-1")
    yield "text", ""
    for count in (0, 1, 5, 7, 2**31, 2**63, 2**64 - 1):
        yield "layout", count.to_bytes(8, "little") + good[8:]
    yield from (("layout", good[:length]) for length in (0, 7, 8, 55, len(good) - 1))
    for place in range(1, 7):
        yield "layout", good[:8 * place] + (2**63).to_bytes(8, "little") + good[8 * place + 8:]
    yield "layout", LEGACY
    yield from (("channel", frame(shell=shell)) for shell in ("", "control", "stdin", "iopub", "Shell", "shell\n"))
    yield from (("json", frame(header=header)) for header in ([1], "x", 5))
    yield "json", frame(content=[1])
    yield "json", good.replace(b'"msg_id"', b"'msg_id'")
    nested = b"[" * 200_000
    yield "json", serialize_msg_to_ws_v1([b'{"msg_type": "comm_msg", "msg_id": "1"}', b"{}", b"{}", nested], "shell")
    yield "json", serialize_msg_to_ws_v1([b'{"msg_id": ' + b"9" * 5000 + b"}", b"{}", b"{}", b"{}"], "shell")
    yield from (("header", frame(header={"msg_type": "comm_msg", "msg_id": one})) for one in (None, 1, [], "x" * 101))


@pytest.mark.parametrize("reason, damage", list(damaged()), ids=lambda value: value if isinstance(value, str) else "")
def test_damaged_frames_are_refused_at_once(reason, damage):
    with pytest.raises(channel.RefusedError, match=reason):
        channel.read_frame(damage)


def test_voila_and_jupyter_server_still_need_the_guards():
    """When this fails, they are mended, and ``read_header`` and the check of the count can go."""
    for call in ("from voila.tornado.kernel_websocket_handler import read_header_from_binary_message as read",
                 "from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1 as read"):
        code = f"import resource\n{call}\nresource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\nread({LEGACY!r})"
        with pytest.raises(subprocess.SubprocessError):
            subprocess.run([sys.executable, "-c", code], timeout=20, check=True, capture_output=True)


class Session:
    """As much of a jupyter_client session as a connection asks for."""

    feed_identities = staticmethod(lambda parts: ([], parts))


def test_a_connection_counts_what_the_kernel_has_not_dealt_with(monkeypatch):
    passed = []
    base = channel.ZMQChannelsWebsocketConnection
    monkeypatch.setattr(base, "__init__", lambda self: None)
    monkeypatch.setattr(base, "handle_incoming_message", lambda self, message: passed.append("in"))
    monkeypatch.setattr(base, "handle_outgoing_message", lambda self, stream, message: passed.append("out"))
    monkeypatch.setattr(base, "session", Session())
    monkeypatch.setattr(base, "kernel_id", "some")
    connection = channel.Connection()
    for number in range(channel.MOST_WAITING):
        assert not connection.is_behind
        connection.handle_incoming_message(frame(header={"msg_type": "comm_msg", "msg_id": str(number)}))
        connection.handle_incoming_message(frame(header={"msg_type": "comm_msg", "msg_id": str(number)}))  # refused
    assert connection.is_behind and len(passed) == channel.MOST_WAITING
    def say(kind, **content):
        connection.handle_outgoing_message("iopub", [b"", json.dumps({"msg_type": kind}).encode(), b'{"msg_id": "5"}', b"{}",
                                                     json.dumps(content).encode()])
    say("status", execution_state="busy")
    assert connection.is_behind
    say("status", execution_state="idle")
    assert not connection.is_behind and passed[-2:] == ["out", "out"]
    say("stream", text="Traceback: /home/somebody")
    say("error", traceback=["/home/somebody"])
    assert passed.count("out") == 2


def test_a_refused_handshake_is_forgotten():
    handler = channel.Channel.__new__(channel.Channel)
    channel.Connection._open_sessions["some"] = handler
    del handler
    gc.collect()
    assert "some" not in channel.Connection._open_sessions


class Link:
    """As much of a connection as a websocket asks for."""

    is_over, is_behind, taken, left = False, False, 0, 0

    def handle_incoming_message(self, _: bytes) -> None:
        self.taken += 1

    def disconnect(self) -> None:
        self.left += 1


@pytest.fixture
def handler():
    """A websocket's side of a server that has not been started."""
    made = channel.Channel.__new__(channel.Channel)
    made.ws_connection, made.connection = SimpleNamespace(is_closing=lambda: False), Link()
    made._pace, made._on_close_called, made._status_code = Pace(1000, 1000), False, 101
    return made


END = [lambda one: setattr(one, "ws_connection", None), lambda one: setattr(one, "connection", None),
       lambda one: setattr(one.connection, "is_over", True),
       lambda one: setattr(one, "ws_connection", SimpleNamespace(is_closing=lambda: True))]


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
    monkeypatch.setattr(channel.VoilaKernelWebsocketHandler, "open", fail)
    link, handler.ws_connection = handler.connection, None
    with pytest.raises(TimeoutError):
        asyncio.run(handler.open("k"))
    assert link.left == 1 and handler.has_ended


def test_a_connection_ends_once(monkeypatch):
    ends, base = [], channel.ZMQChannelsWebsocketConnection
    monkeypatch.setattr(base, "__init__", lambda self: None)
    monkeypatch.setattr(base, "disconnect", lambda self: ends.append(self._open_sockets.remove(self)))
    connection = channel.Connection()
    connection.disconnect()
    connection.disconnect()
    assert len(ends) == 1 and connection.is_over


def test_the_layout_of_frames_is_the_same_after_the_end(handler):
    """jupyter_server's own is not: when the first assertion fails, ``subprotocol`` can go."""
    handler.ws_connection = None
    base, ended = channel.ZMQChannelsWebsocketConnection, SimpleNamespace(websocket_handler=handler)
    assert base.subprotocol.fget(ended) is None
    assert channel.Connection.subprotocol == channel.PROTOCOL


# --- Doors ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("connection", [None, SimpleNamespace(is_closing=lambda: True)])
def test_what_a_kernel_still_says_to_a_page_that_left_is_dropped(connection):
    """It was half a second away from being read; Tornado raises, and the log would fill with errors that are none."""
    handler = channel.Channel.__new__(channel.Channel)
    handler.ws_connection = connection
    assert handler.write_message(frame(), binary=True) is None


def test_the_policy_knows_the_pages_script():
    script = re.search("<script>(.*)</script>", page.assets(), re.DOTALL)[1]
    assert script == guard._SCRIPT
    policy = guard.HEADERS["Content-Security-Policy"]
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0] and "http" not in policy


def test_addresses_are_compared_as_numbers():
    assert limits.is_within("127.8.9.1", limits.LOOPBACK) and limits.is_within("::1", limits.LOOPBACK)
    assert limits.is_within("::ffff:127.0.0.1", limits.LOOPBACK) and not limits.is_within("::ffff:128.0.0.1", limits.LOOPBACK)
    assert not limits.is_within("128.0.0.1", limits.LOOPBACK) and not limits.is_within("localhost", limits.LOOPBACK)


def test_health_knows_whether_the_model_can_be_loaded(monkeypatch, tmp_path):
    assert asyncio.run(health.Model().is_good())
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    monkeypatch.setattr(paths, "REFERENCE", tmp_path / "reference")
    assert not asyncio.run(health.Model().is_good())


def test_who_asks_during_the_first_look_waits_for_it_and_no_second_one_is_made(monkeypatch):
    looks = []
    monkeypatch.setattr(health, "_loads", lambda: looks.append(time.sleep(0.1)) is None)
    async def ask_twice():
        model = health.Model()
        return await asyncio.gather(model.is_good(), model.is_good())
    assert asyncio.run(ask_twice()) == [True, True] and len(looks) == 1


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

    def __init__(self, name: str = "somebody"):
        self.request, self.current_user = SimpleNamespace(remote_ip="192.0.2.1"), SimpleNamespace(username=name)


@pytest.fixture
def manager(monkeypatch):
    """The manager of a server that has not been started, with room for two."""
    made = server.KernelManager.__new__(server.KernelManager)
    made.most_visitors, made._visits, made._arriving, made._rate, made._died = 2, {}, set(), Rate(3), 0
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


def test_one_too_many_is_told_when_to_come_back(manager):
    with manager.arrival(Guest()), manager.arrival(Guest()), pytest.raises(guard.Refused) as full, manager.arrival(Guest()):
        pass
    assert full.value.status_code == 503 and full.value.seconds == server.RETRY
    with manager.arrival(Guest()):
        pass
    with pytest.raises(guard.Refused) as many, manager.arrival(Guest()):
        pass
    assert many.value.status_code == 429 and 0 < many.value.seconds <= 60 and manager.visitors == 0


def test_a_kernel_without_a_page_is_ended_when_it_has_been_kept_for_long_enough(manager, monkeypatch):
    for name in ("never came", "went away", "there"):
        manager.welcome(name, Guest())
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


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits another process's memory")
def test_a_confined_process_cannot_take_more_memory():
    code = "input()\ntry:\n    bytes(400 << 20)\nexcept MemoryError:\n    print('no')\nelse:\n    print('yes')"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        server.confine(psutil.Process(process.pid), 300 << 20)
        assert process.communicate("\n")[0] == "no\n"

"""Strangers without a browser, who send what they like: the attack tests' and the soak's attackers."""

import html
import http.client
import itertools
import json
import re
import time
import uuid

import websocket  # websocket-client, which jupyter_server brings
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)

from digits.app import server

SEVEN = [["down", 80, 60, None], ["move", 140, 60, 200, 60, 170, 130, 140, 220], ["up"]]
_addresses = (f"10.{number >> 8}.{number & 255}.1" for number in itertools.count())


class Web:
    """One stranger: an address of their own and cookies."""

    def __init__(self, port: int, address: str = ""):
        self.port, self.address, self.cookies = port, address or next(_addresses), {}

    def ask(
        self, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple:
        """Status, headers and body of the answer; ``path`` goes as it is."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.putrequest(method, path, skip_host="Host" in headers)
        given = {"X-Forwarded-For": self.address, "Cookie": self.cookie, **headers}
        for name, value in given.items():
            link.putheader(name.replace("_", "-"), value)
        if body is not None:
            link.putheader("Content-Length", str(len(body)))
        link.endheaders(body)
        reply = link.getresponse()
        content = reply.read()
        for cookie in reply.headers.get_all("Set-Cookie") or ():
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        link.close()
        return reply.status, reply.headers, content.decode(errors="replace")

    def farewell(self, page: str, **headers: str) -> int:
        """End a page's kernel as the page does; the answer's status."""
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
        path = f"/voila/api/shutdown/{json.loads(config)['kernelId']}"
        return self.ask(path, "POST", b"", X_XSRFToken=self.cookies["_xsrf"], **headers)[0]

    @property
    def cookie(self) -> str:
        """The cookies as a header."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())


class Visitor(Web):
    """A stranger with a page and a kernel, without a browser."""

    is_spoilt = False  # whether the kernel or its connection is of no use any more

    def __init__(self, port: int, address: str = ""):
        super().__init__(port, address)
        status, _, page = self.ask()
        assert status == 200, page
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
        self.kernel, self.seq, self.seen = json.loads(config)["kernelId"], 0, []
        self.socket = self.connect()
        control = uuid.uuid4().hex
        self.send(
            "comm_open",
            {"comm_id": control, "target_name": server.CONTROL, "data": {}},
            {"version": "1.0.0"},
        )
        self.send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})
        states = self.until(
            lambda kind, content: content.get("data", {}).get("method") == "update_states"
        )
        self.widgets = states["data"]["states"]
        self.canvas = next(
            key for key, model in self.widgets.items() if model["model_name"] == "CanvasModel"
        )
        self.event({"event": "client_ready"})

    def connect(
        self,
        kernel: str | None = None,
        protocol: str | None = server.PROTOCOL,
        session: str = "",
        **headers: str,
    ):
        """A websocket to a kernel, this visitor's own unless another is named."""
        given = {"X-Forwarded-For": self.address, **headers}
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/api/kernels/{kernel or self.kernel}/channels?session_id={session or uuid.uuid4().hex}",
            timeout=30,
            subprotocols=[protocol] if protocol else None,
            cookie=self.cookie,
            suppress_origin=True,
            header=given,
        )

    def send(
        self, kind: str, content: object, metadata: dict | None = None, shell: str = "shell"
    ) -> str:
        """Send a message; its id."""
        identity = uuid.uuid4().hex
        header = {
            "msg_id": identity,
            "msg_type": kind,
            "session": "s",
            "username": "",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        parts = [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
        self.socket.send_binary(serialize_msg_to_ws_v1(parts, shell))
        return identity

    def event(self, content: object) -> None:
        """Report something to the pad, as ipycanvas does."""
        self.send(
            "comm_msg", {"comm_id": self.canvas, "data": {"method": "custom", "content": content}}
        )

    def report(self, operations: list) -> int:
        """Report operations, as the page's script does; the message's number."""
        self.seq += 1
        self.event(
            {
                "event": "key_down",
                "key": json.dumps({"seq": self.seq, "ops": operations}),
                "shift_key": False,
                "ctrl_key": False,
                "meta_key": False,
            }
        )
        return self.seq

    def until(self, condition, seconds: float = 30) -> dict:
        """Read until a message's type and content satisfy ``condition``; its content."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            opcode, frame = self.socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise websocket.WebSocketConnectionClosedException("the server has closed")
            _, (header, _, _, content, *_) = deserialize_msg_from_ws_v1(frame)
            self.seen.append(kind := json.loads(header)["msg_type"])
            if condition(kind, content := json.loads(content)):
                return content
        raise TimeoutError(f"waited {seconds} s for a message")

    def read(self, strokes: list = SEVEN) -> str:
        """Draw on an empty pad; what the network reads."""
        number = self.report([["clear"], *strokes])

        shown = {}

        def answered(_, content):
            value = str(content.get("data", {}).get("state", {}).get("value"))
            if found := re.search(r'data-reading="([^"]*)"', value):
                shown.update(json.loads(html.unescape(found[1])))
            return shown.get("seq", 0) >= number

        self.until(answered)
        return shown["text"]

    def leave(self) -> int:
        """Say farewell as the page does; the answer's status."""
        self.socket.close()
        return self.ask(
            f"/voila/api/shutdown/{self.kernel}", "POST", b"", X_XSRFToken=self.cookies["_xsrf"]
        )[0]

"""A web server of the tests' own, whose every answer a test decides."""

import http.server
import threading

import pytest


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.closing = {}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, name, answer):
        """Answer at an address, which is returned: a status, a body, or a function of the handler."""
        self.answers[f"/{name}"] = answer
        return f"{self.url}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path, 404)
        if isinstance(answer, int):
            self.send_error(answer)
        elif isinstance(answer, bytes):
            self.send(answer, len(answer))
        else:
            answer(self)

    def send(self, body, announced):
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def short(body):
    """All but the last bytes that were announced, then the connection closes."""
    return lambda handler: handler.send(body[:-100], len(body))


def silent(handler):
    handler.server.closing.wait(20)


def stalling(handler):
    """Half of a body, then silence."""
    handler.send(bytes(1000), 2000)
    handler.server.closing.wait(20)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.closing.is_set():
        handler.wfile.write(bytes(100_000))


@pytest.fixture
def server():
    server = Server()
    serve = {"target": server.serve_forever, "kwargs": {"poll_interval": 0.05}, "daemon": True}
    threading.Thread(**serve).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()

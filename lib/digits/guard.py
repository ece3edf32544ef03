"""The server's doors: which requests are answered, with which headers, and whether a visitor gets a kernel.

Voila brings many routes; ``routes`` keeps those that the page uses and answers every other with 404.
"""

import asyncio
import base64
import contextlib
import functools
import gzip
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.routing import Matcher, Rule
from tornado.web import Application, GZipContentEncoding, OutputTransform, RequestHandler, StaticFileHandler
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from digits import health
from digits.channel import Channel
from digits.limits import Settings, is_within

_KERNEL = r"(?P<kernel_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_SCRIPT = (Path(__file__).parent / "static" / "app.js").read_text(encoding="utf-8")
CONNECTIONS, CONNECTIONS_OF_ONE = 800, 200  # that have not become websockets; a browser opens six
PATIENCE = 30, 10  # seconds for a request's headers, and for its body
MOST_UNSENT = 16_000_000  # bytes that wait for a client to read them
PIECE = 65_536  # bytes of a file that do

_HASHED = re.compile(r"\.[0-9a-f]{16,}\.js$")  # how webpack names what it makes of a content

# As strict as the page allows. Scripts are files of this server, and the one inline script with this hash, which comes as a
# cell's output. What cannot be forbidden: inline styles, since JupyterLab and the widgets write style elements and
# attributes; and Voila's heartbeat, an inline script, is, which costs no more than a line in the browser's console.
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": "; ".join((
        "default-src 'none'", f"script-src 'self' 'sha256-{_HASH}'", "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:", "font-src 'self' data:", "connect-src 'self'", "base-uri 'none'",
        "form-action 'none'", "frame-ancestors 'none'")),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Headers(OutputTransform):
    """The headers of every answer, whoever gives it."""

    def transform_first_chunk(self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool) -> tuple:
        """Add ours; do not say what the server is made of."""
        headers.update(HEADERS)
        headers.pop("Server", None)
        return status_code, headers, chunk


class Listener(HTTPServer):
    """An HTTP server that has no room for the slow and the many, and believes a proxy only when it is a known one."""

    def initialize(self, app: Application, proxies: Sequence[str] = ()) -> None:
        """Serve ``app``."""
        self._proxies = proxies
        super().initialize(app, trusted_downstream=list(proxies), idle_connection_timeout=PATIENCE[0],
                           body_timeout=PATIENCE[1], max_header_size=16_384, max_body_size=65_536)

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        """Take a connection, when there is room for it."""
        of_one = sum(one.context.address[0] == address[0] for one in self._connections)
        if len(self._connections) >= CONNECTIONS or (of_one >= CONNECTIONS_OF_ONE and not is_within(address[0], self._proxies)):
            stream.close()
            return
        stream.max_write_buffer_size = MOST_UNSENT
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Take a request; whom it is from may be said by a proxy, in X-Forwarded-For and X-Forwarded-Proto."""
        self.xheaders = is_within(request_conn.context.address[0], self._proxies)
        delegate = super().start_request(server_conn, request_conn)
        receive = delegate.headers_received

        def headers_received(start_line, headers: HTTPHeaders):
            for name in ("X-Real-Ip", "X-Scheme"):  # Tornado would prefer these, which a proxy may hand on from a stranger
                headers.pop(name, None)
            return receive(start_line, headers)

        delegate.headers_received = headers_received
        return delegate


# --- Files ------------------------------------------------------------------------------------------------------------

@functools.cache
def packed(path: str, _changed: float) -> bytes:
    """A file's content, compressed as well as can be: that takes a while, so it is done once for all visitors."""
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


class File(StaticFileHandler):
    """A file of the page, whose handler is the next class, compressed for a browser that takes it so; kept by it for good
    when its name changes with its content."""

    @allow_unauthenticated
    async def get(self, path: str, include_body: bool = True) -> None:
        """Answer with the file, of which no part can be had alone when it is compressed."""
        if "gzip" not in self.request.headers.get("Accept-Encoding", ""):
            await super().get(path, include_body)
            return
        self.path = self.parse_url_path(path)
        place = self.get_absolute_path(self.root, self.path)  # which may choose another root
        self.absolute_path = found = self.validate_absolute_path(self.root, place)
        assert found  # only a folder's name would have led elsewhere
        self.modified = self.get_modified_time()
        self.set_headers()
        if self.should_return_304():
            self.set_status(304)
            return
        content = await asyncio.to_thread(packed, found, self.modified.timestamp())
        self.set_header("Content-Encoding", "gzip")
        self.set_header("Content-Length", len(content))
        with contextlib.suppress(StreamClosedError):
            for begin in range(0, len(content), PIECE):
                self.write(content[begin:begin + PIECE])
                await self.flush()

    def set_headers(self) -> None:
        """As the next class does, but for what it says about time."""
        super().set_headers()
        if _HASHED.search(self.path):
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")

    def compute_etag(self) -> str | None:
        """The next class's, made weak: the file's two forms have the same."""
        etag = super().compute_etag()
        return etag and f"W/{etag}"


class TemplateFile(File, TemplateStaticFileHandler):
    """One of a page template."""


class VoilaFile(File, MultiStaticFileHandler):
    """One of Voila's."""


class ExtensionFile(File, FileFindHandler):
    """One of an extension's."""


# --- Visitors ---------------------------------------------------------------------------------------------------------

class Refused(web.HTTPError):
    """No kernel for this visitor."""

    def __init__(self, status: int, reason: str, seconds: float):
        super().__init__(status)
        self.seconds = max(round(seconds), 1)
        health.VISITORS_REFUSED.labels(reason).inc()


class Desk:
    """The kernel manager as Voila sees it while it makes a page: the kernel that it hands out is that page's visitor's."""

    def __init__(self, manager: Any, page: "Page"):
        self._manager, self._page = manager, page

    def __getattr__(self, name: str) -> object:
        return getattr(self._manager, name)

    async def get_rendered_notebook(self, *arguments: Any, **options: Any) -> tuple:
        """A kernel of the pool with its page."""
        try:
            task, rendered, kernel_id = await self._manager.get_rendered_notebook(*arguments, **options)
        except Exception:  # it could not be started; Voila would not start another
            self._manager.refill()
            raise
        self._manager.welcome(kernel_id, self._page)
        return task, rendered, kernel_id

    async def start_kernel(self, **options: Any) -> str:
        """A new kernel."""
        kernel_id = await self._manager.start_kernel(**options)
        self._manager.welcome(kernel_id, self._page)
        return kernel_id


class Page(TornadoVoilaHandler):
    """The app, with a kernel for each time that it is asked for."""

    kernel_manager = property(lambda self: self._desk)

    async def prepare(self) -> None:
        """Before a page is made."""
        self._desk = self.settings["kernel_manager"]
        await super().prepare()
        self._drop_query()
        # The page's farewell, which ends its kernel, needs this cookie, and its script must read it (so no HttpOnly).
        self.settings["xsrf_cookie_kwargs"] = {"samesite": "Lax", "secure": self.request.protocol == "https"}
        self.xsrf_token  # noqa: B018  reading it sets the cookie

    async def get(self, path: str | None = None) -> None:
        """The page, or a friendly no."""
        if self.request.headers.get("Sec-Fetch-Dest", "document") != "document":
            raise web.HTTPError(403)  # another site's page asks for it as an image or a script, to take a kernel
        manager = self._desk
        with manager.arrival(self):
            self._desk = Desk(manager, self)
            await super().get(path)

    def _drop_query(self) -> None:
        """The page has no parameters; Voila's own choose templates and are handed on to the kernel."""
        self.request.query, self.request.arguments, self.request.uri = "", {}, self.request.path
        self.request.query_arguments = {}

    def write_error(self, status_code: int, **about: Any) -> None:
        """A page that says what to do, and nothing of what went wrong inside."""
        error = about.get("exc_info", (None, None))[1]
        seconds = error.seconds if isinstance(error, Refused) else None
        if seconds:
            self.set_header("Retry-After", seconds)
        self.finish(sorry(self, status_code, seconds))


class Nothing(RequestHandler):
    """For every address that the page does not use."""

    def initialize(self, status_code: int = 404) -> None:
        """The answer's status."""
        self._code = status_code

    def prepare(self) -> None:
        """Answer whatever the method is."""
        self.set_status(self._code)
        self.finish(sorry(self, self._code))

    def check_xsrf_cookie(self) -> None:
        """There is nothing here to protect."""


def sorry(handler: RequestHandler, status_code: int, seconds: int | None = None) -> str:
    """The page for an error; it asks for itself again after ``seconds``."""
    template = handler.settings["voila_jinja2_env"].get_template("sorry.html")
    home = handler.settings["base_url"]
    return template.render(status_code=status_code, seconds=seconds, home=home)


# --- A visitor's own kernel -------------------------------------------------------------------------------------------

class OwnKernel(KernelHandler):
    """Tells a page that its kernel is there."""

    SUPPORTED_METHODS = ("GET",)

    async def prepare(self) -> None:
        """Only its owner hears of it."""
        await super().prepare()
        if not self.kernel_manager.belongs(self.path_kwargs["kernel_id"], self.current_user):
            raise web.HTTPError(404)


class Farewell(VoilaShutdownKernelHandler):
    """Ends a page's kernel when the page is left."""

    SUPPORTED_METHODS = ("POST",)

    async def prepare(self) -> None:
        """Only its owner can."""
        await super().prepare()
        if not self.kernel_manager.belongs(self.path_kwargs["kernel_id"], self.current_user):
            raise web.HTTPError(404)


# --- All of it --------------------------------------------------------------------------------------------------------

class Stranger(Matcher):
    """Requests for a name that is not ours: another site's name can be made to lead here (DNS rebinding)."""

    def __init__(self, hosts: frozenset[str]):
        self._hosts = hosts

    def match(self, request: HTTPServerRequest) -> dict | None:
        """Whether a request is one."""
        return None if request.host_name in self._hosts else {}


def routes(voila: Voila, manager: Any, settings: Settings, handlers: list) -> list:
    """The server's routes: of Voila's ``handlers`` those that the page uses, with as little room as it needs."""
    options = {handler: given[0] for _, handler, *given in handlers if given}
    extensions = "|".join(map(re.escape, voila.voila_configuration.extension_allowlist))
    script = r"[\w.-]+\.js"
    served = [
        (r"", Page, options[TornadoVoilaHandler]),
        (rf"api/kernels/{_KERNEL}", OwnKernel),
        (rf"api/kernels/{_KERNEL}/channels", Channel),
        (rf"voila/api/shutdown/{_KERNEL}", Farewell),
        (rf"voila/templates/(digits/static/{script})", TemplateFile),
        (rf"voila/static/({script})", VoilaFile, options[MultiStaticFileHandler]),
        (rf"voila/labextensions/((?:{extensions})/static/{script})", ExtensionFile, options[FileFindHandler]),
    ]
    watched = [(r"healthz", health.Health, {"manager": manager}),  # a load balancer asks by number, not by name
               (r"metrics", health.Metrics, {"networks": settings.metrics_from, "proxies": settings.proxies})]
    under = [[(re.escape(voila.server_url) + pattern, *rest) for pattern, *rest in group] for group in (watched, served)]
    return [*under[0], Rule(Stranger(settings.hosts), Nothing, {"status_code": 421}), *under[1], (r".*", Nothing)]


def protect(voila: Voila, manager: Any, settings: Settings) -> None:
    """Have ``voila``, which has not started to listen yet, serve through these doors."""
    all_handlers = voila.init_handlers

    def init_handlers() -> list:
        # What a visitor says is in no answer, so that an answer's length does not tell what else is in it (BREACH).
        voila.app.add_transform(GZipContentEncoding)
        voila.app.add_transform(Headers)
        voila.app.listen = functools.partial(_listen, voila.app, settings.proxies)
        return routes(voila, manager, settings, all_handlers())

    voila.init_handlers = init_handlers
    _allow_many_files()


def _listen(app: Application, proxies: Sequence[str], port: int, address: str) -> Listener:
    server = Listener(app, proxies=proxies)
    server.listen(port, address)
    return server


def _allow_many_files() -> None:
    """Every connection is a file, and each kernel needs a dozen; the usual limit is for programs that use few."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))

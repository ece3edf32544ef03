"""What is shipped for the open internet, used as it is: nginx in front of two servers with one PostgreSQL."""

import ast
import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from playwright.sync_api import sync_playwright
from test_app import kernel_of

import browser
import digits
import services
from digits import files as paths
from digits.app import server
from digits.app.feedback import Store

SHIPPED = Path(digits.__file__).parent / "app" / "deployment"
HOST = "digits.example.org"
LIMITS = {"DIGITS_MAX_VISITORS": "2"}  # of which an address gets one


def site(servers: tuple[int, int], port: int, plain: int) -> str:
    """The shipped site with this machine's ports instead of the usual ones, and nothing else changed."""
    text = (SHIPPED / "nginx.conf").read_text()
    for usual, ours in (
        ("127.0.0.1:8866", f"127.0.0.1:{servers[0]}"),
        ("127.0.0.1:8867", f"127.0.0.1:{servers[1]}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen [::]:443 ssl http2;", ""),
        ("listen [::]:80;", ""),
    ):
        assert usual in text
        text = text.replace(usual, ours)
    return text


def ask(
    port: int, path: str = "/", address: str = "127.0.0.1", **headers: str
) -> http.client.HTTPResponse:
    """A request to nginx from one of this machine's addresses, with its body in ``text``; certificates are not checked."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.closing(
        http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=60, source_address=(address, 0)
        )
    ) as link:
        link.request(
            "GET",
            path,
            headers={
                "Host": f"{HOST}:{port}",
                **{k.replace("_", "-"): v for k, v in headers.items()},
            },
        )
        answer = link.getresponse()
        answer.text = answer.read().decode()
        return answer


# --- nginx alone ------------------------------------------------------------------------------------------------------


@pytest.mark.service
def test_with_no_server_there_is_a_page_that_tries_again():
    ports = [browser.free_port() for _ in range(4)]
    with services.nginx(site(tuple(ports[:2]), *ports[2:]), ports[2]):
        for cookie in ("", "digits_server=1", "digits_server=../../x"):
            answer = ask(ports[2], Cookie=cookie)
            assert (
                answer.status == 503
                and "tries again" in answer.text
                and answer.headers["Retry-After"] == "10"
            )
            assert answer.headers["Set-Cookie"] is None
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", ports[3], timeout=10)
        ) as link:
            link.request("GET", "/", headers={"Host": "elsewhere.example.com"})
            answer = link.getresponse()
            assert answer.status == 301 and answer.headers["Location"] == f"https://{HOST}/"


# --- Two servers behind nginx -----------------------------------------------------------------------------------------


class Site:
    """nginx in front of two servers, which keep feedback in one database."""

    def __init__(self, stack: contextlib.ExitStack, database: services.Postgres):
        self.stack, self.database = stack, database
        self.ports = browser.free_port(), browser.free_port()
        self.port, plain = browser.free_port(), browser.free_port()
        self.nginx = stack.enter_context(
            services.nginx(site(self.ports, self.port, plain), self.port)
        )
        with ThreadPoolExecutor(2) as pool:
            self.servers = list(pool.map(self.start, (0, 1)))
        self.url = f"https://{HOST}:{self.port}/"
        self.limited = None  # the server that has LIMITS

    def start(self, number: int, **settings: str) -> browser.Server:
        """One of the servers, as the README has it."""
        return self.stack.enter_context(
            browser.voila(
                port=self.ports[number],
                DIGITS_FEEDBACK_URL=self.database.url,
                DIGITS_PUBLIC_HOSTS=HOST,
                DIGITS_PROXIES="127.0.0.1",
                **settings,
            )
        )

    def limit(self, number: int) -> int:
        """Start a server again, with little room; returns its number."""
        self.servers[number].stop()
        self.servers[number], self.limited = self.start(number, **LIMITS), number
        return number

    def asked(self, name: str) -> list[list[str]]:
        """A visitor's requests that have ended."""
        return [request for request in self.nginx.requests() if request[0] == name]

    def home(self, page) -> int:
        """The server whose kernel a page has."""
        return next(
            number
            for number, one in enumerate(self.servers)
            if one.process.poll() is None and kernel_of(page) in one.kernels()
        )


@pytest.fixture(scope="module")
def two():
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(services.postgres())
        yield Site(stack, database)


class Visitor:
    """Somebody with a browser of their own, who tells the app about each digit that they draw."""

    everybody = 0

    def __init__(self, chromium, site: Site):
        Visitor.everybody += 1
        self.name, self.site, self.kept = str(Visitor.everybody), site, []
        self.context = chromium.new_context(ignore_https_errors=True)
        self.context.add_cookies([{"name": "visitor", "value": self.name, "url": site.url}])
        self.page = browser.visit(self.context.new_page(), site)
        self.home = site.home(self.page)

    def draw(self, x: int) -> None:
        """A straight line at ``x``, by which this drawing is known."""
        browser.clear(self.page)
        browser.draw_at_once(self.page, [[(x, y) for y in range(40, 241, 20)]])
        assert browser.settled(self.page, 11)["text"] == "1"

    def tell(self, x: int) -> None:
        """Draw, and have it kept."""
        self.draw(x)
        self.page.click(".digits-right")
        browser.until(
            lambda: self.page.locator(".digits-agree, :text('It is kept')").count(), 60, "an answer"
        )
        if self.page.locator(".digits-agree").count():
            self.page.click(".digits-agree")
        self.page.wait_for_selector("text=It is kept", timeout=60_000)
        self.kept.append(x)

    @property
    def lost(self) -> bool:
        """Whether the page says that its reader has stopped."""
        return self.page.locator(".digits-lost").count() > 0


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        opened = browser.launch(playwright, f"--host-resolver-rules=MAP {HOST} 127.0.0.1")
        yield opened
        opened.close()


def transport_of(kernel: int) -> str:
    """How a server speaks with a kernel. By ports, one of two servers that start at once has hung for ever: see
    ``server.transport``."""
    command = psutil.Process(kernel).cmdline()
    return json.loads(Path(command[command.index("-f") + 1]).read_text())["transport"]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.service
def test_a_server_is_killed_and_its_visitors_go_on_at_the_other(two, chromium):
    """Four visitors are spread over both servers and stay where they are. One server is killed: its visitors are told,
    reload, and draw again at the other, whose own noticed nothing. Whatever was said to be kept is in the database once."""
    visitors = [Visitor(chromium, two) for _ in range(4)]
    assert Counter(one.home for one in visitors) == {0: 2, 1: 2}
    for number, one in enumerate(visitors):
        one.page.evaluate("window.untouched = true")
        one.tell(110 + number)
    struck, bystander = (
        visitors[0].home,
        next(one for one in visitors if one.home != visitors[0].home),
    )
    hit = [one for one in visitors if one.home == struck]
    others = [one for one in visitors if one.home != struck]
    kernels = two.servers[struck].kernels()
    assert [transport_of(kernel) for kernel in kernels] == [
        server.transport(tempfile.gettempdir())
    ] * len(kernels)

    bystander.draw(120)
    first, *rest = browser.on_pad(bystander.page, [(60, 60), (100, 60), (160, 60), (220, 60)])
    bystander.page.mouse.move(*first)
    bystander.page.mouse.down()
    hit[0].draw(121)
    hit[0].page.click(".digits-right")  # on its way when the server dies: it may be kept or not
    two.servers[struck].process.kill()
    for point in rest:
        bystander.page.mouse.move(*point)
    bystander.page.mouse.up()
    browser.settled(bystander.page, 15)

    for one in hit:
        one.page.wait_for_selector(".digits-lost[role=alert]", timeout=60_000)
        one.page.click(".digits-reload")
        one.page.wait_for_selector(browser.READY + ":not(.digits-is-lost)", timeout=120_000)
        assert two.home(one.page) == 1 - struck
    for number, one in enumerate(visitors):
        one.tell(130 + number)
    assert not any(one.lost for one in visitors)
    assert [one.page.evaluate("window.untouched === true") for one in others] == [True, True]
    browser.until(
        lambda: not any(map(psutil.pid_exists, kernels)), 20, "the end of the dead server's kernels"
    )

    told = Counter(
        round(record["strokes"][0][0][0]) for record in Store.open(two.database.url).records()
    )
    assert told.pop(121, 0) <= 1
    assert told == Counter(x for one in visitors for x in one.kept)

    two.limit(struck)
    hit[
        0
    ].page.reload()  # the server that they were struck with is back; they stay where they are now
    hit[0].page.wait_for_selector(browser.READY, timeout=60_000)
    assert two.home(hit[0].page) == 1 - struck
    for one in visitors:
        one.page.goto("about:blank")
        browser.until(
            lambda one=one: any(
                "/shutdown/" in path and status == "204"
                for _, _, status, path in two.asked(one.name)
            ),
            20,
            "the farewell",
        )
        one.context.close()
    check_paths(two, visitors, struck)


def check_paths(two: Site, visitors: list[Visitor], struck: int) -> None:
    """Each visitor's files, websocket and farewell went where the page came from."""
    for one in visitors:
        asked = two.asked(one.name)
        assert len({path for *_, path in asked if path.endswith(".js")}) > 3
        assert any("/channels" in path and status == "101" for _, _, status, path in asked)
        if one.home != struck:
            assert {address for _, address, *_ in asked[1:]} == {f"127.0.0.1:{two.ports[one.home]}"}


@pytest.mark.slow
@pytest.mark.service
def test_nginx_says_who_comes_and_a_full_server_hands_on(two):
    """One server takes two visitors, not both from one address. Whatever address a visitor claims to have,
    the true one counts; who comes when the server is full gets a page from the other."""
    number = two.limit(0) if two.limited is None else two.limited

    def visit(address: str, claimed: str) -> http.client.HTTPResponse:
        return ask(
            two.port,
            address=address,
            Cookie=f"digits_server={number + 1}",
            X_Forwarded_For=claimed,
            X_Real_IP=claimed,
            Forwarded=f"for={claimed}",
        )

    assert visit("127.0.0.9", "192.0.2.1").status == 200
    again = visit("127.0.0.9", "192.0.2.2")
    assert again.status == 429 and "digits_server" not in str(again.headers)
    first = visit("127.0.0.10", "192.0.2.2")
    assert first.status == 200 and f"digits_server={number + 1};" in "".join(
        first.headers.get_all("Set-Cookie")
    )
    moved = visit("127.0.0.11", "192.0.2.3")
    assert moved.status == 200 and f"digits_server={2 - number};" in "".join(
        moved.headers.get_all("Set-Cookie")
    )
    assert first.headers["Strict-Transport-Security"] and moved.headers["Strict-Transport-Security"]


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/healthz",
        "/livez",
        "//metrics",
        "/./metrics",
        "/voila/../metrics",
        "/%6detrics",
        "/metrics/",
        "/metrics?x",
        "/healthz;x",
    ],
)
def test_what_is_for_the_owner_is_not_for_strangers(two, path):
    assert ask(two.port, path).status == 404


# --- As nobody, with nothing but what the container has ---------------------------------------------------------------


def needed(names: list[str]) -> dict[str, metadata.Distribution]:
    """The packages that ``names`` (as in a requirements file) ask for on this machine, with themselves."""
    found, asked = {}, [Requirement(name) for name in names]
    while asked:
        one = asked.pop()
        extras = {"", *one.extras}
        if one.marker and not one.marker.evaluate({"extra": ""}):
            continue
        key = canonicalize_name(one.name), frozenset(extras)
        if key not in found:
            found[key] = metadata.distribution(one.name)
            for text in found[key].requires or ():
                wanted = Requirement(text)
                if not wanted.marker or any(
                    wanted.marker.evaluate({"extra": extra}) for extra in extras
                ):
                    wanted.marker = None
                    asked.append(wanted)
    return {name: package for (name, _), package in found.items()}


def listed() -> dict[str, metadata.Distribution]:
    """What the container installs."""
    lines = (SHIPPED / "requirements.in").read_text().splitlines()
    return needed([line for line in lines if not line.startswith("#")])


def entries(lock: Path) -> dict[str, str]:
    """A lock's entries, each with its versions, markers and hashes."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
    return {canonicalize_name(re.split(r"[=\s;]", part)[0]): part for part in parts}


def test_the_containers_lock_is_the_part_of_the_projects_lock_that_the_app_needs():
    part, whole = entries(SHIPPED / "requirements.lock"), entries(paths.LOCK)
    assert part and all(whole[name] == entry for name, entry in part.items())
    assert set(listed()) <= set(part) and not {"tensorflow", "keras", "jupyterlab", "pandas"} & set(
        part
    )


class Cell:
    """The app as the container runs it: its packages only, an unprivileged user, no file system that can be written but a
    temporary one and ``data``."""

    def __init__(self, folder: Path, **settings: str):
        self.folder, self.port = folder, browser.free_port()
        folder.chmod(0o755)
        self.shared = {
            "python": sys.base_prefix,
            "prefix": sys.prefix,
            "digits": str(paths.PROJECT),
        }
        for name in (*self.shared, "tmp", "data", "env"):
            (folder / name).mkdir()
        self.furnish()
        user = "65534" if os.geteuid() == 0 else str(os.geteuid())
        (folder / "data").chmod(0o777)
        values = {
            "HOME": f"{folder}/tmp",
            "TMPDIR": f"{folder}/tmp",
            "PATH": f"{folder}/env/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": f"{folder}/python/lib",  # a Python that was moved looks for itself where it was made
            "DIGITS_FEEDBACK_URL": f"sqlite:///{folder}/data/feedback.sqlite3",
            **settings,
        }
        drop = f"setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
        command = [
            "env",
            "-i",
            *(f"{name}={value}" for name, value in values.items()),
            f"{folder}/env/bin/python",
            "-m",
            "voila",
            "notebooks/05_draw.ipynb",
            "--no-browser",
            f"--port={self.port}",
        ]
        script = "\n".join(
            (
                "set -e",
                *(
                    f"mount --bind {shlex.quote(there)} {folder}/{here}"
                    for here, there in self.shared.items()
                ),
                f"mount --bind {folder}/data {folder}/data",
                f"awk '$2 != \"{folder}/data\" {{print $2}}' /proc/self/mounts | while read -r place; do",
                '    mount -o remount,bind,ro "$place" 2>/dev/null || true',
                "done",
                f"mount -t tmpfs -o mode=1777,size=64m none {folder}/tmp",
                f"cd {folder}/digits",
                f"! touch {folder}/digits/x {folder}/x /x 2>/dev/null",
                f"exec {drop if os.geteuid() == 0 else ''} {shlex.join(command)}",
            )
        )
        apart = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
        browser.needs(
            subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0,
            "no mount namespace here to make a root that cannot be written in",
        )
        self.server = browser.Server(
            [*apart, "sh", "-c", script], self.port, "/", folder / "log", {}
        )

    def furnish(self) -> None:
        """A virtual environment of the packages that the container's list names, and of no other. They are links, but for
        what is served: a web server does not follow links out of its folder."""
        env, version = (
            self.folder / "env",
            f"python{sys.version_info.major}.{sys.version_info.minor}",
        )
        (env / "bin").mkdir()
        (env / "bin" / "python").symlink_to(self.folder / "python" / "bin" / version)
        (env / "pyvenv.cfg").write_text(
            f"home = {self.folder}/python/bin\ninclude-system-site-packages = false\n"
        )
        site, prefix = Path(sysconfig.get_path("purelib")), Path(sys.prefix)
        for package in [*listed().values(), metadata.distribution("digits")]:
            for file in package.files:
                real = Path(os.path.normpath(site / file))
                if real.is_relative_to(site):
                    real = site / file.parts[0]  # the whole package
                elif not real.is_relative_to(prefix / "share"):
                    continue
                place = env / real.relative_to(prefix)
                if os.path.lexists(place) or real.suffix == ".pth":
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                if real.name == "voila":
                    shutil.copytree(real, place)
                elif real.is_relative_to(site):
                    place.symlink_to(self.folder / "prefix" / real.relative_to(prefix))
                else:
                    shutil.copy(real, place)
        (env / site.relative_to(prefix) / "digits.pth").write_text(f"{self.folder}/digits/lib\n")

    def remove(self) -> None:
        """End it; where it lay, nothing of what was shown there is touched."""
        self.server.stop()
        for name in self.shared:
            (self.folder / name).rmdir()
        shutil.rmtree(self.folder)


@pytest.fixture
def cell():
    made = Cell(Path(tempfile.mkdtemp(prefix="digits-cell-")), DIGITS_MAX_VISITORS="1")
    try:
        browser.until(
            lambda: browser.listens(made.port) or made.server.process.poll() is not None,
            90,
            "the server",
        )
        assert made.server.process.poll() is None, made.server.log.read_text()
        yield made
    finally:
        made.remove()


def is_alive(cell: Cell) -> bool:
    """What the container's health check says."""
    command = (SHIPPED / "Containerfile").read_text().split("HEALTHCHECK")[1].split("CMD [")[1]
    _, *options = ast.literal_eval("[" + command.split("]")[0].replace("\\\n", "") + "]")
    options[-1] = options[-1].replace(":8866", f":{cell.port}")
    done = subprocess.run([sys.executable, *options], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.service
def test_the_app_needs_no_more_than_the_container_has(cell, chromium):
    """A visitor draws and is kept, with the container's packages only, for a user who may write feedback and nothing else.
    The server is full with this one visitor, and yet it is healthy: nobody should start it again."""
    browser.until(lambda: is_alive(cell), 60, "health")
    page = browser.visit(chromium.new_page(), cell.server)
    kernel = psutil.Process(kernel_of(page))
    assert kernel.uids().real == (65534 if os.geteuid() == 0 else os.geteuid())
    browser.draw_at_once(page, [[(140, y) for y in range(40, 241, 20)]])
    assert browser.settled(page, 11)["text"] == "1"
    page.click(".digits-right")
    page.click(".digits-agree", timeout=60_000)
    page.wait_for_selector("text=It is kept", timeout=60_000)
    assert len(Store.open(f"sqlite:///{cell.folder}/data/feedback.sqlite3").records()) == 1
    assert not browser.answers(f"http://127.0.0.1:{cell.port}/healthz")
    browser.until(lambda: is_alive(cell), 60, "health")
    page.close()
    os.kill(cell.server.process.pid, signal.SIGSTOP)
    try:
        assert not is_alive(cell)
    finally:
        os.kill(cell.server.process.pid, signal.SIGCONT)

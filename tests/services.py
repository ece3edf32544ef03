"""Servers of other people for tests, as Debian installs them: found, started and stopped here."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import browser


class Postgres:
    """A database server of our own on a port of this machine, run by an unprivileged user as it demands."""

    def __init__(self, programs: Path):
        self.programs, self.port = programs, browser.free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="digits-postgres-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.run(
            "initdb",
            "--auth=trust",
            "--no-sync",
            "--username=digits",
            "-D",
            str(self.folder / "data"),
        )
        self.process = None

    def command(self, name: str, *arguments: str) -> dict:
        user = (
            {"user": "postgres", "group": "postgres", "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )
        return {
            "args": [str(self.programs / name), *arguments],
            "cwd": self.folder,
            "stderr": subprocess.STDOUT,
            **user,
        }

    def run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            **self.command(name, *arguments), stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:]

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://digits@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Until it answers; one that was killed leaves children which need a moment to go, and so perhaps another try."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                self.spawn()
            return (
                subprocess.run(
                    **self.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)),
                    check=False,
                    stdout=subprocess.DEVNULL,
                ).returncode
                == 0
            )

        try:
            browser.until(up, 60, "PostgreSQL")
        except TimeoutError:
            pytest.fail(self.log())

    def spawn(self) -> None:
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                stdout=log,
                **self.command(
                    "postgres",
                    "-D",
                    str(self.folder / "data"),
                    "-p",
                    str(self.port),
                    "-h",
                    "127.0.0.1",
                    "-k",
                    str(self.folder),
                    "-c",
                    "shared_buffers=8MB",
                ),
            )

    def log(self) -> str:
        return (self.folder.parent / f"{self.folder.name}.log").read_text()[-2000:]

    def kill(self) -> None:
        """As a power cut would end it."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)  # ends its own children, too
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / f"{self.folder.name}.log").unlink(missing_ok=True)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; without one the test is skipped, or fails in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [shutil.which("postgres")]
    browser.needs(found[-1], "no PostgreSQL here (Debian's package postgresql)")
    try:
        import psycopg  # noqa: F401  the driver
    except ImportError:
        browser.needs(False, "psycopg, the driver for PostgreSQL, is not installed")
    server = Postgres(Path(found[-1]).resolve().parent)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class Nginx:
    """An nginx of our own that serves the sites of one file; its log says which server answered which visitor."""

    def __init__(self, site: str):
        program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
        browser.needs(
            program and shutil.which("openssl"),
            "no nginx or no openssl here (Debian's packages of these names)",
        )
        self.folder = Path(tempfile.mkdtemp(prefix="digits-nginx-"))
        self.folder.chmod(0o755)  # its workers are somebody else
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=digits.example.org",
                "-keyout",
                self.folder / "privkey.pem",
                "-out",
                self.folder / "fullchain.pem",
            ],
            check=True,
            capture_output=True,
        )
        (self.folder / "site.conf").write_text(
            site.replace("/etc/letsencrypt/live/digits.example.org", str(self.folder))
        )
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(f"""
            daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; events {{}}
            http {{
                include /etc/nginx/mime.types;
                log_format who '$cookie_visitor|$upstream_addr|$status|$request_uri';
                access_log {self.folder}/access.log who;
                {temporary} include {self.folder}/site.conf;
            }}""")
        self.process = subprocess.Popen(
            [program, "-c", self.folder / "nginx.conf"], stderr=subprocess.PIPE
        )

    def requests(self) -> list[list[str]]:
        """Every request that has ended: the visitor's cookie, the addresses that were asked, the status, the address."""
        return [
            line.split("|", 3) for line in (self.folder / "access.log").read_text().splitlines()
        ]

    def stop(self) -> None:
        """End it with its workers."""
        self.process.terminate()
        self.process.wait(15)
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def nginx(site: str, port: int) -> Iterator[Nginx]:
    """A running nginx; without one the test is skipped, or fails in CI. ``port`` is one that ``site`` listens on."""
    server = Nginx(site)
    try:
        browser.until(
            lambda: browser.listens(port) or server.process.poll() is not None, 20, "nginx"
        )
        assert server.process.poll() is None, server.process.stderr.read().decode()
        yield server
    finally:
        server.stop()

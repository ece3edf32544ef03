"""Downloads: one file, whole or not at all, and never a long wait for a machine that does not answer."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

ANSWER = 6.0  # seconds until the reply begins, with the look-up of the name, which a socket's timeout does not bound
STALL = 10.0  # seconds that one piece may take: slower than CHUNK in this time counts as hanging
CHUNK = 16 * 1024  # bytes in one piece
LIMIT = 64 * 1024**2  # bytes; several times what we ever ask for
REMEMBER = 60.0  # seconds for which a machine that did not answer is not asked again

_silent: dict[str, float] = {}  # host -> when it failed to answer


class FetchError(Exception):
    """A download did not succeed; the message is one line that says why."""


def offline() -> bool:
    """Whether the environment forbids the network (``DIGITS_OFFLINE`` set to anything but 0)."""
    return os.environ.get("DIGITS_OFFLINE", "0") not in ("", "0")


def fetch(url: str, folder: Path) -> Path:
    """Download one file into a folder, under the name that its address ends with.

    Parameters
    ----------
    url
        Address, http or https. What arrives is for the caller to verify.
    folder
        Existing folder.

    Returns
    -------
    Path
        The file, complete as far as the server told its length.

    Raises
    ------
    FetchError
        When the network is forbidden, the server does not answer in ``ANSWER`` seconds, stalls for ``STALL``, answers
        with an error, ends early or sends more than ``LIMIT`` bytes.
    """
    host = urlsplit(url).netloc
    if offline():
        raise FetchError("DIGITS_OFFLINE forbids the network")
    if time.monotonic() - _silent.get(host, -REMEMBER) < REMEMBER:
        raise FetchError(f"{host} did not answer a moment ago")
    transfer = _Transfer(url, folder)
    try:
        transfer.run()
    except _NoAnswer:
        _silent[host] = time.monotonic()
        raise
    return transfer.path


class _NoAnswer(FetchError):
    pass


class _Transfer:
    """One download in a thread of its own, so that nothing it waits for can hold up the caller.

    To pooch it is the progress bar, by which the thread counts, and by which the caller stops it.
    """

    def __init__(self, url: str, folder: Path):
        self.url, self.folder = url, folder
        self.path = folder / Path(urlsplit(url).path).name
        self.announced: int | None = (
            None  # bytes, 0 when the reply does not tell; None until it begins
        )
        self.received = 0
        self.moved = time.monotonic()  # when the request, the reply or its last piece came
        self.abandoned = False
        self.error: Exception | None = None

    def run(self) -> None:
        import pooch

        pooch.get_logger().setLevel(logging.WARNING)
        downloader = pooch.HTTPDownloader(
            progressbar=self, chunk_size=CHUNK, timeout=(ANSWER, STALL)
        )
        thread = threading.Thread(target=self._work, args=(pooch.retrieve, downloader), daemon=True)
        thread.start()
        try:
            self._watch(thread)
        finally:
            self.abandoned = True
        if self.error is not None:
            raise _explained(self.error, answered=self.announced is not None) from None

    def _work(self, retrieve: Callable, downloader: Callable) -> None:
        self.moved = time.monotonic()
        try:
            retrieve(self.url, None, fname=self.path.name, path=self.folder, downloader=downloader)
        except Exception as error:  # a thread has no caller to raise to
            self.error = error

    def _watch(self, thread: threading.Thread) -> None:
        in_notebook = "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None
        if (
            in_notebook
        ):  # tqdm.auto would take a process that has only imported ipykernel for a notebook
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        seen = in_notebook or sys.stderr.isatty()  # in a log file a bar is only noise
        label = f"{self.path.name} from {urlsplit(self.url).hostname}"
        with tqdm(desc=label, unit="B", unit_scale=True, leave=False, disable=not seen) as bar:
            while thread.is_alive():
                thread.join(0.1)
                if self.announced and not bar.total:
                    bar.reset(self.announced)
                bar.update(self.received - bar.n)
                self._check_pace()

    def _check_pace(self) -> None:
        waited = time.monotonic() - self.moved
        if self.announced is None and waited > ANSWER:
            raise _NoAnswer(f"no answer within {ANSWER:g} s")
        if waited > STALL:
            raise FetchError(f"stalled after {self.received:,} bytes")

    @property
    def total(self) -> int | None:
        return self.announced

    @total.setter
    def total(self, size: int) -> None:
        self.announced, self.moved = size, time.monotonic()

    def update(self, size: int) -> None:
        if self.abandoned:
            raise FetchError("abandoned")
        self.received += size
        self.moved = time.monotonic()
        if self.received > LIMIT:
            raise FetchError(f"sends more than {LIMIT:,} bytes")

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        pass


def _explained(error: Exception, answered: bool) -> FetchError:
    """One line for what requests and urllib3 report in many."""
    import requests

    if isinstance(error, FetchError):
        return error
    if isinstance(error, requests.HTTPError):
        return FetchError(f"answers {error.response.status_code} {error.response.reason}")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return FetchError("ended early")
    reason = getattr(
        error.args[0] if error.args else None, "reason", error
    )  # urllib3's own error, inside requests'
    kind = _NoAnswer if isinstance(error, requests.ConnectionError) and not answered else FetchError
    return kind(f"{type(reason).__name__}: {str(reason).split('): ', 1)[-1]}")

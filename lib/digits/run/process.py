"""This process while a run goes on: what its kernels inherit, what happens when somebody stops it."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from digits import files as paths


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def kernel_environment() -> Iterator[None]:
    """Set what kernels inherit: fixed hashing, absolute folders, a quiet TensorFlow, no personal start-up files."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        os.environ.update(
            PYTHONHASHSEED="0",
            KERAS_BACKEND="tensorflow",
            DIGITS_RUNNER=str(os.getpid()),
            DIGITS_OUTPUTS=str(paths.OUTPUTS),
            IPYTHONDIR=folder,
            JUPYTER_RUNTIME_DIR=folder,
            PYDEVD_DISABLE_FILE_VALIDATION="1",
        )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault(
            "TF_ENABLE_ONEDNN_OPTS", "1"
        )  # digits.training.backend's default, so that run.json records it
        os.environ.pop("MPLBACKEND", None)  # kernels draw inline
        if given := paths.given_data():
            os.environ["DIGITS_DATA"] = str(given)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into Stopped; later ones do not disturb the tidying up."""

    def stop(number: int, _frame: object) -> None:
        ignore_signals()
        raise Stopped(number)

    wanted = [number for number in _signals() if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on, what has begun is brought to its end."""
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)


def _signals() -> list[int]:
    return [
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
    ]

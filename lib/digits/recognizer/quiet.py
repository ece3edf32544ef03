"""Silence for native libraries that talk to the terminal before they can be told not to."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2, where C++ code writes, to nowhere. Python's exceptions are not affected.

    In the main thread only: the descriptor is the whole process's and its children's, and what a server's other threads
    load must not silence what it logs, or a kernel that it starts at that moment for as long as it lives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a process without a standard error has nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)

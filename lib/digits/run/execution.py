"""One notebook through papermill: progress on the console, errors in words, a clean copy.

Importing this takes seconds; the runner does it when its first line is on the screen.
"""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError


class NotebookFailed(Exception):
    """A notebook stopped; ``str()`` is what the console says, ``cell`` the cell's number from 1."""

    def __init__(self, message: str, cell: int):
        super().__init__(message)
        self.cell = cell


class Client(PapermillNotebookClient):
    """papermill's client, with this interpreter as the kernel and a cell's progress in the bar."""

    cell_index = 0
    status = None  # the exit status of a kernel that died

    def create_kernel_manager(self):
        """The kernel is the Python that runs this, whatever the user's list means by "python3"."""
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        return manager

    def papermill_execute_cells(self):
        """A stopped run does not wait for its cell to end."""
        try:
            super().papermill_execute_cells()
        except BaseException:
            self.shutdown_kernel = "immediate"
            raise

    def execute_cell(self, cell, cell_index, *arguments, **options):
        """Note which cell runs before it does, and how its kernel died if it does."""
        self.cell_index = cell_index
        try:
            return super().execute_cell(cell, cell_index, *arguments, **options)
        except DeadKernelError:
            self.status = getattr(self.km.provisioner.process, "returncode", None)
            raise

    def process_message(self, message, cell, cell_index):
        """What ``digits.training``'s progress line says stands at the end of papermill's bar."""
        data = message["content"].get("data", {})
        ours = "digits-progress" in data.get("text/html", "")
        bar = self.nb_man.pbar  # none when nobody watches
        if bar is not None and (ours or message["msg_type"] == "execute_input"):
            bar.set_postfix_str(data.get("text/plain", "") if ours else "", refresh=ours)
        return super().process_message(message, cell, cell_index)


class Engine(NBClientEngine):
    """papermill's engine with our client."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout=60, **kwargs):
        """Run all cells; NotebookFailed, with its last words, for a kernel that dies."""
        client = Client(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=None,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
        )
        with tempfile.TemporaryFile() as log:  # what C++ code says; wanted only after a crash
            try:
                client.execute(stdout=log, stderr=log)
            except DeadKernelError:
                log.seek(0)
                words = log.read().decode(errors="replace").strip().splitlines()[-5:]
                message = "\n".join([cause_of_death(client.status), *words])
                source = nb_man.nb.cells[client.cell_index].source
                raise NotebookFailed(describe(source, message), client.cell_index + 1) from None


papermill_engines.register("digits", Engine)


def cause_of_death(status: int | None) -> str:
    """What the exit status of a kernel says, in words."""
    if not status or status > 0:
        return f"The kernel ended by itself (exit status {status})."
    name = signal.Signals(-status).name
    hints = {
        "SIGKILL": ": killed from outside, or out of memory",
        "SIGILL": ": this processor lacks an instruction; TensorFlow needs AVX",
    }
    return f"The kernel died of {name}{hints.get(name, '')}."


def execute(path: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook at ``path``; the executed copy is written to ``target`` after each cell.

    The kernel is gone afterwards, in any case. NotebookFailed when a cell raises or it dies.
    """
    try:
        execute_notebook(
            path,
            target,
            parameters,
            engine_name="digits",
            cwd=path.parent,
            progress_bar=sys.stderr.isatty(),
        )
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
        raise NotebookFailed(describe(error.source, message), error.cell_index + 1) from None


def describe(source: str, message: str, lines: int = 12) -> str:
    """A cell's first lines and its error."""
    head = source.strip().splitlines()
    shown = head[:lines] + (["..."] if len(head) > lines else [])
    return "\n".join(["", *(f"    {line}" for line in shown), "", message])

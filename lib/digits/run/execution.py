"""Run one notebook with papermill: its progress on the console, its error in words, no trace of this machine in it."""

import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from digits.run import provenance
from digits.run.parameters import Notebook

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_BAR = "      {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} cells [{elapsed}]{postfix}"


class NotebookFailed(Exception):
    """A notebook stopped; ``str()`` is what the console says, ``cell`` the cell's number from 1."""

    def __init__(self, message: str, cell: int):
        super().__init__(message)
        self.cell = cell


class _Client(PapermillNotebookClient):
    """papermill's client with this interpreter as the kernel and the notebook's own progress in papermill's bar."""

    cell_index = 0

    def create_kernel_manager(self):
        """The kernel is the Python that runs this, whatever "python3" means in the user's own kernel list."""
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        return manager

    def papermill_execute_cells(self):
        try:
            super().papermill_execute_cells()
        except BaseException:
            self.shutdown_kernel = "immediate"  # a stopped run does not wait for a cell to end
            raise

    def execute_cell(self, cell, cell_index, *arguments, **options):
        self.cell_index = (
            cell_index  # known before the cell runs: one that kills its kernel sends no message
        )
        return super().execute_cell(cell, cell_index, *arguments, **options)

    def process_message(self, message, cell, cell_index):
        data = message["content"].get("data", {})
        if "digits-progress" in data.get("text/html", ""):
            self._show(data.get("text/plain", ""))
        elif message["msg_type"] == "execute_input":
            self._show("")
        return super().process_message(message, cell, cell_index)

    def _show(self, text: str) -> None:
        """Show what ``digits.report.show.progress`` says at the end of papermill's bar."""
        if self.nb_man.pbar is not None and sys.stderr.isatty():
            self.nb_man.pbar.set_postfix_str(text, refresh=bool(text))


class _Engine(NBClientEngine):
    """papermill's engine with our client."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout=60, **kwargs):
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=None,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
        )
        with (
            tempfile.TemporaryFile() as log
        ):  # what C++ code says about itself, of interest only after a crash
            try:
                client.execute(stdout=log, stderr=log)
            except DeadKernelError:
                raise _death(
                    nb_man.nb.cells[client.cell_index].source, client.cell_index, log
                ) from None


def _death(source: str, index: int, log: IO[bytes]) -> NotebookFailed:
    """The error for a kernel that died in the cell ``index``, with its last words."""
    log.seek(0)
    words = log.read().decode(errors="replace").strip().splitlines()[-5:]
    message = "\n".join(["The kernel died: killed from outside, or out of memory.", *words])
    return NotebookFailed(_describe(source, message), index + 1)


papermill_engines.register("digits", _Engine)


def execute(notebook: Notebook, target: Path, parameters: dict[str, Any]) -> None:
    """Run ``notebook`` with ``parameters``, writing the executed copy to ``target`` after each cell.

    NotebookFailed when a cell raises or the kernel dies. The kernel is gone when this returns, however it returns.
    """
    bar = {
        "desc": "",
        "bar_format": _BAR,
        "dynamic_ncols": True,
        "leave": sys.stderr.isatty(),
        "mininterval": 0.1 if sys.stderr.isatty() else 30,
    }
    try:
        execute_notebook(
            notebook.path,
            target,
            parameters,
            engine_name="digits",
            cwd=notebook.path.parent,
            progress_bar=bar,
        )
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
        if any(text in error.evalue for text in _FULL):
            message += "\nThe disk is full."
        raise NotebookFailed(_describe(error.source, message), error.cell_index + 1) from None


def clean(target: Path, name: str, building: str) -> None:
    """Take this machine's paths and the building folder's name out of an executed notebook."""
    notebook = nbformat.read(target, as_version=4)
    text = nbformat.writes(provenance.tidy_tree(notebook))
    target.write_text(text.replace(building, name), encoding="utf-8")


def _describe(source: str, message: str, lines: int = 12) -> str:
    """The cell's first lines and its error."""
    head = source.strip().splitlines()
    shown = head[:lines] + (["..."] if len(head) > lines else [])
    return "\n".join(["", *(f"    {line}" for line in shown), "", message])

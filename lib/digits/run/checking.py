"""A run that is held against another one: ``--check`` against the published run, ``--repeat`` against a recorded one.

``python -m digits.run.checking RUN`` compares what has run already.
"""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from digits import files
from digits.files import RunError, sha256, write_text
from digits.run import causes, comparison, console, pipeline, process, provenance, repetition
from digits.run.comparison import Evidence
from digits.run.parameters import Notebook


def check(options: Namespace, notebooks: list[Notebook], command: str) -> int:
    """Run what ``options`` ask for and compare it with the published run of that profile; returns the exit status."""
    reference = comparison.read(files.reference(options.profile or "standard"))
    dataset = options.dataset or reference.record["dataset"].get(
        "name"
    )  # never the stand-in against MNIST
    return _run(Namespace(**vars(options) | {"dataset": dataset}), notebooks, command, reference)


def repeat(options: Namespace, notebooks: list[Notebook], command: str) -> int:
    """Run again what the ``run.json`` at ``options.repeat`` records and compare; returns the exit status.

    Other data end it before anything runs; other code, packages, hardware or settings are named and it goes on.
    """
    reference = repetition.read(options.repeat)
    asked = repetition.ask(options, reference.record, notebooks)
    repetition.check_data(reference.record)
    if differences := causes.sentences(
        causes.find(reference.record, _here(reference.record, notebooks))
    ):
        console.say(
            "\n".join(
                ["What is different here from that run:", *(f"  {line}" for line in differences)]
            )
        )
    for parameter in repetition.new_here(reference.record, notebooks):
        console.say(f"A parameter that the run did not know: {parameter}")
    return _run(asked, notebooks, command, reference)


def _run(options: Namespace, notebooks: list[Notebook], command: str, reference: Evidence) -> int:
    """Run, then compare; a run that fails ends with its own status."""
    if status := pipeline.run(options, notebooks, command):
        return status
    return report(reference, files.OUTPUTS / options.run)


def report(reference: Evidence, folder: Path) -> int:
    """Compare the run in ``folder``, say how it compares and keep the whole table in it; returns the exit status."""
    result = comparison.compare(reference, comparison.read(folder))
    write_text(folder / comparison.FILE, comparison.summary(result, rows=None) + "\n")
    console.say("\n" + comparison.summary(result))
    return int(result.outcome)


def _here(record: dict, notebooks: list[Notebook]) -> dict:
    """What the record would say if it ran here now: code, packages, machine and settings are this place's."""
    with process.kernel_environment():
        here = provenance.collect()
    stages = [
        {"notebook": notebook.name, "notebook_sha256": sha256(notebook.path)}
        for notebook in notebooks
    ]
    return record | here | {"stages": stages}


def main(arguments: list[str] | None = None) -> int:
    """Compare two finished runs. Exit status as ./run_all.sh --check."""
    parser = argparse.ArgumentParser(prog="python -m digits.run.checking", description=main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--reference", type=Path, default=files.REFERENCE, help="default: the published run"
    )
    options = parser.parse_args(arguments)
    try:
        return report(comparison.read(options.reference), options.run)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

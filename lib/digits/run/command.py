"""Run the notebooks 01 to 04 in order into outputs/<run>/ and make the report.

What is asked for is checked before anything runs, with the standard library alone; the rest is imported afterwards.
"""

import argparse
import shlex
import sys
from pathlib import Path

from digits import files
from digits.files import RunError, check_name
from digits.run import comparison, parameters, repetition

_USAGE = 2  # exit status for a request that cannot be met


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line as a namespace; exits with status 2 and a line on stderr when it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the notebooks 01 to 04 in order and write outputs/<run>/report.html.",
        epilog="Exit status: 0 done, or identical; 1 a notebook failed; 2 a wrong request; 3 equal within the tolerances;\n"
        "4 different; 128 + n stopped by signal n.\n\n"
        "Data: MNIST from the folder in DIGITS_DATA, else the Keras cache, else a download. When none can be\n"
        "had, --dataset auto goes on with scikit-learn's bundled digits, and the report says so.",
    )
    parser.add_argument(
        "--profile",
        choices=sorted(parameters.PROFILES),
        help="quick: minutes, to see that it works; standard (default): the report's; full: hours",
    )
    parser.add_argument(
        "--dataset",
        choices=parameters.DATASETS,
        help="auto (default); mnist: never the stand-in; digits: the stand-in",
    )
    parser.add_argument(
        "--run",
        metavar="NAME",
        help="the folder below outputs/ (default: latest; check and repeat for those)",
    )
    parser.add_argument(
        "--from", dest="first", metavar="NN", help="continue that run at notebook NN"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="[NOTEBOOK.]PARAM=VALUE",
        help="change a parameter of one notebook, or of all that have it; may be repeated",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check",
        action="store_true",
        help="run, then compare with the published run of that profile",
    )
    instead.add_argument(
        "--repeat", type=Path, metavar="RUN.JSON", help="run what it records, then compare with it"
    )
    instead.add_argument(
        "--publish",
        metavar="NAME",
        help="run nothing; copy a finished standard run on MNIST to "
        "outputs/reference/, with --profile quick the record of a quick one to outputs/reference-quick/",
    )
    parser.add_argument(
        "--setup-only", action="store_true", help="make the environment and print its Python"
    )
    options = parser.parse_args(arguments)
    if options.repeat and (options.profile or options.dataset or options.settings or options.first):
        parser.error(
            "--repeat takes profile, data and parameters from the file: leave out --profile, --dataset, --set, --from"
        )
    if options.publish and (options.run or options.dataset or options.settings or options.first):
        parser.error(
            "--publish takes a finished run as it is: leave out --run, --dataset, --set, --from"
        )
    if options.run is None:
        options.run = "check" if options.check else "repeat" if options.repeat else "latest"
    return options


def check(options: argparse.Namespace, notebooks: list[parameters.Notebook]) -> None:
    """RunError when the request names something that does not exist or has the wrong type."""
    check_name(options.run)
    if (given := files.given_data()) and not given.is_dir():
        raise RunError(f"DIGITS_DATA names {given}, which is no folder.")
    parameters.effective(
        notebooks, options.profile or "standard", options.settings, options.dataset
    )
    if options.first is not None:
        parameters.position(notebooks, options.first)
    if options.check:
        comparison.read(files.reference(options.profile or "standard"))
    if options.repeat:
        repetition.ask(options, repetition.read(options.repeat).record, notebooks)


def main(arguments: list[str] | None = None, folder: Path = files.NOTEBOOKS) -> int:
    """Entry point; returns the exit status. ``folder``: where the notebooks lie."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    try:
        notebooks = parameters.find_notebooks(folder)
        check(options, notebooks)
        if options.setup_only:
            return 0  # run_all.sh has made the environment
        if options.publish:
            from digits.run import publication

            return publication.publish(options.publish, options.profile or "standard")
        from digits.run import (
            checking,
            pipeline,  # need the installed environment
        )

        run = (
            checking.check if options.check else checking.repeat if options.repeat else pipeline.run
        )
        return run(options, notebooks, command=shlex.join(["./run_all.sh", *arguments]))
    except RunError as error:
        print(f"./run_all.sh: error: {error}", file=sys.stderr)
        return _USAGE


if __name__ == "__main__":
    sys.exit(main())

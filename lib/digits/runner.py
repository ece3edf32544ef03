"""Run the notebooks 01 to 04 in order into outputs/<run>/ and make the report.

What is asked for is checked before anything runs, with the standard library alone; the rest is imported afterwards.
"""

import argparse
import shlex
import sys
from pathlib import Path

from digits import parameters, paths
from digits.records import RunError, check_name

_USAGE = 2  # exit status for a request that cannot be met; 1: a notebook failed; 128 + n: stopped by signal n


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line as a namespace; exits with status 2 and a line on stderr when it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the notebooks 01 to 04 in order and write outputs/<run>/report.html.",
        epilog="Data: MNIST from the folder in DIGITS_DATA, else the Keras cache, else a download. When none can be\n"
               "had, --dataset auto goes on with scikit-learn's bundled digits, and the report says so.")
    parser.add_argument("--profile", choices=sorted(parameters.PROFILES),
                        help="quick: minutes, to see that it works; standard (default): the report's; full: hours")
    parser.add_argument("--dataset", choices=parameters.DATASETS,
                        help="auto (default); mnist: never the stand-in; digits: the stand-in")
    parser.add_argument("--run", metavar="NAME", default="latest", help="the folder below outputs/ (default: latest)")
    parser.add_argument("--from", dest="first", metavar="NN", help="continue that run at notebook NN")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="[NOTEBOOK.]PARAM=VALUE",
                        help="change a parameter of one notebook, or of all that have it; may be repeated")
    parser.add_argument("--publish", metavar="NAME",
                        help="run nothing; copy a finished standard run on MNIST to outputs/reference/")
    parser.add_argument("--setup-only", action="store_true", help="make the environment and print its Python")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace, notebooks: list[parameters.Notebook]) -> None:
    """RunError when the request names something that does not exist or has the wrong type."""
    check_name(options.run)
    if (given := paths.given_data()) and not given.is_dir():
        raise RunError(f"DIGITS_DATA names {given}, which is no folder.")
    parameters.effective(notebooks, options.profile or "standard", options.settings, options.dataset)
    if options.first is not None:
        parameters.position(notebooks, options.first)


def main(arguments: list[str] | None = None, folder: Path = paths.NOTEBOOKS) -> int:
    """Entry point; returns the exit status. ``folder``: where the notebooks lie."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    try:
        notebooks = parameters.find_notebooks(folder)
        check(options, notebooks)
        if options.setup_only:
            return 0  # run_all.sh has made the environment
        if options.publish:
            from digits import publication
            return publication.publish(options.publish)
        from digits import pipeline  # needs the installed environment
        return pipeline.run(options, notebooks, command=shlex.join(["./run_all.sh", *arguments]))
    except RunError as error:
        print(f"./run_all.sh: error: {error}", file=sys.stderr)
        return _USAGE


if __name__ == "__main__":
    sys.exit(main())

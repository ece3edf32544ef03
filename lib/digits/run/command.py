"""The command line: what is asked for is read, checked and resolved here, before anything runs.

What the notebooks take stands in their parameters cells, with what is allowed in the comments; what
a profile changes, in ``profiles.toml``. Standard library only: it works before there is more.
"""

import argparse
import ast
import io
import json
import math
import re
import shlex
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import Any

from digits import files
from digits.files import RunError, check_name
from digits.run import comparison, pipeline
from digits.run.pipeline import Execute, Notebook, Request

DATASETS = ("auto", "mnist", "digits")
RANGE = re.compile(r"(-?[\d._]+) to (-?[\d._]+)")


def main(
    arguments: list[str] | None = None,
    folder: Path = files.NOTEBOOKS,
    execute: Execute | None = None,
) -> int:
    """Entry point; returns the exit status. Tests have their own notebooks and executor."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        profiles = read_profiles(folder)
        notebooks = find_notebooks(folder, profiles.pop("no_chapters", []))
        options = parse(arguments, list(profiles))
        request = resolve(options, notebooks, profiles, arguments)
        if options.setup_only:
            return 0  # run_all.sh has made the environment
        if options.publish:
            return pipeline.publish(options.publish, request.profile)
        status = pipeline.run(request, execute)
        if status == 0 and request.reference:
            status = comparison.report(request.reference, files.OUTPUTS / request.name)
        return status
    except RunError as error:
        print(f"./run_all.sh: error: {error}", file=sys.stderr)
        return 2


def parse(arguments: list[str], profiles: list[str]) -> argparse.Namespace:
    """The command line as a namespace; exits with status 2 when it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the notebooks in order and write outputs/<run>/report.html.",
        epilog="Exit status: 0 done, or identical; 1 a notebook failed; 2 a wrong request;\n"
        "3 equal within the tolerances; 4 different; 128 + n stopped by signal n.\n\n"
        "Data: MNIST from the folder in DIGITS_DATA, else the Keras cache, else a download. When\n"
        "none can be had, --dataset auto goes on with scikit-learn's bundled digits, and the\n"
        "report says so.",
    )
    add = parser.add_argument
    help = "quick: minutes, to see that it works; standard (default): the report's; full: hours"
    add("--profile", choices=profiles, help=help)
    help = "auto (default); mnist: never the stand-in; digits: the stand-in"
    add("--dataset", choices=DATASETS, help=help)
    help = "the folder below outputs/ (default: latest; check with --check)"
    add("--run", metavar="NAME", help=help)
    add("--from", dest="first", metavar="NN", help="continue that run at notebook NN")
    help = "change a parameter of one notebook, or without its name of all; may be repeated"
    setting = "NOTEBOOK.PARAMETER=VALUE"
    add("--set", dest="settings", action="append", default=[], metavar=setting, help=help)
    help = "run, then compare with the published run of the profile; or run what that file records"
    help += " and compare with it"
    add("--check", nargs="?", const=True, metavar="RUN.JSON", help=help)
    help = "run nothing: copy a finished run of the profile to its place among the published ones"
    add("--publish", metavar="NAME", help=help)
    add("--setup-only", action="store_true", help="make the environment and print its Python")
    options = parser.parse_args(arguments)
    others = options.dataset or options.settings or options.first
    if isinstance(options.check, str) and (others or options.profile):
        parser.error(
            "--check RUN.JSON takes profile, data and parameters from the file: leave out "
            "--profile, --dataset, --set, --from"
        )
    if options.publish and (others or options.run or options.check):
        parser.error(
            "--publish takes a finished run as it is: leave out --run, --dataset, --set, --from, "
            "--check"
        )
    return options


def resolve(
    options: argparse.Namespace, notebooks: list[Notebook], profiles: dict, arguments: list[str]
) -> Request:
    """What is asked for, whole; RunError when something in it does not exist or is not allowed."""
    name = options.publish or options.run
    name = check_name(("check" if options.check else "latest") if name is None else name)
    if files.is_reference(name) or name.endswith(pipeline.SUFFIXES):
        raise RunError(
            f"{name!r} is a published run's name, or one of the runner's own "
            f"({', '.join(pipeline.SUFFIXES)}). Choose another; --publish publishes a run."
        )
    if (given := files.given_data()) and not given.is_dir():
        raise RunError(f"DIGITS_DATA names {given}, which is no folder.")
    profile, dataset, settings = options.profile or "standard", options.dataset, options.settings
    first, continued, reference = 0, False, None
    if options.first is not None:
        first = notebooks.index(known(notebooks, options.first, f"--from {options.first}"))
        _, recorded = pipeline.newest(pipeline.Place(files.OUTPUTS, name))
        profile, continued = recorded["profile"], True
        if options.profile not in (None, profile):
            raise RunError(f"--from: that run's profile is {profile!r}, not {options.profile!r}.")
        if dataset in (None, recorded["dataset"].get("name")):
            dataset = recorded["dataset"]["requested"]
        settings = [*recorded["settings"], *settings]
    if isinstance(options.check, str):
        reference = comparison.read_record(Path(options.check))
        profile = reference.record["profile"]
        if profile not in profiles:
            raise RunError(f"--check: there is no profile {profile!r} here.")
        here = effective(notebooks, profiles[profile], [])
        settings = recorded_settings(reference.record, here)
    elif options.check:
        reference = comparison.read(files.reference(profile))
    if reference and dataset is None:  # never the stand-in against MNIST
        dataset = reference.record["dataset"].get("name")
    asked = [f"dataset={dataset}", *settings] if dataset else settings
    return Request(
        name=name,
        notebooks=tuple(notebooks),
        profile=profile,
        settings=tuple(settings),
        parameters=effective(notebooks, profiles[profile], asked),
        command=shlex.join(["./run_all.sh", *arguments]),
        first=first,
        continued=continued,
        reference=reference,
    )


def recorded_settings(record: dict, here: dict[str, dict]) -> list[str]:
    """What a record has otherwise than its profile has it here; RunError when it has more."""
    recorded = record["parameters"]
    missing = [name for name in here if name not in recorded]
    missing += [f"{n}.{key}" for n in recorded for key in recorded[n] if key not in here.get(n, {})]
    if missing:
        raise RunError(
            "--check: this code does not have the same notebooks and parameters "
            f"({', '.join(missing)}). Check out that run's commit: "
            f"{record.get('code', {}).get('commit')}."
        )
    return [
        f"{name}.{key}={value!r}"
        for name, values in recorded.items()
        for key, value in values.items()
        if key not in ("run_name", "dataset") and value != here[name][key]
    ]


# Notebooks and profiles


def read_profiles(folder: Path) -> dict[str, Any]:
    """``profiles.toml``: what each profile changes, and the notebooks that are no chapter."""
    try:
        return tomllib.loads((folder / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder.name}/profiles.toml cannot be read ({error}).") from None


def find_notebooks(folder: Path, no_chapters: list[str]) -> list[Notebook]:
    """The numbered notebooks of ``folder`` in order."""
    paths = sorted(p for p in folder.glob("[0-9][0-9]_*.ipynb") if p.stem not in no_chapters)
    numbers = [path.name[:2] for path in paths]
    if not paths:
        raise RunError(f"No numbered notebooks in {folder.name}/.")
    if len(set(numbers)) < len(numbers):
        names = ", ".join(path.name for path in paths)
        raise RunError(f"Two notebooks in {folder.name}/ have the same number: {names}.")
    return [read_notebook(path) for path in paths]


def read_notebook(path: Path) -> Notebook:
    """A notebook's title, and the defaults and limits in its one cell tagged ``parameters``."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path.name} cannot be read as a notebook ({error!r}).") from None
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise RunError(f"{path.name} has {len(tagged)} cells tagged 'parameters', not exactly one.")
    defaults, limits = read_parameters("".join(tagged[0]["source"]), path.name)
    if "run_name" not in defaults:
        raise RunError(f"{path.name} has no parameter 'run_name'.")
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = re.search(r"^#+ *(.+?) *$", prose, re.MULTILINE)
    notebook = Notebook(path, title[1] if title else path.stem, defaults, limits)
    for name, value in defaults.items():
        checked(notebook, name, value, path.name)
    return notebook


def read_parameters(source: str, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The assignments of a parameters cell, and what their comments allow.

    A limit stands before the first colon of a parameter's comment, which may begin on lines of its
    own above it: a range, or a choice.

    >>> read_parameters("epochs = 20  # 1 to 100: passes\\n# a, b or c:\\nnet = 'a'  # which", "x")
    ({'epochs': 20, 'net': 'a'}, {'epochs': '1 to 100', 'net': 'a, b or c'})
    """
    try:
        statements = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError) as error:
        raise RunError(f"{where}: the parameters cell is no Python ({error}).") from None
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    defaults, limits, last = {}, {}, 0
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case _:
                raise RunError(
                    f"{where}: the parameters cell holds more than plain assignments "
                    f"(line {statement.lineno})."
                )
        try:
            defaults[name] = ast.literal_eval(statement.value)
        except (ValueError, TypeError):
            raise RunError(f"{where}: the parameter {name!r} is not a plain literal.") from None
        lines = range(last + 1, statement.end_lineno + 1)
        words, colon, _ = " ".join(comments[n] for n in lines if n in comments).partition(":")
        if colon and (RANGE.fullmatch(words) or " or " in words):
            limits[name] = words
        last = statement.end_lineno
    return defaults, limits


# Parameters


def effective(
    notebooks: list[Notebook], profile: dict[str, dict], settings: list[str]
) -> dict[str, dict[str, Any]]:
    """Every parameter of every notebook: its default, else the profile's, else what is asked for.

    settings: "PARAMETER=VALUE" (every notebook that has it) or "NOTEBOOK.PARAMETER=VALUE".
    """
    values = {notebook.name: dict(notebook.defaults) for notebook in notebooks}
    for name, changes in profile.items():
        for parameter, value in changes.items():
            notebook = known(notebooks, name, "profiles.toml")
            values[notebook.name][parameter] = checked(notebook, parameter, value, "profiles.toml")
    for setting in settings:
        where = f"--set {setting}"
        target, equals, text = setting.partition("=")
        name, dot, parameter = target.strip().rpartition(".")
        if not equals or not parameter:
            raise RunError(f"{where}: write NOTEBOOK.PARAMETER=VALUE or PARAMETER=VALUE.")
        if parameter == "run_name":
            raise RunError(f"{where}: the folder's name is given by --run.")
        chosen = [one for one in notebooks if parameter in one.defaults]
        if dot:
            chosen = [known(notebooks, name, where)]
        if not chosen:
            every = {key for one in notebooks for key in one.defaults} - {"run_name"}
            names = ", ".join(sorted(every))
            raise RunError(f"{where}: no notebook has the parameter {parameter!r}. Known: {names}.")
        for notebook in chosen:
            value = spelled(text.strip(), notebook.defaults.get(parameter))
            values[notebook.name][parameter] = checked(notebook, parameter, value, where)
    return values


def known(notebooks: list[Notebook], name: str, where: str) -> Notebook:
    """The notebook that is called N, NN or NN_name."""
    for notebook in notebooks:
        if name == notebook.name or name.rjust(2, "0") == notebook.number:
            return notebook
    names = ", ".join(notebook.name for notebook in notebooks)
    raise RunError(f"{where}: there is no notebook {name!r}. Known: {names}.")


def spelled(text: str, default: Any) -> Any:
    """The value that ``text`` spells, read as ``default``'s type suggests: text stays text."""
    if isinstance(default, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return text if isinstance(default, str) and not isinstance(value, str) else value


def checked(notebook: Notebook, parameter: str, value: Any, where: str) -> Any:
    """``value``, or its float, when that parameter may have it, else RunError."""
    if parameter not in notebook.defaults:
        names = ", ".join(key for key in notebook.defaults if key != "run_name")
        raise RunError(f"{where}: {notebook.name} has no parameter {parameter!r}. Known: {names}.")
    default = notebook.defaults[parameter]
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise RunError(
            f"{where}: {parameter!r} is of type {type(default).__name__} (default {default!r}), "
            f"not {type(value).__name__} ({value!r})."
        )
    limit = notebook.limits.get(parameter)
    if limit and value == [] and not limit.startswith("any of "):
        raise RunError(f"{where}: {parameter!r} takes {limit}, not nothing.")
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise RunError(f"{where}: {parameter!r} has to be finite.")
        if limit and not within(one, limit):
            raise RunError(f"{where}: {parameter!r} takes {limit}, not {one!r}.")
    return value


def within(value: Any, limit: str) -> bool:
    """True when ``value`` is what a limit such as "1 to 1000" or "compact, tiny or vgg" allows."""
    if bounds := RANGE.fullmatch(limit):
        low, high = map(float, bounds.groups())
        return type(value) in (int, float) and low <= value <= high
    return value in choices(limit)


def choices(limit: str) -> list[str]:
    """The choices of a limit such as "compact, tiny or vgg", or "any of" those, or none."""
    return re.split(", | or ", limit.removeprefix("any of "))


if __name__ == "__main__":
    sys.exit(main())

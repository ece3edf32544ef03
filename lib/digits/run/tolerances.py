"""How far a number may be from the reference's when another processor, thread count or library rounds differently.

The reference states its tolerances in its ``run.json``, for each number (the items of a list share one):
``{"source": ..., "numbers": {"03_evaluation.test.errors": 13.8, ...}}``. null allows any value. A number that is not
named there has to be the same.

Publication states the defaults of ``RULES``. They rest on one thought: training amplifies the last bit of a sum until
two runs are as far apart as two seeds, so whatever a trained network decides may move as far as chance moves it, and
what no training touches may not move beyond rounding. Where chance says too little (what networks make of images unlike
all that they have seen, limits that a handful of images set), they are twice what a run on one thread moved from one on
two, as a rule. ``python -m digits.run.tolerances --write RUN RUN ...`` widens
them to what was measured: runs of the same commit, data and parameters with other thread counts, oneDNN switched off,
on other processors.
"""

import argparse
import re
import sys
from collections.abc import Callable
from decimal import ROUND_CEILING, Context
from math import sqrt
from pathlib import Path
from typing import Any

from digits import files as paths
from digits.files import RunError, read_json, write_json
from digits.run import causes
from digits.run.quantities import Keys, compared, group

FACTOR = 2.0  # a handful of runs does not show the largest deviation that there is
ANY = None  # every value will do
_MISSING = object()
_THREE_DIGITS = Context(prec=3, rounding=ROUND_CEILING)

Allowed = float | None


def exact(value: Any, n: int | None) -> Allowed:
    """Nothing but the same value."""
    return 0.0


def anything(value: Any, n: int | None) -> Allowed:
    """Every value: it says which ones rather than how many, or follows from a number that is checked beside it."""
    return ANY


def chance(value: Any, n: int | None) -> Allowed:
    """Two standard deviations of a rare count, and two more: of n, of a count by itself, or of a share."""
    if not _is_number(value):
        return ANY
    if isinstance(value, float) and value <= 1:
        return (2 * sqrt(n * min(value, 1 - value)) + 2) / n if n else 0.02
    return 2 * sqrt(min(value, n - value) if n and value <= n else value) + 2


def within(absolute: float, relative: float = 0.0) -> Callable[[Any, int | None], Allowed]:
    """A rule: ``absolute`` plus ``relative`` times the value."""
    return lambda value, n: absolute + relative * abs(value) if _is_number(value) else ANY


# The first pattern that fits a number's whole name decides; _rounding decides about the rest.
RULES: tuple[tuple[str, Callable[[Any, int | None], Allowed]], ...] = (
    # 01_eda trains nothing by gradient for long: a few images may change sides, t-SNE falls out differently.
    (r"01_eda\.dataset\..*|01_eda\.split\..*|01_eda\.class_counts\..*", exact),
    (
        r"02_training\.(training|augmentation|limits)\..*|03_evaluation\.(seeds|ensemble)\..*",
        exact,
    ),  # read, not measured
    (r"04_optimization\.study_.*", within(0.0, 1e-6)),  # averaged from what is read
    (r"01_eda\.map\.(two_components|tsne)", within(0.02)),
    (r"01_eda\.pen\.confused\..*", anything),
    (r"01_eda\..*\.(errors|only_a|only_b)", within(3)),
    (r"01_eda\.(baselines|pen)\..*(accuracy|interval\.\*)", within(0.002)),
    (r"01_eda\..*p_value", within(1e-12, 0.5)),
    # Which ones, not how many; and what is computed from counts that stand beside it.
    (r"03_evaluation\.errors\..*|.*\.commonest guess\.\*|.*\.95% interval\.\*", anything),
    (
        r".*\.(p|p_value)(\.\*)?|.*\.only (here|there)\.\*|.*\.right\.n|02_training\.best_epoch",
        anything,
    ),
    (
        r"04_optimization\.search\.(tied_with_best|(states|importances)\..*|random\.(trials|capped|expected)"
        r"|best\.(trial|learning_rate|batch_size|dropout|weight_decay|width|augmentation|epochs|cost|parameters|multiplies))",
        anything,
    ),
    (
        r"04_optimization\.(chosen\.(name|rule|good_enough.*|.*mcnemar.*)|advice\..*|mended.*|architecture_front\..*)",
        anything,
    ),
    (r"04_optimization\.pruning\.(taken|layers\.\*\.(zeros|sparsity))", anything),
    # How far short trainings come, and differences between two of them, which are small and so mostly luck.
    (
        r"04_optimization\.(architectures|ablation\.runs\.\*|distillation\.students)\..*errors",
        within(10, 0.5),
    ),
    (
        r"04_optimization\.(architectures|ablation\.runs\.\*|distillation\.students)\..*(accuracy|interval.*)",
        within(0.03),
    ),
    (r"04_optimization\.ablation\.effects\..*\.(points|low|high)", within(3.0)),
    (r"04_optimization\.int8\..*\.(decibels|per_channel|per_tensor)", within(3.0)),
    (r"04_optimization\.int8\..*\.(spread|step|clipped)", within(0.01, 0.5)),
    # The way to the result is less certain than the result.
    (r"02_training\.history\.(val_)?accuracy\.\*", within(0.02)),
    (r"02_training\.history\.(val_)?loss\.\*", within(0.05, 0.25)),
    (r"02_training\.largest_difference\..*", within(1e-3)),  # rounding itself
    # What networks make of images far from all that they learnt from, or after more was taken than they can bear.
    (
        r"03_evaluation\.robustness\..*\.(accuracy|low|high)\.\*|04_optimization\.pruning\.levels\.0\.9.*(accuracy|interval\.\*)",
        within(0.25),
    ),
    (r"03_evaluation\.robustness\..*\.errors\.\*", within(500)),
    (r"04_optimization\.pruning\.levels\.0\.9.*errors", within(10, 1.2)),
    (r"04_optimization\.files\..*\.non_digits_errors", within(10, 0.5)),
    (r"04_optimization\.files\..*\.refused", within(0.1)),
    (r"04_optimization\.files\..*\.agreement_with_float32", within(0.003)),
    # What limits decide that one image in a thousand sets.
    (r"02_training\.(min_energy|candidate_probability)", within(1e-3, 1.0)),
    (r"03_evaluation\.candidates\..*\.(count|n)", within(30)),
    (r"03_evaluation\.candidates\..*\.share", within(0.1)),
    (r"03_evaluation\.candidates\..*\.size", within(0.4)),
    (
        r"03_evaluation\.pen\.errors_per_(digit|writer)\..*",
        within(30),
    ),  # of one hand: not independent
    (r".*\.(nll|brier|aurc)|.*\.nll_interval\.\*", within(1e-4, 0.35)),
    # What trained networks get wrong or refuse. A cell of the confusion holds right answers, too: a fixed number there.
    (r"03_evaluation\.confusion\..*", within(10)),
    (r".*(errors|count|only_a|only_b|errors_per_digit\.\*|errors_per_writer\.\w+)(\.\*)?", chance),
    (
        r".*(accuracy|recall|precision|share|interval|low|high|answered|right|unsure|not a digit|refused|coverage[\w.]*"
        r"|agreement_with_float32|search\.best\.best)(\.\*)?",
        chance,
    ),
    (r"02_training\.pass_at_min_energy\..*", within(0.03)),
    (r"04_optimization\.search\.difference_points", within(1.0)),
    # Means over a few hard images: a third, and for errors of calibration what chance alone explains.
    (
        r".*\.(ece|chance|ece_mass)|02_training\.validation_calibration_error\..*",
        within(0.002, 0.3),
    ),
    (r".*\.(temperature|accept_confidence|selective\.threshold)", within(0.0, 0.2)),
    (r".*\.calibration\.(before\.)?confidence", within(0.005)),
    (r"04_optimization\..*gzip_bytes", within(0, 0.02)),
)


def default(metrics: dict) -> dict[str, Allowed]:
    """The tolerances of ``RULES`` for the numbers of ``metrics``; the items of a list get the largest of theirs."""
    table: dict[str, Allowed] = {}
    for keys, value in compared(metrics).items():
        allowed = _rule(group(keys))(value, _sample(metrics, keys))
        if allowed != 0:
            table[group(keys)] = _larger(table.get(group(keys), 0.0), _rounded_up(allowed))
    return table


def measured(reference: dict, runs: list[dict], factor: float = FACTOR) -> dict[str, Allowed]:
    """Tolerances from the metrics of repeated runs: ``factor`` times the largest deviation from the reference.

    Text, flags and lengths of lists that changed are allowed any value. Numbers that did not move are not in it: a
    handful of runs does not prove that they never will.
    """
    table: dict[str, Allowed] = {}
    before = compared(reference)
    for run in runs:
        now = compared(run)
        for keys in before.keys() | now.keys():
            old, new = before.get(keys, _MISSING), now.get(keys, _MISSING)
            if old != new:
                moved = factor * abs(new - old) if _is_number(old) and _is_number(new) else ANY
                table[group(keys)] = _larger(table.get(group(keys), 0.0), _rounded_up(moved))
    return table


def agrees(reference: Any, value: Any, allowed: Allowed) -> bool:
    """True when ``value`` is within ``allowed`` of the reference's."""
    if allowed is ANY or reference == value:
        return True
    return _is_number(reference) and _is_number(value) and abs(value - reference) <= allowed


def _rounding(value: Any, n: int | None) -> Allowed:
    """What no rule names: a float may round differently, nothing else may differ."""
    return 1e-4 * abs(value) if isinstance(value, float) else 0.0


def _rule(name: str) -> Callable[[Any, int | None], Allowed]:
    return next((rule for pattern, rule in RULES if re.fullmatch(pattern, name)), _rounding)


def _sample(metrics: dict, keys: Keys) -> int | None:
    """The ``n`` that belongs to a number: beside it, or beside the nearest thing that holds it.

    What is called ``pen_accuracy`` has its ``pen_n``; what has none of its own is counted on the validation images.
    """
    sets = [f"{key.rpartition('_')[0]}_n" for key in keys if isinstance(key, str) and "_" in key]
    for depth in range(len(keys) - 1, 0, -1):
        place: Any = metrics
        for key in keys[:depth]:
            place = place[key]
        names = (*sets, "n", "validation_n")
        found = (
            next((place[key] for key in names if key in place), None)
            if isinstance(place, dict)
            else None
        )
        if isinstance(found, list) and isinstance(keys[-1], int) and keys[-1] < len(found):
            found = found[keys[-1]]
        if isinstance(found, int):
            return found
    return None


def _larger(one: Allowed, other: Allowed) -> Allowed:
    return ANY if one is ANY or other is ANY else max(one, other)


def _rounded_up(allowed: Allowed) -> Allowed:
    """Three digits, so that a person can read the table."""
    return ANY if allowed is ANY else float(_THREE_DIGITS.create_decimal(repr(float(allowed))))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def main(arguments: list[str] | None = None) -> int:
    """Measure the tolerances of a reference from runs that differ from it in nothing but hardware and settings."""
    parser = argparse.ArgumentParser(
        prog="python -m digits.run.tolerances", description=main.__doc__
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--reference", type=Path, default=paths.REFERENCE, help="default: the published run"
    )
    parser.add_argument(
        "--factor",
        type=float,
        default=FACTOR,
        help="times the largest deviation (default: %(default)g)",
    )
    parser.add_argument(
        "--write", action="store_true", help="state them in the reference's run.json"
    )
    options = parser.parse_args(arguments)
    try:
        record, metrics = (
            read_json(options.reference / name) for name in ("run.json", "metrics.json")
        )
        for folder in options.runs:
            _check_same_question(record, folder)
        moved = measured(
            metrics, [read_json(folder / "metrics.json") for folder in options.runs], options.factor
        )
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        "\n".join(
            f"{name}: {'any' if moved[name] is ANY else f'{moved[name]:.3g}'}"
            for name in sorted(moved)
        )
    )
    if options.write:
        table = default(metrics)
        table |= {name: _larger(table.get(name, 0.0), allowed) for name, allowed in moved.items()}
        source = f"defaults, widened to {options.factor:g} times the largest deviation of {len(options.runs)} runs"
        stated = {"source": source, "numbers": table}
        write_json(options.reference / "run.json", record | {"tolerances": stated})
    return 0


def _check_same_question(reference: dict, folder: Path) -> None:
    """RunError for a run that differs from the reference in more than what a tolerance is for."""
    found = causes.find(reference, read_json(folder / "run.json"))
    if other := {
        kind: lines for kind, lines in found.items() if kind not in ("hardware", "settings")
    }:
        raise RunError(
            f"{folder.name} differs from the reference in more than hardware and settings: "
            + "; ".join(causes.sentences(other))
        )


if __name__ == "__main__":
    sys.exit(main())

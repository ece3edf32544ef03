"""What each part of the recipe is worth, and how far each network comes, with time enough and several seeds.

    DIGITS_DATA=FOLDER python tests/benchmarks/study.py ablation --seeds 1 2 3 --output outputs/study.json
    DIGITS_DATA=FOLDER python tests/benchmarks/study.py architectures --seeds 1 2 3 --output outputs/study.json
    DIGITS_DATA=FOLDER python tests/benchmarks/study.py search --trials 40 --output outputs/study.json

What the short trainings of 04_optimization cannot tell; that chapter shows the committed outputs/study.json beside its own.
Validation images and, but for the search, pen digits of the development writers judge; no test set is opened. Every finished
training is kept in a file beside the output (of the search: the database with its studies, which stays): an interrupted study
goes on, and one with another budget has to have another output.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from digits import data
from digits.files import read_json, write_json
from digits.run import comparison
from digits.training import ablation as experiments
from digits.training import fit as training
from digits.training import networks as models
from digits.training import search
from digits.training.backend import tf

VALIDATION = {"validation_size": 5_000, "seed": 1}  # as in 01_eda


def jobs(
    what: str, network: str, config: training.TrainingConfig
) -> dict[str, tuple[str, experiments.Condition]]:
    """The trainings of one seed."""
    if what == "ablation":
        return {
            name: (network, condition) for name, condition in experiments.conditions(config).items()
        }
    return {name: (name, experiments.Condition(config)) for name in models.NAMES}


def find_settings(
    output: Path,
    x: np.ndarray,
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    train_size: int,
    epochs: int,
    trials: int,
) -> None:
    """TPE and, as many trials, random search, both into the database beside ``output``; the reference's settings, too."""
    plan = search.Plan(
        train_size=train_size, epochs=epochs, seed=1, data=search.fingerprint(x, y, *validation)
    )
    score = search.training_score(plan, x, y, validation)
    known = read_json(output).get("search", {})
    baseline = known.get("baseline") or search.reference_settings() | score(
        search.reference_settings()
    )
    write_json(
        output,
        read_json(output)
        | {
            "search": {
                "budget": {"train_size": train_size, "epochs": epochs, "trials": trials},
                "baseline": baseline,
                "machine": comparison.machine(),
                "tensorflow": tf.__version__,
            }
        },
    )
    for part in (plan, replace(plan, sampler="random", prune=False)):
        study = search.open_study(f"sqlite:///{output.with_suffix('.sqlite3')}", part)
        search.run(study, part, score, trials)
        print(search.table(study)[["trial", "state", "accuracy", "best", "seconds"]].to_string())


def main() -> None:
    """Train what is missing, write after each training, print the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("ablation", "architectures", "search"))
    parser.add_argument(
        "--network", default="compact_small", choices=models.NAMES, help="of the ablation"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train-size", type=int, default=55_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--trials", type=int, default=40, help="of the search, and as many drawn by chance"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the study as JSON; its other part is left as it is",
    )
    options = parser.parse_args()

    mnist = data.load("mnist")
    teach, judge = data.split(mnist.y_train, **VALIDATION)
    if options.what == "search":
        validation = mnist.x_train[judge], data.one_hot(mnist.y_train[judge])
        find_settings(
            options.output,
            mnist.x_train[teach],
            data.one_hot(mnist.y_train[teach]),
            validation,
            options.train_size,
            options.epochs,
            options.trials,
        )
        return
    teach = teach[: options.train_size]
    sets = {
        "validation": (mnist.x_train[judge], mnist.y_train[judge]),
        "pen": experiments.development_digits(count=10**9, seed=1),
    }
    budget = {
        "network": options.network if options.what == "ablation" else "",
        "train_size": len(teach),
        "epochs": options.epochs,
    }
    kept = options.output.with_suffix(f".{options.what}.json")
    if read_json(kept).get("budget", budget) != budget:
        parser.error(f"{kept.name} was begun with another budget; give another --output")
    write_json(kept, read_json(kept) | {"budget": budget})
    runs = experiments.repeat(
        jobs(options.what, options.network, training.TrainingConfig(epochs=options.epochs)),
        options.seeds,
        mnist.x_train[teach],
        data.one_hot(mnist.y_train[teach]),
        sets,
        kept,
    )
    machine = {"machine": comparison.machine(), "tensorflow": tf.__version__}
    write_json(
        options.output, read_json(options.output) | {options.what: read_json(kept) | machine}
    )
    kept.unlink()
    print(
        runs.groupby("name", sort=False)[["validation_accuracy", "pen_accuracy", "seconds"]]
        .agg(["mean", "std"])
        .to_string()
    )
    for kind in sets if options.what == "ablation" else ():
        print(f"\n{kind}, points\n{experiments.effects(runs, kind).to_string()}")


if __name__ == "__main__":
    main()

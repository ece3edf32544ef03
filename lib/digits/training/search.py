"""Which settings train best: one network trained and scored on validation data, and a study of many that can go on.

    python -m digits.training.search --study NAME --workers N

adds workers to a study that 04_optimization began, on this computer or, when ``DIGITS_STUDY_URL`` names a database, on
any other that has the same images.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from digits import evaluation, files
from digits.data import mnist as data
from digits.data.augmentation import Augmentation
from digits.files import RunError, check_name, read_json
from digits.run.process import Stopped, stop_on_signals
from digits.training import fit as training
from digits.training import networks as models
from digits.training import studies
from digits.training.backend import keras
from digits.training.findings import (
    best,
    best_of,
    importances,
    random_at_cost,
    table,
    tied_with_best,
)
from digits.training.leases import StudyError
from digits.training.plan import SETTINGS, Plan, fingerprint, open_study, run
from digits.training.studies import Score, Study, Watch, copies, storage

__all__ = [
    "SETTINGS", "Plan", "Score", "Study", "StudyError", "Watch", "best", "best_of", "copies", "fingerprint", "importances",
    "open_study", "random_at_cost", "reference_settings", "run", "storage", "table", "tied_with_best", "train_and_score",
    "training_score",
]  # fmt: skip


class _Watcher(keras.callbacks.Callback):
    """Tells ``watch`` each epoch's validation accuracy, and ends a training that it calls hopeless."""

    def __init__(self, watch: Watch, epochs: int):
        super().__init__()
        self.watch, self.epochs, self.pruned = watch, epochs, False

    def on_epoch_end(self, epoch, logs=None):
        hopeless = self.watch(epoch + 1, float(logs["val_accuracy"]))
        if hopeless and epoch + 1 < self.epochs:  # after the last one there is nothing left to save
            self.pruned = self.model.stop_training = True


def train_and_score(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: training.TrainingConfig,
    augmentation: Augmentation | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> dict:
    """Build the network ``name`` with ``options``, train it from scratch, score it on validation data.

    Arrays as in ``training.fit``; watch: is told each epoch's validation accuracy and may call it hopeless. Returns
    ``parameters``, ``multiplies`` (for one image), ``seconds`` and ``epochs`` of training, ``cost`` (multiplies of all
    images in all epochs, forward only), ``pruned`` (ended by ``watch``), and ``accuracy``, ``errors``, ``n``, 95%
    ``interval`` of its best epoch. Everything random follows ``config.seed``.
    """
    training.begin(config.seed)
    model = models.build(name, **options)
    watcher = _Watcher(watch or (lambda epoch, accuracy: False), config.epochs)
    started = time.perf_counter()
    epochs = len(
        training.fit(model, x, y, validation_data, config, augmentation, callbacks=[watcher])
    )
    seconds = time.perf_counter() - started
    images, labels = validation_data
    predicted = model.predict(images, batch_size=1000, verbose=0).argmax(1)
    size = models.size(model)
    return {
        **size,
        "seconds": seconds,
        "epochs": epochs,
        "cost": size["multiplies"] * len(x) * epochs,
        "pruned": watcher.pruned,
        **evaluation.accuracy_summary(labels.argmax(1), predicted),
    }


def reference_settings() -> dict[str, Any]:
    """The settings of 02_training, as a trial would have them."""
    usual = training.TrainingConfig()
    return {
        "learning_rate": usual.learning_rate,
        "batch_size": usual.batch_size,
        "weight_decay": usual.weight_decay,
        "dropout": 0.2,
        "width": 40,
        "augmentation": 1.0,
    }


def training_score(
    plan: Plan, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray]
) -> Score:
    """What ``run`` calls for each trial: train ``plan.model`` on the first images with the trial's settings.

    A setting that is left out has its usual value; without ``augmentation`` there is none.
    """

    def score(settings: dict[str, Any], watch: Watch | None = None) -> dict[str, Any]:
        chosen = {
            key: settings[key]
            for key in ("learning_rate", "batch_size", "weight_decay")
            if key in settings
        }
        config = training.TrainingConfig(epochs=plan.epochs, seed=plan.seed, **chosen)
        strength = settings.get("augmentation", 0)
        options = {key: settings[key] for key in ("dropout", "width") if key in settings}
        return train_and_score(
            plan.model,
            x[: plan.train_size],
            y[: plan.train_size],
            validation_data,
            config,
            Augmentation().scaled(strength) if strength else None,
            watch,
            **options,
        )

    return score


def _images(run: Path) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The run's training and validation images, as 04_optimization has them."""
    split = read_json(run / "metrics.json").get("02_training", {}).get("split")
    if split is None:
        raise StudyError(
            f"The run {run.name!r} has no trained model. Run notebooks 01 and 02 in it first."
        )
    images, targets, _, _ = data.load_arrays(run / "data")
    teach, judge = data.split(
        targets.argmax(axis=1), validation_size=split["validation_size"], seed=split["seed"]
    )
    return images[teach], targets[teach], (images[judge], targets[judge])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with status 2 and a line on stderr when it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="python -m digits.training.search",
        allow_abbrev=False,
        description="Add workers to a study that 04_optimization began. A worker that ends, however it ends, loses at most "
        "its running trial, which another one runs again.",
    )
    parser.add_argument("--study", metavar="NAME", required=True, help="as the notebook says it")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=1,
        help="processes (default 1), each of about 1 GB",
    )
    parser.add_argument(
        "--run",
        metavar="NAME",
        default="latest",
        help="the folder below outputs/ with the images and, "
        "without a database, the study (default: latest)",
    )
    parser.add_argument(
        "--trials",
        metavar="N",
        type=int,
        help="go on until the study has N (default: as many as the notebook asked for)",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help=f"the database, such as postgresql+psycopg://HOST/DATABASE; "
        f"{studies.VARIABLE} says it without showing a password to others on this computer",
    )
    options = parser.parse_args(arguments)
    if options.workers < 1 or (options.trials is not None and options.trials < 1):
        parser.error("--workers and --trials are at least 1")
    return options


@contextmanager
def _others(options: argparse.Namespace, trials: int) -> Iterator[list[subprocess.Popen]]:
    """The workers beside this process; waited for, and stopped when it is."""
    command = [
        sys.executable,
        "-m",
        "digits.training.search",
        "--study",
        options.study,
        "--run",
        options.run,
        "--trials",
        str(trials),
    ]
    environment = {**os.environ, **({studies.VARIABLE: options.storage} if options.storage else {})}
    processes = [subprocess.Popen(command, env=environment) for _ in range(options.workers - 1)]
    try:
        yield processes
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.wait()


def work(options: argparse.Namespace) -> int:
    """Be a worker, with others beside; returns the exit status."""
    check_name(options.run)
    folder = files.OUTPUTS / options.run
    where = options.storage or storage(folder)
    plan = Plan.stored(studies.plan_of(where, options.study))
    x, y, validation = _images(folder)
    if plan.data != fingerprint(x, y, *validation):
        raise StudyError(
            f"The study {options.study!r} is about other images than those of the run {options.run!r}."
        )
    study = open_study(where, plan)
    trials = options.trials or study.user_attrs.get("trials")
    if trials is None:
        raise StudyError(
            "Nobody has said yet how many trials this study is to have: add --trials N."
        )
    with _others(options, trials) as others:
        run(study, plan, training_score(plan, x, y, validation), trials)
    print(f"The study {plan.name} has {len(table(study))} finished trials.")
    return int(any(process.returncode for process in others))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 another worker failed, 2 a wrong request, 128 + n a signal."""
    options = parse(arguments)
    try:
        with stop_on_signals():
            return work(options)
    except (StudyError, RunError, data.DataError) as error:
        print(f"python -m digits.training.search: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print("\nStopped. The trial that was running goes back to the queue.", file=sys.stderr)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())

"""Time to 99.2% on validation data: the Keras example's own training against ours, side by side in one run.

    DIGITS_DATA=FOLDER python tests/benchmarks/training.py [--seed 1] [--cycle 4] [--published] [--output FILE.json]

Trainings on the same 55,000 images, judged on the same 5,000 after every epoch: the example of
keras.io/examples/vision/mnist_convnet as it is there (Adam, batches of 128, 15 epochs), our network and the one of half
its width in a short cycle without augmentation, and with ``--published`` our network as 02_training trains it, which aims
at accuracy, not at haste. An example that has not got there at its end leaves a bound: the ratio lies below ours against
all of its time. Run it on a quiet machine. The test set is not used.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from digits import data
from digits.data import augmentation as augment
from digits.run import comparison
from digits.training import fit as training
from digits.training import keras
from digits.training import networks as models
from digits.training import study as experiments

GOAL = 0.992
VALIDATION = {"validation_size": 5_000, "seed": 1}  # as in 01_eda


class Stopwatch(keras.callbacks.Callback):
    """Seconds of training and validation accuracy after every epoch; what validation costs is not counted."""

    def __init__(self):
        super().__init__()
        self.seconds, self.accuracy, self.spent = [], [], 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.spent += time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(self.spent)
        self.accuracy.append(float(logs["val_accuracy"]))
        print(f"  epoch {epoch + 1}: {self.spent:.0f} s, {self.accuracy[-1]:.2%}", flush=True)

    def result(self, model: keras.Model) -> dict:
        reached = np.flatnonzero(np.array(self.accuracy) >= GOAL)
        return {
            "seconds_to_goal": self.seconds[reached[0]] if len(reached) else None,
            "epochs_to_goal": int(reached[0]) + 1 if len(reached) else None,
            "seconds": self.spent,
            "epochs": len(self.accuracy),
            "final_accuracy": self.accuracy[-1],
            "best_accuracy": max(self.accuracy),
            "parameters": model.count_params(),
            "macs": models.count_macs(model),
            "curve": self.accuracy,
        }


def keras_example(x, y, validation, seed: int) -> dict:
    """As published: Adam with its defaults, categorical cross-entropy, batches of 128, 15 epochs."""
    training.set_seed(seed)
    model, watch = models.build("keras_example"), Stopwatch()
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.fit(
        x,
        y,
        batch_size=128,
        epochs=15,
        validation_data=validation,
        validation_batch_size=1000,
        callbacks=[watch],
        verbose=0,
    )
    return watch.result(model)


def short(network: str, cycle: int, x, y, validation, seed: int) -> dict:
    """One of our networks: ``cycle`` epochs without augmentation."""
    training.set_seed(seed)
    model, watch = models.build(network), Stopwatch()
    training.fit(
        model, x, y, validation, training.TrainingConfig(epochs=cycle, seed=seed), callbacks=[watch]
    )
    return watch.result(model)


def published(x, y, validation, seed: int) -> dict:
    """The compact net as 02_training trains it."""
    training.set_seed(seed)
    model, watch = models.build("compact"), Stopwatch()
    training.fit(
        model,
        x,
        y,
        validation,
        training.TrainingConfig(seed=seed),
        augment.Augmentation(),
        callbacks=[watch],
        non_digits=experiments.non_digits_for(x, y, seed),
    )
    return watch.result(model)


def ratio(one: dict, example: dict) -> str:
    """Time to the goal against the example's, or what is known of it where the example did not get there."""
    if one is example:
        return ""
    if one["seconds_to_goal"] is None:
        return "no ratio"
    if example["seconds_to_goal"] is None:
        return f"ratio below {one['seconds_to_goal'] / example['seconds']:.2f}"
    return f"ratio {one['seconds_to_goal'] / example['seconds_to_goal']:.2f}"


def main() -> None:
    """Train, print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycle", type=int, default=4, help="epochs of the short cycle")
    parser.add_argument(
        "--published", action="store_true", help="also the whole training of 02_training"
    )
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    mnist = data.load("mnist")
    train, validate = data.split(mnist.y_train, **VALIDATION)
    x, y = mnist.x_train[train], data.one_hot(mnist.y_train[train])
    validation = mnist.x_train[validate], data.one_hot(mnist.y_train[validate])
    runs = {
        "Keras example": lambda: keras_example(x, y, validation, options.seed),
        "ours, short cycle": lambda: short(
            "compact", options.cycle, x, y, validation, options.seed
        ),
        "half as wide, short": lambda: short(
            "compact_small", options.cycle, x, y, validation, options.seed
        ),
    }
    if options.published:
        runs["ours, as published"] = lambda: published(x, y, validation, options.seed)
    results = {}
    for name, run in runs.items():
        print(name, flush=True)
        results[name] = run()
    example = results["Keras example"]
    for name, one in results.items():
        reached = one["seconds_to_goal"]
        text = (
            "not reached" if reached is None else f"{reached:.0f} s, epoch {one['epochs_to_goal']}"
        )
        print(
            f"{name:20s} {GOAL:.1%} after {text:20s} {ratio(one, example):16s} final {one['final_accuracy']:.2%} after "
            f"{one['epochs']} epochs ({one['seconds']:.0f} s), {one['parameters']:,} parameters, "
            f"{one['macs'] / 1e6:.1f} M multiply-accumulates"
        )
    if options.output:
        content = {
            "seed": options.seed,
            "cycle": options.cycle,
            "goal": GOAL,
            "n_validation": len(validate),
            "machine": comparison.machine(),
            "runs": results,
        }
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

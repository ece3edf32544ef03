"""The published training, repeated with other seeds: what of a result is the recipe's, and what is luck.

    DIGITS_DATA=FOLDER python tests/benchmarks/seeds.py --seeds 1 2 3 4 5 --models FOLDER --output FILE.json

Each seed trains as 02_training does, fits temperature and thresholds on validation data, exports to LiteRT and is then
scored once by ``quality.py``. The file is written after every seed; seeds that it holds already are not trained again.
With ``--models`` the networks are kept there, and all of them together, their probabilities averaged, are scored too.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import quality

from digits import augment, calibration, compress, data, evaluation, experiments, models, negatives, provenance, training
from digits.backend import tf
from digits.recognizer import LiteRTModel, Recognizer

VALIDATION = {"validation_size": 5_000, "seed": 1}  # as in 01_eda
RISK, REFUSED, COVERAGE = 0.001, 0.003, 0.999  # as in 02_training


def train(seed: int, epochs: int, folder: Path | None) -> dict:
    """One training as 02_training's, and every figure of ``quality.score``; the network is kept in ``folder``."""
    mnist = data.load("mnist")
    teach, judge = data.split(mnist.y_train, **VALIDATION)
    x, labels = mnist.x_train[teach], mnist.y_train[teach]
    validation, truth = mnist.x_train[judge], mnist.y_train[judge]
    training.set_seed(seed)
    others, _ = negatives.generate(int(training.NON_DIGITS * len(x)), np.random.default_rng(seed), x, labels)
    model = models.build("compact")
    history = training.fit(model, x, data.one_hot(labels), (validation, data.one_hot(truth)),
                           training.TrainingConfig(seed=seed, epochs=epochs), augment.Augmentation(), non_digits=others)
    if folder:
        models.save(model, folder / f"{seed}.keras")
    logits = models.logits_model(model).predict(validation, batch_size=1000, verbose=0)
    rule = evaluation.fit_calibration(logits, truth, RISK, REFUSED, COVERAGE)
    with tempfile.TemporaryDirectory() as temporary:
        path = compress.export_litert(model, Path(temporary) / "float32.tflite")
        scores = quality.score(Recognizer(LiteRTModel(path), rule), seed=1)
    return {"validation": evaluation.accuracy_summary(truth, logits.argmax(1)), "seconds": float(history["seconds"].sum()),
            "epochs": len(history), "best_epoch": int(evaluation.kept_epoch(history)["epoch"]), **scores}


def ensemble(paths: list[Path]) -> dict:
    """Errors of several networks whose probabilities are averaged: MNIST's test images and the unseen writers."""
    mnist = data.load("mnist")
    inputs = {"mnist": (mnist.x_test, mnist.y_test), "pen": experiments.pen_images(data.load_pen_digits("tes"))}
    networks = [models.logits_model(models.load(path)) for path in paths]
    result = {"n": len(networks)}
    for name, (images, labels) in inputs.items():
        sure = sum(calibration.softmax(one.predict(images, batch_size=1000, verbose=0)) for one in networks)
        result[name] = evaluation.accuracy_summary(labels, sure.argmax(1))
    return result


def summary(runs: dict[str, dict]) -> dict:
    """Mean, standard deviation, least and most over the seeds, of what the targets speak of."""
    figures = {"validation accuracy": lambda one: one["validation"]["accuracy"],
               "MNIST test accuracy": lambda one: one["mnist"]["accuracy"],
               "pen accuracy": lambda one: one["pen"]["accuracy"],
               "calibration error, MNIST": lambda one: one["calibration"]["mnist"],
               "calibration error, pen": lambda one: one["calibration"]["pen"],
               "pen digits accepted": lambda one: one["accepted_pen"]["answered"]["share"],
               "of those right": lambda one: one["accepted_pen"]["right"]["share"],
               "non-digits not accepted": lambda one: one["not_accepted"]["all"]["share"],
               "of kinds never shown": lambda one: one["not_accepted"]["never shown"]["share"],
               "seconds of training": lambda one: one["seconds"]}
    values = {name: np.array([figure(one) for one in runs.values()]) for name, figure in figures.items()}
    return {name: {"mean": some.mean(), "std": some.std(ddof=1) if len(some) > 1 else None, "min": some.min(),
                   "max": some.max(), "n": len(some)} for name, some in values.items()}


def main() -> None:
    """Train what is missing, write after each seed, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=training.TrainingConfig.epochs)
    parser.add_argument("--output", type=Path, required=True, help="the figures as JSON; continued when it is there")
    parser.add_argument("--models", type=Path, help="a folder that keeps the networks, and has them scored together")
    options = parser.parse_args()
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
    result = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"runs": {}}
    for seed in options.seeds:
        if str(seed) not in result["runs"]:
            result["runs"][str(seed)] = train(seed, options.epochs, options.models)
        result |= {"epochs": options.epochs, "machine": provenance.machine(), "tensorflow": tf.__version__,
                   "summary": summary(result["runs"])}
        options.output.write_text(json.dumps(result, indent=1, default=float) + "\n", encoding="utf-8")
    paths = sorted(options.models.glob("*.keras")) if options.models else []
    if len(paths) > 1:
        result["ensemble"] = ensemble(paths)
        options.output.write_text(json.dumps(result, indent=1, default=float) + "\n", encoding="utf-8")
        for name in ("mnist", "pen"):
            print(f"{len(paths)} networks together, {name}: {evaluation.accuracy_text(result['ensemble'][name])}")
    for name, one in summary(result["runs"]).items():
        spread = "" if one["std"] is None else f" ± {one['std']:.4f}"
        print(f"{name:26s} {one['mean']:.4f}{spread} ({one['min']:.4f} to {one['max']:.4f}, n = {one['n']})")


if __name__ == "__main__":
    main()

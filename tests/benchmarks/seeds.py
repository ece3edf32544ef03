"""The published training, repeated with other seeds: what of a result is the recipe's, and what is luck.

    DIGITS_DATA=FOLDER python tests/benchmarks/seeds.py --models FOLDER --distil 2 --output outputs/seeds.json

Each seed trains as 02_training does, fits temperature and thresholds on validation data, exports to LiteRT and is then
scored once by ``quality.py``. The file is written after every seed; seeds that it holds already are not trained again.
With ``--models`` the networks are kept there, those that are there already are scored and not trained, and all of them
together, their probabilities averaged, are scored too.
With ``--distil`` the first one then learns on for some epochs from what all of them answer, and is scored once.
03_evaluation shows the committed outputs/seeds.json where it is of the recipe that the run was trained by.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import quality

from digits import data, evaluation
from digits.data import augmentation as augment
from digits.files import write_json
from digits.recognizer import Calibration, LiteRTModel, Recognizer, softmax
from digits.run import comparison
from digits.training import ablation as experiments
from digits.training import compression as compress
from digits.training import distillation as distil
from digits.training import fit as training
from digits.training import networks as models
from digits.training.backend import keras, tf

VALIDATION = {"validation_size": 5_000, "seed": 1}  # as in 01_eda
LIMITS = {"risk": 0.0015, "refused": 0.003, "coverage": 0.999}  # as in 02_training


@cache
def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What teaches and what judges, each as images and labels."""
    mnist = data.load("mnist")
    teach, judge = data.split(mnist.y_train, **VALIDATION)
    return {
        name: (mnist.x_train[some], mnist.y_train[some])
        for name, some in (("teach", teach), ("judge", judge))
    }


def train(seed: int, config: training.TrainingConfig, folder: Path | None) -> dict:
    """One training as 02_training's, and every figure of ``quality.score``; the network is kept in ``folder``."""
    if folder and (folder / f"{seed}.keras").exists():
        return score(models.load(folder / f"{seed}.keras"))
    training.set_seed(seed)
    model = models.build("compact")
    seconds = fit(model, config)
    if folder:
        models.save(model, folder / f"{seed}.keras")
    return {"seconds": seconds, **score(model)}


def fit(model: keras.Model, config: training.TrainingConfig, **lesson) -> float:
    """Train ``model`` as 02_training does; return how many seconds that took."""
    (x, y), validation = ((some, data.one_hot(labels)) for some, labels in images().values())
    history = training.fit(
        model,
        x,
        y,
        validation,
        config,
        augment.Augmentation(),
        non_digits=experiments.non_digits(x, y, config.seed),
        **lesson,
    )
    return float(history["seconds"].sum())


def score(model: keras.Model) -> dict:
    """Fit temperature and thresholds, export the network, and score the exported file once."""
    validation, truth = images()["judge"]
    logits = models.logits_model(model).predict(validation, batch_size=1000, verbose=0)
    rule = Calibration.fit(logits, truth, **LIMITS)
    with tempfile.TemporaryDirectory() as temporary:
        path = compress.export_litert(model, Path(temporary) / "float32.tflite")
        scores = quality.score(Recognizer(LiteRTModel(path), rule), seed=1)
    return {"validation": evaluation.accuracy_summary(truth, logits.argmax(1)), **scores}


def distilled(paths: list[Path], epochs: int) -> dict:
    """The first of several networks, after it has learnt on from the mean of all their logits, at the gentle end's images."""
    image = keras.Input(models.INPUT_SHAPE)
    networks = [models.load(path) for path in paths]
    answers = [
        keras.Model(one.inputs, one.get_layer("logits").output, name=f"network_{path.stem}")(image)
        for one, path in zip(networks, paths, strict=True)
    ]
    teacher = keras.Model(image, keras.layers.Average(name="logits")(answers))
    config = training.TrainingConfig(epochs=epochs, learning_rate=1e-3, gentle=1.0, seed=1)
    training.set_seed(config.seed)
    student = models.load(paths[0])
    seconds = fit(student, config, **distil.lesson(teacher))
    return {"epochs": epochs, "first": paths[0].stem, "seconds": seconds, **score(student)}


def ensemble(paths: list[Path]) -> dict:
    """Errors of several networks whose probabilities are averaged: MNIST's test images and the unseen writers."""
    mnist = data.load("mnist")
    inputs = {
        "mnist": (mnist.x_test, mnist.y_test),
        "pen": experiments.pen_images(data.load_pen_digits("tes")),
    }
    networks = [models.logits_model(models.load(path)) for path in paths]
    result = {"n": len(networks)}
    for name, (images, labels) in inputs.items():
        sure = sum(softmax(one.predict(images, batch_size=1000, verbose=0)) for one in networks)
        result[name] = evaluation.accuracy_summary(labels, sure.argmax(1))
    return result


def summary(runs: dict[str, dict]) -> dict:
    """Mean, standard deviation, least and most over the seeds, of what the targets speak of."""
    figures = {
        "validation accuracy": lambda one: one["validation"]["accuracy"],
        "MNIST test accuracy": lambda one: one["mnist"]["accuracy"],
        "pen accuracy": lambda one: one["pen"]["accuracy"],
        "calibration error, MNIST": lambda one: one["calibration"]["mnist"],
        "calibration error, pen": lambda one: one["calibration"]["pen"],
        "pen digits accepted": lambda one: one["accepted_pen"]["answered"]["share"],
        "of those right": lambda one: one["accepted_pen"]["right"]["share"],
        "non-digits not accepted": lambda one: one["not_accepted"]["all"]["share"],
        "of kinds never shown": lambda one: one["not_accepted"]["never shown"]["share"],
        "seconds of training": lambda one: one.get("seconds", np.nan),
    }
    values = {
        name: np.array([figure(one) for one in runs.values()]) for name, figure in figures.items()
    }
    values = {
        name: some[~np.isnan(some)] for name, some in values.items() if not np.isnan(some).all()
    }
    return {
        name: {
            "mean": some.mean(),
            "std": some.std(ddof=1) if len(some) > 1 else None,
            "min": some.min(),
            "max": some.max(),
            "n": len(some),
        }
        for name, some in values.items()
    }


def keep(result: dict, path: Path) -> None:
    """Write ``result`` with the means over its runs."""
    write_json(
        path, json.loads(json.dumps(result | {"summary": summary(result["runs"])}, default=float))
    )


def main() -> None:
    """Train what is missing, write after each seed, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=training.TrainingConfig.epochs)
    parser.add_argument(
        "--output", type=Path, required=True, help="the figures as JSON; continued when it is there"
    )
    parser.add_argument(
        "--models", type=Path, help="a folder that keeps the networks, and has them scored together"
    )
    parser.add_argument(
        "--distil", type=int, default=0, metavar="EPOCHS", help="for which one then learns from all"
    )
    options = parser.parse_args()
    if options.distil and not options.models:
        parser.error("--distil needs --models, where the networks are kept")
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
    result = (
        json.loads(options.output.read_text(encoding="utf-8"))
        if options.output.exists()
        else {"runs": {}}
    )
    config = training.TrainingConfig(epochs=options.epochs)
    recipe = {
        "architecture": "compact",
        "split": {**VALIDATION, "train_size": len(images()["teach"][0])},
        "training": asdict(config),
        "augmentation": asdict(augment.Augmentation()),
        "limits": LIMITS,
    }  # as 02 records it
    recipe["training"].pop("seed")
    if result.get("recipe", recipe) != recipe:
        parser.error(f"{options.output.name} holds runs of another recipe; give another --output")
    told = " ".join(
        [
            "--seeds",
            *map(str, options.seeds),
            "--epochs",
            str(options.epochs),
            "--distil",
            str(options.distil),
        ]
    )
    result |= {
        "command": f"python tests/benchmarks/seeds.py {told}",
        "recipe": recipe,  # without the folders of whoever ran it
        "code": comparison.code(),
        "machine": comparison.machine(),
        "tensorflow": tf.__version__,
    }
    for seed in options.seeds:
        if str(seed) not in result["runs"]:
            result["runs"][str(seed)] = train(seed, replace(config, seed=seed), options.models)
        keep(result, options.output)
    paths = sorted(options.models.glob("*.keras")) if options.models else []
    if len(paths) > 1:
        result["ensemble"] = ensemble(paths)
        if options.distil:
            result["distilled"] = distilled(paths, options.distil)
        keep(result, options.output)
        for name in ("mnist", "pen"):
            print(
                f"{len(paths)} networks together, {name}: {evaluation.accuracy_text(result['ensemble'][name])}"
            )
            if options.distil:
                print(
                    f"one that learnt from them, {name}: {evaluation.accuracy_text(result['distilled'][name])}"
                )
    for name, one in summary(result["runs"]).items():
        spread = "" if one["std"] is None else f" ± {one['std']:.4f}"
        print(
            f"{name:26s} {one['mean']:.4f}{spread} ({one['min']:.4f} to {one['max']:.4f}, n = {one['n']})"
        )


if __name__ == "__main__":
    main()

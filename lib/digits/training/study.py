"""Long trainings whose results are committed, for the notebooks to show beside their short ones.

    python -m digits.training.study ablation        what is each part of the recipe worth?
    python -m digits.training.study architectures   how far does each network come?
    python -m digits.training.study search          and the settings, sought by TPE and by chance?
    python -m digits.training.study seeds           the recipe with other seeds; all of them together
    python -m digits.training.study students tiny   small networks with a patient teacher

Each needs MNIST and the pen digits, and hours. Validation images and pen digits of the development
writers choose; only ``seeds`` and ``students`` meet the test sets, once for each network. What is
finished is kept, so that an interrupted study goes on.
"""

import argparse
import json
import platform
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from digits import data, evaluation, files
from digits.data import non_digits
from digits.data.augmentation import Augmentation
from digits.files import read_json, write_json
from digits.recognizer import Calibration, LiteRTModel, Recognizer, ink
from digits.training import ablation, compression, keras, networks, search, tf
from digits.training import fit as training

SPLIT = {"validation_size": 5_000, "seed": 1}  # this and the limits as the notebooks have them
LIMITS = {"risk": 0.0015, "refused": 0.003, "coverage": 0.999}
NON_DIGITS_EACH = 100  # drawings of each kind
MADE_WITH = {"tensorflow": tf.__version__, "system": platform.platform()}


@cache
def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST's training images by what they are for: "train" and "validation"; images and labels."""
    digits = data.load("mnist")
    parts = zip(("train", "validation"), data.split(digits.y_train, **SPLIT), strict=True)
    return {name: (digits.x_train[some], digits.y_train[some]) for name, some in parts}


@cache
def exams() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What no choice may look at: MNIST's test images and the pen digits of the test writers."""
    digits = data.load("mnist")
    pen = ablation.pen_images(data.load_pen_digits("tes"))
    return {"mnist": (digits.x_test, digits.y_test), "pen": pen}


def compare(options: argparse.Namespace) -> None:
    """The recipe with one part changed, or all networks, with several seeds."""
    config = training.TrainingConfig(epochs=options.epochs)
    jobs = {name: (name, ablation.Condition(config)) for name in networks.NAMES}
    if options.study == "ablation":
        conditions = ablation.conditions(config)
        jobs = {name: (options.network, condition) for name, condition in conditions.items()}
    x, labels = (some[: options.train_size] for some in images()["train"])
    pen = ablation.development_digits(count=10**9, seed=1)
    sets = {"validation": images()["validation"], "pen": pen}
    budget = {
        "network": options.network if options.study == "ablation" else "",
        "train_size": len(x),
        "epochs": options.epochs,
    }
    kept = options.output.with_suffix(f".{options.study}.json")
    if read_json(kept).get("budget", budget) != budget:
        raise SystemExit(f"{kept.name} was begun with another budget: delete it, or keep to it.")
    write_json(kept, read_json(kept) | {"budget": budget})
    runs = ablation.repeat(jobs, options.seeds, x, data.one_hot(labels), sets, kept)
    result = {options.study: read_json(kept) | MADE_WITH}
    write_json(options.output, read_json(options.output) | result)
    kept.unlink()
    shown = runs.groupby("name", sort=False)[["validation_accuracy", "pen_accuracy", "seconds"]]
    print(shown.agg(["mean", "std"]).to_string())


def find_settings(options: argparse.Namespace) -> None:
    """As many trials by TPE as by chance, in the database beside the output; the reference's, too."""
    (x, labels), (x_validation, truth) = images().values()
    y, validation = data.one_hot(labels), (x_validation, data.one_hot(truth))
    plan = search.Plan(
        train_size=options.train_size,
        epochs=options.epochs,
        seed=1,
        data=search.fingerprint(x, y, *validation),
    )
    score = search.training_score(plan, x, y, validation)
    settings = search.reference_settings()
    result = {
        "budget": {key: getattr(options, key) for key in ("train_size", "epochs", "trials")},
        "baseline": settings | score(settings, None),
        **MADE_WITH,
    }
    write_json(options.output, read_json(options.output) | {"search": result})
    for part in (plan, replace(plan, sampler="random", prune=False)):
        study = search.open_study(f"sqlite:///{options.output.with_suffix('.sqlite3')}", part)
        search.run(study, part, score, options.trials)
        print(search.table(study)[["trial", "state", "accuracy", "seconds"]].to_string())


# --- Networks that meet the test sets -------------------------------------------------------------


def fit(model: keras.Model, config: training.TrainingConfig, **options) -> float:
    """Train ``model`` on all training images by the whole recipe; the seconds that it took."""
    (x, labels), (x_validation, truth) = images().values()
    y = data.one_hot(labels)
    others = ablation.non_digits(x, y, config.seed)
    validation = x_validation, data.one_hot(truth)
    history = training.fit(
        model, x, y, validation, config, Augmentation(), non_digits=others, **options
    )
    return float(history["seconds"].sum())


def examine(model: keras.Model) -> dict:
    """Calibrate a network on the validation images, export it, and score the file on the exams."""
    x, labels = images()["validation"]
    logits = networks.logits_model(model).predict(x, batch_size=1000, verbose=0)
    rule = Calibration.fit(logits, labels, **LIMITS)
    found: dict = {"validation": evaluation.accuracy_summary(labels, logits.argmax(1))}
    found["calibration"] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = compression.export_litert(model, Path(folder) / "float32.tflite")
        recognizer = Recognizer(LiteRTModel(path), rule)
    for name, (some, truth) in exams().items():
        told = evaluation.Predictions(truth, recognizer.model.logits(some), rule.temperature)
        found[name] = evaluation.accuracy_summary(truth, told.predictions)
        error = evaluation.expected_calibration_error(told.confidence, told.correct)
        found["calibration"][name] = error
        accepted = np.array([not rule.reason(row) for row in told.logits])
        found[f"accepted_{name}"] = evaluation.acceptance_summary(accepted, told.correct)

    scale = ink.CANVAS / data.TABLET
    pen = [[scale * stroke for stroke in digit.strokes] for digit in data.load_pen_digits("tes")]
    drawings = non_digits.drawings(NON_DIGITS_EACH, seed=1)
    drawings["two digits as one"] = non_digits.side_by_side(pen, NON_DIGITS_EACH, seed=1)
    refused = {
        kind: [not recognizer.predict_strokes(strokes).accepted for strokes in some]
        for kind, some in drawings.items()
    }
    for kind, some in non_digits.characters(NON_DIGITS_EACH, seed=1).items():
        refused[kind] = [not recognizer.predict_image(image).accepted for image in some]
    kinds = {"all": refused, "never shown": non_digits.NEVER_SHOWN}
    found["not_accepted"] = {
        name: evaluation.proportion(*np.sum([(sum(refused[k]), len(refused[k])) for k in some], 0))
        for name, some in kinds.items()
    }
    return found


def repeat_with_seeds(options: argparse.Namespace) -> None:
    """The recipe with each seed; then all networks asked together, and one that learns from all."""
    config = training.TrainingConfig(epochs=options.epochs)
    recipe = {
        "architecture": "compact",
        "split": {**SPLIT, "train_size": len(images()["train"][0])},
        "training": {key: value for key, value in asdict(config).items() if key != "seed"},
        "augmentation": asdict(Augmentation()),
        "limits": LIMITS,
    }
    result = {"recipe": recipe, "runs": {}} | read_json(options.output) | MADE_WITH
    if result["recipe"] != recipe:
        raise SystemExit(f"{options.output.name} is of another recipe: give another --output.")
    for seed in map(str, options.seeds):
        if seed in result["runs"]:
            continue
        training.set_seed(int(seed))
        model = networks.build("compact")
        seconds = fit(model, replace(config, seed=int(seed)))
        networks.save(model, options.models / f"{seed}.keras")
        result["runs"][seed] = {"seconds": seconds, **examine(model)}
        result["summary"] = summary(result["runs"])
        write_json(options.output, json.loads(json.dumps(result, default=float)))

    nets = {path.stem: networks.load(path) for path in sorted(options.models.glob("*.keras"))}
    result["ensemble"] = {"n": len(nets)}
    for name, (some, truth) in exams().items():
        sure = sum(net.predict(some, batch_size=1000, verbose=0) for net in nets.values())
        result["ensemble"][name] = evaluation.accuracy_summary(truth, sure.argmax(1))
    image = keras.Input(networks.INPUT_SHAPE)
    logits = [
        keras.Model(net.inputs, net.get_layer("logits").output, name=f"network_{seed}")(image)
        for seed, net in nets.items()
    ]
    teacher = keras.Model(image, keras.layers.Average(name="logits")(logits))
    first = next(iter(nets))
    student = networks.load(options.models / f"{first}.keras")
    gently = training.TrainingConfig(epochs=2, learning_rate=1e-3, gentle=1.0)
    training.set_seed(gently.seed)
    seconds = fit(student, gently, **training.distillation(teacher))
    result["distilled"] = {"epochs": gently.epochs, "first": first, "seconds": seconds}
    result["distilled"] |= examine(student)
    write_json(options.output, json.loads(json.dumps(result, default=float)))
    print(pd.DataFrame(result["summary"]).T.to_string())


def summary(runs: dict[str, dict]) -> dict:
    """Mean, standard deviation, least and most over the seeds, of what the targets speak of."""
    rows = [
        {
            "validation accuracy": one["validation"]["accuracy"],
            "MNIST test accuracy": one["mnist"]["accuracy"],
            "pen accuracy": one["pen"]["accuracy"],
            "calibration error, MNIST": one["calibration"]["mnist"],
            "calibration error, pen": one["calibration"]["pen"],
            "pen digits accepted": one["accepted_pen"]["answered"]["share"],
            "of those right": one["accepted_pen"]["right"]["share"],
            "non-digits not accepted": one["not_accepted"]["all"]["share"],
            "of kinds never shown": one["not_accepted"]["never shown"]["share"],
            "seconds of training": one.get("seconds"),
        }
        for one in runs.values()
    ]
    table = pd.DataFrame(rows).agg(["mean", "std", "min", "max", "count"])
    return json.loads(table.rename(index={"count": "n"}).to_json(double_precision=15))


def teach(options: argparse.Namespace) -> None:
    """One student of the published network, as float32 and as int8."""
    name = f"{options.network}{options.width or ''}"
    (x, labels), (held_out, truth) = images().values()
    teacher_path = files.REFERENCE / "models" / "model.keras"
    teacher = training.distillation(networks.load(teacher_path))
    config = training.TrainingConfig(
        epochs=options.epochs, learning_rate=6e-3, gentle=0.5, patience=options.epochs
    )
    training.set_seed(config.seed)
    student = networks.build(options.network, **({"width": options.width} if options.width else {}))
    seconds = fit(student, config, **teacher)
    networks.save(student, options.models / f"{name}.keras")

    exported = {
        kind: compression.export_litert(
            student, options.models / f"{name}_{kind}.tflite", kind, x[:500]
        )
        for kind in ("float32", "int8")
    }
    right = [
        int((compression.litert_logits(path, held_out).argmax(1) == truth).sum())
        for path in exported.values()
    ]
    if finetuned := right[0] - right[1] > 0.0005 * len(truth):
        y, validation = data.one_hot(labels), (held_out, data.one_hot(truth))
        gently = training.TrainingConfig(epochs=2, learning_rate=3e-4, gentle=1.0)
        others = ablation.non_digits(x, y, gently.seed)
        training.set_seed(gently.seed)
        better = compression.quantization_aware_finetune(
            student, x, y, validation, gently, Augmentation(), non_digits=others, **teacher
        )
        compression.export_litert(better, exported["int8"], "int8", x[:500])
    for path in exported.values():
        rule = Calibration.fit(compression.litert_logits(path, held_out), truth, **LIMITS)
        rule.write(path.with_name(f"{path.stem}.calibration.json"))
    pen = ablation.development_digits(count=10**9, seed=1)
    sets = {"validation": (held_out, truth), "pen": pen}
    sets |= {"test": exams()["mnist"], "pen_test": exams()["pen"]}
    table = compression.measure_files(exported, sets, runs=2_000)
    odd, _ = non_digits.generate(1_000, np.random.default_rng([1, 2]), held_out, truth)
    table["refused"] = [compression.refusals(path, odd) / 1_000 for path in exported.values()]
    row = {
        "network": options.network,
        **networks.size(student),
        "training": asdict(config),
        "seconds": seconds,
        "finetuned": finetuned,
        "teacher_sha256": files.sha256(teacher_path),
        "files": table.to_dict("index"),
        **MADE_WITH,
    }
    found = read_json(options.output)
    found["students"] = found.get("students", {}) | {name: row}
    write_json(options.output, json.loads(json.dumps(found, default=float)))
    print(table.T.to_string())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m digits.training.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--output", type=Path, help="the results as JSON; default: the committed file"
    )
    parser.add_argument("--models", type=Path, default=files.OUTPUTS / "study", help="their folder")
    studies = parser.add_subparsers(dest="study", required=True)
    epochs = {"ablation": 12, "architectures": 12, "search": 4, "seeds": 20, "students": 40}
    for name, passes in epochs.items():
        one = studies.add_parser(name)
        one.add_argument("--epochs", type=int, default=passes)
        if name == "students":
            one.add_argument("network", choices=networks.NAMES)
            one.add_argument("--width", type=int, help="default: the network's own")
        elif name == "search":
            one.add_argument("--trials", type=int, default=40, help="and as many drawn by chance")
        else:
            one.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
        if name in ("ablation", "architectures", "search"):
            one.add_argument("--train-size", type=int, default=55_000)
        if name == "ablation":
            one.add_argument("--network", default="compact_small", choices=networks.NAMES)
    options = parser.parse_args(arguments)
    options.output = options.output or (files.SEEDS if options.study == "seeds" else files.STUDY)
    return options


def main() -> None:
    """Train what is missing, write after each training, print the results."""
    options = parse()
    options.models.mkdir(parents=True, exist_ok=True)
    run = {"search": find_settings, "seeds": repeat_with_seeds, "students": teach}
    run.get(options.study, compare)(options)


if __name__ == "__main__":
    main()

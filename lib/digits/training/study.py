"""Networks trained side by side, one recipe taken apart, and the long studies that are committed.

    python -m digits.training.study parts      what is each part of the recipe worth, at length?
    python -m digits.training.study search     which settings do TPE and chance find?
    python -m digits.training.study seeds      the recipe with other seeds, alone and together

Each needs MNIST, the pen digits and hours. Validation images and pen digits of the development
writers choose; only ``seeds`` meets the test sets, once for each network. What is finished is kept,
so that an interrupted study goes on.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from digits import data, evaluation, files
from digits.data import non_digits
from digits.data.augmentation import Augmentation
from digits.recognizer import Calibration, LiteRTModel, Recognizer, ink
from digits.training import compression, keras, networks, search, tf
from digits.training import fit as training

Sets = Mapping[str, tuple[np.ndarray, np.ndarray]]  # images (n, 28, 28, 1) and labels (n,) by name
EVERYTHING, NO_AUGMENTATION = "the whole recipe", "no augmentation at all"
SPLIT = {"validation_size": 5_000, "seed": 1}  # this and the limits as the notebooks have them
LIMITS = {"risk": 0.0015, "refused": 0.003, "coverage": 0.999}
NON_DIGITS_EACH = 100  # drawings of each kind
MADE_WITH = {"tensorflow": tf.__version__, "system": platform.platform()}


def development_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``pen_images`` of ``count`` digits, drawn by chance, of the 30 development writers' 7,494.

    They choose between networks and train none; test writers are others. Else DataMissing.
    """
    digits = data.load_pen_digits("tra")
    chosen = np.random.default_rng(seed).permutation(len(digits))[:count]
    return pen_images([digits[i] for i in chosen])


def pen_images(digits: Iterable[data.PenDigit]) -> tuple[np.ndarray, np.ndarray]:
    """Pen digits as the app would see them: images (n, 28, 28, 1) in [0, 1] and labels (n,)."""
    images, labels = [], []
    for digit in digits:
        strokes = [stroke * (ink.CANVAS / data.TABLET) for stroke in digit.strokes]
        images.append(ink.strokes_to_image(strokes, ink.CANVAS))
        labels.append(digit.label)
    return np.stack(images)[..., None].astype(np.float32), np.array(labels)


def score(model: keras.Model, sets: Sets) -> dict:
    """``validation_accuracy``, ``_errors``, ``_n``, ``_interval``, and so for each set."""
    found: dict = {}
    for name, (images, labels) in sets.items():
        predicted = model.predict(images, batch_size=1000, verbose=0).argmax(1)
        summary = evaluation.accuracy_summary(labels, predicted)
        found |= {f"{name}_{key}": value for key, value in summary.items()}
    return found


def non_digits_for(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """What a network is shown besides ``x`` to learn to refuse, made from it: (m, 28, 28, 1)."""
    rng = np.random.default_rng(seed)
    return non_digits.generate(int(training.NON_DIGITS * len(x)), rng, x, y.argmax(1))[0]


@dataclass(frozen=True)
class Condition:
    """One way to train."""

    config: training.TrainingConfig
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    non_digits: bool = True  # shown to be refused
    smoothing: float = 0.0  # share of a label that goes to all ten alike (Szegedy et al. 2016)
    options: Mapping = field(default_factory=dict)  # of ``networks.build``


def conditions(config: training.TrainingConfig) -> dict[str, Condition]:
    """The recipe, and the recipe with one thing changed."""
    whole, mixture = Condition(config), Augmentation()
    found = {EVERYTHING: whole, NO_AUGMENTATION: replace(whole, augmentation=None)}
    for part in vars(mixture):
        less = replace(mixture, **{part: 0.0})
        found[f"no {part.replace('_', ' ')}"] = replace(whole, augmentation=less)
    return found | {
        "no warm-up": replace(whole, config=replace(config, warmup=0.0)),
        "constant learning rate": replace(whole, config=replace(config, decay=False)),
        "no weight decay": replace(whole, config=replace(config, weight_decay=0.0)),
        "no dropout": replace(whole, options={"dropout": 0.0}),
        "no non-digits": replace(whole, non_digits=False),
        "labels smoothed by 0.1": replace(whole, smoothing=0.1),
    }


def train(
    network: str, x: np.ndarray, y: np.ndarray, sets: Sets, condition: Condition, title: str = ""
) -> tuple[keras.Model, dict]:
    """A network trained from scratch, and ``parameters``, ``macs``, ``seconds`` and its ``score``.

    The first of ``sets`` is the validation data. All that is random follows the condition's seed.
    """
    seed = condition.config.seed
    training.begin(seed)
    others = non_digits_for(x, y, seed) if condition.non_digits else None
    images, labels = next(iter(sets.values()))
    targets = y * (1 - condition.smoothing) + condition.smoothing / y.shape[1]
    model = networks.build(network, **condition.options)
    started = time.perf_counter()
    training.fit(
        model,
        x,
        targets.astype(np.float32),
        (images, data.one_hot(labels)),
        condition.config,
        condition.augmentation,
        non_digits=others,
        title=title,
    )
    seconds = time.perf_counter() - started
    return model, {**networks.size(model), "seconds": seconds, **score(model, sets)}


def repeat(
    jobs: Mapping[str, tuple[str, Condition]],
    seeds: Iterable[int],
    x: np.ndarray,
    y: np.ndarray,
    sets: Sets,
    kept: Path | None = None,
) -> pd.DataFrame:
    """Train every job, a network and a condition by name, once with each seed: a row each.

    ``kept`` is a JSON file that is written after every training; what it holds already is not
    trained again, so that a long study can be interrupted.
    """
    done = files.read_json(kept).get("runs", []) if kept else []
    there = {(row["name"], row["seed"]) for row in done}
    for seed in seeds:
        for name, (network, condition) in jobs.items():
            if (name, seed) not in there:
                seeded = replace(condition, config=replace(condition.config, seed=seed))
                row = {"name": name, "seed": seed, **train(network, x, y, sets, seeded, name)[1]}
                done.append(json.loads(json.dumps(row)))  # intervals become lists, as in the file
                if kept:
                    files.write_json(kept, files.read_json(kept) | {"runs": done})
    return pd.DataFrame(done)


def effects(runs: pd.DataFrame, kind: str, baseline: str = EVERYTHING) -> pd.DataFrame:
    """What each change does to the accuracy on one set, in points, paired by the seed.

    runs: of ``repeat``; kind: the set's name. One row a change: ``points`` (mean over its seeds),
    ``low`` and ``high`` (95% interval), ``seeds``. The interval is Student's, with one standard
    deviation pooled over all changes: two or three seeds say little about their own spread. With
    single seeds the interval says what counting errors on n images leaves open.
    """
    table = runs.pivot(index="seed", columns="name", values=f"{kind}_accuracy")
    table = table[list(dict.fromkeys(runs["name"]))]
    gains = 100 * table.sub(table[baseline], axis=0).drop(columns=baseline)
    n = gains.count()
    freedom = int((n - 1).sum())
    if freedom:
        deviation = np.sqrt(((n - 1) * gains.var(ddof=1)).sum() / freedom)
        width = stats.t.ppf(0.975, freedom) * deviation / np.sqrt(n)
    else:
        errors = runs.set_index("name")[f"{kind}_errors"]
        both = (errors.drop(baseline) + errors[baseline]).clip(lower=1)
        width = 196 * np.sqrt(both) / runs[f"{kind}_n"].iloc[0]
    means = gains.mean()
    table = pd.DataFrame({"points": means, "low": means - width, "high": means + width, "seeds": n})
    return table.rename_axis("change")


# --- The long studies ----------------------------------------------------------------------------


@cache
def images() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """MNIST's training images: x and y (one-hot) to train on, and the validation data."""
    digits = data.load("mnist")
    train, held_out = data.split(digits.y_train, **SPLIT)
    x, y = digits.x_train, data.one_hot(digits.y_train)
    return x[train], y[train], (x[held_out], y[held_out])


def validation_sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What may choose between networks, with labels (n,)."""
    held_out, truth = images()[2]
    pen = development_digits(count=10**9, seed=1)
    return {"validation": (held_out, truth.argmax(1)), "pen": pen}


@cache
def exams() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What no choice may look at: MNIST's test images and the pen digits of the test writers."""
    digits = data.load("mnist")
    pen = pen_images(data.load_pen_digits("tes"))
    return {"mnist": (digits.x_test, digits.y_test), "pen": pen}


def keep(path: Path, result: dict) -> None:
    """Write ``result`` beside what the file holds already."""
    files.write_json(path, json.loads(json.dumps(files.read_json(path) | result, default=float)))


def described(config: training.TrainingConfig, known: dict, path: Path) -> dict:
    """The whole recipe but for its seed; SystemExit when what ``path`` holds is of another one."""
    x = images()[0]
    recipe = {
        "architecture": "compact",
        "split": {**SPLIT, "train_size": len(x)},
        "training": {key: value for key, value in asdict(config).items() if key != "seed"},
        "augmentation": asdict(Augmentation()),
        "limits": LIMITS,
        "parameters": networks.build("compact").count_params(),  # tells the width
        "non_digits": int(training.NON_DIGITS * len(x)),
    }
    if known.get("recipe", recipe) != recipe:
        raise SystemExit(f"{path.name} is of another recipe: give another --output.")
    return recipe


def price(options: argparse.Namespace) -> None:
    """The recipe, and the recipe with one part changed, at full length."""
    config = training.TrainingConfig(epochs=options.epochs)
    chosen = {EVERYTHING, *(options.only or conditions(config))}
    jobs = {name: ("compact", one) for name, one in conditions(config).items() if name in chosen}
    if chosen - set(jobs):
        raise SystemExit(f"--only takes some of: {', '.join(conditions(config))}.")
    kept = options.output.with_suffix(".parts.json")  # while it is under way
    begun = files.read_json(kept) or files.read_json(options.output).get("parts", {})
    recipe = described(config, begun, kept if kept.exists() else options.output)
    keep(kept, begun | {"recipe": recipe})
    x, y, _ = images()
    runs = repeat(jobs, options.seeds, x, y, validation_sets(), kept)
    keep(options.output, {"parts": files.read_json(kept) | MADE_WITH})
    kept.unlink()
    shown = runs.groupby("name", sort=False)[["validation_accuracy", "pen_accuracy", "seconds"]]
    print(shown.agg(["mean", "std"]).to_string())


def find_settings(options: argparse.Namespace) -> None:
    """Trials by TPE, by chance and on a grid, in the database beside the output."""
    x, y, validation = images()
    budget = {name: getattr(options, name) for name in ("train_size", "epochs")}
    plan = search.Plan(**budget, seed=1, data=search.fingerprint(x, y, *validation))
    score = search.training_score(plan, x, y, validation)
    usual = {name: getattr(training.TrainingConfig(), name) for name in search.TUNED}
    usual |= {"dropout": 0.2, "width": 40, "augmentation": 1.0}  # the published network's
    result = {"budget": budget | {"trials": options.trials}, "baseline": usual | score(usual, None)}
    keep(options.output, {"search": result | MADE_WITH})
    chance, grid = (replace(plan, sampler=kind, prune=False) for kind in ("random", "grid"))
    grid = replace(grid, batch_size=(128,), dropout=(0.2, 0.2), weight_decay=(0.01, 0.01))
    grid = replace(grid, width=(40, 40, 8))  # learning rate and augmentation are left
    for part in (plan, chance, grid):
        study = search.open_study(f"sqlite:///{options.output.with_suffix('.sqlite3')}", part)
        search.run(study, part, score, options.trials)
        print(search.table(study)[["trial", "state", "accuracy", "seconds"]].to_string())


# --- Networks that meet the test sets -------------------------------------------------------------


def fit(model: keras.Model, config: training.TrainingConfig, **options) -> float:
    """Train ``model`` on all training images by the whole recipe; the seconds that it took."""
    x, y, validation = images()
    options["non_digits"] = non_digits_for(x, y, config.seed)
    history = training.fit(model, x, y, validation, config, Augmentation(), **options)
    return float(history["seconds"].sum())


def examine(model: keras.Model) -> dict:
    """Calibrate a network on the validation images, export it, and score the file on the exams."""
    held_out, labels = validation_sets()["validation"]
    logits = networks.logits_model(model).predict(held_out, batch_size=1000, verbose=0)
    rule = Calibration.fit(logits, labels, **LIMITS)
    with tempfile.TemporaryDirectory() as folder:
        path = compression.export_litert(model, Path(folder) / "float32.tflite")
        recognizer = Recognizer(LiteRTModel(path), rule)
    found: dict = {"validation": evaluation.accuracy_summary(labels, logits.argmax(1))}
    found["calibration"] = {}
    for name, (some, truth) in exams().items():
        told = evaluation.Predictions(truth, recognizer.model.logits(some), rule.temperature)
        accepted = np.array([not rule.reason(row) for row in told.logits])
        found[name] = evaluation.accuracy_summary(truth, told.predictions)
        error = evaluation.expected_calibration_error(told.confidence, told.correct)
        found["calibration"][name] = error
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
    found["not_accepted"] = {}
    for name, kinds in {"all": refused, "never shown": non_digits.NEVER_SHOWN}.items():
        every = [one for kind in kinds for one in refused[kind]]
        found["not_accepted"][name] = evaluation.proportion(sum(every), len(every))
    return found


def repeat_with_seeds(options: argparse.Namespace) -> None:
    """The recipe with each seed; then all networks asked together, and one that learns from all."""
    config = training.TrainingConfig(epochs=options.epochs)
    known = files.read_json(options.output)
    recipe = described(config, known, options.output)
    runs = known.get("runs", {})
    for seed in options.seeds:
        if str(seed) not in runs:
            training.set_seed(seed)
            model = networks.build("compact")
            seconds = fit(model, replace(config, seed=seed))
            networks.save(model, options.models / f"{seed}.keras")
            runs[str(seed)] = {"seconds": seconds, **examine(model)}
            keep(options.output, {"recipe": recipe, "runs": runs, "summary": summary(runs)})

    nets = {path.stem: networks.load(path) for path in sorted(options.models.glob("[0-9]*.keras"))}
    together: dict = {"n": len(nets)}
    for name, (some, truth) in exams().items():
        sure = np.sum([net.predict(some, batch_size=1000, verbose=0) for net in nets.values()], 0)
        together[name] = evaluation.accuracy_summary(truth, sure.argmax(1))
    image = keras.Input(networks.INPUT_SHAPE)
    logits = [
        keras.Model(net.inputs, net.get_layer("logits").output, name=f"network_{seed}")(image)
        for seed, net in nets.items()
    ]
    teacher = keras.Model(image, keras.layers.Average(name="logits")(logits))
    first = next(iter(nets))
    student = networks.load(options.models / f"{first}.keras")
    course = training.TrainingConfig(epochs=2, learning_rate=1e-3)
    training.set_seed(course.seed)
    seconds = fit(student, course, **training.distillation(teacher))
    distilled = {"epochs": course.epochs, "first": first, "seconds": seconds, **examine(student)}
    keep(options.output, {"ensemble": together, "distilled": distilled, **MADE_WITH})
    print(pd.DataFrame(summary(runs)).T.to_string())


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


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m digits.training.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, help="results as JSON (default: the committed file)")
    parser.add_argument("--models", type=Path, default=files.OUTPUTS / "study", help="their folder")
    studies = parser.add_subparsers(dest="study", required=True)
    for name, passes in {"parts": 30, "search": 4, "seeds": 30}.items():
        one = studies.add_parser(name)
        one.add_argument("--epochs", type=int, default=passes)
        if name != "search":
            one.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
        if name == "parts":
            one.add_argument("--only", nargs="+", metavar="PART", help="these (default: every one)")
        if name == "search":
            one.add_argument("--train-size", type=int, default=55_000)
            one.add_argument("--trials", type=int, default=40, help="and as many drawn by chance")
    options = parser.parse_args(arguments)
    options.output = options.output or (files.SEEDS if options.study == "seeds" else files.STUDY)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, write after each training, print the results."""
    options = parse(arguments)
    options.models.mkdir(parents=True, exist_ok=True)
    {"parts": price, "search": find_settings, "seeds": repeat_with_seeds}[options.study](options)


if __name__ == "__main__":
    main()

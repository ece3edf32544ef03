"""Networks trained side by side, and one recipe taken apart: what each of its parts is worth."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from digits import data, evaluation
from digits.data.augmentation import Augmentation
from digits.data.non_digits import generate
from digits.files import read_json, write_json
from digits.recognizer import ink
from digits.training import fit as training
from digits.training import keras, networks

Sets = Mapping[str, tuple[np.ndarray, np.ndarray]]  # images (n, 28, 28, 1) and labels (n,) by name
EVERYTHING, NO_AUGMENTATION = "the whole recipe", "no augmentation at all"


def development_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``pen_images`` of ``count`` digits, drawn by chance, of the 30 development writers' 7,494.

    They choose between networks and train none; the test writers are others. DataMissing when they
    cannot be had.
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


def non_digits(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """What a network is shown besides ``x`` to learn to refuse, made from it: (m, 28, 28, 1)."""
    rng = np.random.default_rng(seed)
    return generate(int(training.NON_DIGITS * len(x)), rng, x, y.argmax(1))[0]


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
        "no gentle end": replace(whole, config=replace(config, gentle=0.0)),
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

    The first of ``sets`` is the validation data that stops the training. Everything random follows
    the condition's seed.
    """
    seed = condition.config.seed
    training.begin(seed)
    others = non_digits(x, y, seed) if condition.non_digits else None
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
    done = read_json(kept).get("runs", []) if kept else []
    there = {(row["name"], row["seed"]) for row in done}
    for seed in seeds:
        for name, (network, condition) in jobs.items():
            if (name, seed) not in there:
                seeded = replace(condition, config=replace(condition.config, seed=seed))
                row = {"name": name, "seed": seed, **train(network, x, y, sets, seeded, name)[1]}
                done.append(json.loads(json.dumps(row)))  # intervals become lists, as in the file
                if kept:
                    write_json(kept, read_json(kept) | {"runs": done})
    return pd.DataFrame(done)


def effects(runs: pd.DataFrame, kind: str, baseline: str = EVERYTHING) -> pd.DataFrame:
    """What each change does to the accuracy on one set, in points, paired by the seed.

    runs: of ``repeat``; kind: the set's name. One row a change: ``points`` (mean over the seeds),
    ``low`` and ``high`` (95% interval), ``seeds``. The interval is Student's, with one standard
    deviation pooled over all changes: two or three seeds say little about their own spread. With a
    single seed the interval says what counting errors on n images leaves open.
    """
    table = runs.pivot(index="seed", columns="name", values=f"{kind}_accuracy")
    table = table[list(dict.fromkeys(runs["name"]))]
    gains = 100 * table.sub(table[baseline], axis=0).drop(columns=baseline)
    n = len(gains)
    if n > 1:
        deviation = np.sqrt(gains.var(ddof=1).mean() / n)
        width = stats.t.ppf(0.975, gains.shape[1] * (n - 1)) * deviation
    else:
        errors = runs.set_index("name")[f"{kind}_errors"]
        both = (errors.drop(baseline) + errors[baseline]).clip(lower=1)
        width = 196 * np.sqrt(both) / runs[f"{kind}_n"].iloc[0]
    means = gains.mean()
    table = pd.DataFrame({"points": means, "low": means - width, "high": means + width, "seeds": n})
    return table.rename_axis("change")


def verdict(table: pd.DataFrame) -> str:
    """``effects`` in words: which changes moved the accuracy by more than their intervals."""
    harms, helps = table.index[table["high"] < 0], table.index[table["low"] > 0]
    named = [f" ({', '.join(some)})" if len(some) else "" for some in (harms, helps)]
    return (
        f"of {len(table)} changes, {len(harms)} cost accuracy{named[0]} and "
        f"{len(helps)} gained{named[1]}"
    )


def pareto(table: pd.DataFrame, cost: str, gain: str) -> list:
    """The rows that no other beats, by cheapness and then by gain; their index."""
    ordered = table.sort_values([cost, gain], ascending=[True, False], kind="stable")
    best_so_far = ordered[gain].cummax().shift().fillna(-np.inf)
    return list(ordered.index[ordered[gain] > best_so_far])

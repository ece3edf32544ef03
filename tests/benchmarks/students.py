"""Small networks with a patient teacher: how far do few weights come when they may learn as long as they like?

    DIGITS_DATA=FOLDER python tests/benchmarks/students.py tiny --width 9 --models FOLDER --output outputs/study.json

What 04_optimization has no time for. One student a call, so that several can learn side by side: each learns from the
published network's answers to all training images, is exported as float32 and as int8 (which learns with the rounding in
view where plain int8 costs it more than the chapter allows), gets limits of its own, and is then scored once on the test
sets. The epoch is chosen by validation accuracy, as in ``training.fit``. The network and its files stay in ``--models``.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import seeds

from digits import data
from digits import files as paths
from digits.data.augmentation import Augmentation
from digits.data.non_digits import generate
from digits.files import read_json, sha256, write_json
from digits.recognizer import Calibration
from digits.run import comparison
from digits.training import ablation as experiments
from digits.training import compression as compress
from digits.training import distillation as distil
from digits.training import fit as training
from digits.training import networks as models
from digits.training import quantize
from digits.training.backend import keras, tf

ROUNDING, CALIBRATION_IMAGES, LATENCY_RUNS = 0.0005, 500, 2_000  # as in 04_optimization


class Say(keras.callbacks.Callback):
    """A line an epoch, for a log."""

    def on_epoch_end(self, epoch, logs=None):
        print(f"  epoch {epoch + 1}: validation accuracy {logs['val_accuracy']:.2%}", flush=True)


def main() -> None:
    """Train, export, score, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=models.NAMES)
    parser.add_argument("--width", type=int, help="default: the network's own")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=6e-3)
    parser.add_argument(
        "--gentle",
        type=float,
        default=0.5,
        help="last share of the epochs with images changed half as much",
    )
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--models", type=Path, required=True, help="a folder that keeps the network and its files"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the figures as JSON; other students' are left as they are",
    )
    options = parser.parse_args()
    options.models.mkdir(parents=True, exist_ok=True)
    name = f"{options.network}{options.width or ''}"

    mnist = data.load("mnist")
    (x, labels), (judged, truth) = seeds.images().values()
    y, validation = data.one_hot(labels), (judged, data.one_hot(truth))
    strange = experiments.non_digits(x, y, options.seed)
    teacher_path = paths.REFERENCE / "models" / "model.keras"
    lesson = distil.lesson(models.load(teacher_path), options.temperature)
    config = training.TrainingConfig(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        gentle=options.gentle,
        seed=options.seed,
        patience=options.epochs,
    )
    training.set_seed(options.seed)
    student = models.build(options.network, **({"width": options.width} if options.width else {}))
    kept = options.models / f"{name}.keras"
    seconds = None
    if kept.exists():
        student = models.load(kept)
    else:
        history = training.fit(
            student,
            x,
            y,
            validation,
            config,
            Augmentation(),
            non_digits=strange,
            callbacks=[Say()],
            **lesson,
        )
        seconds = float(history["seconds"].sum())
        models.save(student, kept)

    files = {
        "float32": compress.export_litert(student, options.models / f"{name}.tflite"),
        "int8": compress.export_litert(
            student, options.models / f"{name}_int8.tflite", "int8", x[:CALIBRATION_IMAGES]
        ),
    }
    right = [
        int((compress.litert_logits(path, judged).argmax(1) == truth).sum())
        for path in files.values()
    ]
    if mended := right[0] - right[1] > ROUNDING * len(truth):
        training.set_seed(options.seed)
        gently = training.TrainingConfig(
            epochs=2, learning_rate=3e-4, gentle=1.0, seed=options.seed
        )
        better = quantize.mend(
            student, x, y, validation, gently, Augmentation(), non_digits=strange, **lesson
        )
        compress.export_litert(better, files["int8"], "int8", x[:CALIBRATION_IMAGES])
    odd, _ = generate(1_000, np.random.default_rng([options.seed, 2]), judged, truth)  # as in 04
    for path in files.values():
        limits = Calibration.fit(compress.litert_logits(path, judged), truth, **seeds.LIMITS)
        limits.write(path.with_name(f"{path.stem}.calibration.json"))
    sets = {
        "validation": (judged, truth),
        "pen": experiments.development_digits(count=10**9, seed=1),
        "test": (mnist.x_test, mnist.y_test),
        "pen_test": experiments.pen_images(data.load_pen_digits("tes")),
    }
    table = compress.measure_files(files, sets, LATENCY_RUNS)
    table["refused"] = [compress.refusals(path, odd) / len(odd) for path in files.values()]
    row = {
        "network": options.network,
        **models.size(student),
        "training": asdict(config),
        "seconds": seconds,
        "temperature": options.temperature,
        "mended": mended,
        "teacher_sha256": sha256(teacher_path),
        "files": table.to_dict("index"),
        "code": comparison.code(),
        "machine": comparison.machine(),
        "tensorflow": tf.__version__,
    }
    found = read_json(options.output)
    write_json(
        options.output,
        found
        | {
            "students": found.get("students", {})
            | {name: json.loads(json.dumps(row, default=float))}
        },
    )
    print(f"{name}: {row['parameters']:,} parameters, {row['multiplies']:,} multiplies")
    print(
        table.drop(
            columns=[column for column in table if column.endswith(("interval", "_n"))]
        ).T.to_string()
    )


if __name__ == "__main__":
    main()

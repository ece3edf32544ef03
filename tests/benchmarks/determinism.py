"""What determinism costs, and what it buys: the same short training with TensorFlow's deterministic kernels and without.

    DIGITS_DATA=FOLDER python tests/benchmarks/determinism.py [--steps 300] [--rounds 3] [--output FILE.json]

Each training has a process of its own, since a process cannot go back; the two kinds take turns, so that a machine that
becomes slower is unfair to neither. A round compares the bits of the weights with those of the first round of its kind.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from digits import data
from digits.data.augmentation import Augmentation
from digits.run import comparison
from digits.training import fit as training
from digits.training import keras
from digits.training import networks as models

KINDS = ("deterministic", "free")
WARMUP = 20  # steps before the clock starts: tracing, caches


class Clock(keras.callbacks.Callback):
    """Seconds from the end of step ``WARMUP`` to the end of the last one."""

    def __init__(self):
        super().__init__()
        self.step, self.started, self.seconds = 0, 0.0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step == WARMUP:
            self.started = time.perf_counter()
        self.seconds = time.perf_counter() - self.started  # of the last step it is what counts


def train(kind: str, steps: int) -> dict:
    """One epoch of ``steps`` steps as in 02_training; its seconds and the SHA-256 of its weights."""
    if kind == "deterministic":
        training.set_seed(1)
    else:
        keras.utils.set_random_seed(1)
    config = training.TrainingConfig(epochs=1)
    mnist = data.load("mnist")
    some = slice(0, (steps + WARMUP) * config.batch_size)
    x, y = mnist.x_train[some], data.one_hot(mnist.y_train[some])
    model, clock = models.build("compact"), Clock()
    training.fit(model, x, y, (x[:1000], y[:1000]), config, Augmentation(), callbacks=[clock])
    digest = hashlib.sha256(
        b"".join(weights.tobytes() for weights in model.get_weights())
    ).hexdigest()
    return {"seconds": clock.seconds, "sha256": digest}


def main() -> None:
    """Take turns, print seconds for a step of both kinds, their ratio, and whether the bits were the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--rounds", type=int, default=3, help="at least two, or there are no bits to compare"
    )
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds is at least 2")
    if options.one:
        print(json.dumps(train(options.one, options.steps)))
        return
    found: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind, "--steps", str(options.steps)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[kind].append(json.loads(told.splitlines()[-1]))
            print(f"{kind}: {found[kind][-1]['seconds']:.1f} s", flush=True)
    per_step = {
        kind: [1000 * one["seconds"] / options.steps for one in some]
        for kind, some in found.items()
    }
    for kind, some in found.items():
        bits = "the same bits" if len({one["sha256"] for one in some}) == 1 else "other bits"
        print(
            f"{kind:14s} {statistics.median(per_step[kind]):.1f} ms a step ({min(per_step[kind]):.1f} to "
            f"{max(per_step[kind]):.1f}, {options.rounds} rounds of {options.steps} steps): {bits}"
        )
    print(
        f"ratio of the medians {statistics.median(per_step[KINDS[0]]) / statistics.median(per_step[KINDS[1]]):.3f}"
    )
    if options.output:
        content = {"steps": options.steps, "machine": comparison.machine(), "runs": found}
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

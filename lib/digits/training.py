"""Fit a network: seeds, batches, schedule, callbacks, history."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from digits.augment import Augmentation, augment
from digits.backend import keras, tf
from digits.show import progress


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained. Every value is recorded with the run."""

    epochs: int = 24  # upper limit; the schedule is laid out over it
    batch_size: int = 128  # small enough for many steps, large enough to keep two cores in arithmetic
    learning_rate: float = 3e-3  # the peak of the one-cycle schedule
    warmup: float = 0.15  # fraction of all steps until the peak
    weight_decay: float = 1e-2  # decoupled from the gradient (Loshchilov and Hutter 2019)
    label_smoothing: float = 0.0  # fraction of a label spread over all classes
    patience: int = 8  # epochs without a better validation loss before EarlyStopping ends the training
    seed: int = 1  # weights, order, augmentation, dropout


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow and ask for deterministic kernels: the same machine gives the same bits."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def schedule(config: TrainingConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cycle (Smith 2018) over ``steps`` steps: linear warm-up, then a cosine down to a hundredth of the peak."""
    warmup = int(config.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 10, max(steps - warmup, 1), alpha=0.01,
        warmup_target=config.learning_rate, warmup_steps=warmup)


def compile_model(model: keras.Model, config: TrainingConfig, steps: int) -> None:
    """Adam with decoupled weight decay and categorical cross-entropy; ``steps``: of the whole training."""
    model.compile(
        optimizer=keras.optimizers.Adam(schedule(config, steps), weight_decay=config.weight_decay or None),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"])


def batches(x: np.ndarray, y: np.ndarray, config: TrainingConfig, augmentation: Augmentation | None,
            ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented batches of images (b, 28, 28, 1) and one-hot labels (b, 10), epoch after epoch without end.

    Each epoch has its own generator made from (seed, epoch), so nothing depends on threads or on what ran before.
    The last, smaller batch of an epoch is left out.
    """
    epoch = 0
    while True:
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(len(x))
        for start in range(0, len(x) - config.batch_size + 1, config.batch_size):
            chosen = order[start:start + config.batch_size]
            images, labels = x[chosen], y[chosen]
            yield (augment(images, rng, augmentation, labels.argmax(1)) if augmentation else images), labels
        epoch += 1


def as_dataset(x: np.ndarray, y: np.ndarray, config: TrainingConfig, augmentation: Augmentation | None
               ) -> tf.data.Dataset:
    """``batches`` prepared ahead in one background thread while the network computes."""
    size = config.batch_size
    shapes = tf.TensorSpec((size, *x.shape[1:]), tf.float32), tf.TensorSpec((size, 10), tf.float32)
    stream = tf.data.Dataset.from_generator(lambda: batches(x, y, config, augmentation), output_signature=shapes)
    return stream.prefetch(8)


class _Recorder(keras.callbacks.Callback):
    """Keeps the learning rate and seconds of each epoch and shows one updating line."""

    def __init__(self, name: str, epochs: int, steps: int):
        super().__init__()
        self.name, self.epochs, self.steps = name, epochs, steps
        self.rates: list[float] = []
        self.seconds: list[float] = []
        self.best = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.started, self.shown = epoch, time.perf_counter(), 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.shown > 1:
            self.shown = now
            progress(f"{self.name}: epoch {self.epoch + 1} of {self.epochs}, {(batch + 1) / self.steps:4.0%}, "
                     f"training accuracy {logs['accuracy']:.2%}, best validation accuracy {self.best:.2%}")

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.best = max(self.best, (logs or {}).get("val_accuracy", 0.0))

    def on_train_end(self, logs=None):
        progress(f"{self.name}: {len(self.seconds)} epochs in {sum(self.seconds):.0f} s, "
                 f"best validation accuracy {self.best:.2%}", done=True)


def fit(model: keras.Model, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray],
        config: TrainingConfig, augmentation: Augmentation | None = None, checkpoint: Path | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = ()) -> pd.DataFrame:
    """Train ``model`` in place; return its history; leave it with the weights of its best validation loss.

    x: (n, 28, 28, 1) float32 in [0, 1]; y: (n, 10) one-hot; validation_data: the same of other images, never the
    test set; checkpoint: where ModelCheckpoint keeps the best epoch (``.keras``), or None.
    The history has a row an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds.
    ValueError when there are fewer images than one batch.
    """
    steps = len(x) // config.batch_size
    if not steps:
        raise ValueError(f"{len(x)} training images are fewer than one batch of {config.batch_size}.")
    compile_model(model, config, steps * config.epochs)
    recorder = _Recorder(model.name, config.epochs, steps)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True)
    watching = [recorder, stopping, *callbacks]
    if checkpoint:
        watching.append(keras.callbacks.ModelCheckpoint(checkpoint, "val_loss", save_best_only=True))
    history = model.fit(as_dataset(x, y, config, augmentation), epochs=config.epochs, steps_per_epoch=steps,
                        validation_data=validation_data, validation_batch_size=1000, callbacks=watching, shuffle=False,
                        verbose=0)
    frame = pd.DataFrame(history.history)
    frame.insert(0, "epoch", np.arange(1, len(frame) + 1))
    return frame.assign(learning_rate=recorder.rates, seconds=recorder.seconds)

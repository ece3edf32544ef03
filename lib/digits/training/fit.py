"""Fit a network: seeds, batches, schedule, callbacks, history."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from digits.data.augmentation import Augmentation, augment
from digits.report.show import progress
from digits.training.backend import keras, tf
from digits.training.networks import logits_model, save

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels (b, 10) and logits (b, 10) to (b,)
Relabel = Callable[
    [tf.Tensor, tf.Tensor], tf.Tensor
]  # augmented images (b, 28, 28, 1) and labels to other labels
NON_DIGITS = (
    0.1  # ink that is no digit, as a share of the training images: enough to learn to refuse it
)


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained. Every value is recorded with the run."""

    epochs: int = 20  # upper limit; the schedule is laid out over it
    batch_size: int = (
        128  # small enough for many steps, large enough to keep two cores in arithmetic
    )
    learning_rate: float = 3e-3  # the peak of the one-cycle schedule
    warmup: float = 0.15  # fraction of all steps until the peak
    decay: bool = True  # down from the peak along a cosine; False stays there
    weight_decay: float = 1e-2  # decoupled from the gradient (Loshchilov and Hutter 2019)
    gentle: float = 0.2  # last fraction of the epochs, with images changed half as much: digits as they mostly are
    patience: int = (
        8  # epochs without a better validation accuracy before EarlyStopping ends the training
    )
    seed: int = 1  # weights, order, augmentation, dropout


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow and ask for deterministic kernels: the same machine gives the same bits."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def begin(seed: int) -> None:
    """``set_seed`` where dozens of networks follow one another in one process: what the last one left is let go."""
    keras.backend.clear_session()
    set_seed(seed)


def schedule(config: TrainingConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cycle (Smith 2018) over ``steps`` steps: linear warm-up, then a cosine down to a hundredth of the peak."""
    warmup = int(config.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 10,
        max(steps - warmup, 1),
        alpha=0.01 if config.decay else 1.0,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )


def background_loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy (b,) over eleven classes: ten logits (b, 10) and a fixed zero for "none of the ten".

    y: (b, 10) one-hot, or all zeros for ink that is no digit. Adding a number to all logits changes no softmax, so that
    ten outputs suffice for a background class (Dhamija et al. 2018): the energy, log-sum-exp of the ten, becomes the
    logarithm of the odds that there is a digit at all.
    """
    everything = tf.pad(logits, [[0, 0], [0, 1]])
    return tf.reduce_logsumexp(everything, axis=-1) - tf.reduce_sum(y * logits, axis=-1)


def accuracy(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1.0 (b,) where the digit is read right, or where ink that is no digit has odds below one of being one."""
    digit = tf.equal(tf.argmax(y, -1), tf.argmax(logits, -1))
    none = tf.reduce_logsumexp(logits, axis=-1) < 0
    return tf.cast(tf.where(tf.reduce_any(y > 0, axis=-1), digit, none), tf.float32)


def compile_model(
    model: keras.Model, config: TrainingConfig, steps: int, loss: Loss = background_loss
) -> None:
    """Adam with decoupled weight decay and ``loss`` on a model of logits; ``steps``: of the whole training."""
    model.compile(
        optimizer=keras.optimizers.Adam(
            schedule(config, steps), weight_decay=config.weight_decay or None
        ),
        loss=loss,
        metrics=[accuracy],
    )
    model.optimizer.build(
        model.trainable_variables
    )  # else TensorFlow traces the first step twice, for a second


def batches(
    x: np.ndarray,
    y: np.ndarray,
    config: TrainingConfig,
    augmentation: Augmentation | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented batches of images (b, 28, 28, 1) and labels (b, 10), epoch after epoch without end.

    Each epoch has its own generator made from (seed, epoch), so nothing depends on threads or on what ran before.
    The last, smaller batch of an epoch is left out. In the last ``config.gentle`` of the epochs images are changed less.
    """
    epoch = 0
    while True:
        if augmentation and epoch == round(config.epochs * (1 - config.gentle)):
            augmentation = augmentation.gentle()
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(len(x))
        for start in range(0, len(x) - config.batch_size + 1, config.batch_size):
            chosen = order[start : start + config.batch_size]
            images, labels = x[chosen], y[chosen]
            styles = np.where(labels.any(1), labels.argmax(1), -1)
            yield (augment(images, rng, augmentation, styles) if augmentation else images), labels
        epoch += 1


def as_dataset(
    x: np.ndarray,
    y: np.ndarray,
    config: TrainingConfig,
    augmentation: Augmentation | None,
    relabel: Relabel | None = None,
) -> tf.data.Dataset:
    """``batches`` prepared ahead in one background thread while the network computes; ``relabel`` sees them augmented."""
    size = config.batch_size
    shapes = tf.TensorSpec((size, *x.shape[1:]), tf.float32), tf.TensorSpec((size, 10), tf.float32)
    stream = tf.data.Dataset.from_generator(
        lambda: batches(x, y, config, augmentation), output_signature=shapes
    )
    if relabel:
        stream = stream.map(lambda images, labels: (images, relabel(images, labels)))
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
            progress(
                f"{self.name}: epoch {self.epoch + 1} of {self.epochs}, {(batch + 1) / self.steps:4.0%}, "
                f"training accuracy {logs['accuracy']:.2%}, best validation accuracy {self.best:.2%}"
            )

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.best = max(self.best, (logs or {}).get("val_accuracy", 0.0))

    def on_train_end(self, logs=None):
        progress(
            f"{self.name}: {len(self.seconds)} epochs in {sum(self.seconds):.0f} s, "
            f"best validation accuracy {self.best:.2%}",
            done=True,
        )


def fit(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: TrainingConfig,
    augmentation: Augmentation | None = None,
    checkpoint: Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    non_digits: np.ndarray | None = None,
    loss: Loss = background_loss,
    relabel: Relabel | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Train ``model`` in place; return its history; leave it with the weights of its best validation accuracy.

    Not of the lowest loss: that is often reached in the middle of the cycle, when the network errs more, but less surely,
    which the temperature mends later anyway.

    x: (n, 28, 28, 1) float32 in [0, 1]; y: (n, 10) one-hot; validation_data: the same of other images, never the
    test set; checkpoint: where ModelCheckpoint keeps the best epoch (``.keras``), or None; non_digits: (m, 28, 28, 1),
    shown with the others in every epoch, to be read as none of the ten (``background_loss``); loss and relabel: what
    distillation changes (``digits.training.distillation``); title: what the line that shows the progress calls it, else the model's name.
    The history has a row an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds.
    ValueError when there are fewer images than one batch.
    """
    if non_digits is not None and len(non_digits):
        x, y = (
            np.concatenate([x, non_digits]),
            np.concatenate([y, np.zeros((len(non_digits), y.shape[1]), y.dtype)]),
        )
    steps = len(x) // config.batch_size
    if not steps:
        raise ValueError(
            f"{len(x)} training images are fewer than one batch of {config.batch_size}."
        )
    trained = logits_model(model)  # shares the weights
    compile_model(trained, config, steps * config.epochs, loss)
    recorder = _Recorder(title or model.name, config.epochs, steps)
    stopping = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=config.patience, restore_best_weights=True
    )
    stopping.min_delta = -1e-6  # of equally accurate epochs the last: its learning rate was lowest
    watching = [recorder, stopping, *callbacks]
    if checkpoint:
        watching.append(
            keras.callbacks.ModelCheckpoint(
                checkpoint, "val_accuracy", mode="max", save_best_only=True
            )
        )
    history = trained.fit(
        as_dataset(x, y, config, augmentation, relabel),
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=validation_data,
        validation_batch_size=1000,
        callbacks=watching,
        shuffle=False,
        verbose=0,
    )
    if checkpoint:
        save(
            model, checkpoint
        )  # with its softmax; the callback's file, without it, was for a training that is cut off
    frame = pd.DataFrame(history.history)
    frame.insert(0, "epoch", np.arange(1, len(frame) + 1))
    return frame.assign(learning_rate=recorder.rates, seconds=recorder.seconds)

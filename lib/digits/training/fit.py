"""Fit a network: seeds, batches, schedule, loss, distillation, history."""

import html
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import display

from digits.data.augmentation import Augmentation, augment
from digits.training import keras, tf
from digits.training.networks import logits_model

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels (b, 10) and logits (b, 10) to (b,)
Relabel = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # augmented images and labels to other labels
NON_DIGITS = 0.4  # ink that is no digit, as a share of the training images: teaches to refuse it
TURNS = 4  # a fourth of it is shown in each epoch, in turn: many drawings, none of them often


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; ValueError for values that cannot be meant."""

    epochs: int = 30  # the schedule is laid out over them
    batch_size: int = 128  # small enough for many steps, large enough to keep two cores busy
    learning_rate: float = 3e-3  # the peak of the one-cycle schedule
    warmup: float = 0.15  # fraction of all steps until the peak
    decay: bool = True  # down from the peak along a cosine; False stays there
    weight_decay: float = 1e-2  # decoupled from the gradient (Loshchilov and Hutter 2019)
    seed: int = 1  # weights, order, augmentation, dropout

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("learning_rate", 1e-9, 1),
            ("warmup", 0, 1),
            ("weight_decay", 0, 1),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                raise ValueError(f"{name} must be {limits}, not {value!r}.")


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, with deterministic kernels: the same bits every time."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def begin(seed: int) -> None:
    """``set_seed`` where networks follow one another: what the last one left is let go."""
    keras.backend.clear_session()
    set_seed(seed)


def schedule(config: TrainingConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """One cycle (Smith 2018): linear warm-up, then a cosine down to a hundredth of the peak."""
    warmup = int(config.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 10,
        max(steps - warmup, 1),
        alpha=0.01 if config.decay else 1.0,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )


def background_loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy (b,) over eleven classes: ten logits (b, 10) and a fixed zero for "none".

    ``y`` (b, 10) is one-hot, or all zeros for ink that is no digit. Adding a number to all logits
    changes no softmax, so that ten outputs suffice for a background class (Dhamija et al. 2018):
    the energy, log-sum-exp of the ten, becomes the logarithm of the odds that there is a digit.
    """
    everything = tf.pad(logits, [[0, 0], [0, 1]])
    return tf.reduce_logsumexp(everything, axis=-1) - tf.reduce_sum(y * logits, axis=-1)


def accuracy(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1.0 (b,) where a digit is read right, or a non-digit has odds below one of being a digit."""
    digit = tf.equal(tf.argmax(y, -1), tf.argmax(logits, -1))
    none = tf.reduce_logsumexp(logits, axis=-1) < 0
    return tf.cast(tf.where(tf.reduce_any(y > 0, axis=-1), digit, none), tf.float32)


def distillation(teacher: keras.Model, temperature: float = 4.0) -> dict:
    """What ``fit`` needs to learn from a teacher (Hinton et al. 2015): ``**distillation(teacher)``.

    The teacher sees the same augmented image as its student, which listens to nobody else
    ("consistent teaching", Beyer et al. 2022). It tells probabilities over eleven classes, the ten
    and a background with a logit of zero, so that the student learns what is no digit, too.
    ``temperature``, above zero, divides both networks' logits: small probabilities become large
    enough to learn from, such as that a 4 looks a little like a 9.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature is above zero, not {temperature!r}")
    logits_of = keras.Model(teacher.inputs[0], teacher.get_layer("logits").output)

    def relabel(images: tf.Tensor, _labels: tf.Tensor) -> tf.Tensor:
        eleven = tf.pad(logits_of(images, training=False), [[0, 0], [0, 1]])
        return tf.nn.softmax(eleven / temperature)[:, :-1]

    def loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return temperature**2 * background_loss(y, logits / temperature)  # gradients as at one

    return {"loss": loss, "relabel": relabel}


def shown(digits: int, others: int, epoch: int) -> np.ndarray:
    """Indices of what an epoch shows: the first ``digits``, and a part of the ``others`` behind."""
    part = np.arange(epoch % TURNS, others - others % TURNS, TURNS)
    return np.concatenate([np.arange(digits), digits + part])


def batches(
    x: np.ndarray,
    y: np.ndarray,
    config: TrainingConfig,
    augmentation: Augmentation | None,
    others: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented batches of images (b, 28, 28, 1) and labels (b, 10), without end.

    The last ``others`` of the images take turns, see ``shown``. Each epoch has its own generator
    made from (seed, epoch), so nothing depends on threads or on what ran before. The last, smaller
    batch of an epoch is left out.
    """
    epoch = 0
    while True:
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(shown(len(x) - others, others, epoch))
        for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
            chosen = order[start : start + config.batch_size]
            images, labels = x[chosen], y[chosen]
            styles = np.where(labels.any(1), labels.argmax(1), -1)
            yield (augment(images, rng, augmentation, styles) if augmentation else images), labels
        epoch += 1


_line = None  # the display that `progress` updates until it is done


def progress(text: str, done: bool = False) -> None:
    """One line that updates itself, in JupyterLab and (through the runner) on the console.

    The executed notebook keeps only the last text. ``done`` ends the line.
    """
    global _line
    content = {
        "text/html": f'<p class="digits-progress">{html.escape(text)}</p>',
        "text/plain": text,
    }
    if get_ipython() is None:
        print(f"\r{text}", end="\n" if done else "", file=sys.stderr, flush=True)
    elif _line is None:
        _line = display(content, raw=True, display_id=True)
    else:
        _line.update(content, raw=True)
    if done:
        _line = None


class _Recorder(keras.callbacks.Callback):
    """Keeps the learning rate and seconds of each epoch and shows one updating line."""

    def __init__(self, name: str, epochs: int):
        super().__init__()
        self.name, self.epochs = name, epochs
        self.rates: list[float] = []
        self.seconds: list[float] = []
        self.accuracy = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        progress(
            f"{self.name}: epoch {epoch + 1} of {self.epochs}, "
            f"validation accuracy {self.accuracy:.2%}"
        )

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.accuracy = logs["val_accuracy"]

    def on_train_end(self, logs=None):
        progress(
            f"{self.name}: {len(self.seconds)} epochs in {sum(self.seconds):.0f} s, "
            f"validation accuracy {self.accuracy:.2%}",
            done=True,
        )


def settle(model: keras.Model, x: np.ndarray, size: int = 1_000) -> None:
    """Set batch normalisation's means and variances to those of ``x`` (n, 28, 28, 1) as it is.

    While the network learns they follow augmented images, which are not what it will read. Means
    over batches of ``size``; weights stay (cf. Wu and Johnson 2021, "Rethinking 'Batch'").
    """
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    momenta = [one.momentum for one in norms]
    for batch in range(max(len(x) // size, 1) if norms else 0):
        for one in norms:
            one.momentum = batch / (batch + 1)
        model(x[batch * size : (batch + 1) * size], training=True)
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum


def fit(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: TrainingConfig,
    augmentation: Augmentation | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    non_digits: np.ndarray | None = None,
    loss: Loss = background_loss,
    relabel: Relabel | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Train ``model`` in place, to the end of the schedule; ``settle`` it at last.

    No epoch is chosen: near the end a few validation errors more or less are chance. ValueError for
    fewer images than one batch.

    Parameters
    ----------
    x, y: (n, 28, 28, 1) float32 in [0, 1] and (n, 10) one-hot.
    validation_data: the same of other images, never the test set.
    augmentation: how images are changed, anew in every epoch.
    non_digits: (m, 28, 28, 1), to be read as none of the ten; they take turns, see ``shown``.
    loss, relabel: what ``distillation`` changes.
    title: what the line that shows the progress calls it, else the model's name.

    Returns
    -------
    One row an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds.
    """
    digits, others = len(x), 0 if non_digits is None else len(non_digits)
    if others:
        x = np.concatenate([x, non_digits])
        y = np.concatenate([y, np.zeros((others, y.shape[1]), y.dtype)])
    size, once = config.batch_size, shown(digits, others, 0)
    steps = len(once) // size
    if not steps:
        raise ValueError(f"{len(once)} training images are fewer than one batch of {size}.")

    trained = logits_model(model)  # shares the weights
    rate = schedule(config, steps * config.epochs)
    optimizer = keras.optimizers.Adam(rate, weight_decay=config.weight_decay or None)
    counted = keras.metrics.MeanMetricWrapper(accuracy, "accuracy")
    trained.compile(optimizer, loss, metrics=[counted])
    optimizer.build(trained.trainable_variables)  # as the metric is: else a step is traced twice

    stream = tf.data.Dataset.from_generator(
        lambda: batches(x, y, config, augmentation, others),
        output_signature=(
            tf.TensorSpec((size, *x.shape[1:]), tf.float32),
            tf.TensorSpec((size, 10), tf.float32),
        ),
    )
    if relabel:
        stream = stream.map(lambda images, labels: (images, relabel(images, labels)))

    recorder = _Recorder(title or model.name, config.epochs)
    history = trained.fit(
        stream.prefetch(8),  # made in a background thread while the network computes
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=validation_data,
        validation_batch_size=1000,
        callbacks=[recorder, *callbacks],
        shuffle=False,
        verbose=0,
    )
    settle(model, x[np.random.default_rng(config.seed).permutation(once)[:8_000]])
    frame = pd.DataFrame(history.history)
    frame.insert(0, "epoch", np.arange(1, len(frame) + 1))
    return frame.assign(learning_rate=recorder.rates, seconds=recorder.seconds)

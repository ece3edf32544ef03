"""Smaller files from one network: export to LiteRT, quantize, prune; what each costs in bytes, time and accuracy."""

import contextlib
import gzip
import io
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from digits import evaluation, training
from digits.augment import Augmentation
from digits.backend import keras, tf
from digits.models import logits_model
from digits.quiet import quiet_stderr
from digits.recognizer import LiteRTModel

KINDS = ("float32", "float16", "dynamic_int8", "int8")


# --- LiteRT files -----------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the converter prints, from Python and from C++; its errors arrive as exceptions all the same."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        logger = tf.get_logger()
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(quiet_stderr())
        yield


def _one_image_model(model: keras.Model) -> keras.Model:
    """``model`` up to its logits for exactly one image: fixed shapes fold away, and fixed names keep bytes equal."""
    if model.layers[-1].name != "logits":
        model = logits_model(model)
    image = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    return keras.Model(image, model(image), name="digits")


def _converter(model: keras.Model, kind: str, representative: np.ndarray | None) -> tf.lite.TFLiteConverter:
    """The converter set up for one of ``KINDS``."""
    converter = tf.lite.TFLiteConverter.from_keras_model(_one_image_model(model))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    return converter


def export_litert(model: keras.Model, path: Path, kind: str = "float32", representative: np.ndarray | None = None
                  ) -> Path:
    """Write ``model`` as a LiteRT file: one image (1, 28, 28, 1) float32 in [0, 1] to its logits (1, 10) float32.

    model: a network from ``digits.models`` or its ``logits_model``; the softmax is always left out, because calibration
    works on logits. kind: "float32"; "float16" (weights stored in half the bytes); "dynamic_int8" (weights int8,
    activations quantized as they come); "int8" (both int8, ranges taken from ``representative`` images (n, 28, 28, 1),
    which come from the training set). Weights are quantized per output channel (Jacob et al. 2018, section 3).
    The same weights give the same bytes. ValueError for another kind, or "int8" without representative images.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of file; choose one of: {', '.join(KINDS)}.")
    if kind == "int8" and (representative is None or not len(representative)):
        raise ValueError("int8 needs representative training images: they set the range of every activation.")
    with _quiet():
        content = _converter(model, kind, representative).convert()
    Path(path).write_bytes(content)
    return Path(path)


def litert_logits(path: Path, images: np.ndarray) -> np.ndarray:
    """Logits (n, 10) that the file gives for ``images`` (n, 28, 28, 1) float32, one at a time on one thread."""
    return LiteRTModel(path, threads=1).logits(images)


def file_sizes(path: Path) -> dict:
    """``bytes`` on disk and ``gzip_bytes`` after gzip -9: what a download costs, and where zeros pay."""
    content = Path(path).read_bytes()
    return {"bytes": len(content), "gzip_bytes": len(gzip.compress(content, 9, mtime=0))}


def latency(path: Path, images: np.ndarray, runs: int, warmup: int = 50) -> dict:
    """Milliseconds for one image, copy in and out included, on one thread: ``latency_ms_median``, ``latency_ms_p95``.

    ``runs`` timed predictions cycle through ``images`` (n, 28, 28, 1), after ``warmup`` untimed ones.
    """
    model = LiteRTModel(path, threads=1)
    seconds = np.empty(warmup + runs)
    for i in range(warmup + runs):
        image = images[i % len(images)]
        started = time.perf_counter()
        model.logits(image)
        seconds[i] = time.perf_counter() - started
    median, p95 = np.quantile(seconds[warmup:] * 1000, [0.5, 0.95])
    return {"latency_ms_median": float(median), "latency_ms_p95": float(p95), "latency_runs": runs}


def measure_files(files: dict[str, Path], images: np.ndarray, labels: np.ndarray, runs: int,
                  reference: str = "float32") -> pd.DataFrame:
    """One row a file, index ``file``: sizes, latency, accuracy with its count and interval, agreement.

    images (n, 28, 28, 1) and labels (n,): validation data. ``agreement_with_float32``: share of images that get the
    same digit as from the ``reference`` file.
    """
    expected = litert_logits(files[reference], images).argmax(1)
    rows = {}
    for name, path in files.items():
        predicted = litert_logits(path, images).argmax(1)
        score = {f"validation_{key}": value for key, value in evaluation.accuracy_summary(labels, predicted).items()}
        rows[name] = {**file_sizes(path), **latency(path, images, runs), **score,
                      "agreement_with_float32": float((predicted == expected).mean())}
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="file"))


def choose_file(table: pd.DataFrame, tolerance: float, reference: str = "float32") -> str:
    """The smallest file whose validation accuracy is at most ``tolerance`` (a share) below the ``reference`` file's.

    table: from ``measure_files``. Counted in errors, so that rounding decides nothing; of equally small files the one
    with fewer errors, then the first.
    """
    allowed = table.loc[reference, "validation_errors"] + np.floor(tolerance * table["validation_n"] + 1e-9)
    good = table[table["validation_errors"] <= allowed]
    return str(good.sort_values(["bytes", "validation_errors"], kind="stable").index[0])


# --- Pruning ----------------------------------------------------------------------------------------------------------

def prunable(model: keras.Model) -> list[keras.Layer]:
    """The layers whose kernels pruning may thin out: convolutions and dense layers, the logits too. No biases."""
    return [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]


def sparsity_table(model: keras.Model) -> pd.DataFrame:
    """One row a prunable layer: ``layer``, ``weights`` in its kernel, ``zeros`` among them, ``sparsity`` (a share)."""
    rows = [(layer.name, kernel.size, int((kernel == 0).sum()))
            for layer in prunable(model) for kernel in [layer.kernel.numpy()]]
    table = pd.DataFrame(rows, columns=["layer", "weights", "zeros"])
    return table.assign(sparsity=table["zeros"] / table["weights"])


def kernel_weights(model: keras.Model) -> np.ndarray:
    """Every weight that pruning may remove, in one flat array (n,)."""
    return np.concatenate([layer.kernel.numpy().ravel() for layer in prunable(model)])


def scheduled_sparsity(step: int, steps: int, final: float) -> float:
    """The share of weights that are zero after ``step`` of ``steps`` (Zhu and Gupta 2017, equation 1, from 0).

    Steep at first, when there is much to spare, and flat towards ``final``.
    """
    left = 1 - min(max(step / steps, 0.0), 1.0) if steps else 0.0
    return final * (1 - left ** 3)


class Prune(keras.callbacks.Callback):
    """Magnitude pruning while ``fit`` trains: the smallest weights of all kernels become zero and stay zero.

    One threshold for the whole network, so that each layer keeps what it needs (Han et al. 2015; global ranking as in
    Blalock et al. 2020). Exactly ``round(sparsity * n)`` of the n kernel weights are pruned once ``steps`` batches have
    passed, and in any case when training ends. ``steps`` should be no more than one epoch has: then every epoch's
    weights are fully pruned, and whichever of them EarlyStopping restores fits the masks.

    sparsity: share in [0, 1); steps: batches from the first to the last pruning; every: batches between two of them.
    ValueError for values outside.
    """

    def __init__(self, sparsity: float, steps: int, every: int = 10):
        super().__init__()
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is a share from 0 up to but not 1, not {sparsity!r}")
        if steps < 0 or every < 1:
            raise ValueError(f"steps must be at least 0 and every at least 1, not {steps!r} and {every!r}")
        self.sparsity, self.steps, self.every = sparsity, steps, every
        self.step = 0
        self.keep: np.ndarray | None = None  # (n,) of booleans over the weights of all kernels, in order

    def on_train_begin(self, logs=None):
        """Take up the model; a second ``fit`` with the same callback goes on where the first one stopped."""
        if self.keep is None:
            self.keep = np.ones(len(kernel_weights(self.model)), bool)
        self._prune_to(0.0)

    def on_train_batch_end(self, batch, logs=None):
        """Prune when the schedule says so; put back to zero what the optimizer moved."""
        self.step += 1
        if self.step <= self.steps and (self.step % self.every == 0 or self.step == self.steps):
            self._prune_to(scheduled_sparsity(self.step, self.steps, self.sparsity))
        self._zero()

    def on_train_end(self, logs=None):
        """Reach the final sparsity even when training was shorter than the schedule or older weights were restored."""
        self._prune_to(self.sparsity)
        self._zero()

    def _prune_to(self, sparsity: float) -> None:
        """Remove the smallest weights until ``round(sparsity * n)`` are gone; what is gone never comes back."""
        target = round(sparsity * len(self.keep))
        if target > (~self.keep).sum():
            rank = np.where(self.keep, np.abs(kernel_weights(self.model)), -1.0)  # the pruned ones first
            self.keep[np.argsort(rank, kind="stable")[:target]] = False
        kernels = [layer.kernel for layer in prunable(self.model)]
        parts = np.split(self.keep, np.cumsum([np.prod(kernel.shape) for kernel in kernels])[:-1])
        self.masks = [(kernel, tf.constant(part.reshape(kernel.shape), kernel.dtype))
                      for kernel, part in zip(kernels, parts, strict=True)]

    def _zero(self) -> None:
        for kernel, mask in self.masks:
            kernel.assign(kernel * mask)


def prune(model: keras.Model, x: np.ndarray, y: np.ndarray, validation_data: tuple[np.ndarray, np.ndarray],
          config: training.TrainingConfig, sparsity: float, augmentation: Augmentation | None = None,
          non_digits: np.ndarray | None = None) -> pd.DataFrame:
    """Prune a trained ``model`` in place to ``sparsity`` while it goes on learning; return its history as ``fit`` does.

    The first epoch prunes, the others recover: ``config.epochs`` should be at least 2. Without ``non_digits`` it forgets
    how to refuse.
    """
    steps = len(x) // config.batch_size
    callback = Prune(sparsity, steps=max(steps * 3 // 4, 1))
    return training.fit(model, x, y, validation_data, config, augmentation, callbacks=[callback],
                        non_digits=non_digits)

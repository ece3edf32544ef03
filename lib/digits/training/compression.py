"""Fewer bytes, less time: LiteRT files, eight bits in place of 32, pruned weights."""

import contextlib
import gzip
import io
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits import evaluation
from digits.data.augmentation import Augmentation
from digits.recognizer import Calibration, LiteRTModel, energy
from digits.recognizer.model import calibration_path, quiet_stderr
from digits.training import keras, tf
from digits.training.fit import TrainingConfig, fit
from digits.training.networks import logits_model

layers = keras.layers
KINDS = ("float32", "float16", "dynamic_int8", "int8")


# --- LiteRT files ---------------------------------------------------------------------------------


def export_litert(
    model: keras.Model, path: Path, kind: str = "float32", representative: np.ndarray | None = None
) -> Path:
    """Write ``model`` as a LiteRT file: one image (1, 28, 28, 1) in [0, 1] to its logits (1, 10).

    The same weights give the same bytes. ValueError for an unknown kind, or "int8" without images.

    Parameters
    ----------
    kind: "float32"; "float16" (weights stored in half the bytes); "dynamic_int8" (weights int8,
        activations quantized as they come); "int8" (both int8).
    representative: training images (n, 28, 28, 1) that set the ranges of the activations in "int8".
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of file; choose one of: {', '.join(KINDS)}.")
    if kind == "int8" and (representative is None or not len(representative)):
        raise ValueError("int8 needs representative training images, for the activations' ranges.")
    if model.layers[-1].name == "probabilities":
        model = logits_model(model)
    image = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    one_image = keras.Model(image, model(image), name="digits")  # fixed names keep bytes equal
    converter = tf.lite.TFLiteConverter.from_keras_model(one_image)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    with (  # it prints, from Python and from C++; its errors are exceptions
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
        quiet_stderr(),
    ):
        content = converter.convert()
    Path(path).write_bytes(content)
    return Path(path)


def file_sizes(path: Path) -> dict:
    """``bytes`` on disk and ``gzip_bytes`` after gzip -9, where zeros pay."""
    content = Path(path).read_bytes()
    return {"bytes": len(content), "gzip_bytes": len(gzip.compress(content, 9, mtime=0))}


def latency(path: Path, images: np.ndarray, runs: int, warmup: int = 50) -> dict:
    """Milliseconds for one image on one thread, copy in and out included: median, 95th percentile.

    ``runs`` timed predictions cycle through ``images``, after ``warmup`` untimed ones.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, not {runs!r}.")
    model = LiteRTModel(path)
    seconds = np.empty(warmup + runs)
    for i in range(warmup + runs):
        image = images[i % len(images)]
        started = time.perf_counter()
        model.logits(image)
        seconds[i] = time.perf_counter() - started
    median, p95 = np.quantile(seconds[warmup:] * 1000, [0.5, 0.95])
    return {"latency_ms_median": float(median), "latency_ms_p95": float(p95), "latency_runs": runs}


def deployed(model: keras.Model, images: np.ndarray, runs: int) -> dict:
    """``file_sizes`` and ``latency`` of ``model`` as a float32 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_litert(model, Path(folder) / "float32.tflite")
        return file_sizes(path) | latency(path, images, runs)


def measure_files(
    files: Mapping[str, Path], sets: Mapping[str, tuple[np.ndarray, np.ndarray]], runs: int
) -> pd.DataFrame:
    """One row a file, index ``file``: sizes, latency, agreement, and the accuracy on each set.

    sets: images (n, 28, 28, 1) and labels (n,) by name, first the validation data; one called "pen"
    gives the columns ``pen_accuracy``, ``pen_errors``, ``pen_n`` and ``pen_interval``.
    ``agreement_with_float32``: share of the first set that gets the same digit from "float32".
    """
    first = next(iter(sets.values()))[0]
    expected = LiteRTModel(files["float32"]).logits(first).argmax(1)
    rows = {}
    for name, path in files.items():
        scores: dict = {}
        for kind, (images, labels) in sets.items():
            predicted = LiteRTModel(path).logits(images).argmax(1)
            summary = evaluation.accuracy_summary(labels, predicted)
            scores |= {f"{kind}_{key}": value for key, value in summary.items()}
            if images is first:
                scores["agreement_with_float32"] = float((predicted == expected).mean())
        rows[name] = {**file_sizes(path), **latency(path, first, runs), **scores}
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="file"))


def answered(path: Path, predictions: evaluation.Predictions) -> dict:
    """What the app would answer, from a file's logits and the calibration that belongs to it.

    ``selective``: ``evaluation.acceptance_summary``; ``thresholds``: what others would give.
    """
    limits = Calibration.read(calibration_path(path))
    sure = replace(predictions, temperature=limits.temperature)
    reasons = np.array([limits.reason(row) for row in predictions.logits])
    thresholds = evaluation.at_thresholds(sure.confidence, sure.correct, reasons == "not a digit")
    return {
        "selective": evaluation.acceptance_summary(reasons == "", sure.correct),
        "thresholds": thresholds.to_dict("list"),
    }


def refusals(path: Path, images: np.ndarray) -> int:
    """How many ``images`` the file takes for no digit, by the calibration that belongs to it."""
    limits = Calibration.read(calibration_path(path))
    return int((energy(LiteRTModel(path).logits(images)) < limits.min_energy).sum())


def good_enough(table: pd.DataFrame, tolerances: Mapping[str, float]) -> pd.Series:
    """Which files of ``measure_files`` are at most a tolerance (a share) below float32 on each set.

    Sets that the table lacks are left out. Counted in errors: no rounding decides.
    """
    good = pd.Series(True, table.index)
    for kind, tolerance in tolerances.items():
        if f"{kind}_errors" in table:
            more = np.floor(tolerance * table[f"{kind}_n"] + 1e-9)
            good &= table[f"{kind}_errors"] <= table.loc["float32", f"{kind}_errors"] + more
    return good


def choose_file(table: pd.DataFrame, tolerances: Mapping[str, float]) -> str:
    """The smallest file that is ``good_enough``; of equal ones that with fewer errors."""
    good = table[good_enough(table, tolerances)]
    return str(good.sort_values(["bytes", "validation_errors"], kind="stable").index[0])


# --- Pruned weights: smaller when compressed ------------------------------------------------------


def prunable(model: keras.Model) -> list[keras.Layer]:
    """The layers whose kernels pruning may thin out: convolutions and dense layers. No biases."""
    kernels = [(layer, getattr(layer, "kernel", None)) for layer in model.layers]
    return [layer for layer, kernel in kernels if isinstance(kernel, keras.Variable)]


def kernel_weights(model: keras.Model) -> np.ndarray:
    """Every weight that pruning may remove, in one flat array (n,)."""
    return np.concatenate([layer.kernel.numpy().ravel() for layer in prunable(model)])


class Prune(keras.callbacks.Callback):
    """Magnitude pruning while ``fit`` trains: the smallest weights become zero and stay zero.

    One threshold for the whole network, so that each layer keeps what it needs (Han et al. 2015;
    global ranking as in Blalock et al. 2020). The share rises along a cubic (Zhu and Gupta 2017,
    equation 1), steep at first, when there is much to spare. It is exact after ``steps`` batches,
    and in any case when training ends. ``every``: batches between two prunings.
    """

    def __init__(self, sparsity: float, steps: int, every: int = 10):
        super().__init__()
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is a share from 0 up to but not 1, not {sparsity!r}")
        self.sparsity, self.steps, self.every = sparsity, steps, every
        self.step = 0
        self.keep: np.ndarray | None = None  # (n,) of booleans, as ``kernel_weights``

    def on_train_begin(self, logs=None):
        if self.keep is None:  # else a second ``fit`` goes on where the first one stopped
            self.keep = np.ones(len(kernel_weights(self.model)), bool)
        self._prune_to(0.0)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step <= self.steps and (self.step % self.every == 0 or self.step == self.steps):
            self._prune_to(self.sparsity * (1 - (1 - self.step / self.steps) ** 3))
        self._zero()  # what the optimizer moved

    def on_train_end(self, logs=None):
        self._prune_to(self.sparsity)
        self._zero()

    def _prune_to(self, sparsity: float) -> None:
        """Mask the smallest weights until a share is gone; what is gone never comes back."""
        target = round(sparsity * len(self.keep))
        if target > (~self.keep).sum():
            rank = np.where(self.keep, np.abs(kernel_weights(self.model)), -1.0)
            self.keep[np.argsort(rank, kind="stable")[:target]] = False
        kernels = [layer.kernel for layer in prunable(self.model)]
        parts = np.split(self.keep, np.cumsum([np.prod(kernel.shape) for kernel in kernels])[:-1])
        self.masks = [
            (kernel, tf.constant(part.reshape(kernel.shape), kernel.dtype))
            for kernel, part in zip(kernels, parts, strict=True)
        ]

    def _zero(self) -> None:
        for kernel, mask in self.masks:
            kernel.assign(kernel * mask)


def prune(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: TrainingConfig,
    sparsity: float,
    augmentation: Augmentation | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Prune a trained ``model`` in place to ``sparsity`` while it learns on; return its history.

    The first epoch prunes, the others recover: ``config.epochs`` should be at least 2. options: of
    ``fit``; without ``non_digits`` the network forgets how to refuse.
    """
    callback = Prune(sparsity, steps=max(len(x) // config.batch_size * 3 // 4, 1))
    return fit(model, x, y, validation_data, config, augmentation, callbacks=[callback], **options)

"""LiteRT files of one network and others: export, quantized or not; what each costs in bytes, time and accuracy."""

import contextlib
import gzip
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from digits import evaluation
from digits.recognizer.model import (
    Calibration,
    LiteRTModel,
    calibration_path,
    energy,
    quiet_stderr,
)
from digits.training.backend import keras, tf
from digits.training.networks import logits_model

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


def _converter(
    model: keras.Model, kind: str, representative: np.ndarray | None, per_channel: bool
) -> tf.lite.TFLiteConverter:
    """The converter set up for one of ``KINDS``."""
    converter = tf.lite.TFLiteConverter.from_keras_model(_one_image_model(model))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    converter._experimental_disable_per_channel = not per_channel
    return converter


def export_litert(
    model: keras.Model,
    path: Path,
    kind: str = "float32",
    representative: np.ndarray | None = None,
    per_channel: bool = True,
) -> Path:
    """Write ``model`` as a LiteRT file: one image (1, 28, 28, 1) float32 in [0, 1] to its logits (1, 10) float32.

    model: a network from ``digits.training.networks`` or its ``logits_model``; the softmax is always left out, because calibration
    works on logits. kind: "float32"; "float16" (weights stored in half the bytes); "dynamic_int8" (weights int8,
    activations quantized as they come); "int8" (both int8, ranges taken from ``representative`` images (n, 28, 28, 1),
    which come from the training set). Weights are quantized per output channel (Krishnamoorthi 2018, section 3), or with
    one scale for a whole kernel when ``per_channel`` is False, which is there to be compared with.
    The same weights give the same bytes. ValueError for another kind, or "int8" without representative images.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of file; choose one of: {', '.join(KINDS)}.")
    if kind == "int8" and (representative is None or not len(representative)):
        raise ValueError(
            "int8 needs representative training images: they set the range of every activation."
        )
    with _quiet():
        content = _converter(model, kind, representative, per_channel).convert()
    Path(path).write_bytes(content)
    return Path(path)


def litert_logits(path: Path, images: np.ndarray) -> np.ndarray:
    """Logits (n, 10) that the file gives for ``images`` (n, 28, 28, 1) float32, one at a time on one thread."""
    return LiteRTModel(path).logits(images)


def file_sizes(path: Path) -> dict:
    """``bytes`` on disk and ``gzip_bytes`` after gzip -9: what a download costs, and where zeros pay."""
    content = Path(path).read_bytes()
    return {"bytes": len(content), "gzip_bytes": len(gzip.compress(content, 9, mtime=0))}


def latency(path: Path, images: np.ndarray, runs: int, warmup: int = 50) -> dict:
    """Milliseconds for one image, copy in and out included, on one thread: ``latency_ms_median``, ``latency_ms_p95``.

    ``runs`` timed predictions cycle through ``images`` (n, 28, 28, 1), after ``warmup`` untimed ones.
    """
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
    """What ``model`` costs as a float32 file: ``file_sizes`` and ``latency``; neither depends much on what it has learnt."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_litert(model, Path(folder) / "float32.tflite")
        return file_sizes(path) | latency(path, images, runs)


def measure_files(
    files: Mapping[str, Path], sets: Mapping[str, tuple[np.ndarray, np.ndarray]], runs: int
) -> pd.DataFrame:
    """One row a file, index ``file``: sizes, latency, agreement, and the accuracy on each set with count and interval.

    sets: images (n, 28, 28, 1) and labels (n,) by name, first the validation data; a set called "pen" gives the columns
    ``pen_accuracy``, ``pen_errors``, ``pen_n`` and ``pen_interval``. ``agreement_with_float32``: share of the first
    set's images that get the same digit as from the file called "float32".
    """
    first = next(iter(sets.values()))[0]
    expected = litert_logits(files["float32"], first).argmax(1)
    rows = {}
    for name, path in files.items():
        scores: dict = {}
        for kind, (images, labels) in sets.items():
            predicted = litert_logits(path, images).argmax(1)
            scores |= {
                f"{kind}_{key}": value
                for key, value in evaluation.accuracy_summary(labels, predicted).items()
            }
            if images is first:
                scores["agreement_with_float32"] = float((predicted == expected).mean())
        rows[name] = {**file_sizes(path), **latency(path, first, runs), **scores}
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="file"))


def answered(path: Path, predictions: evaluation.Predictions) -> dict:
    """What the app would answer, from the file's logits for n labelled images and the calibration that belongs to it.

    ``selective``: ``evaluation.acceptance_summary``; ``thresholds``: what others would give, ``evaluation.at_thresholds``.
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
    """How many ``images`` (n, 28, 28, 1) the file takes for no digit, by the calibration that belongs to it."""
    limits = Calibration.read(calibration_path(path))
    return int((energy(litert_logits(path, images)) < limits.min_energy).sum())


def good_enough(table: pd.DataFrame, tolerances: Mapping[str, float]) -> pd.Series:
    """Which files of ``measure_files`` are at most a set's tolerance (a share) below float32 on every set.

    tolerances: by the set's name; one that the table lacks is not asked for. Counted in errors, so that rounding
    decides nothing.
    """
    good = pd.Series(True, table.index)
    for kind, tolerance in tolerances.items():
        if f"{kind}_errors" in table:
            more = np.floor(tolerance * table[f"{kind}_n"] + 1e-9)
            good &= table[f"{kind}_errors"] <= table.loc["float32", f"{kind}_errors"] + more
    return good


def choose_file(table: pd.DataFrame, tolerances: Mapping[str, float]) -> str:
    """The smallest file that is ``good_enough``; of equally small ones the one with fewer errors, then the first."""
    good = table[good_enough(table, tolerances)]
    return str(good.sort_values(["bytes", "validation_errors"], kind="stable").index[0])

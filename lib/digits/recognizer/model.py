"""A LiteRT model and its calibration to an answer: what the app, the evaluation and any other program call.

Needs LiteRT, NumPy and Pillow. Never imports TensorFlow, so that it starts in half a second.
"""

import hashlib
import json
import threading
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from digits import files
from digits.recognizer import ink
from digits.recognizer.calibration import Calibration
from digits.recognizer.quiet import quiet_stderr


class RecognizerError(Exception):
    """The model cannot be used; the message says which file and what to do."""


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    digit: int | None  # the best guess, also when it is not accepted; None only for a blank
    confidence: float  # the calibrated probability of ``digit``; 0 for a blank
    probabilities: np.ndarray  # (10,), sums to 1
    accepted: bool
    reason: str  # "" when accepted, else "blank", "unsure" or "not a digit"
    image: np.ndarray  # (28, 28) float32 in [0, 1]: what the network got
    candidates: tuple[
        int, ...
    ] = ()  # the digits that may be meant, most probable first; none for a blank


class LiteRTModel:
    """One ``.tflite`` file, images in and logits out, one image at a time on ``threads`` threads. Thread-safe."""

    def __init__(self, path: Path, threads: int = 1):
        try:
            with quiet_stderr():  # LiteRT announces its XNNPACK delegate each time
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            (self._input,) = self._interpreter.get_input_details()
            (self._output,) = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise RecognizerError(
                f"{_shown(path)} is no LiteRT model that can be used: {error}"
            ) from None
        if tuple(self._input["shape"]) != (1, 28, 28, 1) or tuple(self._output["shape"]) != (1, 10):
            raise RecognizerError(
                f"{_shown(path)} takes {tuple(self._input['shape'])} and gives "
                f"{tuple(self._output['shape'])}; (1, 28, 28, 1) and (1, 10) are needed."
            )
        self._lock = threading.Lock()

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(n, 10) float32 from images (n, 28, 28[, 1]) in [0, 1]."""
        images = np.asarray(images, np.float32).reshape(-1, 1, 28, 28, 1)
        result = np.empty((len(images), 10), np.float32)
        with self._lock:
            for i, image in enumerate(images):
                self._interpreter.set_tensor(self._input["index"], image)
                self._interpreter.invoke()
                result[i] = self._interpreter.get_tensor(self._output["index"])[0]
        return result


class Recognizer:
    """Strokes or pictures to ``Prediction``.

    >>> prediction = Recognizer.load(run="reference").predict_strokes([[(140, 40), (140, 240)]])
    >>> prediction.digit, prediction.accepted
    (1, True)
    """

    def __init__(
        self,
        model: LiteRTModel,
        calibration: Calibration,
        run: str = "",
        name: str = "",
        sha256: str = "",
    ):
        self.model, self.calibration, self.run, self.name, self.sha256 = (
            model,
            calibration,
            run,
            name,
            sha256,
        )

    @classmethod
    def load(cls, run: str | None = None, model: str | None = None) -> "Recognizer":
        """The model ``model`` (a file's name without ``.tflite``) of the run ``run``.

        Without a run: ``outputs/latest`` when it is a finished MNIST run and not a quick one, else the published run.
        Without a model: ``chosen``. RecognizerError when the run or the file is missing, or the file is not the one that the
        run recorded.
        """
        folder = _run_folder(run)
        model = chosen(folder.name) if model is None else model
        path = folder / "models" / f"{model}.tflite"
        if not path.is_file():
            there = ", ".join(available(folder.name)) or "none"
            raise RecognizerError(f"{_shown(path)} does not exist. Available: {there}.")
        recorded = _dict(_record(folder).get("models"))
        sha256 = _check_file(
            path, recorded
        )  # a damaged file can crash the interpreter, so it is never opened
        calibration = calibration_path(path, recorded)
        _check_file(calibration, recorded)
        return cls(LiteRTModel(path), _read_calibration(calibration), folder.name, model, sha256)

    def predict_normalized(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, 10) of images that are in MNIST's form already, (n, 28, 28[, 1]) in [0, 1]."""
        return self.calibration.probabilities(self.model.logits(images))

    def predict_image(self, canvas: np.ndarray) -> Prediction:
        """The answer for one picture, (H, W) uint8 or float in [0, 1], light ink on dark. ValueError otherwise."""
        return self.predict(ink.normalize(canvas))

    def predict_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Prediction:
        """The answer for pen strokes: (n, 2) arrays of canvas pixels, y downwards, on a canvas of ``size`` pixels."""
        prediction = self.predict(ink.strokes_to_image(strokes, size))
        if (
            prediction.accepted and ink.extent(strokes, size) < size * ink.DOT
        ):  # enlarged, a dot looks like a fat digit
            return replace(prediction, accepted=False, reason="not a digit")
        return prediction

    def predict(self, image: np.ndarray) -> Prediction:
        """The answer for one picture that is in MNIST's form already, (28, 28) float32 in [0, 1]."""
        if not image.any():
            return Prediction(None, 0.0, np.full(10, 0.1), False, "blank", image)
        logits = self.model.logits(image)[0]
        probabilities = self.calibration.probabilities(logits)
        digit = int(probabilities.argmax())
        reason = self.calibration.reason(logits)
        return Prediction(
            digit,
            float(probabilities[digit]),
            probabilities,
            not reason,
            reason,
            image,
            self.calibration.candidates(probabilities),
        )


def available(run: str) -> list[str]:
    """Names of the LiteRT models that a run holds."""
    return sorted(path.stem for path in (files.run_folder(run) / "models").glob("*.tflite"))


def chosen(run: str) -> str:
    """The name of the model that the rule of 04_optimization picked in a run; "float32" where it has picked none."""
    name = _dict(
        _dict(_record(files.run_folder(run), "metrics.json").get("04_optimization")).get("chosen")
    ).get("name")
    return name if name in available(run) else "float32"


def calibration_path(path: Path, recorded: Container[str] = ()) -> Path:
    """The calibration of a LiteRT file: NAME.calibration.json beside it, which a network with weights of its own has (it
    lies there, or is ``recorded``), else the run's calibration.json."""
    own = path.with_name(f"{path.stem}.calibration.json")
    return own if own.name in recorded or own.exists() else path.with_name("calibration.json")


def _run_folder(run: str | None) -> Path:
    if run is None:
        record = _record(files.OUTPUTS / "latest")
        good = record.get("status") == "finished" and record.get("profile") != "quick"
        run = (
            "latest"
            if good and _dict(record.get("dataset")).get("name") == "mnist"
            else "reference"
        )
    folder = files.run_folder(run)
    if not folder.is_dir():
        raise RecognizerError(f"There is no run called {run!r}. Run ./run_all.sh --run {run}.")
    return folder


def _check_file(path: Path, recorded: dict) -> str:
    """The SHA-256 of a file; RecognizerError when it cannot be read, or when the run recorded another one (a notebook
    run by hand records none)."""
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RecognizerError(
            f"{_shown(path)} cannot be used ({error.strerror}). Restore it, or run again."
        ) from None
    if recorded.get(path.name) not in (None, sha256):
        raise RecognizerError(
            f"{_shown(path)} is not the file that this run recorded. Restore it, or run again."
        )
    return sha256


def _read_calibration(path: Path) -> Calibration:
    try:
        return Calibration.read(path)
    except (OSError, ValueError) as error:
        message = f"{_shown(path)} cannot be used ({error}). Restore it, or run ./run_all.sh again."
        raise RecognizerError(message) from None


def _record(folder: Path, name: str = "run.json") -> dict:
    try:
        return _dict(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def _dict(value: object) -> dict:
    """What should be an object in JSON; {} when a damaged file holds something else."""
    return value if isinstance(value, dict) else {}


def _shown(path: Path) -> str:
    """A path without this machine's part of it, for messages that others may read."""
    return "/".join(path.parts[-3:])

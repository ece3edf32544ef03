"""A LiteRT model and its calibration to an answer: what the app, the evaluation and any other program call.

Needs LiteRT, NumPy and Pillow. Neither TensorFlow nor SciPy: every visitor of the app has a process
of their own, and SciPy's softmax alone would add 21 MB to it.
"""

import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from digits import files
from digits.recognizer import ink, segmentation
from digits.recognizer.segmentation import Answer, Part

MEMORY = 500  # groups of strokes whose prediction is remembered


class RecognizerError(Exception):
    """The model cannot be used; the message says which file and what to do."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 to nowhere; Python's exceptions are not affected.

    In the main thread only: the descriptor is the whole process's and its children's, and what a
    server's other threads load must not silence what it logs, nor a kernel that it starts meanwhile.
    """
    if threading.current_thread() is not threading.main_thread() or sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


# --- From logits to an answer ---------------------------------------------------------------------


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities along the last axis, (..., 10) float64, of logits divided by ``temperature``.

    >>> softmax(np.log([6, 3, 1])).round(2).tolist()
    [0.6, 0.3, 0.1]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def energy(logits: np.ndarray) -> np.ndarray:
    """Log-sum-exp of the logits, (...,) float64: high for ink like the training data's.

    Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020, with the sign turned.
    """
    logits = np.asarray(logits, dtype=np.float64)
    peak = logits.max(-1)
    return peak + np.log(np.exp(logits - peak[..., None]).sum(-1))


@dataclass(frozen=True)
class Calibration:
    """How far logits can be believed, fitted on validation data and stored beside the model."""

    temperature: float = 1.0  # logits are divided by it (Guo et al. 2017)
    accept_confidence: float = 0.5  # below it the answer is "unsure"
    min_energy: float = -1e9  # energy below it: "not a digit"
    candidate_probability: float = 1.0  # what is as probable may be meant (Sadinle et al. 2019)

    def __post_init__(self):
        if not (
            0 < self.temperature < 100
            and 0 <= self.accept_confidence <= 1
            and np.isfinite(self.min_energy)
            and 0 <= self.candidate_probability <= 1
        ):
            raise ValueError(f"out of range: {self}")

    @classmethod
    def fit(
        cls, logits: np.ndarray, labels: np.ndarray, risk: float, refused: float, coverage: float
    ) -> "Calibration":
        """The calibration of a network, from validation images that it was not trained on.

        Parameters
        ----------
        logits, labels
            (n, 10) and (n,) of those images.
        risk
            Tolerated share of wrong answers among those that are given.
        refused
            Share of these digits that may be taken for none.
        coverage
            Share of the digits that shall be among the candidates.
        """
        from digits import evaluation  # SciPy and pandas, which a recognizer never needs

        temperature = evaluation.fit_temperature(logits, labels)
        probabilities = softmax(logits, temperature)
        correct = logits.argmax(axis=1) == labels
        return cls(
            temperature,
            evaluation.choose_threshold(probabilities.max(axis=1), correct, risk),
            float(np.quantile(energy(logits), refused)),
            evaluation.conformal_probability(probabilities, labels, coverage),
        )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (..., 10)."""
        return softmax(logits, self.temperature)

    def reason(self, logits: np.ndarray) -> str:
        """Why an answer from ``logits`` (10,) is withheld, "not a digit" or "unsure"; "" when it is not."""
        if energy(logits) < self.min_energy:
            return "not a digit"
        return "" if self.probabilities(logits).max() >= self.accept_confidence else "unsure"

    def candidates(self, probabilities: np.ndarray) -> tuple[int, ...]:
        """The digits that may be meant, given calibrated ``probabilities`` (10,), most probable first.

        The best guess, and all that reach ``candidate_probability``.
        """
        best, *others = np.argsort(-probabilities, kind="stable").tolist()
        enough = self.candidate_probability
        return (best, *(digit for digit in others if probabilities[digit] >= enough))

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """From JSON; OSError or ValueError when the file is missing, damaged or out of range."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: float(value) for name, value in values.items()})
        except (AttributeError, TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Prediction:
    """What the network says of one digit."""

    digit: int | None  # the best guess, also when it is not accepted; None only for a blank
    confidence: float  # the calibrated probability of ``digit``; 0 for a blank
    probabilities: np.ndarray  # (10,), sums to 1
    accepted: bool
    reason: str  # "" when accepted, else "blank", "unsure" or "not a digit"
    image: np.ndarray  # (28, 28) float32 in [0, 1]: what the network got
    candidates: tuple[int, ...] = ()  # digits that may be meant, most probable first

    def reason_at(self, threshold: float) -> str:
        """Why it is withheld when a confidence of ``threshold`` is asked for; "" when it is not."""
        if self.reason in ("blank", "not a digit"):
            return self.reason
        return "" if self.confidence >= threshold else "unsure"


# --- The model ------------------------------------------------------------------------------------


class LiteRTModel:
    """One ``.tflite`` file, images in and logits out, one image at a time. Thread-safe.

    RecognizerError when it is no LiteRT model, or not one from (1, 28, 28, 1) to (1, 10).
    """

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
        takes, gives = tuple(self._input["shape"]), tuple(self._output["shape"])
        if takes != (1, 28, 28, 1) or gives != (1, 10):
            raise RecognizerError(
                f"{_shown(path)} takes {takes} and gives {gives}; "
                "(1, 28, 28, 1) and (1, 10) are needed."
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
    """Strokes, pictures and photographs to what was written.

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
        self.model, self.calibration = model, calibration
        self.run, self.name, self.sha256 = run, name, sha256
        self._known: OrderedDict[tuple, Prediction] = OrderedDict()

    @classmethod
    def load(cls, run: str | None = None, model: str | None = None) -> "Recognizer":
        """Open a run's model with its calibration.

        Parameters
        ----------
        run
            Name of the run. Without one: ``latest`` when it is a finished standard or full run on
            MNIST with no setting changed, else ``reference``, the published run.
        model
            Name of its file without ``.tflite``. Without one: the file that the run chose.

        Raises
        ------
        RecognizerError
            When the run or the file is missing, cannot be used, or is not the one that the run
            recorded.
        """
        run = _default_run() if run is None else run
        folder = files.run_folder(run)
        if not folder.is_dir():
            raise RecognizerError(f"There is no run called {run!r}. Run ./run_all.sh --run {run}.")
        model = chosen(run) if model is None else model
        path = folder / "models" / f"{model}.tflite"
        if not path.is_file():
            there = ", ".join(available(run)) or "none"
            raise RecognizerError(f"{_shown(path)} does not exist. Available: {there}.")
        recorded = _read(folder / "run.json").get("models", {})
        calibration_file = calibration_path(path, recorded)
        digest, _ = _checked(path, recorded), _checked(calibration_file, recorded)
        try:
            calibration = Calibration.read(calibration_file)
        except (OSError, ValueError) as error:
            raise _unusable(calibration_file, error) from None
        return cls(LiteRTModel(path), calibration, run, model, digest)

    @cached_property
    def usual_energy(self) -> float:
        """The energy of a digit that is drawn clearly: the median over the built-in examples of one."""
        digits = [one.strokes for one in ink.examples() if len(one.expected or "") == 1]
        pictures = np.array([ink.strokes_to_image(strokes) for strokes in digits])
        return float(np.median(energy(self.model.logits(pictures))))

    def predict_normalized(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, 10) of images in MNIST's form, (n, 28, 28[, 1]) in [0, 1]."""
        return self.calibration.probabilities(self.model.logits(images))

    def predict(self, image: np.ndarray) -> Prediction:
        """One digit from a picture in MNIST's form, (28, 28) float32 in [0, 1]."""
        if not image.any():
            return Prediction(None, 0.0, np.full(10, 0.1), False, "blank", image)
        logits = self.model.logits(image)[0]
        probabilities = self.calibration.probabilities(logits)
        digit = int(probabilities.argmax())
        confidence, reason = float(probabilities[digit]), self.calibration.reason(logits)
        candidates = self.calibration.candidates(probabilities)
        return Prediction(digit, confidence, probabilities, not reason, reason, image, candidates)

    def predict_image(self, canvas: np.ndarray) -> Prediction:
        """One digit from a picture (H, W), light ink on dark, uint8 or float in [0, 1]; else ValueError."""
        return self.predict(ink.normalize(canvas))

    def predict_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Prediction:
        """One digit from pen strokes.

        strokes: (n, 2) arrays of canvas pixels, y downwards, on a canvas of ``size`` pixels.
        ValueError for other shapes.
        """
        prediction = self.predict(ink.strokes_to_image(strokes, size))
        if prediction.accepted and ink.extent(strokes, size) < size * ink.DOT:
            return replace(
                prediction, accepted=False, reason="not a digit"
            )  # enlarged, a dot is fat
        return prediction

    def read_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Answer:
        """One digit or a whole number, as ``segmentation.read`` parts it.

        Predictions are remembered: of a drawing that grows only the last digit changes.
        """

        def predict(group: list[np.ndarray]) -> Prediction:
            key = size, *(sha256(stroke.tobytes()).digest() for stroke in group)
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = self.predict_strokes(group, size)
                if len(self._known) > MEMORY:
                    self._known.popitem(last=False)
            return found

        started = time.perf_counter()
        answer = segmentation.read(predict, strokes, size)
        return replace(answer, seconds=time.perf_counter() - started)

    def read_photo(self, content: bytes, name: str = "") -> Answer:
        """The digits in the bytes of a picture, in reading order; see ``photo.read_photo``.

        The boxes are in pixels of ``Answer.preview``. PhotoError says in words what is wrong.
        """
        from digits.recognizer import photo

        started = time.perf_counter()
        found = photo.read_photo(content, name, self)
        read = [self.predict(image) for image in found.images]
        parts = tuple(
            Part(prediction, prediction.reason, box)
            for prediction, box in zip(read, found.boxes, strict=True)
        )
        seconds = time.perf_counter() - started
        return Answer(parts, seconds=seconds, preview=found.preview_png)


# --- A run's files --------------------------------------------------------------------------------


def available(run: str) -> list[str]:
    """Names of the LiteRT models that a run holds."""
    return sorted(path.stem for path in (files.run_folder(run) / "models").glob("*.tflite"))


def chosen(run: str) -> str:
    """The name of the model that a run chose by its rule; "float32" where it has chosen none."""
    metrics = _read(files.run_folder(run) / "metrics.json")
    choices = [part["chosen"]["name"] for part in metrics.values() if part.get("chosen")]
    return next((name for name in choices if name in available(run)), "float32")


def calibration_path(path: Path, recorded: Container[str] = ()) -> Path:
    """The calibration of a LiteRT file: NAME.calibration.json where there is one, else calibration.json.

    A network with weights of its own has one of its own, beside it or ``recorded`` by the run.
    """
    own = path.with_name(f"{path.stem}.calibration.json")
    return own if own.name in recorded or own.exists() else path.with_name("calibration.json")


def _default_run() -> str:
    record = _read(files.OUTPUTS / "latest" / "run.json")
    good = (
        record.get("status") == "finished"
        and record.get("profile") in ("standard", "full")
        and (record.get("dataset") or {}).get("name") == "mnist"
        and not record.get("settings")
    )
    return "latest" if good else "reference"


def _read(path: Path) -> dict:
    """What a run recorded; {} when the file is missing or damaged."""
    try:
        return files.read_json(path)
    except (files.RunError, OSError):
        return {}


def _checked(path: Path, recorded: dict) -> str:
    """The SHA-256 of a file; RecognizerError when it is not what the run recorded.

    A damaged file can crash the interpreter, so it is never opened. A notebook that is run by hand
    records nothing.
    """
    try:
        digest = files.sha256(path)
    except OSError as error:
        raise _unusable(path, error.strerror) from None
    if recorded.get(path.name) not in (None, digest):
        raise RecognizerError(
            f"{_shown(path)} is not the file that this run recorded. Restore it, or run again."
        )
    return digest


def _unusable(path: Path, why: object) -> RecognizerError:
    return RecognizerError(f"{_shown(path)} cannot be used ({why}). Restore it, or run again.")


def _shown(path: Path) -> str:
    """A path without this machine's part of it, for messages that others may read."""
    return "/".join(path.parts[-3:])

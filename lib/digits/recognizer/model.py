"""A LiteRT model and its calibration to an answer, for the app, the evaluation and any program.

Needs LiteRT, NumPy and Pillow. Neither TensorFlow nor SciPy: every visitor of the app has a process
of their own, and SciPy's softmax alone would add 21 MB to it.
"""

import json
import os
import threading
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from digits import files
from digits.recognizer import ink, segmentation
from digits.recognizer.segmentation import Answer

LARGEST_FILE = 12_000_000  # bytes of a picture


class RecognizerError(Exception):
    """The model cannot be used; the message says which file and what to do."""


class PhotoError(Exception):
    """The picture cannot be read; the message tells the visitor what to do."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 to nowhere.

    In the main thread only: the descriptor is the whole process's, and what a server's other
    threads load must silence neither its log nor a kernel that it starts meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        saved = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities along the last axis, (..., 10) float64, of logits over ``temperature``."""
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

    @classmethod
    def fit(
        cls, logits: np.ndarray, labels: np.ndarray, risk: float, refused: float, coverage: float
    ) -> "Calibration":
        """From the logits (n, 10) and labels (n,) of images that the network was not trained on.

        risk: tolerated share of wrong answers among those given; refused: share of these digits
        that may be taken for none; coverage: share of them that shall be among the candidates.
        """
        from digits import evaluation  # SciPy, which a recognizer never needs

        temperature = evaluation.fit_temperature(logits, labels)
        sure = evaluation.Predictions(labels, logits, temperature)
        threshold = evaluation.choose_threshold(sure.confidence, sure.correct, risk)
        candidate = evaluation.conformal_probability(sure.probabilities, labels, coverage)
        return cls(temperature, threshold, float(np.quantile(energy(logits), refused)), candidate)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (..., 10)."""
        return softmax(logits, self.temperature)

    def reason(self, logits: np.ndarray) -> str:
        """Why an answer from ``logits`` (10,) is withheld, "not a digit" or "unsure"; else ""."""
        if energy(logits) < self.min_energy:
            return "not a digit"
        return "" if self.probabilities(logits).max() >= self.accept_confidence else "unsure"

    def candidates(self, probabilities: np.ndarray) -> tuple[int, ...]:
        """The digits that may be meant, given ``probabilities`` (10,), most probable first."""
        best, *others = np.argsort(-probabilities, kind="stable").tolist()
        enough = self.candidate_probability
        return (best, *(digit for digit in others if probabilities[digit] >= enough))

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """From JSON; OSError, TypeError or ValueError when the file cannot be used."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{name: float(value) for name, value in dict(values).items()})


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


class LiteRTModel:
    """One ``.tflite`` file, from (1, 28, 28, 1) to (1, 10), on one thread. Thread-safe."""

    def __init__(self, path: Path):
        try:
            with quiet_stderr():  # LiteRT announces its XNNPACK delegate each time
                self._interpreter = Interpreter(model_path=str(path), num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _unusable(path, error) from None
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
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


@dataclass(eq=False)
class Recognizer:
    """Strokes, pictures and photographs to what was written.

    >>> prediction = Recognizer.load(run="reference").predict_strokes([[(140, 40), (140, 240)]])
    >>> prediction.digit, prediction.accepted
    (1, True)
    """

    model: LiteRTModel
    calibration: Calibration
    run: str = ""
    name: str = ""  # of the model's file, without ".tflite"
    sha256: str = ""  # of the model's file
    _known: dict[tuple, Prediction] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, run: str | None = None, model: str | None = None) -> "Recognizer":
        """Open the model ``model`` (its file's name without ``.tflite``) of the run ``run``.

        Without a run: ``latest`` when it is a finished standard or full run on MNIST with no
        setting changed, else ``reference``, the published one. Without a model: the file that the
        run chose. RecognizerError when run or file is missing, unusable, or not as recorded.
        """
        if run is None:
            latest = files.read_or_empty(files.OUTPUTS / "latest" / "run.json")
            run = "latest" if _is_good(latest) else "reference"
        folder = files.run_folder(run)
        if not folder.is_dir():
            raise RecognizerError(f"There is no run called {run!r}. Run ./run_all.sh --run {run}.")
        model = chosen(run) if model is None else model
        path = folder / "models" / f"{model}.tflite"
        if not path.is_file():
            there = ", ".join(available(run)) or "none"
            raise RecognizerError(f"{_shown(path)} does not exist. Available: {there}.")
        recorded = files.read_or_empty(folder / "run.json").get("models", {})
        limits = calibration_path(path, recorded)
        digest, _ = _checked(path, recorded), _checked(limits, recorded)
        try:
            calibration = Calibration.read(limits)
        except (TypeError, ValueError) as error:
            raise _unusable(limits, error) from None
        return cls(LiteRTModel(path), calibration, run, model, digest)

    @cached_property
    def usual_energy(self) -> float:
        """The energy of a digit that is drawn clearly: the median over the built-in examples."""
        digits = [one.strokes for one in ink.examples() if len(one.expected or "") == 1]
        pictures = np.array([ink.strokes_to_image(strokes) for strokes in digits])
        return float(np.median(energy(self.model.logits(pictures))))

    def predict_normalized(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, 10) of images in MNIST's form, (n, 28, 28[, 1])."""
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
        """One digit from a picture (H, W), light ink on dark; see ``ink.normalize``."""
        return self.predict(ink.normalize(canvas))

    def predict_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Prediction:
        """One digit from strokes, (n, 2) canvas pixels each; see ``ink.strokes_to_image``."""
        prediction = self.predict(ink.strokes_to_image(strokes, size))
        if prediction.accepted and ink.extent(strokes, size) < size * ink.DOT:
            return replace(prediction, accepted=False, reason="not a digit")
        return prediction

    def read_strokes(self, strokes: Sequence[np.ndarray], size: int = ink.CANVAS) -> Answer:
        """One digit or a whole number from strokes; see ``segmentation.read``.

        The last drawing's predictions are remembered: while one grows only a digit changes.
        """

        def predict(group: list[np.ndarray]) -> Prediction:
            key = size, *(sha256(stroke.tobytes()).digest() for stroke in group)
            if key not in known:
                known[key] = before.get(key) or self.predict_strokes(group, size)
            return known[key]

        started, before = time.perf_counter(), self._known
        known: dict[tuple, Prediction] = {}
        answer = segmentation.read(predict, strokes, size)
        self._known = known
        return replace(answer, seconds=time.perf_counter() - started)

    def read_photo(self, content: bytes, name: str = "", upright: bool = False) -> Answer:
        """The digits in the bytes of a picture, in reading order; see ``photo.read_photo``.

        The boxes are in pixels of ``Answer.preview``. PhotoError says what is wrong with ``name``.
        """
        from digits.recognizer import photo  # and OpenCV, only now

        started = time.perf_counter()
        try:
            answer = photo.read_photo(content, self, upright)
        except PhotoError as error:
            raise PhotoError(f"{name}: {error}" if name else str(error)) from error
        return replace(answer, seconds=time.perf_counter() - started)


def available(run: str) -> list[str]:
    """Names of the LiteRT models that a run holds."""
    return sorted(path.stem for path in (files.run_folder(run) / "models").glob("*.tflite"))


def chosen(run: str) -> str:
    """The name of the model that a run chose by its rule; "float32" where it has chosen none."""
    metrics = files.read_or_empty(files.run_folder(run) / "metrics.json")
    choices = [part["chosen"]["name"] for part in metrics.values() if part.get("chosen")]
    return next((name for name in choices if name in available(run)), "float32")


def calibration_path(path: Path, recorded: Container[str] = ()) -> Path:
    """The calibration of a LiteRT file: NAME.calibration.json where there is one, else the run's.

    A network with weights of its own has one, beside its file or at least ``recorded`` by the run.
    """
    own = path.with_name(f"{path.stem}.calibration.json")
    return own if own.name in recorded or own.exists() else path.with_name("calibration.json")


def _is_good(record: dict) -> bool:
    """Whether a run may read for everybody, which a short one or an experiment may not."""
    dataset, profile = record.get("dataset") or {}, record.get("profile")
    finished = record.get("status") == "finished" and profile in ("standard", "full")
    return finished and dataset.get("name") == "mnist" and not record.get("settings")


def _checked(path: Path, recorded: dict) -> str:
    """The SHA-256 of a file; RecognizerError when the run recorded another one.

    A damaged file can crash the interpreter: it is never opened. A run by hand records nothing.
    """
    try:
        digest = files.sha256(path)
    except OSError as error:
        raise _unusable(path, error.strerror) from None
    if recorded.get(path.name) not in (None, digest):
        raise _unusable(path, "it is not the file that this run recorded")
    return digest


def _unusable(path: Path, why: object) -> RecognizerError:
    return RecognizerError(f"{_shown(path)} cannot be used ({why}). Restore it, or run again.")


def _shown(path: Path) -> str:
    """A path without this machine's part of it, for messages that others may read."""
    return "/".join(path.parts[-3:])

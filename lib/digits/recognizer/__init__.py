"""Ink, photographs and the LiteRT model: from what somebody drew to an answer. No TensorFlow."""

from digits.recognizer.calibration import Calibration
from digits.recognizer.model import Prediction, Recognizer, RecognizerError

__all__ = ["Calibration", "Prediction", "Recognizer", "RecognizerError"]

"""Ink, photographs and the LiteRT model: from what somebody drew to an answer. No TensorFlow."""

from digits.recognizer.model import Prediction, Recognizer, RecognizerError

__all__ = ["Prediction", "Recognizer", "RecognizerError"]

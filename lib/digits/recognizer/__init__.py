"""Ink, photographs and the LiteRT model: from what somebody drew to an answer. No TensorFlow."""

from digits.recognizer.model import (
    Calibration,
    LiteRTModel,
    PhotoError,
    Prediction,
    Recognizer,
    RecognizerError,
    energy,
    softmax,
)
from digits.recognizer.segmentation import Answer, Part

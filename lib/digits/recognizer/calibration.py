"""Logits to probabilities that can be believed, and the rule by which an answer is given or
withheld. NumPy only."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities along the last axis, (..., 10), of logits divided by ``temperature``; computed
    in float64.

    >>> softmax(np.log([6, 3, 1])).round(2).tolist()
    [0.6, 0.3, 0.1]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def energy(logits: np.ndarray) -> np.ndarray:
    """Log-sum-exp of the logits, (...,): high for ink like the training data's (Liu et al. 2020,
    sign turned)."""
    logits = np.asarray(logits, dtype=np.float64)
    peak = logits.max(-1)
    return peak + np.log(np.exp(logits - peak[..., None]).sum(-1))


@dataclass(frozen=True)
class Calibration:
    """Fitted on validation data by 02_training, stored beside the model in ``calibration.json``."""

    temperature: float = 1.0  # logits are divided by it (Guo et al. 2017)
    accept_confidence: float = 0.5  # below it the answer is "unsure"
    min_energy: float = -1e9  # energy below it: "not a digit"
    candidate_probability: float = (
        1.0  # a digit at least this probable may be meant (Sadinle et al. 2019)
    )

    def __post_init__(self):
        if not (
            0 < self.temperature < 100
            and 0 <= self.accept_confidence <= 1
            and np.isfinite(self.min_energy)
            and 0 <= self.candidate_probability <= 1
        ):
            raise ValueError(f"out of range: {self}")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (..., 10)."""
        return softmax(logits, self.temperature)

    def reason(self, logits: np.ndarray) -> str:
        """Why an answer from ``logits`` (10,) is withheld, "not a digit" or "unsure"; "" when it is
        given."""
        if energy(logits) < self.min_energy:
            return "not a digit"
        return "" if self.probabilities(logits).max() >= self.accept_confidence else "unsure"

    def candidates(self, probabilities: np.ndarray) -> tuple[int, ...]:
        """Which digits may be meant, given calibrated ``probabilities`` (10,): the best guess and
        all that are probable enough, most probable first."""
        order = np.argsort(-probabilities, kind="stable").tolist()
        return tuple(
            order[:1]
            + [digit for digit in order[1:] if probabilities[digit] >= self.candidate_probability]
        )

    @classmethod
    def fit(
        cls, logits: np.ndarray, labels: np.ndarray, risk: float, refused: float, coverage: float
    ) -> "Calibration":
        """Temperature, acceptance rule and candidates from logits (n, 10) and labels of validation
        images.

        risk: tolerated share of wrong answers among those given; refused: share of these digits
        that may be taken for none; coverage: share of digits that shall be among the candidates.
        """
        from digits import (
            evaluation,
        )  # SciPy: the app that only reads a calibration starts without it

        temperature = evaluation.fit_temperature(logits, labels)
        sure = evaluation.Predictions(labels, logits, temperature)
        return cls(
            temperature,
            evaluation.choose_threshold(sure.confidence, sure.correct, risk),
            float(np.quantile(energy(logits), refused)),
            evaluation.conformal_probability(sure.probabilities, labels, coverage),
        )

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """From JSON; OSError or ValueError when the file is missing, damaged or out of range."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: float(value) for name, value in values.items()})
        except (AttributeError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from None

"""Score a run's exported model: test images, unseen hands, trust, refusal, speed.

    DIGITS_DATA=FOLDER python tests/benchmarks/quality.py [--run NAME] [--model float32] [--seed 1] [--output FILE.json]

Only ``digits.recognizer.model`` is asked, as the app asks it. Needs MNIST and the pen digits (see ``digits.data``). The test
images and the test writers are for finished models: choose on other data.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from digits import data, evaluation
from digits.data import non_digits
from digits.recognizer import Recognizer, ink
from digits.run import comparison

EACH = 100  # drawings of each kind that is no digit
SPEED_RUNS = 2_000


def refusals(recognizer: Recognizer, pen: list[list[np.ndarray]], seed: int) -> dict[str, dict]:
    """Of ink that is no digit, the share that is not accepted: a row a kind, and all of them together."""
    drawings = non_digits.drawings(EACH, seed)
    drawings["two digits as one"] = non_digits.side_by_side(pen, EACH, seed)
    replies = {
        kind: [recognizer.predict_strokes(strokes) for strokes in some]
        for kind, some in drawings.items()
    }
    replies |= {
        f"{kind} (unseen fonts)": [recognizer.predict_image(image) for image in some]
        for kind, some in non_digits.characters(EACH, seed).items()
    }
    refused = {kind: [not reply.accepted for reply in some] for kind, some in replies.items()}
    rows = {kind: evaluation.proportion(sum(some), len(some)) for kind, some in refused.items()}
    rows["never shown"] = _together(rows, non_digits.NEVER_SHOWN)
    rows["all"] = _together(rows, refused)
    blanks = [
        recognizer.predict_strokes([]),
        recognizer.predict_image(np.zeros((280, 280), np.uint8)),
    ]
    return rows | {
        "blank": evaluation.proportion(sum(not blank.accepted for blank in blanks), len(blanks))
    }


def _together(rows: dict[str, dict], kinds) -> dict:
    return evaluation.proportion(
        *(sum(rows[kind][key] for kind in kinds) for key in ("count", "n"))
    )


def milliseconds(recognizer: Recognizer, images: np.ndarray) -> dict:
    """One image at a time on one thread: median and 95th percentile."""
    seconds = []
    for image in images[np.arange(SPEED_RUNS + 50) % len(images)]:
        started = time.perf_counter()
        recognizer.model.logits(image)
        seconds.append(time.perf_counter() - started)
    median, p95 = np.quantile(np.array(seconds[50:]) * 1000, [0.5, 0.95])
    return {"median": float(median), "p95": float(p95), "n": SPEED_RUNS}


def score(recognizer: Recognizer, seed: int) -> dict:
    """Every figure, as JSON takes it."""
    test = data.load("mnist")
    images, labels = test.x_test[..., 0], test.y_test
    mnist = evaluation.Predictions(
        labels, recognizer.model.logits(images), recognizer.calibration.temperature
    )
    pen = data.load_pen_digits("tes")
    drawings = [[stroke * (ink.CANVAS / data.TABLET) for stroke in digit.strokes] for digit in pen]
    answers = [recognizer.predict_strokes(strokes) for strokes in drawings]
    truth = np.array([digit.label for digit in pen])
    right = np.array([answer.digit for answer in answers]) == truth
    confidence = np.array([answer.confidence for answer in answers])
    writers = evaluation.by_group([digit.writer for digit in pen], right)
    people = evaluation.bootstrap_interval(
        lambda good, n: good.sum() / n.sum(),
        writers["right"].to_numpy(),
        writers["n"].to_numpy(),
        seed=seed,
    )
    return {
        "mnist": evaluation.accuracy_summary(labels, mnist.predictions),
        "pen": evaluation.accuracy_summary(np.ones(len(right)), right.astype(int))
        | {"writers_interval": people},
        "calibration": {
            "mnist": evaluation.expected_calibration_error(mnist.confidence, mnist.correct),
            "pen": evaluation.expected_calibration_error(confidence, right),
        },
        "accepted_pen": evaluation.acceptance_summary(
            [answer.accepted for answer in answers], right
        ),
        "not_accepted": refusals(recognizer, drawings, seed),
        "milliseconds": milliseconds(recognizer, images[:200]),
    }


def show(result: dict) -> None:
    """The table."""
    share = evaluation.share_text
    rows = [
        ("MNIST test", evaluation.accuracy_text(result["mnist"]), "at least 99.70%"),
        ("pen digits, unseen writers", evaluation.accuracy_text(result["pen"]), "at least 98.7%"),
        (
            "  expected of other writers",
            "{:.1%} to {:.1%}".format(*result["pen"]["writers_interval"]),
            "",
        ),
        ("calibration error, MNIST test", f"{result['calibration']['mnist']:.2%}", "at most 0.15%"),
        ("calibration error, pen digits", f"{result['calibration']['pen']:.2%}", "at most 0.8%"),
        ("pen digits accepted", share(result["accepted_pen"]["answered"]), "at least 97.5%"),
        ("  of those right", share(result["accepted_pen"]["right"]), "at least 99.5%"),
        *(
            (f"not accepted: {kind}", share(one), "at least 95%" if kind == "all" else "")
            for kind, one in result["not_accepted"].items()
        ),
        (
            "one image, one thread",
            "{median:.3f} ms (p95 {p95:.3f}, n = {n:,})".format(**result["milliseconds"]),
            "at most 0.25 ms",
        ),
    ]
    width = max(len(row[0]) for row in rows)
    for name, value, target in rows:
        print(f"{name:<{width}}  {value:<62} {target}")


def main() -> None:
    """Score, print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference")
    parser.add_argument("--model", default="float32", help="name of the run's LiteRT file")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the drawings that are no digits, and the resampling"
    )
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    recognizer = Recognizer.load(options.run, options.model)
    result = {
        "run": options.run,
        "model": options.model,
        "sha256": recognizer.sha256,
        "seed": options.seed,
        "machine": comparison.machine(),
        **score(recognizer, options.seed),
    }
    show(result)
    if options.output:
        options.output.write_text(
            json.dumps(result, indent=1, default=float) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

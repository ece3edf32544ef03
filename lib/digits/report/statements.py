"""What the report and the README say in numbers: each sentence is a template that the run's metrics fill.

A template's fields are paths into ``metrics.json``: ``{03_evaluation.test.n:,}``. What lacks a number is left out.
"""

from string import Formatter
from typing import Any

from digits.report import notebook

ABSTRACT = (
    "A convolutional network of {02_training.parameters:,} parameters learns to read digits from "
    "{02_training.split.train_size:,} images, moved, bent, inked and restyled while it trains.",
    "It reads {03_evaluation.test.accuracy:.2%} of {03_evaluation.test.n:,} test images right "
    "({03_evaluation.test.errors:,} errors).",
    "Carried out with {03_evaluation.seeds.n} seeds, the recipe gives {03_evaluation.seeds.MNIST test accuracy.mean:.2%} ± "
    "{03_evaluation.seeds.MNIST test accuracy.std:.2%}.",
    "Nobody draws test images, so it also reads {03_evaluation.pen.n:,} digits that people whom it never met drew with a "
    "pen: {03_evaluation.pen.accuracy:.1%}, the "
    "95% interval over writers is {03_evaluation.pen.writers_interval.0:.1%} to {03_evaluation.pen.writers_interval.1:.1%}.",
    "Where it is not sure it says so; its confidence is off by {03_evaluation.calibration.ece:.2%} on images like MNIST's and "
    "by {03_evaluation.pen.calibration.ece:.1%} on other hands.",
    "The smallest file that keeps its accuracy has {04_optimization.chosen.kilobytes:,.0f} kB.",
)

MODEL_CARD = (
    (
        "What it is",
        (
            "A convolutional network of {02_training.parameters:,} parameters that reads one handwritten digit, 0 to 9, from 28 × "
            "28 pixels, with a temperature and two limits that make it say “not sure” or “not a digit”.",
            "It is served by LiteRT, in a drawing app and as a Python class.",
        ),
    ),
    (
        "What it is for",
        (
            "Learning and teaching how such a network is trained, examined and served; reading digits that someone draws, one or "
            "a short row of them, and corrects at once when they are misread.",
        ),
    ),
    (
        "What it must not be used for",
        (
            "Anything where a misread digit costs more than drawing it again: amounts, doses, postcodes, ballots, forms or marks "
            "that nobody checks.",
            "Telling who wrote something. Letters, other numerals than 0 to 9, or printed type.",
            "Numbers of several digits as one reading: each digit is read by itself, and their errors add up.",
        ),
    ),
    (
        "What it learnt from",
        (
            "{01_eda.dataset.n_train:,} training images of MNIST, American handwriting of about 1990, of which "
            "{01_eda.split.validation_size:,} were kept back for choices; generated variants in other writing styles; generated "
            "ink that is no digit.",
            "No pen digit, though those of 30 other writers guided the development, and no visitor's drawing.",
        ),
    ),
    (
        "What it was examined on",
        (
            "{03_evaluation.test.n:,} test images of MNIST, by other writers than the training images.",
            "{03_evaluation.pen.n:,} pen digits of {03_evaluation.pen.writers:,} writers (UCI no. 81, collected at Boğaziçi "
            "University in Istanbul in the 1990s), whose age, hand and schooling were not recorded: by such groups nothing could "
            "be measured.",
            "{03_evaluation.non_digits.refused.n:,} generated drawings, letters and symbols that are no digits.",
        ),
    ),
    (
        "Where it fails",
        (
            "By writer: of {03_evaluation.pen.writers:,}, two make {03_evaluation.pen.two_writers_share:.0%} of the errors. "
            "Whoever writes as they do is served badly, again and again.",
            "By digit: of the pen digits, {03_evaluation.pen.hardest.0.digit} ({03_evaluation.pen.hardest.0.errors:,} errors), "
            "{03_evaluation.pen.hardest.1.digit} ({03_evaluation.pen.hardest.1.errors:,}) and "
            "{03_evaluation.pen.hardest.2.digit} ({03_evaluation.pen.hardest.2.errors:,}) are misread most often.",
            "By what is drawn: it answers {03_evaluation.non_digits.worst.answered:.0%} of the drawings of a "
            "{03_evaluation.non_digits.worst.kind} as if they were digits. Of kinds unlike anything in its training it leaves "
            "{03_evaluation.non_digits.never_shown_refused.share:.0%} unanswered, of all "
            "{03_evaluation.non_digits.refused.share:.0%}.",
            "By how sure it sounds: on the pen digits it claims {03_evaluation.pen.calibration.confidence:.1%} and is right "
            "{03_evaluation.pen.accuracy:.1%} of the time.",
        ),
    ),
    (
        "What we could not do",
        (
            "Ask people. The figures come from two collections that are decades old; visitors' feedback is neither a sample nor "
            "part of this run.",
        ),
    ),
)


def abstract(metrics: dict) -> str:
    """The abstract, without the sentences whose numbers are missing."""
    return " ".join(filled(ABSTRACT, derived(metrics)))


def model_card(metrics: dict) -> list[tuple[str, list[str]]]:
    """Limits and intended use (Mitchell et al. 2019, Model cards for model reporting): (heading, sentences)."""
    known = derived(metrics)
    card = [
        (title, sentences)
        for title, templates in MODEL_CARD
        if (sentences := filled(templates, known))
    ]
    aimed = [
        f"{aim['label'][0].upper()}{aim['label'][1:]}, {aim['goal']}: {aim['text']}, "
        f"{'reached' if aim['reached'] else 'missed'}."
        for aim in notebook.aims(metrics)
    ]
    return card + ([("What we had aimed at", aimed)] if aimed else [])


def surprises(metrics: dict) -> list[str]:
    """What we did not expect, a chapter each, where the run measured it."""
    return filled(
        (
            "Without learning anything, comparing an image with its nearest relatives, stood upright, reads "
            "{01_eda.baselines.nearest_neighbours_upright.test.accuracy:.2%} of the test images. A network has less to gain than "
            "its fame suggests.",
            "{03_evaluation.known_errors:,} of the {03_evaluation.test.errors:,} test errors are on images whose label most people "
            "reject: part of the last tenths of a percent measures the labels, not the network.",
            "Other people's digits, drawn with another pen, are misread {03_evaluation.pen.times_as_often:.0f} times as often, and "
            "two writers of {03_evaluation.pen.writers:,} make {03_evaluation.pen.few_make_most:.0%} of these errors: the "
            "network does not fail a little for everybody, it fails a lot for some.",
            "The way from the drawing to 28 × 28 pixels can undo a good network: the same strokes and the same weights "
            "give {03_evaluation.pen.shrunk:.1%} when a canvas with small writing is just made smaller, and "
            "{03_evaluation.pen.accuracy:.1%} when the path is inked again with an even pen.",
            "Eight bits do: the file of {04_optimization.files.dynamic_int8.kilobytes:,.0f} kB answers like the one of "
            "{04_optimization.files.float32.kilobytes:,.0f} kB on "
            "{04_optimization.files.dynamic_int8.agreement_with_float32:.2%} of the validation images.",
        ),
        derived(metrics),
    )


def derived(metrics: dict) -> dict:
    """``metrics`` with what sentences need and no notebook records: sums, ratios, the worst of a list."""
    chapters = {name: dict(chapter) for name, chapter in metrics.items()}
    third, fourth = chapters.get("03_evaluation", {}), chapters.get("04_optimization", {})
    if any(known := third.get("errors", {}).get("known", [])):
        third["known_errors"] = sum(known)
    if pen := third.get("pen"):
        third["pen"] = pen | _of_pen_digits(pen, third)
    if kinds := third.get("non_digits", {}).get("kinds"):
        answered, kind = max(zip(kinds["answered"], kinds["kind"], strict=True))
        third["non_digits"] = third["non_digits"] | {"worst": {"kind": kind, "answered": answered}}
    if files := fourth.get("files"):
        fourth["files"] = {
            name: file | {"kilobytes": file["bytes"] / 1000}
            for name, file in files.items()
            if "bytes" in file
        }
        if chosen := fourth["files"].get(fourth.get("chosen", {}).get("name")):
            fourth["chosen"] = fourth["chosen"] | {
                "kilobytes": chosen["kilobytes"],
                "latency_ms_median": chosen.get("latency_ms_median"),
            }
    return chapters


def _of_pen_digits(pen: dict, chapter: dict) -> dict:
    found: dict[str, Any] = {}
    if writers := pen.get("errors_per_writer"):
        share = sum(sorted(writers.values())[-2:]) / max(sum(writers.values()), 1)
        found |= {"writers": len(writers), "two_writers_share": share} | (
            {"few_make_most": share} if share > 0.5 else {}
        )
    if digits := pen.get("errors_per_digit"):
        ranked = sorted(range(10), key=lambda digit: -digits[digit])[:3]
        found["hardest"] = [{"digit": digit, "errors": digits[digit]} for digit in ranked]
    if ways := pen.get("ways"):
        shrunk = dict(zip(ways["way"], ways["accuracy"], strict=True)).get("canvas shrunk", 1)
        found |= {"shrunk": shrunk} if shrunk < pen["accuracy"] - 0.1 else {}
    if test := chapter.get("test"):
        found["times_as_often"] = pen["errors"] / pen["n"] * test["n"] / max(test["errors"], 1)
    return found


def filled(templates: tuple[str, ...], metrics: dict) -> list[str]:
    """The templates whose numbers are all there, filled."""
    return [text for template in templates if (text := fill(template, metrics))]


def fill(template: str, metrics: dict) -> str | None:
    """``template`` with its paths looked up and formatted, or None when a number is missing.

    >>> fill("{test.n:,} images, from {test.interval.0:.1%}", {"test": {"n": 10_000, "interval": [0.993, 0.996]}})
    '10,000 images, from 99.3%'
    """
    text = ""
    for literal, path, form, _ in Formatter().parse(template):
        text += literal
        if path is not None:
            value = look_up(metrics, path)
            if value is None:
                return None
            text += format(value, form)
    return text


def look_up(tree: Any, path: str) -> Any:
    """The value at a dotted path through dicts and lists, or None."""
    for key in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(key)
        elif isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return None
    return tree

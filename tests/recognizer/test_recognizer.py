"""The recognition contract, on the published model: answers, refusals, damaged files, and no TensorFlow."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from digits import files as paths
from digits.recognizer import ink
from digits.recognizer.calibration import Calibration, energy, softmax
from digits.recognizer.model import Recognizer, RecognizerError, available, chosen

SEVEN = [np.array([(70.0, 50), (210, 50), (130, 250)])]
ZERO = [140 + 90 * np.column_stack([0.7 * np.cos(t), np.sin(t)]) for t in [np.linspace(0, 6.3, 60)]]


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(run="reference")


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A folder of runs with a copy of the reference's models as the run "latest"."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    shutil.copytree(paths.REFERENCE / "models", tmp_path / "latest" / "models")
    shutil.copy(paths.REFERENCE / "run.json", tmp_path / "latest" / "run.json")
    return tmp_path


def change_record(outputs, **values):
    path = outputs / "latest" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("strokes", "digit"), [(SEVEN, 7), (ZERO, 0), ([np.array([(140.0, 40), (140, 240)])], 1)]
)
def test_plain_digits_are_read_and_accepted(recognizer, strokes, digit):
    prediction = recognizer.predict_strokes(strokes)
    assert prediction.digit == digit and prediction.accepted and prediction.reason == ""
    assert prediction.probabilities.shape == (
        10,
    ) and prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.confidence == prediction.probabilities[digit] > 0.9
    assert prediction.image.shape == (28, 28)


def test_blank_has_no_digit(recognizer):
    for prediction in (
        recognizer.predict_strokes([]),
        recognizer.predict_image(np.zeros((280, 280), np.uint8)),
    ):
        assert prediction.digit is None and prediction.confidence == 0
        assert not prediction.accepted and prediction.reason == "blank"
        assert prediction.probabilities.sum() == pytest.approx(1)


def test_ink_beyond_the_canvas_has_no_extent_of_its_own(recognizer):
    assert (
        ink.extent([[(-500, 140), (-100, 140)]]) == 0
        and ink.extent([[(100, -70), (100, 70)]]) == 70
    )
    assert not recognizer.predict_strokes([np.array([(-500.0, 140), (-100, 140)])]).accepted


def test_a_tap_is_no_digit(recognizer):
    for jitter in (0.0, 1.0, 4.0):
        tap = recognizer.predict_strokes([np.array([(100.0, 100), (100 + jitter, 100 + jitter)])])
        assert not tap.accepted and tap.digit is not None


def test_strokes_and_a_picture_of_them_agree(recognizer):
    from digits.recognizer import ink

    assert (
        recognizer.predict_image(ink.rasterize(SEVEN)).digit
        == recognizer.predict_strokes(SEVEN).digit
        == 7
    )


def test_a_withheld_answer_keeps_its_best_guess(recognizer):
    strict = Recognizer(recognizer.model, Calibration(accept_confidence=1.0, min_energy=-1e6))
    mixed = strict.predict_strokes(
        [*ZERO, np.array([(20.0, 20), (260, 250)]), np.array([(20.0, 150), (260, 140)])]
    )
    assert mixed.reason == "unsure" and mixed.digit is not None and not mixed.accepted
    never = Recognizer(recognizer.model, Calibration(min_energy=1e6)).predict_strokes(SEVEN)
    assert never.reason == "not a digit" and never.digit == 7


def test_candidates_are_the_best_guess_and_what_is_probable_enough():
    probabilities = np.array([0.02, 0.3, 0, 0, 0, 0, 0, 0.6, 0.05, 0.03])
    for limit, expected in ((1.0, (7,)), (0.3, (7, 1)), (0.05, (7, 1, 8)), (0.025, (7, 1, 8, 9))):
        assert Calibration(candidate_probability=limit).candidates(probabilities) == expected


def test_same_answer_alone_and_in_a_batch(recognizer):
    images = np.stack([recognizer.predict_strokes(strokes).image for strokes in (SEVEN, ZERO)])
    batch = recognizer.predict_normalized(images[..., None])
    for row, strokes in zip(batch, (SEVEN, ZERO), strict=True):
        np.testing.assert_array_equal(row, recognizer.predict_strokes(strokes).probabilities)


@pytest.mark.parametrize("name", available("reference"))
def test_every_published_model_works(name):
    recognizer = Recognizer.load(run="reference", model=name)
    assert [recognizer.predict_strokes(strokes).digit for strokes in (SEVEN, ZERO)] == [7, 0]
    assert len(recognizer.sha256) == 64


def test_latest_is_served_only_when_it_is_fit_to_be(outputs):
    assert Recognizer.load().run == "latest"
    for unfit in ({"profile": "quick"}, {"status": "failed"}, {"dataset": {"name": "digits"}}):
        record = (outputs / "latest" / "run.json").read_text()
        change_record(outputs, **unfit)
        assert Recognizer.load().run == "reference"
        (outputs / "latest" / "run.json").write_text(record)
    shutil.rmtree(outputs / "latest")
    assert Recognizer.load().run == "reference"


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ('{"04_optimization": {"chosen": {"name": "int8"}}}', "int8"),
        ('{"04_optimization": {"chosen": {"name": "../int8"}}}', "float32"),  # no such file
        ('{"04_optimization": {"chosen": {"name": ["int8"]}}}', "float32"),
        ('{"04_optimization": {"chosen": 5}}', "float32"),
        ('{"04_optimization": null}', "float32"),
        ("{", "float32"),
        ("[" * 100_000, "float32"),
    ],
)
def test_the_model_that_the_rule_chose_is_the_one_that_reads(outputs, metrics, name):
    (outputs / "latest" / "metrics.json").write_text(metrics)
    recognizer = Recognizer.load(run="latest")
    assert (recognizer.name, recognizer.run) == (name, "latest") and chosen("latest") == name
    assert Recognizer.load(run="latest", model="float16").name == "float16"


def test_missing_run_and_model_are_named(outputs):
    with pytest.raises(RecognizerError, match="no run called 'nowhere'"):
        Recognizer.load(run="nowhere")
    with pytest.raises(
        RecognizerError, match=r"float99.tflite does not exist. Available: .*float32"
    ):
        Recognizer.load(run="latest", model="float99")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b[:1000] + b"\0" * 64 + b[1064:], lambda b: b""],
)
def test_a_damaged_model_is_refused_before_it_is_opened(outputs, damage):
    path = outputs / "latest" / "models" / "float32.tflite"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecognizerError, match="is not the file that this run recorded"):
        Recognizer.load(run="latest")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"temperature": 0}',
        '{"temperature": NaN}',
        '{"heat": 1}',
        '{"temperature": "hot"}',
        "[" * 100_000,
        '{"temperature": 1' + "0" * 400 + "}",
    ],
)
def test_a_damaged_calibration_is_refused(outputs, content):
    change_record(outputs, models={})  # nothing to compare it with
    (outputs / "latest" / "models" / "calibration.json").write_text(content)
    with pytest.raises(RecognizerError, match="calibration.json cannot be used"):
        Recognizer.load(run="latest")


def test_a_calibration_that_is_not_the_recorded_one_is_refused(outputs):
    path = outputs / "latest" / "models" / "calibration.json"
    path.write_text(path.read_text().replace(": 0.", ": 0.0"))  # JSON still, and in range
    with pytest.raises(
        RecognizerError, match="calibration.json is not the file that this run recorded"
    ):
        Recognizer.load(run="latest")


@pytest.mark.parametrize(
    "record", ["", "[]", "5", '{"models": 5, "dataset": []}', "[" * 100_000, "\0"]
)
def test_a_damaged_record_never_stops_the_recognizer(outputs, record):
    (outputs / "latest" / "run.json").write_text(record)
    assert Recognizer.load().run == "reference" and Recognizer.load(run="latest").run == "latest"


def test_calibration_survives_its_file(tmp_path):
    calibration = Calibration(0.7, 0.61, -3.25)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration


def test_softmax_and_energy_bear_large_logits():
    logits = np.array([[1000.0, 0, 0], [-1000, -1000, -1000]])
    np.testing.assert_allclose(softmax(logits), [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(energy(logits), [1000, -1000 + np.log(3)])


def test_the_recognition_path_imports_no_tensorflow():
    code = """
import sys
from digits.recognizer.model import Recognizer
assert Recognizer.load(run="reference").predict_strokes([[(140, 40), (140, 240)]]).digit == 1
heavy = {"tensorflow", "keras", "sklearn", "scipy", "cv2", "pandas", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_network_with_a_calibration_of_its_own_uses_it(outputs):
    """A distilled or pruned network is sure of itself in its own way; the others share the run's calibration."""
    models = outputs / "latest" / "models"
    shutil.copy(models / "float32.tflite", models / "another.tflite")
    Calibration(temperature=3.0, min_energy=-5.0).write(models / "another.calibration.json")
    assert Recognizer.load(run="latest", model="another").calibration.temperature == 3.0
    assert (
        Recognizer.load(run="latest", model="int8").calibration
        == Recognizer.load(run="latest").calibration
    )
    assert available("latest") == sorted([*available("reference"), "another"])


def test_a_recorded_calibration_that_is_gone_or_changed_is_missed(outputs):
    """Falling back to the shared one would answer with another network's thresholds."""
    models = outputs / "latest" / "models"
    shutil.copy(models / "float32.tflite", models / "another.tflite")
    recorded = json.loads((outputs / "latest" / "run.json").read_text())["models"]
    change_record(outputs, models=recorded | {"another.calibration.json": "0" * 64})
    with pytest.raises(RecognizerError, match="another.calibration.json"):
        Recognizer.load(run="latest", model="another")
    Calibration(temperature=3.0).write(models / "another.calibration.json")
    with pytest.raises(
        RecognizerError, match="another.calibration.json is not the file that this run recorded"
    ):
        Recognizer.load(run="latest", model="another")

"""The recognition contract, on the published model: answers, refusals, damaged files, few imports."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from digits import files as paths
from digits.recognizer import (
    Calibration,
    Prediction,
    Recognizer,
    RecognizerError,
    energy,
    ink,
    softmax,
)
from digits.recognizer.model import available, chosen
from digits.recognizer.occlusion import occlusion_map

ONE = [np.array([(140.0, 40), (140, 240)])]
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


# --- Predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("strokes", "digit"), [(SEVEN, 7), (ZERO, 0), (ONE, 1)])
def test_plain_digits_are_read_and_accepted(recognizer, strokes, digit):
    prediction = recognizer.predict_strokes(strokes)
    assert prediction.digit == digit and prediction.accepted and prediction.reason == ""
    assert prediction.probabilities.shape == (10,)
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.confidence == prediction.probabilities[digit] > 0.9
    assert prediction.image.shape == (28, 28)
    assert recognizer.predict_image(ink.rasterize(strokes)).digit == digit


def test_blank_has_no_digit(recognizer):
    blank = np.zeros((280, 280), np.uint8)
    for prediction in (recognizer.predict_strokes([]), recognizer.predict_image(blank)):
        assert prediction.digit is None and prediction.confidence == 0
        assert not prediction.accepted and prediction.reason == "blank"
        assert prediction.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("jitter", [0, 1, 4])
def test_a_tap_is_no_digit(recognizer, jitter):
    tap = recognizer.predict_strokes([np.array([(100.0, 100), (100 + jitter, 100 + jitter)])])
    assert not tap.accepted and tap.digit is not None


def test_ink_beyond_the_canvas_is_no_digit(recognizer):
    assert not recognizer.predict_strokes([np.array([(-500.0, 140), (-100, 140)])]).accepted


def test_a_withheld_answer_keeps_its_best_guess(recognizer):
    strict = Recognizer(recognizer.model, Calibration(accept_confidence=1.0, min_energy=-1e6))
    crossed = [*ZERO, np.array([(20.0, 20), (260, 250)]), np.array([(20.0, 150), (260, 140)])]
    mixed = strict.predict_strokes(crossed)
    assert mixed.reason == "unsure" and mixed.digit is not None and not mixed.accepted
    never = Recognizer(recognizer.model, Calibration(min_energy=1e6)).predict_strokes(SEVEN)
    assert never.reason == "not a digit" and never.digit == 7


def test_same_answer_alone_and_in_a_batch(recognizer):
    alone = [recognizer.predict_strokes(strokes) for strokes in (SEVEN, ZERO)]
    batch = recognizer.predict_normalized(np.stack([one.image for one in alone])[..., None])
    np.testing.assert_array_equal(batch, [one.probabilities for one in alone])


@pytest.mark.parametrize(
    ("reason", "threshold", "expected"),
    [
        ("unsure", 0.4, ""),
        ("", 0.6, "unsure"),
        ("", 0.5, ""),
        ("not a digit", 0, "not a digit"),
        ("blank", 0, "blank"),
    ],
)
def test_another_threshold(reason, threshold, expected):
    prediction = Prediction(3, 0.5, np.full(10, 0.1), not reason, reason, np.zeros((28, 28)))
    assert prediction.reason_at(threshold) == expected


def test_the_occlusion_map_finds_what_speaks_for_an_answer(recognizer):
    image = recognizer.predict_strokes(SEVEN).image
    found = occlusion_map(recognizer.model, image, 7)
    assert found.effect.shape == (28, 28) and found.effect.max() > 0
    assert not found.effect[image == 0].any() and found.region(1)
    assert occlusion_map(recognizer.model, image, 2).effect.sum() < found.effect.sum()


def test_a_photo_is_read_into_parts(recognizer):
    import io

    from PIL import Image

    number = next(example for example in ink.examples() if example.name == "58")
    Image.fromarray(255 - ink.rasterize(number.strokes)).save(file := io.BytesIO(), "PNG")
    answer = recognizer.read_photo(file.getvalue())
    assert answer.text == "58" and answer.accepted
    assert answer.preview.startswith(b"\x89PNG") and answer.seconds > 0
    assert answer.parts[0].box[2] < answer.parts[1].box[2] <= 800


# --- Calibration ----------------------------------------------------------------------------------


def test_candidates_are_the_best_guess_and_what_is_probable_enough():
    probabilities = np.array([0.02, 0.3, 0, 0, 0, 0, 0, 0.6, 0.05, 0.03])
    for limit, expected in ((1.0, (7,)), (0.3, (7, 1)), (0.05, (7, 1, 8)), (0.025, (7, 1, 8, 9))):
        assert Calibration(candidate_probability=limit).candidates(probabilities) == expected


def test_calibration_survives_its_file(tmp_path):
    calibration = Calibration(0.7, 0.61, -3.25)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration


@pytest.mark.slow
def test_calibration_is_fitted_to_what_it_promises():
    """2,000 digits whose logits claim three times too much."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (2_000, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = Calibration.fit(3 * logits, labels, risk=0.5, refused=0.01, coverage=0.9)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert (energy(3 * logits) < found.min_energy).mean() == pytest.approx(0.01, abs=2e-3)
    probabilities = found.probabilities(3 * logits)
    given = probabilities.max(1) >= found.accept_confidence
    assert 0.45 < (logits.argmax(1) != labels)[given].mean() <= 0.5
    among = [
        label in found.candidates(row) for row, label in zip(probabilities, labels, strict=True)
    ]
    assert np.mean(among) == pytest.approx(0.9, abs=0.03)


def test_softmax_and_energy_bear_large_logits():
    logits = np.array([[1000.0, 0, 0], [-1000, -1000, -1000]])
    np.testing.assert_allclose(softmax(logits), [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(energy(logits), [1000, -1000 + np.log(3)])


# --- Runs and their files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", available("reference"))
def test_every_published_model_works(name):
    recognizer = Recognizer.load(run="reference", model=name)
    assert [recognizer.predict_strokes(strokes).digit for strokes in (SEVEN, ZERO)] == [7, 0]
    assert len(recognizer.sha256) == 64


@pytest.mark.parametrize(
    ("record", "run"),
    [
        ({}, "latest"),
        ({"profile": "full"}, "latest"),
        ({"profile": "quick"}, "reference"),
        ({"status": "failed"}, "reference"),
        ({"dataset": {"name": "digits"}}, "reference"),
        ({"dataset": None}, "reference"),
        ({"settings": ["02_training.epochs=1"]}, "reference"),
    ],
)
def test_latest_is_served_only_when_it_is_fit_to_be(outputs, record, run):
    change_record(outputs, **record)
    assert Recognizer.load().run == run


@pytest.mark.parametrize("record", ["", "[]", "\0", None])
def test_a_damaged_record_never_stops_the_recognizer(outputs, record):
    path = outputs / "latest" / "run.json"
    path.unlink() if record is None else path.write_text(record)
    assert Recognizer.load().run == "reference" and Recognizer.load(run="latest").run == "latest"


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ('{"first": {"n": 1}, "second": {"chosen": {"name": "int8"}}}', "int8"),
        ('{"second": {"chosen": {"name": "../int8"}}}', "float32"),  # no such file
        ("{}", "float32"),
        ("{", "float32"),
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
    with pytest.raises(RecognizerError, match=r"float99.tflite does not exist. .*: .*float32"):
        Recognizer.load(run="latest", model="float99")


def test_damaged_files_are_refused_before_they_are_opened(outputs):
    """A damaged model can crash the interpreter."""
    for name in ("float32.tflite", "calibration.json"):
        path = outputs / "latest" / "models" / name
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], whole.replace(b"0", b"1"), b""):
            path.write_bytes(damaged)
            with pytest.raises(RecognizerError, match=f"{name} cannot be used .it is not the file"):
                Recognizer.load(run="latest")
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", "5", '{"a": 1}', '{"temperature": "a"}', '{"temperature": null}'],
)
def test_a_calibration_that_says_nothing_sensible_is_refused(outputs, content):
    change_record(outputs, models={})  # nothing to compare it with
    (outputs / "latest" / "models" / "calibration.json").write_text(content)
    with pytest.raises(RecognizerError, match="calibration.json cannot be used"):
        Recognizer.load(run="latest")


def test_a_network_with_a_calibration_of_its_own_uses_it(outputs):
    """A distilled or pruned network is sure of itself in its own way; others share the run's."""
    models = outputs / "latest" / "models"
    shutil.copy(models / "float32.tflite", models / "another.tflite")
    Calibration(temperature=3.0, min_energy=-5.0).write(models / "another.calibration.json")
    assert Recognizer.load(run="latest", model="another").calibration.temperature == 3.0
    shared = [Recognizer.load(run="latest", model=name).calibration for name in ("int8", "float32")]
    assert shared[0] == shared[1]
    assert available("latest") == sorted([*available("reference"), "another"])


def test_a_recorded_calibration_that_is_gone_or_changed_is_missed(outputs):
    """Falling back to the shared one would answer with another network's thresholds."""
    models = outputs / "latest" / "models"
    shutil.copy(models / "float32.tflite", models / "another.tflite")
    recorded = json.loads((outputs / "latest" / "run.json").read_text())["models"]
    change_record(outputs, models=recorded | {"another.calibration.json": "0" * 64})
    for content in (None, Calibration(temperature=3.0)):
        if content:
            content.write(models / "another.calibration.json")
        with pytest.raises(RecognizerError, match="another.calibration.json"):
            Recognizer.load(run="latest", model="another")


def test_the_recognition_path_imports_little():
    """A visitor's process holds no TensorFlow, and what photos need only once there is one."""
    code = """
import sys
from digits.recognizer import Recognizer
assert Recognizer.load(run="reference").read_strokes([[(140, 40), (140, 240)]]).text == "1"
heavy = {"tensorflow", "keras", "sklearn", "scipy", "cv2", "pandas", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

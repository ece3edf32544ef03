"""The networks: shapes, counts that can be checked by hand, files that are the same at any time."""

import re
import time
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from digits.recognizer import softmax
from digits.training import compression, networks
from toys import new_model

IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
FAST = ("lenet5", "keras_example")
EACH = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in networks.NAMES
]


def litert_macs(path):
    """What the file will really multiply by weights, from its operations."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
    sides = {
        "CONV_2D": slice(1, 4),
        "DEPTHWISE_CONV_2D": slice(1, 3),
        "FULLY_CONNECTED": slice(1, 2),
    }
    return sum(
        int(np.prod(shapes[op["outputs"][0]]) * np.prod(shapes[op["inputs"][1]][sides[kind]]))
        for op in interpreter._get_ops_details()
        if (kind := op["op_name"]) in sides
    )


@pytest.mark.parametrize("name", EACH)
def test_a_network_gives_probabilities_is_saved_whole_and_its_file_multiplies_as_told(
    name, tmp_path
):
    model = networks.build(name)
    out = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(out.sum(1), np.ones(4), atol=1e-5)
    logits = networks.logits_model(model).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(softmax(logits), out, atol=1e-6)
    assert networks.layer_table(model)["parameters"].sum() == model.count_params()

    networks.save(model, tmp_path / "model.keras")
    again = networks.load(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), out, atol=1e-6)

    path = compression.export_litert(model, tmp_path / "x.tflite")
    assert networks.count_macs(model) == litert_macs(path)


def test_known_counts():
    """By hand: 26*26*9*32 + 11*11*9*32*64 + 5*5*64*10; 34,826 parameters on keras.io."""
    by_hand = 26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 5 * 5 * 64 * 10
    size = networks.size(networks.build("keras_example"))
    assert size == {"parameters": 34_826, "macs": by_hand}
    assert networks.build("micro").count_params() <= 4_000


def test_lenet_has_the_papers_layers():
    """LeCun et al. 1998, with every map connected and pooling without weights: 61,706 parameters."""
    by_hand = 784 * 25 * 6 + 100 * 25 * 6 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    size = networks.size(networks.build("lenet5"))
    assert size == {"parameters": 156 + 2_416 + 48_120 + 10_164 + 850, "macs": by_hand}


def test_unknown_network_is_refused():
    with pytest.raises(ValueError, match="Choose one of: compact"):
        networks.build("resnet152")


def test_a_saved_network_has_the_same_bytes_at_any_time_and_holds_no_address(tmp_path, monkeypatch):
    """No date, and not where in memory the objects lay that its layers share."""
    model = new_model("compact", width=4)
    networks.save(model, tmp_path / "first.keras")
    later = time.localtime(time.time() + 100)
    monkeypatch.setattr(time, "localtime", lambda *_: later)  # by which a zip file dates
    networks.save(model, tmp_path / "second.keras")
    assert (tmp_path / "first.keras").read_bytes() == (tmp_path / "second.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.keras") as archive:
        config = archive.read("config.json").decode()
        assert b"date" not in archive.read("metadata.json")
    numbers = [int(number) for number in re.findall(r'"shared_object_id": (\d+)', config)]
    assert numbers and set(numbers) == set(range(1, max(numbers) + 1))

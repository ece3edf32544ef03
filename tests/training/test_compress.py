"""Exported files answer as the network does; what they cost is measured; the rule chooses among them."""

import gzip

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert.interpreter import Interpreter

from digits import evaluation
from digits.recognizer import Calibration, energy, softmax
from digits.training import compression as compress
from digits.training import fit as training
from digits.training import networks as models
from digits.training.backend import keras
from toys import bars, config, new_model


@pytest.fixture(scope="module")
def data():
    return bars(200, soft=True)


@pytest.fixture(scope="module")
def model(data):
    x, y = data
    net = new_model(width=16)
    training.fit(net, x, y, (x, y), config(5))
    return net


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        kind: compress.export_litert(model, folder / f"{kind}.tflite", kind, data[0][:50])
        for kind in compress.KINDS
    }


def keras_logits(model, x):
    return models.logits_model(model).predict(x, verbose=0)


# --- Export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("float32", 1e-4), ("float16", 0.02), ("dynamic_int8", 0.2), ("int8", 0.5)],
)
def test_a_file_reproduces_the_networks_logits(model, data, files, kind, tolerance):
    expected, got = keras_logits(model, data[0]), compress.litert_logits(files[kind], data[0])
    assert np.ptp(expected) > 2  # the tolerances below mean something
    np.testing.assert_allclose(got, expected, atol=tolerance)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.97


@pytest.mark.parametrize("kind", compress.KINDS)
def test_a_file_takes_one_float_image_and_gives_float_logits(files, kind):
    interpreter = Interpreter(model_path=str(files[kind]))
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (tuple(image["shape"]), image["dtype"]) == ((1, 28, 28, 1), np.float32)
    assert (tuple(logits["shape"]), logits["dtype"]) == ((1, 10), np.float32)


def kernel_types(path):
    """The types of the large kernels in a LiteRT file; quantizing pays nothing for those under 1,024 weights."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return {
        tensor["dtype"].__name__
        for tensor in interpreter.get_tensor_details()
        if len(tensor["shape"]) == 4 and tensor["shape"][0] > 1 and np.prod(tensor["shape"]) > 1024
    }


def test_quantized_files_hold_small_weights_and_shrink_with_them(files):
    sizes = {kind: path.stat().st_size for kind, path in files.items()}
    assert kernel_types(files["float32"]) == {"float32"}
    assert "float16" in kernel_types(files["float16"])  # and the float32 that it is unpacked to
    assert kernel_types(files["dynamic_int8"]) == kernel_types(files["int8"]) == {"int8"}
    assert 1.8 < sizes["float32"] / sizes["float16"] < 2.1
    assert 3 < sizes["float32"] / sizes["int8"] < 4.2
    assert 3 < sizes["float32"] / sizes["dynamic_int8"] < 4.2


def test_int8_computes_in_int8_and_dynamic_int8_does_not(files):
    def activation_types(path):
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        return {
            t["dtype"].__name__
            for t in interpreter.get_tensor_details()
            if len(t["shape"]) == 4 and t["shape"][0] == 1 and t["shape"][-1] >= 16
        }

    assert activation_types(files["int8"]) == {"int8"}
    assert activation_types(files["dynamic_int8"]) == {"float32"}


@pytest.mark.parametrize("kind", compress.KINDS)
def test_the_same_weights_give_the_same_bytes(model, data, files, tmp_path, kind):
    again = compress.export_litert(
        models.logits_model(model), tmp_path / "again.tflite", kind, data[0][:50]
    )
    assert again.read_bytes() == files[kind].read_bytes()


def test_bytes_do_not_depend_on_being_saved_in_between(model, files, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = compress.export_litert(loaded, tmp_path / "again.tflite")
    assert again.read_bytes() == files["float32"].read_bytes()


def test_exporting_leaves_the_network_as_it_was(model, data, tmp_path):
    before = [weight.copy() for weight in model.get_weights()]
    compress.export_litert(model, tmp_path / "x.tflite", "int8", data[0][:5])
    assert model.layers[-1].name == "probabilities"
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", models.NAMES)
def test_every_network_can_be_exported_to_int8(data, tmp_path, name):
    x, y = data
    net = new_model(name)
    training.fit(net, x, y, (x, y), config(3))
    expected = keras_logits(net, x[:50])
    path = compress.export_litert(net, tmp_path / "x.tflite", "int8", x[:50])
    assert np.abs(compress.litert_logits(path, x[:50]) - expected).max() < 0.2 * max(
        np.ptp(expected), 1
    )


def test_one_scale_for_a_kernel_instead_of_one_for_each_channel(model, data, files, tmp_path):
    def scales(path):
        interpreter = Interpreter(model_path=str(path))
        return {
            len(t["quantization_parameters"]["scales"])
            for t in interpreter.get_tensor_details()
            if t["dtype"] == np.int8 and len(t["shape"]) == 4 and t["shape"][0] > 1
        }

    coarse = compress.export_litert(
        model, tmp_path / "x.tflite", "int8", data[0][:50], per_channel=False
    )
    assert scales(coarse) == {1} and 1 not in scales(files["int8"])


def test_an_unknown_kind_and_int8_without_images_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="int4.*float32, float16"):
        compress.export_litert(model, tmp_path / "x.tflite", "int4")
    with pytest.raises(ValueError, match="representative"):
        compress.export_litert(model, tmp_path / "x.tflite", "int8")
    assert not (tmp_path / "x.tflite").exists()


# --- Measuring and choosing -------------------------------------------------------------------------------------------


def test_measured_table(files, data):
    x, y = data
    labels = y.argmax(1)
    table = compress.measure_files(
        files, {"validation": (x, labels), "pen": (x[:40], (labels[:40] + 1) % 10)}, runs=30
    )
    assert list(table.index) == list(compress.KINDS)
    for kind, row in table.iterrows():
        assert row["bytes"] == files[kind].stat().st_size
        assert row["gzip_bytes"] == len(gzip.compress(files[kind].read_bytes(), 9, mtime=0))
        assert 0 < row["latency_ms_median"] <= row["latency_ms_p95"]
        predicted = compress.litert_logits(files[kind], x).argmax(1)
        assert (row["validation_errors"], row["validation_n"]) == ((predicted != labels).sum(), 200)
        assert (row["pen_errors"], row["pen_n"]) == (
            (predicted[:40] != (labels[:40] + 1) % 10).sum(),
            40,
        )
    assert table.loc["float32", "agreement_with_float32"] == 1


def test_a_networks_cost_is_that_of_its_float32_file(model, data, files):
    cost = compress.deployed(model, data[0], runs=20)
    assert (
        cost["bytes"] == files["float32"].stat().st_size
        and 0 < cost["latency_ms_median"] <= cost["latency_ms_p95"]
    )


def choice(errors, sizes, tolerance, **more):
    table = pd.DataFrame(
        {"validation_errors": errors, "bytes": sizes, "validation_n": 5000, **more},
        index=["float32", "float16", "int8"],
    )
    return compress.choose_file(table, {"validation": tolerance, "pen": 0.01})


def test_the_rule_takes_the_smallest_file_that_is_accurate_enough():
    assert (
        choice([30, 30, 35], [400, 200, 100], tolerance=0.001) == "int8"
    )  # five errors more are allowed
    assert choice([30, 30, 36], [400, 200, 100], tolerance=0.001) == "float16"
    assert choice([30, 31, 36], [400, 200, 100], tolerance=0.0) == "float32"
    assert (
        choice([30, 29, 28], [400, 100, 100], tolerance=0.0) == "int8"
    )  # equal sizes: fewer errors


def test_the_rule_asks_for_every_set_that_was_measured():
    pen = {"pen_errors": [10, 12, 13], "pen_n": 200}  # two more are allowed
    assert choice([30, 30, 30], [400, 200, 100], tolerance=0.001, **pen) == "float16"


def test_refusals_follow_the_files_own_calibration(files, data, tmp_path):
    path = tmp_path / "float32.tflite"
    path.write_bytes(files["float32"].read_bytes())
    energies = energy(compress.litert_logits(path, data[0]))
    Calibration(min_energy=float(np.median(energies))).write(tmp_path / "calibration.json")
    assert compress.refusals(path, data[0]) == (energies < np.median(energies)).sum() > 0
    Calibration(min_energy=1e6).write(tmp_path / "float32.calibration.json")
    assert compress.refusals(path, data[0]) == len(data[0])


def test_what_the_app_would_answer_follows_the_files_own_calibration(files, data, tmp_path):
    path = tmp_path / "float32.tflite"
    path.write_bytes(files["float32"].read_bytes())
    logits = compress.litert_logits(path, data[0])
    energies, sure = energy(logits), softmax(logits, 2.0).max(1)
    limits = Calibration(2.0, float(np.median(sure)), float(np.quantile(energies, 0.2)))
    limits.write(tmp_path / "float32.calibration.json")
    truth = (logits.argmax(1) + (np.arange(len(logits)) % 4 == 0)) % 10  # one in four is wrong
    found = compress.answered(path, evaluation.Predictions(truth, logits))
    given = np.array([not limits.reason(row) for row in logits])
    assert 0 < given.sum() < len(given)
    assert found["selective"]["answered"]["count"] == given.sum()
    assert (
        found["selective"]["right"]["count"]
        == (given & (truth == logits.argmax(1))).sum()
        < given.sum()
    )
    assert found["thresholds"]["answered"][0] == (energies >= limits.min_energy).mean()

"""Files answer as the network does, the rule chooses among them, what is pruned stays pruned."""

import gzip

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert.interpreter import Interpreter

from digits import evaluation
from digits.recognizer import Calibration, LiteRTModel, energy, softmax
from digits.training import compression, keras, networks
from digits.training import fit as training
from toys import config, keras_logits, new_model, same_weights


def tensors(path):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return [tensor for tensor in interpreter.get_tensor_details() if len(tensor["shape"]) == 4]


def copy_of(model):
    net = keras.models.clone_model(model)
    net.set_weights(model.get_weights())
    return net


# --- LiteRT files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("float32", 1e-4), ("float16", 0.02), ("dynamic_int8", 0.2), ("int8", 0.5)],
)
def test_a_file_takes_one_image_and_gives_the_networks_logits(model, data, files, kind, tolerance):
    interpreter = Interpreter(model_path=str(files[kind]))
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (tuple(image["shape"]), image["dtype"]) == ((1, 28, 28, 1), np.float32)
    assert (tuple(logits["shape"]), logits["dtype"]) == ((1, 10), np.float32)
    expected, got = keras_logits(model, data[0]), LiteRTModel(files[kind]).logits(data[0])
    assert np.ptp(expected) > 2  # the tolerances mean something
    np.testing.assert_allclose(got, expected, atol=tolerance)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.97


def test_quantized_files_hold_small_weights_and_shrink_with_them(files):
    """Quantizing pays nothing for kernels under 1,024 weights."""
    kernels, activations = {}, {}
    for kind, path in files.items():
        found = [(tensor["dtype"].__name__, tensor["shape"]) for tensor in tensors(path)]
        kernels[kind] = {name for name, shape in found if shape[0] > 1 and np.prod(shape) > 1024}
        activations[kind] = {name for name, shape in found if shape[0] == 1 and shape[-1] >= 16}
    assert kernels["float32"] == {"float32"}
    assert "float16" in kernels["float16"]  # and the float32 that it is unpacked to
    assert kernels["dynamic_int8"] == kernels["int8"] == {"int8"}
    assert activations["int8"] == {"int8"} and activations["dynamic_int8"] == {"float32"}
    sizes = {kind: path.stat().st_size for kind, path in files.items()}
    assert 1.8 < sizes["float32"] / sizes["float16"] < 2.1
    assert 3 < sizes["float32"] / sizes["int8"] < 4.2
    assert 3 < sizes["float32"] / sizes["dynamic_int8"] < 4.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_same_weights_give_the_same_bytes_and_stay_as_they_were(
    model, data, files, tmp_path, kind
):
    """Whether the network was saved in between or comes without its softmax."""
    before = copy_of(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for again in (loaded, networks.logits_model(model)):
        path = compression.export_litert(again, tmp_path / "again.tflite", kind, data[0][:50])
        assert path.read_bytes() == files[kind].read_bytes()
    assert model.layers[-1].name == "probabilities" and same_weights(model, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NAMES)
def test_every_network_can_be_exported_to_int8(data, tmp_path, name):
    x, _ = data
    net = new_model(name)
    expected = keras_logits(net, x[:50])
    path = compression.export_litert(net, tmp_path / "x.tflite", "int8", x[:50])
    error = np.abs(LiteRTModel(path).logits(x[:50]) - expected).max()
    assert error < 0.2 * max(np.ptp(expected), 1)


def test_an_unknown_kind_and_int8_without_images_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="int4.*float32, float16"):
        compression.export_litert(model, tmp_path / "x.tflite", "int4")
    with pytest.raises(ValueError, match="representative"):
        compression.export_litert(model, tmp_path / "x.tflite", "int8")
    assert not (tmp_path / "x.tflite").exists()


# --- Measuring and choosing -----------------------------------------------------------------------


@pytest.mark.slow
def test_measured_table(model, files, data):
    x, labels = data[0], data[1].argmax(1)
    other = x[:40], (labels[:40] + 1) % 10
    table = compression.measure_files(files, {"validation": (x, labels), "pen": other}, runs=30)
    assert list(table.index) == list(compression.KINDS)
    for kind, row in table.iterrows():
        assert row["bytes"] == files[kind].stat().st_size
        assert row["gzip_bytes"] == len(gzip.compress(files[kind].read_bytes(), 9, mtime=0))
        assert 0 < row["latency_ms_median"] <= row["latency_ms_p95"]
        predicted = LiteRTModel(files[kind]).logits(x).argmax(1)
        errors = (predicted != labels).sum()
        assert (row["validation_errors"], row["validation_n"]) == (errors, 200)
        assert (row["pen_errors"], row["pen_n"]) == ((predicted[:40] != other[1]).sum(), 40)
    assert table.loc["float32", "agreement_with_float32"] == 1
    cost = compression.deployed(model, x, runs=20)
    assert cost["bytes"] == table.loc["float32", "bytes"] and cost["latency_ms_median"] > 0
    with pytest.raises(ValueError, match="runs must be at least 1"):
        compression.latency(files["int8"], x, runs=0)


@pytest.mark.parametrize(
    ("errors", "sizes", "tolerance", "chosen"),
    [
        ([30, 30, 35], [400, 200, 100], 0.001, "int8"),  # five errors more are allowed
        ([30, 30, 36], [400, 200, 100], 0.001, "float16"),
        ([30, 31, 36], [400, 200, 100], 0.0, "float32"),
        ([30, 29, 28], [400, 100, 100], 0.0, "int8"),  # equal sizes: fewer errors
    ],
)
def test_the_rule_takes_the_smallest_file_that_is_accurate_enough(errors, sizes, tolerance, chosen):
    table = pd.DataFrame(
        {"validation_errors": errors, "bytes": sizes, "validation_n": 5000},
        index=["float32", "float16", "int8"],
    )
    tolerances = {"validation": tolerance, "pen": 0.01}
    assert compression.choose_file(table, tolerances) == chosen
    pen = table.assign(pen_errors=[10, 12, 13], pen_n=200)  # two more are allowed
    assert compression.choose_file(pen, tolerances) != "int8"


def test_what_the_app_would_refuse_and_answer_follows_the_files_own_calibration(
    files, data, tmp_path
):
    path = tmp_path / "float32.tflite"
    path.write_bytes(files["float32"].read_bytes())
    logits = LiteRTModel(path).logits(data[0])
    energies, sure = energy(logits), softmax(logits, 2.0).max(1)
    Calibration(min_energy=float(np.median(energies))).write(tmp_path / "calibration.json")
    refused = compression.refusals(path, data[0])
    assert refused == (energies < np.median(energies)).sum() > 0

    limits = Calibration(2.0, float(np.median(sure)), float(np.quantile(energies, 0.2)))
    limits.write(tmp_path / "float32.calibration.json")  # goes before the run's
    assert compression.refusals(path, data[0]) == (energies < limits.min_energy).sum() != refused
    truth = (logits.argmax(1) + (np.arange(len(logits)) % 4 == 0)) % 10  # one in four is wrong
    found = compression.answered(path, evaluation.Predictions(truth, logits))
    given = np.array([not limits.reason(row) for row in logits])
    right = (given & (truth == logits.argmax(1))).sum()
    assert found["selective"]["answered"]["count"] == given.sum() < len(given)
    assert found["selective"]["right"]["count"] == right < given.sum()
    assert found["thresholds"]["answered"][0] == (energies >= limits.min_energy).mean()


# --- Pruned weights -------------------------------------------------------------------------------


class Zeros(keras.callbacks.Callback):
    """After each batch and each epoch: which kernel weights are zero."""

    def __init__(self):
        super().__init__()
        self.after_batch, self.after_epoch = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_batch.append(compression.kernel_weights(self.model) == 0)

    def on_epoch_end(self, epoch, logs=None):
        self.after_epoch.append(compression.kernel_weights(self.model) == 0)


@pytest.mark.slow
def test_pruned_weights_stay_zero_and_their_share_rises_to_exactly_the_end(data):
    net, watch = new_model("micro"), Zeros()
    callback = compression.Prune(0.7, steps=8, every=2)
    training.fit(net, *data, data, config(2), callbacks=[callback, watch])
    n = len(callback.keep)
    counts = [zeros.sum() for zeros in watch.after_batch]
    assert len(counts) == 20 and counts[0] == 0
    expected = [round(0.7 * (1 - (1 - step / 8) ** 3) * n) for step in (2, 4, 6, 8)]
    assert counts[1:8:2] == expected and set(counts[7:]) == {round(0.7 * n)}
    for before, after in zip(watch.after_batch, watch.after_batch[1:], strict=False):
        assert (after | ~before).all()  # what is zero stays zero
    for zeros in [*watch.after_epoch, compression.kernel_weights(net) == 0]:
        assert (zeros == ~callback.keep).all()  # whichever epoch is restored fits the masks
    keep = callback.keep.copy()
    training.fit(net, *data, data, config(1), callbacks=[callback])  # goes on
    assert (callback.keep == keep).all()
    assert ((compression.kernel_weights(net) == 0) == ~keep).all()


@pytest.mark.slow
def test_the_smallest_weights_go_and_the_rest_and_all_biases_learn(data):
    """In a training that is shorter than the schedule, too: its end reaches the share."""
    net = new_model("keras_example")
    before = compression.kernel_weights(net)
    biases = {layer.name: layer.bias.numpy().copy() for layer in compression.prunable(net)}
    callback = compression.Prune(0.5, steps=1000)
    gently = config(1, batch_size=100, learning_rate=1e-5)
    training.fit(net, *data, data, gently, callbacks=[callback])
    after, keep = compression.kernel_weights(net), callback.keep
    assert (after == 0).sum() == round(0.5 * len(after))
    assert np.abs(before[~keep]).max() <= np.abs(before[keep]).min() + 1e-4
    assert (after[keep] != before[keep]).all()
    for layer in compression.prunable(net):
        assert (layer.bias.numpy() != biases[layer.name]).any()


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 80])
def test_a_sparsity_that_is_no_share_is_refused(sparsity):
    with pytest.raises(ValueError, match="sparsity"):
        compression.Prune(sparsity, 10)


@pytest.mark.slow
def test_pruning_a_trained_network_keeps_it_right_and_its_file_compresses(
    data, model, files, tmp_path
):
    x, y = data
    net = copy_of(model)
    assert len(compression.prune(net, x, y, (x, y), config(3), sparsity=0.8)) == 3
    gone = compression.kernel_weights(net) == 0
    assert gone.sum() == round(0.8 * len(gone)) and len(compression.prunable(net)) == 6
    assert (net.predict(x, verbose=0).argmax(1) == y.argmax(1)).mean() > 0.9
    dense = compression.file_sizes(files["float32"])
    sparse = compression.file_sizes(compression.export_litert(net, tmp_path / "x.tflite"))
    assert sparse["bytes"] == pytest.approx(dense["bytes"], rel=0.01)  # zeros are stored, too
    assert sparse["gzip_bytes"] < 0.45 * dense["gzip_bytes"]

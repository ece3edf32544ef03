"""Exported files answer as the network does; pruned weights stay pruned."""

import gzip

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert.interpreter import Interpreter

from digits import compress, models, training
from digits.backend import keras


@pytest.fixture(scope="module")
def data():
    """200 images, (200, 28, 28, 1), of ten classes that a network learns in a few steps, and one-hot labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    x = rng.random((200, 28, 28, 1), np.float32) * 0.2
    for i, label in enumerate(labels):
        x[i, 2 * label:2 * label + 4, 4:24] += 0.8
    return x, np.eye(10, dtype=np.float32)[labels]


def config(epochs=1):
    return training.TrainingConfig(epochs=epochs, batch_size=20, learning_rate=3e-3, seed=1)


def new_model(name="compact", seed=1, **options):
    training.set_seed(seed)
    return models.build(name, **options)


@pytest.fixture(scope="module")
def model(data):
    x, y = data
    net = new_model(width=16)
    training.fit(net, x, y, (x, y), config(5))
    return net


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {kind: compress.export_litert(model, folder / f"{kind}.tflite", kind, data[0][:50])
            for kind in compress.KINDS}


def keras_logits(model, x):
    return models.logits_model(model).predict(x, verbose=0)


# --- Export -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "tolerance"),
                         [("float32", 1e-4), ("float16", 0.02), ("dynamic_int8", 0.2), ("int8", 0.5)])
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
    return {tensor["dtype"].__name__ for tensor in interpreter.get_tensor_details()
            if len(tensor["shape"]) == 4 and tensor["shape"][0] > 1 and np.prod(tensor["shape"]) > 1024}


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
        return {t["dtype"].__name__ for t in interpreter.get_tensor_details()
                if len(t["shape"]) == 4 and t["shape"][0] == 1 and t["shape"][-1] >= 16}

    assert activation_types(files["int8"]) == {"int8"}
    assert activation_types(files["dynamic_int8"]) == {"float32"}


@pytest.mark.parametrize("kind", compress.KINDS)
def test_the_same_weights_give_the_same_bytes(model, data, files, tmp_path, kind):
    again = compress.export_litert(models.logits_model(model), tmp_path / "again.tflite", kind, data[0][:50])
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
    path = compress.export_litert(new_model(name), tmp_path / "x.tflite", "int8", data[0][:20])
    assert compress.litert_logits(path, data[0][:3]).shape == (3, 10)


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
    table = compress.measure_files(files, x, labels, runs=30)
    assert list(table.index) == list(compress.KINDS)
    for kind, row in table.iterrows():
        assert row["bytes"] == files[kind].stat().st_size
        assert row["gzip_bytes"] == len(gzip.compress(files[kind].read_bytes(), 9, mtime=0))
        assert 0 < row["latency_ms_median"] <= row["latency_ms_p95"]
        wrong = (compress.litert_logits(files[kind], x).argmax(1) != labels).sum()
        assert (row["validation_errors"], row["validation_n"]) == (wrong, 200)
    assert table.loc["float32", "agreement_with_float32"] == 1


def choice(errors, sizes, tolerance):
    table = pd.DataFrame({"validation_errors": errors, "bytes": sizes, "validation_n": 5000},
                         index=["float32", "float16", "int8"])
    return compress.choose_file(table, tolerance)


def test_the_rule_takes_the_smallest_file_that_is_accurate_enough():
    assert choice([30, 30, 35], [400, 200, 100], tolerance=0.001) == "int8"  # five errors more are allowed
    assert choice([30, 30, 36], [400, 200, 100], tolerance=0.001) == "float16"
    assert choice([30, 31, 36], [400, 200, 100], tolerance=0.0) == "float32"
    assert choice([30, 29, 28], [400, 100, 100], tolerance=0.0) == "int8"  # equal sizes: fewer errors


# --- Pruning ----------------------------------------------------------------------------------------------------------

class Zeros(keras.callbacks.Callback):
    """After each batch and each epoch: which kernel weights are zero."""

    def on_train_begin(self, logs=None):
        self.after_batch, self.after_epoch = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_batch.append(compress.kernel_weights(self.model) == 0)

    def on_epoch_end(self, epoch, logs=None):
        self.after_epoch.append(compress.kernel_weights(self.model) == 0)


def train_pruned(data, sparsity=0.7, steps=8, epochs=2, every=2, callback=None):
    x, y = data
    net = new_model("lenet5")
    watch = Zeros()
    callback = callback or compress.Prune(sparsity, steps, every)
    training.fit(net, x, y, (x, y), config(epochs), callbacks=[callback, watch])
    return net, callback, watch


def test_schedule_rises_from_nothing_to_exactly_the_end():
    values = [compress.scheduled_sparsity(step, 100, 0.8) for step in range(0, 151, 10)]
    assert values[0] == 0 and values[10:] == [0.8] * 6
    rises = np.diff(values[:11])
    assert (rises > 0).all() and (np.diff(rises) < 0).all()  # ever more slowly
    assert compress.scheduled_sparsity(50, 100, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert compress.scheduled_sparsity(0, 0, 0.8) == 0.8


def test_pruned_weights_stay_zero_after_every_batch_and_the_share_is_exact(data):
    net, callback, watch = train_pruned(data)
    n = len(compress.kernel_weights(net))
    assert len(watch.after_batch) == 20
    for before, after in zip(watch.after_batch, watch.after_batch[1:], strict=False):
        assert (after | ~before).all()  # what is zero stays zero
    counts = [zeros.sum() for zeros in watch.after_batch]
    assert counts[0] == 0 and counts[1] == round(compress.scheduled_sparsity(2, 8, 0.7) * n)
    assert set(counts[7:]) == {round(0.7 * n)}
    assert (compress.kernel_weights(net) == 0).sum() == round(0.7 * n)
    for zeros in [*watch.after_epoch, compress.kernel_weights(net) == 0]:  # whichever epoch is restored fits the masks
        assert (zeros == ~callback.keep).all()


def test_training_shorter_than_the_schedule_still_ends_at_the_share(data):
    net, _, watch = train_pruned(data, steps=1000, epochs=1)
    assert watch.after_batch[-1].sum() < 0.1 * len(watch.after_batch[-1])
    assert compress.sparsity_table(net)["zeros"].sum() == round(0.7 * len(compress.kernel_weights(net)))


def test_the_smallest_weights_go_and_the_rest_and_all_biases_learn(data):
    x, y = data
    net = new_model("lenet5")
    before = compress.kernel_weights(net)
    biases = {layer.name: layer.bias.numpy().copy() for layer in compress.prunable(net)}
    callback = compress.Prune(0.5, steps=1, every=1)
    gently = training.TrainingConfig(epochs=1, batch_size=100, learning_rate=1e-5)
    training.fit(net, x, y, (x, y), gently, callbacks=[callback])
    assert np.abs(before[~callback.keep]).max() <= np.abs(before[callback.keep]).min() + 1e-4
    assert (compress.kernel_weights(net)[callback.keep] != before[callback.keep]).all()
    assert all((layer.bias.numpy() != biases[layer.name]).any() for layer in compress.prunable(net))


def test_a_second_fit_keeps_the_masks(data):
    net, callback, _ = train_pruned(data, epochs=1)
    keep = callback.keep.copy()
    training.fit(net, *data, data, config(1), callbacks=[callback])
    assert (callback.keep == keep).all() and ((compress.kernel_weights(net) == 0) == ~keep).all()


def test_no_sparsity_prunes_nothing_and_wrong_values_are_refused(data):
    net, callback, _ = train_pruned(data, sparsity=0.0, epochs=1)
    assert callback.keep.all() and (compress.kernel_weights(net) != 0).all()
    for bad in (1.0, -0.1, 80):
        with pytest.raises(ValueError, match="sparsity"):
            compress.Prune(bad, 10)
    for steps, every in ((-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least"):
            compress.Prune(0.5, steps, every)


def test_pruning_a_trained_network_keeps_it_right_and_its_file_compresses(data, model, tmp_path):
    x, y = data
    net = keras.models.clone_model(model)
    net.set_weights(model.get_weights())
    history = compress.prune(net, x, y, (x, y), config(3), sparsity=0.8)
    table = compress.sparsity_table(net)
    assert len(history) == 3
    assert table["zeros"].sum() == round(0.8 * table["weights"].sum())
    assert list(table["layer"])[-1] == "logits" and len(table) == 6
    assert (net.predict(x, verbose=0).argmax(1) == y.argmax(1)).mean() > 0.9
    dense, sparse = (compress.file_sizes(compress.export_litert(m, tmp_path / "x.tflite")) for m in (model, net))
    assert sparse["bytes"] == pytest.approx(dense["bytes"], rel=0.01)  # zeros are stored like any number
    assert sparse["gzip_bytes"] < 0.45 * dense["gzip_bytes"]

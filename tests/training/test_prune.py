"""Pruned weights stay pruned; a network without its dead channels says the same; a student learns from its teacher."""

import numpy as np
import pytest

from digits.training import compression as compress
from digits.training import fit as training
from digits.training import networks as models
from digits.training import prune
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


class Zeros(keras.callbacks.Callback):
    """After each batch and each epoch: which kernel weights are zero."""

    def on_train_begin(self, logs=None):
        self.after_batch, self.after_epoch = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_batch.append(prune.kernel_weights(self.model) == 0)

    def on_epoch_end(self, epoch, logs=None):
        self.after_epoch.append(prune.kernel_weights(self.model) == 0)


def train_pruned(data, sparsity=0.7, steps=8, epochs=2, every=2, callback=None):
    x, y = data
    net = new_model("keras_example")
    watch = Zeros()
    callback = callback or prune.Prune(sparsity, steps, every)
    training.fit(net, x, y, (x, y), config(epochs), callbacks=[callback, watch])
    return net, callback, watch


def test_schedule_rises_from_nothing_to_exactly_the_end():
    values = [prune.scheduled_sparsity(step, 100, 0.8) for step in range(0, 151, 10)]
    assert values[0] == 0 and values[10:] == [0.8] * 6
    rises = np.diff(values[:11])
    assert (rises > 0).all() and (np.diff(rises) < 0).all()  # ever more slowly
    assert prune.scheduled_sparsity(50, 100, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert prune.scheduled_sparsity(0, 0, 0.8) == 0.8


def test_pruned_weights_stay_zero_after_every_batch_and_the_share_is_exact(data):
    net, callback, watch = train_pruned(data)
    n = len(prune.kernel_weights(net))
    assert len(watch.after_batch) == 20
    for before, after in zip(watch.after_batch, watch.after_batch[1:], strict=False):
        assert (after | ~before).all()  # what is zero stays zero
    counts = [zeros.sum() for zeros in watch.after_batch]
    assert counts[0] == 0 and counts[1] == round(prune.scheduled_sparsity(2, 8, 0.7) * n)
    assert set(counts[7:]) == {round(0.7 * n)}
    assert (prune.kernel_weights(net) == 0).sum() == round(0.7 * n)
    for zeros in [
        *watch.after_epoch,
        prune.kernel_weights(net) == 0,
    ]:  # whichever epoch is restored fits the masks
        assert (zeros == ~callback.keep).all()


def test_training_shorter_than_the_schedule_still_ends_at_the_share(data):
    net, _, watch = train_pruned(data, steps=1000, epochs=1)
    assert watch.after_batch[-1].sum() < 0.1 * len(watch.after_batch[-1])
    assert prune.sparsity_table(net)["zeros"].sum() == round(0.7 * len(prune.kernel_weights(net)))


def test_the_smallest_weights_go_and_the_rest_and_all_biases_learn(data):
    x, y = data
    net = new_model("keras_example")
    before = prune.kernel_weights(net)
    biases = {layer.name: layer.bias.numpy().copy() for layer in prune.prunable(net)}
    callback = prune.Prune(0.5, steps=1, every=1)
    gently = training.TrainingConfig(epochs=1, batch_size=100, learning_rate=1e-5)
    training.fit(net, x, y, (x, y), gently, callbacks=[callback])
    assert np.abs(before[~callback.keep]).max() <= np.abs(before[callback.keep]).min() + 1e-4
    assert (prune.kernel_weights(net)[callback.keep] != before[callback.keep]).all()
    assert all((layer.bias.numpy() != biases[layer.name]).any() for layer in prune.prunable(net))


def test_a_second_fit_keeps_the_masks(data):
    net, callback, _ = train_pruned(data, epochs=1)
    keep = callback.keep.copy()
    training.fit(net, *data, data, config(1), callbacks=[callback])
    assert (callback.keep == keep).all() and ((prune.kernel_weights(net) == 0) == ~keep).all()


def test_no_sparsity_prunes_nothing_and_wrong_values_are_refused(data):
    net, callback, _ = train_pruned(data, sparsity=0.0, epochs=1)
    assert callback.keep.all() and (prune.kernel_weights(net) != 0).all()
    for bad in (1.0, -0.1, 80):
        with pytest.raises(ValueError, match="sparsity"):
            prune.Prune(bad, 10)
    for steps, every in ((-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least"):
            prune.Prune(0.5, steps, every)


def test_pruning_a_trained_network_keeps_it_right_and_its_file_compresses(data, model, tmp_path):
    x, y = data
    net = keras.models.clone_model(model)
    net.set_weights(model.get_weights())
    history = prune.prune(net, x, y, (x, y), config(3), sparsity=0.8)
    table = prune.sparsity_table(net)
    assert len(history) == 3
    assert table["zeros"].sum() == round(0.8 * table["weights"].sum())
    assert list(table["layer"])[-1] == "logits" and len(table) == 6
    assert (net.predict(x, verbose=0).argmax(1) == y.argmax(1)).mean() > 0.9
    dense, sparse = (
        compress.file_sizes(compress.export_litert(m, tmp_path / "x.tflite")) for m in (model, net)
    )
    assert sparse["bytes"] == pytest.approx(
        dense["bytes"], rel=0.01
    )  # zeros are stored like any number
    assert sparse["gzip_bytes"] < 0.45 * dense["gzip_bytes"]


# --- Whole channels ---------------------------------------------------------------------------------------------------


def silence(model, layer, channels):
    """Make channels of a convolution and of the normalisation behind it say nothing."""
    at = [one.name for one in model.layers].index(layer)
    convolution, norm = model.layers[at : at + 2]
    kernel = convolution.kernel.numpy()
    kernel[..., channels] = 0
    convolution.kernel.assign(kernel)
    for weight in (norm.beta, norm.moving_mean):
        values = weight.numpy()
        values[channels] = 0
        weight.assign(values)


def a_copy(model):
    net = keras.models.clone_model(model)
    net.set_weights(model.get_weights())
    return net


def test_without_its_dead_channels_a_network_says_the_same_in_less_time(model, data, tmp_path):
    x, _ = data
    net = a_copy(model)
    rng = np.random.default_rng(0)
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D):
            silence(net, layer.name, rng.permutation(layer.filters)[: layer.filters // 2])
    small = prune.shrink(net, 0.5)
    np.testing.assert_allclose(small.predict(x, verbose=0), net.predict(x, verbose=0), atol=1e-5)
    assert models.count_multiplies(small) < 0.35 * models.count_multiplies(net)
    assert [layer.name for layer in small.layers] == [layer.name for layer in net.layers]
    before, after = (models.logits_model(one).predict(x, verbose=0) for one in (net, small))
    np.testing.assert_allclose(after, before, atol=1e-4)
    path = compress.export_litert(small, tmp_path / "x.tflite")
    assert (
        path.stat().st_size
        < 0.4 * compress.file_sizes(compress.export_litert(net, tmp_path / "y.tflite"))["bytes"]
    )


def test_the_strongest_channels_stay_with_what_belongs_to_them():
    net = new_model("separable", width=8)
    first = net.get_layer("convolution_1")
    norm = net.get_layer("norm_1")
    norm.gamma.assign([0, 1, 1, 0, 1, 0, 1, 0])
    small = prune.shrink(net, 0.5)
    np.testing.assert_array_equal(
        small.get_layer("convolution_1").kernel.numpy(), first.kernel.numpy()[..., [1, 2, 4, 6]]
    )
    np.testing.assert_array_equal(
        small.get_layer("depthwise_1").kernel.numpy(),
        net.get_layer("depthwise_1").kernel.numpy()[:, :, [1, 2, 4, 6]],
    )
    assert small.predict(np.zeros((1, 28, 28, 1), np.float32), verbose=0).shape == (1, 10)


def test_all_channels_kept_is_the_same_network_and_numbers_are_rounded(model, data):
    np.testing.assert_allclose(
        prune.shrink(model, 1.0).predict(data[0], verbose=0),
        model.predict(data[0], verbose=0),
        atol=1e-6,
    )
    filters = [
        layer.filters
        for layer in prune.shrink(model, 0.3, multiple=8).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert filters == [8, 8, 8, 8, 8]  # 0.3 of 16 and of 32
    net = new_model("keras_example")
    assert prune.shrink(net, 0.01).get_layer("convolution_1").filters == 4


def test_networks_that_cannot_be_cut_are_refused(model):
    with pytest.raises(ValueError, match="residual is no plain chain"):
        prune.shrink(new_model("residual"), 0.5)
    with pytest.raises(ValueError, match="Subsampling cannot be made narrower"):
        prune.shrink(new_model("lenet5"), 0.5)
    for share in (0, -1, 1.1):
        with pytest.raises(ValueError, match="share"):
            prune.shrink(model, share)

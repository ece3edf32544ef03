"""Rounding: measured layer by layer against sums done by hand, and a network that learns to bear it."""

import numpy as np
import pytest

from digits.training import compression as compress
from digits.training import fit as training
from digits.training import networks as models
from digits.training import quantize
from digits.training.backend import keras, tf
from toys import bars, config, new_model


@pytest.fixture(scope="module")
def data():
    images, labels = bars(200, soft=True)
    return images.clip(0, 1), labels


def trained(data, name="compact", **options):
    net = new_model(name, **options)
    training.fit(net, *data, data, config(4))
    return net


@pytest.fixture(scope="module")
def model(data):
    return trained(data, width=8)


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        kind: compress.export_litert(model, folder / f"{kind}.tflite", kind, data[0][:50])
        for kind in ("float32", "int8")
    }


def test_decibels_by_hand():
    signal = np.array([3.0, -4.0])
    assert quantize.decibels(signal, signal + [0.3, 0.4]) == pytest.approx(
        20
    )  # a tenth of the size
    assert quantize.decibels(signal, signal) == np.inf
    assert quantize.decibels(signal, 0 * signal) == pytest.approx(0)


def test_layers_are_compared_in_order_and_the_last_one_is_what_the_file_says(model, data, files):
    x = data[0][:20]
    table = quantize.layer_errors(files["float32"], files["int8"], x)
    assert list(table["layer"]) == [
        "relu_1",
        "relu_2",
        "relu_3",
        "relu_4",
        "relu_5",
        "pooling_1",
        "flatten_1",
        "logits",
    ]
    logits = {kind: compress.litert_logits(path, x) for kind, path in files.items()}
    last = table.iloc[-1]
    assert last["decibels"] == pytest.approx(
        quantize.decibels(logits["float32"], logits["int8"]), abs=1.5
    )
    assert (
        (table["decibels"] > 10).all()
        and (table["step"] > 0).all()
        and table["clipped"].between(0, 1).all()
    )


def test_a_range_from_the_wrong_images_is_found_where_it_clips(model, data, files, tmp_path):
    dim = compress.export_litert(model, tmp_path / "dim.tflite", "int8", 0.2 * data[0][:50])
    good, bad = (
        quantize.layer_errors(files["float32"], path, data[0][:20]) for path in (files["int8"], dim)
    )
    assert bad["clipped"].max() > good["clipped"].max() + 0.01
    assert bad["decibels"].iloc[-1] < good["decibels"].iloc[-1] - 6


def test_two_different_networks_are_not_compared(data, files, tmp_path):
    other = compress.export_litert(
        models.build("keras_example"), tmp_path / "x.tflite", "int8", data[0][:5]
    )
    with pytest.raises(ValueError, match="float32.tflite and x.tflite do not have the same layers"):
        quantize.layer_errors(files["float32"], other, data[0][:2])


def test_uneven_channels_suffer_from_a_common_scale(model):
    net = keras.models.clone_model(model)
    net.set_weights(model.get_weights())
    before = quantize.weight_errors(net).set_index("layer")
    gamma = net.get_layer("norm_2").gamma
    gamma.assign(
        gamma.numpy() * np.where(np.arange(8) == 3, 100, 1)
    )  # seen only when the normalisation is folded in
    after = quantize.weight_errors(net).set_index("layer")
    assert list(after.index) == [f"convolution_{i}" for i in range(1, 6)] + ["logits"]
    assert after.loc["convolution_2", "spread"] > 50 > before.loc["convolution_2", "spread"]
    assert after.loc["convolution_2", "per_channel"] == pytest.approx(
        before.loc["convolution_2", "per_channel"], abs=4
    )
    assert (after["per_channel"] >= after["per_tensor"]).all()
    assert after.drop("convolution_2").equals(before.drop("convolution_2"))


def test_rounding_by_hand_and_its_slope():
    kernel = tf.Variable([[1.27, 254.0], [0.014, -1.0]])  # steps of 0.01 and 2
    with tf.GradientTape() as tape:
        rounded = quantize.round_weights(kernel, (0,))
        total = tf.reduce_sum(rounded)
    np.testing.assert_allclose(
        rounded, [[1.27, 254], [0.01, 0]], atol=1e-5
    )  # -0.5 steps goes to the even one
    np.testing.assert_allclose(tape.gradient(total, kernel), np.ones((2, 2)))
    values = quantize.round_activations(tf.constant([0.0, 0.4, 1.6, 255.0]))
    np.testing.assert_allclose(values, [0, 0, 2, 255], atol=1e-4)
    np.testing.assert_allclose(quantize.round_activations(tf.constant([0.0, 0.0])), [0, 0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("compact", {"width": 8}),
        ("separable", {"width": 8}),
        ("keras_example", {}),
        ("residual", {"width": 8}),
        ("lenet5", {}),
    ],
)
def test_the_rounded_copy_is_near_the_network_but_not_equal(data, name, options):
    net = trained(data, name, **options)
    twin = quantize.rounded(net)
    expected, got = (models.logits_model(one).predict(data[0], verbose=0) for one in (net, twin))
    assert 0 < np.abs(got - expected).max() < 0.15 * np.ptp(expected)
    weights = zip(net.get_weights(), twin.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in weights)


def test_the_rounded_copy_foretells_the_int8_file(model, data, files):
    x = data[0]
    twin = models.logits_model(quantize.rounded(model)).predict(x, batch_size=200, verbose=0)
    plain, int8 = (compress.litert_logits(path, x) for path in files.values())
    assert np.abs(int8 - twin).mean() < 2 * np.abs(int8 - plain).mean()
    assert (twin.argmax(1) == int8.argmax(1)).mean() > 0.97


def test_mending_brings_a_network_back_that_rounding_has_broken(data, tmp_path):
    """Weights of very different size within each channel, which eight bits cannot hold."""
    x, y = data
    net = trained(data, width=8)
    rng = np.random.default_rng(0)
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.kernel.numpy()
            kernel[0, 0, 0] = 40 * np.abs(kernel).max() * rng.choice([-1, 1], kernel.shape[-1])
            layer.kernel.assign(kernel)
    training.fit(net, x, y, (x, y), config(4))
    before = [weight.copy() for weight in net.get_weights()]
    mended = quantize.mend(net, x, y, (x, y), config(4))
    assert all(
        np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True)
    )  # a copy learns

    def right(one):
        path = compress.export_litert(one, tmp_path / "x.tflite", "int8", x[:50])
        return (compress.litert_logits(path, x).argmax(1) == y.argmax(1)).mean()

    assert type(mended.layers[0]) is keras.layers.Conv2D and right(mended) >= max(right(net), 0.9)

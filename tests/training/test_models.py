"""The networks: shapes, counts that can be checked by hand, training that learns and repeats."""

import re
import time
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from digits import evaluation
from digits.data.augmentation import Augmentation
from digits.recognizer import energy, softmax
from digits.training import compression as compress
from digits.training import fit as training
from digits.training import lenet
from digits.training import networks as models
from digits.training.backend import keras
from digits.training.fit import TrainingConfig
from toys import bars


@pytest.mark.parametrize("name", models.NAMES)
def test_every_network_gives_probabilities(name):
    model = models.build(name)
    out = model.predict(np.random.default_rng(0).random((3, 28, 28, 1), np.float32), verbose=0)
    assert out.shape == (3, 10)
    np.testing.assert_allclose(out.sum(1), 1, atol=1e-5)
    assert models.layer_table(model)["parameters"].sum() == model.count_params()


def test_known_counts():
    """By hand: 26*26*9*32 + 11*11*9*32*64 + 5*5*64*10 multiplies; 34,826 parameters on keras.io."""
    example = models.build("keras_example")
    assert example.count_params() == 34_826
    assert (
        models.count_multiplies(example)
        == 26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 5 * 5 * 64 * 10
    )


def test_lenet_has_the_papers_weights_and_connections():
    """LeCun et al. 1998: 156, 12, 1,516, 32, 48,120 and 10,164 trainable weights from C1 to F6, 60,000 in all."""
    net = models.build("lenet5")
    counts = [
        sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)
        for layer in net.layers
    ]
    assert [count for count in counts if count] == [156, 12, 1_516, 32, 48_120, 10_164]
    (table,) = [layer for layer in net.layers if isinstance(layer, lenet.TableConvolution)]
    kernel = table.dense_kernel.numpy()
    connected = np.abs(kernel).sum((0, 1)) > 0
    assert (
        connected.sum(0).tolist() == [3] * 6 + [4] * 9 + [6]
        and connected.sum(1).tolist() == [10] * 6
    )
    assert connected[:, 0].tolist() == [True] * 3 + [False] * 3 and connected[:, 14].tolist() == [
        1,
        0,
        1,
        1,
        0,
        1,
    ]
    by_hand = 784 * 25 * 6 + 196 * 6 + 100 * 25 * 6 * 16 + 25 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert models.count_multiplies(net) == by_hand


def test_lenets_outputs_are_distances_to_its_codes():
    layer = lenet.RadialBasis()
    x = np.random.default_rng(0).normal(0, 1, (3, 84)).astype(np.float32)
    got = layer(x).numpy()
    codes = layer.codes.numpy()
    distances = ((x[:, None] - codes.T[None]) ** 2).sum(-1)
    np.testing.assert_allclose(got, lenet.RUBBISH - distances, rtol=1e-4)
    assert set(np.unique(codes)) == {-1.0, 1.0} and not layer.trainable_weights
    np.testing.assert_allclose(lenet.squash(np.array([1.0, -1.0, 0.0])), [1, -1, 0], atol=1e-4)


def test_subsampling_sums_four_neighbours():
    layer = lenet.Subsampling()
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(layer(x)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])  # at first a mean
    layer.coefficient.assign([2.0])
    layer.bias.assign([1.0])
    np.testing.assert_allclose(layer(x)[0, ..., 0], [[21, 37], [85, 101]])


def litert_multiplies(path):
    """What the file will really multiply by weights, from its operations."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
    total = 0
    for op in interpreter._get_ops_details():
        sides = {
            "CONV_2D": slice(1, 4),
            "DEPTHWISE_CONV_2D": slice(1, 3),
            "FULLY_CONNECTED": slice(1, 2),
        }.get(op["op_name"])
        if sides:
            total += int(np.prod(shapes[op["outputs"][0]])) * int(
                np.prod(shapes[op["inputs"][1]][sides])
            )
    return total


@pytest.mark.parametrize("name", models.NAMES)
def test_multiplies_are_those_of_the_exported_file(name, tmp_path):
    model = models.build(name)
    path = compress.export_litert(model, tmp_path / "x.tflite")
    subsampling = 14 * 14 * 6 + 5 * 5 * 16 if name == "lenet5" else 0  # its own kind of layer
    assert models.count_multiplies(model) == litert_multiplies(path) + subsampling


@pytest.mark.parametrize("name", models.NAMES)
def test_every_network_is_the_same_after_saving(name, tmp_path):
    model = models.build(name)
    models.save(model, tmp_path / "model.keras")
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    np.testing.assert_allclose(
        models.load(tmp_path / "model.keras").predict(x, verbose=0),
        model.predict(x, verbose=0),
        atol=1e-6,
    )


def test_the_smallest_networks_are_as_small_as_they_claim():
    assert (
        models.build("tiny").count_params() <= 10_000
        and models.build("micro").count_params() <= 4_000
    )


def test_unknown_network_is_refused():
    with pytest.raises(ValueError, match="Choose one of: compact"):
        models.build("resnet152")


def test_logits_model_shares_the_weights():
    model = models.build("lenet5")
    x = np.random.default_rng(1).random((4, 28, 28, 1), np.float32)
    logits = models.logits_model(model).predict(x, verbose=0)
    np.testing.assert_allclose(softmax(logits), model.predict(x, verbose=0), atol=1e-6)


@pytest.fixture(scope="module")
def toy():
    return bars(1200)


def fit(toy, **options):
    training.set_seed(5)
    model = models.build("keras_example")
    x, y = toy
    config = TrainingConfig(**{"epochs": 2, "seed": 5} | options)
    history = training.fit(
        model, x[:1000], y[:1000], (x[1000:], y[1000:]), config, Augmentation(styles=0).scaled(0.1)
    )
    return model, history


def test_training_learns_and_repeats_to_the_bit(toy):
    first, history = fit(toy)
    assert list(history) == [
        "epoch",
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
        "learning_rate",
        "seconds",
    ]
    assert history["val_accuracy"].iloc[-1] > 0.9
    second, again = fit(toy)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert history.drop(columns="seconds").equals(again.drop(columns="seconds"))


class Ruin(keras.callbacks.Callback):
    """Wipes the network out before its third epoch and every later one."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= 2:
            self.model.set_weights([0 * weight for weight in self.model.get_weights()])


def test_best_weights_are_restored_and_checkpointed(toy, tmp_path):
    """What ruins the network late in its training must not ruin what is kept."""
    training.set_seed(5)
    model = models.build("lenet5")
    x, y = toy
    config = TrainingConfig(epochs=8, patience=2, seed=5)
    history = training.fit(
        model,
        x[:1000],
        y[:1000],
        (x[1000:], y[1000:]),
        config,
        checkpoint=tmp_path / "best.keras",
        callbacks=[Ruin()],
    )
    best = evaluation.kept_epoch(history).name
    assert (
        len(history) == 4 and best == 1 and history["val_accuracy"].iloc[-1] < 0.9
    )  # EarlyStopping ended it
    for kept in (model, models.load(tmp_path / "best.keras")):
        logits = models.logits_model(kept).predict(x[1000:], batch_size=1000, verbose=0)
        assert training.background_loss(y[1000:], logits).numpy().mean() == pytest.approx(
            history["val_loss"][best], rel=1e-3
        )


def test_a_saved_network_has_the_same_bytes_at_any_time(tmp_path):
    training.set_seed(1)
    model = models.build("lenet5")
    for name in ("first", "second"):
        models.save(model, tmp_path / f"{name}.keras")
        time.sleep(2.1)  # a zip file counts in steps of two seconds
    first, second = ((tmp_path / f"{name}.keras").read_bytes() for name in ("first", "second"))
    assert first == second
    image = np.zeros((1, 28, 28, 1), np.float32)
    assert (
        models.load(tmp_path / "first.keras").predict(image, verbose=0)
        == model.predict(image, verbose=0)
    ).all()


def test_a_saved_network_holds_no_address(tmp_path):
    """Where in memory the objects lay that its layers share: other numbers in every process."""
    models.save(models.build("compact"), tmp_path / "model.keras")
    config = zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()
    numbers = [int(number) for number in re.findall(r'"shared_object_id": (\d+)', config)]
    assert numbers and set(numbers) == set(range(1, max(numbers) + 1))


def test_batches_cover_each_epoch_once_and_do_not_repeat_an_order():
    x = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1) * np.ones((1, 28, 28, 1), np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(40) % 10]
    stream = training.batches(x, y, TrainingConfig(batch_size=8), None)
    epochs = [[int(v) for _ in range(5) for v in next(stream)[0][:, 0, 0, 0]] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40)) and epochs[0] != epochs[1]


def test_the_last_epochs_change_images_half_as_much():
    image = np.pad(np.ones((1, 12, 12, 1), np.float32), ((0, 0), (8, 8), (8, 8), (0, 0)))
    x, y = np.repeat(image, 200, axis=0), np.eye(10, dtype=np.float32)[np.full(200, 3)]
    stream = training.batches(x, y, TrainingConfig(batch_size=200, epochs=10), Augmentation())
    changes = [np.abs(next(stream)[0] - image).mean() for _ in range(10)]
    assert max(changes[8:]) < 0.75 * min(changes[:8]), changes


def test_too_few_images_are_refused(toy):
    x, y = toy
    with pytest.raises(ValueError, match="fewer than one batch"):
        training.fit(models.build("lenet5"), x[:10], y[:10], (x, y), TrainingConfig())


def test_background_loss_is_cross_entropy_over_eleven_classes():
    """Ten logits and a fixed zero; a row of zeros is ink that is no digit."""
    logits = np.random.default_rng(0).normal(0, 3, (5, 10)).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[[3, 1, 4, 1, 5]]
    y[4] = 0
    eleven = np.column_stack([logits, np.zeros(5)])
    expected = -np.log(np.exp(eleven) / np.exp(eleven).sum(1, keepdims=True))[
        np.arange(5), [3, 1, 4, 1, 10]
    ]
    np.testing.assert_allclose(training.background_loss(y, logits).numpy(), expected, rtol=1e-5)


def test_accuracy_counts_refused_non_digits_as_right():
    logits = np.full((4, 10), -9.0, np.float32)
    logits[0, 3] = logits[1, 4] = logits[2, 5] = 9
    y = np.zeros((4, 10), np.float32)
    y[0, 3] = y[1, 3] = (
        1  # a digit read right, one read wrong, a non-digit taken for a digit, one refused
    )
    assert training.accuracy(y, logits).numpy().tolist() == [1, 0, 0, 1]


def test_a_network_learns_to_refuse_what_it_is_shown_as_no_digit(toy):
    training.set_seed(1)
    x, y = toy
    noise = np.random.default_rng(0).random((400, 28, 28, 1)).astype(np.float32)
    model = models.build("keras_example")
    training.fit(
        model,
        x[:1000],
        y[:1000],
        (x[1000:], y[1000:]),
        TrainingConfig(epochs=3, batch_size=32),
        non_digits=noise[:200],
    )
    net = models.logits_model(model)
    refused, kept = (energy(net.predict(some, verbose=0)) for some in (noise[200:], x[1000:]))
    assert (refused < 0).mean() > 0.95 and (kept > 0).mean() > 0.95

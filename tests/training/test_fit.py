"""Training learns, repeats to the bit, goes to its end; a student learns from its teacher."""

import numpy as np
import pytest

from digits.data.augmentation import Augmentation
from digits.recognizer import energy
from digits.training import fit as training
from digits.training import keras, networks, tf
from digits.training.fit import TrainingConfig
from toys import bars, keras_logits, same_weights


@pytest.fixture(scope="module")
def toy():
    return bars(600)


def fit(toy, **options):
    training.set_seed(5)
    model = networks.build("keras_example")
    x, y = toy
    config = TrainingConfig(epochs=2, batch_size=50, seed=5)
    mixture = Augmentation(styles=0).scaled(0.1)
    validation = (x[500:], y[500:])
    return model, training.fit(model, x[:500], y[:500], validation, config, mixture, **options)


@pytest.mark.slow
def test_training_learns_and_repeats_to_the_bit(toy):
    first, history = fit(toy)
    columns = "epoch accuracy loss val_accuracy val_loss learning_rate seconds"
    assert list(history) == columns.split() and history["val_accuracy"].iloc[-1] > 0.9
    second, again = fit(toy)
    assert same_weights(first, second)
    assert history.drop(columns="seconds").equals(again.drop(columns="seconds"))


class Weights(keras.callbacks.Callback):
    """What can be trained, as each epoch left it."""

    def on_train_begin(self, logs=None):
        self.after = []

    def on_epoch_end(self, epoch, logs=None):
        self.after.append([weight.numpy() for weight in self.model.trainable_weights])


@pytest.mark.slow
def test_no_epoch_is_chosen_and_the_statistics_are_those_of_images_as_they_are(toy):
    """However good an earlier epoch was; and augmentation leaves no trace in what norms expect."""
    x, y = toy
    config = TrainingConfig(epochs=4, batch_size=50, learning_rate=0.1, decay=False, seed=5)
    training.set_seed(5)
    model, kept = networks.build("micro"), Weights()
    noise = np.random.default_rng(0).random((60, 28, 28, 1)).astype(np.float32)
    history = training.fit(
        model, x, y, (x, y), config, Augmentation(), callbacks=[kept], non_digits=noise
    )
    assert len(history) == len(kept.after) == 4
    for weight, last in zip(model.trainable_weights, kept.after[-1], strict=True):
        np.testing.assert_array_equal(weight, last)

    norm = model.get_layer("norm_1")
    shown = np.concatenate([x, noise[::4]])  # what is refused counts, too
    entering = keras.Model(model.inputs, norm.input).predict(shown, verbose=0)
    for found, true in (
        (norm.moving_mean, entering.mean((0, 1, 2))),
        (norm.moving_variance, entering.var((0, 1, 2))),
    ):
        np.testing.assert_allclose(found, true, rtol=1e-3, atol=1e-5)
    assert norm.momentum == 0.9


def test_statistics_are_means_over_all_batches():
    rng = np.random.default_rng(0)
    x = rng.random((40, 28, 28, 1), np.float32) * np.linspace(0, 2, 40)[:, None, None, None]
    x = x.astype(np.float32)
    model = networks.build("micro")
    before = [weight.numpy() for weight in model.trainable_weights]
    training.settle(model, x, size=10)
    norm = model.get_layer("norm_1")
    entering = keras.Model(model.inputs, norm.input).predict(x, verbose=0).reshape(4, -1, 5)
    np.testing.assert_allclose(norm.moving_mean, entering.mean((0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, entering.var(1).mean(0), rtol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.trainable_weights, strict=True))


def test_batches_cover_each_epoch_once_and_do_not_repeat_an_order():
    x = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1) * np.ones((1, 28, 28, 1), np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(40) % 10]
    stream = training.batches(x, y, TrainingConfig(batch_size=8), None)
    epochs = [[int(v) for _ in range(5) for v in next(stream)[0][:, 0, 0, 0]] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40)) and epochs[0] != epochs[1]


def test_what_is_no_digit_takes_turns():
    """Every digit in every epoch, a fourth of the others, each of them once in four epochs."""
    x = np.arange(50, dtype=np.float32).reshape(50, 1, 1, 1) * np.ones((1, 28, 28, 1), np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(50) % 10] * (np.arange(50) < 27)[:, None]
    stream = training.batches(x, y, TrainingConfig(batch_size=8), None, others=23)
    seen = []
    for _ in range(8):
        batches = [next(stream) for _ in range(4)]  # of 27 + 5
        images = np.concatenate([images[:, 0, 0, 0] for images, _ in batches]).astype(int)
        assert sorted(images)[:27] == list(range(27)) and len(set(images)) == 32
        assert all((labels.any(1) == (some[:, 0, 0, 0] < 27)).all() for some, labels in batches)
        seen.append(set(images[images >= 27]))
    assert seen[:4] == seen[4:] and len(set.union(*seen)) == 20  # three are left over


def test_a_constant_learning_rate_stays_at_its_peak():
    cycle, constant = (
        training.schedule(TrainingConfig(decay=decay), 100) for decay in (True, False)
    )
    assert [float(constant(step)) for step in (15, 50, 99)] == pytest.approx([3e-3] * 3, rel=1e-3)
    peak, middle, end = (float(cycle(step)) for step in (15, 50, 99))
    assert end < middle < peak == pytest.approx(3e-3, rel=1e-3)
    cold = training.schedule(TrainingConfig(warmup=0.0), 100)
    assert float(cold(0)) == pytest.approx(3e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -3),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("warmup", 1.5),
        ("weight_decay", -1),
        ("seed", -1),
    ],
)
def test_values_that_cannot_be_meant_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        TrainingConfig(**{name: value})


def test_too_few_images_are_refused(toy):
    x, y = toy
    with pytest.raises(ValueError, match="fewer than one batch"):
        training.fit(networks.build("micro"), x[:10], y[:10], (x, y), TrainingConfig())


def test_background_loss_is_cross_entropy_over_eleven_classes():
    """Ten logits and a fixed zero; a row of zeros is ink that is no digit."""
    logits = np.random.default_rng(0).normal(0, 3, (5, 10)).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[[3, 1, 4, 1, 5]]
    y[4] = 0
    eleven = np.exp(np.column_stack([logits, np.zeros(5)]))
    expected = -np.log(eleven / eleven.sum(1, keepdims=True))[np.arange(5), [3, 1, 4, 1, 10]]
    np.testing.assert_allclose(training.background_loss(y, logits).numpy(), expected, rtol=1e-5)


def test_accuracy_counts_refused_non_digits_as_right():
    """A digit read right, one read wrong, a non-digit taken for a digit, one refused."""
    logits = np.full((4, 10), -9.0, np.float32)
    logits[0, 3] = logits[1, 4] = logits[2, 5] = 9
    y = np.zeros((4, 10), np.float32)
    y[0, 3] = y[1, 3] = 1
    assert training.accuracy(y, logits).numpy().tolist() == [1, 0, 0, 1]


# --- Distillation ---------------------------------------------------------------------------------


def constant(logits):
    """A teacher that gives every image the same logits (10,)."""
    image = keras.Input((28, 28, 1))
    dense = keras.layers.Dense(10, kernel_initializer="zeros", name="logits")
    net = keras.Model(image, dense(keras.layers.Flatten()(image)))
    dense.bias.assign(logits)
    return net


def test_labels_become_the_teachers_softened_probabilities_over_eleven_classes():
    logits = np.array([4, 2, 0, -2, 0, 0, 0, 0, 0, -8], np.float32)
    relabel = training.distillation(constant(logits), temperature=2.0)["relabel"]
    soft = np.exp(np.append(logits, 0) / 2)
    got = relabel(np.zeros((3, 28, 28, 1), np.float32), np.eye(10, dtype=np.float32)[:3])
    np.testing.assert_allclose(got, np.tile(soft[:10] / soft.sum(), (3, 1)), rtol=1e-5)
    assert (got.numpy().sum(1) < 1).all()  # what is missing is "none of the ten"


def test_the_loss_is_least_where_student_and_teacher_agree():
    teacher = np.random.default_rng(0).normal(0, 3, 10).astype(np.float32)
    told = training.distillation(constant(teacher), temperature=4.0)
    y = told["relabel"](np.zeros((1, 28, 28, 1), np.float32), np.zeros((1, 10), np.float32))
    student = tf.Variable(teacher[None])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(told["loss"](y, student))
    np.testing.assert_allclose(tape.gradient(loss, student), np.zeros((1, 10)), atol=1e-5)
    shifted = told["loss"](y, student + 1.0)  # no softmax over ten would notice
    assert shifted.numpy()[0] > loss.numpy() + 0.01


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="above zero"):
        training.distillation(constant(np.zeros(10)), temperature)


@pytest.mark.slow
def test_a_student_reads_and_refuses_as_its_teacher_does_whatever_the_labels_say():
    """The teacher learns from labels and from noise that is no digit; the student from it alone."""
    x, y = bars(400)
    noise = np.random.default_rng(0).random((200, 28, 28, 1)).astype(np.float32)
    config = TrainingConfig(epochs=6, batch_size=20, seed=1)
    training.set_seed(1)
    teacher, student = networks.build("keras_example"), networks.build("keras_example")
    training.fit(teacher, x, y, (x, y), config, non_digits=noise[:100])
    before = teacher.get_weights()
    told = training.distillation(teacher)
    training.fit(student, x, y[::-1], (x, y), config, non_digits=noise[:100], **told)
    for net in (teacher, student):
        digits, others = keras_logits(net, x), keras_logits(net, noise[100:])
        assert (digits.argmax(1) == y.argmax(1)).mean() > 0.95
        assert (energy(others) < 0).mean() > 0.9 and (energy(digits) > 0).mean() > 0.9
    after = teacher.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

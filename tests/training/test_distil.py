"""A student learns what its teacher says, not what the labels say."""

import numpy as np
import pytest

from digits.recognizer import energy
from digits.training import distillation as distil
from digits.training import fit as training
from digits.training import networks as models
from digits.training.backend import keras, tf
from toys import bars


def constant(logits):
    """A teacher that answers every image with the same logits (10,)."""
    image = keras.Input((28, 28, 1))
    answer = keras.layers.Dense(10, kernel_initializer="zeros", name="logits")(
        keras.layers.Flatten()(image)
    )
    net = keras.Model(image, keras.layers.Activation("softmax", name="probabilities")(answer))
    net.get_layer("logits").bias.assign(logits)
    return net


def test_labels_become_the_teachers_softened_answers_over_eleven_classes():
    logits = np.array([4, 2, 0, -2, 0, 0, 0, 0, 0, -8], np.float32)
    relabel = distil.lesson(constant(logits), temperature=2.0)["relabel"]
    soft = np.exp(np.append(logits, 0) / 2)
    answers = relabel(np.zeros((3, 28, 28, 1), np.float32), np.eye(10, dtype=np.float32)[:3])
    np.testing.assert_allclose(answers, np.tile(soft[:10] / soft.sum(), (3, 1)), rtol=1e-5)
    assert (answers.numpy().sum(1) < 1).all()  # what is missing is "none of the ten"


def test_the_loss_is_least_where_student_and_teacher_agree():
    teacher = np.random.default_rng(0).normal(0, 3, 10).astype(np.float32)
    lesson = distil.lesson(constant(teacher), temperature=4.0)
    y = lesson["relabel"](np.zeros((1, 28, 28, 1), np.float32), np.zeros((1, 10), np.float32))
    student = tf.Variable(teacher[None])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(lesson["loss"](y, student))
    np.testing.assert_allclose(tape.gradient(loss, student), np.zeros((1, 10)), atol=1e-5)
    shifted = lesson["loss"](y, student + 1.0)  # no softmax over ten would notice
    assert shifted.numpy()[0] > loss.numpy() + 0.01


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="above zero"):
        distil.lesson(constant(np.zeros(10)), temperature)


def test_a_student_reads_and_refuses_as_its_teacher_does_whatever_the_labels_say():
    rng = np.random.default_rng(0)
    x, y = bars(400)
    noise = rng.random((200, 28, 28, 1)).astype(np.float32)
    config = training.TrainingConfig(epochs=6, batch_size=20, seed=1)
    training.set_seed(1)
    teacher, student = models.build("keras_example"), models.build("keras_example")
    training.fit(teacher, x, y, (x, y), config, non_digits=noise[:100])
    weights = [weight.copy() for weight in teacher.get_weights()]
    training.fit(
        student, x, y[::-1], (x, y), config, non_digits=noise[:100], **distil.lesson(teacher)
    )
    net = models.logits_model(student)
    digits, others = (net.predict(some, verbose=0) for some in (x, noise[100:]))
    assert (digits.argmax(1) == y.argmax(1)).mean() > 0.95
    assert (energy(others) < 0).mean() > 0.9 and (energy(digits) > 0).mean() > 0.9
    assert all(
        np.array_equal(a, b) for a, b in zip(weights, teacher.get_weights(), strict=True)
    )  # it only teaches

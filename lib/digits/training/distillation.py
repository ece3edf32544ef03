"""A network that learns from another one's answers instead of from labels (Hinton, Vinyals and Dean 2015)."""

from digits.training import fit as training
from digits.training.backend import keras, tf


def lesson(teacher: keras.Model, temperature: float = 4.0) -> dict:
    """What ``training.fit`` needs to train another network on ``teacher``'s answers: ``fit(..., **lesson(teacher))``.

    The teacher sees the same augmented image as its student, and is all that the student listens to ("consistent
    teaching", Beyer et al. 2022). Its answers are probabilities over eleven classes, the ten and a background with a
    logit of zero, so that the student learns what is no digit, too. Dividing both networks' logits by ``temperature``
    makes the small probabilities large enough to be learnt from: that a 4 looks a little like a 9.
    ValueError for a temperature that is not above zero.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature is above zero, not {temperature!r}")
    answers = keras.Model(
        teacher.inputs[0], teacher.get_layer("logits").output
    )  # shares the weights

    def relabel(images: tf.Tensor, _labels: tf.Tensor) -> tf.Tensor:
        eleven = tf.pad(answers(images, training=False), [[0, 0], [0, 1]])
        return tf.nn.softmax(eleven / temperature)[:, :-1]

    def loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return temperature**2 * training.background_loss(
            y, logits / temperature
        )  # gradients as large as at one

    return {"loss": loss, "relabel": relabel}

"""The layers of LeNet-5 that no library has any more (LeCun, Bottou, Bengio and Haffner 1998, section II.B).

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11).
"""

import numpy as np

from digits.training.backend import keras, tf

# Table I: which of the six maps of S2 each of the sixteen maps of C3 reads.
TABLE = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (4, 5, 0),
    (5, 0, 1),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (3, 4, 5, 0),
    (4, 5, 0, 1),
    (5, 0, 1, 2),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
Shape = tuple[int | None, ...]  # None: any number of images
UNITS, RUBBISH = (
    84,
    42.0,
)  # of F6; the "rubbish" class lies as far from a digit's code as half of another digit's


@keras.saving.register_keras_serializable("digits")
def squash(x: tf.Tensor) -> tf.Tensor:
    """1.7159 tanh(2x/3), equation 6: one at one, minus one at minus one, and nowhere saturated between."""
    return 1.7159 * tf.tanh(x * (2 / 3))


def initial(fan_in: int) -> keras.initializers.Initializer:
    """Weights drawn evenly from ±2.4/fan_in, as in the paper's appendix A."""
    return keras.initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)


@keras.saving.register_keras_serializable("digits")
class Subsampling(keras.layers.Layer):
    """S2 and S4: the sum of 2 × 2 neighbours, times a trainable coefficient, plus a trainable bias, one of each a map."""

    def build(self, shape: Shape) -> None:
        """Begin as the mean of the four."""
        quarter = keras.initializers.Constant(0.25)
        self.coefficient = self.add_weight(
            name="coefficient", shape=(shape[-1],), initializer=quarter
        )
        self.bias = self.add_weight(name="bias", shape=(shape[-1],), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(b, 2h, 2w, c) to (b, h, w, c)."""
        return 4 * self.coefficient * tf.nn.avg_pool2d(x, 2, 2, "VALID") + self.bias

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Half as high and wide."""
        return shape[0], shape[1] // 2, shape[2] // 2, shape[3]


@keras.saving.register_keras_serializable("digits")
class TableConvolution(keras.layers.Layer):
    """C3: sixteen 5 × 5 convolutions, each of the maps that ``TABLE`` names: 60 windows and 16 biases, 1,516 weights.

    Computed as one convolution with zeros where nothing is connected, and counted so in ``count_multiplies``: a zero
    costs a multiplication like any number.
    """

    def build(self, shape: Shape) -> None:
        """The windows in the order of the table."""
        pairs = [(source, target) for target, sources in enumerate(TABLE) for source in sources]
        self.place = np.full(
            (6, len(TABLE)), len(pairs)
        )  # of each window in ``windows``; the last is all zeros
        self.place[tuple(np.transpose(pairs))] = np.arange(len(pairs))
        self.windows = self.add_weight(
            name="windows", shape=(len(pairs), 25), initializer=initial(25 * 4)
        )
        self.bias = self.add_weight(name="bias", shape=(len(TABLE),), initializer="zeros")

    @property
    def dense_kernel(self) -> tf.Tensor:
        """(5, 5, 6, 16), zero where nothing is connected."""
        windows = tf.concat([self.windows, tf.zeros((1, 25))], 0)
        return tf.reshape(
            tf.transpose(tf.gather(windows, self.place), (2, 0, 1)), (5, 5, 6, len(TABLE))
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(b, h, w, 6) to (b, h - 4, w - 4, 16)."""
        return tf.nn.conv2d(x, self.dense_kernel, 1, "VALID") + self.bias

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Two pixels less on each side."""
        return shape[0], shape[1] - 4, shape[2] - 4, len(TABLE)


@keras.saving.register_keras_serializable("digits")
class RadialBasis(keras.layers.Layer):
    """The output: how much nearer the 84 numbers of F6 are to a digit's code than ``RUBBISH``, (b, 84) to (b, 10).

    A digit's code is a fixed row of plus and minus ones. The paper drew them by hand as pictures and notes that they
    "could have been chosen at random"; so are these. Minus the squared distance is a logit, and the constant ``j`` of
    equation 9, its loss, is the background class that all networks here have (``training.background_loss``).
    """

    def build(self, shape: Shape) -> None:
        """The codes; no training changes them."""
        codes = np.random.default_rng(1998).choice([-1.0, 1.0], (shape[-1], 10)).astype(np.float32)
        self.codes = self.add_weight(
            name="codes", shape=codes.shape, initializer=keras.initializers.Zeros(), trainable=False
        )
        self.codes.assign(codes)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """|x - code|² written out: codes of ±1 have the squared length 84."""
        return (
            RUBBISH - UNITS - tf.reduce_sum(x * x, -1, keepdims=True) + 2 * tf.matmul(x, self.codes)
        )

    def compute_output_shape(self, shape: Shape) -> Shape:
        """One number a digit."""
        return shape[0], 10

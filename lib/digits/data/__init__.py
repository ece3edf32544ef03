"""MNIST and its stand-in, pen digits, augmentation, drawings that are no digits. No TensorFlow."""

from digits.data.mnist import (
    LABEL_ERRORS,
    STAND_IN_NOTICE,
    DataError,
    DataMissing,
    Dataset,
    DataWarning,
    load,
    load_arrays,
    one_hot,
    save_arrays,
    split,
)
from digits.data.pen_digits import TABLET, PenDigit, load_pen_digits, parse_unipen

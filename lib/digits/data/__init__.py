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

__all__ = ["LABEL_ERRORS", "STAND_IN_NOTICE", "TABLET", "DataError", "DataMissing", "DataWarning"]
__all__ += ["Dataset", "PenDigit", "load", "load_arrays", "load_pen_digits", "one_hot"]
__all__ += ["parse_unipen", "save_arrays", "split"]

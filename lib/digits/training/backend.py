"""TensorFlow and its Keras, imported once and quietly. Importing this costs seconds and hundreds of megabytes."""

import contextlib
import ctypes
import os
import sys

from digits.recognizer.model import quiet_stderr

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # what is really wrong arrives as a Python exception
os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "1"
)  # the default on newer processors only; a tenth faster on older ones
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next step instead of handing it back to the system.

    TensorFlow takes and frees the same megabytes in every step. Each time the system must find and zero the pages
    anew, which took up to half of the training time where memory is virtual.
    """
    trim_threshold, top_pad, mmap_threshold = (
        -1,
        -2,
        -3,
    )  # malloc.h; other C libraries lack the function or the names
    with contextlib.suppress(OSError, AttributeError, TypeError):
        for option, value in (
            (mmap_threshold, 2**30),
            (trim_threshold, 2**31 - 1),
            (top_pad, 2**26),
        ):
            ctypes.CDLL(None).mallopt(option, value)


if sys.platform == "linux":
    _keep_freed_memory()
with quiet_stderr():
    import keras
    import tensorflow as tf

    tf.config.get_visible_devices()  # the look for a graphics card is the last loud part
tf.get_logger().setLevel(
    "ERROR"
)  # many networks in one kernel: its advice on retracing is not meant for that

__all__ = ["keras", "tf"]

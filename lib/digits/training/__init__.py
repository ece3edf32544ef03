"""Networks, fitting, compression, search and studies, in Keras and TensorFlow.

Importing it loads both, once and quietly, which costs seconds and hundreds of megabytes.
"""

import contextlib
import ctypes
import logging
import os
import sys

from digits.recognizer.model import quiet_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is really wrong arrives as an exception
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # the default on newer processors only
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if sys.platform == "linux":
    # glibc keeps the memory of freed tensors for the next step. Handing it back and having it
    # zeroed anew took up to half of the training time where memory is virtual. Other C libraries
    # lack the function. The numbers are M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**26)):
            ctypes.CDLL(None).mallopt(option, value)

with quiet_stderr():
    import keras
    import tensorflow as tf

    tf.config.get_visible_devices()  # the look for a graphics card is the last loud part
tf.get_logger().setLevel("ERROR")  # its advice on retracing is not meant for many small networks
logging.getLogger("absl").setLevel(logging.ERROR)  # HDF5 is old, and many tools still read it

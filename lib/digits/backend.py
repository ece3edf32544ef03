"""TensorFlow and its Keras, imported once and quietly. Importing this costs seconds and hundreds of megabytes."""

import os

from digits.quiet import quiet_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is really wrong arrives as a Python exception
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with quiet_stderr():
    import keras
    import tensorflow as tf

    tf.config.get_visible_devices()  # the look for a graphics card is the last loud part
tf.get_logger().setLevel("ERROR")  # many networks in one kernel: its advice on retracing is not meant for that

__all__ = ["keras", "tf"]

"""MNIST and its stand-in, pen digits, augmentation, drawings that are no digits. No TensorFlow."""

"""Networks, fitting, compression, search and ablation, in Keras and TensorFlow."""

"""Ink, photographs and the LiteRT model: from what somebody drew to an answer. No TensorFlow."""

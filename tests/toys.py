"""Small images that a network learns in seconds, and how it learns them: for tests that need a trained one."""

import numpy as np

from digits.training import fit as training
from digits.training import keras, networks


def bars(n: int, soft: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """``n`` images of bars at ten heights on noise, (n, 28, 28, 1), and one-hot labels (n, 10).

    ``soft``: the bars are noisy, too, and overlap their neighbours' places.
    """
    labels = np.arange(n) % 10
    images = 0.2 * np.random.default_rng(0).random((n, 28, 28, 1), np.float32)
    for i, label in enumerate(labels):
        if soft:
            images[i, 2 * label : 2 * label + 4, 4:24] += 0.8
        else:
            images[i, 2 + 2 * label : 5 + 2 * label, 4:24] = 1
    return images, np.eye(10, dtype=np.float32)[labels]


def config(epochs: int = 1, **changes) -> training.TrainingConfig:
    """For 200 of them."""
    return training.TrainingConfig(
        **{"epochs": epochs, "batch_size": 20, "learning_rate": 3e-3, "seed": 1} | changes
    )


def new_model(name: str = "compact", seed: int = 1, **options) -> keras.Model:
    """An untrained network, the same each time."""
    training.set_seed(seed)
    return networks.build(name, **options)


def keras_logits(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """The network's logits (n, 10) for all of ``x`` at once."""
    return networks.logits_model(model).predict(x, batch_size=len(x), verbose=0)


def same_weights(one: keras.Model, other: keras.Model) -> bool:
    """To the bit."""
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)

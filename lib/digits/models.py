"""Name to Keras model. Each network is a list that reads from top to bottom."""

import json
import zipfile
from pathlib import Path

import pandas as pd

from digits.backend import keras

layers = keras.layers
INPUT_SHAPE, CLASSES = (28, 28, 1), 10


def _block(filters: int, size: int = 3, strides: int = 1) -> list:
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015), ReLU."""
    return [layers.Conv2D(filters, size, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9), layers.Activation("relu")]


def _compact(width: int = 40, dropout: float = 0.2) -> list:
    """Ours: five batch-normalised convolutions; an early stride keeps the arithmetic where it pays."""
    return [
        *_block(width, 5, strides=2),  # 28 -> 14: strokes; 5 x 5 sees a whole stroke's width
        *_block(width),
        *_block(2 * width, strides=2),  # 14 -> 7: corners, ends, crossings
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(2, padding="same"),  # 7 -> 4: where in the digit it stands still matters
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


def _keras_example(dropout: float = 0.5) -> list:
    """The baseline: keras.io/examples/vision/mnist_convnet, by François Chollet."""
    return [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


def _lenet5(dropout: float = 0.0) -> list:
    """LeNet-5 after LeCun et al. (1998), "Gradient-based learning applied to document recognition", section II.B.

    With the usual simplifications: full connections between maps and a softmax output.
    """
    return [
        layers.Conv2D(6, 5, padding="same", activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(120, 5, activation="tanh"),
        layers.Flatten(),
        layers.Dense(84, activation="tanh"),
        layers.Dropout(dropout),
    ]


def _vgg(width: int = 32, dropout: float = 0.3) -> list:
    """Pairs of 3 x 3 convolutions and pooling, after Simonyan and Zisserman (2015), at MNIST's size."""
    return [
        *_block(width), *_block(width), layers.MaxPooling2D(2),
        *_block(2 * width), *_block(2 * width), layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(dropout),
    ]


_BODIES = {"compact": _compact, "keras_example": _keras_example, "lenet5": _lenet5, "vgg": _vgg}
NAMES = tuple(_BODIES)


def build(name: str, **options) -> keras.Model:
    """A new, untrained network from images (n, 28, 28, 1) in [0, 1] to probabilities (n, 10).

    name: one of ``NAMES``; options: what that network takes (``width``, ``dropout``). ValueError for another name.
    The last two layers are always ``logits`` and ``probabilities``.
    """
    if name not in _BODIES:
        raise ValueError(f"No model is called {name!r}. Choose one of: {', '.join(NAMES)}.")
    head = [layers.Dense(CLASSES, name="logits"), layers.Activation("softmax", name="probabilities")]
    body = _named(_BODIES[name](**options))
    return keras.Sequential([keras.Input(INPUT_SHAPE, name="image"), *body, *head], name=name)


_SHORT = {"Conv2D": "convolution", "BatchNormalization": "norm", "Activation": "relu", "MaxPooling2D": "pooling",
          "AveragePooling2D": "pooling", "Flatten": "flatten", "Dropout": "dropout", "Dense": "dense"}


def _named(body: list) -> list:
    """Number the layers of each kind from 1: Keras counts through a whole session, which would differ between runs."""
    counts: dict[str, int] = {}
    for layer in body:
        kind = _SHORT.get(type(layer).__name__, type(layer).__name__.lower())
        counts[kind] = counts.get(kind, 0) + 1
        layer.name = f"{kind}_{counts[kind]}"
    return body


def save(model: keras.Model, path: Path) -> None:
    """Save ``model`` as ``.keras``, the same bytes for the same weights: without the times that Keras writes into it."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(content["metadata.json"])
    metadata.pop("date_saved", None)
    content["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # its date is the first of 1980


def load(path: Path) -> keras.Model:
    """A saved network, ``.keras`` or ``.h5``, ready to predict."""
    return keras.models.load_model(path, compile=False)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network, sharing its weights, up to the numbers before the softmax: what calibration works on."""
    return keras.Model(model.inputs, model.get_layer("logits").output, name=f"{model.name}_logits")


def _multiplies(layer: keras.Layer) -> int:
    """Multiplications of one layer for one image, from its kernel and output shapes."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1]) * _cells(layer)
    if isinstance(layer, layers.Conv2D):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1] * layer.kernel.shape[2]) * _cells(layer)
    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1])
    return 0


def _cells(layer: keras.Layer) -> int:
    """Numbers in one image's output."""
    total = 1
    for side in layer.output.shape[1:]:
        total *= side
    return total


def count_multiplies(model: keras.Model) -> int:
    """Multiply-accumulate operations for one image. Batch normalisation folds into the convolution before it."""
    return sum(_multiplies(layer) for layer in model.layers)


def layer_table(model: keras.Model) -> pd.DataFrame:
    """One row a layer: name, kind, output shape, parameters, multiplies for one image."""
    return pd.DataFrame([{
        "layer": layer.name, "kind": type(layer).__name__, "output": " × ".join(map(str, layer.output.shape[1:])),
        "parameters": layer.count_params(), "multiplies": _multiplies(layer),
    } for layer in model.layers if not isinstance(layer, layers.InputLayer)])

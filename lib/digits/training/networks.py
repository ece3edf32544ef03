"""Name to Keras model. Each network is a list that reads from top to bottom."""

import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from digits.training import keras

layers = keras.layers
INPUT_SHAPE, CLASSES = (28, 28, 1), 10


# --- The networks ---------------------------------------------------------------------------------


def _block(filters: int, size: int = 3, strides: int = 1) -> list:
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015), ReLU."""
    return [
        layers.Conv2D(filters, size, strides, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
    ]


def _compact(width: int = 40, dropout: float = 0.2) -> list:
    """Ours: five normalised convolutions; an early stride keeps the arithmetic where it pays."""
    return [
        *_block(width, 5, strides=2),  # 28 -> 14: strokes; 5 x 5 sees a whole stroke's width
        *_block(width),
        *_block(2 * width, strides=2),  # 14 -> 7: corners, ends, crossings
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(2, padding="same"),  # 7 -> 4: where in the digit still matters
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


def _lenet5() -> list:
    """LeNet-5 (LeCun et al. 1998, section II.B), with plain pooling and a softmax at its end."""
    return [
        layers.ZeroPadding2D(2),  # to 32 x 32: strokes at the edge come to the middle of a window
        layers.Conv2D(6, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(120, 5, activation="tanh"),
        layers.Flatten(),
        layers.Dense(84, activation="tanh"),
    ]


def _vgg(width: int = 32, dropout: float = 0.3) -> list:
    """Pairs of 3 x 3 convolutions and pooling, after Simonyan and Zisserman (2015)."""
    return [
        *_block(width),
        *_block(width),
        layers.MaxPooling2D(2),
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(dropout),
    ]


def _micro(width: int = 5, dropout: float = 0.0) -> list:
    """As few weights as possible: narrow maps, each weight used at many places."""
    return [
        *_block(width),
        *_block(width),
        layers.MaxPooling2D(2),  # 28 -> 14
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(2),  # 14 -> 7
        *_block(2 * width),
        layers.DepthwiseConv2D(7, use_bias=False),  # a weight for every place of a map
        layers.BatchNormalization(momentum=0.9),
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


# In the order of the tables.
_BODIES: dict[str, Callable[..., list]] = {
    "compact": _compact,
    "compact_small": partial(_compact, 20),
    "keras_example": _keras_example,
    "lenet5": _lenet5,
    "vgg": _vgg,
    "micro": _micro,
}
NAMES = tuple(_BODIES)
_LAYER_NAMES = {
    "Conv2D": "convolution",
    "DepthwiseConv2D": "depthwise",
    "BatchNormalization": "norm",
    "Activation": "relu",
    "MaxPooling2D": "pooling",
    "AveragePooling2D": "pooling",
    "ZeroPadding2D": "padding",
}


def build(name: str, **options: Any) -> keras.Model:
    """A new, untrained network from images (n, 28, 28, 1) in [0, 1] to probabilities (n, 10).

    name: one of ``NAMES``, else ValueError; options: what that network takes (``width``,
    ``dropout``). The last two layers are always ``logits`` and ``probabilities``.
    """
    if name not in _BODIES:
        raise ValueError(f"No model is called {name!r}. Choose one of: {', '.join(NAMES)}.")
    body = [*_BODIES[name](**options), layers.Dense(CLASSES)]
    counts: Counter = Counter()  # Keras counts through a whole session: other names in every run
    for layer in body:
        kind = _LAYER_NAMES.get(type(layer).__name__, type(layer).__name__.lower())
        counts[kind] += 1
        layer.name = f"{kind}_{counts[kind]}"
    body[-1].name = "logits"
    body.append(layers.Activation("softmax", name="probabilities"))
    return keras.Sequential([keras.Input(INPUT_SHAPE, name="image"), *body], name=name)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network, sharing its weights, up to the logits, on which calibration works."""
    return keras.Model(model.inputs, model.get_layer("logits").output, name=f"{model.name}_logits")


# --- Files ----------------------------------------------------------------------------------------


def save(model: keras.Model, path: Path) -> None:
    """Save ``model`` as ``.keras``, the same bytes for the same weights in any process.

    Keras writes the time into it, which is left out, and for objects that layers share their
    addresses in memory, which become 1, 2, 3.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(content["metadata.json"])
    metadata.pop("date_saved", None)
    content["metadata.json"] = json.dumps(metadata).encode()
    numbers: dict[bytes, bytes] = {}
    content["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda found: numbers.setdefault(found[0], b"%d" % (len(numbers) + 1)),
        content["config.json"],
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # its date is the first of 1980


def load(path: Path) -> keras.Model:
    """A saved network, ``.keras`` or ``.h5``, ready to predict."""
    return keras.models.load_model(path, compile=False)


# --- What a network costs -------------------------------------------------------------------------


def _macs(layer: keras.Layer) -> int:
    """Multiply-accumulate operations of one layer for one image.

    Windows that hang over the edge count in full, as published counts do.
    """
    if isinstance(layer, layers.DepthwiseConv2D):
        window = layer.kernel.shape[:2]
    elif isinstance(layer, layers.Conv2D | layers.Dense):
        window = layer.kernel.shape[:-1]
    else:
        return 0
    return math.prod(window) * math.prod(layer.output.shape[1:])


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulate operations for one image; batch normalisation folds into convolutions."""
    return sum(_macs(layer) for layer in model.layers)


def size(model: keras.Model) -> dict:
    """``parameters`` (all that is stored) and ``macs`` (for one image)."""
    return {"parameters": model.count_params(), "macs": count_macs(model)}


def layer_table(model: keras.Model) -> pd.DataFrame:
    """One row a layer: name, kind, output shape, parameters, multiply-accumulates for one image."""
    rows = [
        {
            "layer": layer.name,
            "kind": type(layer).__name__,
            "output": " × ".join(map(str, layer.output.shape[1:])),
            "parameters": layer.count_params(),
            "macs": _macs(layer),
        }
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer)
    ]
    return pd.DataFrame(rows)

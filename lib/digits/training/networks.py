"""Name to Keras model. Each network is a list that reads from top to bottom."""

import json
import logging
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from digits.training import lenet
from digits.training.backend import keras

layers = keras.layers
INPUT_SHAPE, CLASSES = (28, 28, 1), 10


def _block(filters: int, size: int = 3, strides: int = 1) -> list:
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015), ReLU."""
    return [
        layers.Conv2D(filters, size, strides, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
    ]


def _compact(width: int = 40, dropout: float = 0.2) -> list:
    """Ours: five batch-normalised convolutions; an early stride keeps the arithmetic where it pays."""
    return [
        *_block(width, 5, strides=2),  # 28 -> 14: strokes; 5 x 5 sees a whole stroke's width
        *_block(width),
        *_block(2 * width, strides=2),  # 14 -> 7: corners, ends, crossings
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(
            2, padding="same"
        ),  # 7 -> 4: where in the digit it stands still matters
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
    """LeNet-5 as published in LeCun et al. (1998), section II.B: 60,000 trainable weights, and the codes of its output.

    Different here: random codes instead of hand-drawn ones (see ``lenet.RadialBasis``), and how it is trained.
    """
    return [
        layers.ZeroPadding2D(
            2
        ),  # to 32 x 32: strokes at the edge come to the middle of a window, too
        layers.Rescaling(1.275, -0.1),  # paper -0.1, ink 1.175: on average nearly zero
        layers.Conv2D(6, 5, kernel_initializer=lenet.initial(25)),
        layers.Activation(lenet.squash),
        lenet.Subsampling(),
        layers.Activation(lenet.squash),
        lenet.TableConvolution(),
        layers.Activation(lenet.squash),
        lenet.Subsampling(),
        layers.Activation(lenet.squash),
        layers.Conv2D(120, 5, kernel_initializer=lenet.initial(400)),
        layers.Activation(lenet.squash),
        layers.Flatten(),
        layers.Dense(lenet.UNITS, kernel_initializer=lenet.initial(120)),
        layers.Activation(lenet.squash),
        lenet.RadialBasis(),
    ]


def _vgg(width: int = 32, dropout: float = 0.3) -> list:
    """Pairs of 3 x 3 convolutions and pooling, after Simonyan and Zisserman (2015), at MNIST's size."""
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


@dataclass(frozen=True)
class Residual:
    """Not a layer but a fork: what goes through ``branch`` is added to what goes through ``shortcut``, then ReLU."""

    branch: list
    shortcut: list  # empty: as it is


def _residual(width: int = 16, dropout: float = 0.2) -> list:
    """Two residual blocks a size, after He et al. (2016), figure 3 and option B, at MNIST's size."""

    def block(filters: int, strides: int) -> Residual:
        branch = [
            *_block(filters, strides=strides),
            *_block(filters)[:2],
        ]  # the last ReLU comes after the sum
        return Residual(branch, _block(filters, 1, strides)[:2] if strides > 1 else [])

    return [
        *_block(width),
        block(width, 1),
        block(width, 1),
        block(2 * width, 2),
        block(2 * width, 1),
        block(4 * width, 2),
        block(4 * width, 1),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(dropout),
    ]


def _separable(width: int = 24, dropout: float = 0.2) -> list:
    """Depthwise-separable convolutions, after Howard et al. (2017), "MobileNets", table 1, at MNIST's size."""

    def pair(filters: int, strides: int = 1) -> list:
        return [
            layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"),
            *_block(filters, 1),
        ]

    return [
        *_block(width, 3),
        *pair(2 * width, 2),
        *pair(2 * width),  # 14 x 14
        *pair(4 * width, 2),
        *pair(4 * width),
        *pair(4 * width),  # 7 x 7
        layers.GlobalAveragePooling2D(),
        layers.Dropout(dropout),
    ]


def _tiny(width: int = 8, dropout: float = 0.0) -> list:
    """As few weights as possible: narrow maps, each weight used at many places; it is short of room, not of data."""
    return [
        *_block(width),
        *_block(width),
        layers.MaxPooling2D(2),  # 28 -> 14
        *_block(2 * width),
        *_block(2 * width),
        layers.MaxPooling2D(2),  # 14 -> 7
        *_block(2 * width),
        layers.DepthwiseConv2D(7, use_bias=False),
        layers.BatchNormalization(momentum=0.9),  # a place's weight, a map
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


# In the order of the tables: three sizes of ours, the others, the two that count weights.
_BODIES: dict[str, Callable[..., list]] = {
    "compact": _compact,
    "compact_small": partial(_compact, 20),
    "compact_large": partial(_compact, 64),
    "keras_example": _keras_example,
    "lenet5": _lenet5,
    "vgg": _vgg,
    "residual": _residual,
    "separable": _separable,
    "tiny": _tiny,
    "micro": partial(_tiny, 5),
}
NAMES = tuple(_BODIES)


def build(name: str, **options: Any) -> keras.Model:
    """A new, untrained network from images (n, 28, 28, 1) in [0, 1] to probabilities (n, 10).

    name: one of ``NAMES``; options: what that network takes (``width``, ``dropout``). ValueError for another name.
    The last two layers are always ``logits`` and ``probabilities``.
    """
    if name not in _BODIES:
        raise ValueError(f"No model is called {name!r}. Choose one of: {', '.join(NAMES)}.")
    body = _BODIES[name](**options)
    if not isinstance(body[-1], lenet.RadialBasis):  # which gives logits itself
        body.append(layers.Dense(CLASSES))
    _name(body)
    body[-1].name = "logits"
    body.append(layers.Activation("softmax", name="probabilities"))
    image = keras.Input(INPUT_SHAPE, name="image")
    if any(isinstance(item, Residual) for item in body):
        return keras.Model(image, _connect(body, image), name=name)
    return keras.Sequential([image, *body], name=name)


def _connect(body: list, x):
    """Feed ``x`` through a list of layers and forks."""
    for item in body:
        if isinstance(item, Residual):
            x = layers.Activation("relu")(
                layers.Add()([_connect(item.branch, x), _connect(item.shortcut, x)])
            )
        else:
            x = item(x)
    return x


_SHORT = {
    "Conv2D": "convolution",
    "DepthwiseConv2D": "depthwise",
    "BatchNormalization": "norm",
    "Activation": "relu",
    "MaxPooling2D": "pooling",
    "AveragePooling2D": "pooling",
    "GlobalAveragePooling2D": "pooling",
    "TableConvolution": "table_convolution",
    "ZeroPadding2D": "padding",
}


def _name(body: list, counts: dict | None = None) -> None:
    """Number the layers of each kind from 1: Keras counts through a whole session, which would differ between runs."""
    counts = {} if counts is None else counts
    for item in body:
        if isinstance(item, Residual):
            _name(item.branch, counts)
            _name(item.shortcut, counts)
            continue
        kind = _SHORT.get(type(item).__name__, type(item).__name__.lower())
        kind = "squash" if getattr(item, "activation", None) is lenet.squash else kind
        counts[kind] = counts.get(kind, 0) + 1
        item.name = f"{kind}_{counts[kind]}"


def save(model: keras.Model, path: Path) -> None:
    """Save ``model`` as ``.keras``, the same bytes for the same weights in any process.

    Keras writes the time into it, which is left out, and for objects that layers share their addresses in memory, which
    become 1, 2, 3.
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


def save_hdf5(model: keras.Model, path: Path) -> None:
    """Save ``model`` in the older HDF5, which many tools still read, without Keras's warning that it is older."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        model.save(path)
    finally:
        log.setLevel(level)


def load(path: Path) -> keras.Model:
    """A saved network, ``.keras`` or ``.h5``, ready to predict."""
    return keras.models.load_model(path, compile=False)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network, sharing its weights, up to the numbers before the softmax: what calibration works on."""
    return keras.Model(model.inputs, model.get_layer("logits").output, name=f"{model.name}_logits")


def _multiplies(layer: keras.Layer) -> int:
    """Multiplications by weights in one layer for one image, from its kernel and output shapes.

    Windows that hang over the edge count in full, as published counts do.
    """
    if isinstance(layer, layers.DepthwiseConv2D):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1]) * _cells(layer)
    if isinstance(layer, layers.Conv2D):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1] * layer.kernel.shape[2]) * _cells(
            layer
        )
    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1])
    if isinstance(layer, lenet.TableConvolution):
        return 5 * 5 * 6 * _cells(layer)
    if isinstance(layer, lenet.RadialBasis):
        return int(layer.codes.shape[0] * layer.codes.shape[1])
    return _cells(layer) if isinstance(layer, lenet.Subsampling) else 0


def _cells(layer: keras.Layer) -> int:
    """Numbers in one image's output."""
    total = 1
    for side in layer.output.shape[1:]:
        total *= side
    return total


def count_multiplies(model: keras.Model) -> int:
    """Multiply-accumulate operations for one image. Batch normalisation folds into the convolution before it."""
    return sum(_multiplies(layer) for layer in model.layers)


def size(model: keras.Model) -> dict:
    """``parameters`` (all that is stored) and ``multiplies`` (for one image)."""
    return {"parameters": model.count_params(), "multiplies": count_multiplies(model)}


def layer_table(model: keras.Model) -> pd.DataFrame:
    """One row a layer: name, kind, output shape, parameters, multiplies for one image."""
    return pd.DataFrame(
        [
            {
                "layer": layer.name,
                "kind": type(layer).__name__,
                "output": " × ".join(map(str, layer.output.shape[1:])),
                "parameters": layer.count_params(),
                "multiplies": _multiplies(layer),
            }
            for layer in model.layers
            if not isinstance(layer, layers.InputLayer)
        ]
    )

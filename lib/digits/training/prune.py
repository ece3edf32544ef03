"""Fewer weights in a trained network: single ones set to zero, or whole channels taken out."""

from typing import Any

import numpy as np
import pandas as pd

from digits.data.augmentation import Augmentation
from digits.training import fit as training
from digits.training.backend import keras, tf

layers = keras.layers

# --- Single weights: smaller when compressed --------------------------------------------------------------------------


def prunable(model: keras.Model) -> list[keras.Layer]:
    """The layers whose kernels pruning may thin out: convolutions and dense layers, the logits too. No biases."""
    return [
        layer
        for layer in model.layers
        if isinstance(getattr(layer, "kernel", None), keras.Variable)
    ]


def sparsity_table(model: keras.Model) -> pd.DataFrame:
    """One row a prunable layer: ``layer``, ``weights`` in its kernel, ``zeros`` among them, ``sparsity`` (a share)."""
    rows = [
        (layer.name, kernel.size, int((kernel == 0).sum()))
        for layer in prunable(model)
        for kernel in [layer.kernel.numpy()]
    ]
    table = pd.DataFrame(rows, columns=["layer", "weights", "zeros"])
    return table.assign(sparsity=table["zeros"] / table["weights"])


def kernel_weights(model: keras.Model) -> np.ndarray:
    """Every weight that pruning may remove, in one flat array (n,)."""
    return np.concatenate([layer.kernel.numpy().ravel() for layer in prunable(model)])


def scheduled_sparsity(step: int, steps: int, final: float) -> float:
    """The share of weights that are zero after ``step`` of ``steps`` (Zhu and Gupta 2017, equation 1, from 0).

    Steep at first, when there is much to spare, and flat towards ``final``.
    """
    left = 1 - min(max(step / steps, 0.0), 1.0) if steps else 0.0
    return final * (1 - left**3)


class Prune(keras.callbacks.Callback):
    """Magnitude pruning while ``fit`` trains: the smallest weights of all kernels become zero and stay zero.

    One threshold for the whole network, so that each layer keeps what it needs (Han et al. 2015; global ranking as in
    Blalock et al. 2020). Exactly ``round(sparsity * n)`` of the n kernel weights are pruned once ``steps`` batches have
    passed, and in any case when training ends. ``steps`` should be no more than one epoch has: then every epoch's
    weights are fully pruned, and whichever of them EarlyStopping restores fits the masks.

    sparsity: share in [0, 1); steps: batches from the first to the last pruning; every: batches between two of them.
    ValueError for values outside.
    """

    def __init__(self, sparsity: float, steps: int, every: int = 10):
        super().__init__()
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is a share from 0 up to but not 1, not {sparsity!r}")
        if steps < 0 or every < 1:
            raise ValueError(
                f"steps must be at least 0 and every at least 1, not {steps!r} and {every!r}"
            )
        self.sparsity, self.steps, self.every = sparsity, steps, every
        self.step = 0
        self.keep: np.ndarray | None = (
            None  # (n,) of booleans over the weights of all kernels, in order
        )

    def on_train_begin(self, logs=None):
        """Take up the model; a second ``fit`` with the same callback goes on where the first one stopped."""
        if self.keep is None:
            self.keep = np.ones(len(kernel_weights(self.model)), bool)
        self._prune_to(0.0)

    def on_train_batch_end(self, batch, logs=None):
        """Prune when the schedule says so; put back to zero what the optimizer moved."""
        self.step += 1
        if self.step <= self.steps and (self.step % self.every == 0 or self.step == self.steps):
            self._prune_to(scheduled_sparsity(self.step, self.steps, self.sparsity))
        self._zero()

    def on_train_end(self, logs=None):
        """Reach the final sparsity even when training was shorter than the schedule or older weights were restored."""
        self._prune_to(self.sparsity)
        self._zero()

    def _prune_to(self, sparsity: float) -> None:
        """Remove the smallest weights until ``round(sparsity * n)`` are gone; what is gone never comes back."""
        target = round(sparsity * len(self.keep))
        if target > (~self.keep).sum():
            rank = np.where(
                self.keep, np.abs(kernel_weights(self.model)), -1.0
            )  # the pruned ones first
            self.keep[np.argsort(rank, kind="stable")[:target]] = False
        kernels = [layer.kernel for layer in prunable(self.model)]
        parts = np.split(self.keep, np.cumsum([np.prod(kernel.shape) for kernel in kernels])[:-1])
        self.masks = [
            (kernel, tf.constant(part.reshape(kernel.shape), kernel.dtype))
            for kernel, part in zip(kernels, parts, strict=True)
        ]

    def _zero(self) -> None:
        for kernel, mask in self.masks:
            kernel.assign(kernel * mask)


def prune(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: training.TrainingConfig,
    sparsity: float,
    augmentation: Augmentation | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Prune a trained ``model`` in place to ``sparsity`` while it goes on learning; return its history as ``fit`` does.

    The first epoch prunes, the others recover: ``config.epochs`` should be at least 2. options: of ``training.fit``;
    without ``non_digits`` the network forgets how to refuse.
    """
    steps = len(x) // config.batch_size
    callback = Prune(sparsity, steps=max(steps * 3 // 4, 1))
    return training.fit(
        model, x, y, validation_data, config, augmentation, callbacks=[callback], **options
    )


# --- Whole channels: faster -------------------------------------------------------------------------------------------


def channel_strength(convolution: keras.Layer, norm: keras.Layer | None = None) -> np.ndarray:
    """How much each output channel (c,) can say: the sum of its weights' sizes (Li et al. 2017), times what the batch
    normalisation behind it makes of them."""
    strength = np.abs(convolution.kernel.numpy()).sum((0, 1, 2))
    if norm is None:
        return strength
    return (
        strength * np.abs(norm.gamma.numpy()) / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    )


def shrink(model: keras.Model, share: float, multiple: int = 4) -> keras.Model:
    """A new, smaller network that keeps the strongest ``share`` of the channels of every convolution, with their weights.

    The numbers of channels are rounded to a ``multiple``, at least one: processors compute four or eight at a time. It
    has to learn on before it is of use. Works on a plain chain of layers (a ``Sequential`` of convolutions, batch
    normalisations, pooling, dense layers); dense layers keep their outputs. ValueError for another network or share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is above 0 and at most 1, not {share!r}")
    if not isinstance(model, keras.Sequential):
        raise ValueError(
            f"{model.name} is no plain chain of layers: where its paths join, channels cannot go one by one."
        )
    kept, new, weights = np.arange(model.input_shape[-1]), [], []
    for layer, following in zip(model.layers, [*model.layers[1:], None], strict=True):
        kept, changes, values = _cut(layer, following, kept, share, multiple)
        new.append(type(layer).from_config(layer.get_config() | changes))
        weights += values
    smaller = keras.Sequential(
        [keras.Input(model.input_shape[1:], name="image"), *new], name=model.name
    )
    smaller.set_weights(weights)
    return smaller


def _cut(
    layer: keras.Layer, following: keras.Layer | None, kept: np.ndarray, share: float, multiple: int
) -> tuple[np.ndarray, dict, list[np.ndarray]]:
    """One layer whose input keeps the channels ``kept``: its own channels that are kept, what of its configuration
    changes, its weights."""
    values = layer.get_weights()
    if isinstance(layer, layers.DepthwiseConv2D):
        return kept, {}, [values[0][:, :, kept], *(value[kept] for value in values[1:])]
    if isinstance(layer, layers.Conv2D):
        count = min(max(round(share * layer.filters / multiple), 1) * multiple, layer.filters)
        norm = following if isinstance(following, layers.BatchNormalization) else None
        best = np.sort(np.argsort(-channel_strength(layer, norm), kind="stable")[:count])
        return (
            best,
            {"filters": count},
            [values[0][:, :, kept][..., best], *(value[best] for value in values[1:])],
        )
    if isinstance(layer, layers.BatchNormalization):
        return kept, {}, [value[kept] for value in values]
    if isinstance(layer, layers.Flatten):
        channels = layer.input.shape[-1]
        places = int(np.prod(layer.input.shape[1:-1]))
        return (channels * np.arange(places)[:, None] + kept).ravel(), {}, []
    if isinstance(layer, layers.Dense):
        return np.arange(layer.units), {}, [values[0][kept], *values[1:]]
    if values or isinstance(layer, layers.Reshape):
        raise ValueError(f"{layer.name}: a {type(layer).__name__} cannot be made narrower here.")
    return kept, {}, []

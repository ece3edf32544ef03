"""Eight bits in place of thirty-two: what each layer loses, and a network that learns with the loss in view."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from digits.data.augmentation import Augmentation
from digits.recognizer.model import quiet_stderr
from digits.training import fit as training
from digits.training.backend import keras, tf

layers = keras.layers
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


# --- What breaks, layer by layer --------------------------------------------------------------------------------------


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    """The signal-to-noise ratio of ``other`` as a copy of ``signal``, any equal shapes: 20 dB is a tenth of the size."""
    noise = float(np.square(np.subtract(signal, other, dtype=np.float64)).sum())
    power = float(np.square(signal, dtype=np.float64).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(max(power, 1e-300) / noise))


def layer_errors(exact: Path, rounded: Path, images: np.ndarray) -> pd.DataFrame:
    """How far the activations of an int8 file are from those of the float32 file of the same network.

    images (n, 28, 28, 1). One row a layer in order: ``layer``, ``operation``, ``decibels`` (signal to noise, all that
    came before included), ``step`` (between two int8 values) and ``clipped`` (share of values at the end of the range).
    ValueError when the two files are not the same network.
    """
    one, other = _Inside(exact), _Inside(rounded)
    if [kind for kind, _ in one.outputs] != [kind for kind, _ in other.outputs]:
        raise ValueError(
            f"{Path(exact).name} and {Path(rounded).name} do not have the same layers."
        )
    traces = [(one.trace(image), other.trace(image)) for image in images]
    rows = []
    for i, (kind, tensor) in enumerate(other.outputs):
        signal, codes = (np.stack([trace[side][i] for trace in traces]) for side in (0, 1))
        scale, zero = tensor["quantization"]
        whole = codes.dtype == np.int8
        rows.append(
            {
                "layer": _layer_name(tensor["name"]),
                "operation": kind.lower(),
                "step": scale,
                "decibels": decibels(
                    signal, scale * (codes.astype(np.float64) - zero) if whole else codes
                ),
                "clipped": float((codes == 127).mean()) if whole else 0.0,
            }
        )
    return pd.DataFrame(rows)


class _Inside:
    """A LiteRT file whose tensors can be looked at."""

    def __init__(self, path: Path):
        with (
            warnings.catch_warnings(action="ignore"),
            quiet_stderr(),
        ):  # it says that this is for debugging: it is
            self.interpreter = Interpreter(
                model_path=str(path),
                experimental_preserve_all_tensors=True,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self.interpreter.allocate_tensors()
        tensors = {tensor["index"]: tensor for tensor in self.interpreter.get_tensor_details()}
        self.outputs = [
            (op["op_name"], tensors[int(op["outputs"][0])])
            for op in self.interpreter._get_ops_details()
            if op["op_name"] not in _CONVERSIONS
        ]

    def trace(self, image: np.ndarray) -> list[np.ndarray]:
        """The output of every operation for one image."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], image[None])
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(tensor["index"]).copy() for _, tensor in self.outputs]


def _layer_name(tensor: str) -> str:
    """'relu_1' from 'digits_1/compact_logits_1/relu_1_1/Relu;digits_1/...'; the last tensor is called by its signature."""
    parts = tensor.split(";")[0].split("/")
    return parts[-2].rsplit("_", 1)[0] if len(parts) > 2 else "logits"


def weight_errors(model: keras.Model) -> pd.DataFrame:
    """Rounding of each kernel to int8, with a scale for every output channel and with one for the whole kernel.

    Batch normalisation is folded in first, as the converter does: it makes some channels many times larger than others.
    One row a kernel: ``layer``, ``spread`` (largest over smallest channel), ``per_channel`` and ``per_tensor`` (dB).
    """
    rows = []
    for layer, following in zip(model.layers, [*model.layers[1:], None], strict=True):
        if not isinstance(getattr(layer, "kernel", None), keras.Variable):
            continue
        kernel = layer.kernel.numpy()
        if isinstance(layer, layers.DepthwiseConv2D):
            kernel = kernel[..., 0]  # each channel has one window
        if isinstance(following, layers.BatchNormalization):
            kernel = (
                kernel
                * following.gamma.numpy()
                / np.sqrt(following.moving_variance.numpy() + following.epsilon)
            )
        peaks = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
        alive = peaks[peaks > 0]
        rows.append(
            {
                "layer": layer.name,
                "spread": float(alive.max() / alive.min()) if len(alive) else 1.0,
                "per_channel": decibels(kernel, _nearest(kernel, peaks / 127)),
                "per_tensor": decibels(
                    kernel, _nearest(kernel, np.full_like(peaks, peaks.max() / 127))
                ),
            }
        )
    return pd.DataFrame(rows)


def _nearest(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """``values`` rounded to multiples of ``step`` (one for each last index)."""
    step = np.where(step > 0, step, 1)
    return np.round(values / step) * step


# --- Learning with the loss in view -----------------------------------------------------------------------------------


def _straight(values: tf.Tensor, rounded: tf.Tensor) -> tf.Tensor:
    """``rounded`` on the way forward, ``values`` on the way back (Bengio et al. 2013): rounding has no slope to follow."""
    return values + tf.stop_gradient(rounded - values)


def round_weights(kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """A kernel as int8 can hold it: 255 steps about zero, their size its own for each channel (all but ``axes``)."""
    step = tf.maximum(tf.reduce_max(tf.abs(kernel), axes, keepdims=True) / 127, 1e-12)
    return _straight(kernel, tf.round(kernel / step) * step)


def round_activations(values: tf.Tensor) -> tf.Tensor:
    """Activations as int8 can hold them: 256 steps from the least (at most zero) to the greatest of the batch."""
    low = tf.minimum(tf.reduce_min(values), 0.0)
    step = tf.maximum((tf.reduce_max(values) - low) / 255, 1e-12)
    return _straight(values, tf.round((values - low) / step) * step + low)


@keras.saving.register_keras_serializable("digits")
class RoundedConv2D(keras.layers.Conv2D):
    """A convolution as int8 computes it. Batch normalisation behind it scales channels, each of which has its own step."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """As the parent's, with the kernel rounded."""
        return super().convolution_op(inputs, round_weights(kernel, (0, 1, 2)))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Rounded where an activation of its own ends it, else by the layer behind it."""
        outputs = super().call(inputs)
        return (
            outputs if self.activation is keras.activations.linear else round_activations(outputs)
        )


@keras.saving.register_keras_serializable("digits")
class RoundedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution as int8 computes it."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """As the parent's, with the kernel rounded."""
        outputs = tf.nn.depthwise_conv2d(
            inputs,
            round_weights(self.kernel, (0, 1, 3)),
            (1, *self.strides, 1),
            self.padding.upper(),
        )
        return outputs + self.bias if self.use_bias else outputs


@keras.saving.register_keras_serializable("digits")
class RoundedDense(keras.layers.Dense):
    """A dense layer as int8 computes it, its outputs rounded, too."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(b, n) to (b, units)."""
        outputs = tf.matmul(inputs, round_weights(self.kernel, (0,)))
        return round_activations(self.activation(outputs + self.bias if self.use_bias else outputs))


@keras.saving.register_keras_serializable("digits")
class RoundedActivation(keras.layers.Activation):
    """An activation whose results are rounded."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Any shape."""
        return round_activations(super().call(x))


_ROUNDED = {
    layers.Conv2D: RoundedConv2D,
    layers.DepthwiseConv2D: RoundedDepthwiseConv2D,
    layers.Dense: RoundedDense,
    layers.Activation: RoundedActivation,
}


def rounded(model: keras.Model) -> keras.Model:
    """A copy of ``model``, with weights of its own, that computes as its int8 file will; the softmax stays as it is."""

    def copy(layer: keras.Layer) -> keras.Layer:
        kind = (
            type(layer) if layer.name == "probabilities" else _ROUNDED.get(type(layer), type(layer))
        )
        return kind.from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


def mend(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    validation_data: tuple[np.ndarray, np.ndarray],
    config: training.TrainingConfig,
    augmentation: Augmentation | None = None,
    **options: Any,
) -> keras.Model:
    """A copy of a trained ``model`` that went on learning with rounded weights and activations (Jacob et al. 2018).

    Arguments and options of ``training.fit``. Export the copy as "int8": its weights now lie where rounding harms
    little. Its validation accuracy while learning is that of the rounded network.
    """
    twin = rounded(model)
    training.fit(twin, x, y, validation_data, config, augmentation, **options)
    mended = keras.models.clone_model(model)
    mended.set_weights(twin.get_weights())
    return mended

"""The network in NumPy alone, for where LiteRT is not: in a browser. Imports nothing of ours: it runs there as it is."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def _padded(x: np.ndarray, size: int, stride: int, value: float) -> np.ndarray:
    """``x`` (n, h, w, c) with the border that TensorFlow calls "same"."""
    border = [(0, 0)]
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        border.append((total // 2, total - total // 2))
    return np.pad(x, [*border, (0, 0)], constant_values=value)


def convolution(x: np.ndarray, stride: int, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """ReLU of a "same" convolution; x (n, h, w, in), kernel (out, k, k, in), bias (out,)."""
    size = kernel.shape[1]
    patches = sliding_window_view(_padded(x, size, stride, 0), (size, size), (1, 2))[
        :, ::stride, ::stride
    ]
    n, height, width = patches.shape[:3]
    flat = patches.transpose(0, 1, 2, 4, 5, 3).reshape(
        n * height * width, -1
    )  # one row a place: k, k, in, as the kernel's
    return np.maximum(flat @ kernel.reshape(len(kernel), -1).T + bias, 0).reshape(
        n, height, width, -1
    )


def pooling(x: np.ndarray, size: int) -> np.ndarray:
    """The greatest of each ``size`` x ``size``; x (n, h, w, c)."""
    x = _padded(x, size, size, -np.inf)
    n, height, width, channels = x.shape
    return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))


def logits(layers: list[tuple], images: np.ndarray) -> np.ndarray:
    """(n, 10) float32 from images (n, 28, 28) in [0, 1].

    layers: ("convolution", stride, kernel, bias), ("pooling", size) and ("dense", weights (out, in), bias), in order.
    """
    x = np.asarray(images, np.float32).reshape(-1, 28, 28, 1)
    for kind, *values in layers:
        if kind == "dense":
            weights, bias = values
            x = x.reshape(len(x), -1) @ weights.T + bias
        else:
            x = {"convolution": convolution, "pooling": pooling}[kind](x, *values)
    return x

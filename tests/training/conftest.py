"""A small network that was trained once, its files, and the images that it knows."""

import pytest

from digits.training import compression
from digits.training import fit as training
from toys import bars, config, new_model


@pytest.fixture(scope="session")
def data():
    """200 noisy bars (200, 28, 28, 1) and their labels (200, 10)."""
    images, labels = bars(200, soft=True)
    return images.clip(0, 1), labels


@pytest.fixture(scope="session")
def model(data):
    """A compact network that knows them."""
    net = new_model(width=16)
    training.fit(net, *data, data, config(5))
    return net


@pytest.fixture(scope="session")
def files(model, data, tmp_path_factory):
    """It as every kind of LiteRT file."""
    folder = tmp_path_factory.mktemp("files")
    return {
        kind: compression.export_litert(model, folder / f"{kind}.tflite", kind, data[0][:50])
        for kind in compression.KINDS
    }

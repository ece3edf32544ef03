"""Shared by the tests of the data: no cache, no given folder, no mirror but those that a test makes."""

import os
from pathlib import Path

import pytest
from server import server  # noqa: F401  a fixture

from digits.data import mnist, pen_digits

REAL = os.environ.get("DIGITS_DATA")  # read now: the fixture below hides it from every test


@pytest.fixture
def real_data(monkeypatch):
    """The folder that DIGITS_DATA named when the tests began, named again."""
    if not REAL or not (Path(REAL) / "mnist.npz").exists():
        pytest.skip("DIGITS_DATA names no folder with MNIST and the pen digits")
    monkeypatch.setenv("DIGITS_DATA", REAL)
    return Path(REAL)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The empty Keras cache."""
    for variable in ("DIGITS_DATA", "DIGITS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(pen_digits, "MIRRORS", ())
    return tmp_path / "keras" / "datasets"


@pytest.fixture
def given(cache, tmp_path, monkeypatch):
    """An empty folder that DIGITS_DATA names."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("DIGITS_DATA", str(folder))
    return folder

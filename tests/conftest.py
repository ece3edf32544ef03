"""Shared by all tests."""

import os

import matplotlib
import pytest

matplotlib.use("Agg")

LONGEST = ["test_quick.py", "test_app.py"]  # begun first, so that the workers end together


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for ``pytest --dist loadfile``."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def mnist():
    """MNIST from ``DIGITS_DATA``; tests that need it are skipped without."""
    _given_or_skip()
    from digits import data

    return data.load("mnist", download=False)


@pytest.fixture(scope="session")
def pen_test():
    """The pen digits of the test writers from ``DIGITS_DATA``."""
    _given_or_skip()
    from digits import data

    return data.load_pen_digits("tes")


def _given_or_skip() -> None:
    if not os.environ.get("DIGITS_DATA"):
        pytest.skip("DIGITS_DATA names no folder with MNIST and the pen digits")

"""Shared by the tests of the page."""

import pytest
from playwright.sync_api import sync_playwright

import browser


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium for a module's tests."""
    with sync_playwright() as playwright:
        opened = browser.launch(playwright)
        yield opened
        opened.close()
